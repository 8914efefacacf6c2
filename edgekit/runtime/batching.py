"""Which rows run together, so that little is computed on padding, and along which axis."""

from __future__ import annotations

from collections.abc import Sequence

from edgekit.core.manifest import TensorSpec

BATCH = 32


def plan_batches(lengths: Sequence[int], limit: int) -> list[list[int]]:
    """The indices of `lengths` in batches of at most `limit`, longest rows first.

    Neighbours in length go together, and a batch ends where a row would be filled up by more than
    a quarter (or 16 tokens): beyond that a call of its own is cheaper than the padding.
    """
    order = sorted(range(len(lengths)), key=lambda index: -lengths[index])
    batches: list[list[int]] = []
    longest = 0
    for index in order:
        length = lengths[index]
        waste = longest - length
        if not batches or len(batches[-1]) >= limit or waste > max(16, longest // 4):
            batches.append([])
            longest = length
        batches[-1].append(index)
    return batches


def batch_symbol(specs: Sequence[TensorSpec]) -> str | None:
    """The name of the batch dimension: ``batch``, else the first dimension that varies first."""
    names = [size for spec in specs for size in spec.shape if isinstance(size, str)]
    if "batch" in names:
        return "batch"
    firsts = [spec.shape[0] for spec in specs if spec.shape]
    return next((size for size in firsts if isinstance(size, str)), None)


def fixed_batch(specs: Sequence[TensorSpec], name: str) -> int | None:
    """The rows that a graph takes at once in an input, where it fixes them."""
    size = next(spec.shape[0] for spec in specs if spec.name == name)
    return size if isinstance(size, int) else None
