"""compilers/golden.py: golden values for shapes that were fixed."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from edgekit.compilers.checks import with_sizes
from edgekit.compilers.golden import compare, fit_golden
from edgekit.core.errors import CompileError
from edgekit.core.manifest import Component, TensorSpec
from edgekit.core.tolerance import TOLERANCES
from edgekit.runtime.golden import Bar
from tests.compilers.conftest import PROCESSOR

TEXT = Component(
    "onnx",
    ("model.onnx",),
    tuple(
        TensorSpec(name, "int64", ("batch", "sequence")) for name in ("input_ids", "attention_mask")
    ),
    (
        TensorSpec("pooled", "float32", ("batch", 3)),
        TensorSpec("states", "float32", ("batch", "sequence", 3)),
    ),
)
INPUTS = {"input_ids": np.arange(10).reshape(2, 5) + 20, "attention_mask": np.ones((2, 5), int)}
REFERENCE = {
    "pooled": np.arange(6, dtype=np.float32).reshape(2, 3),
    "states": np.zeros((2, 5, 3), dtype=np.float32),
}


def fit(part: Component, inputs, reference, **sizes: int):
    """`fit_golden`'s inputs and reference for a component whose dimensions take these sizes."""
    fitted = fit_all(part, inputs, reference, **sizes)
    return fitted.inputs, fitted.reference


def fit_all(part: Component, inputs, reference, **sizes: int):
    """`fit_golden` for a component whose dimensions take the given sizes."""
    fixed = replace(
        part, inputs=with_sizes(part.inputs, sizes), outputs=with_sizes(part.outputs, sizes)
    )
    return fit_golden(part, fixed, inputs, reference, processor=PROCESSOR)


def test_open_shapes_change_nothing() -> None:
    """Without static sizes the golden values stay as they are."""
    inputs, reference = fit(TEXT, INPUTS, REFERENCE)
    assert all(np.array_equal(inputs[name], INPUTS[name]) for name in INPUTS)
    assert set(reference) == {"pooled", "states"}


def test_rows_are_cut_or_repeated() -> None:
    """The batch takes the first rows, or begins again; answers follow."""
    inputs, reference = fit(TEXT, INPUTS, REFERENCE, batch=3)
    assert inputs["input_ids"][:, 0].tolist() == [20, 25, 20]
    assert reference["pooled"][:, 0].tolist() == [0, 3, 0]
    inputs, reference = fit(TEXT, INPUTS, REFERENCE, batch=1)
    assert inputs["input_ids"].shape == (1, 5)
    assert reference["states"].shape == (1, 5, 3)


def test_short_texts_are_padded_as_the_processor_pads() -> None:
    """Ids are filled with the padding token, the mask with zeros; masked answers stay."""
    inputs, reference = fit(TEXT, INPUTS, REFERENCE, sequence=7)
    assert inputs["input_ids"][0].tolist() == [20, 21, 22, 23, 24, 7, 7]
    assert inputs["attention_mask"][0].tolist() == [1, 1, 1, 1, 1, 0, 0]
    assert set(reference) == {"pooled"}


def test_answers_per_token_stay_comparable_beside_the_padding() -> None:
    """Padding does not change what PyTorch said of the text's own tokens; a cut does."""
    fitted = fit_all(TEXT, INPUTS, REFERENCE, sequence=7, batch=1)
    assert {name: array.shape for name, array in fitted.comparable.items()} == {
        "pooled": (1, 3),
        "states": (1, 5, 3),
    }
    assert fit_all(TEXT, INPUTS, REFERENCE, sequence=4).comparable == {}


def test_an_axis_made_of_a_padded_one_is_not_comparable() -> None:
    """Where twice the tokens stand, the padding is not at the end only."""
    part = replace(TEXT, outputs=(TensorSpec("twice", "float32", ("batch", "2*sequence")),))
    fixed = replace(
        part,
        inputs=with_sizes(part.inputs, {"sequence": 7}),
        outputs=(TensorSpec("twice", "float32", ("batch", 14)),),
    )
    given = {"twice": np.zeros((2, 10), dtype=np.float32)}
    fitted = fit_golden(part, fixed, INPUTS, given, processor=PROCESSOR)
    assert fitted.reference == fitted.comparable == {}


def test_comparison_reads_the_original_positions() -> None:
    """What stands at the padding does not count; what stands before it does."""
    wanted = np.ones((1, 5, 3), dtype=np.float32)
    answer = np.full((1, 7, 3), 9, dtype=np.float32)
    answer[:, :5] = 1
    bar = Bar("fp32", TOLERANCES["fp32"])
    compare("states", answer, wanted, bar, "PyTorch")
    answer[0, 4] = 2
    with pytest.raises(CompileError, match="differently from PyTorch: states is off by 1"):
        compare("states", answer, wanted, bar, "PyTorch")
    with pytest.raises(CompileError, match="shape"):
        compare("states", answer[:, :4], wanted, bar, "PyTorch")


def test_cut_texts_have_no_reference() -> None:
    """What PyTorch said of the whole text says nothing of its beginning."""
    inputs, reference = fit(TEXT, INPUTS, REFERENCE, sequence=4)
    assert inputs["input_ids"].shape == (2, 4)
    assert reference == {}


def test_padding_without_a_mask_has_no_reference() -> None:
    """A model that cannot know its padding answers something else."""
    part = Component(
        "onnx",
        ("model.onnx",),
        (TensorSpec("x", "float32", ("batch", "sequence", 2)),),
        (TensorSpec("last", "float32", ("batch", 2)),),
    )
    given = {"x": np.ones((1, 3, 2), dtype=np.float32)}
    answer = {"last": np.ones((1, 2), dtype=np.float32)}
    inputs, reference = fit(part, given, answer, sequence=5)
    assert inputs["x"].shape == (1, 5, 2)
    assert inputs["x"][0, 3:].sum() == 0
    assert reference == {}
    assert fit(part, given, answer, sequence=3)[1].keys() == {"last"}


def test_sample_of_an_answer_is_for_its_own_sizes() -> None:
    """Of other sizes its numbers stand at other places."""
    given = {**REFERENCE, "states": np.zeros(15, dtype=np.float32)}
    assert set(fit_all(TEXT, INPUTS, given).comparable) == {"pooled", "states"}
    assert set(fit_all(TEXT, INPUTS, given, batch=1).comparable) == {"pooled"}
