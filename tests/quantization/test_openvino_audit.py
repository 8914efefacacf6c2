"""What OpenVINO's kernels make of a candidate: each operator with weights is told of once."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from onnx import helper, numpy_helper

from edgekit.core.bundle import Bundle
from edgekit.core.manifest import Component, TensorSpec
from edgekit.core.profiles import load_profile
from edgekit.quantization.openvino import prepare, recipes
from edgekit.quantization.openvino_audit import audit
from edgekit.quantization.recipes import Recipe
from tests.compilers.conftest import attention_model, make_model
from tests.quantization import networks
from tests.quantization.openvino_small import PROFILE, STATIC, Made, Prepare, residual_model


@pytest.mark.skipif("avx512_bf16" not in PROFILE.features, reason="no bfloat16 here to look at")
def test_bfloat16_is_audited(ready: Prepare, tmp_path: Path) -> None:
    """Here each matrix takes bfloat16; what does not is told."""
    written = ready(attention_model()).write(Recipe("bfloat16"), tmp_path / "out")
    told = sum(written.quantized_ops.values()) + len(written.kept_float)
    assert (written.quantized_ops["MatMul"], told, written.notes) == (4, 5, ())


def test_another_processor_is_told(bundle: Callable[[Made], Bundle], tmp_path: Path) -> None:
    """Kernels are looked at here: for a target that this machine is not, that is said."""
    profile = load_profile("cpu-arm64")
    ready = prepare(bundle(attention_model()), "model", profile, tmp_path / "work", [])
    written = ready.write(recipes(profile, "weight-only", None)[0], tmp_path / "out")
    assert any("could not be seen here" in note for note in written.notes)


def test_no_weight_is_passed_over(ready: Prepare, tmp_path: Path) -> None:
    """Every operator with constant weights is either counted or kept for a reason, never both."""
    prepared = ready(unusual_model(), [{"x": np.ones((2, 4), np.float32)}])
    reasons = {one.node: one.reason for one in prepared.kept}
    assert reasons == {
        "y": "its weights are a vector",
        "sum": "OpenVINO has no integer kernel for Einsum",
    }
    written = prepared.write(STATIC, tmp_path / "out")
    assert sum(written.quantized_ops.values()) + len(written.kept_float) == 3


@pytest.mark.parametrize("made", [lambda: networks.encoder(tied=True), networks.pictures])
@pytest.mark.parametrize(
    "recipe",
    [
        STATIC,
        Recipe("int8-dynamic", weights="u8"),
        Recipe("weight-int4", weights="u8", block=16),
        Recipe("float16"),
        Recipe("bfloat16"),
    ],
    ids=lambda recipe: recipe.scheme,
)
def test_every_operator_is_accounted_for(
    made: Callable[[], Made], recipe: Recipe, ready: Prepare, tmp_path: Path
) -> None:
    """Those counted and those kept are all there are, also with a table that a head shares."""
    samples = networks.images(3) if made is networks.pictures else networks.texts(3)
    prepared = ready(made(), samples)
    written = prepared.write(recipe, tmp_path / "out")
    told = sum(written.quantized_ops.values()) + len({one.node for one in written.kept_float})
    assert told == sum(len(group.nodes) for group in prepared.groups)
    assert all(one.reason for one in written.kept_float)


def unusual_model() -> Made:
    """A product of matrices, one with a vector, and an Einsum of weights."""
    node = helper.make_node
    nodes = [
        node("MatMul", ["x", "w"], ["a"], name="matrix"),
        node("Einsum", ["a", "w"], ["b"], name="sum", equation="bi,jk->bk"),
        node("MatMul", ["b", "v"], ["y"], name="y"),
    ]
    weights = [
        numpy_helper.from_array(np.eye(4, dtype=np.float32), "w"),
        numpy_helper.from_array(np.arange(4, dtype=np.float32), "v"),
    ]
    component = Component(
        "onnx",
        ("model.onnx",),
        (TensorSpec("x", "float32", ("batch", 4)),),
        (TensorSpec("y", "float32", ("batch",)),),
    )
    return make_model(nodes, weights, component), component


def test_the_audit_names_what_stayed_float(ready: Prepare) -> None:
    """Operators of a float graph that were said to be quantized are left over."""
    prepared = ready(residual_model())
    found = audit(
        prepared.xml,
        activations={"second/WithoutBiases", "gone"},
        weights={"third/WithoutBiases"},
    )
    assert found.computed == {}
    assert [item.node for item in found.leftovers] == ["second", "third", "gone"]
