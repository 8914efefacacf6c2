"""A loaded checkpoint that generates, as the source of its components."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from torch import nn

from edgekit.core.errors import SourceError
from edgekit.runtime.caches import KEPT
from edgekit.sources.generation.decoding import (
    PAST,
    PRESENT,
    CausalDecoder,
    DecoderFeeder,
    check_decoder,
    names_of,
)
from edgekit.sources.generation.seq2seq import seq2seq_source
from edgekit.sources.generation.whisper import speech_source
from edgekit.sources.loaded import LoadedSource

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

Axes = dict[str, dict[int, str]]


def generated_source(
    whole: LoadedSource, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase
) -> LoadedSource:
    """The source of a model that writes texts.

    Raises SourceError for one that is not exported, or a tokenizer of another model.
    """
    check_vocabulary(model, tokenizer, whole.id)
    whole = replace(whole, tokenizer=tokenizer)
    if whole.feature_extractor is not None:
        return speech_source(whole, model)
    if whole.task == "text2text-generation":
        return seq2seq_source(whole, model)
    return causal_source(whole, model)


def causal_source(whole: LoadedSource, model: PreTrainedModel) -> LoadedSource:
    """The source of a causal language model. Raises SourceError for one that is not exported."""
    check_decoder(model)
    decoder = CausalDecoder(model).eval()
    feeder = DecoderFeeder(decoder, whole.max_length)
    axes: Axes = {
        "input_ids": {0: "batch", 1: "sequence"},
        "attention_mask": {0: "batch", 1: "total"},
        "position_ids": {0: "batch", 1: "sequence"},
    }
    outputs: dict[str, tuple[str, ...]] = {"logits": ("batch", "kept")}
    for layer in range(decoder.layers):
        axes |= {name: {0: "batch", 2: "past"} for name in names_of(PAST, layer)}
        outputs |= dict.fromkeys(names_of(PRESENT, layer), ("batch", "", "total"))
    axes[KEPT] = {0: "kept"}
    return replace(
        whole,
        module=decoder,
        sample_inputs=feeder(feeder.traced, seed=1),
        dynamic_axes=axes,
        output_axes=outputs,
        feeder=feeder,
    )


def check_vocabulary(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, where: str
) -> None:
    """Raise SourceError for a tokenizer that knows more tokens than the model."""
    embeddings: Any = model.get_input_embeddings()
    rows = getattr(embeddings, "num_embeddings", None)
    if isinstance(embeddings, nn.Embedding) and rows is not None and len(tokenizer) > rows:
        raise SourceError(
            f"The tokenizer of {where} knows {len(tokenizer)} tokens, the model only {rows}.",
            hint="Save the tokenizer that belongs to the model into the folder, or resize the"
            " embeddings (model.resize_token_embeddings) and save the model again.",
        )
