"""The pruned candidate of a build: the deepest cut that keeps the budget, or reasons why not."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from edgekit.core.bundle import Bundle, open_bundle
from edgekit.core.errors import (
    BudgetNotMet,
    ConfigError,
    EdgekitError,
    EngineUnavailable,
    ExportError,
    MeasurementError,
    PruneError,
    SourceError,
)
from edgekit.core.profiles import load_profile
from edgekit.core.pruned import Change, PruneResult
from edgekit.pipeline.builds import pruned
from edgekit.pipeline.builds.jobs import Job, Options
from edgekit.pipeline.builds.store import Store
from tests.runtime.generation.conftest import write_generator

FOUND = PruneResult(
    Path("p"), ("ffn",), Change(10, 5), Change(10, 5), None, None, "pass", "fisher", "host",
    "onnxruntime", {},
)  # fmt: skip


def job(folder: Path) -> Job:
    """A build under way, without a cache."""
    options = Options(
        "m", "host", (), None, "d.csv", None, None, "1%", None, None, None, None, None, False, (), 0
    )
    return Job(options, Store(None, folder), lambda _: None, folder)


def test_what_cannot_be_pruned_within_a_budget() -> None:
    """Without data nothing is judged, and ONNX holds no modules to cut."""
    with pytest.raises(ConfigError, match="needs --data"):
        pruned.check_prune("m", None)
    with pytest.raises(ConfigError, match="is ONNX"):
        pruned.check_prune("m.onnx", "d.csv")
    pruned.check_prune("m", "d.csv")


def test_what_generates_is_not_pruned_within_a_budget(tmp_path: Path) -> None:
    """It is cut by a ratio first; other models are not refused."""
    made = write_generator(tmp_path / "b")
    with pytest.raises(ConfigError, match="how much of such a model goes has to be said"):
        pruned.check_prunable(made)
    pruned.check_prunable(Bundle(made.path, replace(made.manifest, generation=None)))


def test_a_target_elsewhere_is_refused_before_any_work() -> None:
    """What is faster there cannot be told here."""
    with pytest.raises(EngineUnavailable, match=r"--prune for .* cannot be measured here"):
        pruned.check_prune_target(load_profile("cpu-arm64"))
    pruned.check_prune_target(load_profile("host"))


def test_what_passes_is_exported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, classifier: Path
) -> None:
    """Only the budget is asked for: rows for choosing choose how deep the cut goes."""
    asked: list[dict[str, object]] = []

    def prune(source: str, output: Path, **given: object) -> PruneResult:
        asked.append(given)
        return FOUND

    monkeypatch.setattr(pruned, "prune", prune)
    monkeypatch.setattr(pruned, "export", lambda _, path, **__: shutil.copytree(classifier, path))
    under_way = job(tmp_path)
    found = pruned.pruned_by(under_way, open_bundle(classifier), load_profile("host"))
    assert found is not None
    assert found[0] == "pruned"
    assert [(one["max_drop"], one.get("speedup")) for one in asked] == [("1%", None)]
    assert [step.step for step in under_way.steps] == ["prune"]


@pytest.mark.parametrize(
    "error",
    [
        BudgetNotMet("It is not enough.", result=FOUND),
        PruneError("It is not enough."),
        ConfigError("It is not enough."),
        SourceError("It is not enough."),
        ExportError("It is not enough."),
        MeasurementError("It is not enough."),
    ],
)
def test_what_stops_the_pruning_does_not_stop_the_build(
    error: EdgekitError, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, classifier: Path
) -> None:
    """The build goes on with the whole model, and tells why."""

    def prune(*_: object, **__: object) -> PruneResult:
        raise error

    monkeypatch.setattr(pruned, "prune", prune)
    under_way = job(tmp_path)
    assert pruned.pruned_by(under_way, open_bundle(classifier), load_profile("host")) is None
    assert under_way.candidates["pruned"].reason == "It is not enough"
