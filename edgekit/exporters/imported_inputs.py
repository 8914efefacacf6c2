"""Inputs for a model of which nothing is known but its graph: axes with names, sizes, numbers."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from edgekit.core.errors import ConfigError, InputMismatch
from edgekit.core.manifest import TensorSpec
from edgekit.graph.onnx_foreign import Port
from edgekit.runtime.batching import batch_symbol
from edgekit.runtime.inputs import InputCheck
from edgekit.runtime.session import contiguous

Array: TypeAlias = NDArray[np.generic]
Feeds: TypeAlias = Mapping[str, Array]

BATCH = "batch"
# Sizes to try where a dimension varies and nothing says what it stands for: of texts, of pictures,
# of sounds.
_SIZES = (16, 64, 224, 512, 256, 1)
_BATCHES = (2, 1)
# A made-up input of more is more than a machine wants to hold several of.
_MOST_BYTES = 256 << 20
# One call may need as much where no smaller one can be made up.
_LARGEST_BYTES = 1 << 30
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_.]*\Z")


@dataclass(frozen=True, eq=False)
class Sampled:
    """Inputs with the model's answers, and the size that each dimension had."""

    inputs: Feeds
    outputs: Feeds
    sizes: Mapping[str, int]

    @staticmethod
    def of(specs: Sequence[TensorSpec], feeds: Feeds, outputs: Feeds) -> Sampled:
        """What a run was, with the sizes read from its inputs."""
        sizes = {
            dim: feeds[spec.name].shape[axis]
            for spec in specs
            for axis, dim in enumerate(spec.shape)
            if isinstance(dim, str)
        }
        return Sampled(feeds, dict(outputs), sizes)


def name_axes(ports: Sequence[Port], samples: Feeds | None) -> tuple[TensorSpec, ...]:
    """The inputs with a name for every axis that varies, one that an option could hold.

    First axes without a name are the batch, unless samples show that they are not one and the same.
    """
    shared = _one_batch(ports, samples)
    declared = (dim for port in ports for dim in port.shape or () if isinstance(dim, str))
    taken = {BATCH, *filter(_NAME.match, declared)}
    specs = []
    for port in ports:
        shape: list[int | str] = []
        for axis, dim in enumerate(port.shape or ()):
            if isinstance(dim, int) or (dim is not None and _NAME.match(dim)):
                shape.append(dim)
            elif dim is None and axis == 0 and shared:
                shape.append(BATCH)
            else:
                shape.append(_new_name(port.name, axis, taken))
        specs.append(TensorSpec(port.name, port.dtype, tuple(shape)))
    return tuple(specs)


def _new_name(port: str, axis: int, taken: set[str]) -> str:
    """A name for an axis, after its input, that no other axis has; it is `taken` from then on."""
    plain = re.sub(r"[^A-Za-z0-9_]", "_", f"{port}_{axis}")
    plain = f"input_{plain}" if plain[0].isdigit() else plain
    names = (plain, *(f"{plain}_{number}" for number in range(2, len(taken) + 3)))
    name = next(name for name in names if name not in taken)
    taken.add(name)
    return name


def _one_batch(ports: Sequence[Port], samples: Feeds | None) -> bool:
    firsts = [port for port in ports if port.shape and port.shape[0] is None]
    if samples is None:
        return True
    sizes = {samples[port.name].shape[:1] for port in firsts if port.name in samples}
    return len(sizes) <= 1


def check_feeds(specs: Sequence[TensorSpec], samples: Feeds) -> None:
    """Raise ConfigError for samples that are not what the model takes."""
    try:
        InputCheck(specs)(samples)
    except InputMismatch as error:
        raise ConfigError(
            f"--samples does not fit the model: {error.message}", hint=error.hint
        ) from error
    for name, array in samples.items():
        if array.dtype.kind == "f" and not np.isfinite(array.astype(np.float64)).all():
            raise ConfigError(
                f"--samples holds infinities in {name!r}.", hint="Give numbers of real inputs."
            )


def drawn_feeds(specs: Sequence[TensorSpec], seed: int) -> Iterator[Feeds]:
    """Made-up inputs, those first that are likeliest to be taken.

    Floats are normal; whole numbers are 0 and 1, which every embedding and every mask takes, but
    for those of a byte in three or more axes, which are pictures.
    There are none where one call needs more memory than a machine may have.
    """
    symbols = dict.fromkeys(dim for spec in specs for dim in spec.shape if isinstance(dim, str))
    batch = batch_symbol(specs)
    seen: set[tuple[tuple[str, int], ...]] = set()
    for size in _SIZES:
        for rows in _BATCHES:
            sizes = {symbol: rows if symbol == batch else size for symbol in symbols}
            key = tuple(sorted(sizes.items()))
            if key in seen or not fits(specs, sizes):
                continue
            seen.add(key)
            yield draw_feeds(specs, sizes, seed)
    smallest = dict.fromkeys(symbols, 1)
    if not seen and bytes_of(specs, smallest) <= _LARGEST_BYTES:
        # One row of what is fixed may be that large.
        yield draw_feeds(specs, smallest, seed)


def other_sizes(specs: Sequence[TensorSpec], found: Sampled, symbol: str) -> list[int]:
    """Sizes of a dimension to try beside that of a run, as far as memory allows."""
    size = found.sizes[symbol]
    wanted = (1, 3, 2) if symbol == batch_symbol(specs) else (2 * size, size + 1, size // 2)
    return [
        other
        for other in wanted[: 2 if size in (1, 2, 3) else 3]
        if other not in (0, size) and fits(specs, {**found.sizes, symbol: other})
    ]


def draw_feeds(specs: Sequence[TensorSpec], sizes: Mapping[str, int], seed: int) -> Feeds:
    """One call's inputs at the sizes, the same for the same seed."""
    random = np.random.default_rng(seed)
    return {spec.name: _drawn(random, spec, _shape(spec, sizes)) for spec in specs}


def resized(
    specs: Sequence[TensorSpec], feeds: Feeds, sizes: Mapping[str, int], seed: int
) -> Feeds:
    """Inputs cut, or gone round again, to other sizes: numbers that the model knows stay such."""
    made: dict[str, Array] = {}
    for spec in specs:
        array = feeds[spec.name]
        for axis, size in enumerate(_shape(spec, sizes)):
            if array.shape[axis] == 0:
                array = _drawn(np.random.default_rng(seed), spec, _shape(spec, sizes))
                break
            if array.shape[axis] != size:
                array = np.take(array, np.arange(size) % array.shape[axis], axis=axis)
        made[spec.name] = contiguous(array).reshape(_shape(spec, sizes))
    return made


def _shape(spec: TensorSpec, sizes: Mapping[str, int]) -> tuple[int, ...]:
    return tuple(sizes[dim] if isinstance(dim, str) else dim for dim in spec.shape)


def _drawn(random: np.random.Generator, spec: TensorSpec, shape: tuple[int, ...]) -> Array:
    dtype = np.dtype(spec.dtype)
    if dtype.kind == "f":
        return np.asarray(random.standard_normal(shape)).astype(dtype)
    if dtype.itemsize == 1 and dtype.kind in "iu" and len(shape) >= 3:
        # A picture: of zeros and ones it would be black.
        return random.integers(0, 256, size=shape, dtype=np.uint8).view(dtype)
    return np.asarray(random.integers(0, 2, size=shape)).astype(dtype)


def fits(specs: Sequence[TensorSpec], sizes: Mapping[str, int]) -> bool:
    """Whether one of several made-up calls may have these sizes."""
    return bytes_of(specs, sizes) <= _MOST_BYTES


def bytes_of(specs: Sequence[TensorSpec], sizes: Mapping[str, int]) -> int:
    """What the inputs of one call take at the sizes."""
    return sum(
        # An axis of nothing hides others that are too large for any array.
        math.prod(max(1, size) for size in _shape(spec, sizes)) * np.dtype(spec.dtype).itemsize
        for spec in specs
    )
