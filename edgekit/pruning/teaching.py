"""What the original says and hands on, which a pruned model is taught."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from edgekit.core import cpu

if TYPE_CHECKING:
    from edgekit.sources.loaded import LoadedSource

# The original's answers are kept for another round; beyond so many bytes they are computed again.
_KEPT_BYTES = 512 << 20


class Teacher:
    """The original's answers and what its layers hand on, kept as far as the memory for it goes."""

    def __init__(self, original: LoadedSource, layers: Sequence[nn.Module]) -> None:
        self._original = original
        self._layers = layers
        self._room = _KEPT_BYTES
        self._known: dict[int, tuple[dict[str, Tensor], list[Tensor]]] = {}

    def half(self) -> AbstractContextManager[object]:
        """Products in bfloat16, where the processor multiplies it and the model is a transformer.

        Weights, the sums within a product and losses stay in float32 (mixed precision, Micikevicius
        et al. 2018, arXiv 1710.03740). A module of one's own may mix types where that would fail.
        """
        native = not cpu.BFLOAT16_PRODUCTS.isdisjoint(cpu.cpu_features() or ())
        wanted = native and self._original.kind == "huggingface"
        return torch.autocast("cpu", torch.bfloat16, enabled=wanted)

    def answer(self, inputs: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], list[Tensor]]:
        """Outputs by name, and the hidden states of the watched layers."""
        with torch.no_grad(), self.half(), watched(self._layers) as seen:
            outputs = wide(self._original.module(**inputs))
        return outputs, list(seen)

    def known_answer(
        self, place: int, inputs: Mapping[str, Tensor]
    ) -> tuple[dict[str, Tensor], list[Tensor]]:
        """The same for a batch that comes again."""
        known = self._known.get(place)
        if known is not None:
            return known
        answer = self.answer(inputs)
        size = sum(one.nbytes for one in (*answer[0].values(), *answer[1]))
        if size <= self._room:
            self._room -= size
            self._known[place] = answer
        return answer


def wide(outputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Outputs whose numbers are all in float32."""
    return {name: one.float() if one.is_floating_point() else one for name, one in outputs.items()}


@contextmanager
def watched(layers: Sequence[nn.Module]) -> Iterator[list[Tensor]]:
    """What some modules hand on during one call, in their order."""
    seen: list[Tensor] = []

    def note(module: nn.Module, args: object, output: object) -> None:
        first = output[0] if isinstance(output, tuple) else output
        if isinstance(first, Tensor):
            seen.append(first.float())

    hooks = [layer.register_forward_hook(note) for layer in layers]
    try:
        yield seen
    finally:
        for hook in hooks:
            hook.remove()
