"""Bundles put together node by node, and PyTorch modules that compute the same."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pytest
import torch
from onnx import numpy_helper
from torch import Tensor, nn
from transformers import PreTrainedTokenizerFast

from edgekit.core.bundle import Bundle
from edgekit.sources.loaded import LoadedSource
from tests.runtime.conftest import (
    LABELS,
    MAX_LENGTH,
    POSTS,
    TAGS,
    TOKENIZER,
    linear_graph,
    processor,
    text_graph,
    write_bundle,
)

TASKS: Mapping[str, str] = {
    "embedding": "feature-extraction",
    "hidden-states": "feature-extraction",
    "classification": "text-classification",
}


class Twin(nn.Module):
    """The graph of `text_graph` in PyTorch, with the graph's own weights."""

    def __init__(self, kind: str, shift: float = 0.0) -> None:
        super().__init__()
        self.kind = kind
        weights = {one.name: numpy_helper.to_array(one) for one in text_graph(kind).weights}
        for name, array in weights.items():
            if array.dtype == np.float32:
                self.register_parameter(name, nn.Parameter(torch.tensor(array) + shift))

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> dict[str, Tensor]:
        """The outputs by name."""
        tokens = self.table[input_ids]
        mask = attention_mask[..., None].float()
        mean = (tokens * mask).sum(1, keepdim=True) / mask.sum(1, keepdim=True)
        states = tokens + mean
        if self.kind == "embedding":
            return {"sentence_embedding": mean[:, 0]}
        if self.kind == "hidden-states":
            return {"last_hidden_state": states}
        if self.kind == "classification":
            return {"logits": states[:, 0] @ self.head}
        if self.kind == "question-answering":
            return {
                name: (states @ getattr(self, name + "_head"))[..., 0]
                for name in ("start_logits", "end_logits")
            }
        return {"logits": states @ self.head}


class Linear(nn.Module):
    """y = 2a + b, as `linear_graph`."""

    def forward(self, a: Tensor, b: Tensor) -> dict[str, Tensor]:
        """The one output."""
        return {"y": 2 * a + b}


def source_of(
    task: str, module: nn.Module, samples: Mapping[str, Tensor], **changes: object
) -> LoadedSource:
    """A module as if it had been opened."""
    fields: dict[str, object] = {
        "kind": "factory", "id": "twin", "revision": None, "sha256": "0" * 64,
        "architecture": "Twin", "parameters": 0, "dtype": "float32", "license": None,
        "task": task, "module": module.eval(), "sample_inputs": samples, "dynamic_axes": {},
        "output_axes": {},
    }  # fmt: skip
    return LoadedSource(**{**fields, **changes})  # type: ignore[arg-type]


def text_source(kind: str, *, shift: float = 0.0, **changes: object) -> LoadedSource:
    """The PyTorch side of a text bundle; `shift` moves its weights away from the bundle's."""
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=TOKENIZER, unk_token="[UNK]", pad_token="[PAD]", cls_token="[CLS]",
        sep_token="[SEP]", mask_token="[MASK]", model_max_length=MAX_LENGTH,
        model_input_names=["input_ids", "attention_mask"],
    )  # fmt: skip
    ids = torch.ones(2, 5, dtype=torch.int64)
    return source_of(
        TASKS.get(kind, kind),
        Twin(kind, shift),
        {"input_ids": ids, "attention_mask": ids},
        **{"tokenizer": tokenizer, "max_length": MAX_LENGTH, **changes},
    )


def linear_source() -> LoadedSource:
    """The PyTorch side of the linear bundle."""
    return source_of("custom", Linear(), {"a": torch.ones(2, 3), "b": torch.ones(2, 3)})


def text_bundle(folder: Path, kind: str, **graph: object) -> Bundle:
    """The bundle of a kind of post-processing, in a folder of its name."""
    made = text_graph(kind, **graph)  # type: ignore[arg-type]
    classes = {"classification": LABELS, "token-classification": TAGS}
    return write_bundle(
        folder / kind,
        made,
        task=TASKS.get(kind, kind),
        processor=processor(POSTS[kind]),
        labels=classes.get(kind),
    )


@pytest.fixture
def bundle_of(tmp_path: Path) -> Callable[..., Bundle]:
    """Makes the bundle of a kind of post-processing, or "linear"."""

    def make(kind: str, **graph: object) -> Bundle:
        if kind == "linear":
            return write_bundle(tmp_path / kind, linear_graph(), task="custom")
        return text_bundle(tmp_path, kind, **graph)

    return make
