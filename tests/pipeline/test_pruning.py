"""prune: from a source to a smaller one, judged against the original, or to nothing at all."""

from __future__ import annotations

import csv
import random
import shutil
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest

import edgekit
from edgekit.core.bundle import Bundle, open_bundle
from edgekit.core.errors import BudgetNotMet, ConfigError
from edgekit.core.pruned import (
    Change,
    Cut,
    PrunedLayer,
    PruneResult,
    RecoveryFacts,
    SensitivityRow,
    TablePoint,
)
from edgekit.core.results import to_json
from edgekit.evaluation import latency as timing
from edgekit.pipeline.cuts import shop
from edgekit.pipeline.cuts.shop import Shop
from edgekit.pipeline.exporting import export_loaded
from edgekit.reporting import render_html
from edgekit.sources.loaded import LoadedSource
from edgekit.sources.opening import open_source
from tests.models import CORPUS, save_model
from tests.pipeline.quantizable import compared
from tests.reporting.results import as_json
from tests.schemas import SCHEMAS, check_schema_of

# Elsewhere nothing is timed: the parameters are what is counted.
ELSEWHERE = "cpu-arm64"


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random classifier of three layers."""
    folder = tmp_path_factory.mktemp("prune") / "m"
    return save_model("bert", "text-classification", folder, layers=3)


@pytest.fixture(scope="module")
def texts(model: Path) -> str:
    """300 texts with labels at random, which the classifier cannot know."""
    chosen = random.Random(0)
    vocabulary = " ".join(CORPUS[:6]).split()
    with (model.parent / "d.csv").open("w") as file:
        rows = csv.writer(file)
        rows.writerow(["text", "label"])
        for _ in range(300):
            text = " ".join(chosen.choices(vocabulary, k=chosen.randint(4, 16)))
            rows.writerow([text, chosen.randrange(3)])
    return str(model.parent / "d.csv")


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Checkpoints of one test are not another's."""
    monkeypatch.setenv("EDGEKIT_CACHE", str(tmp_path / "cache"))


def export_once(patch: pytest.MonkeyPatch, folder: Path) -> None:
    """Let equal weights be exported once; where they are asked for again the bundle is copied."""
    folder.mkdir(parents=True)

    def once(source: LoadedSource, output: Path, **more: Any) -> Bundle:
        kept = folder / source.sha256
        if not kept.exists():
            export_loaded(source, kept, **more)
        return open_bundle(shutil.copytree(kept, output))

    patch.setattr(shop, "export_loaded", once)


def parts_left(folder: Path) -> list[str]:
    """What lies in a folder but the cache."""
    return sorted(path.name for path in folder.iterdir() if path.name != "cache")


def test_schema_names_every_field() -> None:
    """A new field of a record is a line in the schema."""
    schema = SCHEMAS.contents("prune.schema.json")
    records = {
        "change": Change, "layer": PrunedLayer, "point": TablePoint, "recovery": RecoveryFacts,
        "sensitivity": SensitivityRow, "cut": Cut,
    }  # fmt: skip
    for name, record in records.items():
        assert set(schema["$defs"][name]["properties"]) == {one.name for one in fields(record)}
    assert set(schema["properties"]) == {one.name for one in fields(PruneResult)} | {"error"}


def test_what_contradicts_itself_is_told_before_anything_is_loaded(tmp_path: Path) -> None:
    """No model is named that could be opened."""
    with pytest.raises(ConfigError, match="needs --data to learn from"):
        edgekit.prune("nothing/here", tmp_path / "p", ratio=0.5, recover_steps=10)
    with pytest.raises(ConfigError, match="no output"):
        edgekit.prune("nothing/here", ratio=0.5)
    with pytest.raises(ConfigError, match="--columns needs --data"):
        edgekit.prune("nothing/here", tmp_path / "p", ratio=0.5, columns="text=t")
    assert parts_left(tmp_path) == []


@pytest.mark.slow
def test_a_ratio_is_cut_and_the_rest_repaired(model: Path, texts: str, tmp_path: Path) -> None:
    """Parameters and operations fall by what is told; export names the original as the origin."""
    told: list[str] = []
    result = edgekit.prune(
        str(model), tmp_path / "p", ratio=0.4, structures=["ffn", "heads"], data=texts,
        target=ELSEWHERE, recover_steps=20, max_drop="90pt", progress=told.append,
    )  # fmt: skip
    check_schema_of("prune", to_json(result))
    assert result.verdict == "pass"
    assert result.latency is None
    assert result.not_run is not None
    whole, left = open_source(str(model)), open_source(str(tmp_path / "p"))
    assert result.parameters == Change(whole.parameters, left.parameters)
    assert result.flops.after < result.flops.before
    assert result.repair is not None
    assert result.recovery is not None
    assert result.recovery.loss_after <= result.recovery.loss_before
    assert result.accuracy is not None
    assert result.accuracy.samples > 150
    assert any(line.startswith("Recovery step") for line in told)
    edgekit.export(str(tmp_path / "p"), tmp_path / "b")
    source = open_bundle(tmp_path / "b").manifest.source
    assert source is not None
    assert (source.origin.id, source.origin.sha256) == ("m", whole.sha256)
    assert parts_left(tmp_path) == ["b", "p"]


@pytest.mark.slow
def test_a_speedup_is_foretold_checked_and_measured(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The table chooses, the cut is timed whole, and what falls short leaves nothing behind."""
    times = {"whole": 6.0, "short": 4.0, "heads": 3.6, "ffn": 3.0, "cut": 4.0}

    def time_all(self: Shop, sources: dict[str, Callable[[], object] | None]) -> dict[str, float]:
        return {name: times[name.partition("/")[0]] for name in sources}

    monkeypatch.setattr(Shop, "time_all", time_all)
    export_once(monkeypatch, tmp_path / "cache" / "exported")
    monkeypatch.setattr(timing, "bench", lambda *_, **__: compared(1.4, 1.5))
    result = edgekit.prune(str(model), tmp_path / "p", speedup=1.3, structures=["ffn"])
    assert result.predicted_speedup is not None
    assert result.predicted_speedup >= 1.3
    assert result.latency is not None
    assert {point.kind for point in result.table} >= {"ffn", "layer"}
    assert [one.taken for one in result.tried] == [True]
    monkeypatch.setattr(timing, "bench", lambda *_, **__: compared(1.1, 1.2))
    with pytest.raises(BudgetNotMet, match=r"--speedup 1\.3 was not reached") as missed:
        edgekit.prune(str(model), tmp_path / "q", speedup=1.3, structures=["ffn"])
    check_schema_of("prune", to_json(missed.value.result))
    monkeypatch.setattr(timing, "bench", lambda *_, **__: compared(1.2, 1.5))
    with pytest.raises(BudgetNotMet, match=r"not proved that --speedup 1\.3") as open_yet:
        edgekit.prune(str(model), tmp_path / "q", speedup=1.3, structures=["ffn"])
    assert isinstance(open_yet.value.result, PruneResult)
    assert open_yet.value.result.verdict == "inconclusive"
    monkeypatch.setattr(timing, "bench", lambda *_, **__: compared(0.8, 0.9))
    with pytest.raises(BudgetNotMet, match=r"slower than the original.*was left at"):
        edgekit.prune(str(model), tmp_path / "kept", ratio=0.2, structures=["ffn"], keep=True)
    with pytest.raises(BudgetNotMet, match="No cut of ffn makes the model 50 times as fast"):
        edgekit.prune(str(model), tmp_path / "q", speedup=50, structures=["ffn"])
    assert parts_left(tmp_path) == ["kept", "p"]


@pytest.mark.slow
def test_an_interrupted_recovery_goes_on(model: Path, texts: str, tmp_path: Path) -> None:
    """Ctrl-C leaves nothing at the output, or the best with keep; the same command resumes."""

    def stop(text: str) -> None:
        if text.startswith("Recovery step 4 "):
            raise KeyboardInterrupt

    def run(**more: object) -> PruneResult:
        return edgekit.prune(
            str(model), tmp_path / "p", ratio=0.3, structures=["ffn"], data=texts,
            target=ELSEWHERE, recover_steps=20, max_drop="90pt", **more,
        )  # type: ignore[arg-type]  # fmt: skip

    with pytest.raises(KeyboardInterrupt, match="The same command goes on"):
        run(progress=stop)
    assert parts_left(tmp_path) == []
    told: list[str] = []
    result = run(progress=told.append)
    assert any(line.startswith("Going on from step") for line in told)
    assert not any(line.startswith("Rating") for line in told)
    assert result.recovery is not None
    assert result.recovery.steps > 4
    with pytest.raises(KeyboardInterrupt, match="was left at"):
        run(progress=stop, keep=True, force=True)
    with pytest.raises(ConfigError, match="has been pruned already, from m"):
        edgekit.prune(str(tmp_path / "p"), tmp_path / "q", ratio=0.1)
    open_source(str(tmp_path / "p"))


@pytest.mark.slow
def test_the_deepest_cut_within_a_budget_is_judged_once(
    model: Path, texts: str, tmp_path: Path
) -> None:
    """Rows for choosing choose it; the rows for verdicts see nothing else."""
    told: list[str] = []
    result = edgekit.prune(
        str(model), tmp_path / "p", max_drop="90pt", structures=["ffn"], data=texts,
        target=ELSEWHERE, recover_steps=2, progress=told.append,
    )  # fmt: skip
    assert result.verdict == "pass"
    assert [one.taken for one in result.tried].count(True) == 1
    assert sum(line.startswith("Judging the pruned model") for line in told) == 1
    assert sum(line.startswith("Looking at the pruned model") for line in told) >= 1
    open_source(str(tmp_path / "p"))


@pytest.mark.slow
def test_sensitivity_alone_writes_nothing(model: Path, texts: str, tmp_path: Path) -> None:
    """Each structure by itself, by rising shares, with what it costs."""
    result = edgekit.prune(str(model), data=texts, sensitivity=True, target=ELSEWHERE)
    check_schema_of("prune", to_json(result))
    assert result.output is None
    assert result.source == "m"
    whole = {row.reference_accuracy for row in result.sensitivity}
    assert len(whole) == 1
    assert None not in whole
    assert "By the share that is cut" in render_html(as_json(result))
    by_structure: dict[str, list[SensitivityRow]] = {}
    for row in result.sensitivity:
        by_structure.setdefault(row.structure, []).append(row)
    assert set(by_structure) == {"heads", "ffn", "layers"}
    for rows in by_structure.values():
        assert [row.parameters for row in rows] == sorted(
            (row.parameters for row in rows), reverse=True
        )
    assert parts_left(tmp_path) == []
