"""Pictures and sounds in DATA: a folder for each class, or paths in the column of a table."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import NoReturn

from edgekit.core.errors import ConfigError
from edgekit.core.manifest import Manifest
from edgekit.runtime.pictures.decoding import looks_like_picture
from edgekit.runtime.sound.decoding import looks_like_sound
from edgekit.sources.data_boxes import with_objects
from edgekit.sources.data_coco import open_coco
from edgekit.sources.data_files import Row, Table, open_table
from edgekit.sources.data_paths import data_files
from edgekit.sources.data_spool import Stored

#: The tasks whose rows are pictures or sounds, and the columns of theirs that hold paths.
FILE_COLUMNS: Mapping[str, tuple[str, ...]] = {
    "image-classification": ("image",),
    "image-segmentation": ("image", "mask"),
    "object-detection": ("image",),
    "audio-classification": ("audio",),
    "automatic-speech-recognition": ("audio",),
}
# What messages call that stands in files of their own, by the column that names them.
_MEDIA: Mapping[str, str] = {"image": "picture", "audio": "sound"}
# What the data sets of folders call the file of a row (`datasets`, imagefolder and audiofolder).
_FILE_NAME = "file_name"
# Characters of a cell that a message quotes: some hold the picture itself.
_SHOWN = 80


def reads_files(manifest: Manifest) -> bool:
    """Whether a bundle prepares pictures or sounds itself, so that rows of DATA name files."""
    processor = manifest.processor or {}
    hears = processor.get("kind") == "generation" and processor.get("input") == "audio"
    return hears or processor.get("kind") in ("image", "audio")


def file_columns(task: str, pictures: bool | None) -> tuple[str, ...]:
    """The columns of DATA that name files, none where rows are something else.

    `pictures` is whether the bundle reads such, for features are taken of texts, too; None is
    what the task's name says.
    """
    if pictures is False:
        return ()
    return FILE_COLUMNS.get(task, ("image",) if pictures else ())


def class_folders(spec: str, column: str | None = None) -> Table | None:
    """A folder with one folder of files for each class, as a table of image or audio, and label.

    ``path#split`` is the folder of that name inside. None where the spec is no such folder, or
    holds a table: the folders beside it are no classes, but where its files lie. `column` says of
    which files, None leaves it to what is there.
    Raises ConfigError for folders and files that cannot be read.
    """
    name, _, split = spec.partition("#")
    root = Path(name)
    # Path.is_dir() raises where DATA is too long for a path.
    if not os.path.isdir(root):  # noqa: PTH112
        return None
    if split:
        if not os.path.isdir(root / split):  # noqa: PTH112
            # Perhaps one of the folder's data files.
            return None
        root = root / split
    try:
        if data_files(root):
            return None
        classes = [one for one in sorted(root.iterdir()) if _visible(one) and os.path.isdir(one)]  # noqa: PTH112
    except OSError as error:
        _refuse(error)
    for name in _MEDIA if column is None else (column,):
        filled = {one.name: files for one in classes if (files := _files(one, name))}
        if filled:
            return _table(root, name, filled)
    return None


def _table(root: Path, column: str, filled: Mapping[str, Sequence[Path]]) -> Table:
    def rows(columns: Sequence[str]) -> Iterator[Row]:
        for label, paths in filled.items():
            for path in paths:
                yield {column: str(path), "label": label}

    return Table(str(root), (column, "label"), rows, {})


def picture_table(
    spec: str, path: Path | None, task: str, held: Sequence[str], mapping: Mapping[str, str]
) -> tuple[Table, Mapping[str, str]]:
    """The rows of DATA whose columns `held` are pictures, and the columns that are still to map.

    Paths are relative to the file at `path`; None is a data set id. Raises as `open_table` does.
    """
    detects = task == "object-detection"
    table = open_coco(path) if detects and path and path.suffix.lower() == ".json" else None
    table = _with_file_names(table or open_table(spec, path), held, mapping)
    if detects:
        table, mapping = with_objects(table, mapping)
    named = [mapping.get(name, name) for name in held]
    folder = None if path is None else path.parent
    return with_paths(table, named, folder, kind=held[0]), mapping


def _with_file_names(table: Table, held: Sequence[str], mapping: Mapping[str, str]) -> Table:
    """The table with ``file_name`` called image or audio, ``mask_file_name`` mask, if they lack."""
    others = {
        column: name
        for name in held
        for column in (_FILE_NAME if name == held[0] else f"{name}_{_FILE_NAME}",)
        if name not in mapping and name not in table.columns and column in table.columns
    }
    if not others:
        return table
    own = {name: column for column, name in others.items()}

    def rows(columns: Sequence[str]) -> Iterator[Row]:
        for row in table.rows([own.get(name, name) for name in columns]):
            yield {others.get(name, name): value for name, value in row.items()}

    columns = tuple(others.get(name, name) for name in table.columns)
    return replace(table, columns=columns, rows=rows)


def with_paths(
    table: Table, held: Collection[str], folder: Path | None, *, kind: str = "image"
) -> Table:
    """The table with files in the columns `held`: relative to a folder, or their bytes.

    `kind` is the task's own name of the first of them: image or audio.
    """
    what = _MEDIA[kind]

    def rows(columns: Sequence[str]) -> Iterator[Row]:
        for number, row in enumerate(table.rows(columns), start=1):
            try:
                paths = {
                    name: _medium(row.get(name), name, folder, what)
                    for name in columns
                    if name in held
                }
            except ConfigError as error:
                raise ConfigError(
                    f"{table.origin}, row {number}: {error.message}", hint=error.hint
                ) from error
            yield {**row, **paths}

    return replace(table, rows=rows)


def _visible(path: Path) -> bool:
    return not path.name.startswith(".")


def _files(folder: Path, column: str) -> list[Path]:
    """The files of a class. Raises ConfigError: nobody would miss what is left out unseen."""
    try:
        # Path.rglob passes over folders that it may not read.
        held = [
            Path(root, name)
            for root, _, names in os.walk(folder, onerror=_refuse)
            for name in names
        ]
        return [
            path
            for path in sorted(held)
            if _visible(path) and os.path.isfile(path) and _fits(path, column)  # noqa: PTH113
        ]
    except OSError as error:
        _refuse(error)


def _fits(path: Path, column: str) -> bool:
    return looks_like_sound(path) if column == "audio" else looks_like_picture(path)


def _refuse(error: OSError) -> NoReturn:
    raise ConfigError(
        f"DATA cannot be read at {error.filename}: {error.strerror or error}.",
        hint="Check the permissions.",
    ) from error


def _medium(value: object, column: str, folder: Path | None, what: str) -> Path | Stored:
    """A cell's file: its bytes, ``{"bytes", "path"}`` as data sets store it, or a path."""
    if isinstance(value, Mapping) and set(value) <= {"bytes", "path"}:
        name = value.get("path")
        content = value.get("bytes")
        if content is None:
            value = name
        elif isinstance(content, bytes) and content:
            return Stored(content, name if isinstance(name, str) else "")
    if isinstance(value, bytes) and value:
        return Stored(value)
    return media_path(value, column, folder, what)


def media_path(value: object, column: str, folder: Path | None, what: str) -> Path:
    """The file that a cell names, relative to the table's folder. Raises ConfigError."""
    if not isinstance(value, str) or not value.strip():
        raise ConfigError(
            f"{column} should be the path of a {what}, got {_quoted(value)!r}.",
            hint="Write paths, relative to the file that names them.",
        )
    path = Path(value)
    if folder is not None and not path.is_absolute():
        path = folder / path
    # Path.is_file() raises for what is too long for a path.
    if not os.path.isfile(path):  # noqa: PTH113
        raise ConfigError(
            f"{column} names the {what} {_quoted(value)}, which is not there.",
            hint=f"Paths are relative to the file that names them; {what}s stand in files of their"
            " own, not in the table.",
        )
    return path


def _quoted(value: object) -> str:
    text = str(value)
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}…"
