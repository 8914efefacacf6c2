"""Where DATA lies: the file that a path, a folder with its split, or neither, means."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from pathlib import Path

from edgekit.core.errors import ConfigError

#: How files of DATA end.
KINDS = (".csv", ".tsv", ".jsonl", ".ndjson", ".json", ".parquet", ".npz")

_DATASET_ID = re.compile(r"[A-Za-z0-9][\w.-]*(/[\w.-]+)?\Z")


def find_data(spec: str) -> Path | None:
    """The local file that DATA means (``path#split`` picks one of a folder), None for an id.

    Raises ConfigError when it is a path and there is nothing, or no single data file.
    """
    whole = Path(spec)
    # Path.is_file() raises for what is too long for a path; so does Path.is_dir().
    if os.path.isfile(whole):  # noqa: PTH113
        return whole
    name, _, split = spec.partition("#")
    path = Path(name)
    if os.path.isdir(path):  # noqa: PTH112
        if split and os.path.isdir(path / split):  # noqa: PTH112
            return _of_folder(path / split, "")
        return _of_folder(path, split)
    if os.path.isfile(path):  # noqa: PTH113
        raise ConfigError(
            f"{path} is one file and has no split {split!r}.",
            hint="Leave #… out, or give a folder with one file per split.",
        )
    looks_local = path.suffix.lower() in KINDS or name.startswith((".", "/", "~"))
    if looks_local or not _DATASET_ID.match(name):
        raise ConfigError(f"There is no data at {name or spec!r}.", hint="Check the path.")
    return None


def data_files(folder: Path) -> list[Path]:
    """The files of DATA that lie in a folder itself. Raises OSError."""
    return sorted(
        path
        for path in folder.iterdir()
        # What begins with a dot is some tool's own, not DATA.
        if path.is_file() and path.suffix.lower() in KINDS and not path.name.startswith(".")
    )


def _of_folder(folder: Path, split: str) -> Path:
    files = data_files(folder)
    chosen = _called(files, split) if split else files
    if len(chosen) == 1:
        return chosen[0]
    if not files:
        raise ConfigError(
            f"The folder {folder} holds no data file ({', '.join(KINDS)}).",
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


def require_texts(data: str, task: str) -> None:
    """Raise ConfigError for arrays where a model of a task reads texts."""
    if data.lower().endswith(".npz"):
        raise ConfigError(
            f"{data} holds arrays, and a model for {task} reads texts.",
            hint="Give a CSV, JSONL or Parquet file.",
        )
