"""The HTML page as text: one file, escaped, the same every time, only what there is."""

from __future__ import annotations

import re
from dataclasses import replace
from html.parser import HTMLParser

import pytest

from edgekit.core.errors import ConfigError
from edgekit.core.measurements import BenchResult, ValidateResult
from edgekit.reporting import render_html
from tests.reporting import results


def test_hostile_text_stays_text() -> None:
    """Markup in samples, names and notes arrives as characters, never as elements."""
    result = results.validation()
    result = replace(
        result,
        notes=(results.HOSTILE,),
        bundle={"name": results.HOSTILE},
        layers=(replace(result.layers[0], tensor=results.HOSTILE),),
        command=results.HOSTILE,
    )

    page = render_html(results.as_json(result))

    assert "<script" not in page
    assert "<img" not in page
    assert "&lt;script&gt;" in page


def test_the_page_is_alone() -> None:
    """Nothing in a page asks for another file, and it stays far below 1.5 MB."""
    page = render_html(results.as_json(results.validation(worst_text="plain")))

    assert len(page.encode()) < 500_000
    assert not re.search(r"(?:src|href)=\"(?!#|data:)", page)
    assert "url(http" not in page
    assert "@import" not in page
    assert "<script" not in page


def test_the_same_result_is_the_same_page() -> None:
    """Two pages of one result do not differ by a byte."""
    data = results.as_json(results.comparison())

    assert render_html(data) == render_html(data)


def test_ids_are_unique_and_pictures_have_words() -> None:
    """No id stands twice, every picture has a label, a caption and its numbers as a table."""
    page = render_html(results.as_json(results.comparison()))
    seen: list[str] = []

    class Reader(HTMLParser):
        def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
            seen.extend(value or "" for name, value in attrs if name == "id")

    Reader().feed(page)
    assert len(seen) == len(set(seen))
    figures = re.findall(r"<figure>.*?</figure>", page, flags=re.DOTALL)
    assert len(figures) >= 7
    for figure in figures:
        assert 'role="img" aria-label="' in figure
        assert "<figcaption>" in figure
        assert "<table>" in figure


def test_pictures_take_the_colours_of_the_page() -> None:
    """A picture has no colour of its own but the page's variables."""
    page = render_html(results.as_json(results.comparison()))

    pictures = "".join(re.findall(r"<svg .*?</svg>", page, flags=re.DOTALL))
    assert "var(--series-1)" in pictures
    assert re.findall(r"#[0-9a-f]{6}", pictures) == []


def test_sections_without_data_are_absent() -> None:
    """A validation of accuracy alone shows no empty latency, memory, layers or samples."""
    result = replace(
        results.validation(), timing=None, latency=None, worst=(), layers=(), notes=(),
        command=None, data={},
    )  # fmt: skip

    page = render_html(results.as_json(result))

    found = re.findall(r'<section id="section-([a-z-]+)"', page)
    assert found == ["accuracy", "machine"]


def test_the_order_follows_the_readers_questions() -> None:
    """Verdict, accuracy, speed, choice, stages, memory, samples, layers, machine, command."""
    page = render_html(results.as_json(results.validation()))

    assert page.index('id="verdict"') < page.index('id="section-accuracy"')
    assert re.findall(r'<section id="section-([a-z-]+)"', page) == [
        "accuracy", "speed", "trade-off", "stages", "memory", "worst", "layers", "notes",
        "machine", "command",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("verdict", "badge"), [("pass", "Pass"), ("fail", "Fail"), ("inconclusive", "Inconclusive")]
)
def test_the_verdict_is_one_sentence(verdict: str, badge: str) -> None:
    """On top: better or worse, by how much, on what and how sure."""
    page = render_html(results.as_json(results.validation(verdict)))

    assert f'<span class="badge">{badge}</span>' in page
    sentence = re.search(r'<p class="verdict">(.*?)</p>', page)
    assert sentence is not None
    for part in ("of accuracy", "95 % interval", "4.40× as fast", "1,500 samples", "Intel Xeon"):
        assert part in sentence[1]


def test_a_contender_that_failed_is_told() -> None:
    """A row without times keeps its reason, and the rest is drawn."""
    result = results.comparison()
    broken = replace(
        result.contenders[1], error="it crashed", error_kind="MeasurementError", p50_ms=None,
        p90_ms=None, p95_ms=None, ecdf=None, load_ms=None, first_ms=None, peak_rss_bytes=None,
        stages=None, artifact_bytes=None, throughput=None, p50_low_ms=None, p50_high_ms=None,
        cpu_ms=None,
    )  # fmt: skip
    page = render_html(
        results.as_json(replace(result, contenders=(broken, *result.contenders[2:])))
    )

    assert "Incomplete" in page
    assert "failed: it crashed" in page


def test_nothing_measured_is_a_page_too() -> None:
    """A run in which every contender failed says so, without a picture."""
    result = results.comparison()
    row = replace(
        results.contender("a", 16), p50_ms=None, ecdf=None, load_ms=None, peak_rss_bytes=None,
        stages=None, error="it hung",
    )  # fmt: skip
    page = render_html(
        results.as_json(replace(result, contenders=(row,), ratios=(), probes=(), attached=()))
    )

    assert "Nothing measured" in page
    assert "<svg" not in page


def test_one_contender_alone() -> None:
    """Without a second one there are times, and no ratios or trade-off."""
    result = replace(
        results.comparison(), contenders=(results.contender("alone", 16),), ratios=(),
        probes=(), attached=(),
    )  # fmt: skip
    page = render_html(results.as_json(result))

    assert "alone takes" in page
    assert 'id="section-trade-off"' not in page


def test_many_workloads_stay_below_the_limit() -> None:
    """Twelve workloads of ten contenders with full distributions stay below 1.5 MB."""
    rows = tuple(
        results.contender(f"contender-{number}", length)
        for length in range(16, 16 * 13, 16)
        for number in range(10)
    )
    page = render_html(results.as_json(replace(results.comparison(), contenders=rows)))

    assert len(page.encode()) < 1_500_000


def test_a_page_of_any_accuracy_and_layers() -> None:
    """Null numbers (NaN when measured), exact tensors and a drop of nothing are drawn."""
    result = results.validation()
    assert result.accuracy is not None
    exact = replace(result.accuracy, drop=0.0, drop_lower_95=0.0, drop_upper_95=0.0)
    layer = replace(result.layers[0], sqnr_db=float("inf"))

    page = render_html(results.as_json(replace(result, accuracy=exact, layers=(layer,))))

    assert "keeps its accuracy" in page


@pytest.mark.parametrize(
    "data",
    [
        {},
        {"verify": 1},
        {"contenders": 3},
        {"verdict": "maybe", "accuracy": None},
        {"error": {"message": "No data."}},
        {"contenders": [], "ratios": [{"a": 1}], "protocol": {}, "device": {}, "versions": {}},
    ],
)
def test_what_is_no_result_is_refused(data: dict[str, object]) -> None:
    """Another JSON object is refused with what was found in it."""
    with pytest.raises(ConfigError):
        render_html(data)


@pytest.mark.parametrize("result", [results.validation(), results.comparison()])
def test_results_come_back_as_they_were(result: BenchResult | ValidateResult) -> None:
    """Reading a result's JSON gives the same record."""
    from edgekit.reporting.reading import read_result

    assert results.as_json(read_result(results.as_json(result))) == results.as_json(result)
