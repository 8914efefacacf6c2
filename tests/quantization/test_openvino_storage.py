"""Fewer bits for OpenVINO's weights alone: 8, 4 and 16 of them, and what the plugin is told."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from onnx import numpy_helper

from edgekit.core.bundle import Bundle
from edgekit.core.errors import QuantizeError
from edgekit.core.profiles import load_profile
from edgekit.quantization.openvino import prepare, recipes
from edgekit.quantization.recipes import Recipe
from tests.compilers.conftest import attention_model
from tests.quantization.openvino_small import (
    PROFILE,
    Made,
    Prepare,
    distance,
    exact,
    hashes,
    outputs,
    pictures,
    residual_model,
    sentences,
)

AMX = load_profile("cpu-x86-amx")


def test_convolutions_are_not_rounded_at_each_call(ready: Prepare, tmp_path: Path) -> None:
    """A graph of convolutions alone has nothing that dynamic quantization would make faster."""
    with pytest.raises(QuantizeError, match="no matrix multiplication"):
        ready(residual_model()).write(recipes(PROFILE, "dynamic", 8)[0], tmp_path / "out")


def test_weights_only_leaves_activations_alone(ready: Prepare, tmp_path: Path) -> None:
    """The same file is exact with a group size of 0, and rounds activations with another."""
    rows = sentences()
    prepared = ready(attention_model())
    reference = exact(prepared, tmp_path, rows)
    only = prepared.write(recipes(PROFILE, "weight-only", 8)[0], tmp_path / "only")
    dynamic = prepared.write(recipes(PROFILE, "dynamic", 8)[0], tmp_path / "dynamic")
    assert hashes(tmp_path / "only") == hashes(tmp_path / "dynamic")
    assert only.options != dynamic.options
    assert distance(reference, outputs(tmp_path / "only", only, rows)) < 1e-3
    assert distance(reference, outputs(tmp_path / "dynamic", dynamic, rows)) < 1e-2


def test_four_bit_weights(ready: Prepare, tmp_path: Path) -> None:
    """4 bits are another precision, and a group of them may be raised to 8."""
    prepared = ready(attention_model())
    recipe = replace(recipes(PROFILE, "weight-only", 4)[0], block=16)
    written = prepared.write(recipe, tmp_path / "out")
    assert written.precision == "int4"
    assert 'element_type="u4"' in (tmp_path / "out" / "model.xml").read_text()
    name = prepared.groups[1].name
    raised = prepared.write(replace(recipe, levels={name: "weight-int8"}), tmp_path / "raised")
    assert raised.component.files == ("model.xml", "model.bin")
    assert hashes(tmp_path / "raised") != hashes(tmp_path / "out")


def test_half_precision_is_half_the_size(ready: Prepare, tmp_path: Path) -> None:
    """Weights are stored in 16 bits; what is computed stays float32."""
    prepared = ready(attention_model())
    written = prepared.write(Recipe("float16"), tmp_path / "out")
    half = (tmp_path / "out" / "model.bin").stat().st_size
    assert half < 0.6 * prepared.xml.with_suffix(".bin").stat().st_size
    assert (written.precision, written.options) == ("fp16", {"precision_hint": "f32"})
    assert written.quantized_ops == {"Gather": 1, "MatMul": 4}


def test_half_precision_has_a_range(ready: Prepare, tmp_path: Path) -> None:
    """A weight that would become infinite is refused by the name of its operator."""
    model, component = residual_model()
    large = numpy_helper.to_array(model.graph.initializer[0]) * 1e6
    model.graph.initializer[0].CopyFrom(numpy_helper.from_array(large, "first_w"))
    with pytest.raises(QuantizeError, match="weight of first is beyond the range of float16"):
        ready((model, component)).write(Recipe("float16"), tmp_path / "out")


@pytest.mark.parametrize(
    ("overrides", "hint"),
    [
        ([], "f32"),
        (['precisions=["bf16","int8","fp32"]'], "bf16"),
        (["options.openvino.precision_hint=bf16"], "bf16"),
        (["options.openvino.precision_hint=device"], None),
    ],
)
def test_the_rest_is_computed_as_compile_would(
    overrides: list[str],
    hint: str | None,
    bundle: Callable[[Made], Bundle],
    tmp_path: Path,
) -> None:
    """What stays float has the precision that the target's own bundles are compiled with."""
    profile = load_profile("cpu-x86-vnni", overrides=overrides)
    ready = prepare(bundle(attention_model()), "model", profile, tmp_path / "work", [])
    written = ready.write(recipes(profile, "dynamic", 8)[0], tmp_path / "out")
    assert written.options.get("precision_hint") == hint
    assert written.requires.cpu_features == ("avx512_vnni",)
    assert written.requires.arch == "x86_64"


def test_bfloat16_is_a_hint_and_half_the_size(
    bundle: Callable[[Made], Bundle], tmp_path: Path
) -> None:
    """The weights are stored as what the device makes of them: its answers are the same."""
    ready = prepare(bundle(residual_model()), "model", AMX, tmp_path / "work", [])
    written = ready.write(recipes(AMX, "bfloat16", None)[0], tmp_path / "out")
    assert (written.precision, written.options) == ("bf16", {"precision_hint": "bf16"})
    assert written.requires.cpu_features == ("avx512_bf16",)
    float_size = ready.xml.with_suffix(".bin").stat().st_size
    assert (tmp_path / "out" / "model.bin").stat().st_size < 0.6 * float_size
    part = replace(written.component, files=(ready.xml.name, "model-float.bin"))
    stored = replace(written, component=part)
    rows = pictures(4)
    np.testing.assert_array_equal(
        outputs(tmp_path / "out", written, rows), outputs(ready.xml.parent, stored, rows)
    )
