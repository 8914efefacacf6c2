"""The paired verdict: intervals held to scipy, error rates held to what they promise."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from scipy import stats

from edgekit.core.errors import ConfigError
from edgekit.evaluation.binomial import clopper_pearson, exact_difference
from edgekit.evaluation.metrics import METRICS
from edgekit.evaluation.metrics.kinds import mean
from edgekit.evaluation.metrics.numbers import out_of_order
from edgekit.evaluation.statistics import (
    Budget,
    Drop,
    draw_counts,
    drawn_drop,
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


@pytest.mark.parametrize(("right", "first"), [(0.84, 60), (0.84, 340), (0.97, 40), (1.0, 250)])
def test_the_samples_told_settle_it_when_nothing_disagrees(right: float, first: int) -> None:
    """Though the reference may be right less often on more samples than on the first."""
    generator = np.random.default_rng(5)
    passed = extra = 0
    for _ in range(200):
        answers = (generator.random(2000) < right).astype(float)[:, None]
        begun = accuracy_drop(answers[:first], answers[:first], resamples=200)
        verdict, needed = judge(begun, ONE_PERCENT)
        if verdict == "pass":
            passed += 1
            continue
        assert needed is not None
        assert needed > first
        extra += needed - first
        more = accuracy_drop(answers[:needed], answers[:needed], resamples=200)
        passed += judge(more, ONE_PERCENT)[0] == "pass"
    assert passed >= 190
    # A number that always settles it and that nobody can collect would be no help.
    assert extra / 200 < 450


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


@pytest.mark.parametrize(("count", "verdict"), [(200, "inconclusive"), (5000, "fail")])
def test_two_percent_made_wrong(count: int, verdict: str) -> None:
    """Of samples that were all right before, against 1 %: too few to tell, then a failure."""
    right = np.ones((count, 1))
    right[: count // 10] = 0
    harmed = right.copy()
    harmed[-count // 50 :] = 0
    drop = paired_drop(
        right, harmed, mean, higher_is_better=True, unit="relative",
        scores=(right[:, 0], harmed[:, 0]),
    )  # fmt: skip
    assert drop.value == pytest.approx(0.02 / 0.9)
    assert judge(drop, Budget(0.01, "relative"))[0] == verdict


@given(
    st.lists(st.tuples(st.booleans(), st.booleans()), min_size=30, max_size=120),
    st.sampled_from(["points", "relative"]),
)
@settings(max_examples=60, deadline=None)
def test_the_interval_holds_the_drop(pairs: list[tuple[bool, bool]], unit: str) -> None:
    """Whatever the answers; a drop of the turned pair is its mirror image."""
    before, after = (np.array(side, dtype=np.float64)[:, None] for side in zip(*pairs, strict=True))
    assume(before.any())
    drop = paired_drop(
        before, after, mean, higher_is_better=True, unit=unit,  # type: ignore[arg-type]
        scores=(before[:, 0], after[:, 0]), resamples=200,
    )  # fmt: skip
    assert drop.low <= drop.value <= drop.high
    assert drop.disagreeing == sum(one != other for one, other in pairs)
    if unit == "points":
        back = paired_drop(
            after, before, mean, higher_is_better=True, unit="points",
            scores=(after[:, 0], before[:, 0]), resamples=200,
        )  # fmt: skip
        assert back.value == pytest.approx(-drop.value)


@given(st.floats(0, 1), st.integers(30, 5000), st.floats(0.001, 0.2))
@settings(max_examples=80, deadline=None)
def test_more_harm_never_turns_a_failure_into_a_pass(
    share: float, count: int, budget: float
) -> None:
    """The verdict is ordered as the harm is."""
    order = {"pass": 0, "inconclusive": 1, "fail": 2}
    ranks = []
    for hurt in sorted({int(share * count), min(count, int(share * count) + 1), count}):
        low, high = exact_difference(hurt, 0, count)
        drop = Drop(hurt / count, low, high, count, "exact", hurt)
        ranks.append(order[judge(drop, Budget(budget, "points"))[0]])
    assert ranks == sorted(ranks)


def _mean_of(values: np.ndarray) -> Callable[[np.ndarray | None], float]:
    return lambda rows: float((values if rows is None else values[rows]).mean())


def test_a_function_is_judged_as_its_rows_would_be() -> None:
    """The interval by draws is that of the bootstrap over weights."""
    generator = np.random.default_rng(2)
    before = (generator.random(400) < 0.9).astype(np.float64)
    after = np.where(generator.random(400) < 0.05, 1 - before, before)
    drawn = drawn_drop(
        _mean_of(before), _mean_of(after), 400, higher_is_better=True, unit="relative",
        disagreeing=20, resamples=2000,
    )  # fmt: skip
    whole = paired_drop(
        before[:, None], after[:, None], mean, higher_is_better=True, unit="relative"
    )
    assert drawn.value == pytest.approx(whole.value)
    assert (drawn.low, drawn.high) == pytest.approx((whole.low, whole.high), abs=0.006)
    assert drawn.method == "bootstrap"


def test_a_function_of_few_disagreements_is_bound_exactly() -> None:
    """As 0 of n gives 3/n; nothing proves more."""
    same = np.ones(100)
    drop = drawn_drop(
        _mean_of(same), _mean_of(same), 100, higher_is_better=True, unit="points", disagreeing=0
    )
    assert drop.method == "exact"
    assert drop.high == pytest.approx(1 - 0.05 ** (1 / 100))
    assert drop.low == -drop.high


def test_a_function_that_lower_is_better_for_is_turned() -> None:
    """A larger error is a drop; draws without a value are left out."""
    errors = np.linspace(1, 2, 50)

    def worse(rows: np.ndarray | None) -> float:
        value = float((errors if rows is None else errors[rows]).mean()) * 1.1
        return math.nan if rows is not None and rows[0] % 2 else value

    drop = drawn_drop(
        _mean_of(errors), worse, 50, higher_is_better=False, unit="relative", disagreeing=50
    )
    assert drop.value == pytest.approx(0.1)
    assert drop.low == pytest.approx(0.1)
    never = drawn_drop(
        _mean_of(errors), lambda rows: 1.0 if rows is None else math.nan, 50,
        higher_is_better=False, unit="relative", disagreeing=50,
    )  # fmt: skip
    assert (never.low, never.high) == (-math.inf, math.inf)
    with pytest.raises(ConfigError, match="metric is 0"):
        drawn_drop(
            lambda rows: 0.0, lambda rows: 0.0, 50, higher_is_better=True, unit="relative",
            disagreeing=0,
        )  # fmt: skip


def test_an_unchanged_order_is_no_proof_of_itself() -> None:
    """Numbers that all moved a little, in the same order, leave thirty samples undecided."""
    generator = np.random.default_rng(3)
    said = generator.normal(size=30)
    true = said + generator.normal(size=30)
    metric = METRICS["spearman"]
    before, after = (np.column_stack([one, true]) for one in (said, said + 1e-7))
    assert metric.influence is not None
    assert metric.moved is not None
    drop = paired_drop(
        before, after, metric.aggregate, higher_is_better=True, unit="relative",
        influence=metric.influence(before, after), moved=metric.moved(before, after),
    )  # fmt: skip
    assert (drop.method, drop.disagreeing, drop.value) == ("exact", 0, 0)
    assert judge(drop, parse_drop("1%"))[0] == "inconclusive"


@pytest.mark.parametrize(
    ("before", "after", "moved"),
    [
        ([1, 2, 3, 4], [10, 20, 30, 40], 0),
        ([1, 2, 3, 4], [5, 20, 30, 4], 1),
        ([1, 2, 3, 4], [4, 3, 2, 1], 3),
        ([1, 1, 2, 3], [7, 7, 8, 9], 0),
        ([1, 1, 2, 3], [7, 6, 8, 9], 1),
        ([1, 2, 3, 4], [5, 5, 5, 5], 3),
        ([3, 1, 2, 2], [3, 1, 2, 2], 0),
    ],
)
def test_samples_out_of_order_are_counted(
    before: list[float], after: list[float], moved: int
) -> None:
    """One that jumps is one, though it moves the ranks of all; ties must stay ties."""
    rows = [
        np.column_stack([np.array(one, dtype=float), np.arange(4.0)]) for one in (before, after)
    ]
    assert out_of_order(*rows) == moved


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5)), min_size=1, max_size=8))
@settings(max_examples=100, deadline=None)
def test_out_of_order_is_what_trying_all_subsets_gives(values: list[tuple[int, int]]) -> None:
    """The largest set of samples of which no two are in another order."""
    rows = [np.array([[float(pair[side]), 0.0] for pair in values]) for side in (0, 1)]

    def alike(chosen: tuple[tuple[int, int], ...]) -> bool:
        return all(
            np.sign(one[0] - other[0]) == np.sign(one[1] - other[1])
            for one, other in itertools.combinations(chosen, 2)
        )

    largest = next(
        size
        for size in range(len(values), 0, -1)
        if any(alike(chosen) for chosen in itertools.combinations(values, size))
    )
    assert out_of_order(*rows) == len(values) - largest
