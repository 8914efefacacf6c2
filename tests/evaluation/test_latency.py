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
from edgekit.core.measurements import BenchResult, Contender, Ratio
from edgekit.core.results import to_json
from edgekit.evaluation import latency
from edgekit.evaluation.contenders import Artifact, ReferenceSource
from edgekit.evaluation.latency import bench, latency_of
from edgekit.evaluation.measuring import Measuring
from edgekit.runtime.scenarios import Scenario
from tests.runtime.conftest import linear_graph, write_bundle

Make = Callable[..., Bundle]
SHORT = Measuring(budget=0.4, processes=2, threads=1, warm_seconds=0.05)

FACTORY = """
import torch
class Linear(torch.nn.Module):
    def forward(self, a, b):
        return {"y": 2 * a + b}
def make():
    return Linear(), {"a": torch.ones(2, 3), "b": torch.ones(2, 3)}
def layer():
    # The bundle computes 2a + b; so does a layer of these weights.
    class Layer(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.two = torch.nn.Parameter(torch.tensor(2.0))
        def forward(self, a, b):
            return {"y": self.two * a + b}
    return Layer(), {"a": torch.ones(2, 3), "b": torch.ones(2, 3)}
def broken():
    raise RuntimeError("no weights today")
"""


def test_two_bundles_are_compared(bundle_of: Make, tmp_path: Path) -> None:
    """Each has its row, the first is `a` of the ratio, and the first against itself is noise."""
    first = bundle_of("linear")
    second = write_bundle(tmp_path / "other", linear_graph(), task="custom")
    result = bench([first.path, second.path], measuring=SHORT)
    assert [row.name for row in result.contenders] == ["linear", "other"]
    assert [(ratio.a, ratio.b) for ratio in result.ratios] == [("linear", "other")]
    (ratio,) = result.ratios
    assert ratio.low <= ratio.value <= ratio.high
    assert result.noise.aa_ratio is not None
    assert result.protocol["bundles"] == {"linear": first.id, "other": second.id}
    json.dumps(to_json(result), allow_nan=False)


@pytest.mark.slow
def test_the_reference_is_a_contender(bundle_of: Make, tmp_path: Path) -> None:
    """PyTorch comes first, is `a` of every ratio, and says what it ran with."""
    (tmp_path / "factory.py").write_text(FACTORY)
    result = bench(
        [bundle_of("linear").path], ReferenceSource(f"{tmp_path}/factory.py:make"), SHORT
    )
    assert [row.name for row in result.contenders] == ["pytorch", "linear"]
    assert [row.error for row in result.contenders] == [None, None]
    assert [(ratio.a, ratio.b) for ratio in result.ratios] == [("pytorch", "linear")]
    assert result.contenders[0].engine == "pytorch"
    facts = result.protocol["facts"]["pytorch"]  # type: ignore[index]
    assert facts["threads"] == 1
    assert result.versions["pytorch"]
    found = latency_of(result)
    assert found is not None
    assert found.speedup.low <= found.speedup.value <= found.speedup.high


@pytest.mark.slow
def test_a_reference_that_fails_is_named_and_the_bundle_measured(
    bundle_of: Make, tmp_path: Path
) -> None:
    """The others go on; there is no ratio to what was not measured."""
    (tmp_path / "factory.py").write_text(FACTORY)
    result = bench(
        [bundle_of("linear").path], ReferenceSource(f"{tmp_path}/factory.py:broken"), SHORT
    )
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
        bench([bundle_of("linear").path, bundle_of("classification").path], measuring=SHORT)


@pytest.mark.parametrize(
    ("options", "fact"),
    [({"processes": 1}, "--processes"), ({"budget": 0}, "--budget"), ({"threads": 0}, "--threads"),
     ({"batches": (0,)}, "--batch"), ({"lengths": (16,)}, "takes no text"),
     ({"lengths": ("data",)}, "needs texts"), ({"precision": -1.0}, "--precision")],
)  # fmt: skip
def test_options_that_do_not_fit_are_refused(
    bundle_of: Make, options: dict[str, object], fact: str
) -> None:
    """Before anything is started."""
    with pytest.raises(ConfigError, match=fact):
        bench([bundle_of("linear").path], measuring=replace(SHORT, **options))  # type: ignore[arg-type]


def test_something_must_be_measured(bundle_of: Make) -> None:
    """No contender, and PyTorch beside a reference that is not there."""
    with pytest.raises(ConfigError, match="at least one"):
        bench([], measuring=SHORT)
    with pytest.raises(ConfigError, match="--also compile"):
        bench([bundle_of("linear").path], measuring=SHORT, also=["compile"])


@pytest.mark.slow
def test_pytorch_runs_in_its_other_ways(bundle_of: Make, tmp_path: Path) -> None:
    """Compiled and in bfloat16 it is a contender of its own, and says so."""
    (tmp_path / "factory.py").write_text(FACTORY)
    source = ReferenceSource(f"{tmp_path}/factory.py:layer")
    bundle = bundle_of("linear")
    result = bench([bundle.path], source, SHORT, also=["compile", "bfloat16"])
    rows = {row.name: row for row in result.contenders}
    assert list(rows) == ["pytorch", "pytorch compile", "pytorch bfloat16", "linear"]
    assert [row.error for row in rows.values()] == [None] * 4
    assert rows["pytorch compile"].settings == "torch.compile, 1 thread"
    assert rows["pytorch bfloat16"].settings == "bfloat16, 1 thread"
    assert {ratio.a for ratio in result.ratios} == {"pytorch"}


def test_a_graph_without_a_manifest_is_a_contender(bundle_of: Make) -> None:
    """Beside a bundle, and alone on made-up arrays."""
    bundle = bundle_of("linear")
    graph = bundle.file(bundle.manifest.components["model"].files[0])
    result = bench([bundle.path, graph], measuring=replace(SHORT, batches=(1, 3)))
    assert [(row.name, row.batch, row.error) for row in result.contenders] == [
        ("linear", 1, None), (graph.name, 1, None), ("linear", 3, None), (graph.name, 3, None),
    ]  # fmt: skip
    assert result.protocol["bundles"] == {"linear": bundle.id}
    alone = bench([graph], measuring=SHORT)
    assert alone.contenders[0].p50_ms is not None


def test_wrong_answers_disqualify(bundle_of: Make, tmp_path: Path) -> None:
    """However fast: no figures, no ratio, and the reason with its values."""
    right = bundle_of("linear")
    graph = linear_graph()
    graph.weights.clear()
    graph.weight("two", np.array(2.5, dtype=np.float32))
    wrong = write_bundle(tmp_path / "wrong", graph, task="custom")
    result = bench([right.path, wrong.path], measuring=SHORT)
    first, second = result.contenders
    assert first.error is None
    assert "disqualified" in str(second.error)
    assert "output y is off from that of linear" in str(second.error)
    assert second.error_kind == "MeasurementError"
    assert (second.p50_ms, second.samples) == (None, 0)
    assert result.ratios == ()


@pytest.mark.parametrize(
    ("scenario", "figure"),
    [
        (Scenario("offline"), "throughput"),
        (Scenario("server", qps=50.0), "reached_qps"),
        (Scenario("sparse", interval=0.05), "p50_ms"),
    ],
)
def test_scenarios(bundle_of: Make, scenario: Scenario, figure: str) -> None:
    """Each has its own figure, and stands in the protocol."""
    result = bench([bundle_of("linear").path], measuring=replace(SHORT, scenario=scenario))
    (row,) = result.contenders
    assert row.error is None
    assert getattr(row, figure) > 0
    assert result.protocol["scenario"] == scenario.name


def test_options_are_tried_in_the_same_run(bundle_of: Make) -> None:
    """They are no contenders of their own, but have a ratio to the bundle as it is."""
    result = bench([bundle_of("linear").path], measuring=SHORT, probes=True)
    assert [row.name for row in result.contenders] == ["linear"]
    assert [(one.contender, one.option) for one in result.probes] == [
        ("linear", "session.set_denormal_as_zero=0")
    ]
    assert result.probes[0].gain.low <= result.probes[0].gain.value


def test_nobody_has_the_name_of_another(bundle_of: Make, tmp_path: Path) -> None:
    """Folders may be called like what stands beside the contenders: all have their figures."""
    option = "session.set_denormal_as_zero=0"
    paths = [bundle_of("linear").path]
    for name in ("linear (again)", f"linear [{option}]"):
        path = tmp_path / name
        paths.append(write_bundle(path, linear_graph(), task="custom").path)
    result = bench(paths, measuring=SHORT, probes=True)
    names = [row.name for row in result.contenders]
    assert names == [path.name for path in paths]
    assert [row.error for row in result.contenders] == [None] * 3
    assert [(ratio.a, ratio.b) for ratio in result.ratios] == [
        ("linear", "linear (again)"), ("linear", f"linear [{option}]"),
    ]  # fmt: skip
    assert result.noise.aa_ratio is not None
    assert [one.contender for one in result.probes] == names


@pytest.mark.parametrize(("large", "again"), [(10**9, "linear"), (0, "a-smaller-one")])
def test_who_is_measured_twice(
    bundle_of: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, large: int, again: str
) -> None:
    """The first; where copies of it would take much memory, the smallest."""
    monkeypatch.setattr(latency, "_LARGE", large)
    started: list[str] = []
    entrant = latency.artifact_entrant

    def make(artifact: Artifact, name: str, *rest: object, **more: object) -> object:
        started.append(name)
        return entrant(artifact, name, *rest, **more)

    monkeypatch.setattr(latency, "artifact_entrant", make)
    first = bundle_of("linear").path
    smaller = write_bundle(tmp_path / "a-smaller-one", linear_graph(), task="custom")
    sizes = {first.name: 2_000_000, smaller.path.name: 1_000_000}
    opened = latency.open_artifacts
    monkeypatch.setattr(
        latency,
        "open_artifacts",
        lambda given: [replace(one, bytes=sizes[one.name]) for one in opened(given)],
    )
    result = bench([first, smaller.path], measuring=SHORT)
    assert [name for name in started if name not in sizes] == [f"{again} (again)"]
    assert [row.name for row in result.contenders] == [*sizes]
    assert result.noise.aa_ratio is not None


def test_other_devices_stand_beside(bundle_of: Make, tmp_path: Path) -> None:
    """Without a ratio, which a note says."""
    path = bundle_of("linear").path
    there = bench([path], measuring=SHORT)
    (tmp_path / "there.json").write_text(json.dumps(to_json(there)))
    here = bench([path], measuring=SHORT, attach=[tmp_path / "there.json"])
    assert here.attached[0].contenders == there.contenders
    assert here.ratios == ()
    assert any("no ratio is formed with it" in note for note in here.notes)
