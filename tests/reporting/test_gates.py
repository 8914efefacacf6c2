"""Limits with the end that is judged, and what is told of samples, data and budget."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest

from edgekit.core.measurements import Gate, Interval, Latency, ValidateResult
from edgekit.reporting import render_html, render_markdown, tables, words
from edgekit.reporting.headline import gate_values, headline
from tests.reporting import results
from tests.reporting.results import NOISY


def judged(low: float = -0.0024, high: float = 0.0024) -> ValidateResult:
    """A drop of nothing, a speed of 2.1 (1.9 to 2.4), a median of 5 ms (4 to 6)."""
    result = results.validation("inconclusive", worst_text="plain")
    assert result.accuracy is not None
    return replace(
        result,
        accuracy=replace(result.accuracy, drop=0.0, drop_lower_95=low, drop_upper_95=high),
        latency=Latency(10.5, 5.0, Interval(2.1, 1.9, 2.4), 4.0, 6.0),
    )


@pytest.mark.parametrize(
    ("gate", "told"),
    [
        (Gate("max_drop", 0.0, 0.0, None), "0.00 %, at most 0.24 %"),
        (Gate("max_drop", 0.01, 0.0, True), "0.00 %, at most 0.24 %"),
        (Gate("max_drop", -0.01, 0.0, False), "0.00 %, at least −0.24 %"),
        (Gate("min_speedup", 2.0, 2.1, None), "2.10×, at least 1.90×"),
        (Gate("min_speedup", 3.0, 2.1, False), "2.10×, at most 2.40×"),
        (Gate("not_slower", 1.0, 2.1, True), "2.10×, at least 1.90×"),
        (Gate("not_slower", 2.0, 2.1, True), "2.10×, at most 2.40×"),
        (Gate("not_slower", 3.0, 2.1, False), "2.10×, at most 2.40×"),
        (Gate("max_latency_ms", 5.5, 5.0, None), "5.00 ms, at most 6.00 ms"),
        (Gate("max_latency_ms", 3.0, 5.0, False), "5.00 ms, at least 4.00 ms"),
        (Gate("max_size_mb", 30.0, 23.1, True), "23.1 MB"),
        (Gate("max_rss_mb", 30.0, None, None), "–"),
    ],
)
def test_the_judged_end_is_told(gate: Gate, told: str) -> None:
    """The bad one; of what was missed the good one, which was not enough either."""
    assert gate_values(gate, judged())[1] == told


def test_an_end_without_a_bound_is_told() -> None:
    """As it is everywhere."""
    gate = Gate("max_drop", 0.01, 0.0, None)
    assert gate_values(gate, judged(high=math.inf))[1] == "0.00 %, no bound"


def test_noise_is_named_where_it_left_a_limit_open() -> None:
    """Of a limit on time; one on the drop is left open by its samples."""
    speed, drop = Gate("not_slower", 1.0, 0.6, None), Gate("max_drop", 0.01, 0.0, None)
    assert tables.said(speed, noisy=True) == words.UNDECIDED
    assert tables.said(drop, noisy=True) == tables.said(speed, noisy=False) == "not decided"
    result = judged()
    assert result.timing is not None
    result = replace(result, gates=(speed,), timing=replace(result.timing, noise=NOISY))
    assert "(other programs used 56% of the CPUs)" in " ".join(headline(result).reasons)


def test_a_budget_that_no_samples_settle_is_called_so() -> None:
    """Instead of a number of samples."""
    result = judged()
    assert result.accuracy is not None
    result = replace(
        result,
        accuracy=replace(result.accuracy, samples_needed=None),
        gates=(Gate("max_drop", 0.0, 0.0, None),),
    )
    assert any("No number of samples would settle" in one for one in headline(result).reasons)


def test_the_data_is_named() -> None:
    """The file and its rows: in the sentence and on a card."""
    plain = results.as_json(results.validation())
    assert "1,500 samples of movies.csv" in render_markdown(plain).replace("\\", "")
    page = render_html(plain)
    assert "1,500 samples of movies.csv" in page
    assert '<th scope="row">rows</th><td>2,600</td>' in page


def test_samples_that_do_not_differ_are_said_not_to() -> None:
    """Instead of a list of nothing, or before one of rounding."""
    result = results.validation()
    unchanged = tuple(replace(one, changed=False) for one in result.worst)
    page = render_html(results.as_json(replace(result, worst=unchanged)))
    assert "No sample is decided otherwise: on the 1,500 samples the outputs differ by 1.3" in page
    assert "<details><summary>The samples whose outputs differ most</summary>" in page
    plain = results.as_json(replace(result, worst=()))
    for text in (render_html(plain), render_markdown(plain)):
        assert "No sample differs" in text
    assert tables.undisturbed(result) is None
    # Evidence keeps no samples: nobody knows.
    assert tables.undisturbed(replace(result, worst=(), data={"name": "movies.csv"})) is None


@pytest.mark.parametrize(
    ("protocol", "told"),
    [
        ({"stopped": "precision", "budget_seconds": 20, "measured_seconds": 9.0}, None),
        ({"stopped": "budget"}, None),
        (
            {"stopped": "budget", "budget_seconds": 20.0, "measured_seconds": 19.96, "rounds": 5},
            "Timed 20.0 of 20 s in 5 rounds; start-up comes on top.",
        ),
        (
            {"stopped": "budget", "budget_seconds": 20.0, "measured_seconds": 14.0,
             "untimed": "who failed leaves its part unused"},
            "Timed 14.0 of 20 s: who failed leaves its part unused.",
        ),
    ],
)  # fmt: skip
def test_what_became_of_the_budget_is_told(protocol: dict[str, object], told: str | None) -> None:
    """And why less was timed, where that is known."""
    assert words.timed_part(protocol) == told


@pytest.mark.parametrize(
    ("protocol", "told"),
    [
        ({}, ""),
        ({"scenario": "single-stream"}, ""),
        ({"scenario": "server", "qps": 12.5}, "server, 12.5 requests/s"),
        ({"scenario": "sparse", "interval": 2.0}, "sparse, a request every 2 s"),
        ({"scenario": "offline", "streams": None}, "offline"),
        ({"scenario": "offline", "streams": 1}, "offline, 1 stream"),
    ],
)
def test_a_scenario_is_named(protocol: dict[str, object], told: str) -> None:
    """Where it is not one request after the other."""
    assert words.scenario(protocol) == told
