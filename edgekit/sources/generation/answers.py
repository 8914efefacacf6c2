"""A model with an encoder and a decoder that reads whole answers at once, beside what they answer.

So pruning rates, mends and judges its encoder, of texts or of sounds. The answers are those of
DATA, or what the model itself answers; its cache has no part in that.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from edgekit.core.errors import SourceError
from edgekit.sources.generation.specific import first_of, ids_of, prefix_of
from edgekit.sources.generation.whisper import FEATURES
from edgekit.sources.generation.whole import (
    ANSWER,
    FORETELLING,
    GENERATION,
    LOGITS,
    SAMPLE_LENGTH,
    encode_texts,
    padded_rows,
    whole_texts,
)
from edgekit.sources.loaded import LoadedSource
from edgekit.sources.quiet import quiet
from edgekit.sources.samples import SAMPLE_TEXTS
from edgekit.sources.sounds import compose, extract

# A window of sound is long: half a minute.
_SAMPLE_SOUNDS = 2


class WholeAnswers(nn.Module):
    """What is read and answers in, for each token of the answers the logits of the next one out."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(
        self, decoder_input_ids: Tensor, answer_mask: Tensor, **read: Tensor
    ) -> dict[str, Tensor]:
        """``logits [batch, answer, vocabulary]`` of answers that end with padding.

        ``answer_mask`` is for whoever makes a loss of them: a token sees none of those behind it.
        """
        found = self.model(decoder_input_ids=decoder_input_ids, use_cache=False, **read)
        return {LOGITS: found.logits}


def whole_source(source: LoadedSource) -> LoadedSource:
    """A source that generates, as one that reads whole texts, or whole answers."""
    return whole_texts(source) if source.task == GENERATION else whole_answers(source)


def whole_answers(source: LoadedSource) -> LoadedSource:
    """A source of an encoder and a decoder, as one that reads whole answers.

    Those of its samples are some texts. Raises SourceError as `with_answers` does.
    """
    longest = min(source.max_length or SAMPLE_LENGTH, SAMPLE_LENGTH)
    if source.feature_extractor is not None:
        rate = int(cast("Any", source.feature_extractor).sampling_rate)
        read = read_sounds(source, [compose(rate, seed, rate) for seed in range(_SAMPLE_SOUNDS)])
    else:
        read = read_texts(source, SAMPLE_TEXTS, most=longest)
    rows = len(next(iter(read.values())))
    made = with_answers(source, read, SAMPLE_TEXTS[:rows], most=longest - 1)
    axes = {name: {0: "batch", 1: "sequence"} for name in made}
    axes |= {name: {0: "batch", 1: "answer"} for name in (ANSWER, FORETELLING)}
    return replace(
        source,
        module=WholeAnswers(cast("nn.Module", source.module.model)).eval(),
        sample_inputs=made,
        dynamic_axes=axes | ({FEATURES: {0: "batch"}} if FEATURES in made else {}),
        output_axes={LOGITS: ("batch", "answer")},
        feeder=None,
        parts={},
    )


def read_texts(source: LoadedSource, texts: Sequence[str], *, most: int) -> dict[str, Tensor]:
    """What an encoder reads of texts, each with what stands before it, cut to `most` tokens."""
    prefix = prefix_of(source) or ""
    return encode_texts(source.tokenizer, [prefix + text for text in texts], max_length=most)


def read_sounds(source: LoadedSource, waves: Sequence[NDArray[np.float32]]) -> dict[str, Tensor]:
    """What an encoder hears of waves at its rate, of each the first window."""
    assert source.feature_extractor is not None
    return {FEATURES: torch.from_numpy(extract(source.feature_extractor, waves)[FEATURES])}


def with_answers(
    source: LoadedSource,
    read: Mapping[str, Tensor],
    wanted: Sequence[str] | None,
    *,
    most: int,
) -> dict[str, Tensor]:
    """What is read, and what is to be answered, cut to `most` tokens.

    None as `wanted` stands for what the model itself answers, each token the likeliest.

    Raises SourceError for a checkpoint that does not say how its answers begin.
    """
    said: Any = cast("Any", source.module.model).generation_config
    start = ids_of(first_of(said.decoder_start_token_id, said.bos_token_id))
    if not start:
        raise SourceError(
            f"{source.id} does not say which token its answers begin with.",
            hint="Set decoder_start_token_id in its generation_config.json.",
        )
    if wanted is None:
        answers = _own(source, read, len(start), most)
    else:
        tokenizer: Any = source.tokenizer
        told = tokenizer(text_target=list(wanted), truncation=True, max_length=most)["input_ids"]
        # Whisper's tokenizer writes down itself what an answer begins with.
        begun = len(start)
        answers = [row[begun:] if tuple(row[:begun]) == start else row for row in told]
    # An empty answer is one token, as an empty text is.
    rows, lengths = padded_rows([[*start, *(answer or [0])] for answer in answers])
    places = torch.arange(rows.shape[1])[None, :]
    # What a checkpoint begins all answers with says nothing; what ends one says nothing of a next.
    foretelling = (places >= len(start) - 1) & (places < lengths[:, None] - 1)
    return {**read, ANSWER: rows, FORETELLING: foretelling.to(torch.int64)}


def _own(
    source: LoadedSource, read: Mapping[str, Tensor], started: int, most: int
) -> list[list[int]]:
    """The tokens that the model answers with, up to the one that ends an answer."""
    model: Any = source.module.model
    tokenizer: Any = source.tokenizer
    said: Any = model.generation_config
    ends = ids_of(first_of(said.eos_token_id, getattr(tokenizer, "eos_token_id", None)))
    pad = first_of(said.pad_token_id, getattr(tokenizer, "pad_token_id", None), *ends)
    # What was asked of sounds (a language, or which) is part of an answer of all its tokens.
    more = {"return_timestamps": False} if FEATURES in read else {"pad_token_id": pad}
    with torch.inference_mode(), quiet():
        found = model.generate(
            **read, max_new_tokens=most, do_sample=False, num_beams=1,
            return_dict_in_generate=True, **more,
        ).sequences  # fmt: skip
    answers: list[list[int]] = []
    for row in found[:, started:].tolist():
        length = next((place for place, one in enumerate(row) if one in ends), len(row) - 1)
        answers.append(row[: length + 1])
    return answers
