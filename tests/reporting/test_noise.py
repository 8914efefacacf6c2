"""What a noisy run, and an interval that touches 1, may not be told as."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest

from edgekit.core.measurements import BenchResult, Interval, Ratio, ValidateResult
from edgekit.reporting import render_html, render_markdown
from edgekit.reporting.headline import headline
from tests.reporting import results
from tests.reporting.results import NOISY, contender

FAST, SLOW = (4.4, 4.21, 4.62), (0.63, 0.47, 0.98)


def two(value: float, low: float, high: float, **changes: object) -> BenchResult:
    """PyTorch and a bundle at one workload, with a ratio between them."""
    verdict = "faster" if low > 1 else "slower" if high < 1 else "not resolved"
    names = ("pytorch", "minilm-ort-int8")
    return BenchResult(
        **{
            "protocol": {"scenario": "single-stream"}, "device": results.DEVICE, "versions": {},
            "contenders": tuple(contender(name, 16) for name in names),
            "ratios": (Ratio(*names, 1, 16, value, low, high, 1.05, verdict),),
            "noise": results.QUIET, **changes,
        }
    )  # type: ignore[arg-type]  # fmt: skip


def noisy_validation(value: float, low: float, high: float) -> ValidateResult:
    """A validation whose machine was noisy."""
    result = results.validation("inconclusive", worst_text="plain")
    assert result.timing is not None
    (row,) = result.timing.ratios
    verdict = "faster" if low > 1 else "slower"
    ratios = (replace(row, value=value, low=low, high=high, verdict=verdict),)
    assert result.latency is not None
    return replace(
        result,
        latency=replace(result.latency, speedup=Interval(value, low, high)),
        timing=replace(result.timing, noise=NOISY, ratios=ratios),  # type: ignore[arg-type]
    )


@pytest.mark.parametrize("ends", [FAST, SLOW])
def test_a_noisy_validation_tells_no_speed_as_a_fact(ends: tuple[float, float, float]) -> None:
    """The ratio and its interval are there, in no colour, and called not decided."""
    result = noisy_validation(*ends)
    head = headline(result)
    assert "not decided: noisy machine" in head.sentence
    assert "is slower" not in head.sentence
    (speed,) = (one for one in head.figures if one.label == "Speed")
    assert speed.tone == "plain"
    assert speed.detail.endswith("not decided (noisy machine)")
    plain = results.as_json(result)
    for text in (render_html(plain), render_markdown(plain)):
        assert "not decided (noisy machine)" in text.replace("\\", "")
        assert "no speed is decided" in text
    picture = re.search(r'<svg id="ratios-1".*?</svg>', render_html(plain), flags=re.DOTALL)
    assert picture is not None
    assert "--good" not in picture[0]
    assert "--bad" not in picture[0]


def test_a_noisy_comparison_has_no_quickest() -> None:
    """Neither in its title nor in its sentence, its tiles or its tables."""
    head = headline(two(*FAST, noise=NOISY))
    assert head.title == "Comparison"
    assert "which is the quickest is not decided (noisy machine)" in head.sentence.lower()
    assert "4.40× as fast as pytorch" in head.sentence
    assert "is the quickest:" not in head.sentence
    (figure,) = head.figures
    assert figure.label.startswith("Lowest median at")
    assert figure.tone == "plain"
    table = render_markdown(results.as_json(two(*FAST, noise=NOISY)))
    assert "| faster |" not in table
    assert "not decided" in table


def test_a_decided_quickest_is_called_so() -> None:
    """In a quiet run, by a ratio that is resolved, in colour."""
    head = headline(two(*FAST))
    assert head.title == "minilm-ort-int8"
    assert head.sentence.startswith("minilm-ort-int8 is the quickest: 4.40× as fast as pytorch")
    (figure,) = head.figures
    assert figure.label.startswith("Quickest at")
    assert figure.tone == "good"


def test_who_is_not_resolved_from_the_best_is_named() -> None:
    """A lowest median is not a quickest one."""
    head = headline(two(1.3, 0.9, 1.6))
    assert head.title == "Comparison"
    assert "is the quickest:" not in head.sentence
    assert "which is the quickest is not resolved" in head.sentence.lower()
    assert "not resolved from pytorch" in head.sentence
    assert head.figures[0].detail.endswith("not resolved from pytorch")
    assert head.figures[0].tone == "plain"


def test_some_workloads_may_be_decided() -> None:
    """Each is told by itself."""
    result = two(*FAST)
    rows = tuple(contender(name, 128) for name in ("pytorch", "minilm-ort-int8"))
    open_ = Ratio("pytorch", "minilm-ort-int8", 1, 128, 1.1, 0.9, 1.3, 1.2, "not resolved")
    head = headline(
        replace(
            result, contenders=(*result.contenders, *rows), ratios=(*result.ratios, open_)
        )
    )  # fmt: skip
    assert head.title == "Comparison"
    assert "minilm-ort-int8 is the quickest: 4.40×" in head.sentence
    assert "; which is the quickest is not resolved: at 1\N{NO-BREAK SPACE}×" in head.sentence
    assert [one.label.split(" at ")[0] for one in head.figures] == ["Quickest", "Lowest median"]


def test_offline_the_throughput_counts() -> None:
    """Several callers at a time take longer each and do more."""
    result = two(*SLOW, protocol={"scenario": "offline", "streams": 2})
    slow, quick = result.contenders
    result = replace(result, contenders=(replace(slow, throughput=900.0), quick))
    head = headline(result)
    assert head.title == "Comparison · offline, 2 streams" or head.title.startswith("pytorch ·")
    assert "900 per second" in head.figures[0].value


SERVER = {"scenario": "server", "qps": 40.0}


def test_a_server_run_is_called_so() -> None:
    """In the title, the sentence and on the axes, which say what a latency counts."""
    result = two(*FAST, protocol=SERVER)
    head = headline(result)
    assert head.title == "minilm-ort-int8 · server, 40 requests/s"
    assert "scenario server, 40 requests/s, latency is waiting + prediction" in head.sentence
    page = render_html(results.as_json(result))
    assert "<title>Measured: minilm-ort-int8 · server, 40 requests/s</title>" in page
    for picture in ("latency-1", "trade-off"):
        drawn = re.search(rf'<svg id="{picture}".*?</svg>', page, flags=re.DOTALL)
        assert drawn is not None
        assert "waiting + prediction, from the scheduled arrival" in drawn[0]
        assert "(logarithmic)" in drawn[0]
    assert "waiting" not in render_html(results.as_json(two(*FAST)))


def test_the_page_says_what_a_ratio_compares() -> None:
    """Page and Markdown, where medians stand beside it."""
    plain = results.as_json(two(*FAST))
    for text in (render_html(plain), render_markdown(plain)):
        assert "need not be the quotient of the two medians" in text


def test_a_median_wider_than_its_distribution_is_explained() -> None:
    """Three processes that differ bound little, which is no fault of the samples."""
    row = replace(contender("a", 16), p50_high_ms=575.0, processes=3)
    plain = results.as_json(two(*FAST, contenders=(row,), ratios=()))
    for text in (render_html(plain), render_markdown(plain)):
        assert "reaches beyond p90 for a: fresh processes" in text.replace("\\", "")
        assert "and 3 processes cannot bound that" in text
    assert "beyond p90" not in render_html(results.as_json(two(*FAST)))


def test_a_missing_percentile_is_explained() -> None:
    """With the samples it takes; not where all are told."""
    row = replace(contender("a", 16), p90_ms=None, p95_ms=None, samples=50)
    few = two(*FAST, contenders=(row,), ratios=())
    for text in (render_html(results.as_json(few)), render_markdown(results.as_json(few))):
        assert "too few samples to tell it (p90 takes 64, p95 takes 130, p99 takes 662)" in (
            text.replace("\\", "")
        )
    # Of 1,240 samples a p99 is not told for another reason.
    assert "too few samples" not in render_html(results.as_json(two(*FAST)))
