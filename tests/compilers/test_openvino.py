"""compilers/openvino.py: IR for CPU, GPU and NPU, and the precision that each is asked for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Literal

import numpy as np
import pytest

from edgekit.compilers import CompiledComponent
from edgekit.compilers import openvino as compiler
from edgekit.core.bundle import Bundle, BundleWriter
from edgekit.core.errors import CompileError, ConfigError
from edgekit.core.hashing import sha256_file
from edgekit.core.manifest import Requires, RuntimeChoice
from edgekit.core.profiles import load_profile
from edgekit.quantization.openvino_groups import weighted
from edgekit.quantization.openvino_levels import store_half
from edgekit.runtime.engines import find_engine
from edgekit.runtime.engines.openvino import import_openvino
from tests.compilers.conftest import Builder, attention_model, conv_model, feeds, quantized_model


def compile_for(
    bundle: Bundle, folder: Path, target: str, *overrides: str, static: Mapping[str, int] = {}
) -> CompiledComponent:
    """The bundle's only component, compiled for a target."""
    profile = load_profile(target, overrides=overrides)
    return compiler.compile_component(bundle, "model", profile, folder, static=static)


@pytest.fixture
def out(tmp_path: Path) -> Path:
    """An empty folder to compile into."""
    folder = tmp_path / "out"
    folder.mkdir()
    return folder


def test_answers_are_those_of_onnx_runtime(build: Builder, out: Path) -> None:
    """The IR in float32 answers what the exported bundle answers."""
    bundle = build(attention_model())
    made = compile_for(bundle, out, "openvino-cpu")
    assert made.component.format == "openvino-ir"
    assert made.files == {"model.xml": "component", "model.bin": "weights"}
    want = find_engine("onnxruntime").open_session(
        bundle.path, bundle.manifest.components["model"], options={}, device="cpu", threads=1
    )
    options = {key: value for key, value in made.options.items() if key != "device"}
    got = find_engine("openvino").open_session(
        out, made.component, options=options, device="cpu", threads=1
    )
    inputs = feeds()
    real = inputs["attention_mask"].astype(bool)
    np.testing.assert_allclose(
        got.run(inputs)["last_hidden_state"][real],
        want.run(inputs)["last_hidden_state"][real],
        atol=1e-5,
    )
    assert got.facts()["precision"] == "fp32"
    want.close()
    got.close()


def test_attention_stays_one_operator(build: Builder, out: Path) -> None:
    """The opset 23 attention is counted before and after."""
    facts = compile_for(build(attention_model()), out, "openvino-cpu").facts
    assert facts["attention_operators"] == facts["attention_operators_before"] == 1


@pytest.mark.parametrize(
    ("target", "overrides", "hint"),
    [
        ("openvino-cpu", (), "f32"),
        ("cpu-x86-amx", (), "bf16"),
        ("openvino-gpu", (), "f16"),
        ("openvino-cpu", ("options.openvino.precision_hint=bf16",), "bf16"),
        ("openvino-cpu", ("options.openvino.precision_hint=device",), None),
    ],
)
def test_first_float_precision_is_the_hint(
    build: Builder, out: Path, target: str, overrides: tuple[str, ...], hint: str | None
) -> None:
    """The profile's order decides unless the option is given; "device" leaves the option out."""
    options = compile_for(build(attention_model()), out, target, *overrides).options
    assert options.get("precision_hint") == hint


@pytest.mark.parametrize(
    ("stage", "overrides", "hint"),
    [
        ("quantized", (), "bf16"),
        ("quantized", ("options.openvino.precision_hint=f32",), "f32"),
        ("exported", (), "f32"),
    ],
)
def test_a_quantized_bundle_keeps_its_precision(
    build: Builder, out: Path, stage: str, overrides: tuple[str, ...], hint: str
) -> None:
    """What it was judged in goes into the compiled bundle, unless an option asks for another."""
    bundle = build(attention_model())
    told = RuntimeChoice({"precision_hint": "bf16"})
    manifest = replace(bundle.manifest, stage=stage, runtime=told)
    made = compile_for(replace(bundle, manifest=manifest), out, "openvino-cpu", *overrides)
    assert made.options["precision_hint"] == hint


def test_unknown_hint_names_the_nearest(build: Builder) -> None:
    """A mistyped precision hint is a ConfigError."""
    profile = load_profile("openvino-cpu", overrides=["options.openvino.precision_hint=bf61"])
    with pytest.raises(ConfigError, match="'bf16'"):
        compiler.check(build(attention_model()), profile, {})


def test_half_precision_is_stored_where_it_is_computed(build: Builder, out: Path) -> None:
    """A GPU's weights are half the size; the CPU's stay float32."""
    bundle = build(conv_model())
    full = compile_for(bundle, out, "openvino-cpu")
    size = (out / "model.bin").stat().st_size
    half = compile_for(bundle, out, "openvino-gpu")
    assert (full.precision, half.precision) == ("fp32", "fp16")
    assert (out / "model.bin").stat().st_size < 0.55 * size


def test_npu_gets_static_shapes(build: Builder, out: Path) -> None:
    """Every dimension of an NPU's graph has a size, in the manifest as well."""
    made = compile_for(build(attention_model()), out, "openvino-npu")
    assert [spec.shape for spec in made.component.inputs] == [(1, 128), (1, 128)]
    assert made.component.outputs[0].shape == (1, 128, 16)
    assert made.options["device"] == "npu"
    assert "streams" not in made.options
    assert compiler.check_artifact(out, made.component)["opens_on_cpu"] == "yes"


def test_tensors_keep_the_manifest_names(build: Builder, out: Path) -> None:
    """Inputs and outputs are found by the names of the manifest."""
    made = compile_for(build(attention_model()), out, "openvino-cpu")
    session = find_engine("openvino").open_session(
        out, made.component, options={}, device="cpu", threads=1
    )
    assert set(session.run(feeds())) == {"last_hidden_state"}
    session.close()


def test_requirement_is_the_oldest_release_that_reads_it(build: Builder, out: Path) -> None:
    """Operations that the oldest supported OpenVINO knows do not require a newer one."""
    made = compile_for(build(attention_model()), out, "openvino-cpu")
    assert made.requires == Requires("openvino", "2026.0", extras=("openvino",))


def test_target_with_an_older_release_is_refused(build: Builder, out: Path) -> None:
    """A target that promises less than the graph needs is told so."""
    with pytest.raises(CompileError, match=r"needs OpenVINO 2026\.0.*promises 2025\.3"):
        compile_for(build(attention_model()), out, "openvino-cpu", 'engine_min_version="2025.3"')


def test_quantized_graph_keeps_its_precision(build: Builder, out: Path) -> None:
    """int8 is read from ONNX, and from the IR that it became."""
    bundle = build(quantized_model())
    first = compile_for(bundle, out, "openvino-cpu")
    assert first.precision == "int8"
    quantized = as_quantized(bundle, first, out)
    again = quantized.path.with_name("again")
    again.mkdir()
    second = compile_for(quantized, again, "openvino-cpu", static={"batch": 3})
    assert second.precision == "int8"
    assert second.component.inputs[0].shape == (3, 8)
    assert sha256_file(again / "model.bin") == sha256_file(out / "model.bin")


@pytest.mark.parametrize(("kind", "precision"), [("f16", "fp16"), ("bf16", "bf16")])
def test_weights_of_half_the_bits_are_a_precision(
    build: Builder, out: Path, kind: Literal["f16", "bf16"], precision: str
) -> None:
    """Answers are not held to float32's tolerance where the device computes in float32 itself."""
    bundle = build(conv_model())
    first = compile_for(bundle, out, "openvino-cpu")
    model = import_openvino().Core().read_model(str(out / "model.xml"))
    names = [found.name for node in model.get_ops() if (found := weighted(node)) is not None]
    assert sum(store_half(model, names, kind).values()) == len(names) > 0
    # Its own weights are mapped into memory.
    half = out.with_name("half")
    half.mkdir()
    import_openvino().save_model(model, str(half / "model.xml"), compress_to_fp16=False)
    again = out.with_name("again")
    again.mkdir()
    made = compile_for(as_quantized(bundle, first, half), again, "openvino-cpu")
    assert made.precision == precision
    assert made.options["precision_hint"] == "f32"


def as_quantized(bundle: Bundle, made: CompiledComponent, folder: Path) -> Bundle:
    """A bundle of the quantized stage with the component's files from a folder."""
    with BundleWriter(bundle.path.with_name("quantized")) as writer:
        for name, role in made.files.items():
            writer.copy(folder / name, name, role)
        writer.stage(
            replace(
                bundle.manifest,
                stage="quantized",
                components={"model": made.component},
                requires=made.requires,
            )
        )
        return writer.commit()


def test_other_precisions_are_measured_only_when_the_profile_lists_them(
    build: Builder, out: Path
) -> None:
    """bf16 is a candidate for AMX; on openvino-cpu the device's own choice is for the record."""
    vnni, amx = load_profile("openvino-cpu"), load_profile("cpu-x86-amx")
    plain = compiler.candidates(vnni, {"precision_hint": "f32"}, 2)
    assert [(item.options.get("precision_hint"), item.eligible) for item in plain] == [
        ("f32", True),
        (None, False),
    ]
    matrix = compiler.candidates(amx, {"precision_hint": "bf16"}, 2)
    assert [(item.options.get("precision_hint"), item.eligible) for item in matrix] == [
        ("bf16", True),
        ("f32", True),
        (None, False),
    ]


def test_given_hint_is_not_replaced() -> None:
    """A precision that the user asked for is not exchanged for a faster one."""
    profile = load_profile("cpu-x86-amx", overrides=["options.openvino.precision_hint=f32"])
    found = compiler.candidates(profile, {"precision_hint": "f32"}, 2)
    assert [item.options.get("precision_hint") for item in found if item.eligible] == ["f32"]


def test_choice_left_to_the_device_is_the_only_candidate() -> None:
    """Where the device may choose there is nothing to compare."""
    profile = load_profile("openvino-cpu", overrides=["options.openvino.precision_hint=device"])
    (only,) = compiler.candidates(profile, {"streams": 1}, 2)
    assert only.eligible
    assert only.options == {"streams": 1}


def test_unreadable_artifact_does_not_pass_the_check(build: Builder, out: Path) -> None:
    """An IR that OpenVINO does not read again is a CompileError."""
    made = compile_for(build(attention_model()), out, "openvino-npu")
    (out / "model.xml").write_text("<net>")
    with pytest.raises(CompileError, match=r"does not read model\.xml"):
        compiler.check_artifact(out, made.component)
