"""The rows of DATA, one at a time: CSV, TSV, JSONL, JSON, Parquet and Hugging Face data sets.

All of them stream, so that a file may be larger than the memory; only a JSON object that holds its
rows as "data" is read whole.
"""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import TextIO

from edgekit.core.errors import ConfigError, MissingDependency
from edgekit.core.lazy import require
from edgekit.core.profiles import nearest
from edgekit.sources.data_paths import KINDS

Row = Mapping[str, object]

#: What the class of a thing may be called, the surest first.
CLASS_COLUMNS = ("labels", "label", "category", "categories", "category_id", "category_ids")

_ENCODING = "Save the file as UTF-8, for example: iconv -f latin1 -t utf-8 OLD > NEW"
# A parquet row group can hold a million rows; so many at a time are made into Python values.
_BATCH = 1024
_BATCH_BYTES = 64 << 20
# Characters of a JSON list that are read at a time, the most that one of its objects may take,
# and the most that may stand before it.
_PIECE = 1 << 20
_LONGEST = 1 << 26
_BLANKS = 4096
_SPACE = re.compile(r"\s*")
# Characters of broken JSON that a message quotes.
_NEAR = 20


@dataclass(frozen=True)
class Table:
    """Rows with named columns.

    ``rows`` starts a fresh reading of the named columns, or of all when given none. ``names`` maps
    a column to the names behind its integers, where the data set declares them. ``told`` are
    sentences that a person should see, which only reading brings to light.
    """

    origin: str
    columns: tuple[str, ...]
    rows: Callable[[Sequence[str]], Iterator[Row]]
    names: Mapping[str, tuple[str, ...]]
    told: list[str] = field(default_factory=list)


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
            hint=f"Known: {', '.join(KINDS)}.",
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
        raise _not_utf8(path, error) from error
    except csv.Error as error:
        raise ConfigError(
            f"{path}, line 1: {_csv_problem(error)}.", hint="Quote fields as CSV does."
        ) from error
    columns = tuple(name.strip() for name in header)
    separator = delimiter

    def rows(_: Sequence[str]) -> Iterator[Row]:
        with path.open(encoding="utf-8-sig", newline="") as stream:
            reader = csv.reader(stream, delimiter=separator, strict=True)
            begun = 1
            try:
                next(reader)
                begun = reader.line_num + 1
                for fields in reader:
                    line, begun = begun, reader.line_num + 1
                    if not fields:
                        continue
                    if len(fields) != len(columns):
                        raise ConfigError(
                            f"{path}, line {line}: {len(fields)} fields where the header has"
                            f" {len(columns)} columns ({', '.join(columns)}).",
                            hint=f"Quote fields that hold a {separator!r} or a line end.",
                        )
                    yield dict(zip(columns, fields, strict=True))
            except csv.Error as error:
                raise ConfigError(
                    f"{path}, line {begun}: {_csv_problem(error)}.",
                    hint="Quote fields as CSV does: double the quotes inside of quotes.",
                ) from error
            except UnicodeDecodeError as error:
                raise _not_utf8(path, error) from error

    return Table(str(path), columns, rows, {})


# What Python's reader says, and what it means to who wrote the file.
_CSV_PROBLEMS = {
    "unexpected end of data": "a quoted field that begins in this row never ends",
    "expected after": "something stands between the end of a quoted field and the separator",
    "line contains NUL": "the row holds a byte of value 0: the file is not text, or UTF-16",
    "field larger": "a field has more than 131,072 characters: a quote before it may be open",
}


def _csv_problem(error: csv.Error) -> str:
    return next((told for said, told in _CSV_PROBLEMS.items() if said in str(error)), str(error))


def _not_utf8(path: Path, error: UnicodeDecodeError) -> ConfigError:
    """The line and the byte that are no UTF-8; the file is read once more to find them."""
    where = ""
    with path.open("rb") as stream:
        for number, line in enumerate(stream, start=1):
            try:
                line.decode("utf-8-sig")
            except UnicodeDecodeError as wrong:
                where = f", line {number}: the byte 0x{line[wrong.start]:02x}"
                break
    fact = f"{path}{where} is not UTF-8" if where else f"{path} is not UTF-8: {error.reason}"
    return ConfigError(f"{fact}.", hint=_ENCODING)


def _jsonl(path: Path) -> Table:
    def rows(_: Sequence[str]) -> Iterator[Row]:
        try:
            with path.open(encoding="utf-8-sig") as stream:
                for number, line in enumerate(stream, start=1):
                    if line.strip():
                        yield _object(line, f"{path}, line {number}")
        except UnicodeDecodeError as error:
            raise _not_utf8(path, error) from error

    return Table(str(path), _first_keys(path, rows), rows, {})


def _json(path: Path) -> Table:
    def rows(_: Sequence[str]) -> Iterator[Row]:
        try:
            with path.open(encoding="utf-8-sig") as stream:
                start = stream.read(_BLANKS).lstrip()[:1]
                stream.seek(0)
                yield from _elements(stream, path) if start == "[" else _listed(stream, path)
        except UnicodeDecodeError as error:
            raise _not_utf8(path, error) from error

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
    if isinstance(error, json.JSONDecodeError):
        # In a row of its own Python's line is always 1.
        place = f"line {error.lineno}, " if error.lineno > 1 else ""
        near = error.doc[error.pos : error.pos + _NEAR].splitlines()
        found = f"near {near[0]!r}" if near and near[0] else "where it ends"
        told = f"{error.msg}, at {place}column {error.colno}, {found}"
        return ConfigError(f"{where} is not JSON: {told}.", hint=hint)
    return ConfigError(f"{where} is not JSON: {error}.", hint=hint)


def _no_list(path: Path) -> ConfigError:
    return ConfigError(
        f"{path} does not hold a list of objects.", hint="Write [{…}, {…}] or JSONL."
    )


def _object(line: str, where: str) -> Row:
    try:
        value = json.loads(line.rstrip())
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
        with parquet.ParquetFile(path) as file:
            columns = tuple(str(name) for name in file.schema_arrow.names)
            names = _stored_names(file.schema_arrow.metadata or {})
            weight = sum(
                file.metadata.row_group(at).total_byte_size for at in range(file.num_row_groups)
            )
            # A row may hold a whole picture.
            batch = max(1, min(_BATCH, _BATCH_BYTES * file.metadata.num_rows // max(1, weight)))
    except (arrow.ArrowException, OSError) as error:
        raise ConfigError(f"{path} is not a Parquet file: {error}.") from error

    def rows(wanted: Sequence[str]) -> Iterator[Row]:
        try:
            with parquet.ParquetFile(path) as file:
                for some in file.iter_batches(batch_size=batch, columns=list(wanted) or None):
                    yield from some.to_pylist()
        # Pages are checked when they are read; a text may turn out not to be UTF-8 even later.
        except (arrow.ArrowException, OSError, ValueError, OverflowError) as error:
            raise ConfigError(
                f"{path} is damaged: {error}.", hint="Write the file again, or copy it again."
            ) from error

    return Table(str(path), columns, rows, names)


def _stored_names(metadata: Mapping[bytes, bytes]) -> dict[str, tuple[str, ...]]:
    """The names behind integers that `datasets` writes beside a table; none where it did not."""
    try:
        features = json.loads(metadata[b"huggingface"])["info"]["features"]
        return {str(key): found for key, one in features.items() if (found := _class_names(one))}
    except (KeyError, TypeError, ValueError, AttributeError, RecursionError):
        return {}


def _class_names(feature: object) -> tuple[str, ...]:
    """The classes behind a feature's integers, also where it is a list of objects with one such."""
    held = feature.get if isinstance(feature, Mapping) else partial(getattr, feature)
    names = held("names", None)
    if isinstance(names, list) and all(isinstance(name, str) for name in names):
        return tuple(names)
    inside = held("feature", None)
    if inside is not None:
        return _class_names(inside)
    parts = feature if isinstance(feature, Mapping) else {}
    for name in CLASS_COLUMNS:
        # What is read as the class of an object; others may have names as well.
        if name in parts:
            return _class_names(parts[name])
    return next((found for one in parts.values() if (found := _class_names(one))), ())


def require_datasets(spec: str) -> ModuleType:
    """What reads the Hugging Face data set that a spec names. Raises MissingDependency."""
    name = spec.partition("#")[0]
    try:
        return require("datasets", "data")
    except MissingDependency as error:
        raise MissingDependency(
            f"There is no file or folder {name!r}, and reading a Hugging Face data set of that"
            " name needs the package datasets.",
            hint=error.hint,
        ) from error


def _dataset(spec: str) -> Table:
    name, _, split = spec.partition("#")
    datasets = require_datasets(spec)
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
        for column, feature in features.items():
            # Pictures and sounds are decoded where they are used, and hashed as they are stored.
            if getattr(feature, "decode", False) is True:
                stored: Callable[..., object] = type(feature)
                loaded = loaded.cast_column(column, stored(decode=False))
        columns = tuple(features) or tuple(next(iter(loaded), {}))
    except ConfigError:
        raise
    except Exception as error:  # datasets raises a dozen unrelated types, network errors included
        raise ConfigError(
            f"The data set {name}#{split} cannot be loaded: {error}.",
            hint="Check the id and the split, or give a local file.",
        ) from error
    named = {column: _class_names(feature) for column, feature in features.items()}

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
