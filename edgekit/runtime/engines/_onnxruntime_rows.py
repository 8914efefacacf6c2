"""Rows of a batch one after the other, without their padding.

ONNX Runtime's GroupQueryAttention counts the tokens of a row from the beginning of its buffer, and
takes several tokens behind others of one row only (onnxruntime, group_query_attention_helper.h).
Rows that are filled up on the left begin elsewhere, and each runs alone where several tokens come.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edgekit.core.errors import SessionError
from edgekit.core.manifest import TensorSpec
from edgekit.runtime.caches import CAPACITY, IDS, KEPT, MASK, PLACES
from edgekit.runtime.session import Array, contiguous


@dataclass(frozen=True)
class Row:
    """A row's feeds without padding, of which there is so much before and among the new tokens.

    ``asked`` says of every new token that an answer is wanted for, in that order, whether it is
    one of this row's; padding is not.
    """

    feeds: dict[str, Array]
    before: int
    among: int
    asked: NDArray[np.bool_]


def run_apart(feeds: Mapping[str, Array], held: int) -> bool:
    """Whether rows have to run one after the other, behind so many tokens of a cache."""
    ids, mask = feeds.get(IDS), feeds.get(MASK)
    # What is missing or of another form the engine refuses itself.
    if ids is None or mask is None or ids.ndim != 2 or mask.ndim != 2:
        return False
    several = held > 0 and min(ids.shape) > 1
    return several or not mask.all()


def each_row(
    specs: Sequence[TensorSpec], feeds: Mapping[str, Array], held: int
) -> Iterator[Row | None]:
    """The feeds of every row; None for one that has no tokens yet.

    What has no row of its own is in all. Raises SessionError for a mask with gaps, and where tokens
    are asked for that are not given.
    """
    caches = {spec.name for spec in specs if CAPACITY in spec.shape}
    owned = {IDS, MASK, *caches}
    batch = {spec.shape[0] for spec in specs if spec.name in owned}
    split = {spec.name for spec in specs if spec.shape and spec.shape[0] in batch}
    count = feeds[IDS].shape[1]
    wanted = np.arange(count)
    if KEPT in feeds:
        given = feeds[KEPT].astype(np.int64)
        # Counted from the end, as the graph takes them.
        wanted = np.where(given < 0, given + count, given)
        beyond = given[(wanted < 0) | (wanted >= count)]
        if beyond.size:
            raise SessionError(
                f"{KEPT} asks for token {beyond[0]} of {count}.",
                hint="Count from 0, or from -1 at the end.",
            )
    for row, seen in enumerate(feeds[MASK] != 0):
        padding = len(seen) - int(seen.sum())
        if not seen[padding:].all():
            raise SessionError(
                "The attention mask hides tokens between others.",
                hint="Fill rows up on their left.",
            )
        before = min(padding, held)
        among = padding - before
        if padding == len(seen):
            yield None
            continue
        own: dict[str, Array] = {}
        for name, array in feeds.items():
            if name == KEPT:
                real = wanted[wanted >= among]
                # Engines are not asked for nothing.
                own[name] = (real if real.size else np.array([among])).astype(array.dtype) - among
                continue
            array = array[row : row + 1] if name in split else array
            if name in (IDS, PLACES):
                array = array[:, among:]
            elif name == MASK:
                array = array[:, padding:]
            elif name in caches:
                array = array[:, :, before:]
            own[name] = contiguous(array)
        yield Row(own, before, among, wanted >= among)


def put(answers: Array, place: int, found: Array, row: Row) -> None:
    """Write what a row was answered into the answers of all rows, of zeros; padding has none."""
    answers[place, row.asked] = found[0, : int(row.asked.sum())]


def room_for(found: Array, row: Row, batch: int) -> Array:
    """Zeros for the answers of so many rows, of which one has this one."""
    return np.zeros((batch, len(row.asked), *found.shape[2:]), found.dtype)


def whole_cache(present: Array, past: Array, row: Row) -> Array:
    """A row's cache with its padding: as it was in the past, of new tokens zeros."""
    new = [(0, 0), (0, 0), (row.among, 0), (0, 0)]
    return np.concatenate([past[:, :, : row.before], np.pad(present, new)], axis=2)
