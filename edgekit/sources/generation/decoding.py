"""A decoder with its cache as tensors: one graph that reads a prompt and goes on token by token."""

from __future__ import annotations

import contextlib
import inspect
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from transformers.cache_utils import DynamicCache

from edgekit.core.errors import SourceError
from edgekit.runtime.caches import KEPT
from edgekit.sources.generation.attending import packed_attention
from edgekit.sources.generation.feeding import (
    Sizes,
    Tensors,
    computed_length,
    mask_of,
    positions_of,
    random_ids,
    stretched,
)
from edgekit.sources.generation.masks import Layers

if TYPE_CHECKING:
    from transformers import PreTrainedModel

PAST = "past_key_values"
PRESENT = "present"
_KINDS = ("key", "value")
# Their frequencies depend on how long the text is, which a graph would freeze.
_CHANGING_ROTARY = frozenset({"dynamic", "longrope"})
_LONG = 64


class CausalDecoder(nn.Module):
    """A causal language model whose cache goes in as `past_key_values.*` and out as `present.*`.

    In PyTorch it is called as transformers' `generate` calls it, with the mask of tokens; inside
    `traceable` it makes its masks itself.
    """

    def __init__(self, model: PreTrainedModel) -> None:
        super().__init__()
        self.model = model
        self.layers = int(model.config.num_hidden_layers)
        self._kinds = Layers.of(model.config)
        self._own_masks = False

    @contextlib.contextmanager
    def traceable(self) -> Iterator[None]:
        """The form that can be traced: attention and masks of this package."""
        model: Any = self.model
        self._own_masks = True
        try:
            with packed_attention(model):
                yield
        finally:
            self._own_masks = False

    def forward(
        self,
        input_ids: Tensor,
        attention_mask: Tensor,
        position_ids: Tensor,
        logits_to_keep: Tensor,
        **past: Tensor,
    ) -> dict[str, Tensor]:
        """Logits of the wanted tokens, and the whole cache with all of these tokens in it."""
        cache = DynamicCache(
            [tuple(past[name] for name in names_of(PAST, layer)) for layer in range(self.layers)]
        )
        mask: object = attention_mask
        if self._own_masks:
            dtype = past[f"{PAST}.0.key"].dtype
            mask = self._kinds.masks(attention_mask, input_ids.shape[1], dtype)
        found = self.model(
            input_ids=input_ids,
            attention_mask=mask,
            position_ids=position_ids,
            past_key_values=cache,
            logits_to_keep=logits_to_keep,
            use_cache=True,
        )
        return {"logits": found.logits, **cached(PRESENT, cache)}


class DecoderFeeder:
    """Batches for a `CausalDecoder`, their past computed by the model itself."""

    def __init__(self, decoder: CausalDecoder, context: int | None) -> None:
        self._decoder = decoder
        model: Any = decoder.model
        self._vocabulary = int(model.get_input_embeddings().num_embeddings)
        self._empty = _empty_cache(model)
        most = context or 10**6
        self.traced = Sizes(batch=2, sequence=4, past=5, kept=3)
        self.golden = (
            Sizes(batch=2, sequence=3, past=2),
            Sizes(batch=2, sequence=1, past=3),
            Sizes(batch=1, sequence=1, past=2),
        )
        wanted = {
            "prompt, padded rows": Sizes(batch=3, sequence=7),
            "prompt, one row": Sizes(batch=1, sequence=_LONG, padded=False, kept=1),
            "next token": Sizes(batch=1, sequence=1, past=9, padded=False),
            "next token, padded rows": Sizes(batch=4, sequence=1, past=11),
            "several tokens": Sizes(batch=2, sequence=5, past=6, kept=2),
        }
        window = decoder._kinds.window
        if window is not None and window + 8 < most:
            wanted["beyond the window"] = Sizes(batch=2, sequence=3, past=window + 5)
        self.compared: Mapping[str, Sizes] = {
            name: sizes for name, sizes in wanted.items() if sizes.past + sizes.sequence <= most
        }

    def __call__(self, sizes: Sizes, *, seed: int) -> Tensors:
        """See `Feeder`."""
        total = sizes.past + sizes.sequence
        mask = mask_of(sizes.batch, total, padded=sizes.padded, left=True)
        made = {
            "input_ids": random_ids(sizes.batch, sizes.sequence, self._vocabulary, seed=seed),
            "attention_mask": mask,
            "position_ids": positions_of(mask, sizes.sequence),
        }
        kept = torch.arange(sizes.sequence - (sizes.kept or sizes.sequence), sizes.sequence)
        return made | self._past(sizes, mask, seed=seed) | {KEPT: kept}

    def _past(self, sizes: Sizes, mask: Tensor, *, seed: int) -> Tensors:
        length = computed_length(sizes.past)
        empty = {
            name: tensor.expand(sizes.batch, -1, -1, -1) for name, tensor in self._empty.items()
        }
        if not length:
            return empty
        own = mask[:, :length]
        with torch.inference_mode():
            found = self._decoder(
                input_ids=random_ids(sizes.batch, length, self._vocabulary, seed=seed + 1),
                attention_mask=own,
                position_ids=positions_of(own, length),
                logits_to_keep=torch.tensor([length - 1]),
                **empty,
            )
        return {
            name: stretched(found[name.replace(PAST, PRESENT)], sizes.past).clone()
            for name in self._empty
        }


def names_of(prefix: str, layer: int, part: str = "") -> tuple[str, ...]:
    """The names of a layer's keys and values."""
    middle = f"{part}." if part else ""
    return tuple(f"{prefix}.{layer}.{middle}{kind}" for kind in _KINDS)


def cached(prefix: str, cache: Any, part: str = "") -> dict[str, Tensor]:
    """The tensors of a cache under their names."""
    found: dict[str, Tensor] = {}
    for layer, held in enumerate(cache.layers):
        found |= dict(zip(names_of(prefix, layer, part), (held.keys, held.values), strict=True))
    return found


def _empty_cache(model: Any) -> Tensors:
    """A cache of one row without tokens, in the sizes that the layers have."""
    cache = DynamicCache()
    ids = torch.zeros(1, 1, dtype=torch.int64)
    with torch.inference_mode():
        model(input_ids=ids, past_key_values=cache, use_cache=True)
    return {name: tensor[:, :, :0].clone() for name, tensor in cached(PAST, cache).items()}


def check_decoder(model: PreTrainedModel) -> None:
    """Raise SourceError for a decoder that cannot be asked with positions and a cache."""
    config = model.config
    accepted = set(inspect.signature(model.forward).parameters)
    lost = [name for name in ("position_ids", PAST, KEPT) if name not in accepted]
    if lost or not hasattr(config, "num_hidden_layers"):
        raise SourceError(
            f"{type(model).__name__} takes no {lost[0] if lost else 'cache of its layers'}, and"
            " edgekit exports decoders that do.",
            hint="Use a checkpoint of another family: README's table names those that are tested.",
        )
    rotary = getattr(config, "rope_parameters", None) or {}
    kinds = {str(rotary.get("rope_type"))} | {
        str(part.get("rope_type")) for part in rotary.values() if isinstance(part, Mapping)
    }
    changing = sorted(kinds & _CHANGING_ROTARY)
    if changing:
        raise SourceError(
            f"The positions of {type(model).__name__} are of the kind {changing[0]!r}, which"
            " computes a short text otherwise than a long one: one graph cannot do both.",
            hint="Use a checkpoint with default, linear, yarn or llama3 positions.",
        )
