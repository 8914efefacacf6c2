"""The paired verdict: intervals held to scipy, error rates held to what they promise."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
from scipy import stats

from edgekit.core.errors import ConfigError
from edgekit.evaluation.metrics import METRICS, mean
from edgekit.evaluation.statistics import (
    Budget,
    Drop,
    clopper_pearson,
    draw_counts,
    exact_difference,
    judge,
    paired_drop,
    parse_drop,
    student_975,
)

ONE_PERCENT = Budget(0.01, "relative")


def planted(count: int, right: float, broken: int) -> tuple[np.ndarray, np.ndarray]:
    """Correctness of a reference, and of a candidate that got some right samples wrong."""
    reference = np.zeros((count, 1))
    reference[: round(count * right)] = 1
    candidate = reference.copy()
    candidate[:broken] = 0
    return reference, candidate


def accuracy_drop(reference: np.ndarray, candidate: np.ndarray, **options: object) -> Drop:
    """The relative drop of accuracy."""
    arguments = {"higher_is_better": True, "unit": "relative", **options}
    scores = (reference[:, 0], candidate[:, 0])
    return paired_drop(reference, candidate, mean, scores=scores, **arguments)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("text", "limit", "unit"),
    [("1%", 0.01, "relative"), ("0.5pt", 0.005, "points"), (" .25 % ", 0.0025, "relative")],
)
def test_a_drop_is_read_in_percent_or_points(text: str, limit: float, unit: str) -> None:
    """Percent are of the reference's metric, a point is a hundredth of the metric."""
    assert parse_drop(text) == Budget(pytest.approx(limit), unit)  # type: ignore[arg-type]


@pytest.mark.parametrize("text", ["1", "", "one%", "-1%", "1 percent", "1%%", "nan%"])
def test_a_drop_without_a_unit_is_refused(text: str) -> None:
    """A number that could mean either is a configuration error."""
    with pytest.raises(ConfigError, match="no unit"):
        parse_drop(text)


def test_a_budget_is_shown_as_it_is_written() -> None:
    """The text form reads back as the same budget."""
    for text in ("1%", "0.5pt", "12.5%"):
        assert str(parse_drop(text)) == text


@pytest.mark.parametrize(("hits", "count"), [(1, 30), (5, 100), (9, 5000), (29, 30), (50, 100)])
def test_the_exact_bound_is_clopper_pearson(hits: int, count: int) -> None:
    """The interval of a proportion is scipy's exact one."""
    expected = stats.binomtest(hits, count).proportion_ci(method="exact")
    assert clopper_pearson(hits, count) == pytest.approx((expected.low, expected.high), abs=1e-9)


@pytest.mark.parametrize("count", [30, 300, 10_000])
def test_no_hits_follow_the_rule_of_three(count: int) -> None:
    """Nothing of n leaves at most about 3/n, and everything of n mirrors it."""
    low, high = clopper_pearson(0, count)
    assert low == 0
    assert high == pytest.approx(1 - 0.05 ** (1 / count), rel=1e-9)
    assert high == pytest.approx(3 / count, rel=0.06)
    assert clopper_pearson(count, count) == (pytest.approx(1 - high), 1.0)


def test_the_exact_difference_holds_its_level() -> None:
    """In simulations the bounds miss the true difference in at most 5 % of the cases."""
    generator = np.random.default_rng(3)
    count, hurt, helped = 400, 0.01, 0.004
    known = {}
    missed = 0
    for _ in range(2000):
        drawn = generator.multinomial(count, [hurt, helped, 1 - hurt - helped])
        key = (int(drawn[0]), int(drawn[1]))
        if key not in known:
            known[key] = exact_difference(*key, count)
        low, high = known[key]
        missed += not low <= hurt - helped <= high
    assert missed / 2000 <= 0.05


@pytest.mark.parametrize("freedom", [1, 2, 3, 4, 5, 9, 39, 1000])
def test_the_t_quantile_is_students(freedom: int) -> None:
    """The table and the expansion agree with scipy to 0.2 %."""
    assert student_975(freedom) == pytest.approx(stats.t.ppf(0.975, freedom), rel=0.002)


def test_draws_have_the_size_of_the_sample() -> None:
    """A resample holds as many samples as there are, each as likely as the other."""
    drawn = draw_counts(np.random.default_rng(0), 50, 2000)
    assert (drawn.sum(axis=1) == 50).all()
    assert drawn.mean(axis=0) == pytest.approx(np.ones(50), abs=0.15)


def test_the_bootstrap_is_that_of_scipy() -> None:
    """On continuous scores the interval is scipy's paired percentile bootstrap."""
    generator = np.random.default_rng(11)
    reference = generator.normal(1, 0.2, size=(300, 1))
    candidate = reference - generator.normal(0.02, 0.1, size=(300, 1))
    found = paired_drop(reference, candidate, mean, higher_is_better=True, unit="relative")

    def drop(before: np.ndarray, after: np.ndarray, axis: int) -> np.ndarray:
        return (before.mean(axis=axis) - after.mean(axis=axis)) / before.mean(axis=axis)

    expected = stats.bootstrap(
        (reference[:, 0], candidate[:, 0]), drop, paired=True, vectorized=True,
        method="percentile", n_resamples=5000, rng=1,
    ).confidence_interval  # fmt: skip
    assert found.method == "bootstrap"
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high), abs=0.001)


def test_grouping_equal_samples_is_the_same_bootstrap() -> None:
    """Right and wrong answers, drawn by kind, give the interval of drawing them one by one."""
    reference, candidate = planted(1000, 0.85, 40)
    grouped = accuracy_drop(reference, candidate)
    # A column of noise that the metric does not read makes every sample one of its kind.
    extra = np.random.default_rng(5).random((1000, 1))
    single = paired_drop(
        np.hstack([reference, extra]), np.hstack([candidate, extra]), mean,
        higher_is_better=True, unit="relative", scores=(reference[:, 0], candidate[:, 0]),
    )  # fmt: skip
    assert grouped.value == pytest.approx(single.value)
    assert (grouped.low, grouped.high) == pytest.approx((single.low, single.high), abs=0.001)


def test_the_same_seed_gives_the_same_interval() -> None:
    """Every random choice follows from the seed."""
    generator = np.random.default_rng(2)
    before, after = generator.random((200, 1)), generator.random((200, 1))
    first, again, other = (
        paired_drop(before, after, mean, higher_is_better=True, unit="points", seed=seed)
        for seed in (1, 1, 2)
    )
    assert first == again
    assert first != other


def test_few_disagreements_use_the_exact_bound() -> None:
    """Identical answers leave a drop of up to 3/n, relative to the reference's metric."""
    reference, candidate = planted(1000, 0.8, 0)
    found = accuracy_drop(reference, candidate)
    assert (found.method, found.disagreeing, found.value) == ("exact", 0, 0)
    assert found.high == pytest.approx(3 / 1000 / 0.8, rel=0.01)
    assert found.low == -found.high


def test_two_percent_broken_are_undecided_in_200_and_a_failure_in_5000() -> None:
    """With a budget of 1 % the same harm is inconclusive on little data and fails on enough."""
    small, large = (accuracy_drop(*planted(count, 0.84, count // 50)) for count in (200, 5000))
    verdict, needed = judge(small, ONE_PERCENT)
    assert verdict == "inconclusive"
    assert needed is not None
    assert 200 < needed <= 5000
    assert judge(large, ONE_PERCENT) == ("fail", None)


def test_an_unharmed_candidate_passes_on_enough_data() -> None:
    """No disagreement passes as soon as 3/n is within the budget, and says how many that takes."""
    budget = Budget(0.01, "points")
    few = accuracy_drop(*planted(150, 1.0, 0), unit="points")
    verdict, needed = judge(few, budget)
    assert verdict == "inconclusive"
    assert needed == 299
    for count, expected in ((299, "pass"), (298, "inconclusive")):
        drop = accuracy_drop(*planted(count, 1.0, 0), unit="points")
        assert judge(drop, budget)[0] == expected


def test_the_samples_that_are_said_to_settle_do() -> None:
    """With the number of samples that was told, at the same rates, there is a verdict."""
    drop = accuracy_drop(*planted(1000, 0.9, 15))
    verdict, needed = judge(drop, ONE_PERCENT)
    assert verdict == "inconclusive"
    assert needed is not None
    enough = round(needed * 1.1)
    assert judge(accuracy_drop(*planted(enough, 0.9, round(0.015 * enough))), ONE_PERCENT)[0] == (
        "fail"
    )


def test_a_drop_on_the_budget_is_never_settled() -> None:
    """Where no number of samples would help, none is told."""
    drop = Drop(0.01, 0.0, 0.02, 100, "bootstrap", 20)
    assert judge(drop, ONE_PERCENT) == ("inconclusive", None)


def test_a_budget_of_nothing_is_judged() -> None:
    """``--max-drop 0%`` is a budget like any other."""
    assert judge(accuracy_drop(*planted(500, 1.0, 0)), parse_drop("0%")) == ("inconclusive", None)
    assert judge(accuracy_drop(*planted(500, 1.0, 100)), parse_drop("0%")) == ("fail", None)


def test_where_lower_is_better_a_rise_is_the_drop() -> None:
    """A larger error is a change for the worse, a smaller one a gain."""
    errors = np.full((400, 1), 2.0) + np.random.default_rng(0).normal(0, 0.1, (400, 1))
    worse = paired_drop(errors, errors * 1.1, mean, higher_is_better=False, unit="relative")
    better = paired_drop(errors, errors * 0.9, mean, higher_is_better=False, unit="relative")
    assert worse.value == pytest.approx(0.1)
    assert worse.low > 0 > better.high


def test_a_reference_of_zero_has_no_relative_drop() -> None:
    """The error names the remedy: a budget in points."""
    rows = np.zeros((50, 1))
    with pytest.raises(ConfigError, match="no meaning") as caught:
        paired_drop(rows, rows, mean, higher_is_better=True, unit="relative")
    assert "pt" in str(caught.value.hint)
    assert paired_drop(rows, rows, mean, higher_is_better=True, unit="points").value == 0


def test_the_interval_covers_the_true_drop() -> None:
    """Of 400 simulated evaluations about 95 % hold the true drop in their interval."""
    generator = np.random.default_rng(17)
    rates = np.array([0.80, 0.05, 0.03, 0.12])
    true = (rates[1] - rates[2]) / (rates[0] + rates[1])
    held = 0
    for seed in range(400):
        kinds = generator.choice(4, p=rates, size=600)
        before = np.isin(kinds, (0, 1)).astype(float)[:, None]
        after = np.isin(kinds, (0, 2)).astype(float)[:, None]
        found = accuracy_drop(before, after, seed=seed, resamples=600)
        held += found.low <= true <= found.high
    assert 0.92 <= held / 400 <= 0.98


def test_undefined_resamples_say_nothing() -> None:
    """A metric that some draws leave undefined still gets an interval from the others."""

    def sometimes(rows: np.ndarray, weights: np.ndarray) -> np.ndarray:
        values = mean(rows, weights)
        return np.where(weights[:, 0] > 0, values, math.nan)

    rows = np.random.default_rng(0).random((40, 1)) + 1
    found = paired_drop(rows, rows * 0.9, sometimes, higher_is_better=True, unit="relative")
    assert found.value == pytest.approx(0.1)
    assert math.isfinite(found.low)
    assert math.isfinite(found.high)


def test_the_bound_grows_with_what_a_sample_can_move() -> None:
    """Identical rows leave 3/n times the influence; without a bound on that, anything."""
    rows = np.random.default_rng(0).random((1000, 1))
    found, free = (
        paired_drop(rows, rows, mean, higher_is_better=True, unit="points", influence=influence)
        for influence in (5.0, math.inf)
    )
    assert (found.method, found.disagreeing) == ("exact", 0)
    assert found.high == pytest.approx(5 * 3 / 1000, rel=0.01)
    assert (free.low, free.high) == (-math.inf, math.inf)
    assert judge(free, ONE_PERCENT) == ("inconclusive", None)


def test_half_right_answers_do_not_make_up_for_lost_ones() -> None:
    """Where scores are not 0 or 1, what is helped may be worth nothing."""
    before = np.full((1000, 1), 0.5)
    after = before.copy()
    after[:5] += 0.001
    found = accuracy_drop(before, after, unit="points")
    assert found.high == pytest.approx(clopper_pearson(0, 1000)[1])


def passes(
    metric: str, draw: Callable[[np.random.Generator], tuple[object, object, object]]
) -> float:
    """How often a harmed candidate passes a budget of 1 %."""
    chosen = METRICS[metric]
    passed = 0
    for seed in range(200):
        truth, said, again = draw(np.random.default_rng(seed))
        before, after = chosen.rows(said, truth), chosen.rows(again, truth)  # type: ignore[arg-type]
        assert chosen.influence is not None
        drop = paired_drop(
            before, after, chosen.aggregate, higher_is_better=True, unit="relative",
            influence=chosen.influence(before, after), resamples=200, seed=seed,
        )  # fmt: skip
        passed += judge(drop, ONE_PERCENT)[0] == "pass"
    return passed / 200


@pytest.mark.parametrize("rare", [0.002, 0.005, 0.01])
def test_a_rare_class_that_is_lost_does_not_pass(rare: float) -> None:
    """Macro-F1 falls by far more than 1 % when a rare class breaks, on 1,000 samples, too."""

    def draw(generator: np.random.Generator) -> tuple[object, object, object]:
        truth = generator.choice(3, p=[0.5, 0.5 - rare, rare], size=1000)
        broken = (truth == 2) & (generator.random(1000) < 0.4)
        eye = np.eye(3)
        return [int(one) for one in truth], list(eye[truth]), list(eye[np.where(broken, 0, truth)])

    assert passes("f1-macro", draw) <= 0.05


def test_long_samples_that_are_lost_do_not_pass() -> None:
    """Token accuracy falls by several percent when few, long samples break."""

    def draw(generator: np.random.Generator) -> tuple[object, object, object]:
        sizes = np.where(generator.random(1000) < 0.05, 100, 2)
        broken = (sizes == 100) & (generator.random(1000) < 0.03)
        truth = [np.zeros(size, dtype=int) for size in sizes]
        again = [np.full(size, int(bad)) for size, bad in zip(sizes, broken, strict=True)]
        return truth, truth, again

    assert passes("token-accuracy", draw) <= 0.05
