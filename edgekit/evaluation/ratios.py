"""Latency ratios with intervals, from several processes per contender: a hierarchical bootstrap.

Two fresh processes of one program differ by more than their samples tell (memory layout, huge
pages, where the threads landed), so processes are a level of sampling of their own: a resample
draws rounds, then samples within the processes of each round. Contenders of one round ran side by
side and are drawn together, which cancels what disturbed the whole round.

With few processes a percentile interval is too narrow; its deviations are widened on the log scale
by √(k/(k−1))·t(k−1)/z, which makes it Student's interval where that one is exact (T. Hesterberg:
What teachers should know about the bootstrap, The American Statistician 69, 2015, section 5.2).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

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
    """
    if not pairs:
        raise ValueError("a ratio needs at least one pair")
    rounds = len(pairs[0][0])
    if any(len(a) != rounds or len(b) != rounds for a, b in pairs):
        raise ValueError("contenders of one ratio have one process in every round")
    if rounds == 0 or any(not len(times) for a, b in pairs for times in (*a, *b)):
        raise ValueError("a ratio needs samples in every round")
    logs = [math.log(quantile(a, q) / quantile(b, q)) for a, b in pairs]
    value = math.fsum(logs) / len(logs)
    if rounds == 1:
        return RatioEstimate(math.exp(value), 0.0, math.inf, math.inf, "not resolved")
    generator = np.random.default_rng(seed)
    picks = generator.integers(0, rounds, size=(resamples, rounds))
    draws = np.zeros(resamples)
    for a, b in pairs:
        above = resampled_quantile(a, picks, q, generator)
        below = resampled_quantile(b, picks, q, generator)
        draws += np.log(above / below) / len(pairs)
    low, high = widened(draws, value, rounds)
    return RatioEstimate(
        value=math.exp(value),
        low=math.exp(low),
        high=math.exp(high),
        resolvable=math.exp((high - low) / 2),
        verdict="faster" if low > 0 else "slower" if high < 0 else "not resolved",
    )


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
    times: Rounds,
    picks: np.ndarray[tuple[int, int], np.dtype[np.int64]],
    q: float,
    generator: np.random.Generator,
) -> Floats:
    """The q-quantile of every resample: rounds by `picks` `[resamples, rounds]`, then samples.

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
