"""The two engines: options, devices, and refusals."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from edgekit.core.bundle import Bundle, BundleWriter
from edgekit.core.errors import BundleCorrupt, BundleUnsafe, BundleVersion, EngineUnavailable
from edgekit.core.manifest import Component, Requires
from edgekit.runtime import load
from edgekit.runtime.engines import onnxruntime as ort_engine
from edgekit.runtime.engines import openvino as ov_engine

Make = Callable[..., Bundle]
ONES = {"a": np.ones((1, 3), np.float32), "b": np.ones((1, 3), np.float32)}


@pytest.mark.parametrize("engine", ["onnxruntime", "openvino"])
@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"speed": "fast"}, BundleVersion),
        ({"threads": 0}, BundleCorrupt),
        ({"threads": "two"}, BundleCorrupt),
        ({"device": 3}, BundleCorrupt),
    ],
)
def test_options_that_are_not_understood(
    linear_bundle: Make, engine: str, options: dict[str, object], error: type[Exception]
) -> None:
    """Options change answers: what is not understood is refused."""
    bundle = linear_bundle(requires=Requires(engine), options=options)
    with pytest.raises(error, match=next(iter(options))):
        load(bundle.path)


@pytest.mark.parametrize(
    ("engine", "options", "error"),
    [
        ("onnxruntime", {"allow_spinning": "no"}, BundleCorrupt),
        ("onnxruntime", {"graph_optimization": "most"}, BundleVersion),
        ("onnxruntime", {"session": ["a"]}, BundleCorrupt),
        ("openvino", {"performance_hint": "fast"}, BundleVersion),
        ("openvino", {"precision_hint": "int8"}, BundleVersion),
        ("openvino", {"streams": 0}, BundleCorrupt),
        ("openvino", {"allow_spinning": False}, BundleVersion),
    ],
)
def test_values_that_are_not_understood(
    linear_bundle: Make, engine: str, options: dict[str, object], error: type[Exception]
) -> None:
    """Each option takes its own kind of value."""
    bundle = linear_bundle(requires=Requires(engine), options=options)
    with pytest.raises(error, match=next(iter(options))):
        load(bundle.path)


@pytest.mark.parametrize(
    ("engine", "options"),
    [
        (
            "onnxruntime",
            {
                "device": "cpu",
                "threads": 1,
                "allow_spinning": False,
                "graph_optimization": "basic",
                "session": {"session.disable_prepacking": True},
            },
        ),
        (
            "openvino",
            {
                "device": "cpu",
                "threads": 1,
                "performance_hint": "throughput",
                "streams": 1,
                "precision_hint": "f32",
                "properties": {"ENABLE_CPU_PINNING": False},
            },
        ),
    ],
)
def test_every_option_is_taken(
    linear_bundle: Make, engine: str, options: dict[str, object]
) -> None:
    """All options together open and answer."""
    bundle = linear_bundle(requires=Requires(engine), options=options)
    with load(bundle.path) as model:
        assert model.run(ONES)["y"].tolist() == [[3, 3, 3]]
        facts = model.facts()
        assert facts["threads"] == 1
        assert facts["precision"] == "fp32"
        assert facts["version"]


@pytest.mark.parametrize(
    ("engine", "table", "key"),
    [
        ("openvino", "properties", "CACHE_DIR"),
        ("openvino", "properties", "WEIGHTS_PATH"),
        ("openvino", "properties", "LOG_LEVEL"),
        ("onnxruntime", "session", "session.optimized_model_external_initializers_file_name"),
        ("onnxruntime", "session", "ep.context_file_path"),
        ("onnxruntime", "session", "session.model_external_initializers_file_folder_path"),
        ("onnxruntime", "provider_options", "gpu_external_alloc"),
    ],
)
def test_settings_that_reach_outside_are_refused(
    linear_bundle: Make, tmp_path: Path, engine: str, table: str, key: str
) -> None:
    """A bundle must not tell an engine where to write, or what to call."""
    place = tmp_path / "place"
    bundle = linear_bundle(requires=Requires(engine), options={table: {key: str(place)}})
    with pytest.raises(BundleUnsafe, match=key):
        load(bundle.path)
    assert not place.exists()


@pytest.mark.parametrize(
    ("engine", "table"),
    [("openvino", "properties"), ("onnxruntime", "session"), ("onnxruntime", "provider_options")],
)
def test_settings_that_are_not_known_are_refused(
    linear_bundle: Make, engine: str, table: str
) -> None:
    """Only settings that are known to be harmless are passed on."""
    bundle = linear_bundle(requires=Requires(engine), options={table: {"NEW": 1}})
    with pytest.raises(BundleVersion, match="'NEW'"):
        load(bundle.path)


@pytest.mark.parametrize("start", [b"", b"\n<?xml "])
def test_graph_disguised_as_ir(linear_bundle: Make, tmp_path: Path, start: bytes) -> None:
    """ONNX in an .xml would miss the check of its external data: OpenVINO never sees it."""
    exported = linear_bundle()
    part = replace(
        exported.manifest.components["model"], format="openvino-ir", files=("model.xml",)
    )
    with BundleWriter(tmp_path / "disguised") as writer:
        hidden = writer.add("model.xml", "component")
        hidden.write_bytes(start + exported.file("model.onnx").read_bytes())
        writer.stage(
            replace(
                exported.manifest,
                components={"model": part},
                requires=Requires("openvino"),
                files=(),
            )
        )
        bundle = writer.commit()
    with pytest.raises(BundleUnsafe, match=r"model\.xml is declared as OpenVINO IR"):
        load(bundle.path)


@pytest.mark.parametrize(("hint", "precision"), [("f32", "fp32"), ("bf16", "bf16")])
def test_openvino_tells_its_precision(linear_bundle: Make, hint: str, precision: str) -> None:
    """The precision among the facts is the one OpenVINO computes in."""
    bundle = linear_bundle(requires=Requires("openvino"), options={"precision_hint": hint})
    with load(bundle.path) as model:
        assert model.facts()["precision"] == precision


def test_openvino_reads_its_ir(linear_bundle: Make, tmp_path: Path) -> None:
    """An .xml with its .bin opens; ONNX Runtime is told that it cannot."""
    ov = ov_engine.import_openvino()
    exported = linear_bundle()
    model = ov.Core().read_model(str(exported.file("model.onnx")))
    ov.save_model(model, str(tmp_path / "model.xml"), compress_to_fp16=False)
    with BundleWriter(tmp_path / "ir") as writer:
        writer.copy(tmp_path / "model.xml", "model.xml", "component")
        writer.copy(tmp_path / "model.bin", "model.bin", "weights")
        part = exported.manifest.components["model"]
        component = Component("openvino-ir", ("model.xml", "model.bin"), part.inputs, part.outputs)
        writer.stage(
            replace(
                exported.manifest,
                components={"model": component},
                requires=Requires("openvino"),
                files=(),
            )
        )
        bundle = writer.commit()
    with load(bundle.path) as opened:
        assert opened.run(ONES)["y"].tolist() == [[3, 3, 3]]
    with pytest.raises(EngineUnavailable, match="does not read openvino-ir"):
        load(bundle.path, engine="onnxruntime")


@pytest.mark.parametrize("device", ["gpu", "npu"])
def test_openvino_device_that_is_not_here(linear_bundle: Make, device: str) -> None:
    """A device that OpenVINO does not find is told with those it finds, and the driver."""
    if any(name.startswith(device.upper()) for name in ov_engine.devices()):
        pytest.skip("this machine has one")
    with pytest.raises(EngineUnavailable, match="finds CPU") as caught:
        load(linear_bundle().path, engine="openvino", device=device)
    assert "river" in str(caught.value.hint)


def test_cuda_on_a_build_without_it(linear_bundle: Make) -> None:
    """A CPU build asked for CUDA is EngineUnavailable, never a silent CPU session."""
    if "CUDAExecutionProvider" in ort_engine.devices():
        pytest.skip("this is a CUDA build")
    with pytest.raises(EngineUnavailable, match="no CUDAExecutionProvider") as caught:
        load(linear_bundle().path, device="cuda")
    assert "[cuda]" in str(caught.value.hint)
    recorded = linear_bundle("recorded", options={"device": "cuda"})
    with pytest.raises(EngineUnavailable):
        load(recorded.path)


def test_cuda_build_without_libraries(linear_bundle: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    """onnxruntime-gpu without CUDA gives a CPU session with a log line: that is refused too."""
    real = ort_engine.import_onnxruntime()
    asked: list[object] = []

    def create(path: str, settings: object, *, providers: list[object]) -> object:
        asked.extend(providers)
        return real.InferenceSession(path, settings, providers=["CPUExecutionProvider"])

    fake = SimpleNamespace(
        **{
            **vars(real),
            "InferenceSession": create,
            "get_available_providers": lambda: ["CUDAExecutionProvider", "CPUExecutionProvider"],
        }
    )
    monkeypatch.setattr(ort_engine, "import_onnxruntime", lambda: fake)
    bundle = linear_bundle(options={"device": "cuda", "provider_options": {"use_tf32": True}})
    with pytest.raises(EngineUnavailable, match="gave CPUExecutionProvider") as caught:
        load(bundle.path)
    assert "NVIDIA" in str(caught.value.hint)
    assert asked[0] == ("CUDAExecutionProvider", {"use_tf32": "1"})


@pytest.mark.parametrize("engine", ["onnxruntime", "openvino"])
def test_graph_that_does_not_load(linear_bundle: Make, tmp_path: Path, engine: str) -> None:
    """A graph that the engine rejects is BundleCorrupt in one line, without source paths."""
    good = linear_bundle()
    broken = good.file("model.onnx").read_bytes().replace(b"Mul", b"Mux")
    with BundleWriter(tmp_path / "broken") as writer:
        writer.add("model.onnx", "component").write_bytes(broken)
        writer.stage(replace(good.manifest, files=()))
        bundle = writer.commit()
    with pytest.raises(BundleCorrupt, match=r"does not load model\.onnx") as caught:
        load(bundle.path, engine=engine)
    assert "Mux" in caught.value.message


def test_newer_onnx_than_the_engine_reads(linear_bundle: Make, tmp_path: Path) -> None:
    """A graph of a newer ONNX is the engine's age, not the bundle's fault."""
    import onnx

    good = linear_bundle()
    model = onnx.load(str(good.file("model.onnx")))
    model.ir_version = 999
    with BundleWriter(tmp_path / "newer") as writer:
        path = writer.add("model.onnx", "component")
        path.write_bytes(model.SerializeToString())
        writer.stage(replace(good.manifest, files=()))
        bundle = writer.commit()
    with pytest.raises(EngineUnavailable, match="too old"):
        load(bundle.path)


@pytest.mark.parametrize("engine", ["onnxruntime", "openvino"])
@pytest.mark.parametrize("side", ["inputs", "outputs"])
def test_manifest_and_graph_disagree(
    linear_bundle: Make, tmp_path: Path, engine: str, side: str
) -> None:
    """Names that the graph does not have are found when it is opened."""
    good = linear_bundle()
    part = good.manifest.components["model"]
    first, *others = getattr(part, side)
    wrong = replace(part, **{side: (replace(first, name="other"), *others)})
    with BundleWriter(tmp_path / "wrong") as writer:
        writer.copy(good.file("model.onnx"), "model.onnx", "component")
        writer.stage(replace(good.manifest, components={"model": wrong}, files=()))
        bundle = writer.commit()
    with pytest.raises(BundleCorrupt, match="Export the bundle again"):
        load(bundle.path, engine=engine)
