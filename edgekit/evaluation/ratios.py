"""Latency ratios with intervals, from several processes per contender: a hierarchical bootstrap.

Two fresh processes of one program differ by more than their samples tell (memory layout, huge
pages, where the threads landed), so processes are a level of sampling of their own: a resample
draws rounds, then samples within the processes of each round. The contenders of one round ran in
turns and are drawn together: what disturbed the whole round cancels in its ratio. The rounds'
ratios are brought together by the Hodges–Lehmann estimator, the median over all pairs of their
means: nearly as sharp as the mean, and one stalled process does not move it.

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

from edgekit.core.results import Comparison
from edgekit.evaluation.statistics import Floats, student_975
from edgekit.runtime.timing import quantile

RESAMPLES = 2000
_BLOCK = 1_000_000
# Drawn from one process at most: beyond, the processes decide how wide an interval is.
_MOST_DRAWN = 2000
_NORMAL_975 = 1.959963984540054

# The times of one contender at one workload: per round the samples of its process, in one unit.
Rounds = Sequence[Floats]
# Which rounds a resample consists of: `[resamples, rounds]`.
Picks: TypeAlias = NDArray[np.int64]


@dataclass(frozen=True)
class RatioEstimate:
    """quantile(a) / quantile(b) with its 95 % interval; above 1, b is faster.

    ``resolvable`` is the smallest ratio that an interval of this width would have told from 1.
    """

    value: float
    low: float
    high: float
    resolvable: float
    verdict: Comparison


def ratio(
    a: Rounds, b: Rounds, *, q: float = 0.5, seed: int = 0, resamples: int = RESAMPLES
) -> RatioEstimate:
    """The ratio of the q-quantiles of two contenders that ran in the same rounds.

    Raises ValueError when the rounds do not match or one of them is empty.
    """
    return mean_ratio([(a, b)], q=q, seed=seed, resamples=resamples)


def mean_ratio(
    pairs: Sequence[tuple[Rounds, Rounds]],
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
    if any(len(a) != rounds or len(b) != rounds for a, b in pairs):
        raise ValueError("contenders of one ratio have one process in every round")
    if rounds == 0 or any(not len(times) for a, b in pairs for times in (*a, *b)):
        raise ValueError("a ratio needs samples in every round")
    pooled = math.fsum(math.log(quantile(a, q) / quantile(b, q)) for a, b in pairs) / len(pairs)
    if rounds == 1:
        return RatioEstimate(math.exp(pooled), 0.0, math.inf, math.inf, "not resolved")
    generator = np.random.default_rng(seed)
    picks = generator.integers(0, rounds, size=(resamples, rounds))
    measured = np.zeros(rounds)
    draws = np.zeros((resamples, rounds))
    for a, b in pairs:
        measured += (_logs(a, q) - _logs(b, q)) / len(pairs)
        draws += _drawn_logs(a, picks, q, generator) / len(pairs)
        draws -= _drawn_logs(b, picks, q, generator) / len(pairs)
    low, high = widened(hodges_lehmann(draws), float(hodges_lehmann(measured[None])[0]), rounds)
    # The value is the plain ratio of what is reported of the contenders. Drift between rounds can
    # put it outside the interval of the paired rounds, which is then stretched to hold it.
    low, high = min(low, pooled), max(high, pooled)
    return RatioEstimate(
        value=math.exp(pooled),
        low=math.exp(low),
        high=math.exp(high),
        resolvable=math.exp((high - low) / 2),
        verdict="faster" if low > 0 else "slower" if high < 0 else "not resolved",
    )


def hodges_lehmann(values: Floats) -> Floats:
    """The median of the means of all pairs (each value with itself, too), along the last axis."""
    first, second = np.triu_indices(values.shape[-1])
    return np.asarray(np.median((values[..., first] + values[..., second]) / 2, axis=-1))


def _logs(times: Rounds, q: float) -> Floats:
    """The logarithm of every process's own q-quantile."""
    return np.asarray(np.log([quantile([process], q) for process in times]))


def _drawn_logs(times: Rounds, picks: Picks, q: float, generator: np.random.Generator) -> Floats:
    """The same for a fresh resample of the samples of each picked process, shaped like `picks`.

    A resample of n values has as its q-quantile the value at the place of the ⌈qn⌉-th smallest of
    n uniform numbers, and that number is drawn from its Beta distribution: nothing is resampled.
    """
    sizes = np.array([len(process) for process in times])
    padded = np.zeros((len(times), int(sizes.max())))
    for row, process in enumerate(times):
        padded[row, : len(process)] = np.sort(process)
    size = sizes[picks]
    rank = np.ceil(q * size)
    place = (generator.beta(rank, size - rank + 1) * size).astype(np.int64)
    return np.asarray(np.log(padded[picks, np.minimum(place, size - 1)]))


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
