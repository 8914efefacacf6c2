"""Quantizing for OpenVINO: tiny graphs built node by node, run on the CPU."""

from __future__ import annotations

import hashlib
import logging
import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from edgekit.core.bundle import Bundle, BundleWriter
from edgekit.core.errors import ConfigError, QuantizeError
from edgekit.core.manifest import Component, Manifest, Requires, TensorSpec
from edgekit.core.profiles import load_profile
from edgekit.quantization import find_quantizer
from edgekit.quantization.openvino import OpenVinoPrepared, prepare, recipes
from edgekit.quantization.openvino_audit import audit
from edgekit.quantization.recipes import Feeds, QuantizedComponent, Recipe
from edgekit.runtime.engines.openvino import open_session
from tests.compilers.conftest import attention_model, feeds, make_model, quantized_model
from tests.quantization import networks

PROFILE = load_profile("host")
AMX = load_profile("cpu-x86-amx")
STATIC = Recipe("int8-static", smooth=0.8, correction="fast")
Made = tuple[onnx.ModelProto, Component]
Prepare = Callable[..., OpenVinoPrepared]


def residual_model() -> Made:
    """Convolutions with biases, a pooling between two of them and a sum around one."""
    random = np.random.default_rng(0)

    def weight(name: str, *shape: int) -> onnx.TensorProto:
        values = random.standard_normal(shape) / np.sqrt(np.prod(shape[1:]) or 1)
        return numpy_helper.from_array(values.astype(np.float32), name)

    def conv(name: str, source: str, target: str) -> onnx.NodeProto:
        names = [source, f"{name}_w", f"{name}_b"]
        return helper.make_node("Conv", names, [target], name=name, pads=[1, 1, 1, 1])

    nodes = [
        conv("first", "x", "a"),
        helper.make_node("Relu", ["a"], ["b"]),
        helper.make_node("MaxPool", ["b"], ["c"], kernel_shape=[2, 2], strides=[2, 2]),
        conv("second", "c", "d"),
        helper.make_node("Add", ["c", "d"], ["e"]),
        helper.make_node("Relu", ["e"], ["f"]),
        conv("third", "f", "y"),
    ]
    inner = {"first": 1, "second": 16, "third": 16}
    weights = [weight(f"{name}_w", 16, size, 3, 3) for name, size in inner.items()]
    weights += [weight(f"{name}_b", 16) for name in inner]
    component = Component(
        "onnx",
        ("model.onnx",),
        (TensorSpec("x", "float32", ("batch", 1, 12, 12)),),
        (TensorSpec("y", "float32", ("batch", 16, 6, 6)),),
    )
    return make_model(nodes, weights, component), component


def sentences(count: int = 12) -> list[Feeds]:
    """Rows of several lengths for `attention_model`."""
    return [feeds(2, 5 + row % 6) for row in range(count)]


def pictures(count: int = 12) -> list[Feeds]:
    """Rows for `residual_model`."""
    random = np.random.default_rng(3)
    return [{"x": random.standard_normal((2, 1, 12, 12)).astype(np.float32)} for _ in range(count)]


@pytest.fixture
def bundle(tmp_path: Path) -> Callable[[Made], Bundle]:
    """Writes a model as an exported bundle."""

    def write(made: Made) -> Bundle:
        model, component = made
        manifest = Manifest(
            name="exported",
            created_by="edgekit tests",
            stage="exported",
            task="custom",
            source=None,
            components={"model": component},
            requires=Requires("onnxruntime", extras=("ort", "text")),
        )
        with BundleWriter(tmp_path / "exported", force=True) as writer:
            onnx.save(model, str(writer.add("model.onnx", "component")))
            writer.stage(manifest)
            return writer.commit()

    return write


@pytest.fixture
def ready(bundle: Callable[[Made], Bundle], tmp_path: Path) -> Prepare:
    """Prepares a model; keyword arguments are those of `prepare`."""

    def make(made: Made, samples: Sequence[Feeds] = (), **options: object) -> OpenVinoPrepared:
        work = tmp_path / "work"
        return prepare(bundle(made), "model", PROFILE, work, samples, **options)  # type: ignore[arg-type]

    return make


def outputs(folder: Path, written: QuantizedComponent, rows: Sequence[Feeds]) -> np.ndarray:
    """What a written component computes, as one vector."""
    options = {"precision_hint": "f32", **written.options}
    session = open_session(folder, written.component, options=options, device="cpu", threads=1)
    found = [array.ravel() for row in rows for array in session.run(row).values()]
    session.close()
    return np.concatenate(found)


def distance(reference: np.ndarray, candidate: np.ndarray) -> float:
    """Squared error relative to the reference's squares."""
    return float(np.sum((reference - candidate) ** 2) / np.sum(reference**2))


def exact(prepared: OpenVinoPrepared, folder: Path, rows: Sequence[Feeds]) -> np.ndarray:
    """What the float graph computes."""
    part = prepared.source.manifest.components["model"]
    floats = replace(part, format="openvino-ir", files=(prepared.xml.name, "model-float.bin"))
    plain = QuantizedComponent(floats, {}, Requires("openvino"), "fp32", {}, ())
    return outputs(prepared.xml.parent, plain, rows)


def hashes(folder: Path) -> dict[str, str]:
    """The hash of each file in a folder."""
    return {
        path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.glob("model.*")
    }


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


def test_static_computes_with_integers(ready: Prepare, tmp_path: Path) -> None:
    """Each weight matrix meets rounded activations; the attention stays one operator in float."""
    prepared = ready(attention_model(), sentences())
    written = prepared.write(STATIC, tmp_path / "out")
    assert written.quantized_ops["MatMul"] == 4
    assert written.facts["attention_operators"] == 1
    assert written.precision == "int8"
    assert written.requires.engine == "openvino"
    assert written.requires.extras == ("openvino", "text")
    rows = sentences(4)
    found = distance(exact(prepared, tmp_path, rows), outputs(tmp_path / "out", written, rows))
    assert 0 < found < 0.01


def test_no_samples_no_ranges(ready: Prepare, tmp_path: Path) -> None:
    """Static quantization without calibration data says so."""
    with pytest.raises(QuantizeError, match="needs calibration data, got 0 samples"):
        ready(attention_model()).write(STATIC, tmp_path / "out")


@pytest.mark.parametrize("made", [attention_model, residual_model])
def test_all_raised_is_the_float_graph(
    made: Callable[[], Made], ready: Prepare, tmp_path: Path
) -> None:
    """With every group raised to float32 nothing is left of rounding, scaling or correction."""
    rows = sentences() if made is attention_model else pictures()
    prepared = ready(made(), rows)
    recipe = replace(STATIC, levels={group.name: "float32" for group in prepared.groups})
    written = prepared.write(recipe, tmp_path / "out")
    assert "FakeQuantize" not in (tmp_path / "out" / "model.xml").read_text()
    assert len(written.kept_float) == sum(len(group.nodes) for group in prepared.groups)
    np.testing.assert_allclose(
        outputs(tmp_path / "out", written, rows), exact(prepared, tmp_path, rows), atol=1e-5
    )


def test_rounding_before_a_pooling_is_raised_on_one_way_only(
    ready: Prepare, tmp_path: Path
) -> None:
    """What a raised convolution shares with others, through a pooling, it gets unrounded alone."""
    rows = pictures()
    prepared = ready(residual_model(), rows)
    reference = exact(prepared, tmp_path, rows)
    errors = {}
    for name in ("none", "first", "second", "third"):
        recipe = replace(STATIC, levels={} if name == "none" else {name: "float32"})
        written = prepared.write(recipe, tmp_path / name)
        assert written.quantized_ops["Convolution"] == (3 if name == "none" else 2)
        errors[name] = distance(reference, outputs(tmp_path / name, written, rows))
    assert 0 < errors["third"] < errors["none"] < 0.01


def test_convolutions_are_not_rounded_at_each_call(ready: Prepare, tmp_path: Path) -> None:
    """A graph of convolutions alone has nothing that dynamic quantization would make faster."""
    with pytest.raises(QuantizeError, match="no matrix multiplication"):
        ready(residual_model()).write(recipes(PROFILE, "dynamic", 8)[0], tmp_path / "out")


def test_a_group_raised_to_weights_only(ready: Prepare, tmp_path: Path) -> None:
    """Its activations are float in the graph, the plugin is told how to round them; no float."""
    prepared = ready(attention_model(), sentences())
    name = prepared.groups[-1].name
    written = prepared.write(replace(STATIC, levels={name: "weight-int8"}), tmp_path / "out")
    assert written.options == {
        "precision_hint": "f32",
        "properties": {"DYNAMIC_QUANTIZATION_GROUP_SIZE": "32"},
    }
    assert written.quantized_ops["MatMul"] == 4
    assert all("raised" not in item.reason for item in written.kept_float)


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


def test_same_bytes_in_another_process(ready: Prepare, tmp_path: Path) -> None:
    """Names that count what a process has made so far do not reach the file.

    Nor does NNCF leave an identity under the home folder, as its import does when it is let.
    """
    prepared = ready(attention_model(), sentences())
    # Whatever came before in this process has moved the counters.
    prepared.write(Recipe("float16"), tmp_path / "before")
    prepared.write(STATIC, tmp_path / "here")
    script = (
        "import sys; from pathlib import Path\n"
        "from edgekit.core.bundle import open_bundle\n"
        "from edgekit.quantization.openvino import prepare\n"
        "from tests.quantization.test_openvino import PROFILE, STATIC, sentences\n"
        "source, work, out = map(Path, sys.argv[1:])\n"
        "ready = prepare(open_bundle(source), 'model', PROFILE, work, sentences())\n"
        "ready.write(STATIC, out)\n"
    )
    home = tmp_path / "home"
    home.mkdir()
    folders = [prepared.source.path, tmp_path / "other-work", tmp_path / "there"]
    done = subprocess.run(
        [sys.executable, "-c", script, *map(str, folders)],
        cwd=Path(__file__).resolve().parents[2],
        env={**os.environ, "HOME": str(home)},
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stdout) == (0, ""), done.stderr
    assert hashes(tmp_path / "here") == hashes(tmp_path / "there")
    assert list(home.iterdir()) == []


def test_nncf_keeps_quiet(
    ready: Prepare, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """No bars and no log lines on standard output, and loggers stay Python's own."""
    ready(attention_model(), sentences(3)).write(STATIC, tmp_path / "out")
    assert capfd.readouterr().out == ""
    assert logging.getLoggerClass() is logging.Logger
