"""Whisper as a bundle's two components: an encoder of sounds, and a decoder with its cache.

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
from transformers.cache_utils import EncoderDecoderCache

from edgekit.sources.generation.crossing import CROSS, OWN, caches, layer_names, own_past
from edgekit.sources.generation.decoding import PAST, PRESENT, cached, names_of
from edgekit.sources.generation.feeding import Sizes, Tensors, random_ids
from edgekit.sources.loaded import LoadedSource
from edgekit.sources.sounds import compose, extract
from edgekit.sources.towers import join

if TYPE_CHECKING:
    from transformers import PreTrainedModel, SequenceFeatureExtractor

ARCHITECTURE = "WhisperForConditionalGeneration"
FEATURES = "input_features"


class SpeechEncoder(nn.Module):
    """Features of half a minute in; keys and values of every cross-attention out."""

    def __init__(self, model: PreTrainedModel) -> None:
        super().__init__()
        self.model = model
        self.layers = int(model.config.decoder_layers)

    @contextlib.contextmanager
    def traceable(self) -> Iterator[None]:
        """The form that can be traced: what it is."""
        yield

    def forward(self, input_features: Tensor) -> dict[str, Tensor]:
        """``present.N.encoder.key`` and ``.value``, each ``[batch, heads, frames, size]``."""
        core: Any = self.model.model
        states = core.encoder(input_features).last_hidden_state
        made: dict[str, Tensor] = {}
        for number, layer in enumerate(core.decoder.layers):
            attention = layer.encoder_attn
            key, value = names_of(PRESENT, number, CROSS)
            made[key] = _heads(attention.k_proj(states), attention)
            made[value] = _heads(attention.v_proj(states), attention)
        return made


class SpeechDecoder(nn.Module):
    """The next tokens and what was kept of those before them in; logits and what is kept out.

    In PyTorch it is called as transformers' `generate` calls it. Inside `traceable` attention is
    written out, so that one graph serves the first step and all others.
    """

    def __init__(self, model: PreTrainedModel) -> None:
        super().__init__()
        self.model = model
        self.layers = int(model.config.decoder_layers)
        self._written_out = False

    @contextlib.contextmanager
    def traceable(self) -> Iterator[None]:
        """The form that can be traced."""
        self._written_out = True
        try:
            yield
        finally:
            self._written_out = False

    def forward(self, input_ids: Tensor, **past: Tensor) -> dict[str, Tensor]:
        """``logits [batch, sequence, vocabulary]`` and ``present.N.decoder.key`` and ``.value``."""
        if self._written_out:
            return self._traced(input_ids, past)
        model: Any = self.model
        own, cross = caches(past, self.layers)
        # Only asked whether it is there: what would be made of it is in the cache.
        states = past[names_of(PAST, 0, CROSS)[0]].new_zeros(1, 1, model.config.d_model)
        found = model.model.decoder(
            input_ids=input_ids,
            encoder_hidden_states=states,
            past_key_values=EncoderDecoderCache(own, cross),
            use_cache=True,
        )
        logits = model.proj_out(found.last_hidden_state)
        return {"logits": logits, **cached(PRESENT, own, OWN)}

    def _traced(self, input_ids: Tensor, past: Mapping[str, Tensor]) -> dict[str, Tensor]:
        model: Any = self.model
        core = model.model.decoder
        held = past[names_of(PAST, 0, OWN)[0]].shape[2]
        steps = input_ids.shape[1]
        places = torch.arange(steps, device=input_ids.device) + held
        states = core.embed_tokens(input_ids) + core.embed_positions(input_ids, position_ids=places)
        # A token is hidden from those before it.
        hidden = torch.arange(held + steps, device=input_ids.device)[None, :] > places[:, None]
        mask = torch.zeros(hidden.shape, dtype=states.dtype).masked_fill(
            hidden, torch.finfo(states.dtype).min
        )[None, None]
        made: dict[str, Tensor] = {}
        for number, layer in enumerate(core.layers):
            own = layer.self_attn
            normed = layer.self_attn_layer_norm(states)
            keys, values = (
                torch.cat([past[name], _heads(project(normed), own)], dim=2)
                for name, project in zip(
                    names_of(PAST, number, OWN), (own.k_proj, own.v_proj), strict=True
                )
            )
            states = states + _attend(own, normed, keys, values, mask)
            made |= dict(zip(names_of(PRESENT, number, OWN), (keys, values), strict=True))
            normed = layer.encoder_attn_layer_norm(states)
            keys, values = (past[name] for name in names_of(PAST, number, CROSS))
            states = states + _attend(layer.encoder_attn, normed, keys, values, None)
            normed = layer.final_layer_norm(states)
            states = states + layer.fc2(layer.activation_fn(layer.fc1(normed)))
        return {"logits": model.proj_out(core.layer_norm(states)), **made}


class EncoderFeeder:
    """Batches of sounds for a `SpeechEncoder`, as transformers prepares them."""

    traced = Sizes(batch=2, sequence=1)
    compared: Mapping[str, Sizes] = {
        "one sound": Sizes(batch=1, sequence=1),
        "three sounds": Sizes(batch=3, sequence=1),
    }
    golden = (Sizes(batch=1, sequence=1),)

    def __init__(self, extractor: SequenceFeatureExtractor, dtype: torch.dtype) -> None:
        self._extractor = extractor
        self._dtype = dtype

    def __call__(self, sizes: Sizes, *, seed: int) -> Tensors:
        """See `Feeder`."""
        rate = int(self._extractor.sampling_rate)
        waves = [compose(rate * (row + 1), seed + row, rate) for row in range(sizes.batch)]
        made = extract(self._extractor, waves)[FEATURES]
        return {FEATURES: torch.from_numpy(made).to(self._dtype)}


class DecoderFeeder:
    """Batches for a `SpeechDecoder`, their past and what was heard computed by the model itself."""

    traced = Sizes(batch=2, sequence=3, past=5)
    # The keys and values of half a minute would fill several golden files.
    golden = (
        Sizes(batch=1, sequence=2, past=2, encoder=16),
        Sizes(batch=1, sequence=1, past=1, encoder=4),
    )

    def __init__(self, decoder: SpeechDecoder, encoder: SpeechEncoder, heard: EncoderFeeder):
        self._decoder = decoder
        self._encoder = encoder
        self._heard = heard
        most = int(decoder.model.config.max_target_positions)
        wanted = {
            "prompt, three rows": Sizes(batch=3, sequence=4),
            "prompt, one row": Sizes(batch=1, sequence=1),
            "next token": Sizes(batch=1, sequence=1, past=9),
            "next token, four rows": Sizes(batch=4, sequence=1, past=11),
            "several tokens": Sizes(batch=2, sequence=4, past=6, encoder=13),
            "the last token": Sizes(batch=1, sequence=1, past=most - 1),
        }
        self.compared: Mapping[str, Sizes] = {
            name: sizes for name, sizes in wanted.items() if sizes.past + sizes.sequence <= most
        }

    def __call__(self, sizes: Sizes, *, seed: int) -> Tensors:
        """See `Feeder`."""
        with torch.inference_mode():
            heard = self._encoder(**self._heard(Sizes(sizes.batch, 1), seed=seed))
        # Of fewer frames where some are asked for.
        cross = {
            name.replace(PRESENT, PAST): held[:, :, : sizes.encoder or None].clone()
            for name, held in heard.items()
        }
        vocabulary = int(self._decoder.model.config.vocab_size)
        ids = random_ids(sizes.batch, sizes.sequence, vocabulary, seed=seed)
        layers = self._decoder.layers
        past = own_past(self._decoder, layers, vocabulary, sizes, cross, seed=seed)
        return {"input_ids": ids, **past, **cross}


def speech_source(whole: LoadedSource, model: PreTrainedModel) -> LoadedSource:
    """A checkpoint of Whisper as the sources of its two components."""
    assert whole.feature_extractor is not None
    encoder, decoder = SpeechEncoder(model).eval(), SpeechDecoder(model).eval()
    heard = EncoderFeeder(whole.feature_extractor, model.dtype)
    own, cross = (layer_names(PAST, decoder.layers, part) for part in (OWN, CROSS))
    tokens = DecoderFeeder(decoder, encoder, heard)
    parts = {
        "encoder": replace(
            whole,
            module=encoder,
            tokenizer=None,
            sample_inputs=heard(heard.traced, seed=1),
            dynamic_axes={FEATURES: {0: "batch"}},
            output_axes={name.replace(PAST, PRESENT): ("batch",) for name in cross},
            feeder=heard,
        ),
        "decoder": replace(
            whole,
            module=decoder,
            tokenizer=None,
            sample_inputs=tokens(tokens.traced, seed=1),
            dynamic_axes={
                "input_ids": {0: "batch", 1: "sequence"},
                **{name: {0: "batch", 2: "past"} for name in own},
                **{name: {0: "batch", 2: "encoder_sequence"} for name in cross},
            },
            output_axes={
                "logits": ("batch", "sequence"),
                **{name.replace(PAST, PRESENT): ("batch", "", "total") for name in own},
            },
            feeder=tokens,
        ),
    }
    return join(whole, parts)


def _heads(states: Tensor, attention: Any) -> Tensor:
    batch, steps, _ = states.shape
    parts: Tensor = states.view(batch, steps, attention.num_heads, attention.head_dim)
    return parts.transpose(1, 2)


def _attend(
    attention: Any, states: Tensor, keys: Tensor, values: Tensor, mask: Tensor | None
) -> Tensor:
    # Whisper scales what asks before it is compared, not the scores.
    asked = _heads(attention.q_proj(states) * attention.scaling, attention)
    found = nn.functional.scaled_dot_product_attention(
        asked, keys, values, attn_mask=mask, scale=1.0
    )
    joined: Tensor = attention.out_proj(found.transpose(1, 2).reshape(states.shape))
    return joined
