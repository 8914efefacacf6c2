"""Additive attention masks in which no row is without a key it may look at."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from edgekit.core.errors import SourceError

if TYPE_CHECKING:
    from transformers import PreTrainedConfig

_FULL = "full_attention"
_SLIDING = "sliding_attention"


@dataclass(frozen=True)
class Layers:
    """What the layers of a decoder look at: ``kinds`` of attention, and the window of some.

    ``groups`` heads of a query share one of the keys.
    """

    kinds: tuple[str, ...]
    window: int | None
    groups: int

    @classmethod
    def of(cls, config: PreTrainedConfig) -> Layers:
        """Those of a config. Raises SourceError for a kind of layer that has no cache of keys."""
        window = getattr(config, "sliding_window", None)
        listed = getattr(config, "layer_types", None)
        kinds = tuple(dict.fromkeys(listed or [_SLIDING if window else _FULL]))
        unknown = [kind for kind in kinds if kind not in (_FULL, _SLIDING)]
        if unknown:
            raise SourceError(
                f"A {config.model_type} model has layers of {unknown[0]!r}, which edgekit does not"
                " export.",
                hint="Use a checkpoint of another family: README's table names those that are"
                " tested.",
            )
        heads = int(config.num_attention_heads)
        shared = getattr(config, "num_key_value_heads", None)
        return cls(kinds, window, heads // int(shared or heads))

    def masks(self, attention_mask: Tensor, length: int, dtype: torch.dtype) -> object:
        """What transformers takes as ready masks: one, or one for each kind of layer."""
        made = {kind: self._mask(kind, attention_mask, length, dtype) for kind in self.kinds}
        return made if len(made) > 1 else made[self.kinds[0]]

    def _mask(self, kind: str, attention_mask: Tensor, length: int, dtype: torch.dtype) -> Tensor:
        total = attention_mask.shape[1]
        queries = torch.arange(length)[:, None] + (total - length)
        keys = torch.arange(total)[None, :]
        seen = keys <= queries
        if kind == _SLIDING and self.window is not None:
            seen = seen & (keys > queries - self.window)
        # A row of padding sees nothing but padding; without itself it would see nothing at all,
        # and its softmax be NaN, which the cache carries to the rows that matter.
        allowed = (seen & attention_mask.bool()[:, None, None, :]) | (keys == queries)
        return packed(additive(allowed, dtype), self.groups)


def causal(batch: int, length: int, total: int, dtype: torch.dtype) -> Tensor:
    """The mask of rows that begin together, `[batch, 1, length, total]`."""
    queries = torch.arange(length)[:, None] + (total - length)
    allowed = torch.arange(total)[None, :] <= queries
    return additive(allowed, dtype)[None, None].expand(batch, 1, length, total)


def keys_only(attention_mask: Tensor, length: int, dtype: torch.dtype) -> Tensor:
    """The mask under which all of `length` queries see every real key."""
    batch, total = attention_mask.shape
    allowed = attention_mask.bool()[:, None, None, :]
    return additive(allowed, dtype).expand(batch, 1, length, total)


def additive(allowed: Tensor, dtype: torch.dtype) -> Tensor:
    """Zeros where a key may be seen, and the least number elsewhere."""
    least = torch.finfo(dtype).min
    return torch.where(allowed, 0.0, least).to(dtype)


def packed(mask: Tensor, groups: int) -> Tensor:
    """The mask once for each of the heads that share their keys (see `attending`)."""
    return mask.repeat(1, 1, groups, 1) if groups > 1 else mask
