"""The loop: greedy or drawn answers, all rows of a batch one token further in each step."""

from __future__ import annotations

from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from edgekit.runtime.generation.decoder import Decoder
from edgekit.runtime.generation.logits import Rule, apply, draw
from edgekit.runtime.generation.options import Options
from edgekit.runtime.generation.pieces import Stops
from edgekit.runtime.generation.rules import GenerationRules
from edgekit.runtime.session import Array


@dataclass(eq=False)
class Row:
    """One answer on its way.

    ``tokens`` begin with the ``prompt`` that the decoder reads; there are at most ``most`` of them.
    ``place`` is the row's among all that a call asks: with a seed it decides what is drawn, however
    rows are batched.
    """

    prompt: Sequence[int]
    most: int
    rules: Sequence[Rule] = ()
    place: int = 0
    source: Sequence[int] = ()
    tokens: list[int] = field(default_factory=list)
    done: bool = False

    def __post_init__(self) -> None:
        self.tokens = list(self.prompt)

    @property
    def new(self) -> list[int]:
        """The tokens of the answer."""
        return self.tokens[len(self.prompt) :]


def steps(
    decoder: Decoder,
    rows: Sequence[Row],
    given: Mapping[str, Array],
    options: Options,
    rules: GenerationRules,
    stops: Stops,
) -> Generator[Sequence[Row], None, None]:
    """One more token for every row that is not done, until all are; yields those that got one.

    Closing the iterator lets the cache go. Raises SessionError, BundleCorrupt.
    """
    ends = frozenset(rules.eos)
    random = [
        np.random.default_rng(None if options.seed is None else [options.seed, row.place])
        for row in rows
        if options.do_sample
    ]
    run = decoder.begin([row.prompt for row in rows], given, rules.pad, rules.context)
    try:
        scores = run.first()
        while True:
            grown = [row for row in rows if not row.done]
            for index, row in enumerate(rows):
                if row.done:
                    continue
                own = scores[index]
                if row.rules:
                    apply(row.rules, row.tokens, own)
                token = draw(own, options, random[index]) if random else int(own.argmax())
                row.tokens.append(token)
                row.done = token in ends or len(row.tokens) >= row.most or stops(row.tokens)
            yield grown
            if all(row.done for row in rows):
                return
            # Rows that are done go on with padding, which nobody reads.
            scores = run.next([rules.pad if row.done else row.tokens[-1] for row in rows])
    finally:
        run.close()
