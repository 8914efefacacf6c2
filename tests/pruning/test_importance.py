"""Importance tells what a cut costs."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from edgekit.core.errors import ConfigError
from edgekit.pruning.feeding import Batch, batches
from edgekit.pruning.importance import METHODS, Scores, block_influence, scores
from edgekit.pruning.structures import layers_of
from edgekit.sources.loaded import LoadedSource
from tests.pruning.sources import text_source, texts


def zeroed(source: LoadedSource) -> tuple[int, int, int, int]:
    """Make a head and a neuron do nothing at all: their layers and places."""
    rows = layers_of(source).layers
    with torch.no_grad():
        rows[1].out.weight[:, rows[1].group : 2 * rows[1].group] = 0
        rows[2].down.weight[:, 5] = 0
    return 1, 1, 2, 5


@pytest.mark.parametrize("labelled", [True, False], ids=["labels", "no labels"])
@pytest.mark.parametrize("method", METHODS)
def test_what_does_nothing_is_worth_nothing(method: str, labelled: bool, tmp_path: Path) -> None:
    """Every method gives 0 to a head and a neuron without effect, and to no other."""
    source = text_source(tmp_path)
    layer, head, other, neuron = zeroed(source)
    given = batches(source, texts(tmp_path, labelled=labelled), 8)
    assert all((batch.labels is not None) is labelled for batch in given)
    found = scores(source, given, ("heads", "ffn", "layers"), method)
    heads, ffn = found.heads[layer], found.ffn[other]
    assert heads is not None
    assert ffn is not None
    assert heads.argmin() == head
    assert ffn.argmin() == neuron
    assert heads[head] == pytest.approx(0, abs=1e-12)
    assert sorted(heads)[1] > 0
    assert found.method == method
    assert found.layers is not None
    assert len(found.layers) == 3
    told = any("no labels were used" in note for note in found.notes)
    assert told is (method in ("fisher", "taylor") and not labelled)


def test_fisher_is_the_gradient_of_every_sample(tmp_path: Path) -> None:
    """In batches or one by one."""
    source = text_source(tmp_path)
    given = batches(source, texts(tmp_path, rows=8), 4)
    single = [
        Batch(
            {name: one[row : row + 1] for name, one in batch.inputs.items()},
            batch.labels[row : row + 1],
        )
        for batch in given
        for row in range(len(batch))
        if batch.labels is not None
    ]
    together = scores(source, given, ("heads",), "fisher").heads
    apart = scores(source, single, ("heads",), "fisher").heads
    for one, other in zip(together, apart, strict=True):
        assert one is not None
        assert other is not None
        np.testing.assert_allclose(one, other, rtol=1e-3)


@pytest.mark.parametrize(
    "task", ["feature-extraction", "token-classification", "question-answering", "fill-mask"]
)
def test_every_task_has_a_loss_without_labels(task: str, tmp_path: Path) -> None:
    """With a gradient that is not zero."""
    source = text_source(tmp_path, task=task)
    found = scores(source, [Batch(dict(source.sample_inputs))], ("heads", "ffn"), "fisher")
    for one in (*found.heads, *found.ffn):
        assert one is not None
        assert np.isfinite(one).all()
        assert one.max() > 0


def test_nothing_of_the_model_changes(tmp_path: Path) -> None:
    """No hooks stay, no gradients are asked for."""
    source = text_source(tmp_path)
    scores(source, batches(source, texts(tmp_path, rows=8), 4), ("heads", "ffn", "layers"))
    assert not any(one.requires_grad for one in source.module.parameters())
    assert not any(
        part._forward_hooks or part._forward_pre_hooks for part in source.module.modules()
    )


def test_without_data_it_says_so(tmp_path: Path) -> None:
    """The activations of the source's own samples decide."""
    source = text_source(tmp_path)
    found = scores(source, None, ("heads", "ffn"))
    assert found.method == "activations"
    assert found.layers is None
    assert "Without data" in found.notes[0]
    assert isinstance(scores(source, None, ("heads",), "magnitude"), Scores)
    with pytest.raises(ConfigError, match="needs data, got none"):
        scores(source, None, ("heads",), "fisher")
    with pytest.raises(ConfigError, match="no importance 'guess'"):
        scores(source, None, ("heads",), "guess")


def test_a_layer_that_changes_nothing_has_no_influence(tmp_path: Path) -> None:
    """It gives back what it got, so nothing is lost with it."""
    source = text_source(tmp_path)
    layer = layers_of(source).layers[1].module
    layer.register_forward_hook(lambda module, args, output: args[0])
    found = block_influence(source, [Batch(dict(source.sample_inputs))])
    assert found[1] == pytest.approx(0, abs=1e-6)
    assert min(found[0], found[2]) > 0.01


def test_multi_label_and_numbers(tmp_path: Path) -> None:
    """Their losses are those of their tasks."""
    source = text_source(tmp_path)
    inputs = dict(source.sample_inputs)
    rows = len(next(iter(inputs.values())))
    several = replace(source, problem_type="multi_label_classification")
    found = scores(several, [Batch(inputs, torch.ones(rows, 3))], ("heads",), "fisher")
    assert found.heads[0] is not None
    assert found.heads[0].max() > 0
