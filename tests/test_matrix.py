"""Every architecture and task from PyTorch to a compiled bundle, on both engines.

A row is one export and two compilations; what the two bundles answer through `edgekit.load` is
compared with the PyTorch module itself, on text that no part of edgekit has seen.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

import edgekit
from edgekit.core.manifest import Component
from edgekit.core.tolerance import tolerance_for
from edgekit.runtime.golden import distance, row_length
from edgekit.runtime.session import Array
from edgekit.sources.loaded import LoadedSource
from edgekit.sources.opening import open_source
from tests.models import (
    ARCHITECTURES,
    MAX_LENGTH,
    MODULE_INPUTS,
    MODULES,
    TEXT_TASKS,
    add_sentence_transformer,
    save_model,
)

pytestmark = pytest.mark.slow

POOLED = "feature-extraction, pooled"
ENGINES: Mapping[str, str] = {"cpu-x86": "onnxruntime", "openvino-cpu": "openvino"}

TEXTS = (
    "Rain fell on the harbour all night, and by the morning the two boats were gone.",
    "Ja.",
    "За ночь выпал снег; 海边的小镇很安静, pero el café abre a las 7:30. 🚢",
)
QUESTIONS = ("What was gone by the morning?", "Nein?", "Когда открывается el café?")

# Pairs of (model, task) that do not work, each with the reason why that was decided. None do not.
SKIPS: Mapping[tuple[str, str], str] = {}

ROWS = [
    *((model, task) for model in ARCHITECTURES for task in (*TEXT_TASKS, POOLED)),
    *((model, "custom") for model in MODULES),
]


@dataclass(frozen=True, eq=False)
class Batch:
    """Inputs, and which rows and positions are not padding, `[batch, sequence]` (None: all)."""

    name: str
    inputs: Mapping[str, Tensor]
    mask: Tensor | None = None


@pytest.mark.parametrize(
    ("model", "task"),
    [
        pytest.param(*row, id="-".join(row), marks=[pytest.mark.skip(SKIPS[row])])
        if row in SKIPS
        else pytest.param(*row, id="-".join(row))
        for row in ROWS
    ],
)
def test_both_engines_answer_like_pytorch(model: str, task: str, tmp_path: Path) -> None:
    """The compiled bundles pass verify and repeat PyTorch's raw outputs within fp32's tolerance."""
    if task == "custom":
        spec, inputs = f"tests.models:{model}", MODULE_INPUTS[model]
    else:
        spec, inputs = str(_folder(model, task, tmp_path / "source")), ()
    source = open_source(spec, inputs=inputs)
    batches = _tensors(source) if source.tokenizer is None else _texts(source)
    with torch.inference_mode():
        references = [source.module(**batch.inputs) for batch in batches]
    edgekit.export(spec, tmp_path / "exported", inputs=inputs)
    for target, engine in ENGINES.items():
        bundle = tmp_path / target
        # One thread: two workers share the machine, and there are no spinning threads to choose.
        edgekit.compile(tmp_path / "exported", bundle, target=target, threads=1)
        verified = edgekit.verify(bundle)
        assert verified.passed
        assert {row.output for row in verified.golden} == set(references[0])
        with edgekit.load(bundle, threads=1) as opened:
            assert (opened.engine, opened.facts()["precision"]) == (engine, "fp32")
            for batch, reference in zip(batches, references, strict=True):
                answers = opened.run(_feeds(opened.manifest.components["model"], batch))
                assert set(answers) == set(reference)
                for name, wanted in reference.items():
                    _compare(f"{engine}, {batch.name}, {name}", wanted, answers[name], batch.mask)


def _folder(model: str, task: str, folder: Path) -> Path:
    if task != POOLED:
        return save_model(model, task, folder)
    return add_sentence_transformer(save_model(model, "feature-extraction", folder))


def _texts(source: LoadedSource) -> list[Batch]:
    """A batch with padding and a single text, encoded by the model's own transformers tokenizer."""
    tokenizer = source.tokenizer
    assert tokenizer is not None
    texts = list(TEXTS)
    if source.task == "fill-mask":
        texts = [f"{text} {tokenizer.mask_token}" for text in texts]
    batches = []
    for name, rows in (("padded batch", slice(0, 3)), ("batch 1", slice(2, 3))):
        pairs = [list(QUESTIONS)[rows]] if source.task == "question-answering" else []
        encoded = tokenizer(
            *pairs,
            texts[rows],
            padding=True,
            truncation=True,
            max_length=MAX_LENGTH,
            return_tensors="pt",
        )
        inputs = {name: encoded[name] for name in source.sample_inputs}
        batches.append(Batch(name, inputs, encoded["attention_mask"].bool()))
    padded, single = batches
    assert padded.mask is not None
    assert not padded.mask.all()
    assert single.inputs["input_ids"].shape[0] == 1
    return batches


def _tensors(source: LoadedSource) -> list[Batch]:
    """Random inputs of two sizes, neither of which the export has seen."""
    generator = torch.Generator().manual_seed(7)
    batches = []
    for name, sizes in (
        ("batch 6", {"batch": 6, "sequence": 13}),
        ("batch 1", {"batch": 1, "sequence": 29}),
    ):
        inputs = {}
        for key, sample in source.sample_inputs.items():
            shape = list(sample.shape)
            for axis, symbol in source.dynamic_axes[key].items():
                shape[axis] = sizes[symbol]
            inputs[key] = torch.randn(shape, generator=generator)
        batches.append(Batch(name, inputs))
    return batches


def _feeds(component: Component, batch: Batch) -> dict[str, Array]:
    """The tensors that the graph takes: one without type embeddings has lost that input."""
    lost = set(batch.inputs) - {spec.name for spec in component.inputs}
    assert lost <= {"token_type_ids"}
    return {spec.name: batch.inputs[spec.name].numpy() for spec in component.inputs}


def _compare(what: str, wanted: Tensor, got: Array, mask: Tensor | None) -> None:
    expected = wanted.numpy()
    assert got.shape == expected.shape, what
    if mask is not None and expected.shape[:2] == tuple(mask.shape):
        # What stands at padded positions is read by nobody, and engines differ there.
        expected, got = expected[mask.numpy()], got[mask.numpy()]
    max_abs, cosine = distance(got, expected)
    largest = float(np.abs(expected).max())
    assert largest > 0, what
    rule = tolerance_for("fp32")
    row = row_length(expected)
    assert rule.accepts(max_abs=max_abs, max_reference=largest, cosine=cosine, row=row), (
        f"{what}: off by {max_abs:.3g} of {largest:.3g}"
    )
