"""How likely texts are to a decoder and to its original: both read the same tokens."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from edgekit.core.errors import ConfigError
from edgekit.evaluation.counting import Counted
from edgekit.evaluation.generation.original import Original
from edgekit.evaluation.generation.readers import BundleReader, OriginalReader, Reader
from edgekit.evaluation.generation.windows import Window, surprises, texts_of, windows_of
from edgekit.evaluation.naming import asking, reading
from edgekit.evaluation.numerics import add_outputs
from edgekit.evaluation.pairs import Pairs
from edgekit.evaluation.statistics import Floats
from edgekit.runtime.batching import plan_batches
from edgekit.runtime.model import Model
from edgekit.runtime.session import Array
from edgekit.runtime.text import encode
from edgekit.sources.data import LEAST_VERDICT_ROWS, Samples
from edgekit.sources.quiet import quiet

# Rows of one run: padding is little, and half a dozen of them fill the cores.
_ROWS = 8
# Of each so many tokens the whole distributions are compared, which takes as long as some layers.
_EVERY = 8


class _Scores(NamedTuple):
    """How a window's tokens in one part of it are foretold: how surprising each of them is.

    ``some`` are the logits of each eighth, None of what was read for another bundle before: they
    would take too much memory.
    """

    surprises: Floats
    some: Array | None


def run_likelihoods(
    model: Model,
    original: Original,
    samples: Samples,
    *,
    notes: list[str],
    progress: Callable[[str], None] = lambda text: None,
) -> Pairs:
    """Of every text its log-likelihood and its tokens, by the bundle and by PyTorch.

    Both read the bundle's tokens, and the same ones at once; where transformers' tokenizer makes
    others of a text, ``notes`` say so. The distances are those of the logits at each eighth token;
    of texts that the original has read for another bundle there are none.

    Raises:
        ConfigError: no text has a token that another one stands before.
        InputMismatch: a text that cannot be tokenized, or that a model refuses.
    """
    candidate = BundleReader(model)
    tokens = _tokens(candidate, samples)
    others = _otherwise(original.source.tokenizer, samples, tokens)
    if others:
        notes.append(
            f"{others:,} of {len(samples):,} texts have other tokens in transformers than in the"
            " bundle; both models have read the bundle's."
        )
    silent = sum(len(row) < 2 for row in tokens)
    least = LEAST_VERDICT_ROWS if len(tokens) >= LEAST_VERDICT_ROWS else 1
    if len(tokens) - silent < least:
        raise ConfigError(
            f"Of {len(samples):,} texts {len(tokens) - silent:,} have two tokens, so that a second"
            f" one can be foretold; it takes {least}.",
            hint="Give longer texts.",
        )
    if silent:
        lacks = "has" if silent == 1 else "have"
        notes.append(
            f"Of {len(samples):,} texts {silent:,} {lacks} no second token that could be foretold:"
            " nothing of them counts."
        )
    windows = [
        window
        for sample, row in enumerate(tokens)
        for window in windows_of(sample, row, candidate.rules.context)
    ]
    cut = len({window.sample for window in windows if window.first > 1})
    if cut:
        longest = max(len(window.tokens) for window in windows)
        notes.append(
            f"{_counted(cut)} read in windows of {longest:,} tokens, each half a window behind the"
            " one before."
        )
    return _compare(original, candidate, windows, samples, progress)


def _compare(
    original: Original,
    candidate: BundleReader,
    windows: Sequence[Window],
    samples: Samples,
    progress: Callable[[str], None],
) -> Pairs:
    """What both say to the windows of some samples.

    A prediction is ``[log-likelihood, tokens]``; the gap of a sample is the difference per token.
    """
    reference = OriginalReader(original, candidate)
    sums = np.zeros((2, len(samples)))
    counts = np.zeros(len(samples))
    pairs = Pairs([], [], [0.0] * len(samples))
    total = sum(window.scored for window in windows)
    counted = Counted(progress, total)
    done = 0
    for indices in plan_batches([len(window.tokens) for window in windows], _ROWS):
        batch = [windows[index] for index in indices]
        most = candidate.places(len(batch))
        asked = (most, *((window.first, *window.tokens) for window in batch))
        both = zip(
            original.parts(asked, _scores(reference, batch, most), _without_logits),
            _scores(candidate, batch, most),
            strict=True,
        )
        with asking(samples, [window.sample for window in batch]):
            for expected, found in both:
                for window, theirs, ours in zip(batch, expected, found, strict=True):
                    told = len(ours.surprises)
                    sums[:, window.sample] += theirs.surprises.sum(), ours.surprises.sum()
                    counts[window.sample] += told
                    done += told
                    if told and theirs.some is not None and ours.some is not None:
                        add_outputs(
                            pairs.distances,
                            "text-generation",
                            {"logits": theirs.some},
                            {"logits": ours.some},
                        )
                counted.tell(f"Read {done:,} of {total:,} tokens", done)
    for sample in range(len(samples)):
        before, after = (np.array([-side[sample], counts[sample]]) for side in sums)
        pairs.reference.append(before)
        pairs.candidate.append(after)
        if counts[sample]:
            pairs.gaps[sample] = float(abs(after[0] - before[0]) / counts[sample])
        if not np.isfinite(after[0]):
            pairs.broken.add(sample)
    return pairs


def _scores(reader: Reader, batch: Sequence[Window], most: int) -> Iterator[list[_Scores]]:
    """How a model foretells the windows of a batch, `most` places of all of them at a time."""
    rows = [window.tokens for window in batch]
    width = max(map(len, rows))
    for places, logits in reader.every(rows, most):
        part = []
        for window, own in zip(batch, logits, strict=True):
            # Prompts are filled up on the left, and a place foretells the next one.
            left = width - len(window.tokens)
            first = max(int(places.start), left + window.first - 1)
            last = max(first, min(int(places.stop), width - 1))
            scores = np.asarray(own[first - places.start : last - places.start])
            targets = window.tokens[first + 1 - left : last + 1 - left]
            part.append(_Scores(surprises(scores, targets), scores[::_EVERY]))
        yield part


def _without_logits(part: Sequence[_Scores]) -> list[_Scores]:
    return [scores._replace(some=None) for scores in part]


def _tokens(candidate: BundleReader, samples: Samples) -> list[Sequence[int]]:
    """The tokens of every text. Raises ConfigError, naming the row of DATA."""
    found: list[Sequence[int]] = []
    for index, text in enumerate(texts_of(samples)):
        with reading(samples, index):
            found.append(encode(candidate.tokenizer, text).ids)
    return found


def _otherwise(tokenizer: Any, samples: Samples, tokens: Sequence[Sequence[int]]) -> int:
    """How many texts transformers' own tokenizer makes other tokens of."""
    if tokenizer is None:
        return 0
    with quiet():
        return sum(
            list(tokenizer(text)["input_ids"]) != list(own)
            for text, own in zip(texts_of(samples), tokens, strict=True)
        )


def _counted(number: int) -> str:
    return "1 text is" if number == 1 else f"{number:,} texts are"
