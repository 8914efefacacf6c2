"""What decoders that listen to an encoder have in common: two caches, their names and contents."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor
from transformers.cache_utils import DynamicCache

from edgekit.sources.generation.decoding import PAST, PRESENT, names_of
from edgekit.sources.generation.feeding import (
    Sizes,
    Tensors,
    computed_length,
    random_ids,
    stretched,
)

#: The decoder's own tokens, and what the cross-attention makes of the encoder's states.
OWN, CROSS = "decoder", "encoder"


def layer_names(prefix: str, layers: int, part: str = OWN) -> list[str]:
    """The names of all layers' keys and values."""
    return [name for layer in range(layers) for name in names_of(prefix, layer, part)]


def caches(past: Mapping[str, Tensor], layers: int) -> tuple[DynamicCache, DynamicCache]:
    """The decoder's own cache, and the cross-attention's, of the inputs of a step."""
    own, cross = (
        DynamicCache(
            [tuple(past[name] for name in names_of(PAST, layer, part)) for layer in range(layers)]
        )
        for part in (OWN, CROSS)
    )
    return own, cross


def own_past(
    decoder: Callable[..., Mapping[str, Tensor]],
    layers: int,
    vocabulary: int,
    sizes: Sizes,
    given: Tensors,
    *,
    seed: int,
) -> Tensors:
    """A past of the wanted size, computed by the decoder from random tokens.

    ``given`` are the inputs that no step changes, the cross-attention's cache among them.
    """
    names = layer_names(PAST, layers)
    some = given[names_of(PAST, 0, CROSS)[0]]
    empty = some.new_zeros(sizes.batch, some.shape[1], 0, some.shape[3])
    if not sizes.past:
        return dict.fromkeys(names, empty)
    ids = random_ids(sizes.batch, computed_length(sizes.past), vocabulary, seed=seed + 1)
    with torch.inference_mode():
        found = decoder(input_ids=ids, **dict.fromkeys(names, empty), **given)
    return {
        name: stretched(found[name.replace(PAST, PRESENT)], sizes.past).clone() for name in names
    }
