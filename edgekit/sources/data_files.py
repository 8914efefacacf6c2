"""The rows of DATA, one at a time: CSV, TSV, JSONL, JSON, Parquet and Hugging Face data sets.

All of them stream, so that a file may be larger than the memory; only a JSON object that holds its
rows as "data" is read whole.
"""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO

from edgekit.core.errors import ConfigError, MissingDependency
from edgekit.core.lazy import require
from edgekit.core.profiles import nearest

Row = Mapping[str, object]

_DATASET_ID = re.compile(r"[A-Za-z0-9][\w.-]*(/[\w.-]+)?\Z")
_ENCODING = "Save the file as UTF-8, for example: iconv -f latin1 -t utf-8 OLD > NEW"
# A parquet row group can hold a million rows; so many at a time are made into Python values.
_BATCH = 1024
# Characters of a JSON list that are read at a time, the most that one of its objects may take,
# and the most that may stand before it.
_PIECE = 1 << 20
_LONGEST = 1 << 26
_BLANKS = 4096
_SPACE = re.compile(r"\s*")


@dataclass(frozen=True)
class Table:
    """Rows with named columns.

    ``rows`` starts a fresh reading of the named columns, or of all when given none. ``names`` maps
    a column to the names behind its integers, where the data set declares them.
    """

    origin: str
    columns: tuple[str, ...]
    rows: Callable[[Sequence[str]], Iterator[Row]]
    names: Mapping[str, tuple[str, ...]]


def find_data(spec: str) -> Path | None:
    """The local file that DATA means (``path#split`` picks one of a folder), None for an id.

    Raises ConfigError when it is a path and there is nothing, or no single data file.
    """
    whole = Path(spec)
    if whole.is_file():
        return whole
    name, _, split = spec.partition("#")
    path = Path(name)
    if path.is_dir():
        return _of_folder(path, split)
    if path.is_file():
        raise ConfigError(
            f"{path} is one file and has no split {split!r}.",
            hint="Leave #… out, or give a folder with one file per split.",
        )
    looks_local = path.suffix.lower() in (*_READERS, ".npz") or name.startswith((".", "/", "~"))
    if looks_local or not _DATASET_ID.match(name):
        raise ConfigError(f"There is no data at {name or spec!r}.", hint="Check the path.")
    return None


def _of_folder(folder: Path, split: str) -> Path:
    known = (*_READERS, ".npz")
    files = sorted(
        path
        for path in folder.iterdir()
        # What begins with a dot is some tool's own, not DATA.
        if path.is_file() and path.suffix.lower() in known and not path.name.startswith(".")
    )
    chosen = _called(files, split) if split else files
    if len(chosen) == 1:
        return chosen[0]
    if not files:
        raise ConfigError(
            f"The folder {folder} holds no data file ({', '.join(known)}).",
            hint="Give the file itself.",
        )
    fact = f"has {len(chosen)} files of the split {split!r}" if split else "holds several files"
    splits = [
        next((name for name in reversed(_names(path)) if _called(files, name) == [path]), path.name)
        for path in files
    ]
    raise ConfigError(
        f"The folder {folder} {fact}; its splits are {', '.join(splits)}.",
        hint=f"Name one of them: {folder}#{splits[0]}",
    )


def _names(path: Path) -> tuple[str, str, str]:
    """What a split may call a file: ``train-0-of-1.csv``, ``train-0-of-1``, ``train``."""
    return path.name, path.stem, re.split(r"[-_.]", path.stem)[0]


def _called(files: Sequence[Path], split: str) -> list[Path]:
    """The files that a split means: a whole name wins over a first word."""
    for length in range(3):
        found = [path for path in files if _names(path)[length] == split]
        if found:
            return found
    return []


def open_table(spec: str, path: Path | None) -> Table:
    """The table at a local path, or of the Hugging Face data set that the spec names.

    Raises:
        ConfigError: a format that is not known, an empty or malformed file.
        MissingDependency: the package that reads the format is not installed.
    """
    if path is None:
        return _dataset(spec)
    reader = _READERS.get(path.suffix.lower())
    if reader is None:
        raise ConfigError(
            f"{path} is not a kind of data file that edgekit reads.",
            hint=f"Known: {', '.join((*_READERS, '.npz'))}.",
        )
    if path.stat().st_size == 0:
        raise ConfigError(f"The data file {path} is empty.", hint="Check how it was written.")
    return reader(path)


def _csv(path: Path) -> Table:
    return _separated(path, None)


def _tsv(path: Path) -> Table:
    return _separated(path, "\t")


def _separated(path: Path, delimiter: str | None) -> Table:
    # newline="" leaves line ends inside quotes to the csv module; utf-8-sig drops Excel's mark.
    try:
        with path.open(encoding="utf-8-sig", newline="") as stream:
            first = stream.readline()
            if delimiter is None:
                # Spreadsheets of half the world separate by semicolons.
                delimiter = max(",;\t", key=first.count)
            header = next(csv.reader([first], delimiter=delimiter, strict=True), [])
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path} is not UTF-8: {error.reason}.", hint=_ENCODING) from error
    except csv.Error as error:
        raise ConfigError(f"{path}, line 1: {error}.", hint="Quote fields as CSV does.") from error
    columns = tuple(name.strip() for name in header)
    separator = delimiter

    def rows(_: Sequence[str]) -> Iterator[Row]:
        with path.open(encoding="utf-8-sig", newline="") as stream:
            reader = csv.reader(stream, delimiter=separator, strict=True)
            try:
                next(reader)
                for fields in reader:
                    if not fields:
                        continue
                    if len(fields) != len(columns):
                        raise ConfigError(
                            f"{path}, line {reader.line_num}: {len(fields)} fields where the"
                            f" header has {len(columns)} columns.",
                            hint="Quote fields that hold the separator or a line end.",
                        )
                    yield dict(zip(columns, fields, strict=True))
            except csv.Error as error:
                raise ConfigError(
                    f"{path}, line {reader.line_num}: {error}.",
                    hint="Quote fields as CSV does: double the quotes inside of quotes.",
                ) from error
            except UnicodeDecodeError as error:
                raise ConfigError(
                    f"{path} is not UTF-8 after line {reader.line_num}: {error.reason}.",
                    hint=_ENCODING,
                ) from error

    return Table(str(path), columns, rows, {})


def _jsonl(path: Path) -> Table:
    def rows(_: Sequence[str]) -> Iterator[Row]:
        try:
            with path.open(encoding="utf-8-sig") as stream:
                for number, line in enumerate(stream, start=1):
                    if line.strip():
                        yield _object(line, f"{path}, line {number}")
        except UnicodeDecodeError as error:
            raise ConfigError(f"{path} is not UTF-8: {error.reason}.", hint=_ENCODING) from error

    return Table(str(path), _first_keys(path, rows), rows, {})


def _json(path: Path) -> Table:
    def rows(_: Sequence[str]) -> Iterator[Row]:
        try:
            with path.open(encoding="utf-8-sig") as stream:
                start = stream.read(_BLANKS).lstrip()[:1]
                stream.seek(0)
                yield from _elements(stream, path) if start == "[" else _listed(stream, path)
        except UnicodeDecodeError as error:
            raise ConfigError(f"{path} is not UTF-8: {error.reason}.", hint=_ENCODING) from error

    return Table(str(path), _first_keys(path, rows), rows, {})


def _elements(stream: TextIO, path: Path) -> Iterator[Row]:
    """The objects of a JSON list, of which only a piece is in memory at a time."""
    decoder = json.JSONDecoder()
    text, at, number, behind = "", 0, 0, False

    def refilled(left: str) -> str:
        more = stream.read(max(_PIECE, len(left))) if len(left) < _LONGEST else ""
        if not more:
            raise ConfigError(
                f"{path} is not JSON: it ends in element {number + 1}, or that is no JSON.",
                hint="One object per line is called .jsonl.",
            )
        return left + more

    while not text:
        text = refilled("").lstrip()
    at = 1
    while True:
        at = _SPACE.match(text, at).end()  # type: ignore[union-attr]
        if at == len(text):
            text, at = refilled(""), 0
        elif text[at] == "]" and (behind or not number):
            break
        elif behind and text[at] != ",":
            raise ConfigError(f"{path} is not JSON: there is no comma behind element {number}.")
        elif behind:
            at, behind = at + 1, False
        elif text[at] != "{":
            raise _no_list(path)
        else:
            try:
                value, at = decoder.raw_decode(text, at)
            except json.JSONDecodeError:
                text, at = refilled(text[at:]), 0
                continue
            except (ValueError, RecursionError) as error:
                raise _unreadable(f"{path}, element {number + 1},", error) from error
            number, behind = number + 1, True
            yield value
    if (text[at + 1 :] + stream.read(_PIECE)).strip():
        raise ConfigError(f"{path} is not JSON: there is more behind the list.")


def _listed(stream: TextIO, path: Path) -> Iterator[Row]:
    """The rows of an object that holds them as its "data", read whole."""
    try:
        value = json.loads(stream.read())
    except (ValueError, RecursionError) as error:
        raise _unreadable(str(path), error, "One object per line is called .jsonl.") from error
    rows = value.get("data") if isinstance(value, dict) else None
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise _no_list(path)
    yield from rows


def _unreadable(where: str, error: Exception, hint: str | None = None) -> ConfigError:
    """What to say of JSON that Python does not read, be it right or wrong."""
    if isinstance(error, UnicodeDecodeError):
        return ConfigError(f"{where} is not UTF-8: {error.reason}.", hint=_ENCODING)
    if isinstance(error, RecursionError):
        return ConfigError(f"{where} is nested too deeply.", hint="A row is a flat object.")
    return ConfigError(f"{where} is not JSON: {error}.", hint=hint)


def _no_list(path: Path) -> ConfigError:
    return ConfigError(
        f"{path} does not hold a list of objects.", hint="Write [{…}, {…}] or JSONL."
    )


def _object(line: str, where: str) -> Row:
    try:
        value = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise _unreadable(where, error) from error
    if not isinstance(value, dict):
        raise ConfigError(f"{where} is not an object.", hint='Write lines like {"text": "…"}.')
    return value


def _first_keys(path: Path, rows: Callable[[Sequence[str]], Iterator[Row]]) -> tuple[str, ...]:
    first = next(rows(()), None)
    if first is None:
        raise ConfigError(f"The data file {path} has no rows.", hint="Check how it was written.")
    return tuple(first)


def _parquet(path: Path) -> Table:
    parquet = require("pyarrow.parquet", "data")
    arrow = require("pyarrow", "data")
    try:
        columns = tuple(str(name) for name in parquet.ParquetFile(path).schema_arrow.names)
    except (arrow.ArrowException, OSError) as error:
        raise ConfigError(f"{path} is not a Parquet file: {error}.") from error

    def rows(wanted: Sequence[str]) -> Iterator[Row]:
        try:
            with parquet.ParquetFile(path) as file:
                for batch in file.iter_batches(batch_size=_BATCH, columns=list(wanted) or None):
                    yield from batch.to_pylist()
        # Pages are checked when they are read; a text may turn out not to be UTF-8 even later.
        except (arrow.ArrowException, OSError, ValueError, OverflowError) as error:
            raise ConfigError(
                f"{path} is damaged: {error}.", hint="Write the file again, or copy it again."
            ) from error

    return Table(str(path), columns, rows, {})


def _dataset(spec: str) -> Table:
    name, _, split = spec.partition("#")
    try:
        datasets = require("datasets", "data")
    except MissingDependency as error:
        raise MissingDependency(
            f"There is no file or folder {name!r}, and reading a Hugging Face data set of that"
            " name needs the package datasets.",
            hint=error.hint,
        ) from error
    try:
        if not split:
            splits = [str(word) for word in datasets.get_dataset_split_names(name)]
            if len(splits) != 1:
                raise ConfigError(
                    f"The data set {name} has the splits {', '.join(splits)}.",
                    hint=f"Name one: {name}#{splits[0] if splits else 'test'}",
                )
            split = splits[0]
        loaded = datasets.load_dataset(name, split=split, streaming=True)
        features: Mapping[str, object] = loaded.features or {}
        columns = tuple(features) or tuple(next(iter(loaded), {}))
    except ConfigError:
        raise
    except Exception as error:  # datasets raises a dozen unrelated types, network errors included
        raise ConfigError(
            f"The data set {name}#{split} cannot be loaded: {error}.",
            hint="Check the id and the split, or give a local file.",
        ) from error
    named = {
        column: tuple(str(word) for word in getattr(feature, "names", None) or ())
        for column, feature in features.items()
    }

    def rows(wanted: Sequence[str]) -> Iterator[Row]:
        try:
            yield from loaded.select_columns(list(wanted)) if wanted else loaded
        except Exception as error:  # the network's errors come from half a dozen packages
            raise ConfigError(
                f"The data set {name}#{split} broke off while it was read: {error}.",
                hint="Try again, or download it and give a local file.",
            ) from error

    return Table(spec, columns, rows, {key: words for key, words in named.items() if words})


_READERS: Mapping[str, Callable[[Path], Table]] = {
    ".csv": _csv,
    ".tsv": _tsv,
    ".jsonl": _jsonl,
    ".ndjson": _jsonl,
    ".json": _json,
    ".parquet": _parquet,
}


def column_not_found(table: Table, column: str, asked_by: str) -> ConfigError:
    """The error that names the columns present and the nearest of them."""
    present = ", ".join(table.columns) or "none"
    return ConfigError(
        f"{table.origin} has no column {column!r}; it has {present}.",
        hint=f"{nearest(column, table.columns)} {asked_by}",
    )
