"""Latency ratios: false alarms and power on simulated processes, agreement with scipy."""

from __future__ import annotations

import math
import tracemalloc

import numpy as np
import pytest
from scipy import stats

from edgekit.evaluation.ratios import (
    _Sorted,
    hodges_lehmann,
    mean_ratio,
    middle,
    quantile_interval,
    ratio,
    resampled_quantile,
    turn_ratio,
)


def processes(
    generator: np.random.Generator,
    rounds: int,
    *,
    spread: float,
    slower: float = 1.0,
    drift: np.ndarray | None = None,
    samples: int = 60,
) -> list[np.ndarray]:
    """Times of fresh processes: each has a speed of its own, samples have a tail."""
    found = []
    for number in range(rounds):
        speed = math.exp(generator.normal(0, spread)) * (1 if drift is None else drift[number])
        tail = (generator.random(samples) < 0.03) * generator.exponential(1, samples)
        found.append(slower * speed * (1 + generator.exponential(0.05, samples) + tail))
    return found


def alarms(*, rounds: int, spread: float, slower: float, trials: int = 200) -> float:
    """The share of simulated runs in which `b`, so much slower, is told apart from `a`."""
    generator = np.random.default_rng(4)
    told = 0
    for seed in range(trials):
        drift = np.exp(generator.normal(0, 0.1, rounds))
        a = processes(generator, rounds, spread=spread, drift=drift)
        b = processes(generator, rounds, spread=spread, drift=drift, slower=slower)
        told += ratio(a, b, seed=seed, resamples=400).verdict != "not resolved"
    return told / trials


@pytest.mark.parametrize("rounds", [3, 5, 20])
@pytest.mark.parametrize("spread", [0.0, 0.03])
def test_a_contender_is_not_told_apart_from_itself(rounds: int, spread: float) -> None:
    """Two names for one program are called different in at most about 5 % of the runs."""
    assert alarms(rounds=rounds, spread=spread, slower=1.0) <= 0.08


def test_fifteen_percent_are_told_with_five_processes() -> None:
    """A contender slowed by 15 % is resolved although processes differ by 2 %."""
    assert alarms(rounds=5, spread=0.02, slower=1.15, trials=100) >= 0.95


def test_five_percent_are_told_with_forty_processes() -> None:
    """More processes resolve what fewer cannot."""
    assert alarms(rounds=40, spread=0.02, slower=1.05, trials=60) >= 0.95


def test_the_ratio_is_that_of_the_medians() -> None:
    """Without noise the value is exact, above 1 where b is faster, and the verdict follows."""
    slow, fast = [np.full(50, 3.0)] * 5, [np.full(50, 2.0)] * 5
    assert ratio(slow, fast).value == pytest.approx(1.5)
    assert ratio(slow, fast).verdict == "faster"
    assert ratio(fast, slow).verdict == "slower"


@pytest.mark.parametrize("rounds", [3, 5, 10])
def test_the_interval_is_nearly_students_where_that_is_exact(rounds: int) -> None:
    """With processes as the only noise it is as wide as scipy's paired t, or a little wider."""
    generator = np.random.default_rng(8)
    widths = []
    for seed in range(60):
        logs = generator.normal(0, 0.05, (2, rounds))
        a, b = ([np.full(30, math.exp(value)) for value in row] for row in logs)
        found = ratio(a, b, seed=seed)
        expected = stats.ttest_rel(logs[0], logs[1]).confidence_interval(0.95)
        widths.append(math.log(found.high / found.low) / (expected.high - expected.low))
    assert 0.95 <= float(np.median(widths)) <= 1.3


def test_one_stalled_process_does_not_decide() -> None:
    """A process that ran forty times slower leaves the value where it was."""
    generator = np.random.default_rng(1)
    a = processes(generator, 9, spread=0.01)
    b = processes(generator, 9, spread=0.01)
    b[3] = b[3] * 40
    assert ratio(a, b).value == pytest.approx(1, abs=0.05)


def test_what_a_run_can_resolve_is_half_its_interval() -> None:
    """The smallest effect told is the interval's half width as a ratio."""
    generator = np.random.default_rng(2)
    found = ratio(processes(generator, 5, spread=0.02), processes(generator, 5, spread=0.02))
    assert found.resolvable == pytest.approx(math.sqrt(found.high / found.low))
    assert 1 < found.resolvable < 1.2


def test_one_process_resolves_nothing() -> None:
    """Processes differ by themselves; one of them cannot tell by how much."""
    found = ratio([np.full(100, 3.0)], [np.full(100, 1.0)])
    assert (found.value, found.verdict) == (pytest.approx(3), "not resolved")
    assert found.low == 0
    assert found.high == math.inf


def test_the_interval_holds_the_value() -> None:
    """Whatever the rounds went through."""
    generator = np.random.default_rng(6)
    for seed in range(50):
        drift = np.exp(generator.normal(0, 0.5, 5))
        a = processes(generator, 5, spread=0.05, drift=drift)
        found = ratio(a, processes(generator, 5, spread=0.05, drift=drift), seed=seed)
        assert found.low <= found.value <= found.high


def test_rounds_must_match() -> None:
    """A ratio is made of rounds that both contenders were in."""
    with pytest.raises(ValueError, match="every round"):
        ratio([np.ones(3)] * 2, [np.ones(3)] * 3)
    with pytest.raises(ValueError, match="samples"):
        ratio([np.ones(3), np.ones(0)], [np.ones(3)] * 2)
    with pytest.raises(ValueError, match="pair"):
        mean_ratio([])
    with pytest.raises(ValueError, match="turn"):
        turn_ratio([[np.ones(3)] * 2], [[np.ones(3)] * 3])


def test_workloads_are_averaged_on_the_log_scale() -> None:
    """Twice as fast at one workload and half as fast at the other is the same on the whole."""
    fast, slow = [[np.full(9, 1.0)]] * 3, [[np.full(9, 2.0)]] * 3
    assert mean_ratio([(fast, slow), (slow, fast)]).value == pytest.approx(1)


def test_what_disturbs_single_turns_cancels() -> None:
    """Turns that are compared one by one tell 5 % although the machine halves its speed at times.

    The medians of whole processes lie in the one or the other state, and tell nothing.
    """
    generator = np.random.default_rng(5)
    a: list[list[np.ndarray]] = []
    b: list[list[np.ndarray]] = []
    for _ in range(5):
        state = generator.choice([1.0, 2.0], size=20)
        a.append([s * generator.normal(1, 0.01, 30) for s in state])
        b.append([1.05 * s * generator.normal(1, 0.01, 30) for s in np.roll(state, 0)])
        # The state changes between the two turns of one pair in four.
        for turn in range(0, 20, 4):
            b[-1][turn] = b[-1][turn] * generator.choice([0.5, 1.0, 2.0])
    paired = turn_ratio(a, b)
    whole = ratio([np.concatenate(t) for t in a], [np.concatenate(t) for t in b])
    assert paired.verdict == "slower"
    assert paired.value == pytest.approx(1 / 1.05, rel=0.01)
    assert paired.resolvable - 1 < (whole.resolvable - 1) / 4


def test_drawn_quantiles_are_those_of_real_resamples() -> None:
    """The order statistic from a Beta draw has the distribution of resampled medians."""
    generator = np.random.default_rng(9)
    times = generator.exponential(1, 41) + 1
    real = np.median(generator.choice(times, size=(4000, 41)), axis=1)
    picks = np.zeros(4000, dtype=np.int64)
    drawn = np.exp(_Sorted.of([[times]]).drawn_logs(picks, picks, 0.5, generator))
    assert stats.ks_2samp(real, drawn).pvalue > 0.01


def test_a_quantile_has_an_interval_over_processes() -> None:
    """Processes that differ widen it; more of them narrow it."""
    generator = np.random.default_rng(3)
    few, many = (processes(generator, rounds, spread=0.05) for rounds in (4, 40))
    narrow, wide = quantile_interval(many, 0.9), quantile_interval(few, 0.9)
    assert narrow[1] / narrow[0] < wide[1] / wide[0]
    assert quantile_interval(few[:1], 0.5) == (0.0, math.inf)


def test_an_interval_of_three_processes_that_differ_is_as_wide_as_it_must_be() -> None:
    """Cut at what was measured, as looks more likely, it would hold the median in 4 of 5 runs."""
    generator = np.random.default_rng(1)
    held = cut = 0
    for run in range(200):
        levels = np.exp(generator.normal(0.0, 0.8, 3))
        times = [level * np.exp(generator.normal(0.0, 0.05, 66)) for level in levels]
        low, high = quantile_interval(times, 0.5, seed=run, resamples=300)
        held += low <= 1.0 <= high
        cut += max(low, min(map(np.min, times))) <= 1.0 <= min(high, max(map(np.max, times)))
    assert held >= 176
    assert cut < held - 10


def test_processes_weigh_the_same_in_a_resample() -> None:
    """A process with a hundred times the samples is still one process."""
    times = [np.full(1000, 1.0), np.full(10, 2.0), np.full(10, 2.0)]
    picks = np.tile(np.arange(3), (20, 1))
    assert (resampled_quantile(times, picks, 0.5, np.random.default_rng(0)) == 2).all()


def test_the_middle_leaves_a_quarter_out_at_each_end() -> None:
    """Like scipy's trimmed mean; of three values it is the mean."""
    generator = np.random.default_rng(1)
    for count in (1, 3, 4, 20, 41):
        values = generator.exponential(1, count)
        assert middle(values) == pytest.approx(stats.trim_mean(values, 0.25))


def test_the_hodges_lehmann_estimate_is_the_median_of_pairwise_means() -> None:
    """Written out by hand for three values."""
    assert hodges_lehmann(np.array([1.0, 2.0, 9.0])) == pytest.approx(
        np.median([1, 1.5, 5, 2, 5.5, 9])
    )


def test_ten_thousand_samples_of_four_contenders_take_little_memory() -> None:
    """The analysis of a long run stays far below 300 MB."""
    generator = np.random.default_rng(0)
    runs = [processes(generator, 10, spread=0.02, samples=1000) for _ in range(4)]
    tracemalloc.start()
    for other in runs[1:]:
        ratio(runs[0], other)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 100e6
