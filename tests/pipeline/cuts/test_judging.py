"""How a cut comes to its verdict: whom it learns from, what chooses it, how often rows judge."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest

from edgekit.core.errors import BudgetNotMet
from edgekit.core.measurements import Accuracy, Verdict
from edgekit.core.pruned import Cut, PruneResult
from edgekit.evaluation.accuracy import Evaluation
from edgekit.evaluation.statistics import Budget, Drop
from edgekit.pipeline.cuts import judging
from edgekit.pipeline.cuts.finding import Mended
from edgekit.pipeline.cuts.goals import Goal
from edgekit.pipeline.cuts.judging import Judged, Trial, partners
from tests.pipeline.cuts.plans import PLAN

BUDGET = Budget(0.01, "points")
CHOOSING, JUDGING = (1, 2, 3), (4, 5, 6, 7)


def test_a_layer_answers_for_those_that_went_behind_it() -> None:
    """It is held to the output of the last of them, as in least squares."""
    assert partners(replace(PLAN, kept_layers=(0, 1, 2, 3)), 4) == [0, 1, 2, 3]
    assert partners(replace(PLAN, kept_layers=(0, 2)), 4) == [1, 3]
    assert partners(replace(PLAN, kept_layers=(1,)), 4) == [3]
    assert partners(replace(PLAN, kept_layers=()), 0) == []


def evaluated(drop: float, verdict: Verdict) -> Evaluation:
    """Rows on which so much is lost."""
    accuracy = Accuracy("accuracy", 0.8, 0.8 - drop, drop, 0.0, 0.1, 400, None, "points")
    found = Drop(drop, 0.0, 0.1, 400, "bootstrap", 20, 0.0)
    return Evaluation(verdict, accuracy, {}, {}, found, BUDGET)


def trial(
    monkeypatch: pytest.MonkeyPatch, drops: dict[float, float], looks: list[tuple[int, float]]
) -> Trial:
    """One without a model: a cut is the share that it takes away, and loses what it is told to."""

    def find(share: float, **_: object) -> Mended:
        plan = replace(PLAN, method=f"{share:.2f}")
        return Mended(plan, None, None, None)  # type: ignore[arg-type]

    def evaluate(self: Trial, made: Judged, rows: tuple[int, ...]) -> Evaluation:
        bundle: float = made.bundle  # type: ignore[assignment]
        looks.append((len(rows), bundle))
        return evaluated(drops[bundle], "pass" if drops[bundle] <= 0.01 else "fail")

    def result(self: Trial, **given: object) -> PruneResult:
        return SimpleNamespace(tried=tuple(self._tried), **given)  # type: ignore[return-value]

    made = object.__new__(Trial)
    made.finder = SimpleNamespace(find=find)  # type: ignore[assignment]
    made.__dict__.update(
        _goal=Goal(None, None, BUDGET), _steps=0, _tried=[], _notes=[], _recovered=0, _keep=False,
        _output=Path("p"), _progress=lambda _: None, _structures=("ffn",),
        _checkpoint=SimpleNamespace(forget=lambda: None, begun=lambda: None),
        _material=SimpleNamespace(deciding=CHOOSING, verdict=JUDGING),
        _shop=SimpleNamespace(
            original=None, compare=lambda bundle: None,
            export=lambda source, name: looks_like(made),
        ),
    )  # fmt: skip
    shares: list[float] = []

    def looks_like(_: Trial) -> float:
        return shares[-1]

    def lost(self: Trial, mended: Mended) -> float | None:
        shares.append(float(mended.plan.method))
        return None

    nothing: Callable[..., None] = lambda *_, **__: None  # noqa: E731
    monkeypatch.setattr(Trial, "_lost", lost)
    monkeypatch.setattr(Trial, "_evaluate", evaluate)
    monkeypatch.setattr(Trial, "_write", nothing)
    monkeypatch.setattr(Trial, "result", result)
    monkeypatch.setattr(judging, "told_plan", lambda plan: plan.method)
    return made


def test_rows_for_choosing_choose_and_one_cut_is_judged(monkeypatch: pytest.MonkeyPatch) -> None:
    """The first that spends at most half of the budget there; rows for verdicts see it alone."""
    looks: list[tuple[int, float]] = []
    drops = {0.6: 0.09, 0.5: 0.008, 0.4: 0.004, 0.3: 0.0}
    made = trial(monkeypatch, drops, looks)
    found = made.largest(tuple(drops))
    assert found.verdict == "pass"
    assert looks == [(3, 0.6), (3, 0.5), (3, 0.4), (4, 0.4)]
    tried: tuple[Cut, ...] = found.tried
    assert [one.taken for one in tried] == [False, False, True]


def test_where_none_is_chosen_the_last_is_judged_all_the_same(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Once: three recoveries are enough of a search."""
    looks: list[tuple[int, float]] = []
    drops = {0.6: 0.09, 0.5: 0.08, 0.4: 0.07, 0.3: 0.0}
    made = trial(monkeypatch, drops, looks)
    with pytest.raises(BudgetNotMet, match="misses the budget of 1pt"):
        made.largest(tuple(drops))
    assert [rows for rows, _ in looks] == [3, 3, 3, 4]


def test_a_speedup_is_aimed_beyond(monkeypatch: pytest.MonkeyPatch) -> None:
    """The interval measured at the end has to reach it; what goes no further is tried as asked."""
    made = trial(monkeypatch, {}, [])
    asked: list[float | None] = []

    def find(share: float, *, speedup: float | None = None) -> Mended | None:
        asked.append(speedup)
        return None if len(asked) == 1 else Mended(PLAN, None, None, None)  # type: ignore[arg-type]

    made.finder = SimpleNamespace(find=find)  # type: ignore[assignment]
    assert made._find(Goal(None, 1.5, None)).plan == PLAN
    assert asked == [pytest.approx(1.56), 1.5]
