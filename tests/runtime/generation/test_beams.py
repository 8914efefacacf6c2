"""Beam search beside transformers' generate, over the same PyTorch model."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
import transformers

from edgekit.core.manifest import TensorSpec
from edgekit.runtime.generation.beams import search
from edgekit.runtime.generation.decoder import Decoder
from edgekit.runtime.generation.logits import Place, make_rules
from edgekit.runtime.generation.loop import Row
from edgekit.runtime.generation.options import Options
from edgekit.runtime.generation.pieces import Stops
from edgekit.runtime.generation.rules import GenerationRules
from edgekit.runtime.session import Array
from tests.runtime.generation.conftest import byte_tokenizer

SIZE, PAD, EOS = 30, 0, 2
NONE = Stops(byte_tokenizer(), ())
MARIAN: Mapping[str, Any] = {
    "vocab_size": SIZE, "d_model": 16, "encoder_layers": 1, "decoder_layers": 2,
    "encoder_attention_heads": 2, "decoder_attention_heads": 2, "encoder_ffn_dim": 16,
    "decoder_ffn_dim": 16, "max_position_embeddings": 64, "pad_token_id": PAD,
    "eos_token_id": EOS, "bos_token_id": 1, "decoder_start_token_id": EOS,
    "forced_eos_token_id": None, "init_std": 0.6,
}  # fmt: skip
LLAMA: Mapping[str, Any] = {
    "vocab_size": SIZE, "hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 2,
    "num_attention_heads": 2, "pad_token_id": PAD, "eos_token_id": EOS, "bos_token_id": 1,
    "initializer_range": 0.6,
}  # fmt: skip


class Whole:
    """A PyTorch model as a session whose cache is simply the tokens."""

    engine = "torch"
    device = "cpu"
    outputs = (
        TensorSpec("logits", "float32", ("batch", "sequence", SIZE)),
        TensorSpec("present.tokens", "float32", ("batch", "total")),
    )

    def __init__(self, model: Any, seq2seq: bool) -> None:
        self._model = model
        self._seq2seq = seq2seq
        self.inputs = (
            TensorSpec("input_ids", "int64", ("batch", "sequence")),
            TensorSpec("past_key_values.tokens", "float32", ("batch", "past")),
            *([TensorSpec("source", "int64", ("batch", "source"))] if seq2seq else []),
        )

    def run(self, feeds: Mapping[str, Array]) -> dict[str, Array]:
        past = feeds["past_key_values.tokens"]
        tokens = np.concatenate([past, feeds["input_ids"].astype(np.float32)], axis=1)
        ids = torch.tensor(tokens, dtype=torch.int64)
        with torch.inference_mode():
            if self._seq2seq:
                made = self._model(
                    input_ids=torch.tensor(feeds["source"]), decoder_input_ids=ids, use_cache=False
                )
            else:
                made = self._model(ids, use_cache=False)
        return {"logits": made.logits.numpy(), "present.tokens": tokens}

    def facts(self) -> dict[str, Any]:
        return {}

    def close(self) -> None:
        pass


@pytest.fixture(autouse=True, scope="module")
def one_thread() -> Iterator[None]:
    """Models this small are slower on more."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def marian() -> Any:
    """A tiny translator whose end is as likely as any token."""
    torch.manual_seed(0)
    return transformers.MarianMTModel(transformers.MarianConfig(**MARIAN)).eval()


@pytest.fixture(scope="module")
def llama() -> Any:
    """A tiny decoder whose end is as likely as any token."""
    torch.manual_seed(1)
    return transformers.LlamaForCausalLM(transformers.LlamaConfig(**LLAMA)).eval()


CASES: Mapping[str, tuple[Mapping[str, Any], Mapping[str, Any]]] = {
    "two": ({"num_beams": 2}, {}),
    "five": ({"num_beams": 5}, {}),
    "long": ({"num_beams": 4, "length_penalty": 2.0}, {}),
    "short": ({"num_beams": 4, "length_penalty": -1.0}, {}),
    "flat": ({"num_beams": 3, "length_penalty": 0.0, "early_stopping": "never"}, {}),
    "early": ({"num_beams": 4, "early_stopping": True}, {}),
    "never": ({"num_beams": 4, "early_stopping": "never", "length_penalty": 1.5}, {}),
    "ngrams": ({"num_beams": 4, "no_repeat_ngram_size": 2, "repetition_penalty": 1.2}, {}),
    "least": ({"num_beams": 4, "min_new_tokens": 6}, {}),
    "ends": ({"num_beams": 3}, {"eos": (EOS, 5, 9)}),
    "renormalized": (
        {"num_beams": 4, "renormalize_logits": True}, {"bad_words": ((PAD,), (4, 5), (6,))}
    ),
    "forced": ({"num_beams": 4}, {"forced_bos": 7, "forced_eos": EOS}),
    "suppressed": ({"num_beams": 4}, {"suppress": (3, 8), "begin_suppress": (10, EOS)}),
}  # fmt: skip
NAMES = {
    "eos": "eos_token_id",
    "bad_words": "bad_words_ids",
    "forced_bos": "forced_bos_token_id",
    "forced_eos": "forced_eos_token_id",
    "suppress": "suppress_tokens",
    "begin_suppress": "begin_suppress_tokens",
}


def plain(value: object) -> object:
    """Tuples as the lists that generate takes."""
    return [plain(item) for item in value] if isinstance(value, tuple) else value


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("kind", ["marian", "llama"])
def test_beams_are_those_of_generate(name: str, kind: str, request: pytest.FixtureRequest) -> None:
    """The best answer is transformers', token for token, for several inputs."""
    model = request.getfixturevalue(kind)
    seq2seq = kind == "marian"
    given, changes = CASES[name]
    if not seq2seq and "forced_bos" in changes:
        changes = {"forced_eos": EOS}
    rules = replace(GenerationRules("decoder", 1, None, (EOS,), PAD, start=(EOS,)), **changes)
    options = Options(**given)
    decoder = Decoder(Whole(model, seq2seq), ["source"])
    for seed in range(3):
        text = np.random.default_rng(seed).integers(3, SIZE, 5)
        prompt = [EOS] if seq2seq else text.tolist()
        row = Row(prompt, len(prompt) + 12)
        row.rules = make_rules(options, rules, Place(len(prompt), row.most))
        search(decoder, row, {"source": text[None]} if seq2seq else {}, options, rules, NONE)
        with torch.inference_mode():
            expected = model.generate(
                torch.tensor(text)[None],
                attention_mask=torch.ones(1, 5, dtype=torch.int64),
                max_new_tokens=12,
                do_sample=False,
                **given,
                **{NAMES[key]: plain(value) for key, value in changes.items()},
            )[0].tolist()
        while expected[-1] == PAD:
            expected.pop()
        assert row.tokens == expected, seed
