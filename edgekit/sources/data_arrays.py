"""The samples of an ``.npz``: one array per input, read row by row."""

from __future__ import annotations

import math
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TypeAlias

import numpy as np
from numpy.typing import NDArray

from edgekit.core.errors import ConfigError
from edgekit.core.profiles import nearest
from edgekit.runtime.arrays import UNREADABLE
from edgekit.sources.data_columns import LABEL_NAMES, Label, Problem
from edgekit.sources.data_tables import labels_not_mapped, no_labels

Array: TypeAlias = NDArray[np.generic]
ArrayRow: TypeAlias = tuple[Mapping[str, Array], Label | None, Problem | None]

# Bytes of an array that are in memory at a time.
_BLOCK = 1 << 20


@dataclass(frozen=True)
class _Stored:
    """An array in the archive: what its header says."""

    member: str
    shape: tuple[int, ...]
    dtype: np.dtype[np.generic]
    streams: bool

    @property
    def samples(self) -> int:
        return self.shape[0] if self.shape else 0


def array_rows(path: Path, mapping: Mapping[str, str], wanted: Sequence[str]) -> Iterator[ArrayRow]:
    """The inputs and the label of every sample; the archive is never read whole.

    Arrays in Fortran's order are the exception: their first axis is their innermost.

    Raises ConfigError: no archive of plain arrays, an input that is not in it, arrays of different
    numbers of samples.
    """
    with _reading(path), zipfile.ZipFile(path) as archive:
        stored, label, names = _named(archive, path, mapping, wanted)
        columns = [_rows(archive, stored[held]) for held in names.values()]
        labels = None if label is None else _rows(archive, label)
        whole = label is not None and (
            np.issubdtype(label.dtype, np.integer) or label.dtype == np.bool_
        )
        problem: Problem = "single_label_classification" if whole else "regression"
        samples = next((stored[held].samples for held in names.values()), 0)
        for row in range(1, samples + 1):
            inputs = {name: next(column) for name, column in zip(names, columns, strict=True)}
            if labels is None:
                yield inputs, None, None
            else:
                yield inputs, _plain(next(labels), path, row), problem


def check_arrays(
    path: Path,
    mapping: Mapping[str, str],
    wanted: Sequence[str],
    *,
    labels_wanted: bool,
    other: str | None = None,
) -> list[str]:
    """Look at the names, shapes and types of an archive's arrays; sentences for a person.

    `other` is what a task is judged by that reads no numbers of classes, which are all that arrays
    can say. Raises as `array_rows` does, and for labels under a name that nobody mapped, or of that
    other kind, where they are wanted.
    """
    with _reading(path), zipfile.ZipFile(path) as archive:
        stored, label, names = _named(archive, path, mapping, wanted)
    samples = next((stored[held].samples for held in names.values()), 0)
    if not samples:
        raise ConfigError(f"{path} has no rows.", hint="Check how it was written.")
    if label is not None:
        return [] if other is None else [_no_classes(path, other, refused=labels_wanted)]
    others = [name for name in stored if name not in names.values()]
    fact = f"{path} has no array 'label'"
    like = [
        name
        for name in others
        if name.casefold() in LABEL_NAMES
        or (stored[name].samples == samples and len(stored[name].shape) == 1)
    ]
    if labels_wanted and like:
        raise labels_not_mapped(fact, "label", like[0])
    return [no_labels(f"{fact} ({', '.join(others)} not read)" if others else fact)]


def _no_classes(path: Path, other: str, *, refused: bool) -> str:
    """That labels are not read, as a sentence, or as a ConfigError where they are wanted."""
    fact = f"{path} has an array of labels, and the task is judged by {other}, not by classes"
    if refused:
        raise ConfigError(
            f"{fact}: without labels --max-drop would be a budget of agreement with the reference.",
            hint=f"Give a table that names files and has {other}, or choose agreement with"
            " --metric.",
        )
    return no_labels(f"{fact}, so it is not read")


def _named(
    archive: zipfile.ZipFile, path: Path, mapping: Mapping[str, str], wanted: Sequence[str]
) -> tuple[dict[str, _Stored], _Stored | None, dict[str, str]]:
    """All arrays but the label's, the label's, and what each input is called in the archive."""
    stored = {
        name.removesuffix(".npy"): _header(archive, name)
        for name in archive.namelist()
        if name.endswith(".npy")
    }
    label = stored.pop(mapping.get("label", "label"), None)
    if label is None and "label" in mapping:
        raise ConfigError(
            f"{path} has no array {mapping['label']!r}; it has {', '.join(sorted(stored))}.",
            hint=f"{nearest(mapping['label'], sorted(stored))} Check --columns.",
        )
    names = {name: mapping.get(name, name) for name in (wanted or sorted(stored))}
    _check(path, names, stored, label)
    return stored, label, names


@contextmanager
def _reading(path: Path) -> Iterator[None]:
    try:
        yield
    except UNREADABLE as error:
        raise ConfigError(
            f"{path} is not an .npz of plain arrays: {error or type(error).__name__}.",
            hint="Write it with numpy.savez(path, input=…, label=…), without objects.",
        ) from error


def _header(archive: zipfile.ZipFile, member: str) -> _Stored:
    with archive.open(member) as stream:
        shape, fortran, dtype = _read_header(stream)
        begin = stream.tell()
    if dtype.hasobject:
        raise ValueError(f"{member} holds Python objects")
    # Nothing is allocated for an array that the file cannot hold.
    claimed = dtype.itemsize * math.prod(shape)
    held = archive.getinfo(member).file_size - begin
    if any(size < 0 for size in shape) or claimed > held:
        raise ValueError(f"{member} claims {claimed:,} bytes of values and has {held:,}")
    if not claimed and shape and shape[0]:
        raise ValueError(f"{member} has rows without values")
    return _Stored(member, shape, dtype, streams=not fortran and len(shape) > 0)


def _read_header(stream: IO[bytes]) -> tuple[tuple[int, ...], bool, np.dtype[np.generic]]:
    version = np.lib.format.read_magic(stream)
    if version == (1, 0):
        return np.lib.format.read_array_header_1_0(stream)
    # Version 3 differs in the encoding of field names, which plain arrays do not have.
    return np.lib.format.read_array_header_2_0(stream)


def _rows(archive: zipfile.ZipFile, array: _Stored) -> Iterator[Array]:
    """The array's first axis, one by one, each a copy that keeps no block alive."""
    with archive.open(array.member) as stream:
        if not array.streams:
            yield from np.lib.format.read_array(stream, allow_pickle=False)
            return
        _read_header(stream)
        shape = array.shape[1:]
        size = array.dtype.itemsize * math.prod(shape)
        step = max(1, _BLOCK // max(1, size))
        for start in range(0, array.samples, step):
            count = min(step, array.samples - start)
            data = stream.read(count * size)
            if len(data) != count * size:
                raise EOFError(f"{array.member} ends early")
            block = np.frombuffer(data, dtype=array.dtype).reshape(count, *shape)
            for row in block:
                yield np.array(row)


def _check(
    path: Path, names: Mapping[str, str], stored: Mapping[str, _Stored], label: _Stored | None
) -> None:
    present = ", ".join(sorted(stored)) or "none"
    for name, held in names.items():
        if held not in stored:
            raise ConfigError(
                f"{path} has no array {held!r} for the input {name!r}; it has {present}.",
                hint=f"{nearest(held, sorted(stored))} Map it with --columns {name}=ARRAY.",
            )
    sizes = {held: stored[held].samples for held in names.values()}
    if label is not None:
        sizes["label"] = label.samples
    if len(set(sizes.values())) != 1:
        told = ", ".join(f"{name} {size}" for name, size in sizes.items())
        raise ConfigError(
            f"The arrays of {path} have different numbers of samples: {told}.",
            hint="The first axis of every array counts the samples.",
        )


def _plain(value: Array, path: Path, row: int) -> Label:
    """A label of an array as Python numbers: one, or a flat tuple of them."""
    real = np.issubdtype(value.dtype, np.integer) or np.issubdtype(value.dtype, np.floating)
    if not real and value.dtype != np.bool_:
        raise ConfigError(
            f"The labels of {path} have the type {value.dtype}.",
            hint="Write class numbers as integers, or values as floats.",
        )
    if not np.isfinite(value).all():
        told = value.item() if value.ndim == 0 else "not all finite"
        raise ConfigError(
            f"{path}, row {row}: the label is {told}.",
            hint="Drop the rows without a label, or give numbers.",
        )
    if value.ndim == 0:
        plain: Label = value.item()
        return plain
    return tuple(value.ravel().tolist())
