"""Data files: the formats, and what is wrong with them."""

from __future__ import annotations

import io
import json
import re
import sys
import tracemalloc
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from types import ModuleType, SimpleNamespace

import numpy as np
import pyarrow as pa
import pyarrow.parquet as parquet
import pytest

from edgekit.core.errors import ConfigError, MissingDependency
from edgekit.sources import data_files
from edgekit.sources.data import read_samples
from edgekit.sources.data_files import open_table
from edgekit.sources.data_paths import find_data

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


def test_files_that_share_their_first_word_are_told_apart(tmp_path: Path) -> None:
    """A whole name wins over a first word, and each split that is told picks its file."""
    for name in ("movies.csv", "movies-train.csv", "both.csv", "both.jsonl", ".zoo.json"):
        write(tmp_path / name)
    with pytest.raises(ConfigError) as caught:
        find_data(str(tmp_path))
    told = "its splits are both.csv, both.jsonl, movies-train, movies."
    assert told in caught.value.message
    assert caught.value.hint == f"Name one of them: {tmp_path}#both.csv"
    for split in ("both.csv", "both.jsonl", "movies-train", "movies"):
        found = find_data(f"{tmp_path}#{split}")
        assert found is not None
        assert split in (found.name, found.stem)


def test_a_folder_with_one_file_needs_no_split(tmp_path: Path) -> None:
    """There is only one thing it can mean; what a tool hides there is no data."""
    path = write(tmp_path / "all.jsonl")
    write(tmp_path / ".all.json")
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
    "latin.csv": (
        "text,label\nGr\u00fc\u00dfe,1\n".encode("latin-1"),
        "line 2: the byte 0xfc is not UTF-8",
    ),
    "latin.jsonl": (
        '{"text": "Grü"}\n'.encode("latin-1"),
        "line 1: the byte 0xfc is not UTF-8",
    ),
    "wide.csv": (b"text,label\na,b,c\n", "line 2: 3 fields"),
    "narrow.csv": (b"text,label\na,1\nb\n", "line 3: 1 fields"),
    "open.csv": (b'text,label\nx,1\n"a,1\ny,1\n', "line 3: a quoted field .* never ends"),
    "after.csv": (b'text,label\n"a"b,1\n', "line 2: something stands between"),
    "broken.jsonl": (b'{"text": 1\n', "line 1 is not JSON: .*, at column"),
    "second.jsonl": (b'{"text": 1}\n{"text": 1,}\n', "line 2 is not JSON: .* near '}'"),
    "list.jsonl": (b"[1, 2]\n", "not an object"),
    "broken.json": (b'[{"text": 1},', "is not JSON"),
    "numbers.json": (b"[1, 2]", "list of objects"),
    "comma.json": (b'[{"text": "a"} {"text": "b"}]', "no comma behind element 1"),
    "trailing.json": (b'[{"text": "a"},]', "list of objects"),
    "more.json": (b'[{"text": "a"}] 1', "more behind the list"),
    "none.json": (b"[]", "no rows"),
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


@pytest.mark.parametrize("piece", [1, 7, 64])
def test_a_json_list_is_read_in_pieces(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, piece: int
) -> None:
    """Wherever a piece ends: inside a word, an escape, a number or between two objects."""
    rows = [{"text": f'{number} "quoted" \\ grün 🎉 \n]', "label": number} for number in range(50)]
    path = tmp_path / "d.json"
    path.write_text(" \n" + json.dumps(rows, indent=2) + " \n")
    monkeypatch.setattr(data_files, "_PIECE", piece)
    assert list(open_table(str(path), path).rows(())) == rows


def test_a_long_json_list_is_never_whole_in_memory(tmp_path: Path) -> None:
    """With a limit only the chosen rows are kept, and a piece of the file."""
    path = tmp_path / "d.json"
    with path.open("w") as file:
        file.write("[")
        for number in range(20_000):
            comma = "," if number else ""
            file.write(comma + json.dumps({"text": f"{number} " + "word " * 200, "label": 1}))
        file.write("]")
    assert path.stat().st_size > 20_000_000
    tracemalloc.start()
    samples = read_samples(str(path), "text-classification", role="verdict", limit=40)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert len(samples) == 40
    assert peak < 10_000_000


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_an_archive_is_never_whole_in_memory(tmp_path: Path, save: Callable[..., None]) -> None:
    """Arrays are read by blocks, whether or not they are packed."""
    path = tmp_path / "d.npz"
    x = np.arange(2000 * 5000, dtype=np.float32).reshape(2000, 5000)
    save(path, x=x, label=np.arange(2000) % 3)
    tracemalloc.start()
    samples = read_samples(str(path), "custom", inputs=("x",), role="verdict", limit=50)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < x.nbytes / 2
    for row, inputs, label in zip(samples.rows, samples.inputs, samples.labels or (), strict=True):
        np.testing.assert_array_equal(np.asarray(inputs["x"]), x[row - 1])
        assert label == (row - 1) % 3


def test_an_archive_in_fortran_order_has_the_same_rows(tmp_path: Path) -> None:
    """Column by column in the file, sample by sample for the model."""
    x = np.asfortranarray(np.arange(12, dtype=np.int64).reshape(4, 3))
    np.savez(tmp_path / "d.npz", x=x)
    samples = read_samples(str(tmp_path / "d.npz"), "custom", inputs=("x",))
    np.testing.assert_array_equal(np.stack([np.asarray(r["x"]) for r in samples.inputs]), x)
    assert samples.rows == (1, 2, 3, 4)


def test_a_cut_archive_is_refused(tmp_path: Path) -> None:
    """A download that broke off is told as such."""
    path = tmp_path / "d.npz"
    np.savez(path, x=np.zeros((100, 100)))
    path.write_bytes(path.read_bytes()[:5000])
    with pytest.raises(ConfigError, match=r"not an \.npz"):
        read_samples(str(path), "custom", inputs=("x",))


TASK = "text-classification"
DEEP = "[" * 100_000


@pytest.mark.parametrize(
    ("name", "text", "fact"),
    [
        ("a.jsonl", '{"text": "a", "label": 0}\n{"text": ' + DEEP, "line 2 is nested too deeply"),
        ("b.json", '[{"text": ' + DEEP, "element 1, is nested too deeply"),
        ("c.json", '{"data": ' + DEEP, "c.json is nested too deeply"),
        ("d.jsonl", '{"text": "a", "label": ' + "9" * 5000 + "}", "line 1 is not JSON"),
        ("e.json", '[{"text": "a", "label": ' + "9" * 5000 + "}]", "element 1, is not JSON"),
        ("f.csv", f'text,label\na,"{DEEP}"', r"row 1: The label '\[{80}…' is not a number"),
        ("g.jsonl", '{"text": "a", "label": ' + "9" * 400 + "}", "row 1: The label 9+… is not a"),
    ],
)
def test_what_python_cannot_read_is_told(tmp_path: Path, name: str, text: str, fact: str) -> None:
    """JSON too deep, integers too long, numbers too large: DATA is at fault, and short to read."""
    path = tmp_path / name
    path.write_text(text)
    with pytest.raises(ConfigError, match=fact) as caught:
        read_samples(str(path), TASK, problem="regression" if name == "g.jsonl" else None)
    assert len(caught.value.message) < 500


def archive_of(header: tuple[int, ...], *, fortran: bool) -> bytes:
    """An .npz whose one array claims a shape and holds a hundred bytes."""
    member, archive = io.BytesIO(), io.BytesIO()
    claim = {"descr": "<f8", "fortran_order": fortran, "shape": header}
    np.lib.format.write_array_header_1_0(member, claim)
    with zipfile.ZipFile(archive, "w") as whole:
        whole.writestr("x.npy", member.getvalue() + bytes(100))
    return archive.getvalue()


def tampered(offset_local: int, offset_central: int, value: int) -> bytes:
    """A sound .npz with another value in the flags or the method of its members."""
    stream = io.BytesIO()
    np.savez(stream, x=np.zeros((40, 3)), label=np.zeros(40, int))
    data = bytearray(stream.getvalue())
    for mark, offset in ((b"PK\x03\x04", offset_local), (b"PK\x01\x02", offset_central)):
        for found in re.finditer(re.escape(mark), bytes(data)):
            data[found.start() + offset] = value
    return bytes(data)


@pytest.mark.parametrize(
    ("content", "fact"),
    [
        (archive_of((40, 10**12), fortran=True), "claims 320,000,000,000,000 bytes .* has 100"),
        (archive_of((40, 2**32, 2**32), fortran=False), "claims .* bytes of values and has 100"),
        (archive_of((-1, 5), fortran=False), "claims -40 bytes"),
        (archive_of((10**15, 0), fortran=False), "rows without values"),
        (tampered(6, 8, 1), "encrypted"),
        (tampered(8, 10, 99), "compression"),
    ],
)
def test_an_archive_that_lies_is_refused(tmp_path: Path, content: bytes, fact: str) -> None:
    """Before anything is allocated for what it claims."""
    (tmp_path / "d.npz").write_bytes(content)
    with pytest.raises(ConfigError, match=fact):
        read_samples(str(tmp_path / "d.npz"), "custom", inputs=["x"])


def test_a_damaged_page_is_told(tmp_path: Path) -> None:
    """A Parquet file that opens well and breaks in the middle."""
    path = tmp_path / "d.parquet"
    table = pa.table({"text": [f"hello {i}" for i in range(2000)], "label": [0] * 2000})
    parquet.write_table(table, path)
    data = bytearray(path.read_bytes())
    data[60:400] = b"\xff" * 340
    path.write_bytes(data)
    with pytest.raises(ConfigError, match="damaged"):
        read_samples(str(path), TASK)


def test_a_stream_that_breaks_off_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """The network may go while a data set is read, or before its first row."""

    class Broken:
        features: Mapping[str, object] | None

        def __init__(self, features: Mapping[str, object] | None) -> None:
            self.features = features

        def select_columns(self, names: Sequence[str]) -> Broken:
            return self

        def __iter__(self) -> Iterator[Mapping[str, object]]:
            raise TimeoutError("the network is gone")

    columns = {"text": None, "label": None}
    for features, fact in ((columns, "broke off"), (None, "cannot be loaded")):
        module = SimpleNamespace(load_dataset=lambda *_, of=features, **__: Broken(of))
        monkeypatch.setattr(data_files, "require", lambda *_, m=module: m)
        with pytest.raises(ConfigError, match=f"somebody/reviews#test {fact}"):
            read_samples("somebody/reviews#test", TASK)
