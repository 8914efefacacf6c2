"""The whole of compile on a tiny graph: what is compared, recorded and refused."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import edgekit
from edgekit.cli.console import Console
from edgekit.cli.main import cli
from edgekit.compilers.records import Choice
from edgekit.core.bundle import Bundle, BundleWriter, open_bundle
from edgekit.core.errors import (
    BudgetNotMet,
    BundleCorrupt,
    BundleUnsafe,
    CompileError,
    ConfigError,
    EngineUnavailable,
    MissingDependency,
    SessionError,
)
from edgekit.core.manifest import Golden, Manifest, Requires
from edgekit.graph.openvino import convert
from edgekit.pipeline import compilation, compiling
from edgekit.runtime.golden import GOLDEN_NAME, read, write
from edgekit.runtime.opening import open_session
from tests.compilers.conftest import Builder, attention_model, feeds

LENGTH = 9


def with_golden(bundle: Bundle, *, off: float = 0.0, **changes: object) -> Bundle:
    """The bundle with golden values: its own answers, the first of each row `off`."""
    inputs = feeds(2, LENGTH)
    session = open_session(bundle, threads=1)
    answers = session.run(inputs)
    session.close()
    reference = {name: array.copy() for name, array in answers.items()}
    for array in reference.values():
        array[:, 0] += off
    with BundleWriter(bundle.path.with_name("golden")) as writer:
        writer.copy(bundle.file("model.onnx"), "model.onnx", "component")
        write(writer.add(GOLDEN_NAME, "golden"), inputs, reference, answers)
        writer.stage(replace(bundle.manifest, golden=Golden(GOLDEN_NAME), files=(), **changes))
        return writer.commit()


def compile_here(bundle: Bundle, output: Path, **options: object) -> Manifest:
    """Compile for this machine's ONNX Runtime with one thread: nothing to choose by measuring."""
    given = {"target": "host", "engine": "onnxruntime", "threads": 1, **options}
    edgekit.compile(bundle.path, output, **given)
    return open_bundle(output).manifest


def test_padded_texts_are_compared_with_pytorch(build: Builder, tmp_path: Path) -> None:
    """A longer static length leaves the answers for the text's own tokens comparable."""
    bundle = with_golden(build(attention_model()))
    static = {"batch": 1, "sequence": 16}
    manifest = compile_here(bundle, tmp_path / "c", static=static)
    assert manifest.steps[-1].facts["compared"] == "PyTorch"
    assert read(tmp_path / "c" / GOLDEN_NAME).expected["last_hidden_state"].shape[:2] == (1, 16)
    with edgekit.load(tmp_path / "c") as model:
        assert all(row.passed for row in model.selftest())


def test_padded_texts_that_answer_differently_are_refused(build: Builder, tmp_path: Path) -> None:
    """Padding does not hide an answer that left PyTorch's tolerance."""
    bundle = with_golden(build(attention_model()), off=0.5)
    with pytest.raises(CompileError, match="differently from PyTorch: last_hidden_state"):
        compile_here(bundle, tmp_path / "c", static={"sequence": 16})
    assert not (tmp_path / "c").exists()


def test_cut_texts_are_compared_with_the_source(build: Builder, tmp_path: Path) -> None:
    """PyTorch's answers say nothing of cut texts: the bundle that is compiled is asked instead."""
    bundle = with_golden(build(attention_model()), off=0.5)
    manifest = compile_here(bundle, tmp_path / "c", static={"sequence": 4})
    assert manifest.steps[-1].facts["compared"] == "source bundle"
    assert read(tmp_path / "c" / GOLDEN_NAME).reference == {}


def test_cut_texts_that_answer_differently_are_refused(
    build: Builder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The source bundle's answers bind as PyTorch's do."""
    bundle = with_golden(build(attention_model()))

    def other(job: object, inputs: Mapping[str, np.ndarray], whose: str) -> dict[str, np.ndarray]:
        return {"last_hidden_state": np.zeros((2, 4, 16), dtype=np.float32)}

    monkeypatch.setattr(compilation.Compilation, "_source_answers", other)
    with pytest.raises(CompileError, match="differently from the bundle it is made of"):
        compile_here(bundle, tmp_path / "c", static={"sequence": 4})


@pytest.mark.parametrize("golden", [True, False])
def test_nothing_compared_is_said(
    build: Builder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, golden: bool
) -> None:
    """Where neither PyTorch nor the source bundle can be asked, the step and a note say so."""

    def first(folder: Path, part: object, inputs: object, found, **settings: object) -> Choice:
        return Choice(found[0].options, {})

    monkeypatch.setattr(compilation, "tune", first)
    bundle = build(attention_model())
    if golden:
        # Its own engine is too new for this machine; the target's is here.
        bundle = with_golden(bundle, requires=Requires("onnxruntime", "99.0", extras=("ort",)))
    told: list[str] = []
    manifest = compile_here(
        bundle,
        tmp_path / "c",
        engine="openvino",
        static={"sequence": 4},
        progress=told.append,
    )
    facts = manifest.steps[-1].facts
    assert facts["compared"] == "none"
    assert str(tmp_path) not in str(facts)
    assert told[-1] == f"Of its answers none were compared: {facts['compared_reason']}."


def test_threads_and_workload_are_recorded(build: Builder, tmp_path: Path) -> None:
    """What the options were chosen for stands in the bundle."""
    manifest = compile_here(with_golden(build(attention_model())), tmp_path / "c", batch=2)
    assert manifest.runtime.options["threads"] == 1
    assert manifest.runtime.chosen_by["threads"] == 1
    assert manifest.runtime.chosen_by["workload"]["batch"] == 2
    step = manifest.steps[-1].options
    assert (step["batch"], step["length"], step["threads"]) == (2, None, 1)


def test_a_model_beyond_the_targets_size_is_refused(build: Builder, tmp_path: Path) -> None:
    """Both figures and the remedy are named, and nothing is left behind."""
    bundle = build(attention_model())
    small = "limits.size_mb=0.001"
    with pytest.raises(BudgetNotMet, match=r"allows 0\.001 MB.*--set limits\.size_mb=1\.$"):
        compile_here(bundle, tmp_path / "c", overrides=[small])
    assert not (tmp_path / "c").exists()
    compile_here(bundle, tmp_path / "c", overrides=["limits.size_mb=1"])


@pytest.mark.parametrize(
    "error", [BundleCorrupt("It does not load."), SessionError("It fails."), RuntimeError("ort")]
)
def test_a_refused_artifact_is_a_compile_error(
    build: Builder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    """Where the device is here, an engine's refusal of what was compiled is compile's failure."""

    def refuse(*given: object, **options: object) -> None:
        raise error

    monkeypatch.setattr(compiling, "open_session", refuse)
    with pytest.raises(CompileError, match=str(error).partition(".")[0]):
        compile_here(build(attention_model()), tmp_path / "c")
    assert not (tmp_path / "c").exists()


def test_a_missing_device_is_no_failure(
    build: Builder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only what the machine lacks lets a bundle be built without being run."""

    def lack(*given: object, **options: object) -> None:
        raise EngineUnavailable("There is no such device.")

    monkeypatch.setattr(compiling, "open_session", lack)
    manifest = compile_here(build(attention_model()), tmp_path / "c")
    assert manifest.evidence == {"run_on": None}
    assert manifest.steps[-1].facts["not_run"] == "There is no such device."


@pytest.mark.parametrize("step", ["tune", "answer"])
def test_an_artifact_that_does_not_run_is_a_compile_error(
    build: Builder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    """A session that opens and then fails fails the compilation."""

    def fail(*given: object, **options: object) -> None:
        raise SessionError("The kernel failed.")

    if step == "tune":
        monkeypatch.setattr(compilation, "tune", fail)
    else:
        monkeypatch.setattr(compilation.Compilation, "_golden", fail)
    with pytest.raises(CompileError, match="The kernel failed"):
        compile_here(build(attention_model()), tmp_path / "c")


@pytest.mark.parametrize(("engine", "extra"), [("openvino", "openvino"), ("onnxruntime", "ort")])
def test_a_missing_engine_is_named(
    build: Builder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, engine: str, extra: str
) -> None:
    """Without the target's engine the pip line is the answer."""
    bundle = build(attention_model())
    target = "openvino-cpu" if engine == "openvino" else "cpu-x86"
    monkeypatch.setitem(sys.modules, engine, None)
    with pytest.raises(MissingDependency) as caught:
        edgekit.compile(bundle.path, tmp_path / "c", target=target)
    assert f"[{extra}]" in str(caught.value.hint)


def test_a_damaged_input_stays_a_bundle_error(build: Builder, tmp_path: Path) -> None:
    """Golden values that cannot be read are the input's fault, not the compilation's."""
    good = build(attention_model())
    with BundleWriter(tmp_path / "damaged") as writer:
        writer.copy(good.file("model.onnx"), "model.onnx", "component")
        writer.add(GOLDEN_NAME, "golden").write_bytes(b"nothing")
        writer.stage(replace(good.manifest, golden=Golden(GOLDEN_NAME), files=()))
        bundle = writer.commit()
    with pytest.raises(BundleCorrupt, match="cannot be read"):
        compile_here(bundle, tmp_path / "c")


@pytest.mark.parametrize(
    ("target", "override"),
    [
        ("openvino-cpu", 'options.openvino.properties.CACHE_DIR="/tmp"'),
        ("cpu-x86", 'options.onnxruntime.session={"ep.context_file_path"="/tmp"}'),
        ("cuda", "options.onnxruntime.provider_options.gpu_external_alloc=1"),
    ],
)
def test_settings_a_bundle_must_not_hold_are_refused(
    build: Builder, tmp_path: Path, target: str, override: str
) -> None:
    """A profile cannot put into a bundle what the runtime would refuse."""
    with pytest.raises(ConfigError, match="does not pass on"):
        edgekit.compile(
            build(attention_model()).path, tmp_path / "c", target=target, overrides=[override]
        )


def test_a_graph_named_like_an_ir_is_not_converted(build: Builder, tmp_path: Path) -> None:
    """OpenVINO does not see an ONNX graph that is hidden in an .xml."""
    bundle = build(attention_model())
    hidden = tmp_path / "hidden.xml"
    hidden.write_bytes(bundle.file("model.onnx").read_bytes())
    part = bundle.manifest.components["model"]
    with pytest.raises(BundleUnsafe, match=r"hidden\.xml"):
        convert(hidden, tmp_path / "out.xml", inputs=part.inputs, outputs=part.outputs)


@pytest.mark.parametrize(("sequence", "said"), [(16, "PyTorch"), (4, "source bundle")])
def test_the_command_tells_what_was_compared(
    build: Builder, tmp_path: Path, capsys: pytest.CaptureFixture[str], sequence: int, said: str
) -> None:
    """A person reads whom the answers were compared with."""
    bundle = with_golden(build(attention_model()))
    words = ["compile", str(bundle.path), "-o", str(tmp_path / "c"), "--engine", "onnxruntime"]
    static = ["--static", f"sequence={sequence}", "--threads", "1"]
    # Not main(): it would leave its signal handler behind in this process.
    cli.main([*words, *static], standalone_mode=False, obj=Console(json_output=False))
    assert f"Run on this machine, compared with {said};" in capsys.readouterr().out
