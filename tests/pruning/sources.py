"""Sources and samples for the tests of pruning."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np

from edgekit.pruning.importance import Scores
from edgekit.sources.data import Samples, read_samples
from edgekit.sources.loaded import LoadedSource
from edgekit.sources.opening import open_source
from edgekit.sources.pruned.cutting import whole_plan
from edgekit.sources.pruned.plan import Plan
from tests.models import CORPUS, save_model


def text_source(
    folder: Path, family: str = "bert", task: str = "text-classification"
) -> LoadedSource:
    """A tiny random model of texts, three layers deep."""
    return open_source(str(save_model(family, task, folder / "model", layers=3)))


def texts(folder: Path, *, labelled: bool = True, rows: int = 48) -> Samples:
    """A file of short texts, with labels if wanted."""
    lines = ["text,label" if labelled else "text"]
    for place in range(rows):
        words = CORPUS[place % len(CORPUS)].replace(",", " ").replace('"', " ").split()
        text = " ".join(words[: 3 + place % 9]) + f" {place}"
        label = f",{('negative', 'neutral', 'positive')[place % 3]}" if labelled else ""
        lines.append(f"{text}{label}")
    path = folder / "texts.csv"
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return read_samples(
        str(path), "text-classification", labels=("negative", "neutral", "positive")
    )


def best(source: LoadedSource, found: Scores, *, heads: int, ffn: int) -> Plan:
    """A plan that keeps the heads and neurons of the highest scores in every layer."""
    whole = whole_plan(source)
    rows = []
    for row, head, neuron in zip(whole.layers, found.heads, found.ffn, strict=True):
        assert head is not None
        assert neuron is not None
        rows.append(replace(row, kept_heads=_top(head, heads), kept_ffn=_top(neuron, ffn)))
    return replace(whole, layers=tuple(rows), structures=("heads", "ffn"))


def _top(values: np.ndarray, count: int) -> tuple[int, ...]:
    return tuple(sorted(np.argsort(-values)[:count].tolist()))
