"""The verdict: what passes, what fails, and what is left undecided."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest

import edgekit
from edgekit.core.bundle import open_bundle
from edgekit.core.errors import BudgetNotMet, ConfigError
from edgekit.core.results import (
    BenchResult,
    Contender,
    Gate,
    Interval,
    Latency,
    Noise,
    Size,
    ValidateResult,
)
from edgekit.pipeline.validating import Limits, _combine, _gates
from tests.models import save_model


def _latency(low: float, high: float) -> Latency:
    return Latency(10.0, 5.0, Interval((low + high) / 2, low, high))


def _timed(*, noisy: bool = False, peak: int = 50_000_000) -> BenchResult:
    row = Contender(
        "b", "onnxruntime", 1, 16, 5.0, None, None, None, 200.0, 1.0, 1.0, 1.0, peak, 10, 100, 5
    )
    noise = Noise(1.0, 0.9, 1.1, "noisy" if noisy else "quiet", ())
    return BenchResult({}, {}, {}, (row,), (), noise)


SIZE = Size(100_000_000, 50_000_000, 0.5)


def _only(limits: Limits, latency: Latency | None, *, noisy: bool = False) -> Gate:
    gates = _gates(limits, latency, None if latency is None else _timed(noisy=noisy), SIZE)
    return next(gate for gate in gates if gate.name != "not_slower")


@pytest.mark.parametrize(
    ("low", "high", "passed"), [(1.2, 1.4, True), (0.9, 1.1, True), (0.7, 0.9, False)]
)
def test_resolved_slower_fails_unasked(low: float, high: float, passed: bool) -> None:
    """Slower than what it replaces is a failure; not resolved passes."""
    (gate,) = _gates(Limits(), _latency(low, high), _timed(), SIZE)
    assert (gate.name, gate.passed) == ("not_slower", passed)


@pytest.mark.parametrize(
    ("low", "high", "passed"), [(2.1, 2.5, True), (1.8, 2.2, None), (1.5, 1.9, False)]
)
def test_speedup_is_judged_by_the_bad_end(low: float, high: float, passed: bool | None) -> None:
    """The gate on speed holds only when the whole interval does."""
    assert _only(Limits(min_speedup=2.0), _latency(low, high)).passed is passed


def test_noise_leaves_a_gate_undecided() -> None:
    """A noisy run decides no gate on speed."""
    assert _only(Limits(min_speedup=2.0), _latency(3.0, 4.0), noisy=True).passed is None
    assert _only(Limits(max_latency_ms=6.0), _latency(3.0, 4.0), noisy=True).passed is None


def test_latency_and_memory_gates() -> None:
    """Milliseconds and megabytes are compared with what was measured."""
    latency = _latency(1.1, 1.3)
    assert _only(Limits(max_latency_ms=6.0), latency).passed is True
    assert _only(Limits(max_latency_ms=4.0), latency).passed is False
    assert _only(Limits(max_rss_mb=60.0), latency).passed is True
    assert _only(Limits(max_rss_mb=40.0), latency).passed is False


def test_size_gate_needs_no_timing() -> None:
    """The size is known without a measurement."""
    assert _only(Limits(max_size_mb=60.0), None).passed is True
    assert _only(Limits(max_size_mb=40.0), None).passed is False


def test_the_worst_verdict_counts() -> None:
    """A failed gate fails; an undecided one leaves the verdict open."""
    held, open_, missed = (Gate("g", 1.0, 1.0, passed) for passed in (True, None, False))
    assert _combine("pass", [held]) == "pass"
    assert _combine("pass", [held, open_]) == "inconclusive"
    assert _combine("inconclusive", [missed]) == "fail"
    assert _combine("fail", [held]) == "fail"


def _reviews(path: Path, rows: int) -> Path:
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["text", "label"])
        for row in range(rows):
            text = f"The {row} film of the year was slow and loud."
            writer.writerow([text, ("negative", "neutral", "positive")[row % 3]])
    return path


@pytest.mark.slow
def test_same_model_passes(classifier: Path, classifier_source: Path, tmp_path: Path) -> None:
    """An exported model has the accuracy of its original, sample by sample."""
    data = _reviews(tmp_path / "r.csv", 900)
    result = edgekit.validate(
        classifier, reference=str(classifier_source), data=str(data), max_drop="5%", latency=False
    )
    assert result.verdict == "pass"
    assert result.accuracy is not None
    assert result.accuracy.candidate == result.accuracy.reference
    assert result.numerics["logits"].argmax_agreement == 1.0


@pytest.mark.slow
def test_too_few_samples_are_inconclusive(
    classifier: Path, classifier_source: Path, tmp_path: Path
) -> None:
    """A budget that the data cannot prove is exit 5, with the number that would settle it."""
    data = _reviews(tmp_path / "r.csv", 100)
    with pytest.raises(BudgetNotMet, match="not proved") as caught:
        edgekit.validate(
            classifier, reference=str(classifier_source), data=str(data), latency=False
        )
    result = caught.value.result
    assert isinstance(result, ValidateResult)
    assert result.verdict == "inconclusive"
    assert result.accuracy is not None
    assert (result.accuracy.samples_needed or 0) > result.accuracy.samples


@pytest.mark.slow
def test_other_weights_are_refused(classifier: Path, tmp_path: Path) -> None:
    """A reference that the bundle was not made from proves nothing."""
    other = save_model("bert", "text-classification", tmp_path / "m", seed=1)
    with pytest.raises(ConfigError, match="other weights"):
        edgekit.validate(classifier, reference=str(other), latency=False)
    with pytest.raises(BudgetNotMet, match="not within the tolerance"):
        edgekit.validate(
            classifier, reference=str(other), latency=False, allow_other_reference=True
        )


@pytest.mark.slow
def test_evidence_leaves_the_id(classifier_source: Path, tmp_path: Path) -> None:
    """--record writes what was found into the manifest; the bundle stays the same bundle."""
    before = edgekit.export(str(classifier_source), tmp_path / "b").bundle_id
    edgekit.validate(tmp_path / "b", reference=str(classifier_source), latency=False, record=True)
    after = open_bundle(tmp_path / "b")
    assert after.id == before
    assert after.manifest.evidence["accuracy"]["verdict"] == "pass"  # type: ignore[index]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["b"]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("content", "told"),
    [
        ("", "empty"),
        ("text,label\n", "no rows"),
        ("review,label\na,positive\n", "review"),
        ("text,label\na,splendid\n", "splendid"),
    ],
)
def test_bad_data(
    classifier: Path, classifier_source: Path, tmp_path: Path, content: str, told: str
) -> None:
    """DATA that cannot be judged on is a configuration error that names the reason."""
    (tmp_path / "d.csv").write_text(content)
    with pytest.raises(ConfigError) as caught:
        edgekit.validate(
            classifier, reference=str(classifier_source), data=str(tmp_path / "d.csv"),
            latency=False,
        )  # fmt: skip
    assert told in str(caught.value)
