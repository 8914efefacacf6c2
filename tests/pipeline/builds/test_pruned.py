"""The pruned candidate of a build: the deepest cut that keeps the budget, or reasons why not."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from edgekit.core.errors import BudgetNotMet, ConfigError, PruneError
from edgekit.core.profiles import load_profile
from edgekit.core.pruned import Change, PruneResult
from edgekit.pipeline.builds import pruned
from edgekit.pipeline.builds.jobs import Job, Options
from edgekit.pipeline.builds.store import Store

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


def test_the_deepest_that_passes_is_taken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, classifier: Path
) -> None:
    """Those before it are candidates with the reason against them, those behind are not made."""
    asked: list[float] = []

    def prune(source: str, output: Path, *, speedup: float, **_: object) -> PruneResult:
        asked.append(speedup)
        if speedup > 1.6:
            raise BudgetNotMet("It drops too much.", result=FOUND)
        return FOUND

    monkeypatch.setattr(pruned, "prune", prune)
    monkeypatch.setattr(pruned, "export", lambda _, path, **__: shutil.copytree(classifier, path))
    under_way = job(tmp_path)
    found = pruned.pruned_by(under_way, load_profile("host"))
    assert found is not None
    assert found[0] == "pruned 1.6×"
    assert asked == [2.0, 1.6]
    assert under_way.candidates["pruned 2×"].reason == "It drops too much"
    assert [step.step for step in under_way.steps] == ["prune"]


def test_a_model_that_cannot_be_cut_is_tried_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The build goes on with the whole model, and tells why."""

    def prune(*_: object, **__: object) -> PruneResult:
        raise PruneError("An albert model cannot be pruned.")

    monkeypatch.setattr(pruned, "prune", prune)
    under_way = job(tmp_path)
    assert pruned.pruned_by(under_way, load_profile("host")) is None
    assert list(under_way.candidates) == ["pruned 2×"]
    assert under_way.candidates["pruned 2×"].verdict == "fail"
