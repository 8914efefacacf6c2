"""Pictures that stand in the table itself: Parquet files, and data sets by their id."""

from __future__ import annotations

import gc
import io
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import datasets
import pyarrow as pa
import pytest
from PIL import Image
from pyarrow import parquet

from edgekit.core.errors import ConfigError, StepError
from edgekit.sources import data_files, data_spool
from edgekit.sources.data import read_samples
from edgekit.sources.data_roles import hash_inputs

LABELS = ("cat", "dog")


def stored(number: int) -> bytes:
    """A small picture's file."""
    stream = io.BytesIO()
    Image.new("RGB", (4, 3), (number % 256, number // 256, 0)).save(stream, "PNG")
    return stream.getvalue()


def table(path: Path, rows: list[dict[str, object]]) -> Path:
    """A Parquet file."""
    parquet.write_table(pa.Table.from_pylist(rows), path)
    return path


@pytest.mark.parametrize("shape", ["struct", "bytes"])
def test_pictures_of_a_parquet_file(shape: str, tmp_path: Path) -> None:
    """As bytes, or beside the name that they had; each is a file while the samples are there."""
    rows: list[dict[str, object]] = [
        {"image": {"bytes": stored(n), "path": f"x/{n}.png"} if shape == "struct" else stored(n),
         "label": LABELS[n % 2]}
        for n in range(5)
    ]  # fmt: skip
    samples = read_samples(str(table(tmp_path / "d.parquet", rows)), "image-classification",
                           labels=LABELS)  # fmt: skip
    assert samples.labels == (0, 1, 0, 1, 0)
    paths = [Path(str(row["image"])) for row in samples.inputs]
    assert [path.read_bytes() for path in paths] == [stored(n) for n in range(5)]
    assert paths[3].name.endswith("-3.png" if shape == "struct" else "-")
    (tmp_path / "same.png").write_bytes(stored(2))
    assert samples.hashes[2] == hash_inputs({"image": tmp_path / "same.png"})
    some = samples.take([0, 1])
    del samples
    gc.collect()
    assert paths[0].is_file()
    del some
    gc.collect()
    assert not paths[0].parent.exists()


def test_names_beside_the_picture_lead_to_files(tmp_path: Path) -> None:
    """Without bytes the path is what counts."""
    (tmp_path / "a.png").write_bytes(stored(1))
    rows: list[dict[str, object]] = [{"image": {"bytes": None, "path": "a.png"}, "label": 0}]
    samples = read_samples(str(table(tmp_path / "d.parquet", rows)), "image-classification")
    assert samples.inputs[0]["image"] == tmp_path / "a.png"


def test_only_what_is_kept_lies_on_the_disk(tmp_path: Path) -> None:
    """Of many rows a few are asked for; copies share a file."""
    rows: list[dict[str, object]] = [
        {"image": {"bytes": stored(n // 2), "path": None}, "label": 0} for n in range(80)
    ]
    samples = read_samples(
        str(table(tmp_path / "d.parquet", rows)), "image-classification", limit=6
    )
    paths = {Path(str(row["image"])) for row in samples.inputs}
    folder = next(iter(paths)).parent
    assert {*folder.iterdir()} == paths
    assert len(samples) == 6


def test_masks_may_be_stored_too(tmp_path: Path) -> None:
    """Both become files."""
    rows: list[dict[str, object]] = [{"image": stored(1), "mask": stored(2)}]
    samples = read_samples(str(table(tmp_path / "d.parquet", rows)), "image-segmentation")
    assert samples.labels is not None
    assert Path(str(samples.labels[0])).read_bytes() == stored(2)


@pytest.mark.parametrize("cell", [{"bytes": b"", "path": None}, None, b""])
def test_cells_without_a_picture(cell: object, tmp_path: Path) -> None:
    """The row is told."""
    rows: list[dict[str, object]] = [{"image": stored(0), "label": 0}, {"image": cell, "label": 0}]
    if isinstance(cell, dict):
        rows[0]["image"] = {"bytes": stored(0), "path": None}
    with pytest.raises(ConfigError, match="row 2: image should be"):
        read_samples(str(table(tmp_path / "d.parquet", rows)), "image-classification")


def test_full_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No bug of edgekit's."""

    def full(self: Path, data: bytes) -> int:
        raise OSError(28, "No space left on device")

    rows: list[dict[str, object]] = [{"image": stored(1), "label": 0}]
    path = table(tmp_path / "d.parquet", rows)
    monkeypatch.setattr(data_spool.Path, "write_bytes", full)
    with pytest.raises(StepError, match="disk is full"):
        read_samples(str(path), "image-classification")


def test_rows_of_pictures_are_read_few_at_a_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A thousand of them would be a gigabyte."""
    rows: list[dict[str, object]] = [{"image": stored(n), "label": 0} for n in range(50)]
    path = table(tmp_path / "d.parquet", rows)
    sizes = []
    real = parquet.ParquetFile.iter_batches

    def noted(self: Any, batch_size: int, **options: Any) -> Any:
        sizes.append(batch_size)
        return real(self, batch_size, **options)

    monkeypatch.setattr(parquet.ParquetFile, "iter_batches", noted)
    monkeypatch.setattr(data_files, "_BATCH_BYTES", 400)
    assert len(read_samples(str(path), "image-classification")) == 50
    assert 1 <= min(sizes) <= max(sizes) < 10


def test_names_that_a_data_set_wrote_beside_its_numbers(tmp_path: Path) -> None:
    """The file's 0 is its own dog, not the model's cat."""
    made = datasets.Dataset.from_dict(
        {"image": [{"bytes": stored(1), "path": None}], "label": [0]},
        features=datasets.Features(
            {"image": datasets.Image(), "label": datasets.ClassLabel(names=["dog", "cat"])}
        ),
    )
    made.to_parquet(str(tmp_path / "d.parquet"))
    samples = read_samples(str(tmp_path / "d.parquet"), "image-classification", labels=LABELS)
    assert samples.labels == (1,)


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A data set of somebody's, read by `datasets` itself from a folder here."""
    for number in range(4):
        path = tmp_path / "hub" / "train" / LABELS[1 - number % 2] / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(stored(number))

    def load(name: str, **options: object) -> object:
        assert name == "someone/pets"
        return datasets.load_dataset("imagefolder", data_dir=str(tmp_path / "hub"), **options)

    shim = SimpleNamespace(load_dataset=load, get_dataset_split_names=lambda name: ["train"])
    monkeypatch.setattr(data_files, "require_datasets", lambda spec: shim)
    return tmp_path / "hub"


def test_data_set_of_pictures_by_its_id(hub: Path) -> None:
    """Its pictures are hashed as they are stored, and its classes go by their names."""
    samples = read_samples("someone/pets", "image-classification", labels=LABELS)
    found = {Path(str(row["image"])).read_bytes(): label
             for row, label in zip(samples.inputs, samples.labels or (), strict=True)}  # fmt: skip
    assert found == {stored(n): 1 - n % 2 for n in range(4)}


def test_folder_with_a_table_of_file_names(tmp_path: Path) -> None:
    """As `datasets` has them: metadata.jsonl beside the pictures."""
    (tmp_path / "train").mkdir()
    for number in range(3):
        (tmp_path / "train" / f"{number}.png").write_bytes(stored(number))
    lines = [f'{{"file_name": "{n}.png", "label": "{LABELS[n % 2]}"}}' for n in range(3)]
    (tmp_path / "train" / "metadata.jsonl").write_text("\n".join(lines))
    for spec in (f"{tmp_path}#train", str(tmp_path / "train")):
        samples = read_samples(spec, "image-classification", labels=LABELS)
        assert samples.labels == (0, 1, 0)
        assert samples.inputs[2]["image"] == tmp_path / "train" / "2.png"
