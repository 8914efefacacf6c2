"""Checkpoints of transformers as loaded sources."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from edgekit.core.errors import ConfigError, SourceError
from edgekit.sources.opening import open_source
from tests.models import ARCHITECTURES, save_model, tokenizer_for


def test_classifier_is_loaded_with_all_that_a_bundle_needs(checkpoint: Path) -> None:
    """Task, labels, lengths, inputs and the hash come with the module."""
    (checkpoint / "LICENSE.txt").write_text("do as you like")
    (checkpoint / "README.md").write_text("---\ntags:\n- x\nlicense: mit\n---\n# A model\n")
    source = open_source(str(checkpoint))
    assert (source.kind, source.id, source.task) == (
        "huggingface",
        "checkpoint",
        "text-classification",
    )
    assert source.architecture == "BertForSequenceClassification"
    assert source.labels == ("negative", "neutral", "positive")
    assert (source.dtype, source.precision, source.max_length) == ("float32", "fp32", 64)
    assert source.license == "mit"
    assert [path.name for path in source.license_files] == ["LICENSE.txt"]
    assert list(source.sample_inputs) == ["input_ids", "attention_mask", "token_type_ids"]
    assert source.dynamic_axes["attention_mask"] == {0: "batch", 1: "sequence"}
    assert len(source.sha256) == 64
    assert not source.module.training


def test_sample_holds_padding(checkpoint: Path) -> None:
    """An all-ones mask would vanish from the graph."""
    mask = open_source(str(checkpoint)).sample_inputs["attention_mask"]
    assert mask.shape[0] > 1
    assert 0 < int(mask.sum()) < mask.numel()


def test_module_answers_under_the_final_names(checkpoint: Path) -> None:
    """Only the outputs of the task come out, in a plain dict."""
    source = open_source(str(checkpoint))
    outputs = source.module(**source.sample_inputs)
    assert set(outputs) == set(source.output_axes) == {"logits"}
    assert outputs["logits"].shape == (3, 3)


def test_half_precision_checkpoint_is_loaded_in_float32(tmp_path: Path) -> None:
    """transformers would load the stored type; the reference is float32 and the hash the same."""
    import transformers

    folder = save_model("bert", "fill-mask", tmp_path / "m")
    model = transformers.AutoModelForMaskedLM.from_pretrained(folder, dtype=torch.bfloat16)
    model.save_pretrained(folder)
    source = open_source(str(folder))
    assert source.dtype == "bfloat16"
    assert {p.dtype for p in source.module.parameters()} == {torch.float32}
    half = open_source(str(folder), dtype="float16")
    assert half.precision == "fp16"
    assert half.sha256 == source.sha256


def test_unknown_dtype_is_a_config_error(checkpoint: Path) -> None:
    """The nearest one is named."""
    with pytest.raises(ConfigError, match="'fp16' is unknown"):
        open_source(str(checkpoint), dtype="fp16")


def test_random_head_is_refused(tmp_path: Path) -> None:
    """A base checkpoint exported as a classifier would ship noise."""
    folder = save_model("bert", "feature-extraction", tmp_path / "m")
    with pytest.raises(SourceError, match=r"2 weights .* would be random: classifier") as caught:
        open_source(str(folder), task="text-classification")
    assert "Fine-tune" in str(caught.value.hint)


def test_head_that_fits_by_name_only_is_refused(checkpoint: Path) -> None:
    """BERT's heads for texts and for tokens are both called classifier."""
    with pytest.raises(SourceError, match="BertForSequenceClassification, whose head") as caught:
        open_source(str(checkpoint), task="token-classification")
    assert "it is for text-classification" in str(caught.value.hint)
    assert open_source(str(checkpoint), task="feature-extraction").task == "feature-extraction"


def test_missing_pooler_does_not_matter_for_hidden_states(tmp_path: Path) -> None:
    """A token classifier has none; two loads give one hash, so nothing random is left in."""
    folder = save_model("bert", "token-classification", tmp_path / "m")
    first = open_source(str(folder), task="feature-extraction")
    second = open_source(str(folder), task="feature-extraction")
    assert first.sha256 == second.sha256
    assert set(first.output_axes) == {"last_hidden_state"}


def test_task_that_does_not_fit_names_those_that_do(tmp_path: Path) -> None:
    """A model type without such a head is told before its weights are read."""
    import transformers

    config = transformers.GPT2Config(n_layer=1, n_head=1, n_embd=8, vocab_size=20)
    transformers.GPT2Model(config).save_pretrained(tmp_path / "gpt2")
    with pytest.raises(SourceError, match="gpt2 model has no head for fill-mask") as caught:
        open_source(str(tmp_path / "gpt2"), task="fill-mask")
    assert "text-classification" in str(caught.value.hint)


def test_encoder_of_an_encoder_decoder_is_loaded_as_such(tmp_path: Path) -> None:
    """sentence-t5 saves T5EncoderModel, for which the auto class would invent a decoder."""
    import transformers

    tokenizer = tokenizer_for("roberta")
    config = transformers.T5Config(
        d_model=16, num_layers=1, num_heads=2, d_ff=16, d_kv=8, vocab_size=len(tokenizer)
    )
    transformers.T5EncoderModel(config).save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    source = open_source(str(tmp_path))
    assert source.architecture == "T5EncoderModel"
    assert source.module(**source.sample_inputs)["last_hidden_state"].shape[-1] == 16


def test_unknown_task_is_a_config_error(checkpoint: Path) -> None:
    """Usage, not the source, is at fault."""
    with pytest.raises(ConfigError, match="'text-clasification' is unknown"):
        open_source(str(checkpoint), task="text-clasification")


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_longest_input_is_what_the_positions_allow(architecture: str, tmp_path: Path) -> None:
    """Without a length in the tokenizer the embeddings decide, padding offset taken off."""
    folder = save_model(architecture, "feature-extraction", tmp_path / "m", max_length=40)
    path = folder / "tokenizer_config.json"
    settings = json.loads(path.read_text())
    settings["model_max_length"] = 10**30
    path.write_text(json.dumps(settings))
    source = open_source(str(folder))
    assert source.max_length == 40
    ids = torch.ones((1, 40), dtype=torch.int64) * 7
    source.module(
        **{
            name: ids if name == "input_ids" else torch.ones_like(ids) * (name == "attention_mask")
            for name in source.sample_inputs
        }
    )


def test_tokenizer_without_padding_token_is_refused(checkpoint: Path) -> None:
    """Texts could not be batched."""
    path = checkpoint / "tokenizer_config.json"
    settings = json.loads(path.read_text())
    settings["pad_token"] = None
    path.write_text(json.dumps(settings))
    with pytest.raises(SourceError, match="no padding token"):
        open_source(str(checkpoint))


def test_trusted_code_of_the_checkpoint_is_run(
    checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """--trust-remote-code loads an architecture that transformers does not have."""
    monkeypatch.setattr(
        "transformers.dynamic_module_utils.HF_MODULES_CACHE", str(tmp_path / "modules")
    )
    (checkpoint / "own.py").write_text(
        "from transformers import BertForSequenceClassification\n"
        "class OwnModel(BertForSequenceClassification):\n    pass\n"
    )
    path = checkpoint / "config.json"
    config = json.loads(path.read_text())
    config |= {
        "architectures": ["OwnModel"],
        "auto_map": {"AutoModelForSequenceClassification": "own.OwnModel"},
    }
    path.write_text(json.dumps(config))
    with pytest.raises(SourceError, match="code of its own"):
        open_source(str(checkpoint), task="text-classification")
    source = open_source(str(checkpoint), task="text-classification", trust_remote_code=True)
    assert source.architecture == "OwnModel"


def test_licence_in_the_card_may_be_a_list_or_other(checkpoint: Path) -> None:
    """The two other forms that the hub writes."""
    from edgekit.sources.loaded import license_of_card

    card = checkpoint / "README.md"
    card.write_text("---\nlicense:\n- apache-2.0\n- mit\n---\n")
    assert license_of_card(checkpoint) == "apache-2.0"
    card.write_text("---\nlicense: other\nlicense_name: own-terms\n---\n")
    assert license_of_card(checkpoint) == "own-terms"
    card.write_text("no front matter\nlicense: mit\n")
    assert license_of_card(checkpoint) is None
