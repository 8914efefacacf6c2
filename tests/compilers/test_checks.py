"""compilers/checks.py: what fits a target, and which dimensions are fixed."""

from __future__ import annotations

from dataclasses import replace

import pytest

from edgekit.compilers import find_compiler
from edgekit.compilers.checks import (
    judge_precision,
    make_requires,
    session_options,
    static_sizes,
)
from edgekit.core.errors import CompileError, ConfigError
from edgekit.core.manifest import Requires
from edgekit.core.profiles import float_precision, load_profile
from tests.compilers.conftest import (
    MAX_LENGTH,
    PROCESSOR,
    Builder,
    attention_model,
    conv_model,
    foreign_model,
)


def check(bundle, target: str, static: dict[str, int] | None = None, *overrides: str) -> None:
    """Run the target's compiler's own check."""
    profile = load_profile(target, overrides=overrides)
    find_compiler(profile.engine).check(bundle, profile, static or {})


def test_compiled_for_another_engine_is_refused(build: Builder) -> None:
    """A bundle compiled for one engine is not compiled for the other."""
    bundle = build(attention_model(), stage="compiled")
    with pytest.raises(CompileError, match="already compiled, for onnxruntime"):
        check(bundle, "openvino-cpu")
    check(bundle, "cpu-x86")


def test_format_of_another_engine_is_refused(build: Builder) -> None:
    """ONNX Runtime does not read an IR, and the message names the target to quantize for."""
    model, component = attention_model()
    as_ir = {"model": replace(component, format="openvino-ir")}
    bundle = build((model, component), components=as_ir)
    with pytest.raises(CompileError, match="--target cpu-x86"):
        check(bundle, "cpu-x86")


@pytest.mark.parametrize(
    ("requires", "named"),
    [
        (Requires("onnxruntime", arch="arm64"), "made for arm64"),
        (Requires("onnxruntime", cpu_features=("avx512_vnni",)), "requires avx512_vnni"),
    ],
)
def test_requirements_the_target_lacks_are_refused(
    build: Builder, requires: Requires, named: str
) -> None:
    """What a quantized bundle needs, the target must promise."""
    bundle = build(attention_model(), stage="quantized", requires=requires)
    with pytest.raises(CompileError, match=named):
        check(bundle, "cpu-x86")


def test_requirements_the_target_promises_pass(build: Builder) -> None:
    """A bundle quantized for VNNI compiles for a target with VNNI."""
    requires = Requires("onnxruntime", arch="x86_64", cpu_features=("avx512_vnni",))
    check(build(attention_model(), stage="quantized", requires=requires), "cpu-x86-vnni")


def test_device_the_engine_lacks_is_refused(build: Builder) -> None:
    """A profile that asks ONNX Runtime for an NPU is a ConfigError."""
    with pytest.raises(ConfigError, match="no device 'npu'"):
        check(build(attention_model()), "cpu-x86", None, "device=npu")


def test_unknown_static_dimension_names_the_nearest(build: Builder) -> None:
    """--static with a name that no input has names the nearest dimension."""
    with pytest.raises(ConfigError, match="'sequence'"):
        check(build(attention_model()), "cpu-x86", {"sequense": 8})


def test_static_size_below_one_is_refused(build: Builder) -> None:
    """A dimension holds at least one element."""
    with pytest.raises(ConfigError, match="at least 1"):
        check(build(attention_model()), "openvino-cpu", {"batch": 0})


def test_static_sequence_longer_than_the_model_is_refused(build: Builder) -> None:
    """A length beyond the model's positions would read behind its tables."""
    bundle = build(attention_model(), processor=PROCESSOR)
    with pytest.raises(ConfigError, match=f"longer than the {MAX_LENGTH} tokens"):
        check(bundle, "openvino-cpu", {"sequence": MAX_LENGTH + 1})


def test_profile_sizes_apply_where_the_model_has_them(build: Builder) -> None:
    """The NPU's sequence is cut to the model's longest; a picture model has none."""
    npu = load_profile("openvino-npu")
    text = build(attention_model(), "text", processor=PROCESSOR)
    assert static_sizes(text, npu, {}) == {"batch": 1, "sequence": MAX_LENGTH}
    assert static_sizes(text, npu, {"sequence": 8}) == {"batch": 1, "sequence": 8}
    assert static_sizes(build(conv_model(), "picture"), npu, {}) == {"batch": 1}


def test_open_dimension_on_an_npu_is_refused(build: Builder) -> None:
    """A device of static shapes names every dimension without a size, and the option."""
    bundle = build(attention_model())
    npu = load_profile("openvino-npu", overrides=["static={batch=1}"])
    with pytest.raises(CompileError, match="--static sequence=N"):
        static_sizes(bundle, npu, {})


@pytest.mark.parametrize(
    ("target", "precision"),
    [("cpu-x86", "fp32"), ("cpu-x86-amx", "bf16"), ("openvino-gpu", "fp16"), ("cuda", "fp32")],
)
def test_float_models_take_the_first_float_precision(target: str, precision: str) -> None:
    """int8 in front of a profile's list says nothing about float models."""
    assert float_precision(load_profile(target)) == precision


def test_engine_extra_is_exchanged(build: Builder) -> None:
    """A bundle compiled for OpenVINO asks for OpenVINO, and still for its tokenizer."""
    before = Requires("onnxruntime", "1.24", extras=("ort", "text"))
    bundle = build(attention_model(), requires=before)
    openvino, host = load_profile("openvino-cpu"), load_profile("host")
    made = make_requires(bundle, openvino, engine="openvino", extra="openvino", needed="2026.0")
    assert made == Requires("openvino", "2026.0", extras=("openvino", "text"))
    kept = make_requires(bundle, host, engine="onnxruntime", extra="ort", needed="1.9")
    assert kept == before


@pytest.mark.parametrize(
    ("needed", "promised", "version"),
    [(None, None, "1.24"), ("1.26", None, "1.26"), ("1.26", "1.27", "1.27"), (None, "1.9", "1.24")],
)
def test_newest_version_asked_for_is_required(
    build: Builder, needed: str | None, promised: str | None, version: str
) -> None:
    """Of what the file needs, the target promises and the source asked for."""
    bundle = build(attention_model(), requires=Requires("onnxruntime", "1.24"))
    profile = replace(load_profile("cpu-x86"), engine_min_version=promised)
    made = make_requires(bundle, profile, engine="onnxruntime", extra="ort", needed=needed)
    assert made.engine_min_version == version


def test_session_options_are_the_profiles_and_the_compilers_own() -> None:
    """Only the keys that the engine reads; None and a number of threads of 0 are left out."""
    overrides = ["options.openvino.streams=2", "options.openvino.precision_hint=bf16"]
    profile = load_profile("openvino-cpu", overrides=overrides)
    keys = ("streams", "properties", "threads")
    assert session_options(profile, "openvino", keys, precision_hint="f32", other=None) == {
        "device": "cpu",
        "streams": 2,
        "precision_hint": "f32",
    }
    four = replace(profile, threads=4)
    assert session_options(four, "openvino", keys)["threads"] == 4
    assert "threads" not in session_options(four, "openvino", ("streams",))


@pytest.mark.parametrize(
    ("target", "override", "said"),
    [
        (
            "openvino-cpu",
            "options.openvino.streams=abc",
            r"options\.openvino\.streams .* got 'abc'",
        ),
        (
            "openvino-cpu",
            "options.openvino.streams=0",
            r"options\.openvino\.streams .* at least 1, got 0",
        ),
        ("openvino-cpu", "options.openvino.performance_hint=fast", "performance_hint is 'fast'"),
        ("cpu-x86", "options.onnxruntime.allow_spinning=maybe", "true or false, got 'maybe'"),
    ],
)
def test_values_the_engine_would_not_take_are_refused(
    build: Builder, target: str, override: str, said: str
) -> None:
    """Under the name that was typed, before anything is compiled."""
    with pytest.raises(ConfigError, match=said):
        check(build(attention_model()), target, None, override)


def test_float32_where_the_target_does_not_take_it_is_refused(build: Builder) -> None:
    """Bundle, precision and what the target takes are named, and how to allow it."""
    bundle = build(attention_model())
    profile = load_profile("cpu-x86", overrides=['precisions=["int8"]'])
    with pytest.raises(CompileError, match=r"in fp32; the target cpu-x86 takes int8\.") as caught:
        judge_precision(bundle, profile, "fp32", asked=False)
    assert 'precisions=["int8","fp32"]' in str(caught.value.hint)


def test_a_precision_the_target_prefers_is_told(build: Builder) -> None:
    """Nothing is said of the first of its list, of quantized graphs, and of what was asked for."""
    bundle, profile = build(attention_model()), load_profile("cpu-x86")
    assert judge_precision(bundle, profile, "fp32", asked=False) == (
        "cpu-x86 prefers int8, which edgekit quantize makes; this bundle computes in fp32.",
    )
    assert judge_precision(bundle, profile, "fp32", asked=True) == ()
    assert judge_precision(bundle, profile, "int8", asked=False) == ()
    assert judge_precision(bundle, load_profile("cuda"), "fp32", asked=False) == ()


@pytest.mark.parametrize("target", ["cpu-x86", "openvino-cpu"])
def test_both_compilers_refuse_a_precision_the_target_lacks(
    build: Builder, tmp_path, target: str
) -> None:
    """Before this, a target of int8 only got float32 without a word."""
    profile = load_profile(target, overrides=['precisions=["int8"]'])
    compiler = find_compiler(profile.engine)
    with pytest.raises(CompileError, match="takes int8"):
        compiler.compile_component(build(attention_model()), "model", profile, tmp_path, static={})


def test_operators_of_one_engine_are_refused_elsewhere(build: Builder, tmp_path) -> None:
    """com.microsoft operators do not compile for OpenVINO; the message names the target."""
    bundle = build(foreign_model(), stage="quantized")
    profile = load_profile("openvino-cpu")
    with pytest.raises(CompileError, match=r"com\.microsoft:FusedMatMul.*--target openvino-cpu"):
        find_compiler("openvino").compile_component(bundle, "model", profile, tmp_path, static={})


@pytest.mark.parametrize("target", ["cpu-x86", "openvino-cpu"])
def test_opset_beyond_the_target_is_refused(build: Builder, tmp_path, target: str) -> None:
    """max_opset is a limit, and --opset the remedy."""
    profile = load_profile(target, overrides=["max_opset=21"])
    compiler = find_compiler(profile.engine)
    with pytest.raises(CompileError, match=r"has opset 23.*--opset 21"):
        compiler.compile_component(build(attention_model()), "model", profile, tmp_path, static={})
