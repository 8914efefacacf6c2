"""prune: models that generate, from a source to a smaller one that is exported."""

from __future__ import annotations

from pathlib import Path

import pytest

import edgekit
from edgekit.core.bundle import open_bundle
from edgekit.core.errors import BudgetNotMet, ConfigError
from edgekit.core.pruned import Change, PruneResult
from edgekit.core.results import to_json
from edgekit.sources.opening import open_source
from tests.pruning.generators import stories
from tests.schemas import check_schema_of
from tests.text_models import save_generator


@pytest.fixture
def model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A tiny random model that generates, with a cache folder of its own."""
    monkeypatch.setenv("EDGEKIT_CACHE", str(tmp_path / "cache"))
    saved = save_generator("llama", tmp_path / "m", layers=4, initializer_range=0.15)
    return str(saved)


def test_a_ratio_needs_no_data(model: str, tmp_path: Path) -> None:
    """Parameters and operations fall by what is told; nothing is judged."""
    result = edgekit.prune(model, tmp_path / "p", ratio=0.3)
    check_schema_of("prune", to_json(result))
    whole, left = open_source(model), open_source(str(tmp_path / "p"))
    assert result.parameters == Change(whole.parameters, left.parameters)
    assert result.parameters.after < result.parameters.before
    assert result.flops.after < result.flops.before
    assert (result.accuracy, result.latency, result.verdict) == (None, None, "pass")
    assert result.not_run is not None
    assert result.method == "activations"
    assert left.generative
    with pytest.raises(ConfigError, match=r"--speedup 1\.2 cannot be aimed at"):
        edgekit.prune(model, tmp_path / "q", speedup=1.2)
    assert {path.name for path in tmp_path.iterdir()} - {"cache"} == {"m", "p"}


@pytest.mark.slow
def test_with_texts_it_is_mended_judged_and_exported(model: str, tmp_path: Path) -> None:
    """By its perplexity on texts that nothing has seen; a budget that is missed leaves nothing."""
    data = str(stories(tmp_path, 160))
    told: list[str] = []
    result = edgekit.prune(
        model, tmp_path / "p", ratio=0.2, structures=["ffn", "layers"], data=data,
        max_drop="5000%", recover_steps=4, progress=told.append,
    )  # fmt: skip
    check_schema_of("prune", to_json(result))
    assert result.accuracy is not None
    assert result.accuracy.metric == "perplexity"
    assert result.method == "fisher"
    assert result.repair is not None
    assert result.recovery is not None
    assert any("Recovery step" in line for line in told)
    edgekit.export(str(tmp_path / "p"), tmp_path / "b")
    source = open_bundle(tmp_path / "b").manifest.source
    assert source is not None
    assert source.origin.id == "m"
    assert source.parameters == result.parameters.after
    with pytest.raises(BudgetNotMet) as missed:
        edgekit.prune(model, tmp_path / "q", ratio=0.6, data=data, max_drop="0.01%")
    assert isinstance(missed.value.result, PruneResult)
    assert missed.value.result.recovery is None
    assert any("least squares alone" in note for note in missed.value.result.notes)
    assert not (tmp_path / "q").exists()
    rows = edgekit.prune(model, data=data, sensitivity=True).sensitivity
    assert {row.structure for row in rows} == {"heads", "ffn", "layers"}
