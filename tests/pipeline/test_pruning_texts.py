"""prune: models that generate, from a source to a smaller one that is exported."""

from __future__ import annotations

from pathlib import Path

import pytest

import edgekit
from edgekit.core.bundle import open_bundle
from edgekit.core.errors import BudgetNotMet, ConfigError
from edgekit.core.pruned import Change, PruneResult
from edgekit.core.results import to_json
from edgekit.pruning import feeding
from edgekit.sources.opening import open_source
from tests.pruning.generators import questions, sounds, stories
from tests.schemas import check_schema_of
from tests.speech_models import save_speech_model
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


@pytest.fixture
def answering(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A tiny random model that answers texts, with a cache folder of its own."""
    monkeypatch.setenv("EDGEKIT_CACHE", str(tmp_path / "cache"))
    return str(save_generator("t5", tmp_path / "m", layers=4))


def test_an_encoder_is_cut_by_a_ratio(answering: str, tmp_path: Path) -> None:
    """The share is one of the encoder's parameters; the decoder stays, and nothing is judged."""
    result = edgekit.prune(answering, tmp_path / "p", ratio=0.3)
    check_schema_of("prune", to_json(result))
    whole, left = open_source(answering), open_source(str(tmp_path / "p"))
    assert result.parameters == Change(whole.parameters, left.parameters)
    encoder = sum(
        one.numel()
        for name, one in whole.module.model.named_parameters()
        if name.startswith("encoder.block")
    )
    gone = result.parameters.before - result.parameters.after
    assert 0.3 * encoder <= gone < encoder
    assert result.flops.after < result.flops.before
    assert (result.accuracy, result.latency, result.verdict) == (None, None, "pass")
    assert list(left.parts) == ["encoder", "decoder"]
    with pytest.raises(ConfigError, match=r"--speedup 1\.2 cannot be aimed at"):
        edgekit.prune(answering, tmp_path / "q", speedup=1.2)


@pytest.mark.slow
def test_an_encoder_is_mended_and_judged_by_answers(answering: str, tmp_path: Path) -> None:
    """Those of DATA, as validate has them after it was exported."""
    data = str(questions(tmp_path, 120))
    result = edgekit.prune(
        answering, tmp_path / "p", ratio=0.2, data=data, max_drop="100000%", recover_steps=4
    )
    check_schema_of("prune", to_json(result))
    assert result.accuracy is not None
    assert result.accuracy.metric == "perplexity"
    assert result.method == "fisher"
    assert result.repair is not None
    assert result.recovery is not None
    assert not any("a column target" in note for note in result.notes)
    edgekit.export(str(tmp_path / "p"), tmp_path / "b")
    judged = edgekit.validate(
        tmp_path / "b", reference=answering, data=data, max_drop="10000%", latency=False
    )
    assert judged.accuracy is not None


@pytest.mark.slow
def test_without_answers_it_is_held_to_its_own(
    answering: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Which is told; each structure by itself, too."""
    monkeypatch.setattr(feeding, "_LONGEST_ANSWER", 4)
    data = str(questions(tmp_path, 80, answers=False))
    result = edgekit.prune(answering, data=data, sensitivity=True)
    assert any("a column target" in note for note in result.notes)
    assert {row.structure for row in result.sensitivity} == {"heads", "ffn", "layers"}


@pytest.mark.slow
def test_an_encoder_of_sounds_is_judged_by_what_the_original_writes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With no transcript at all; a length is none of its own."""
    monkeypatch.setenv("EDGEKIT_CACHE", str(tmp_path / "cache"))
    model = str(save_speech_model("multilingual", tmp_path / "m", layers=3))
    data = str(sounds(tmp_path / "sounds", 80))
    result = edgekit.prune(model, tmp_path / "p", ratio=0.2, data=data, max_drop="100000%")
    check_schema_of("prune", to_json(result))
    assert result.accuracy is not None
    assert result.accuracy.metric == "perplexity"
    assert result.repair is not None
    assert any("transcripts are for validate" in note for note in result.notes)
    assert list(open_source(str(tmp_path / "p")).parts) == ["encoder", "decoder"]
    with pytest.raises(ConfigError, match="--length 16 is for texts"):
        edgekit.prune(model, tmp_path / "q", ratio=0.2, length=16)
