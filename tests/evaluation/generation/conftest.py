"""The decoder of a tiny bundle as a checkpoint in PyTorch: the same graph, asked likewise."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from transformers import PreTrainedTokenizerFast

from edgekit.runtime import load
from edgekit.runtime.caches import cache_pairs, empty_cache
from edgekit.sources.data import Samples
from edgekit.sources.data_columns import Label
from edgekit.sources.data_roles import Inputs, hash_inputs
from edgekit.sources.loaded import LoadedSource
from tests.evaluation.conftest import source_of
from tests.runtime.generation.conftest import byte_tokenizer, write_generator


class Twin(nn.Module):
    """transformers' call of a causal model, answered by the graph; `heat` divides its scores."""

    def __init__(self, path: Path, heat: float = 1.0) -> None:
        super().__init__()
        self.opened = load(path, threads=1)
        self.heat = heat
        #: The tokens of every call.
        self.calls: list[tuple[int, ...]] = []

    def forward(
        self,
        input_ids: Tensor,
        attention_mask: Tensor,
        position_ids: Tensor,
        past_key_values: Mapping[str, np.ndarray] | None = None,
        use_cache: bool = True,
    ) -> SimpleNamespace:
        """Logits of all tokens, and the cache with them in it."""
        self.calls.append(tuple(input_ids.shape))
        component = self.opened.manifest.components["model"]
        pairs = cache_pairs(component.inputs, component.outputs)
        past = past_key_values or {
            spec.name: empty_cache(spec, len(input_ids)) for spec, _ in pairs
        }
        made = self.opened.run(
            {
                "input_ids": input_ids.contiguous().numpy(),
                "attention_mask": attention_mask.contiguous().numpy(),
                "position_ids": position_ids.contiguous().numpy(),
                **past,
            }
        )
        kept = {spec.name: made[present] for spec, present in pairs}
        logits = torch.from_numpy(np.array(made["logits"])) / self.heat
        return SimpleNamespace(logits=logits, past_key_values=kept)


class Whole(nn.Module):
    """What a loaded source wraps around transformers' model."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model


def twin_source(path: Path, *, heat: float = 1.0, **changes: Any) -> LoadedSource:
    """The twin of a bundle, as if a checkpoint had been opened."""
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=byte_tokenizer())
    given: dict[str, Any] = {"tokenizer": tokenizer, "feeder": object(), **changes}
    return source_of("text-generation", Whole(Twin(path, heat)), {}, **given)


def samples_of(
    task: str, column: str, texts: Sequence[str], labels: Sequence[Label] | None = None
) -> Samples:
    """Texts as they come from a file."""
    rows: list[Inputs] = [{column: text} for text in texts]
    hashes = tuple(hash_inputs(row) for row in rows)
    return Samples(task, tuple(rows), None if labels is None else tuple(labels), hashes)


@pytest.fixture(scope="session")
def decoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The bundle of the tiny decoder."""
    return write_generator(tmp_path_factory.mktemp("decoder") / "tiny").path
