"""A decoder as the loop sees it: a token of every row in, the scores of the next ones out."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from edgekit.core.errors import BundleCorrupt, SessionError
from edgekit.runtime.caches import IDS, KEPT, MASK, PLACES, cache_pairs, start_decoding
from edgekit.runtime.generation.logits import Ints, Scores
from edgekit.runtime.session import Array, Session


class Decoder:
    """What a decoder's graph takes. Raises BundleCorrupt for an input that nobody gives."""

    def __init__(self, session: Session, given: Sequence[str] = ()) -> None:
        self.session = session
        self.inputs = frozenset(spec.name for spec in session.inputs)
        cached = {spec.name for spec, _ in cache_pairs(session.inputs, session.outputs)}
        unknown = self.inputs - cached - {IDS, MASK, PLACES, KEPT} - set(given)
        if unknown or not cached or IDS not in self.inputs:
            wrong = ", ".join(sorted(unknown)) or f"no {IDS}" if cached else "no cache"
            raise BundleCorrupt(
                f"The decoder takes {wrong}: this edgekit gives it input_ids, attention_mask,"
                " position_ids, logits_to_keep and a cache.",
                hint="Export the bundle again.",
            )

    def begin(
        self,
        prompts: Sequence[Sequence[int]],
        given: Mapping[str, Array],
        pad: int,
        context: int | None = None,
    ) -> Run:
        """A batch at its beginning; nothing has run yet. ``context`` is how many positions exist.

        Raises SessionError when the session is closed, and for prompts of several lengths where
        the graph has no mask that would hide padding.
        """
        lengths = sorted({len(prompt) for prompt in prompts})
        if len(lengths) > 1 and MASK not in self.inputs:
            raise SessionError(
                f"The decoder takes no {MASK}, and so no prompts of {lengths[0]:,} and of"
                f" {lengths[-1]:,} tokens in one batch.",
                hint="Set batch_size=1.",
            )
        return Run(self, prompts, given, pad, context)


class Run:
    """One batch on its way; a thread's own."""

    def __init__(
        self,
        decoder: Decoder,
        prompts: Sequence[Sequence[int]],
        given: Mapping[str, Array],
        pad: int,
        context: int | None,
    ) -> None:
        width = max(len(prompt) for prompt in prompts)
        self._inputs = decoder.inputs
        self._ids: Ints = np.full((len(prompts), width), pad, dtype=np.int64)
        self._mask: Ints = np.zeros((len(prompts), 2 * width + 64), dtype=np.int64)
        for row, prompt in enumerate(prompts):
            self._ids[row, width - len(prompt) :] = prompt
            self._mask[row, width - len(prompt) :] = 1
        real = self._mask[:, :width]
        # Where padding stands does not matter: nothing looks at it.
        self._places: Ints = np.maximum(real.cumsum(axis=1) - 1, 0)
        self._last = np.iinfo(np.int64).max if context is None else context - 1
        # The furthest position of a row.
        self._reached = width - 1
        self._total = 0
        # Beside a small model's token making arrays takes its time: these serve again.
        self._new: Ints = np.zeros((len(prompts), 1), dtype=np.int64)
        self._only: Ints = np.zeros(1, dtype=np.int64)
        self._scores: Scores | None = None
        self._decoding = start_decoding(decoder.session, len(prompts), given)

    def first(self) -> Scores:
        """The scores ``[rows, vocabulary]`` of the token behind each prompt; see `next`."""
        return self._read(self._ids, np.array([self._ids.shape[1] - 1], dtype=np.int64))

    def every(self, most: int) -> Iterator[tuple[slice, Array]]:
        """The scores behind every token of the prompts, `most` places of all rows at a time.

        In the place of `first`. With each come the places, counted in prompts that are filled up on
        the left; the scores ``[rows, places, vocabulary]`` are good until the next are asked for.
        """
        ids, places = self._ids, self._places
        for start in range(0, ids.shape[1], most):
            part = slice(start, min(start + most, ids.shape[1]))
            self._places = np.ascontiguousarray(places[:, part])
            some = np.ascontiguousarray(ids[:, part])
            yield part, self._step(some, np.arange(some.shape[1], dtype=np.int64))

    def next(self, tokens: Sequence[int]) -> Scores:
        """The scores of the token behind one more of each row.

        They are the caller's to change, until the next are asked for.
        """
        self._new[:, 0] = tokens
        places = self._places[:, -1:]
        if self._reached < self._last:
            self._reached += 1
            self._places = places + 1
        else:
            # A row that filled its context goes on with padding while others are not done.
            self._make_room(1)
            self._mask[places[:, 0] >= self._last, self._total] = 0
            self._places = np.minimum(places + 1, self._last)
        return self._read(self._new, self._only)

    def reorder(self, rows: Sequence[int]) -> None:
        """Go on with these rows; see `edgekit.runtime.caches.Decoding.reorder`.

        The rows that change places have one prompt: their masks are alike.
        """
        if list(rows) != list(range(len(rows))):
            self._decoding.reorder(np.array(rows, dtype=np.int64))

    def close(self) -> None:
        """Let the cache go."""
        self._decoding.close()

    def _read(self, ids: Ints, kept: Ints) -> Scores:
        last = self._step(ids, kept)[:, -1]
        if self._scores is None:
            self._scores = np.empty(last.shape, dtype=np.float32)
        # A copy: engines use their memory again, and rules change scores in place.
        scores = self._scores
        scores[...] = last
        if any(map(math.isnan, scores[:, 0].tolist())):
            raise SessionError(
                "The decoder answers NaN.",
                hint="Run the bundle in a wider precision; edgekit verify compares its answers.",
            )
        return scores

    def _step(self, ids: Ints, kept: Ints) -> Array:
        """The logits behind the next tokens of every row, of those places that are `kept`."""
        self._make_room(ids.shape[1])
        self._total += ids.shape[1]
        feeds: dict[str, Array] = {IDS: ids}
        if MASK in self._inputs:
            feeds[MASK] = np.ascontiguousarray(self._mask[:, : self._total])
        if PLACES in self._inputs:
            feeds[PLACES] = self._places
        if KEPT in self._inputs:
            feeds[KEPT] = kept
        return self._decoding.step(feeds)

    def _make_room(self, more: int) -> None:
        """Let the mask reach over so many more tokens."""
        if self._total + more > self._mask.shape[1]:
            self._mask = np.concatenate([self._mask, np.ones_like(self._mask)], axis=1)
