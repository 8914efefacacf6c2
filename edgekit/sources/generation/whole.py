"""A causal language model that reads whole texts at once: how pruning rates, mends and judges it.

Its cache has no part in that. `generating` gives it back, for whoever exports what is left.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from edgekit.sources.generation.reading import generated_source
from edgekit.sources.loaded import LoadedSource
from edgekit.sources.samples import SAMPLE_TEXTS

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

GENERATION = "text-generation"
LOGITS = "logits"
#: The tokens of answers, and which of them say what the next one is (see `answers`).
ANSWER, FORETELLING = "decoder_input_ids", "answer_mask"
_IDS, _MASK = "input_ids", "attention_mask"
SAMPLE_LENGTH = 48


class WholeTexts(nn.Module):
    """Texts in, for each of their tokens the logits of the next one out."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> dict[str, Tensor]:
        """``logits [batch, sequence, vocabulary]`` of rows that end with padding."""
        # A cache would grow each time that a layer is called again by itself.
        found = self.model(input_ids=input_ids, attention_mask=attention_mask, use_cache=False)
        return {LOGITS: found.logits}


def whole_texts(source: LoadedSource) -> LoadedSource:
    """A source that generates with one component, as one that reads whole texts."""
    axes = {0: "batch", 1: "sequence"}
    longest = min(source.max_length or SAMPLE_LENGTH, SAMPLE_LENGTH)
    return replace(
        source,
        module=WholeTexts(cast("nn.Module", source.module.model)).eval(),
        sample_inputs=encode_texts(source.tokenizer, SAMPLE_TEXTS, max_length=longest),
        dynamic_axes={_IDS: axes, _MASK: axes},
        output_axes={LOGITS: ("batch", "sequence")},
        feeder=None,
    )


def generating(source: LoadedSource) -> LoadedSource:
    """A source that generates again, with the cache of the heads and layers that it has now."""
    model = cast("PreTrainedModel", source.module.model)
    return generated_source(source, model, cast("PreTrainedTokenizerBase", source.tokenizer))


def foretells(source: LoadedSource) -> bool:
    """Whether the logits of a source are those of next tokens: of texts, or of answers to them."""
    return source.task == GENERATION or ANSWER in source.sample_inputs


def encode_texts(tokenizer: Any, texts: Sequence[str], *, max_length: int) -> dict[str, Tensor]:
    """Token ids and mask `[batch, sequence]` of texts, cut to `max_length` and padded at their end.

    So no position is shifted, and the tokens before it never see padding, whatever stands there:
    the tokenizer need not know a token for it. An empty text is one token.
    """
    read = tokenizer(list(texts), truncation=True, max_length=max_length)[_IDS]
    padded, lengths = padded_rows(read)
    mask = torch.arange(padded.shape[1])[None, :] < lengths[:, None]
    return {_IDS: padded, _MASK: mask.to(torch.int64)}


def padded_rows(rows: Sequence[Sequence[int]]) -> tuple[Tensor, Tensor]:
    """Rows of tokens as `[batch, sequence]`, padded at their end, and their lengths `[batch]`."""
    made = [torch.tensor(list(ids) or [0], dtype=torch.int64) for ids in rows]
    lengths = torch.tensor([len(row) for row in made])
    return nn.utils.rnn.pad_sequence(made, batch_first=True), lengths


def counted_tokens(inputs: Mapping[str, Tensor]) -> Tensor | None:
    """Which tokens `[batch, sequence]` count of those that logits are of; None where all do."""
    return inputs.get(FORETELLING, inputs.get(_MASK))


def next_token_losses(logits: Tensor, inputs: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
    """For each row the sum of its tokens' cross-entropies, in nats, and how many they are.

    The tokens are those of the answers, where there are some.
    """
    if ANSWER in inputs:
        wanted, real = inputs[ANSWER][:, 1:], inputs[FORETELLING][:, :-1]
    else:
        wanted, real = inputs[_IDS][:, 1:], inputs[_MASK][:, 1:]
    real = real.to(torch.float32)
    said = logits[:, :-1].float()
    each = functional.cross_entropy(said.flatten(0, 1), wanted.flatten(), reduction="none")
    return (each.view_as(real) * real).sum(1), real.sum(1)
