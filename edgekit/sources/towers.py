"""Checkpoints of two towers, as CLIP: pictures and texts become vectors that can be compared."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from edgekit.sources.loaded import LoadedSource

if TYPE_CHECKING:
    from transformers import PreTrainedModel

IMAGE_EMBEDS = "image_embeds"
TEXT_EMBEDS = "text_embeds"
# Model types whose towers are read and padded as CLIP's are.
TWO_TOWERS = frozenset({"clip"})


class ImageTower(nn.Module):
    """The pictures' side of a model, projected and of length one as the model's own output is."""

    def __init__(self, model: PreTrainedModel) -> None:
        super().__init__()
        self.model = model

    def forward(self, pixel_values: Tensor) -> dict[str, Tensor]:
        """The vectors ``[batch, projection]``."""
        model: Any = self.model
        found = model.get_image_features(pixel_values=pixel_values)
        return {IMAGE_EMBEDS: _unit(found.pooler_output)}


class TextTower(nn.Module):
    """The texts' side of a model, projected and of length one as the model's own output is."""

    def __init__(self, model: PreTrainedModel) -> None:
        super().__init__()
        self.model = model

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> dict[str, Tensor]:
        """The vectors ``[batch, projection]``."""
        model: Any = self.model
        found = model.get_text_features(input_ids=input_ids, attention_mask=attention_mask)
        return {TEXT_EMBEDS: _unit(found.pooler_output)}


class Joined(nn.Module):
    """Several components with inputs and outputs named as their bundle names them."""

    def __init__(self, model: nn.Module, parts: Mapping[str, nn.Module]) -> None:
        super().__init__()
        self.model = model
        self.parts = nn.ModuleDict(dict(parts))

    def forward(self, **inputs: Tensor) -> dict[str, Tensor]:
        """``image.image_embeds``, ``text.text_embeds`` and the like, of parts that have inputs."""
        found: dict[str, Tensor] = {}
        for name, part in self.parts.items():
            own = {
                key.removeprefix(f"{name}."): value
                for key, value in inputs.items()
                if key.startswith(f"{name}.")
            }
            if own:
                found |= {f"{name}.{key}": value for key, value in part(**own).items()}
        return found


def join(whole: LoadedSource, parts: Mapping[str, LoadedSource]) -> LoadedSource:
    """The source of all parts, with their tensors under prefixed names."""
    model = getattr(whole.module, "model", whole.module)
    return replace(
        whole,
        module=Joined(model, {name: part.module for name, part in parts.items()}).eval(),
        sample_inputs={
            f"{name}.{key}": value
            for name, part in parts.items()
            for key, value in part.sample_inputs.items()
        },
        dynamic_axes={
            f"{name}.{key}": {axis: f"{name}.{symbol}" for axis, symbol in axes.items()}
            for name, part in parts.items()
            for key, axes in part.dynamic_axes.items()
        },
        output_axes={
            f"{name}.{key}": axes
            for name, part in parts.items()
            for key, axes in part.output_axes.items()
        },
        image_processor=None,
        parts=parts,
    )


def _unit(vectors: Tensor) -> Tensor:
    """The vectors with a length of one."""
    squares: Tensor = torch.sum(torch.square(vectors), dim=-1, keepdim=True)
    return vectors / torch.sqrt(squares)
