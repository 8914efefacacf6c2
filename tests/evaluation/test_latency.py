"""The bench: results with the contract's keys, ratios, noise, and failures by name."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import pytest

from edgekit.core.bundle import Bundle
from edgekit.core.errors import ConfigError
from edgekit.core.results import BenchResult, Contender, Ratio, to_json
from edgekit.evaluation import latency
from edgekit.evaluation.latency import bench, contender_names, latency_of
from edgekit.runtime.machine import Snapshot
from edgekit.runtime.records import Record
from edgekit.runtime.workloads import Workload
from tests.runtime.conftest import linear_graph, write_bundle

Make = Callable[..., Bundle]
SHORT = {"budget": 0.4, "processes": 2, "threads": 1, "warm_seconds": 0.05}

FACTORY = """
import torch
class Linear(torch.nn.Module):
    def forward(self, a, b):
        return {"y": 2 * a + b}
def make():
    return Linear(), {"a": torch.ones(2, 3), "b": torch.ones(2, 3)}
def broken():
    raise RuntimeError("no weights today")
"""


def test_two_bundles_are_compared(bundle_of: Make, tmp_path: Path) -> None:
    """Each has its row, the first is `a` of the ratio, and the first against itself is noise."""
    first = bundle_of("linear")
    second = write_bundle(tmp_path / "other", linear_graph(), task="custom")
    result = bench([first.path, second.path], **SHORT)  # type: ignore[arg-type]
    assert [row.name for row in result.contenders] == ["linear", "other"]
    assert [(ratio.a, ratio.b) for ratio in result.ratios] == [("linear", "other")]
    (ratio,) = result.ratios
    assert ratio.low <= ratio.value <= ratio.high
    rows = {row.name: row.p50_ms for row in result.contenders}
    assert ratio.value == pytest.approx((rows["linear"] or 0) / (rows["other"] or 1))
    assert result.noise.aa_ratio is not None
    assert result.protocol["bundles"] == {"linear": first.id, "other": second.id}
    json.dumps(to_json(result), allow_nan=False)


@pytest.mark.slow
def test_the_reference_is_a_contender(bundle_of: Make, tmp_path: Path) -> None:
    """PyTorch comes first, is `a` of every ratio, and says what it ran with."""
    (tmp_path / "factory.py").write_text(FACTORY)
    result = bench([bundle_of("linear").path], f"{tmp_path}/factory.py:make", **SHORT)  # type: ignore[arg-type]
    assert [row.name for row in result.contenders] == ["pytorch", "linear"]
    assert [row.error for row in result.contenders] == [None, None]
    assert [(ratio.a, ratio.b) for ratio in result.ratios] == [("pytorch", "linear")]
    assert result.contenders[0].engine == "pytorch"
    facts = result.protocol["facts"]["pytorch"]  # type: ignore[index]
    assert facts["threads"] == 1
    assert result.versions["pytorch"]
    found = latency_of(result)
    assert found is not None
    assert found.speedup.value == pytest.approx(found.reference_ms / found.candidate_ms)


@pytest.mark.slow
def test_a_reference_that_fails_is_named_and_the_bundle_measured(
    bundle_of: Make, tmp_path: Path
) -> None:
    """The others go on; there is no ratio to what was not measured."""
    (tmp_path / "factory.py").write_text(FACTORY)
    result = bench([bundle_of("linear").path], f"{tmp_path}/factory.py:broken", **SHORT)  # type: ignore[arg-type]
    reference, bundle = result.contenders
    assert "no weights today" in str(reference.error)
    assert reference.p50_ms is None
    assert bundle.p50_ms is not None
    assert result.ratios == ()
    assert latency_of(result) is None
    assert any("pytorch could not be measured" in note for note in result.notes)


def test_the_keys_are_those_of_the_contract() -> None:
    """DESIGN's bench object, contender and ratio; more is allowed, less is not."""
    assert {"protocol", "device", "versions", "contenders", "ratios", "noise"} <= {
        field.name for field in fields(BenchResult)
    }
    assert {
        "name", "engine", "batch", "length", "p50_ms", "p90_ms", "p95_ms", "p99_ms", "throughput",
        "import_ms", "load_ms", "first_ms", "peak_rss_bytes", "artifact_bytes", "samples",
        "processes", "error",
    } <= {field.name for field in fields(Contender)}  # fmt: skip
    assert {"a", "b", "value", "low", "high", "resolvable", "verdict"} <= {
        field.name for field in fields(Ratio)
    }


def test_bundles_of_other_inputs_do_not_compare(bundle_of: Make) -> None:
    """The same arrays must fit all."""
    with pytest.raises(ConfigError, match="same inputs"):
        bench([bundle_of("linear").path, bundle_of("classification").path], **SHORT)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("options", "fact"),
    [({"processes": 1}, "--processes"), ({"budget": 0}, "--budget"), ({"threads": 0}, "--threads"),
     ({"batch": 0}, "--batch"), ({"lengths": [16]}, "takes no text")],
)  # fmt: skip
def test_options_that_do_not_fit_are_refused(
    bundle_of: Make, options: dict[str, object], fact: str
) -> None:
    """Before anything is started."""
    with pytest.raises(ConfigError, match=fact):
        bench([bundle_of("linear").path], **{**SHORT, **options})  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="at least one"):
        bench([], **SHORT)  # type: ignore[arg-type]


def test_names_are_short_and_different() -> None:
    """Folders by their names, whole paths where these collide, numbers where the paths do."""
    assert contender_names([Path("x/a"), Path("y/b")]) == ["a", "b"]
    assert contender_names([Path("x/a"), Path("y/a"), Path("b")]) == ["x/a", "y/a", "b"]
    assert contender_names([Path("x/a")] * 3) == ["x/a", "x/a #2", "x/a #3"]
    assert contender_names([Path("x/pytorch")]) == ["x/pytorch"]


def record(name: str, milliseconds: float, error: str | None = None, **facts: object) -> Record:
    """Five quiet processes of a given speed at one workload."""
    generator = np.random.default_rng(len(name))
    times = {
        number: list(milliseconds * (1 + generator.exponential(0.01, 50))) for number in range(5)
    }
    return Record(
        name, error=error, facts=dict(facts), times={0: times}, warm_flat=[True],
        wall_seconds=1.0, cpu_seconds=1.0,
    )  # fmt: skip


QUIET = Snapshot(wall=0, load=None, busy=None, stolen=None, own=0, throttled=None)


def test_a_contender_like_itself_is_quiet() -> None:
    """Without causes and with an unresolved ratio to itself."""
    first, twin = record("a", 5), record("aa", 5)
    noise = latency._noise(first, twin, QUIET, replace(QUIET, wall=1), 1, [first], 0)
    assert (noise.verdict, noise.causes) == ("quiet", ())
    assert noise.aa_low is not None
    assert noise.aa_high is not None
    assert noise.aa_low <= 1 <= noise.aa_high


def test_a_contender_unlike_itself_is_noise() -> None:
    """The cause says so first."""
    first, twin = record("a", 5), record("aa", 6)
    noise = latency._noise(first, twin, QUIET, replace(QUIET, wall=1), 1, [first], 0)
    assert noise.verdict == "noisy"
    assert "slower than itself" in noise.causes[0]


def test_a_failed_twin_is_noise() -> None:
    """One of two runs of the same thing crashed: that is worth knowing."""
    first, twin = record("a", 5), record("aa", 5, error="it ended")
    noise = latency._noise(first, twin, QUIET, replace(QUIET, wall=1), 1, [first], 0)
    assert noise.verdict == "noisy"
    assert noise.aa_ratio is None
    assert "it ended" in noise.causes[0]


def test_ratios_are_against_the_first() -> None:
    """Faster is above 1; a failed contender has none."""
    records = [record("pytorch", 8), record("b", 4), record("cc", 9), record("d", 1, error="x")]
    found = latency._ratios(records, [Workload(1, 16, {})], 0)
    assert [(one.a, one.b, one.verdict) for one in found] == [
        ("pytorch", "b", "faster"), ("pytorch", "cc", "slower"),
    ]  # fmt: skip
    assert found[0].value == pytest.approx(2, rel=0.02)


def test_what_a_person_should_know_is_noted() -> None:
    """Failures and unfinished warm-ups, by name."""
    cold = record("a", 5)
    cold.warm_flat = [True, False]
    notes = latency._notes([cold, record("b", 5, error="it hung")], [], [])
    assert "warm-up ended in 1 of 2" in notes[0]
    assert "b could not be measured: it hung" in notes[1]


def test_the_median_has_its_interval() -> None:
    """It goes with the row to `validate`, which judges latency by its bad end."""
    row = latency._row(record("a", 5), 0, Workload(1, 16, {}), 7, 0)
    assert row.p50_ms is not None
    assert row.p50_low_ms is not None
    assert row.p50_high_ms is not None
    assert 4.5 < row.p50_low_ms <= row.p50_ms <= row.p50_high_ms < 5.5
    failed = latency._row(record("a", 5, error="it hung"), 0, Workload(1, 16, {}), 7, 0)
    assert failed.p50_high_ms is None
