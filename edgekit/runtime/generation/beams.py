"""Beam search: the likeliest of several answers that are followed at once.

What is kept, when an answer counts and when the search ends is transformers' `generate`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from edgekit.runtime.generation.decoder import Decoder
from edgekit.runtime.generation.logits import Scores, apply, log_chances
from edgekit.runtime.generation.loop import Row
from edgekit.runtime.generation.options import Options
from edgekit.runtime.generation.pieces import Stops
from edgekit.runtime.generation.rules import GenerationRules
from edgekit.runtime.session import Array

# What a beam is worth that must not be followed: it stays behind every other.
_OUT = np.float32(-1e9)


@dataclass(eq=False)
class _Search:
    """The beams of one answer, and the best of those that came to an end."""

    row: Row
    options: Options
    beams: list[list[int]]
    worth: NDArray[np.float32]
    ended: list[tuple[np.float32, list[int]]] = field(default_factory=list)

    def end(self, worth: np.float32, tokens: list[int]) -> None:
        """One more answer, worth the more the likelier its tokens are."""
        if not np.isfinite(worth):
            return
        length = len(tokens) - len(self.row.prompt)
        self.ended.append((worth / np.float32(length**self.options.length_penalty), tokens))
        self.ended.sort(key=lambda one: one[0], reverse=True)
        del self.ended[self.options.num_beams :]

    def over(self) -> bool:
        """Whether no beam can, or need, become better than the answers that are there."""
        options = self.options
        if len(self.ended) < options.num_beams:
            return False
        if options.early_stopping is True:
            return True
        length = len(self.beams[0])
        if options.early_stopping == "never" and options.length_penalty > 0.0:
            length = self.row.most
        length -= len(self.row.prompt)
        best = self.worth[0] / np.float32(length**options.length_penalty)
        return bool(best <= self.ended[-1][0])


def search(
    decoder: Decoder,
    row: Row,
    given: Mapping[str, Array],
    options: Options,
    rules: GenerationRules,
    stops: Stops,
) -> None:
    """Find the row's answer. ``given`` is for one row. Raises SessionError, BundleCorrupt."""
    count = options.num_beams
    ends = frozenset(rules.eos)
    worth = np.full(count, _OUT, dtype=np.float32)
    # All beams begin alike: only the first may be followed.
    worth[0] = 0.0
    found = _Search(row, options, [list(row.prompt) for _ in range(count)], worth)
    # Enough to go on with where every beam comes to an end.
    kept = max(2, 1 + len(ends)) * count
    repeated = {name: np.repeat(array, count, axis=0) for name, array in given.items()}
    run = decoder.begin(found.beams, repeated, rules.pad, rules.context)
    try:
        scores = run.first()
        while True:
            chances = log_chances(scores)
            for index, tokens in enumerate(found.beams):
                apply(row.rules, tokens, chances[index])
            if options.renormalize_logits:
                chances = log_chances(chances)
            going: list[tuple[np.float32, int, list[int]]] = []
            out: list[tuple[np.float32, int, list[int]]] = []
            sums = chances + found.worth[:, None]
            for place, (worth_of, beam, token) in enumerate(_best(sums, kept)):
                tokens = [*found.beams[beam], token]
                if token in ends or len(tokens) >= row.most or stops(tokens):
                    if place < count:
                        found.end(worth_of, tokens)
                    out.append((worth_of + _OUT, beam, tokens))
                else:
                    going.append((worth_of, beam, tokens))
            chosen = [*going, *out][:count]
            found.beams = [tokens for _, _, tokens in chosen]
            found.worth = np.array([worth_of for worth_of, _, _ in chosen], dtype=np.float32)
            if not going or found.over():
                break
            run.reorder([beam for _, beam, _ in chosen])
            scores = run.next([tokens[-1] for tokens in found.beams])
    finally:
        run.close()
    row.tokens = found.ended[0][1] if found.ended else found.beams[0]
    row.done = True


def _best(sums: Scores, count: int) -> Sequence[tuple[np.float32, int, int]]:
    """The ``count`` largest of ``[beams, vocabulary]``: (sum, beam, token), the largest first."""
    flat = sums.ravel()
    count = min(count, len(flat))
    best = np.argpartition(flat, -count)[-count:]
    best = best[np.argsort(-flat[best], kind="stable")]
    width = sums.shape[1]
    return [(flat[at], int(at) // width, int(at) % width) for at in best]
