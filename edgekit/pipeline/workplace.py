"""Where a step keeps what it makes on the way."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from edgekit.core.bundle import nearest_folder, no_output_folder
from edgekit.core.errors import StepError, disk_errors


@contextmanager
def workplace(output: Path, error: type[StepError]) -> Iterator[Path]:
    """A folder on the disk of the output, which need not have a folder yet; gone afterwards.

    Raises `error` when the disk is full, ConfigError where nothing may be written.
    """
    nearest = nearest_folder(output)
    try:
        with disk_errors(error, f"making a working folder for {output}"):
            made = tempfile.TemporaryDirectory(prefix=f".{output.name}.", dir=nearest)
    except FileNotFoundError as missing:
        # /proc and its like hold what the kernel puts there, and nothing else.
        raise no_output_folder(output, str(missing.strerror)) from missing
    with made as name:
        yield Path(name)
