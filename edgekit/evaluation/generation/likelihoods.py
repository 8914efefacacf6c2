"""How likely texts are to a decoder and to its original: both read the same tokens."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from edgekit.core.errors import ConfigError, InputMismatch
from edgekit.evaluation.counting import Counted
from edgekit.evaluation.generation.readers import BundleReader, OriginalReader, Reader
from edgekit.evaluation.generation.windows import Window, surprises, texts_of, windows_of
from edgekit.evaluation.numerics import add_outputs
from edgekit.evaluation.pairs import Pairs
from edgekit.evaluation.statistics import Floats
from edgekit.runtime.batching import plan_batches
from edgekit.runtime.model import Model
from edgekit.runtime.session import Array
from edgekit.runtime.text import encode
from edgekit.sources.data import LEAST_VERDICT_ROWS, Samples
from edgekit.sources.quiet import quiet

if TYPE_CHECKING:
    from edgekit.sources.loaded import LoadedSource

# Rows of one run: padding is little, and half a dozen of them fill the cores.
_ROWS = 8
# Of each so many tokens the whole distributions are compared, which takes as long as some layers.
_EVERY = 8


def run_likelihoods(
    model: Model,
    source: LoadedSource,
    samples: Samples,
    *,
    notes: list[str],
    progress: Callable[[str], None] = lambda text: None,
) -> Pairs:
    """Of every text its log-likelihood and its tokens, by the bundle and by PyTorch.

    Both read the bundle's tokens, and the same ones at once; where transformers' tokenizer makes
    others of a text, ``notes`` say so. The distances are those of the logits at each eighth token.

    Raises:
        ConfigError: no text has a token that another one stands before; a reference that is no
            checkpoint.
        InputMismatch: a text that cannot be tokenized, or that a model refuses.
    """
    candidate = BundleReader(model)
    reference = OriginalReader(source, candidate.rules.pad)
    tokens = _tokens(candidate, samples)
    others = _otherwise(source, samples, tokens)
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
    return compare(candidate, reference, windows, len(samples), progress)


def compare(
    candidate: BundleReader,
    reference: Reader,
    windows: Sequence[Window],
    samples: int,
    progress: Callable[[str], None] = lambda text: None,
) -> Pairs:
    """What both say to the windows of so many samples.

    A prediction is ``[log-likelihood, tokens]``; the gap of a sample is the difference per token.
    """
    sums = np.zeros((2, samples))
    counts = np.zeros(samples)
    pairs = Pairs([], [], [0.0] * samples)
    total = sum(window.scored for window in windows)
    counted = Counted(progress, total)
    done = 0
    for indices in plan_batches([len(window.tokens) for window in windows], _ROWS):
        batch = [windows[index] for index in indices]
        rows = [window.tokens for window in batch]
        width, most = max(map(len, rows)), candidate.places(len(rows))
        both = zip(reference.every(rows, most), candidate.every(rows, most), strict=True)
        for (places, expected), (_, found) in both:
            for row, window in enumerate(batch):
                own = expected[row], found[row]
                done += _add(pairs, sums, counts, window, width, places, own)
            counted.tell(f"Read {done:,} of {total:,} tokens", done)
    for sample in range(samples):
        before, after = (np.array([-side[sample], counts[sample]]) for side in sums)
        pairs.reference.append(before)
        pairs.candidate.append(after)
        if counts[sample]:
            pairs.gaps[sample] = float(abs(after[0] - before[0]) / counts[sample])
        if not np.isfinite(after[0]):
            pairs.broken.add(sample)
    return pairs


def _add(
    pairs: Pairs,
    sums: Floats,
    counts: Floats,
    window: Window,
    width: int,
    places: slice,
    logits: tuple[Array, Array],
) -> int:
    """Count the tokens of a window that `places` foretell; how many these are."""
    if logits[0].shape != logits[1].shape:
        raise InputMismatch(
            f"The bundle scores {list(logits[1].shape)} of {places.stop - places.start} tokens, the"
            f" reference {list(logits[0].shape)}.",
            hint="Check that bundle and reference are the same model.",
        )
    # Prompts are filled up on the left, and a place foretells the next one.
    left = width - len(window.tokens)
    first = max(int(places.start), left + window.first - 1)
    last = min(int(places.stop), width - 1)
    if first >= last:
        return 0
    own = slice(first - places.start, last - places.start)
    targets = window.tokens[first + 1 - left : last + 1 - left]
    for side, scores in enumerate(logits):
        sums[side, window.sample] += surprises(scores[own], targets).sum()
    told = int(last - first)
    counts[window.sample] += told
    some = [np.asarray(scores[own][::_EVERY]) for scores in logits]
    add_outputs(pairs.distances, "text-generation", {"logits": some[0]}, {"logits": some[1]})
    return told


def _tokens(candidate: BundleReader, samples: Samples) -> list[Sequence[int]]:
    """The tokens of every text. Raises ConfigError, naming the row of DATA."""
    found: list[Sequence[int]] = []
    for index, text in enumerate(texts_of(samples)):
        try:
            found.append(encode(candidate.tokenizer, text).ids)
        except InputMismatch as error:
            raise ConfigError(
                f"Row {samples.row(index)} of DATA cannot be read: {error.message}",
                hint=error.hint,
            ) from error
    return found


def _otherwise(source: LoadedSource, samples: Samples, tokens: Sequence[Sequence[int]]) -> int:
    """How many texts transformers' own tokenizer makes other tokens of."""
    tokenizer: Any = source.tokenizer
    if tokenizer is None:
        return 0
    with quiet():
        return sum(
            list(tokenizer(text)["input_ids"]) != list(own)
            for text, own in zip(texts_of(samples), tokens, strict=True)
        )


def _counted(number: int) -> str:
    return "1 text is" if number == 1 else f"{number:,} texts are"
