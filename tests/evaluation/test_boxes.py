"""Mean average precision: by hand, by what must hold of any boxes, and as pycocotools has it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgekit.core.errors import ConfigError
from edgekit.evaluation.metrics import METRICS, boxes, find_metric
from edgekit.evaluation.statistics import Budget, Drop, judge, paired_drop

Boxes = Sequence[Sequence[float]]
CAT, DOG = 0.0, 1.0


def value(
    said: Sequence[Boxes], true: Sequence[Boxes], name: str = "map", weights: object = None
) -> float:
    """A metric over all pictures."""
    metric = METRICS[name]
    rows = metric.rows([np.array(one).reshape(-1, 6) for one in said], [np.array(t) for t in true])
    drawn = np.ones((1, len(rows))) if weights is None else np.array([weights], dtype=np.float64)
    return float(metric.aggregate(rows, drawn)[0])


def found(
    score: float, label: float, x: float, y: float, width: float, height: float
) -> list[float]:
    """A detection."""
    return [score, label, x, y, x + width, y + height]


def there(
    label: float, x: float, y: float, width: float, height: float, crowd: bool = False
) -> list[float]:
    """An object."""
    return [label, x, y, x + width, y + height, float(crowd)]


def test_everything_found() -> None:
    """1, whatever the sizes and the scores; nothing found is 0."""
    true = [[there(CAT, 0, 0, 10, 10), there(DOG, 5, 5, 20, 8)], [there(CAT, 3, 3, 4, 4)]]
    said = [[found(0.3, CAT, 0, 0, 10, 10), found(0.9, DOG, 5, 5, 20, 8)],
            [found(0.1, CAT, 3, 3, 4, 4)]]  # fmt: skip
    assert value(said, true) == value(said, true, "map-50") == 1.0
    assert value([[], []], true) == 0.0


def test_overlap_decides_at_which_steps_a_box_is_right() -> None:
    """10×10 against 10×8 overlap by .8: right at .50, .55, … .80, seven steps of ten."""
    true = [[there(CAT, 0, 0, 10, 10)]]
    said = [[found(0.9, CAT, 0, 0, 10, 8)]]
    assert value(said, true) == pytest.approx(0.7)
    assert value(said, true, "map-50") == 1.0


def test_surer_and_wrong_before_right() -> None:
    """One wrong box above the right one: a precision of one half at every recall."""
    true = [[there(CAT, 0, 0, 10, 10)]]
    right, wrong = found(0.5, CAT, 0, 0, 10, 10), found(0.9, CAT, 40, 40, 10, 10)
    assert value([[wrong, right]], true) == pytest.approx(0.5)
    # Behind it, the wrong one costs nothing.
    assert value([[[0.1, *wrong[1:]], right]], true) == 1.0


def test_half_of_the_objects() -> None:
    """Recall stops at one half: 51 of the 101 places have the precision 1, the others 0."""
    true = [[there(CAT, 0, 0, 10, 10), there(CAT, 30, 30, 10, 10)]]
    assert value([[found(0.9, CAT, 0, 0, 10, 10)]], true) == pytest.approx(51 / 101)


def test_an_object_is_found_once() -> None:
    """The second box of the same object is wrong; behind the right one it costs the last recall."""
    true = [[there(CAT, 0, 0, 10, 10), there(CAT, 30, 30, 10, 10)]]
    twice = [found(0.9, CAT, 0, 0, 10, 10), found(0.8, CAT, 0, 0, 10, 10)]
    # Recall .5 at precision 1 (51 places), recall 1 at 2/3 (50 places).
    said = [[*twice, found(0.7, CAT, 30, 30, 10, 10)]]
    assert value(said, true) == pytest.approx((51 + 50 * 2 / 3) / 101)


def test_classes_weigh_the_same() -> None:
    """One of two found is .5, however many objects each has; a third that never occurs is none."""
    true = [[there(CAT, 0, 0, 10, 10)] + [there(DOG, 20 * n, 0, 10, 10) for n in range(5)]]
    said = [[found(0.9, CAT, 0, 0, 10, 10), found(0.9, 2.0, 0, 0, 10, 10)]]
    assert value(said, true) == pytest.approx(0.5)


def test_crowds_are_neither_found_nor_missed() -> None:
    """Any number of boxes inside of one are passed over; without it they would be wrong."""
    inside = [found(0.95 - n / 100, CAT, 50 + 4 * n, 50, 4, 4) for n in range(5)]
    right = found(0.5, CAT, 0, 0, 10, 10)
    alone = [[there(CAT, 0, 0, 10, 10)]]
    crowded = [[*alone[0], there(CAT, 50, 50, 40, 40, crowd=True)]]
    assert value([[*inside, right]], crowded) == 1.0
    assert value([[*inside, right]], alone) == pytest.approx(1 / 6)
    with pytest.raises(ConfigError, match="No picture has a box"):
        value([[right]], [[there(CAT, 50, 50, 40, 40, crowd=True)]])


def test_a_hundred_boxes_of_a_class() -> None:
    """What is less sure than a hundred others of its class in a picture is not looked at."""
    true = [[there(CAT, 0, 0, 10, 10)]]
    wrong = [found(0.9, CAT, 50, 50, 5, 5)] * 100
    assert value([[*wrong, found(0.1, CAT, 0, 0, 10, 10)]], true) == 0.0
    assert value([[*wrong[:99], found(0.1, CAT, 0, 0, 10, 10)]], true) == pytest.approx(0.01)


def test_boxes_that_are_none() -> None:
    """NaN finds nothing, and hides nothing."""
    true = [[there(CAT, 0, 0, 10, 10)]]
    broken = [float("nan"), CAT, 0, 0, 10, 10]
    assert value([[broken, found(0.1, CAT, 0, 0, 10, 10)]], true) == 1.0


def random_case(seed: int, pictures: int = 40) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Boxes near objects, boxes anywhere, of four classes; some objects are crowds."""
    random = np.random.default_rng(seed)
    said, true = [], []
    for _ in range(pictures):
        count = random.integers(0, 7)
        corner, size = random.uniform(0, 60, (count, 2)), random.uniform(5, 40, (count, 2))
        kinds = random.integers(0, 4, count)
        objects = np.column_stack([kinds, corner, corner + size, random.random(count) < 0.15])
        answers = []
        for _ in range(30):
            label, place = random.integers(0, 4), random.uniform(0, 60, 2)
            box = np.concatenate([place, place + random.uniform(5, 40, 2)])
            if count and random.random() < 0.6:
                chosen = objects[random.integers(0, count)]
                label, box = chosen[0], chosen[1:5] + random.normal(0, 3, 4)
            box[2:] = np.maximum(box[2:], box[:2] + 1)
            answers.append([round(float(random.random()), 2), label, *box])
        said.append(np.array(answers))
        true.append(objects.astype(np.float64))
    return said, true


@pytest.mark.parametrize(
    ("seed", "whole", "half"),
    [
        (1, 0.126650340046, 0.308303935643),
        (2, 0.095429081737, 0.244919954588),
        (3, 0.087249938739, 0.258527167153),
        (4, 0.094930345700, 0.244028765675),
        (5, 0.082989081318, 0.203175791521),
    ],
)
def test_as_pycocotools_has_it(seed: int, whole: float, half: float) -> None:
    """What pycocotools 2.0.11 makes of the same boxes, crowds and equal scores included."""
    said, true = random_case(seed)
    assert value(said, true) == pytest.approx(whole, abs=1e-9)
    assert value(said, true, "map-50") == pytest.approx(half, abs=1e-9)


@given(st.integers(0, 10_000), st.integers(0, 100))
@settings(max_examples=15, deadline=None)
def test_order_of_pictures_and_boxes_does_not_matter(seed: int, other: int) -> None:
    """Where no two scores are alike."""
    said, true = random_case(seed, 8)
    random = np.random.default_rng(other)
    scores = iter(random.permutation(8 * 30) / 1000)
    for one in said:
        one[:, 0] = [next(scores) for _ in one]
    order = random.permutation(8)
    mixed = [random.permutation(said[at]) for at in order]
    assert value(said, true) == pytest.approx(value(mixed, [true[at] for at in order]))


@given(st.integers(0, 10_000))
@settings(max_examples=15, deadline=None)
def test_scores_count_by_their_order_alone(seed: int) -> None:
    """Any rising function of them gives the same value, between 0 and 1."""
    said, true = random_case(seed, 8)
    bent = [np.column_stack([np.exp(3 * one[:, 0]), one[:, 1:]]) for one in said]
    assert value(said, true) == pytest.approx(value(bent, true))
    assert 0 <= value(said, true) <= value(said, true, "map-50") <= 1


def test_a_draw_is_as_copies() -> None:
    """Weights are how often a picture was drawn, none and many times included."""
    said, true = random_case(3, 6)
    for number, one in enumerate(said):
        one[:, 0] = (np.arange(30) * 6 + number) / 200
    weights = [2, 0, 1, 3, 0, 1]
    drawn = [at for at, count in enumerate(weights) for _ in range(count)]
    copies = value([said[at] for at in drawn], [true[at] for at in drawn])
    assert value(said, true, weights=weights) == pytest.approx(copies)


def test_what_matters_of_a_change() -> None:
    """Other scores in the same order change nothing; a box that finds something else does."""
    said, true = random_case(5)
    rows = METRICS["map"].rows(said, true)
    softer = [np.column_stack([one[:, 0] * 0.999, one[:, 1:]]) for one in said]
    assert boxes.matched_otherwise(rows, METRICS["map"].rows(softer, true)) == 0
    moved = [one.copy() for one in said]
    for one in moved[:3]:
        one[:, 2:] += 500
    changed = boxes.matched_otherwise(rows, METRICS["map"].rows(moved, true))
    assert 0 < changed <= 3


def test_an_order_among_pictures_is_a_change() -> None:
    """Boxes that are found as before, and surer ones of other pictures that are not objects."""
    true = [[there(CAT, 0, 0, 10, 10)]] * 40
    wrong = found(0.5, CAT, 40, 40, 10, 10)
    said = [[found(0.9, CAT, 0, 0, 10, 10), wrong]] * 40
    lowered = [
        [[box[0] - 0.45 * (number % 2), *box[1:]] for box in one] for number, one in enumerate(said)
    ]
    assert value(said, true) == 1.0
    assert value(lowered, true) < 0.9
    rows = [METRICS["map"].rows([np.array(one) for one in each], true) for each in (said, lowered)]
    assert boxes.matched_otherwise(*rows) == 20
    drop = judge_rows("map", *rows)
    assert (drop.method, drop.disagreeing) == ("bootstrap", 20)
    assert judge(drop, Budget(0.01, "relative"))[0] == "fail"


def test_one_picture_out_of_order_is_one() -> None:
    """Though every detection behind it has another place among all."""
    true = [[there(CAT, 0, 0, 10, 10)]] * 20
    said = [
        [found(0.9 - n / 100, CAT, 0, 0, 10, 10), found(0.895 - n / 100, CAT, 40, 40, 5, 5)]
        for n in range(20)
    ]
    said[0] = said[0][:1]
    late = [[[0.01, *box[1:]] for box in said[0]], *said[1:]]
    rows = [METRICS["map"].rows([np.array(one) for one in each], true) for each in (said, late)]
    assert value(said, true) != value(late, true)
    assert boxes.matched_otherwise(*rows) == 1


@given(st.integers(0, 10_000))
@settings(max_examples=25, deadline=None)
def test_where_nothing_moved_no_draw_changes(seed: int) -> None:
    """However the scores are shaken: any draw has the value it had, or a picture moved."""
    said, true = random_case(seed, 6)
    random = np.random.default_rng(seed)
    scores = iter(random.permutation(6 * 30) / 200)
    for one in said:
        one[:, 0] = [next(scores) for _ in one]
    shaken = [one.copy() for one in said]
    for one in shaken:
        # Neighbours come to change places now and then.
        one[:, 0] += random.normal(0, random.choice([1e-4, 1.5e-3]), len(one))
    first, second = (METRICS["map"].rows(each, true) for each in (said, shaken))
    draws = random.integers(0, 4, (50, 6)).astype(np.float64)
    with np.errstate(all="ignore"):
        before, after = (METRICS["map"].aggregate(rows, draws) for rows in (first, second))
    if boxes.matched_otherwise(first, second) == 0:
        np.testing.assert_allclose(after, before)
    assert boxes.matched_otherwise(first, first) == 0


def judge_rows(name: str, before: np.ndarray, after: np.ndarray) -> Drop:
    """The drop as an evaluation has it."""
    metric = METRICS[name]
    assert metric.influence is not None
    assert metric.moved is not None
    return paired_drop(
        before, after, metric.aggregate, higher_is_better=True, unit="relative",
        influence=metric.influence(before, after), moved=metric.moved(before, after), resamples=200,
    )  # fmt: skip


@pytest.mark.parametrize("name", ["map", "map-50"])
def test_no_picture_costs_more_than_its_influence(name: str) -> None:
    """Not one that finds nothing, nor one that is sure of many boxes that are wrong."""
    true = [[there(CAT, 0, 0, 10, 10)]] * 40
    # Nine tenths overlap: right at .50, wrong at .95.
    said = [[found(0.9 - n / 100, CAT, 0, 0, 10, 9)] for n in range(40)]
    wrong = [found(0.99, CAT, 50, 50, 5, 5)] * 99
    for answer in ([], wrong):
        other = [*said[:7], answer, *said[8:]]
        most = max(len(one) for one in (*said, *other))
        before, after = (
            METRICS[name].rows([pad(one, most) for one in each], true) for each in (said, other)
        )
        influence = METRICS[name].influence
        assert influence is not None
        lost = value(said, true, name) - value(other, true, name)
        assert 0 < lost <= influence(before, after) / len(said) + 1e-12


def test_influence_is_of_the_metric_itself() -> None:
    """Boxes that are right at .50 alone count for map-50 and hardly for map."""
    true = [[there(CAT, 0, 0, 10, 10)]] * 4
    said = [[found(0.9 - n / 10, CAT, 0, 0, 10, 5.5)] for n in range(4)]
    rows = METRICS["map"].rows([np.array(one) for one in said], true)
    whole, half = (METRICS[name].influence for name in ("map", "map-50"))
    assert whole is not None
    assert half is not None
    assert half(rows, rows) > 4 * whole(rows, rows) > 0


def pad(answer: Boxes, most: int) -> np.ndarray:
    """As many queries as a model has, the rest of a class that there is none of."""
    rest = [found(0.0, 50, 0, 0, 1, 1)] * (most - len(answer))
    return np.array([*answer, *rest])


def test_metrics_of_detection() -> None:
    """mAP with labels; without, the reference's own boxes are the truth."""
    names = [
        find_metric("object-detection", None, labelled=labelled, name=None).name
        for labelled in (True, False)
    ]
    assert names == ["map", "box-agreement"]
    with pytest.raises(ConfigError, match="map, map-50"):
        find_metric("object-detection", None, labelled=True, name="mean-iou")
