"""A cut model answers what the whole one answers with the same parts set to zero."""

from __future__ import annotations

import copy
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from torch import nn

from edgekit.core.errors import PruneError, SourceError
from edgekit.sources.pruned.cutting import apply_plan, layout
from edgekit.sources.pruned.families import FAMILIES, SKIPPED
from tests.sources.pruned.masking import masked, plan_of

SIZES = {
    "hidden_size": 32,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "intermediate_size": 64,
    "vocab_size": 100,
    "initializer_range": 0.15,
}
PICTURES = {**SIZES, "image_size": 32, "patch_size": 8}


def _bert(kind: str, **extra: Any) -> Any:
    return getattr(transformers, f"{kind}Config")(**{**SIZES, "pad_token_id": 1, **extra})


def _grouped(kind: str, **extra: Any) -> Any:
    grouped = {"num_attention_heads": 8, "num_key_value_heads": 4, "head_dim": 8}
    return getattr(transformers, f"{kind}Config")(**SIZES | grouped | {"use_cache": False} | extra)


def _both(kind: str, **extra: Any) -> Any:
    return getattr(transformers, f"{kind}Config")(
        vocab_size=100, d_model=32, encoder_layers=3, decoder_layers=2, encoder_attention_heads=4,
        decoder_attention_heads=2, encoder_ffn_dim=64, decoder_ffn_dim=48, init_std=0.15,
        max_position_embeddings=32, use_cache=False, pad_token_id=1, decoder_start_token_id=2,
        **extra,
    )  # fmt: skip


def _t5(**extra: Any) -> Any:
    return transformers.T5Config(
        vocab_size=100, d_model=32, d_kv=6, d_ff=64, num_layers=3, num_decoder_layers=2,
        num_heads=4, relative_attention_num_buckets=8, use_cache=False, decoder_start_token_id=0,
        **extra,
    )  # fmt: skip


CONFIGS: dict[str, Any] = {
    "bert": lambda: _bert("Bert"),
    "roberta": lambda: _bert("Roberta"),
    "xlm-roberta": lambda: _bert("XLMRoberta"),
    "camembert": lambda: _bert("Camembert"),
    "electra": lambda: _bert("Electra", embedding_size=32),
    "distilbert": lambda: transformers.DistilBertConfig(
        vocab_size=100, dim=32, n_layers=3, n_heads=4, hidden_dim=64, initializer_range=0.15
    ),
    "deberta-v2": lambda: _bert(
        "DebertaV2", relative_attention=True, position_buckets=16, pos_att_type=["p2c", "c2p"],
        share_att_key=False, type_vocab_size=0,
    ),
    "mpnet": lambda: _bert("MPNet"),
    "modernbert": lambda: _bert(
        "ModernBert", local_attention=8, global_attn_every_n_layers=2, cls_token_id=2,
        sep_token_id=3, bos_token_id=2, eos_token_id=3,
    ),
    "vit": lambda: transformers.ViTConfig(**PICTURES),
    "deit": lambda: transformers.DeiTConfig(**PICTURES),
    "gpt2": lambda: transformers.GPT2Config(
        vocab_size=100, n_embd=32, n_layer=3, n_head=4, n_inner=64, initializer_range=0.15,
        use_cache=False,
    ),
    "llama": lambda: _grouped("Llama"),
    "mistral": lambda: _grouped("Mistral", sliding_window=4),
    "qwen2": lambda: _grouped("Qwen2"),
    "qwen3": lambda: _grouped("Qwen3"),
    "gemma3_text": lambda: _grouped(
        "Gemma3Text", sliding_window=4, query_pre_attn_scalar=8,
        layer_types=["sliding_attention", "full_attention", "sliding_attention"],
    ),
    "t5": lambda: _t5(),
    "bart": lambda: _both("Bart"),
    "marian": lambda: _both("Marian"),
    "whisper": lambda: _both(
        "Whisper", num_mel_bins=8, max_source_positions=12, max_target_positions=16, bos_token_id=1,
        eos_token_id=2,
    ),
}  # fmt: skip


ANSWERING = ("t5", "bart", "marian", "whisper")
LAYERS = (None, (0, 2), (1, 2))
# The first layer of T5 makes what all others read.
CASES = [(kind, left) for kind in CONFIGS for left in LAYERS if (kind, left) != ("t5", (1, 2))]


def model_of(kind: str, config: Any = None) -> nn.Module:
    """A tiny random model of a type, with biases that show when they are forgotten."""
    torch.manual_seed(0)
    model = transformers.AutoModel.from_config(config or CONFIGS[kind]()).eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.endswith("bias") or "orm" in name:
                parameter.add_(torch.randn_like(parameter) * 0.1)
    return model


def inputs_of(kind: str) -> dict[str, torch.Tensor]:
    """Two inputs for it, one of them padded."""
    torch.manual_seed(1)
    if kind in ("vit", "deit"):
        return {"pixel_values": torch.randn(2, 3, 32, 32)}
    if kind == "whisper":
        heard = torch.randn(2, 8, 24)
        return {"input_features": heard, "decoder_input_ids": torch.randint(4, 100, (2, 7))}
    mask = torch.ones(2, 12, dtype=torch.long)
    mask[1, 9:] = 0
    inputs = {"input_ids": torch.randint(4, 100, (2, 12)), "attention_mask": mask}
    if kind in ANSWERING:
        inputs["decoder_input_ids"] = torch.randint(4, 100, (2, 7))
    return inputs


def answer(model: nn.Module, kind: str) -> torch.Tensor:
    """The last hidden state where it is not padding, of an answer all of it."""
    inputs = inputs_of(kind)
    with torch.inference_mode():
        hidden: torch.Tensor = model(**inputs).last_hidden_state
    mask = None if kind in ANSWERING else inputs.get("attention_mask")
    return hidden if mask is None else hidden[mask.bool()]


def test_every_family_is_tried_here() -> None:
    """Each model type of the table has a tiny model."""
    assert {one for family in FAMILIES for one in family.model_types} == set(CONFIGS)


@pytest.mark.parametrize(("kind", "layers"), CASES)
def test_cutting_equals_masking(kind: str, layers: tuple[int, ...] | None) -> None:
    """Heads, neurons and layers, other ones in every layer."""
    model = model_of(kind)
    plan = plan_of(model, layers=layers)
    with masked(model, plan):
        expected = answer(model, kind)
    assert not torch.allclose(expected, answer(model, kind), atol=1e-2)
    cut = copy.deepcopy(model)
    apply_plan(cut, plan)
    torch.testing.assert_close(answer(cut, kind), expected, atol=1e-5, rtol=1e-5)
    left = layout(cut).layers
    assert [row.heads for row in left] == [row.heads_left for row in plan.left()]
    assert [row.ffn for row in left] == [row.ffn_left for row in plan.left()]
    told = cut.encoder.config if kind == "t5" else cut.config
    assert told.num_hidden_layers == len(left)
    assert sum(p.numel() for p in cut.parameters()) < sum(p.numel() for p in model.parameters())


@pytest.mark.parametrize("kind", ANSWERING)
def test_the_decoder_stays_whole(kind: str) -> None:
    """Its weights, and what its config says of it."""
    model = model_of(kind)
    cut = copy.deepcopy(model)
    apply_plan(cut, plan_of(model, layers=(0,)))
    before, after = model.decoder.state_dict(), cut.decoder.state_dict()
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)
    layers = "num_layers" if kind == "t5" else "decoder_layers"
    assert getattr(cut.decoder.config, layers) == 2


def test_gated_layers_lose_neurons_of_both_halves() -> None:
    """T5's, whose halves are two linear layers."""
    model = model_of("t5", _t5(feed_forward_proj="gated-gelu"))
    plan = plan_of(model)
    with masked(model, plan):
        expected = answer(model, "t5")
    apply_plan(model, plan)
    torch.testing.assert_close(answer(model, "t5"), expected, atol=1e-5, rtol=1e-5)
    row = layout(model).layers[1]
    assert [part.out_features for part in row.ups] == [row.ffn, row.ffn]


def test_what_makes_the_bias_of_all_layers_stays() -> None:
    """T5's first layer; cut twice, heads still have their own part of it."""
    model = model_of("t5")
    with pytest.raises(PruneError, match="makes the position bias of all others"):
        apply_plan(copy.deepcopy(model), plan_of(model, layers=(1, 2)))
    once = copy.deepcopy(model)
    first = plan_of(model, layers=(0, 2))
    apply_plan(model, first)
    second = plan_of(model, seed=5)
    apply_plan(model, second)
    apply_plan(once, first.then(second))
    torch.testing.assert_close(answer(once, "t5"), answer(model, "t5"))


def test_grouped_heads_stay_whole() -> None:
    """Llama's heads that share keys and values are one head to cut."""
    model = model_of("llama")
    assert [row.heads for row in layout(model).layers] == [4, 4, 4]
    apply_plan(model, plan_of(model))
    attention = layout(model).layers[0].attention
    assert attention.q_proj.out_features == 2 * attention.k_proj.out_features


def test_training_goes_on_after_a_cut() -> None:
    """Every weight left gets a gradient."""
    model = model_of("bert").train()
    apply_plan(model, plan_of(model))
    model(**inputs_of("bert")).last_hidden_state.square().sum().backward()
    missing = [name for name, one in model.named_parameters() if one.grad is None]
    assert all(name.startswith("pooler") for name in missing)


@pytest.mark.parametrize("kind", ["albert", "swin"])
def test_what_cannot_be_cut_says_why(kind: str) -> None:
    """A row of the table of what is skipped, in the message."""
    config = transformers.AutoConfig.for_model(kind)
    with torch.device("meta"):
        model = transformers.AutoModel.from_config(config)
    with pytest.raises(PruneError, match=SKIPPED[kind][:40]):
        layout(model)


def test_another_models_plan_is_refused() -> None:
    """Its layers have other sizes."""
    model = model_of("bert")
    plan = plan_of(model)
    other = replace(plan, layers=tuple(replace(row, ffn=80) for row in plan.layers))
    with pytest.raises(SourceError, match=r"4 heads and 80 neurons.*4 heads and 64 neurons"):
        apply_plan(model, other)


def test_heads_that_do_not_divide_are_refused() -> None:
    """The queries are no multiple of the keys."""
    model = model_of("llama")
    row = layout(model).layers[1]
    attention = row.attention
    attention.o_proj = nn.Linear(60, 32)
    with pytest.raises(PruneError, match=r"layers.1 is 60 wide, which its 4 heads of 8"):
        layout(model)


def test_tied_layers_are_refused() -> None:
    """Cutting one would change the other."""
    model = model_of("bert")
    rows = layout(model).layers
    rows[2].down.weight = rows[0].down.weight
    with pytest.raises(PruneError, match="one tied weight"):
        layout(model)


def test_a_convolution_behind_the_first_layer_keeps_it() -> None:
    """DeBERTa-v2's, which reads what the first layer gives."""
    config = CONFIGS["deberta-v2"]()
    config.conv_kernel_size, config.conv_act = 3, "gelu"
    model = transformers.AutoModel.from_config(config)
    with pytest.raises(PruneError, match="cannot be taken out"):
        apply_plan(model, plan_of(model, layers=(1, 2)))
    apply_plan(model, plan_of(model, layers=(0, 2)))


def test_plans_join(tmp_path: Path) -> None:
    """One plan does what two do one after the other."""
    model = model_of("bert")
    once = copy.deepcopy(model)
    first = plan_of(model, layers=(0, 2))
    apply_plan(model, first)
    second = plan_of(model, layers=(1,), seed=5)
    apply_plan(model, second)
    apply_plan(once, first.then(second))
    torch.testing.assert_close(answer(once, "bert"), answer(model, "bert"))
