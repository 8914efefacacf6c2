"""Least squares brings a cut model closer to the whole one."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from edgekit.core.errors import PruneError
from edgekit.pruning.feeding import Batch, batches
from edgekit.pruning.importance import scores
from edgekit.pruning.reconstruction import repair
from edgekit.pruning.structures import cut, layers_of
from edgekit.sources.loaded import LoadedSource
from edgekit.sources.pruned.cutting import whole_plan
from tests.pruning.sources import best, text_source, texts

FAMILIES = ("bert", "distilbert", "roberta", "deberta-v2", "mpnet", "modernbert")


def gap(first: LoadedSource, second: LoadedSource, given: list[Batch]) -> float:
    """The mean squared distance of what leaves the last layers, over all tokens but padding.

    Not of the logits: what a random model says of a text hangs on one token, by chance.
    """
    distances = [
        (_leaves(first, one) - _leaves(second, one))
        .square()
        .mean(-1)[one.inputs["attention_mask"] > 0]
        for one in given
    ]
    return float(torch.cat(distances).mean())


def _leaves(source: LoadedSource, one: Batch) -> torch.Tensor:
    """The hidden states `[rows, tokens, width]` behind the last layer."""
    seen: list[torch.Tensor] = []

    def keep(module: torch.nn.Module, args: object, output: object) -> None:
        found = output[0] if isinstance(output, tuple) else output
        assert isinstance(found, torch.Tensor)
        seen.append(found)

    handle = layers_of(source).layers[-1].module.register_forward_hook(keep)
    try:
        with torch.inference_mode():
            source.module(**one.inputs)
    finally:
        handle.remove()
    return seen[0]


@pytest.mark.slow
@pytest.mark.parametrize("family", FAMILIES)
def test_it_brings_the_sums_closer(family: str, tmp_path: Path) -> None:
    """On tokens that it has not seen, for every way in which layers are built."""
    source = text_source(tmp_path, family)
    given = batches(source, texts(tmp_path, rows=160), 16)
    held, given = given[1::5], [one for place, one in enumerate(given) if place % 5 != 1]
    plan = best(source, scores(source, given, ("heads", "ffn"), "fisher"), heads=3, ffn=48)
    pruned = cut(source, plan)
    before = gap(source, pruned, held)
    told: list[str] = []
    report = repair(source, pruned, plan, given, progress=told.append)
    assert gap(source, pruned, held) < 0.9 * before
    assert report.after < 0.95 * report.before
    assert report.errors[0][0].endswith(".out")
    assert len(report.errors) == 6
    assert told[-1] == "Repaired layer 3 of 3"
    assert not any(part._forward_hooks for part in pruned.module.modules())


def test_what_is_whole_stays_as_it_is(tmp_path: Path) -> None:
    """Layers before the first cut are not solved for."""
    source = text_source(tmp_path)
    whole = whole_plan(source)
    last = replace(whole.layers[2], kept_ffn=tuple(range(40)))
    plan = replace(whole, layers=(*whole.layers[:2], last))
    pruned = cut(source, plan)
    before = layers_of(pruned).layers[0].down.weight.clone()
    report = repair(source, pruned, plan, batches(source, texts(tmp_path), 8))
    assert [name for name, _, _ in report.errors] == ["encoder.layer.2.down"]
    assert torch.equal(layers_of(pruned).layers[0].down.weight, before)


@pytest.mark.parametrize("family", ["bert", "modernbert"])
def test_a_layer_takes_over_for_the_next(family: str, tmp_path: Path) -> None:
    """Where one was taken out, the one before it aims at what that gave."""
    source = text_source(tmp_path, family)
    plan = replace(whole_plan(source), kept_layers=(0, 2))
    given = batches(source, texts(tmp_path, rows=160), 16)
    held, given = given[1::5], [one for place, one in enumerate(given) if place % 5 != 1]
    pruned = cut(source, plan)
    before = gap(source, pruned, held)
    repair(source, pruned, plan, given)
    assert gap(source, pruned, held) < before


def test_what_the_first_layers_gave_is_missed(tmp_path: Path) -> None:
    """Of layers that went before all others the rest takes over what it can."""
    source = text_source(tmp_path)
    plan = replace(whole_plan(source), kept_layers=(1, 2))
    given = batches(source, texts(tmp_path, rows=160), 16)
    held, given = given[1::5], [one for place, one in enumerate(given) if place % 5 != 1]
    pruned = cut(source, plan)
    before = gap(source, pruned, held)
    report = repair(source, pruned, plan, given)
    assert len(report.errors) == 4
    assert report.after < report.before
    assert gap(source, pruned, held) < before


def test_one_batch_is_too_little(tmp_path: Path) -> None:
    """Nothing would be left to judge by."""
    source = text_source(tmp_path)
    with pytest.raises(PruneError, match="needs 2 batches"):
        repair(source, source, whole_plan(source), [Batch(dict(source.sample_inputs))])
