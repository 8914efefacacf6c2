"""Attention in the form that every engine reads and that copies no keys or values."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from transformers import AttentionInterface

from edgekit.core.errors import ExportError

if TYPE_CHECKING:
    from transformers import PreTrainedModel

_NAME = "edgekit_packed"
# What some families hand to their attention and nothing here computes.
_UNKNOWN = ("softcap", "s_aux")


@contextlib.contextmanager
def packed_attention(model: PreTrainedModel) -> Iterator[None]:
    """Trace `model` with the attention of this module instead of its own.

    Raises ExportError for a model whose attention cannot be replaced.
    """
    AttentionInterface.register(_NAME, _attention)
    before = model.config._attn_implementation
    try:
        model.set_attn_implementation(_NAME)
    except (ValueError, ImportError) as error:
        raise ExportError(
            f"{type(model).__name__} computes its attention itself, and edgekit exports models"
            " that generate only with transformers' exchangeable attention.",
            hint="Use a checkpoint of another family: README's table names those that are tested.",
        ) from error
    try:
        yield
    finally:
        model.set_attn_implementation(before)


def _attention(
    module: torch.nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float | None = None,
    position_bias: Tensor | None = None,
    **options: Any,
) -> tuple[Tensor, None]:
    """Scaled dot-product attention `[batch, queries, heads, size]` under an additive mask.

    Where several heads share their keys (grouped queries), they become rows of one head: engines
    disagree on grouped queries, and repeating the keys copies the whole cache at every token.
    The mask arrives with as many rows (see `masks.packed`).
    """
    for name in _UNKNOWN:
        if options.get(name) is not None:
            raise ExportError(
                f"The attention of this model has {name}, which edgekit does not export.",
                hint="Use a checkpoint of another family: README's table names those that are"
                " tested.",
            )
    if position_bias is not None:
        attention_mask = position_bias if attention_mask is None else attention_mask + position_bias
    batch, heads, rows, size = query.shape
    groups = heads // key.shape[1]
    if groups > 1:
        query = query.reshape(batch, key.shape[1], groups * rows, size)
    # The function itself: transformers' exporter replaces the one of torch.nn.functional by one
    # that looks for rows without any key, of which these masks have none.
    found: Tensor = torch._C._nn.scaled_dot_product_attention(
        query, key, value, attn_mask=attention_mask, scale=scaling
    )
    if groups > 1:
        found = found.reshape(batch, heads, rows, value.shape[-1])
    return found.transpose(1, 2).contiguous(), None
