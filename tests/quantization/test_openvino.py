"""Making a component ready for OpenVINO: its groups, what is left out, what is refused."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from onnx import helper, numpy_helper

from edgekit.core.errors import ConfigError, QuantizeError
from edgekit.core.manifest import Component, TensorSpec
from edgekit.quantization import find_quantizer
from edgekit.quantization.openvino import prepare
from edgekit.quantization.recipes import Recipe
from tests.compilers.conftest import attention_model, make_model, quantized_model
from tests.quantization.openvino_small import STATIC, Prepare, pictures, residual_model, sentences


def test_is_found() -> None:
    """The quantizer of OpenVINO is found by its engine's name."""
    assert find_quantizer("openvino").prepare is prepare


def test_inputs_of_an_attention_are_one_group(ready: Prepare) -> None:
    """Query, key and value share the rounding of their input, and so they are raised together."""
    groups = ready(attention_model()).groups
    assert [(group.kind, len(group.nodes)) for group in groups] == [
        ("embedding", 1),
        ("attention input", 3),
        ("attention output", 1),
    ]
    assert groups[1].parameters == 3 * 16 * 16


def test_excluded_operators_stay_float(ready: Prepare, tmp_path: Path) -> None:
    """A pattern takes operators out of the groups; they are told with the reason."""
    prepared = ready(residual_model(), pictures(), exclude=["fi*"])
    assert [group.name for group in prepared.groups] == ["second", "third"]
    written = prepared.write(STATIC, tmp_path / "out")
    assert [(item.node, item.reason) for item in written.kept_float] == [("first", "excluded")]
    assert written.quantized_ops == {"Convolution": 2}


def test_excluding_one_keeps_its_group(ready: Prepare) -> None:
    """What shares its input with an excluded operator is kept as well, or named by the group."""
    whole = ready(attention_model())
    group = next(one for one in whole.groups if one.kind == "attention input")
    for pattern in (group.name, group.nodes[1]):
        prepared = ready(attention_model(), exclude=[pattern])
        assert [one.node for one in prepared.kept] == list(group.nodes)
        assert group not in prepared.groups
    assert not prepared.supports(Recipe("bfloat16"))


def test_excluding_what_is_not_there(ready: Prepare) -> None:
    """A pattern without an operator is a slip of the keyboard."""
    with pytest.raises(ConfigError, match="'frist'"):
        ready(residual_model(), exclude=["frist"])


def test_quantized_twice(ready: Prepare) -> None:
    """A graph that holds 8-bit weights is refused."""
    with pytest.raises(QuantizeError, match="quantized operators already"):
        ready(quantized_model())


def test_nothing_to_quantize(ready: Prepare) -> None:
    """So is one without a weight."""
    nodes = [helper.make_node("Relu", ["x"], ["y"])]
    specs = [TensorSpec(name, "float32", ("batch", 4)) for name in "xy"]
    component = Component("onnx", ("model.onnx",), (specs[0],), (specs[1],))
    with pytest.raises(QuantizeError, match="no operator that can be quantized"):
        ready((make_model(nodes, [], component), component))


def test_nan_in_calibration(ready: Prepare) -> None:
    """A row that holds NaN is named, though the graph's activations would swallow it."""
    rows = pictures(3)
    rows[2]["x"][0, 0, 0, 0] = np.nan  # type: ignore[index]
    with pytest.raises(
        QuantizeError, match="Row 2 of the calibration data has NaN or infinity in x"
    ):
        ready(residual_model(), rows)


def test_nan_from_the_graph(ready: Prepare) -> None:
    """So is one for which the graph itself computes NaN."""
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["h"]),
        helper.make_node("Log", ["h"], ["y"]),
    ]
    specs = [TensorSpec(name, "float32", ("batch", 4)) for name in "xy"]
    component = Component("onnx", ("model.onnx",), (specs[0],), (specs[1],))
    weight = numpy_helper.from_array(np.eye(4, dtype=np.float32), "w")
    rows = [{"x": np.full((1, 4), value, np.float32)} for value in (1, -1)]
    with pytest.raises(QuantizeError, match="Row 1 of the calibration data has NaN or infinity"):
        ready((make_model(nodes, [weight], component), component), rows)


@pytest.mark.parametrize(
    ("recipe", "message"),
    [
        (Recipe("bfloat16", levels={"/embed/Gather": "float32"}), "a whole graph in bfloat16"),
        (Recipe("float16", levels={"/embed/Gather": "weight-int8"}), "raised to float32 only"),
        (replace(STATIC, weights="u8"), "chooses the signs"),
        (Recipe("weight-int8", calibrator="mse"), "no ranges"),
        (replace(STATIC, calibrator="entropy"), "no calibrator 'entropy'"),
        (replace(STATIC, levels={"nobody": "float32"}), "no group 'nobody'"),
        (Recipe("weight-int8", rounding="k-quant"), "k-quant"),
        (Recipe("int8-dynamic", smooth=0.5), "neither SmoothQuant"),
        (Recipe("int8-dynamic", levels={"/embed/Gather": "weight-int8"}), "or of none"),
    ],
)
def test_recipes_that_cannot_be(
    recipe: Recipe, message: str, ready: Prepare, tmp_path: Path
) -> None:
    """What OpenVINO or NNCF has not is refused before anything is written."""
    prepared = ready(attention_model(), sentences(2))
    with pytest.raises(QuantizeError, match=message):
        prepared.write(recipe, tmp_path / "out")
    assert not (tmp_path / "out").exists()
    assert message.startswith("no group") or not prepared.supports(recipe)


def test_switches_that_would_change_something(ready: Prepare) -> None:
    """Full bias correction is for convolutions; all that calibrates needs samples."""
    full = replace(STATIC, correction="full")
    assert not ready(attention_model(), sentences(2)).supports(full)
    assert ready(residual_model(), pictures(2)).supports(full)
    assert not ready(residual_model()).supports(STATIC)


def test_progress_is_told(ready: Prepare, tmp_path: Path) -> None:
    """Each long part says what it does: conversion, the samples, and NNCF's passes over them."""
    told: list[str] = []
    ready(attention_model(), sentences(2), progress=told.append).write(STATIC, tmp_path / "out")
    assert told[0] == "Converting model to OpenVINO's graph"
    assert "Ran the float graph on 1 of 2 samples" in told
    assert "Calibrating with NNCF: pass 1, sample 1 of 2" in told
