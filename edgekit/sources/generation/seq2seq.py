"""Models that read a text and write another: an encoder, and a decoder with its cache.

What the decoder's cross-attention makes of the encoder's states is the same at every step. It is
made once, by the encoder component, which holds those projections; the decoder holds the rest.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from transformers.cache_utils import DynamicCache, EncoderDecoderCache
from transformers.modeling_outputs import BaseModelOutput

from edgekit.core.errors import SourceError
from edgekit.sources.generation.attending import packed_attention
from edgekit.sources.generation.crossing import CROSS, OWN, caches, layer_names, own_past
from edgekit.sources.generation.decoding import PAST, PRESENT, cached, names_of
from edgekit.sources.generation.feeding import Sizes, Tensors, mask_of, random_ids
from edgekit.sources.generation.masks import causal, keys_only
from edgekit.sources.loaded import LoadedSource
from edgekit.sources.towers import join

if TYPE_CHECKING:
    from transformers import PreTrainedModel

_MASK = "encoder_attention_mask"
# M2M100 and NLLB: the first token of an answer is the language that the caller wants.
_MANY_LANGUAGES = frozenset({"m2m_100"})


class _Side(nn.Module):
    """One of both components: the model, its layers, and whether it makes its masks itself."""

    def __init__(self, model: PreTrainedModel, layers: int) -> None:
        super().__init__()
        self.model = model
        self.layers = layers
        self.own_masks = False

    @contextlib.contextmanager
    def traceable(self) -> Iterator[None]:
        """The form that can be traced: attention and masks of this package."""
        model: Any = self.model
        self.own_masks = True
        try:
            with packed_attention(model):
                yield
        finally:
            self.own_masks = False


class TextEncoder(_Side):
    """A text in; keys and values of every cross-attention out."""

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> dict[str, Tensor]:
        """``present.N.encoder.key`` and ``.value``, ``[batch, heads, encoder_sequence, size]``."""
        model: Any = self.model
        mask = attention_mask
        if self.own_masks:
            mask = keys_only(attention_mask, input_ids.shape[1], model.dtype)
        read = model.get_encoder()(input_ids=input_ids, attention_mask=mask)
        cache = EncoderDecoderCache(DynamicCache(), DynamicCache())
        # One step of the decoder, whatever it answers, fills the cache; a trace keeps only what
        # leads to it.
        model(
            encoder_outputs=BaseModelOutput(last_hidden_state=read.last_hidden_state),
            decoder_input_ids=torch.zeros_like(input_ids[:, :1]),
            past_key_values=cache,
            use_cache=True,
        )
        return cached(PRESENT, cache.cross_attention_cache, CROSS)


class TextDecoder(_Side):
    """The next tokens and what was kept of those before them in; logits and what is kept out."""

    def forward(
        self, input_ids: Tensor, encoder_attention_mask: Tensor, **past: Tensor
    ) -> dict[str, Tensor]:
        """``logits [batch, sequence, vocabulary]`` and ``present.N.decoder.key`` and ``.value``."""
        model: Any = self.model
        own, cross = caches(past, self.layers)
        batch, length = input_ids.shape
        total = past[names_of(PAST, 0, OWN)[0]].shape[2] + length
        masks: dict[str, Tensor | None] = {"attention_mask": encoder_attention_mask}
        if self.own_masks:
            masks = {
                "attention_mask": keys_only(encoder_attention_mask, length, model.dtype),
                "decoder_attention_mask": causal(batch, length, total, model.dtype),
            }
        # Only asked whether they are there: what would be made of them is in the cache.
        states = past[names_of(PAST, 0, CROSS)[0]].new_zeros(
            batch, encoder_attention_mask.shape[1], model.config.hidden_size
        )
        found = model(
            encoder_outputs=BaseModelOutput(last_hidden_state=states),
            decoder_input_ids=input_ids,
            past_key_values=EncoderDecoderCache(own, cross),
            use_cache=True,
            **masks,
        )
        return {"logits": found.logits, **cached(PRESENT, own, OWN)}


class EncoderFeeder:
    """Batches of texts that end with padding, for a `TextEncoder`."""

    traced = Sizes(batch=2, sequence=5)
    golden = (Sizes(batch=2, sequence=5), Sizes(batch=2, sequence=3), Sizes(batch=1, sequence=3))

    def __init__(self, encoder: TextEncoder, context: int | None) -> None:
        self._vocabulary = _rows(encoder.model)
        wanted = {
            "padded rows": Sizes(batch=4, sequence=11),
            "one row": Sizes(batch=1, sequence=7, padded=False),
            "one token": Sizes(batch=1, sequence=1, padded=False),
            "long": Sizes(batch=3, sequence=min(context or 150, 150)),
        }
        self.compared: Mapping[str, Sizes] = wanted

    def __call__(self, sizes: Sizes, *, seed: int) -> Tensors:
        """See `Feeder`."""
        return {
            "input_ids": random_ids(sizes.batch, sizes.sequence, self._vocabulary, seed=seed),
            "attention_mask": mask_of(sizes.batch, sizes.sequence, padded=sizes.padded, left=False),
        }


class TextDecoderFeeder:
    """Batches for a `TextDecoder`; their past and what was read are computed by the model."""

    traced = Sizes(batch=2, sequence=3, past=5, encoder=7)
    golden = (
        Sizes(batch=2, sequence=3, past=2, encoder=5),
        Sizes(batch=2, sequence=1, past=3, encoder=4),
        Sizes(batch=1, sequence=1, past=2, encoder=3),
    )

    def __init__(
        self, decoder: TextDecoder, encoder: TextEncoder, read: EncoderFeeder, context: int | None
    ) -> None:
        self._decoder = decoder
        self._encoder = encoder
        self._read = read
        self._vocabulary = _rows(decoder.model)
        most = context or 10**6
        wanted = {
            "first token": Sizes(batch=1, sequence=1, encoder=9, padded=False),
            "first tokens, padded rows": Sizes(batch=3, sequence=4, encoder=11),
            "next token": Sizes(batch=1, sequence=1, past=9, encoder=5, padded=False),
            "next token, padded rows": Sizes(batch=4, sequence=1, past=11, encoder=8),
            "several tokens": Sizes(batch=2, sequence=4, past=6, encoder=13),
            "a long answer": Sizes(batch=2, sequence=2, past=140, encoder=6),
        }
        self.compared: Mapping[str, Sizes] = {
            name: sizes for name, sizes in wanted.items() if sizes.past + sizes.sequence <= most
        }

    def __call__(self, sizes: Sizes, *, seed: int) -> Tensors:
        """See `Feeder`."""
        text = self._read(Sizes(sizes.batch, sizes.encoder, padded=sizes.padded), seed=seed)
        mask = text["attention_mask"]
        with torch.inference_mode():
            read = self._encoder(**text)
        cross = {name.replace(PRESENT, PAST): held.clone() for name, held in read.items()}
        ids = random_ids(sizes.batch, sizes.sequence, self._vocabulary, seed=seed + 2)
        past = own_past(
            self._decoder, self._decoder.layers, self._vocabulary, sizes, {_MASK: mask, **cross},
            seed=seed,
        )  # fmt: skip
        return {"input_ids": ids, _MASK: mask, **past, **cross}


def seq2seq_source(whole: LoadedSource, model: PreTrainedModel) -> LoadedSource:
    """A checkpoint of an encoder and a decoder of texts as the sources of its two components.

    Raises SourceError for one whose answer depends on what no option says.
    """
    if model.config.model_type in _MANY_LANGUAGES:
        raise SourceError(
            f"{whole.id} ({model.config.model_type}) translates into many languages, and no option"
            " says into which one yet.",
            hint="Give a model for one pair of languages, as Marian's are.",
        )
    layers = _decoder_layers(model)
    encoder, decoder = TextEncoder(model, layers).eval(), TextDecoder(model, layers).eval()
    read = EncoderFeeder(encoder, whole.max_length)
    written = TextDecoderFeeder(decoder, encoder, read, whole.max_length)
    own, cross = layer_names(PAST, layers), layer_names(PAST, layers, CROSS)
    rows = {0: "batch", 1: "encoder_sequence"}
    parts = {
        "encoder": replace(
            whole,
            module=encoder,
            sample_inputs=read(read.traced, seed=1),
            dynamic_axes={"input_ids": rows, "attention_mask": rows},
            output_axes=dict.fromkeys(
                layer_names(PRESENT, layers, CROSS), ("batch", "", "encoder_sequence")
            ),
            feeder=read,
        ),
        "decoder": replace(
            whole,
            module=decoder,
            sample_inputs=written(written.traced, seed=1),
            dynamic_axes={
                "input_ids": {0: "batch", 1: "sequence"},
                _MASK: rows,
                **{name: {0: "batch", 2: "past"} for name in own},
                **{name: {0: "batch", 2: "encoder_sequence"} for name in cross},
            },
            output_axes={
                "logits": ("batch", "sequence"),
                **dict.fromkeys(layer_names(PRESENT, layers), ("batch", "", "total")),
            },
            feeder=written,
        ),
    }
    return join(whole, parts)


def _decoder_layers(model: Any) -> int:
    config = model.config
    for name in ("num_decoder_layers", "decoder_layers", "num_hidden_layers"):
        value = getattr(config, name, None)
        if isinstance(value, int):
            return value
    raise AssertionError(type(model).__name__)


def _rows(model: Any) -> int:
    return int(model.get_input_embeddings().num_embeddings)
