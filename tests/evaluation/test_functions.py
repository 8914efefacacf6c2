"""Metrics of one's own: loaded by name, judged like any other, and refused with a reason."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from sklearn.metrics import accuracy_score

from edgekit.core.bundle import Bundle
from edgekit.core.errors import ConfigError
from edgekit.evaluation.accuracy import evaluate, judge_pairs
from edgekit.evaluation.metrics import METRICS, FunctionMetric, find_function
from edgekit.evaluation.pairs import Pairs
from edgekit.evaluation.statistics import judge, parse_drop
from edgekit.runtime import load
from tests.evaluation.conftest import text_source
from tests.evaluation.test_accuracy import labelled

Make = Callable[..., Bundle]

CODE = """
import numpy as np
def accuracy(predictions, labels):
    return (np.asarray(predictions).argmax(axis=1) == np.asarray(labels)).mean()
def error(predictions, labels):
    return 1 - accuracy(predictions, labels)
error.higher_is_better = False
def breaks(predictions, labels):
    raise KeyError("no such thing")
def nothing(predictions, labels):
    return float("nan")
def words(predictions, labels):
    return "high"
def odd(predictions, labels):
    return 1.0
odd.higher_is_better = "yes"
same = 3
"""


@pytest.fixture
def code(tmp_path: Path) -> Path:
    """A file with metrics."""
    path = tmp_path / "measures.py"
    path.write_text(CODE)
    return path


def test_a_function_is_found_in_a_file_and_in_a_module(
    code: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both ways to name it, as a SOURCE is named."""
    monkeypatch.chdir(code.parent)
    monkeypatch.delitem(sys.modules, "measures", raising=False)
    for name in (f"{code}:accuracy", "measures:accuracy"):
        found = find_function(name)
        assert isinstance(found, FunctionMetric)
        assert (found.name, found.higher_is_better) == (name, True)
    turned = find_function(f"{code}:error")
    assert turned is not None
    assert not turned.higher_is_better
    assert find_function("accuracy") is None


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("nowhere.py:f", "no file nowhere.py"),
        ("no_such_module:f", "no Python module"),
        ("{code}:acuracy", "has no 'acuracy'"),
        ("{code}:same", "is int, not a function"),
        ("{code}:odd", "higher_is_better"),
        ("{broken}:f", "cannot be loaded"),
    ],
)
def test_what_is_no_function_is_refused(code: Path, name: str, told: str) -> None:
    """By name, as an error in the configuration."""
    broken = code.with_name("broken.py")
    broken.write_text("1 / 0")
    with pytest.raises(ConfigError, match=told):
        find_function(name.format(code=code, broken=broken))


def test_its_value_is_that_of_the_whole(bundle_of: Make, code: Path) -> None:
    """The same as the metric of the name, with an interval like it."""
    samples = labelled("classification")
    with load(bundle_of("classification").path) as model:
        source = text_source("classification", shift=1.5)
        own = evaluate(model, source, samples, metric=f"{code}:accuracy", max_drop="1pt")
        known = evaluate(model, source, samples, max_drop="1pt")
        turned = evaluate(model, source, samples, metric=f"{code}:error", max_drop="1pt")
    assert own.accuracy.metric == f"{code}:accuracy"
    assert own.accuracy.reference == pytest.approx(known.accuracy.reference)
    assert own.accuracy.candidate == pytest.approx(known.accuracy.candidate)
    assert own.accuracy.drop_upper_95 == pytest.approx(known.accuracy.drop_upper_95, abs=0.05)
    assert turned.accuracy.drop == pytest.approx(own.accuracy.drop)
    assert own.accuracy.mcnemar_p is None
    assert known.accuracy.mcnemar_p is not None


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("breaks", "failed: KeyError: 'no such thing'"),
        ("nothing", "returned nan, which is no finite number"),
        ("words", "failed: ValueError"),
    ],
)
def test_a_function_that_fails_is_told(bundle_of: Make, code: Path, name: str, told: str) -> None:
    """With its name and its own words."""
    path = bundle_of("classification").path
    with load(path) as model, pytest.raises(ConfigError, match=told) as caught:
        evaluate(model, text_source("classification"), labelled("classification"),
                 metric=f"{code}:{name}")  # fmt: skip
    assert f"{code}:{name}" in caught.value.message


def test_predictions_come_as_arrays_where_they_can() -> None:
    """Logits are one array, tags of sentences of any length a list; labels likewise."""
    seen: list[tuple[object, object]] = []

    def keep(predictions: object, labels: object) -> float:
        seen.append((predictions, labels))
        return 1.0

    metric = FunctionMetric("keep", keep, True)
    metric.over([np.ones(3), np.zeros(3)], [1, 2])(None)
    metric.over([np.ones(3), np.zeros(2)], [(1, 2, 3), (4, 5)])(np.array([1, 1]))
    metric.over(["yes", "no"], [("yes",), ("no", "nay")])(np.array([1]))
    first, second, third = seen
    np.testing.assert_array_equal(first[0], [[1, 1, 1], [0, 0, 0]])  # type: ignore[arg-type]
    np.testing.assert_array_equal(first[1], [1, 2])  # type: ignore[arg-type]
    assert [len(row) for row in second[0]] == [2, 2]  # type: ignore[attr-defined]
    assert second[1] == [(4, 5), (4, 5)]
    assert third == (["no"], [("no", "nay")])


def test_a_draw_without_a_value_tells_nothing() -> None:
    """A draw that lacks a class is left out; all samples must have a value."""

    def needs_both(predictions: object, labels: object) -> float:
        if len(set(np.asarray(labels).tolist())) < 2:
            raise ValueError("one class")
        return float(accuracy_score(labels, np.asarray(predictions)))

    value = FunctionMetric("both", needs_both, True).over([np.int64(0), np.int64(1)], [0, 1])
    assert value(None) == 1
    assert math.isnan(value(np.array([0, 0])))
    with pytest.raises(ConfigError, match="one class"):
        FunctionMetric("both", needs_both, True).over([np.int64(0)], [0])(None)


def test_few_changes_are_said(bundle_of: Make, code: Path) -> None:
    """An interval that rests on next to nothing comes with a note."""
    samples = labelled("question-answering")
    code.write_text("def exact(said, true):\n    return sum(map(bool, said)) / len(said)\n")
    with load(bundle_of("question-answering").path) as model:
        found = evaluate(model, text_source("question-answering"), samples, metric=f"{code}:exact")
    assert any("predictions make a difference to" in note for note in found.notes)
    assert found.drop.method == "exact"


def _accuracy(predictions: object, labels: object) -> float:
    chosen = np.asarray(predictions).argmax(axis=1)
    return float((chosen == np.asarray(labels)).mean())


def _confidence(predictions: object, labels: object) -> float:
    return float(np.asarray(predictions).max())


@pytest.mark.parametrize("flipped", [0, 3, 9, 40])
def test_predictions_count_where_the_function_sees_them(flipped: int) -> None:
    """Logits that all differ by a little are no disagreement of a function of the decisions."""
    generator = np.random.default_rng(4)
    before = generator.normal(size=(150, 2))
    after = before + 1e-6
    after[:flipped] = before[:flipped, ::-1]
    labels = [int(one) for one in before.argmax(axis=1)]
    metric = FunctionMetric("own", _accuracy, True)
    assert metric.moved(list(before), list(after), labels, enough=10) == min(flipped, 10)
    # In blocks of several no more is found than there is, and enough where there is enough.
    told = metric.moved(list(before), list(after), labels, enough=10, most=50)
    assert told <= flipped
    assert (told >= 10) == (flipped == 40)


def test_equal_predictions_move_nothing() -> None:
    """And a mixture that the function has no value for moves it."""
    same = [np.float64(one) for one in range(20)]
    shifted = [one + 1 for one in same]

    def picky(predictions: object, labels: object) -> float:
        if len(set(np.asarray(predictions).tolist())) < 20:
            raise ValueError("twice the same")
        return 1.0

    metric = FunctionMetric("picky", picky, True)
    assert metric.moved(same, same, same, enough=10) == 0
    assert metric.moved(same, shifted, same, enough=10) == 10
    assert FunctionMetric("top", _confidence, True).moved(same, shifted, same, enough=10) == 1


def test_a_function_proves_no_more_than_the_metric_it_computes() -> None:
    """Thirty samples with the same decisions leave it as open as they leave accuracy."""
    generator = np.random.default_rng(0)
    before = list(generator.normal(size=(30, 2)))
    pairs = Pairs(before, [one + 1e-6 for one in before], [0.0] * 30)
    labels = [int(one) for one in generator.integers(0, 2, 30)]
    budget = parse_drop("1%")
    own = judge_pairs(FunctionMetric("own", _accuracy, True), pairs, labels, budget, 0,
                      labelled=True)  # fmt: skip
    known = judge_pairs(METRICS["accuracy"], pairs, labels, budget, 0, labelled=True)
    assert judge(own.drop, budget)[0] == judge(known.drop, budget)[0] == "inconclusive"
    assert own.drop.method == "exact"
    assert own.drop.high >= known.drop.high > 0.1
