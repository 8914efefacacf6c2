"""Tiny random models that generate, saved as Hugging Face folders with a tokenizer of their own.

Their heads are scaled so that the best token is clear: two engines may then be compared token for
token.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from tests.models import CORPUS, _byte_bpe

# A few more than the tokenizer's, because some classes of tokenizers add tokens of their own.
VOCABULARY = 640
CONTEXT = 256
WINDOW = 6
_PAD, _BOS, _EOS = 0, 1, 2
_SIZES: Mapping[str, Any] = {
    "vocab_size": VOCABULARY,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "max_position_embeddings": CONTEXT,
    "bos_token_id": _BOS,
    "eos_token_id": _EOS,
}
_BOTH: Mapping[str, Any] = {
    "vocab_size": VOCABULARY,
    "d_model": 32,
    "encoder_layers": 2,
    "decoder_layers": 3,
    "encoder_attention_heads": 4,
    "decoder_attention_heads": 4,
    "encoder_ffn_dim": 48,
    "decoder_ffn_dim": 48,
    "max_position_embeddings": CONTEXT,
    "bos_token_id": _BOS,
    "eos_token_id": _EOS,
    "pad_token_id": _PAD,
    "decoder_start_token_id": _PAD,
}


@dataclass(frozen=True)
class Generator:
    """A family: its task and how its config is made."""

    task: str
    config: Callable[[], Any]


def _made(name: str, **options: Any) -> Callable[[], Any]:
    def make() -> Any:
        import transformers

        return getattr(transformers, name)(**options)

    return make


def _causal(name: str, **options: Any) -> Generator:
    return Generator("text-generation", _made(name, **{**_SIZES, **options}))


FAMILIES: Mapping[str, Generator] = {
    "gpt2": Generator(
        "text-generation",
        _made(
            "GPT2Config",
            vocab_size=VOCABULARY,
            n_embd=32,
            n_layer=2,
            n_head=4,
            n_positions=CONTEXT,
            bos_token_id=_BOS,
            eos_token_id=_EOS,
        ),
    ),
    "llama": _causal("LlamaConfig", tie_word_embeddings=True),
    "mistral": _causal("MistralConfig", sliding_window=WINDOW),
    "qwen2": _causal("Qwen2Config"),
    "qwen3": _causal("Qwen3Config"),
    "gemma3": _causal(
        "Gemma3TextConfig",
        sliding_window=WINDOW,
        layer_types=["sliding_attention", "full_attention"],
        query_pre_attn_scalar=8,
    ),
    "t5": Generator(
        "text2text-generation",
        _made(
            "T5Config",
            vocab_size=VOCABULARY,
            d_model=32,
            d_kv=8,
            d_ff=48,
            num_layers=2,
            num_decoder_layers=2,
            num_heads=4,
            pad_token_id=_PAD,
            eos_token_id=_EOS,
            decoder_start_token_id=_PAD,
        ),
    ),
    "bart": Generator("text2text-generation", _made("BartConfig", **_BOTH)),
    "marian": Generator("text2text-generation", _made("MarianConfig", **_BOTH)),
}

# What is not exported, and is told so.
REFUSED: Mapping[str, Generator] = {
    "m2m_100": Generator("text2text-generation", _made("M2M100Config", **_BOTH)),
}


def save_generator(
    key: str,
    folder: Path,
    *,
    template: str | None = None,
    layers: int | None = None,
    varied: bool = False,
    **sizes: Any,
) -> Path:
    """Write a family's random model, its tokenizer and generation_config; the folder.

    `layers` are those of a decoder, of its kinds in turns, or of the encoder before one; `sizes`
    other words of its config. Where answers are to be `varied`, embeddings are not tied, which
    would say the word that they read again and again, and layers say something.
    """
    import transformers

    family = {**FAMILIES, **REFUSED}[key]
    config = family.config()
    if layers is not None:
        kinds = getattr(config, "layer_types", None)
        config.num_hidden_layers = layers
        if kinds:
            config.layer_types = [kinds[place % len(kinds)] for place in range(layers)]
    for name, value in sizes.items():
        setattr(config, name, value)
    if varied:
        config.tie_word_embeddings = False
    torch.manual_seed(7)
    seq2seq = family.task == "text2text-generation"
    auto = transformers.AutoModelForSeq2SeqLM if seq2seq else transformers.AutoModelForCausalLM
    model: Any = auto.from_config(config).eval()
    with torch.no_grad():
        # Tied weights are embeddings as well: scaling them scales what is looked up.
        model.get_output_embeddings().weight.normal_(0.0, 0.1 if varied else 0.5)
        if varied:
            # With more, what an encoder says drowns the words that were answered.
            layers_say = 0.1 if seq2seq else 0.2
            heads = model.get_output_embeddings().weight
            tables = [one.weight for one in model.modules() if isinstance(one, nn.Embedding)]
            for weight in model.parameters():
                if weight is heads or weight.ndim != 2:
                    continue
                words = any(weight is one for one in tables)
                weight.normal_(0.0, 2.0 if words else layers_say)
    model.generation_config.pad_token_id = _PAD
    model.save_pretrained(folder)
    tokenizer_of(ends=seq2seq, template=template).save_pretrained(folder)
    return folder


def tokenizer_of(*, ends: bool = False, template: str | None = None) -> Any:
    """A tokenizer trained on the corpus of the other tiny models; `ends` a text with a token."""
    from tokenizers.decoders import ByteLevel
    from tokenizers.processors import TemplateProcessing
    from transformers import PreTrainedTokenizerFast

    trained = _byte_bpe(["<pad>", "<s>", "</s>"])
    trained.decoder = ByteLevel()
    if ends:
        trained.post_processor = TemplateProcessing(
            single="$A </s>", special_tokens=[("</s>", _EOS)]
        )
    made = PreTrainedTokenizerFast(
        tokenizer_object=trained,
        bos_token="<s>",
        eos_token="</s>",
        pad_token="<pad>",
        model_max_length=CONTEXT,
    )
    made.chat_template = template
    return made


PROMPTS = (CORPUS[0], "Hello", CORPUS[3], "The river")
