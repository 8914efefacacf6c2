"""What a decoder keeps of the tokens it has read: inputs of a step that were outputs of the last.

Engines keep it in their own memory (`Session.decoding` of theirs); `PlainDecoding` does with
arrays for an engine that knows of no such thing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol, cast

import numpy as np
from numpy.typing import NDArray

from edgekit.core.errors import InputMismatch
from edgekit.core.manifest import TensorSpec
from edgekit.runtime.session import Array, Session

#: What the inputs of a step begin with that were outputs of the last, and how those begin.
PAST, PRESENT = "past_key_values.", "present."
#: A step's other inputs: new tokens, which of all tokens are none of padding, the positions of the
#: new ones, and the places among them whose logits are asked for (of a prompt only the last token's
#: are wanted, and the head costs as much as some layers).
IDS, MASK, PLACES, KEPT = "input_ids", "attention_mask", "position_ids", "logits_to_keep"
# The name of the axis of tokens where past and present may be one buffer that has room for more. A
# row's tokens begin at its first place then, padding left out.
CAPACITY = "capacity"


class Decoding(Protocol):
    """One batch on its way through a decoder. A thread's own; a session has many of them."""

    def step(self, feeds: Mapping[str, Array]) -> Array:
        """The first output for the next tokens of every row; what they leave behind is kept.

        ``feeds`` are the inputs that neither are kept nor were given at the beginning. The array
        is good until the next step. Raises SessionError, also where the session was closed since:
        what is kept is let go then.
        """
        ...

    def reorder(self, rows: NDArray[np.int64]) -> None:
        """Go on with these rows of what is kept, in this order; their number stays."""
        ...

    def close(self) -> None:
        """Let what is kept go. Idempotent."""
        ...


def cache_pairs(
    inputs: Sequence[TensorSpec], outputs: Sequence[TensorSpec]
) -> tuple[tuple[TensorSpec, str], ...]:
    """(input, output) of a graph's cache: the one of a step is the other of the step before.

    An input ``past_key_values.…`` without its output ``present.…`` stays what it was.
    """
    made = {spec.name for spec in outputs}
    pairs = []
    for spec in inputs:
        present = PRESENT + spec.name.removeprefix(PAST)
        if spec.name.startswith(PAST) and present in made:
            pairs.append((spec, present))
    return tuple(pairs)


def buffered(inputs: Sequence[TensorSpec], outputs: Sequence[TensorSpec]) -> str | None:
    """One of the inputs that are buffers, where a graph's cache is kept in such; else None."""
    shapes = {spec.name: spec.shape for spec in outputs}
    pairs = cache_pairs(inputs, outputs)
    for spec, present in pairs:
        if not spec.shape[2:3] == shapes[present][2:3] == (CAPACITY,):
            return None
    return pairs[0][0].name if pairs else None


def check_places(
    inputs: Sequence[TensorSpec], outputs: Sequence[TensorSpec], feeds: Mapping[str, Array]
) -> None:
    """Raise InputMismatch for positions that a graph with buffers would not go by.

    It counts the tokens of a row from the first that is no padding; other positions would be
    ignored in silence.
    """
    if buffered(inputs, outputs) is None or not {MASK, PLACES} <= feeds.keys():
        return
    places, real = feeds[PLACES], feeds[MASK] != 0
    new = slice(real.shape[1] - places.shape[1], None)
    counted = real.cumsum(axis=1)[:, new] - 1
    wrong = real[:, new] & (places != counted)
    if wrong.any():
        row, at = (int(one) for one in np.argwhere(wrong)[0])
        raise InputMismatch(
            f"{PLACES} of row {row} say {places[row, at]} where attention_mask counts"
            f" {counted[row, at]}, and this decoder was compiled to count.",
            hint="Run the bundle that it was compiled from, or count from a row's first token.",
        )


def past_name(output: str) -> str:
    """The input that takes an output ``present.…``, of the same graph or of an encoder."""
    return PAST + output.removeprefix(PRESENT)


def empty_cache(spec: TensorSpec, batch: int) -> Array:
    """What a decoder has kept before its first token: ``[batch, heads, 0, size]``."""
    sizes = [size if isinstance(size, int) else 0 for size in spec.shape[1:]]
    return np.zeros((batch, *sizes), dtype=spec.dtype)


def start_decoding(session: Session, batch: int, given: Mapping[str, Array]) -> Decoding:
    """A batch of so many rows at its beginning; ``given`` are inputs that no step changes.

    Raises SessionError when the session is closed.
    """
    own = getattr(session, "decoding", None)
    if own is None:
        return PlainDecoding(session, batch, given)
    return cast(Decoding, own(batch, given))


class PlainDecoding:
    """See `Decoding`: over any session, with arrays that go in and out."""

    def __init__(self, session: Session, batch: int, given: Mapping[str, Array]) -> None:
        self._session = session
        self._given = dict(given)
        self._first = session.outputs[0].name
        self._pairs = cache_pairs(session.inputs, session.outputs)
        self._kept = {spec.name: empty_cache(spec, batch) for spec, _ in self._pairs}

    def step(self, feeds: Mapping[str, Array]) -> Array:
        """See `Decoding.step`."""
        made = self._session.run({**self._given, **self._kept, **feeds})
        self._kept = {spec.name: made[present] for spec, present in self._pairs}
        return made[self._first]

    def reorder(self, rows: NDArray[np.int64]) -> None:
        """See `Decoding.reorder`."""
        self._kept = {name: array[rows] for name, array in self._kept.items()}

    def close(self) -> None:
        """See `Decoding.close`."""
        self._kept.clear()
