"""Data files: the formats, and what is wrong with them."""

from __future__ import annotations

import json
import sys
import tracemalloc
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pyarrow as pa
import pyarrow.parquet as parquet
import pytest

from edgekit.core.errors import ConfigError, MissingDependency
from edgekit.sources.data import read_samples
from edgekit.sources.data_files import find_data, open_table

ROWS = [{"text": "a, b", "label": 1}, {"text": 'say "x"\nagain', "label": 0}]


def write(path: Path) -> Path:
    """ROWS in the format of the suffix."""
    if path.suffix == ".parquet":
        parquet.write_table(pa.Table.from_pylist(ROWS), path)
    elif path.suffix in (".jsonl", ".ndjson"):
        path.write_text("\n".join(json.dumps(row) for row in ROWS) + "\n\n")
    elif path.suffix == ".json":
        path.write_text(json.dumps(ROWS))
    else:
        mark = "\t" if path.suffix == ".tsv" else ","
        path.write_text(f'text{mark}label\n"a, b"{mark}1\n"say ""x""\nagain"{mark}0\n')
    return path


@pytest.mark.parametrize("suffix", [".csv", ".tsv", ".jsonl", ".ndjson", ".json", ".parquet"])
def test_every_format_gives_the_same_rows(tmp_path: Path, suffix: str) -> None:
    """Quotes, separators and line ends inside of texts included."""
    path = write(tmp_path / f"d{suffix}")
    table = open_table(str(path), path)
    assert table.columns == ("text", "label")
    found = list(table.rows(["text", "label"]))
    assert [row["text"] for row in found] == [row["text"] for row in ROWS]
    assert [int(str(row["label"])) for row in found] == [1, 0]
    assert list(table.rows(["text"])), "a table can be read again"


def test_semicolons_and_a_byte_order_mark(tmp_path: Path) -> None:
    """As spreadsheets of half the world write it."""
    path = tmp_path / "d.csv"
    path.write_bytes("\ufefftext;label\nÜber, alles;1\n".encode())
    table = open_table(str(path), path)
    assert table.columns == ("text", "label")
    assert next(table.rows([]))["text"] == "Über, alles"


def test_json_may_hold_its_rows_under_data(tmp_path: Path) -> None:
    """``{"data": […]}`` is common."""
    path = tmp_path / "d.json"
    path.write_text(json.dumps({"version": 1, "data": ROWS}))
    assert len(list(open_table(str(path), path).rows([]))) == 2


def test_a_split_picks_a_file_of_a_folder(tmp_path: Path) -> None:
    """``folder#test`` is the one file that is called so."""
    for name in ("train.csv", "test.csv", "README.md"):
        write(tmp_path / name)
    assert find_data(f"{tmp_path}#test") == tmp_path / "test.csv"
    shard = write(tmp_path / "dev-00000-of-00001.parquet")
    assert find_data(f"{tmp_path}#dev") == shard
    with pytest.raises(ConfigError, match="dev, test, train"):
        find_data(str(tmp_path))
    with pytest.raises(ConfigError, match="0 files of the split 'valid'"):
        find_data(f"{tmp_path}#valid")


def test_a_folder_with_one_file_needs_no_split(tmp_path: Path) -> None:
    """There is only one thing it can mean."""
    path = write(tmp_path / "all.jsonl")
    assert find_data(str(tmp_path)) == path


def test_a_hash_may_be_part_of_a_name(tmp_path: Path) -> None:
    """What exists as it is written is taken as it is written."""
    path = write(tmp_path / "part#1.csv")
    assert find_data(str(path)) == path


@pytest.mark.parametrize("spec", ["missing.csv", "./missing", "/no/such/folder", "no such name!"])
def test_nothing_there(spec: str) -> None:
    """A path without a file is a configuration error."""
    with pytest.raises(ConfigError, match="no data"):
        find_data(spec)


def test_a_file_has_no_splits(tmp_path: Path) -> None:
    """Only folders and data sets have."""
    path = write(tmp_path / "d.csv")
    with pytest.raises(ConfigError, match="no split"):
        find_data(f"{path}#test")


BAD_FILES = {
    "empty.csv": (b"", "is empty"),
    "empty.jsonl": (b"\n\n", "no rows"),
    "latin.csv": ("text,label\nGr\u00fc\u00dfe,1\n".encode("latin-1"), "not UTF-8"),
    "latin.jsonl": ('{"text": "Grü"}\n'.encode("latin-1"), "not UTF-8"),
    "wide.csv": (b"text,label\na,b,c\n", "line 2: 3 fields"),
    "narrow.csv": (b"text,label\na,1\nb\n", "line 3: 1 fields"),
    "open.csv": (b'text,label\n"a,1\n', "line"),
    "broken.jsonl": (b'{"text": 1\n', "line 1 is not JSON"),
    "list.jsonl": (b"[1, 2]\n", "not an object"),
    "broken.json": (b"[1,", "is not JSON"),
    "scalar.json": (b'{"a": 1}', "list of objects"),
    "fake.parquet": (b"PAR1 this is not one", "not a Parquet file"),
    "data.xml": (b"<a/>", "not a kind of data file"),
}


@pytest.mark.parametrize("name", BAD_FILES)
def test_bad_files_are_refused(tmp_path: Path, name: str) -> None:
    """With the file, the place and the fact."""
    content, fact = BAD_FILES[name]
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(ConfigError, match=fact):
        list(open_table(str(path), path).rows([]))


@pytest.mark.parametrize("suffix", [".csv", ".jsonl", ".parquet"])
def test_large_files_are_streamed(tmp_path: Path, suffix: str) -> None:
    """Reading a few rows of many holds a few rows."""
    rows = [{"text": f"{i} " + "word " * 200} for i in range(4000)]
    path = tmp_path / f"d{suffix}"
    if suffix == ".parquet":
        parquet.write_table(pa.Table.from_pylist(rows), path, row_group_size=200)
    elif suffix == ".csv":
        path.write_text("text\n" + "\n".join(str(row["text"]) for row in rows))
    else:
        path.write_text("\n".join(json.dumps(row) for row in rows))
    size = sum(len(str(row["text"])) for row in rows)
    del rows
    tracemalloc.start()
    samples = read_samples(str(path), "fill-mask", limit=20)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert (len(samples), samples.read) == (20, 4000)
    assert peak < size / 2


def test_an_id_without_datasets_says_what_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    """A name that is no path may be a data set's, which needs a package."""
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(MissingDependency, match="Hugging Face data set"):
        open_table("someone/reviews", find_data("someone/reviews"))


class FakeDataset:
    """What is used of a streaming data set."""

    @property
    def features(self) -> dict[str, SimpleNamespace]:
        """The types of the columns; a class label names its classes."""
        return {"text": SimpleNamespace(), "label": SimpleNamespace(names=["bad", "good"])}

    def select_columns(self, names: list[str]) -> Iterator[dict[str, object]]:
        """The rows, reduced to some columns."""
        rows = [{"text": "x", "label": 1, "other": 2}, {"text": "y", "label": 0, "other": 2}]
        return iter([{name: row[name] for name in names} for row in rows])


def fake_datasets(monkeypatch: pytest.MonkeyPatch, splits: list[str]) -> list[tuple[str, str]]:
    """Put a package in the place of `datasets`; the (name, split) pairs it was asked for."""
    asked: list[tuple[str, str]] = []
    module = ModuleType("datasets")

    def load_dataset(name: str, *, split: str, streaming: bool) -> FakeDataset:
        assert streaming
        if name == "someone/gone":
            raise FileNotFoundError("no such data set")
        asked.append((name, split))
        return FakeDataset()

    module.load_dataset = load_dataset  # type: ignore[attr-defined]
    module.get_dataset_split_names = lambda name: splits  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "datasets", module)
    return asked


def test_a_data_set_by_id(monkeypatch: pytest.MonkeyPatch) -> None:
    """Streamed, and the names behind its numbers are matched with the model's labels."""
    asked = fake_datasets(monkeypatch, ["train", "test"])
    samples = read_samples("someone/reviews#test", "text-classification", labels=("good", "bad"))
    assert asked == [("someone/reviews", "test")]
    assert samples.labels == (0, 1)


def test_a_data_set_with_several_splits_needs_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """One split is taken, of several none is guessed, and what cannot be loaded is said."""
    fake_datasets(monkeypatch, ["train", "test"])
    with pytest.raises(ConfigError, match="splits train, test"):
        open_table("someone/reviews", None)
    with pytest.raises(ConfigError, match="cannot be loaded"):
        open_table("someone/gone#test", None)
    fake_datasets(monkeypatch, ["train"])
    assert len(list(open_table("someone/reviews", None).rows(["text"]))) == 2
