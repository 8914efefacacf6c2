"""compilers/onnxruntime.py: optimised graphs on the CPU, half precision for CUDA."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from edgekit.compilers import CompiledComponent, find_compiler
from edgekit.compilers import onnxruntime as compiler
from edgekit.core import cpu
from edgekit.core.bundle import Bundle
from edgekit.core.errors import CompileError, ConfigError, EngineUnavailable
from edgekit.core.hashing import sha256_file
from edgekit.core.manifest import Component, TensorSpec
from edgekit.core.profiles import load_profile
from edgekit.graph import onnx_files
from edgekit.runtime.engines import find_engine
from tests.compilers.conftest import (
    Builder,
    attention_model,
    conv_model,
    feeds,
    make_model,
    quantized_model,
)

FUSED = "com.microsoft:"


def compile_for(
    bundle: Bundle, folder: Path, target: str, *overrides: str, static: Mapping[str, int] = {}
) -> CompiledComponent:
    """The bundle's only component, compiled for a target."""
    profile = load_profile(target, overrides=overrides)
    return compiler.compile_component(bundle, "model", profile, folder, static=static)


def answer(
    folder: Path, component: Component, inputs: Mapping[str, np.ndarray]
) -> dict[str, np.ndarray]:
    """What the component answers on the CPU."""
    session = find_engine("onnxruntime").open_session(
        folder, component, options={}, device="cpu", threads=1
    )
    try:
        return session.run(inputs)
    finally:
        session.close()


@pytest.fixture
def out(tmp_path: Path) -> Path:
    """An empty folder to compile into."""
    folder = tmp_path / "out"
    folder.mkdir()
    return folder


def test_cpu_graph_is_fused_and_answers_the_same(build: Builder, out: Path) -> None:
    """EXTENDED fusions are written into the file, and the answers stay."""
    bundle = build(attention_model())
    made = compile_for(bundle, out, "cpu-x86-vnni")
    assert made.facts["offline_optimization"] == "extended"
    assert any(name.startswith(FUSED) for name in made.facts["engine_operators"])
    assert made.facts["attention_operators"] == 1
    assert made.files == {"model.onnx": "component"}
    want = answer(bundle.path, bundle.manifest.components["model"], feeds())
    got = answer(out, made.component, feeds())
    np.testing.assert_allclose(got["last_hidden_state"], want["last_hidden_state"], atol=1e-6)


def test_only_listed_files_are_left(build: Builder, out: Path) -> None:
    """No scratch file stays in the folder that becomes a bundle."""
    made = compile_for(build(attention_model()), out, "cpu-x86", static={"batch": 1})
    assert {path.name for path in out.iterdir()} == set(made.files)


def test_input_bundle_is_untouched(build: Builder, out: Path) -> None:
    """A step never changes the bundle it reads."""
    bundle = build(attention_model())
    before = {path.name: sha256_file(path) for path in bundle.path.iterdir()}
    compile_for(bundle, out, "cuda", "options.onnxruntime.precision=fp16", static={"batch": 1})
    assert {path.name: sha256_file(path) for path in bundle.path.iterdir()} == before


@pytest.mark.parametrize("target", ["cpu-x86", "cpu-arm64", "jetson-orin"])
def test_compiling_twice_gives_the_same_bytes(build: Builder, out: Path, target: str) -> None:
    """The same bundle and target give the same file."""
    bundle = build(attention_model())
    compile_for(bundle, out, target)
    first = sha256_file(out / "model.onnx")
    compile_for(bundle, out, target)
    assert sha256_file(out / "model.onnx") == first


@pytest.mark.parametrize("target", ["cpu-x86", "cpu-arm64", "jetson-orin"])
def test_notes_of_the_build_machine_do_not_travel(build: Builder, out: Path, target: str) -> None:
    """Stack traces of an exporter are not in the compiled file."""
    model, component = attention_model()
    model.graph.node[0].doc_string = "made at /home/someone/model.py"
    model.graph.node[1].metadata_props.add(key="trace", value="/home/someone/model.py")
    compile_for(build((model, component)), out, target)
    assert b"/home/someone" not in (out / "model.onnx").read_bytes()


def test_optimised_file_requires_this_release(build: Builder, out: Path) -> None:
    """Fused operators of this release are not promised to open in an older one."""
    made = compile_for(build(attention_model()), out, "cpu-x86")
    version = find_engine("onnxruntime").version()
    assert made.requires.engine_min_version == ".".join(version.split(".")[:2])
    assert made.requires.arch is None


def test_older_release_on_the_target_gets_the_standard_graph(build: Builder, out: Path) -> None:
    """A target that promises an older ONNX Runtime gets no fused operators."""
    made = compile_for(build(attention_model()), out, "cpu-x86", 'engine_min_version="1.24"')
    assert made.facts["engine_operators"] == []
    assert made.requires.engine_min_version == "1.24"
    assert "1.24" in made.notes[0]


def test_other_architecture_gets_the_standard_graph(build: Builder, out: Path) -> None:
    """What ONNX Runtime would choose for this architecture is not written down for another."""
    other = "cpu-arm64" if cpu.arch() == "x86_64" else "cpu-x86"
    bundle = build(attention_model())
    made = compile_for(bundle, out, other)
    assert made.facts["offline_optimization"] == "none"
    assert sha256_file(out / "model.onnx") == sha256_file(bundle.file("model.onnx"))


def test_host_layout_is_recorded_as_a_requirement(
    build: Builder, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A graph laid out for this processor requires its architecture and features."""
    features = cpu.cpu_features() or frozenset()
    made = compile_for(
        build(conv_model()), out, "host", "options.onnxruntime.offline_optimization=all"
    )
    blocked = [name for name in made.facts["engine_operators"] if ".nchwc:" in name]
    if cpu.arch() == "x86_64" and "avx512f" in features:
        assert blocked
        assert made.requires.arch == "x86_64"
        assert set(made.requires.cpu_features) == features
    else:
        assert not blocked
        assert "AVX-512" in made.facts["offline_optimization_reason"]
        assert made.requires.arch is None


def test_host_without_avx512_stays_at_extended(
    build: Builder, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A layout for narrow vectors would be wrong, and opened, on a CPU with wide ones."""
    monkeypatch.setattr(cpu, "arch", lambda: "x86_64")
    monkeypatch.setattr(cpu, "cpu_features", lambda: frozenset({"avx2", "fma"}))
    made = compile_for(build(conv_model()), out, "host")
    assert made.facts["offline_optimization"] == "extended"
    assert made.requires.cpu_features == ()


def test_host_graph_without_layouts_runs_elsewhere(build: Builder, out: Path) -> None:
    """A transformer holds nothing that is laid out for one processor, and requires none."""
    made = compile_for(build(attention_model()), out, "host")
    assert made.requires.cpu_features == ()


def test_layout_for_another_machine_is_refused(build: Builder) -> None:
    """offline_optimization = all is for a target that is exactly this machine."""
    profile = load_profile(
        "raspberry-pi-5", overrides=["options.onnxruntime.offline_optimization=all"]
    )
    with pytest.raises(ConfigError, match="--target host"):
        compiler.check(build(conv_model()), profile, {})


@pytest.mark.parametrize(
    ("override", "nearest"),
    [
        ("options.onnxruntime.offline_optimization=extendet", "'extended'"),
        ("options.onnxruntime.precision=fp61", "'fp16'"),
    ],
)
def test_wrong_option_names_the_nearest(build: Builder, override: str, nearest: str) -> None:
    """A mistyped value is a ConfigError that names the nearest one."""
    profile = load_profile("cpu-x86", overrides=[override])
    with pytest.raises(ConfigError, match=nearest):
        compiler.check(build(attention_model()), profile, {})


def test_static_sizes_are_written_into_graph_and_specs(build: Builder, out: Path) -> None:
    """--static fixes the file's shapes and the manifest's."""
    sizes = {"batch": 1, "sequence": 8}
    made = compile_for(build(attention_model()), out, "cpu-x86", static=sizes)
    assert [spec.shape for spec in made.component.inputs] == [(1, 8), (1, 8)]
    assert made.component.outputs[0].shape == (1, 8, 16)
    graph = onnx.load(out / "model.onnx").graph
    for value in (*graph.input, *graph.output):
        assert all(dim.dim_value for dim in value.type.tensor_type.shape.dim)
    assert answer(out, made.component, feeds(1, 8))["last_hidden_state"].shape == (1, 8, 16)


def test_half_precision_keeps_inputs_and_outputs(build: Builder, out: Path) -> None:
    """fp16 halves the weights; whoever calls the model still sees float32, close to before."""
    bundle = build(conv_model())
    made = compile_for(bundle, out, "cuda", "options.onnxruntime.precision=fp16")
    assert made.precision == made.facts["precision"] == "fp16"
    graph = onnx.load(out / "model.onnx").graph
    kinds = {tensor.data_type for tensor in graph.initializer}
    assert kinds == {onnx.TensorProto.FLOAT16}
    inputs = {"x": np.random.default_rng(0).standard_normal((2, 1, 12, 12)).astype(np.float32)}
    want = answer(bundle.path, bundle.manifest.components["model"], inputs)["y"]
    got = answer(out, made.component, inputs)["y"]
    assert got.dtype == np.float32
    assert np.isfinite(got).all()
    cosine = float((got * want).sum() / np.linalg.norm(got) / np.linalg.norm(want))
    assert cosine > 0.999


@pytest.mark.parametrize(("target", "precision"), [("cuda", "fp32"), ("jetson-orin", "fp16")])
def test_first_float_precision_decides_on_cuda(
    build: Builder, out: Path, target: str, precision: str
) -> None:
    """Without an option, the profile's order decides between float32 and half precision."""
    assert compile_for(build(attention_model()), out, target).precision == precision


def test_cpu_stays_float32(build: Builder, out: Path) -> None:
    """A CPU profile that lists fp16 first still computes in float32 on ONNX Runtime."""
    made = compile_for(build(attention_model()), out, "cpu-x86", 'precisions=["fp16", "fp32"]')
    assert made.precision == "fp32"


def test_quantized_graph_keeps_its_precision(build: Builder, out: Path) -> None:
    """int8 graphs are judged as int8, and are not made half precision."""
    bundle = build(quantized_model())
    assert compile_for(bundle, out, "cpu-x86").precision == "int8"
    with pytest.raises(ConfigError, match="the graph is int8"):
        compile_for(bundle, out, "cuda", "options.onnxruntime.precision=fp16")


def test_quantized_graph_is_exact_without_vnni(build: Builder, out: Path) -> None:
    """The baseline's 8-bit sums would saturate; float graphs and VNNI need nothing."""
    exact = {"session.x64quantprecision": "1"}
    quantized, plain = build(quantized_model(), "int8"), build(conv_model(), "float")
    assert compile_for(quantized, out, "cpu-x86").options["session"] == exact
    assert "session" not in compile_for(quantized, out, "cpu-x86-vnni").options
    assert "session" not in compile_for(plain, out, "cpu-x86").options


def test_cuda_bundle_is_checked_without_a_gpu(build: Builder, out: Path) -> None:
    """Where there is no GPU the structure is checked, and opening it says what is missing."""
    made = compile_for(build(attention_model()), out, "cuda")
    assert made.options["device"] == "cuda"
    assert made.options["provider_options"]["use_tf32"] == "0"
    facts = compiler.check_artifact(out, made.component)
    assert facts == {"structure": "onnx.checker", "opens_on_cpu": "yes"}
    engine = find_engine("onnxruntime")
    if "CUDAExecutionProvider" not in engine.devices():
        with pytest.raises(EngineUnavailable, match="CUDAExecutionProvider"):
            engine.open_session(out, made.component, options={}, device="cuda", threads=1)


def test_broken_artifact_does_not_pass_the_check(build: Builder, out: Path) -> None:
    """A file that onnx.checker refuses is a CompileError."""
    made = compile_for(build(attention_model()), out, "cuda")
    model = onnx.load(out / "model.onnx")
    model.graph.node[0].input[0] = "nothing"
    onnx.save(model, out / "model.onnx")
    with pytest.raises(CompileError, match="not valid ONNX"):
        compiler.check_artifact(out, made.component)


@pytest.mark.parametrize("target", ["cpu-x86", "cpu-arm64", "jetson-orin"])
def test_large_weights_go_beside_the_graph(
    build: Builder, out: Path, monkeypatch: pytest.MonkeyPatch, target: str
) -> None:
    """Above the limit of one file the weights are external data, listed as the component's."""
    for module in (compiler, onnx_files):
        monkeypatch.setattr(module, "INLINE_BYTES", 1000)
    model, component = attention_model()
    model.graph.doc_string = "has to be rewritten"
    made = compile_for(build((model, component)), out, target)
    assert made.files == {"model.onnx": "component", "model.onnx.data": "weights"}
    assert made.component.files == ("model.onnx", "model.onnx.data")
    assert {path.name for path in out.iterdir()} == set(made.files)
    shutil.move(out, out.with_name("moved"))
    assert answer(out.with_name("moved"), made.component, feeds())


def test_graph_the_engine_refuses_is_told(build: Builder, out: Path) -> None:
    """An operator that this release does not have is a CompileError with the engine's words."""
    model, component = attention_model()
    model.graph.node[-1].domain = "example.org"
    model.opset_import.add(domain="example.org", version=1)
    with pytest.raises(CompileError, match=r"ONNX Runtime does not take model\.onnx"):
        compile_for(build((model, component)), out, "cpu-x86")


def test_unreadable_graph_is_told(build: Builder, out: Path) -> None:
    """A file that is no ONNX is a CompileError."""
    bundle = build(attention_model())
    bundle.file("model.onnx").write_bytes(b"\x0a\xff\xff")
    with pytest.raises(CompileError, match="not a readable ONNX file"):
        compile_for(bundle, out, "cpu-x86")


def test_threads_of_the_profile_are_recorded(build: Builder, out: Path) -> None:
    """A board's core count goes into the session options; "all" leaves them out."""
    bundle = build(attention_model())
    assert compile_for(bundle, out, "raspberry-pi-5").options["threads"] == 4
    assert "threads" not in compile_for(bundle, out, "cpu-x86").options


@pytest.mark.parametrize(
    ("target", "overrides", "threads", "count"),
    [
        ("cpu-x86", (), 2, 2),
        ("cpu-x86", (), 1, 1),
        ("cpu-x86", ("options.onnxruntime.allow_spinning=true",), 2, 1),
        ("cuda", (), 2, 1),
    ],
)
def test_spinning_is_measured_where_it_matters(
    target: str, overrides: tuple[str, ...], threads: int, count: int
) -> None:
    """A pool of one thread, a profile that decided and a GPU leave nothing to measure."""
    profile = load_profile(target, overrides=overrides)
    options = {
        key: value
        for key, value in profile.options["onnxruntime"].items()
        if key == "allow_spinning"
    }
    found = find_compiler("onnxruntime").candidates(profile, options, threads)
    assert len(found) == count
    assert found[0].options.get("allow_spinning") in (None, False, True)


def test_layout_of_convolutions_is_measured_first(build: Builder, out: Path) -> None:
    """With blocks of channels and without; for the better one fewer threads, and spinning."""
    made = compile_for(build(conv_model()), out, "host")
    assert not made.requires.cpu_features
    found = compiler.candidates(load_profile("host"), made.options, 4)
    assert [one.name for one in found] == ["allow_spinning off", "allow_spinning off, no blocks"]
    assert [one.options["graph_optimization"] for one in found] == ["all", "extended"]
    assert found[1].least_gain >= 1.03
    for first in found:
        assert "threads" not in first.options
        layout = {one.options["graph_optimization"] for one in (first, *first.then)}
        assert len(layout) == 1
        assert [one.options.get("threads") for one in first.then] == [None, 1, 2, 2]
        assert all(one.least_gain >= 1.03 for one in first.then)
        alone = first.then[1]
        assert alone.options["allow_spinning"] is False
    names = [one.name for first in found for one in (first, *first.then)]
    assert len(set(names)) == len(names)


def test_what_is_decided_is_not_measured(build: Builder, out: Path) -> None:
    """Threads and waiting of the profile stay; what is left is the layout."""
    made = compile_for(build(conv_model()), out, "host")
    decided = {**made.options, "threads": 4, "allow_spinning": True}
    found = compiler.candidates(load_profile("host"), decided, 4)
    assert [one.name for one in found] == ["as compiled", "no blocks"]
    assert not any(one.then for one in found)
    assert {one.options["threads"] for one in found} == {4}
    assert {one.options["allow_spinning"] for one in found} == {True}


def test_few_counts_of_threads_on_a_large_machine(build: Builder, out: Path) -> None:
    """Three below all of 64: every candidate is a session in memory and a turn in every round."""
    made = compile_for(build(conv_model()), out, "host")
    first, _ = compiler.candidates(load_profile("host"), made.options, 64)
    assert {one.options.get("threads") for one in first.then} == {None, 1, 8, 32}


def test_no_layout_is_measured_where_nothing_convolves(build: Builder, out: Path) -> None:
    """Of a transformer, nor of one with a single convolution among its products."""
    assert "graph_optimization" not in compile_for(build(attention_model()), out, "host").options
    (out / "patches").mkdir()
    made = compile_for(build(few_convolutions(), name="patches"), out / "patches", "host")
    assert "graph_optimization" not in made.options
    # Laid out at load all the same, and not written down for this processor.
    assert made.facts["offline_optimization"] == "extended"
    assert not made.requires.cpu_features


def few_convolutions() -> tuple[onnx.ModelProto, Component]:
    """A convolution and ten products of matrices."""
    random = np.random.default_rng(0)
    shapes = {"patches": (16, 1, 3, 3), **{f"w{number}": (12, 12) for number in range(10)}}
    weights = [
        numpy_helper.from_array(random.standard_normal(shape).astype(np.float32) / 4, name)
        for name, shape in shapes.items()
    ]
    nodes = [helper.make_node("Conv", ["x", "patches"], ["p0"], pads=[1, 1, 1, 1])]
    for number in range(10):
        after = "y" if number == 9 else f"p{number + 1}"
        nodes.append(helper.make_node("MatMul", [f"p{number}", f"w{number}"], [after]))
    component = Component(
        "onnx", ("model.onnx",), (TensorSpec("x", "float32", ("batch", 1, 12, 12)),),
        (TensorSpec("y", "float32", ("batch", 16, 12, 12)),),
    )  # fmt: skip
    return make_model(nodes, weights, component), component


@pytest.mark.parametrize(("behind", "left"), [("a", 0), ("b", 1)])
def test_batch_norms_are_folded(behind: str, left: int, build: Builder, out: Path) -> None:
    """Into the convolution before them; one behind an activation is told."""
    random = np.random.default_rng(0)
    ones = {name: random.uniform(0.5, 1, 16).astype(np.float32) for name in "smvt"}
    weights = [
        numpy_helper.from_array(random.standard_normal((16, 1, 3, 3)).astype(np.float32), "w"),
        *(numpy_helper.from_array(value, name) for name, value in ones.items()),
    ]
    after = "n" if behind == "a" else "a"
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["a"], pads=[1, 1, 1, 1]),
        *(
            [helper.make_node("BatchNormalization", ["a", "s", "t", "m", "v"], ["n"])]
            if behind == "a"
            else []
        ),
        helper.make_node("Sigmoid", [after], ["b"]),
        helper.make_node("BatchNormalization", ["b", "s", "t", "m", "v"], ["y"])
        if behind == "b"
        else helper.make_node("Identity", ["b"], ["y"]),
    ]
    component = Component(
        "onnx", ("model.onnx",), (TensorSpec("x", "float32", ("batch", 1, 12, 12)),),
        (TensorSpec("y", "float32", ("batch", 16, 12, 12)),),
    )  # fmt: skip
    made = compile_for(build((make_model(nodes, weights, component), component)), out, "cpu-x86")
    assert made.facts["unfolded_batch_norms"] == left
    assert any("batch norm" in note for note in made.notes) is bool(left)
