"""Pictures in DATA: a folder for each class, or paths in the column of a table."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from edgekit.core.errors import ConfigError
from edgekit.runtime.pictures.decoding import looks_like_picture
from edgekit.sources.data_files import Row, Table

#: The tasks whose rows are pictures, and the columns of theirs that hold paths.
PICTURE_COLUMNS: Mapping[str, tuple[str, ...]] = {
    "image-classification": ("image",),
    "image-segmentation": ("image", "mask"),
}


def class_folders(spec: str) -> Table | None:
    """A folder with one folder of pictures for each class, as a table of image and label.

    ``path#split`` is the folder of that name inside. None where the spec is no such folder.
    Raises ConfigError for a split that is not there.
    """
    name, _, split = spec.partition("#")
    root = Path(name)
    if not root.is_dir():
        return None
    if split:
        if not (root / split).is_dir():
            # Perhaps one of the folder's data files.
            return None
        root = root / split
    classes = [one for one in sorted(root.iterdir()) if _visible(one) and one.is_dir()]
    filled = {one.name: pictures for one in classes if (pictures := _pictures(one))}
    if not filled:
        return None

    def rows(columns: Sequence[str]) -> Iterator[Row]:
        for label, paths in filled.items():
            for path in paths:
                yield {"image": str(path), "label": label}

    return Table(str(root), ("image", "label"), rows, {})


def with_paths(table: Table, held: Collection[str], folder: Path | None) -> Table:
    """The table with paths in the columns `held`, of files relative to a folder."""

    def rows(columns: Sequence[str]) -> Iterator[Row]:
        for number, row in enumerate(table.rows(columns), start=1):
            try:
                paths = {
                    name: picture_path(row.get(name), name, folder)
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


def _pictures(folder: Path) -> list[Path]:
    return [
        path
        for path in sorted(folder.rglob("*"))
        if _visible(path) and path.is_file() and looks_like_picture(path)
    ]


def picture_path(value: object, column: str, folder: Path | None) -> Path:
    """The file that a cell names, relative to the table's folder. Raises ConfigError."""
    if not isinstance(value, str) or not value.strip():
        raise ConfigError(
            f"{column} should be the path of a picture, got {str(value)[:60]!r}.",
            hint="Write paths, relative to the file that names them.",
        )
    path = Path(value)
    if folder is not None and not path.is_absolute():
        path = folder / path
    if not path.is_file():
        raise ConfigError(
            f"{column} names the picture {value}, which is not there.",
            hint="Paths are relative to the file that names them.",
        )
    return path
