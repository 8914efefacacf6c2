"""Reports of results whose intervals have no ends, or whose numbers are none."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from importlib.resources import files

import pytest
from jsonschema import Draft202012Validator
from referencing import Registry, Resource

from edgekit.core.measurements import Accuracy, LayerError, Numerics, Ratio, ValidateResult
from edgekit.reporting import quality_charts, words
from edgekit.reporting.markdown import render_markdown
from edgekit.reporting.page import render_html
from tests.reporting import results

NAN, INF = math.nan, math.inf


def judged(**changes: float) -> ValidateResult:
    """A validation whose accuracy has other values."""
    result = results.validation("inconclusive", worst_text="x")
    assert result.accuracy is not None
    return replace(result, accuracy=replace(result.accuracy, **changes))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("low", "high", "told"),
    [
        (-INF, INF, "no bound"),
        (NAN, NAN, "no bound"),
        (-0.01, INF, "−1.00 % to no bound"),
        (NAN, 0.02, "no bound to 2.00 %"),
        (-0.01, 0.02, "−1.00 % to 2.00 %"),
    ],
)
def test_an_end_without_a_bound_is_said_and_drawn(low: float, high: float, told: str) -> None:
    """Markdown and page are made, and say which end has none."""
    result = judged(drop_lower_95=low, drop_upper_95=high)
    assert result.accuracy is not None
    assert words.bounds(result.accuracy) == told
    plain = results.as_json(result)
    for text in (render_markdown(plain), render_html(plain)):
        assert told in text
        assert "nan %" not in text


def test_open_ends_run_out_of_the_picture() -> None:
    """An arrow stands where the bar would have ended."""
    accuracy = Accuracy("mae", 1.0, 1.1, 0.1, -INF, INF, 40, None)
    shown = quality_charts.drop(accuracy, 0.01)
    closed = quality_charts.drop(replace(accuracy, drop_lower_95=0.0, drop_upper_95=0.2), 0.01)
    assert shown.svg.count("<use ") == closed.svg.count("<use ") + 2
    assert ("95 % interval", "no bound") in shown.rows


@pytest.mark.parametrize(
    "changes",
    [
        {"drop": NAN, "drop_lower_95": NAN, "drop_upper_95": NAN},
        {"drop": NAN, "drop_lower_95": NAN, "drop_upper_95": NAN, "candidate": NAN},
        {"drop": 1e300, "drop_lower_95": -1e308, "drop_upper_95": 1e308},
        {"reference": 0.0, "drop": INF, "drop_upper_95": INF},
        {"reference": 1e308, "candidate": -1e308},
    ],
)
def test_numbers_that_are_none_are_left_out(changes: dict[str, float]) -> None:
    """The reports of a metric that is not defined, or far beyond any axis, are made."""
    plain = results.as_json(judged(**changes))
    text = render_markdown(plain)
    assert "nan" not in text
    assert "inf " not in text
    assert render_html(plain).startswith("<!doctype html>")


def test_every_null_is_bearable() -> None:
    """Outputs, layers, samples and limits that were no numbers."""
    result = replace(
        results.validation(worst_text="x"),
        numerics={"o": Numerics(NAN, INF, NAN, None, INF)},
        layers=(LayerError("good", "MatMul", 30.0, 0.1), LayerError("lost", "Add", -INF, INF)),
    )
    result = replace(
        result,
        size=replace(result.size, ratio=NAN),
        gates=tuple(replace(gate, limit=NAN, value=None, passed=None) for gate in result.gates),
        worst=tuple(replace(one, distance=NAN) for one in result.worst),
    )
    plain = results.as_json(result)
    assert "nan" not in render_markdown(plain)
    page = render_html(plain)
    assert ">nan" not in page
    assert "no number" in page
    # What was lost altogether stands before what differs.
    assert page.index("lost (Add)") < page.index("good (MatMul)")


def test_ratios_without_ends_are_drawn() -> None:
    """From an A/A of two processes, say: the bar crosses the picture."""
    open_ended = Ratio("pytorch", "minilm-ort-int8", 1, 16, 1.1, 0.0, INF, INF, "not resolved")
    unknown = replace(open_ended, value=NAN, low=NAN, high=NAN)
    result = replace(results.comparison(), ratios=(open_ended, unknown))
    plain = results.as_json(result)
    assert "0× to no bound" in render_markdown(plain)
    assert "0× to no bound" in render_html(plain)


@pytest.mark.parametrize("limit", [NAN, 1e308])
def test_a_budget_that_is_none_is_not_drawn(limit: float) -> None:
    """A limit that was null, or that allows everything."""
    accuracy = Accuracy("f1", 0.9, 0.8, 0.1, 0.0, 0.2, 40, None)
    assert "The budget is" not in quality_charts.drop(accuracy, limit).caption


def test_names_are_not_read_as_formulas() -> None:
    """Dollars, control characters and half surrogates in a contender's name."""
    name = "$\\frac{x$ $a\x00b\x01\ud800"
    result = results.comparison()
    rows = tuple(
        replace(row, name=name) if row.name == "pytorch" else row for row in result.contenders
    )
    ratios = tuple(replace(one, a=name if one.a == "pytorch" else one.a) for one in result.ratios)
    assert render_html(results.as_json(replace(result, contenders=rows, ratios=ratios)))


def test_nulls_fit_the_published_schema() -> None:
    """A drop, a distance and a layer that were no numbers are null, as the schema allows."""
    result = judged(drop=NAN, drop_lower_95=-INF, drop_upper_95=INF, reference=NAN)
    result = replace(
        result,
        timing=None,
        numerics={"o": Numerics(NAN, INF, NAN, None, NAN)},
        layers=(LayerError("lost", "Add", -INF, NAN),),
        worst=tuple(replace(one, distance=NAN) for one in result.worst),
    )
    core = files("edgekit.core")
    registry = Registry().with_resources(
        (
            name,
            Resource.from_contents(json.loads((core / name).read_text("utf-8"))),
        )
        for name in ("validate.schema.json", "bench.schema.json")
    )
    schema = registry.contents("validate.schema.json")
    plain = results.as_json(result)
    Draft202012Validator(schema, registry=registry).validate(plain)
    accuracy = plain["accuracy"]
    assert isinstance(accuracy, dict)
    assert (accuracy["drop"], accuracy["drop_lower_95"], accuracy["reference"]) == (None,) * 3


def test_the_original_is_where_it_ran() -> None:
    """An imported model has never been in PyTorch."""
    accuracy = Accuracy("accuracy", 0.9, 0.89, 0.01, 0.0, 0.02, 100, None)
    caption = quality_charts.drop(accuracy, 0.01, "as imported").caption
    assert caption.startswith("As imported accuracy is")
    assert "PyTorch" not in caption
