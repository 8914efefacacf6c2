"""The report of a pruning: what stands on top, what is drawn, and what is left out."""

from __future__ import annotations

import json
import math
import re
from dataclasses import replace
from pathlib import Path

import pytest

from edgekit.core.measurements import Interval, Latency
from edgekit.core.pruned import Change, PruneResult, SensitivityRow
from edgekit.reporting import render_html, render_markdown, write_report
from edgekit.reporting.headline import headline
from edgekit.reporting.pruned import charts
from edgekit.reporting.pruned.sensitivity import by_structure, cost, within
from edgekit.reporting.reading import read_result
from tests.reporting import results
from tests.schemas import check_schema_of


def written(result: PruneResult) -> PruneResult:
    """The record behind what a program reads of a result."""
    found = read_result(results.as_json(result))
    assert isinstance(found, PruneResult)
    return found


@pytest.mark.parametrize("make", [results.pruning, results.sensitivity])
def test_what_is_printed_is_what_is_read(make: object) -> None:
    """A result goes through JSON without a loss, and keeps to its schema."""
    result = make()  # type: ignore[operator]
    check_schema_of("prune", results.as_json(result))
    assert written(result) == result


@pytest.mark.parametrize(
    ("verdict", "badge", "tone", "reason"),
    [
        ("pass", "Pass", "good", None),
        ("fail", "Fail", "bad", "The drop is over the budget of 1.00 points."),
        ("inconclusive", "Inconclusive", "open", "About 9,800 samples would settle the accuracy."),
    ],
)
def test_the_verdict_is_on_top(verdict: str, badge: str, tone: str, reason: str | None) -> None:
    """With what went, what it cost and gained, and what the table had foretold."""
    head = headline(results.pruning(verdict))
    assert (head.badge, head.tone, head.title) == (badge, tone, "sentiment-pruned")
    assert reason is None or reason in head.reasons
    assert "has 24.26 % fewer parameters, takes 37.86 % fewer operations" in head.sentence
    assert "is 1.54× as fast (1.50× to 1.58×)" in head.sentence
    assert "against minilm-sentiment; 4,245 rows that nothing has seen" in head.sentence
    assert [one.label for one in head.figures] == [
        "Parameters", "Operations", "Drop in accuracy", "Speed", "Foretold speed",
    ]  # fmt: skip
    assert head.figures[-1].detail == "2.60 % above what was measured"


def test_a_missed_speed_is_told() -> None:
    """With the goal and what was measured; an interval around the goal proves nothing."""
    missed = replace(results.pruning("fail"), latency=Latency(20, 15, Interval(1.3, 1.2, 1.4)))
    assert "The speed-up of 1.50× was not reached: measured is 1.30×" in headline(missed).reasons[1]
    unproved = replace(missed, latency=Latency(20, 13, Interval(1.5, 1.4, 1.6)))
    assert "It is not proved that the speed-up of 1.50×" in headline(unproved).reasons[1]
    slower = replace(missed, latency=Latency(20, 25, Interval(0.8, 0.7, 0.9)))
    assert "It is slower than the original: 0.800×" in headline(slower).reasons[1]


def test_nothing_is_told_of_a_model_that_there_is_not() -> None:
    """Where no cut reaches the goal there are no figures and no pictures of one."""
    whole = Change(10, 10)
    none = replace(
        results.pruning("fail"), output=None, parameters=whole, flops=whole, accuracy=None,
        latency=None, predicted_speedup=None, layers=(), repair=None, recovery=None, noise=None,
    )  # fmt: skip
    head = headline(none)
    assert head.sentence == "Nothing was cut of minilm-sentiment."
    assert head.reasons[0] == "No cut was found that reaches the goal."
    page = render_html(results.as_json(none))
    assert "<figure" not in page
    assert "Cuts that were tried" in page


def test_a_sensitivity_says_how_far_each_structure_goes() -> None:
    """The deepest share that costs a point at most, of labels where there are some."""
    head = headline(results.sensitivity())
    assert (head.badge, head.title) == ("Measured", "Sensitivity of minilm-sentiment")
    assert "at most 1 point of what is right (85.12 % in the original)" in head.sentence
    assert [(one.label, one.value) for one in head.figures] == [
        ("heads", "25 %"), ("ffn", "25 %"), ("layers", "none"),
    ]  # fmt: skip
    assert "1.15× as fast foretold" in head.figures[1].detail


def test_rows_are_compared_by_what_they_all_have() -> None:
    """Without labels by the original's decisions, without decisions by the distance."""
    rows = results.sensitivity().sensitivity
    assert cost(rows).name == "right"
    unlabelled = [replace(row, accuracy=None, reference_accuracy=None) for row in rows]
    agreeing = cost(unlabelled)
    assert (agreeing.name, agreeing.whole) == ("decided as by the original", 1.0)
    assert within(by_structure(unlabelled)["ffn"], agreeing) is None
    bare = [replace(row, agreement=None) for row in unlabelled]
    assert not cost(bare).counted
    assert within(by_structure(bare)["ffn"], cost(bare)) is None
    head = headline(replace(results.sensitivity(), sensitivity=tuple(bare)))
    assert [one.value for one in head.figures] == ["50 %", "50 %", "33.3 %"]


def test_a_cut_that_costs_too_much_ends_it() -> None:
    """A deeper one that happens to be right again is no way past it."""
    rows = [
        SensitivityRow("ffn", ratio, 10, 0.1, None, right, None, 0.9)
        for ratio, right in ((0.1, 0.9), (0.2, 0.8), (0.3, 0.9))
    ]
    found = within(rows, cost(rows))
    assert found is not None
    assert found.ratio == 0.1


def test_both_pictures_of_a_sensitivity() -> None:
    """By the share, and by the speed where all is foretold; numbers and words beside them."""
    by_share, by_speed = charts.sensitivity(results.sensitivity())
    assert [key.label for key in by_share.legend] == ["heads", "ffn", "layers"]
    assert "ffn cut by 25 %: 84.88 % right" in by_share.caption
    assert len(by_share.rows) == len(by_speed.rows) == 8
    assert "Heads reaches 1.17×" in by_speed.caption
    untimed = [replace(row, speedup=None) for row in results.sensitivity().sensitivity]
    (only,) = charts.sensitivity(replace(results.sensitivity(), sensitivity=tuple(untimed)))
    assert only.name == "sensitivity"


def test_a_distance_that_is_no_number_is_left_out() -> None:
    """A cut that answers NaN has its row, and no point."""
    rows = tuple(
        replace(row, loss=math.nan, agreement=None, accuracy=None, reference_accuracy=None)
        for row in results.sensitivity().sensitivity
    )
    result = replace(results.sensitivity(), sensitivity=rows)
    page = render_html(results.as_json(result))
    assert re.search(r"\bnan\b", page, re.IGNORECASE) is None


def test_the_layers_that_are_gone_are_named() -> None:
    """Beside what is left of the others; a network of convolutions has no such picture."""
    drawn = charts.layers(results.pruning())
    assert drawn is not None
    assert "Layers that are gone: 4." in drawn.caption
    assert drawn.rows[3] == ("bert.encoder.layer.3", "0 %", "0 %")
    assert charts.layers(replace(results.pruning(), layers=())) is None


def test_a_noisy_machine_decides_nothing() -> None:
    """The speed has no colour, and the noise is the reason."""
    noisy = replace(results.pruning("inconclusive"), noise=results.NOISY)
    head = headline(noisy)
    assert next(one for one in head.figures if one.label == "Speed").tone == "plain"
    assert any("The machine was noisy" in reason for reason in head.reasons)


def test_hostile_text_stays_text() -> None:
    """Names of structures, layers and cuts come from a file that anybody may have written."""
    result = results.sensitivity()
    rows = tuple(replace(row, structure=results.HOSTILE) for row in result.sensitivity)
    cut = results.pruning()
    layers = tuple(replace(row, name=results.HOSTILE) for row in cut.layers)
    for one in (
        replace(result, sensitivity=rows, source=results.HOSTILE),
        replace(cut, layers=layers, output=Path(results.HOSTILE), engine=results.HOSTILE),
    ):
        page = render_html(results.as_json(one))
        assert "<script" not in page
        assert "<img" not in page


def test_markdown_holds_every_table() -> None:
    """For a pull request: the verdict, the figures, what was left and tried, how it was made."""
    text = render_markdown(results.as_json(results.pruning()))
    assert text.startswith("## ✅ Pass: sentiment-pruned")
    for title in ("What is left of every layer", "Cuts that were tried", "Goal", "Recovery"):
        assert f"<summary>{title}</summary>" in text
    assert "What each structure costs by itself" in render_markdown(
        results.as_json(results.sensitivity())
    )


def test_a_missed_goal_is_a_report_too(tmp_path: Path) -> None:
    """What the command prints then holds the error beside the result."""
    error = {"kind": "BudgetNotMet", "message": "It drops.", "hint": None, "exit_code": 5}
    whole = {**results.as_json(results.pruning("fail")), "error": error}
    check_schema_of("prune", whole)
    (tmp_path / "r.json").write_text(json.dumps(whole), encoding="utf-8")
    write_report(tmp_path / "r.json", tmp_path / "r.html", markdown=tmp_path / "r.md")
    assert "Fail" in (tmp_path / "r.html").read_text(encoding="utf-8")
    assert (tmp_path / "r.md").read_text(encoding="utf-8").startswith("## ❌ Fail")
