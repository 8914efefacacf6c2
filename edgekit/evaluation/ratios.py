"""Latency ratios with intervals, from several processes per contender: a hierarchical bootstrap.

Two fresh processes of one program differ by more than their samples tell (memory layout, huge
pages, where the threads landed), so processes are a level of sampling of their own; and what a
shared machine does changes from second to second, so turns are one, too. The contenders of a round
took their turns side by side, and what disturbed a pair of turns cancels in the ratio of their
medians. A round's ratio is the middle of those: the mean of their inner half, the interquartile
mean. A resample draws rounds, turns within them and samples within those. The rounds' ratios are
brought together by the Hodges–Lehmann estimator, the median over all pairs of their means: nearly
as sharp as the mean, and one stalled process does not move it.

With few processes a percentile interval is too narrow; its deviations are widened on the log scale
by √(k/(k−1))·t(k−1)/z, which makes it Student's interval where that one is exact (T. Hesterberg:
What teachers should know about the bootstrap, The American Statistician 69, 2015, section 5.2;
J. Hodges, E. Lehmann: Estimates of location based on rank tests, Annals of Mathematical
Statistics 34, 1963).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from edgekit.core.measurements import Comparison, Interval
from edgekit.evaluation.statistics import Floats, student_975
from edgekit.runtime.timing import quantile

RESAMPLES = 2000
_BLOCK = 1_000_000
# Drawn from one process at most: beyond, the processes decide how wide an interval is.
_MOST_DRAWN = 2000
_NORMAL_975 = 1.959963984540054

# The times of one contender at one workload, in one unit: per round the samples of its process…
Rounds = Sequence[Floats]
# …and the same kept apart by the turns they were taken in.
Turns = Sequence[Sequence[Floats]]
# Which rounds a resample consists of: `[resamples, rounds]`.
Picks: TypeAlias = NDArray[np.int64]


@dataclass(frozen=True)
class RatioEstimate(Interval):
    """quantile(a) / quantile(b) with its 95 % interval; above 1, b is faster."""

    @property
    def resolvable(self) -> float:
        """The smallest ratio that an interval of this width would have told from 1."""
        return math.sqrt(self.high / self.low) if self.low > 0 else math.inf

    @property
    def verdict(self) -> Comparison:
        """Of b against a."""
        return "faster" if self.low > 1 else "slower" if self.high < 1 else "not resolved"


def ratio(
    a: Rounds, b: Rounds, *, q: float = 0.5, seed: int = 0, resamples: int = RESAMPLES
) -> RatioEstimate:
    """The ratio of the q-quantiles of two contenders that took one turn in each round.

    Raises ValueError when the rounds do not match or one of them is empty.
    """
    pair = ([[times] for times in a], [[times] for times in b])
    return mean_ratio([pair], q=q, seed=seed, resamples=resamples)


def turn_ratio(
    a: Turns, b: Turns, *, q: float = 0.5, seed: int = 0, resamples: int = RESAMPLES
) -> RatioEstimate:
    """The same for contenders that took several turns, which are compared one by one."""
    return mean_ratio([(a, b)], q=q, seed=seed, resamples=resamples)


def mean_ratio(
    pairs: Sequence[tuple[Turns, Turns]],
    *,
    q: float = 0.5,
    seed: int = 0,
    resamples: int = RESAMPLES,
) -> RatioEstimate:
    """The geometric mean of the ratios of several workloads measured in the same processes.

    The same rounds are drawn for every workload, for a process that is slow at one is slow at all.
    Raises ValueError as `ratio` does.
    """
    if not pairs:
        raise ValueError("a ratio needs at least one pair")
    rounds = len(pairs[0][0])
    for a, b in pairs:
        if len(a) != rounds or [len(turns) for turns in a] != [len(turns) for turns in b]:
            raise ValueError("contenders of one ratio have one process in every round and turn")
        if not rounds or any(not len(turns) for turns in a):
            raise ValueError("a ratio needs samples in every round")
        if any(not len(times) for turns in (*a, *b) for times in turns):
            raise ValueError("a ratio needs samples in every round")
    measured = np.zeros(rounds)
    for a, b in pairs:
        measured += _round_logs(a, b, q) / len(pairs)
    value = float(hodges_lehmann(measured[None])[0])
    if rounds == 1:
        return RatioEstimate(math.exp(value), 0.0, math.inf)
    generator = np.random.default_rng(seed)
    picks = generator.integers(0, rounds, size=(resamples, rounds))
    draws = np.zeros((resamples, rounds))
    for a, b in pairs:
        draws += _drawn_ratios(a, b, picks, q, generator) / len(pairs)
    low, high = widened(hodges_lehmann(draws), value, rounds)
    # An interval of a skewed sample may end beside its own estimate.
    low, high = min(low, value), max(high, value)
    return RatioEstimate(math.exp(value), math.exp(low), math.exp(high))


def hodges_lehmann(values: Floats) -> Floats:
    """The median of the means of all pairs (each value with itself, too), along the last axis."""
    first, second = np.triu_indices(values.shape[-1])
    return np.asarray(np.median((values[..., first] + values[..., second]) / 2, axis=-1))


def middle(values: Floats) -> Floats:
    """The mean of the inner half along the last axis: a quarter of the values is cut at each end.

    Nearly as sharp as the mean where nothing disturbs, and moved by no turn that was.
    """
    cut = values.shape[-1] // 4
    ordered = np.sort(values, axis=-1)
    return np.asarray(ordered[..., cut : values.shape[-1] - cut].mean(axis=-1))


def _round_logs(a: Turns, b: Turns, q: float) -> Floats:
    """The logarithm of every round's ratio."""
    return np.array(
        [
            float(
                middle(
                    np.array(
                        [
                            math.log(quantile([mine], q) / quantile([other], q))
                            for mine, other in zip(ours, theirs, strict=True)
                        ]
                    )
                )
            )
            for ours, theirs in zip(a, b, strict=True)
        ]
    )


def _drawn_ratios(
    a: Turns, b: Turns, picks: Picks, q: float, generator: np.random.Generator
) -> Floats:
    """The same for a fresh resample of the turns of each picked round, shaped like `picks`."""
    counts = np.array([len(turns) for turns in a])
    each = max(1, int(np.median(counts)))
    ours, theirs = _Sorted.of(a), _Sorted.of(b)
    results = np.empty(picks.shape)
    block = max(1, _BLOCK // (each * picks.shape[1]))
    for start in range(0, len(picks), block):
        rounds = picks[start : start + block, :, None]
        drawn = generator.random((*rounds.shape[:2], each)) * counts[rounds]
        turns = drawn.astype(np.int64)
        logs = ours.drawn_logs(rounds, turns, q, generator)
        logs -= theirs.drawn_logs(rounds, turns, q, generator)
        results[start : start + block] = middle(logs)
    return results


@dataclass(frozen=True)
class _Sorted:
    """Times in order, `[rounds, turns, samples]` with the rest empty, and how many there are."""

    times: Floats
    sizes: NDArray[np.int64]

    @classmethod
    def of(cls, rounds: Turns) -> _Sorted:
        """The times of one contender."""
        turns = max(len(round_) for round_ in rounds)
        most = max(len(times) for round_ in rounds for times in round_)
        padded = np.ones((len(rounds), turns, most))
        sizes = np.ones((len(rounds), turns), dtype=np.int64)
        for row, round_ in enumerate(rounds):
            for column, times in enumerate(round_):
                padded[row, column, : len(times)] = np.sort(times)
                sizes[row, column] = len(times)
        return cls(padded, sizes)

    def drawn_logs(
        self, rounds: Picks, turns: Picks, q: float, generator: np.random.Generator
    ) -> Floats:
        """The logarithm of the q-quantile of a resample of each picked turn.

        A resample of n values has as its q-quantile the value at the place of the ⌈qn⌉-th smallest
        of n uniform numbers, and that number is drawn from its Beta distribution: nothing is
        resampled.
        """
        size = self.sizes[rounds, turns]
        rank = np.ceil(q * size)
        place = (generator.beta(rank, size - rank + 1) * size).astype(np.int64)
        return np.asarray(np.log(self.times[rounds, turns, np.minimum(place, size - 1)]))


def quantile_interval(
    times: Rounds, q: float, *, seed: int = 0, resamples: int = RESAMPLES
) -> tuple[float, float]:
    """The 95 % interval of a contender's q-quantile over its processes, in the unit of `times`."""
    rounds = len(times)
    if rounds < 2:
        return 0.0, math.inf
    generator = np.random.default_rng(seed)
    picks = generator.integers(0, rounds, size=(resamples, rounds))
    draws = np.log(resampled_quantile(times, picks, q, generator))
    low, high = widened(draws, math.log(quantile(times, q)), rounds)
    return math.exp(low), math.exp(high)


def widened(draws: Floats, value: float, clusters: int) -> tuple[float, float]:
    """The percentile interval around `value`, widened for the number of clusters drawn (≥ 2)."""
    factor = math.sqrt(clusters / (clusters - 1)) * student_975(clusters - 1) / _NORMAL_975
    low, high = np.quantile(draws, [0.025, 0.975])
    return value + (float(low) - value) * factor, value + (float(high) - value) * factor


def resampled_quantile(
    times: Rounds, picks: Picks, q: float, generator: np.random.Generator
) -> Floats:
    """The q-quantile of all samples of every resample: rounds by `picks`, then samples.

    Every drawn process gives as many samples as the typical one has, so that a process that
    happened to run more often weighs no more than the others.
    """
    sizes = np.array([len(process) for process in times])
    each = min(_MOST_DRAWN, max(1, int(np.median(sizes))))
    padded = np.zeros((len(times), int(sizes.max())))
    for row, process in enumerate(times):
        padded[row, : len(process)] = process
    results = np.empty(len(picks))
    block = max(1, _BLOCK // (each * picks.shape[1]))
    for start in range(0, len(picks), block):
        chosen = picks[start : start + block]
        within = generator.random((*chosen.shape, each), dtype=np.float32)
        index = (within * sizes[chosen][:, :, None]).astype(np.int64)
        # float32 can round up to 1.0 times the size.
        np.minimum(index, sizes[chosen][:, :, None] - 1, out=index)
        drawn = padded[chosen[:, :, None], index].reshape(len(chosen), -1)
        place = min(drawn.shape[1] - 1, math.ceil(q * drawn.shape[1]) - 1)
        results[start : start + block] = np.partition(drawn, place, axis=1)[:, place]
    return results
