"""OpenVINO: its own IR, or an ONNX file read directly, on CPU, GPU or NPU.

Options of ``runtime.options``: ``threads``, ``performance_hint`` (latency, throughput),
``streams``, ``precision_hint`` (f32, bf16, f16; without it the device's own choice),
``properties`` (OpenVINO's own property names, those of `PROPERTIES`).
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from threading import Lock
from types import ModuleType
from typing import TYPE_CHECKING

import numpy as np

from edgekit.core.errors import (
    BundleCorrupt,
    BundleUnsafe,
    EdgekitError,
    EngineUnavailable,
    SessionError,
)
from edgekit.core.lazy import require
from edgekit.core.manifest import Component, TensorSpec
from edgekit.runtime.caches import Decoding, PlainDecoding
from edgekit.runtime.engines._options import Options
from edgekit.runtime.engines._stateful import OpenVinoDecoding, States
from edgekit.runtime.engines._stateful import short_reason as short_reason
from edgekit.runtime.session import Array, Fact

if TYPE_CHECKING:
    import openvino as ov

FORMATS = ("openvino-ir", "onnx")
DEVICES = ("cpu", "gpu", "npu")
EXACT_OPTIONS: Mapping[str, object] = {"precision_hint": "f32"}

_TELEMETRY = "openvino_telemetry"
_OPTIONS = frozenset({"threads", "performance_hint", "streams", "precision_hint", "properties"})
# Properties that tune a device and neither name a file nor reach beyond this process; what has an
# option of its own above is not among them (OpenVINO documentation, "Supported Properties").
PROPERTIES = frozenset(
    {
        "ACTIVATIONS_SCALE_FACTOR", "ALLOW_AUTO_BATCHING", "AUTO_BATCH_TIMEOUT",
        "COMPILATION_NUM_THREADS", "CPU_DENORMALS_OPTIMIZATION",
        "CPU_SPARSE_WEIGHTS_DECOMPRESSION_RATE", "DYNAMIC_QUANTIZATION_GROUP_SIZE",
        "ENABLE_CPU_PINNING", "ENABLE_CPU_RESERVATION", "ENABLE_HYPER_THREADING", "ENABLE_MMAP",
        "ENABLE_TENSOR_PARALLEL", "EXECUTION_MODE_HINT", "GPU_DISABLE_WINOGRAD_CONVOLUTION",
        "GPU_ENABLE_LOOP_UNROLLING", "GPU_HOST_TASK_PRIORITY", "GPU_QUEUE_PRIORITY",
        "GPU_QUEUE_THROTTLE", "KEY_CACHE_GROUP_SIZE", "KEY_CACHE_PRECISION", "KV_CACHE_PRECISION",
        "MODEL_DISTRIBUTION_POLICY", "MODEL_PRIORITY", "NPU_TILES", "NPU_TURBO", "PERF_COUNT",
        "PERFORMANCE_HINT_NUM_REQUESTS", "SCHEDULING_CORE_TYPE", "VALUE_CACHE_GROUP_SIZE",
        "VALUE_CACHE_PRECISION",
    }
)  # fmt: skip
_HINTS = {"latency": "LATENCY", "throughput": "THROUGHPUT"}
_PRECISIONS = {"f32": "f32", "bf16": "bf16", "f16": "f16", "": ""}
_EFFECTIVE = {"float32": "fp32", "bfloat16": "bf16", "float16": "fp16"}
_DRIVERS = {
    "cpu": "OpenVINO's CPU plugin did not load: run pip install --force-reinstall openvino",
    "gpu": "Install the GPU's compute driver (intel-opencl-icd, level-zero), or load it with"
    " device='cpu'.",
    "npu": "Install the NPU's driver (intel-level-zero-npu), or load it with device='cpu'.",
}


def import_openvino() -> ModuleType:
    """The module `openvino`, its telemetry off. The one place that imports it.

    Importing it with `openvino_telemetry` installed writes two files under the home folder and
    tries the network from a child process; its packages fall back to a stub when that import fails.

    Raises MissingDependency.
    """
    loaded = sys.modules.get("openvino")
    if loaded is not None:
        return loaded
    with telemetry_hidden():
        return require("openvino", "openvino")


@contextmanager
def telemetry_hidden() -> Iterator[None]:
    """Make `import openvino_telemetry` fail meanwhile, unless somebody has imported it already."""
    hidden = _TELEMETRY not in sys.modules
    if hidden:
        # None in sys.modules makes an import raise ImportError.
        sys.modules[_TELEMETRY] = None  # type: ignore[assignment]
    try:
        yield
    finally:
        if hidden:
            del sys.modules[_TELEMETRY]


def version() -> str:
    """The release of OpenVINO, like 2026.4.1. Raises MissingDependency."""
    return str(import_openvino().__version__).partition("-")[0]


def devices() -> list[str]:
    """The devices that OpenVINO finds on this machine. Raises MissingDependency."""
    return [str(name) for name in import_openvino().Core().available_devices]


def open_session(
    bundle_dir: Path,
    component: Component,
    *,
    options: Mapping[str, object],
    device: str,
    threads: int | None,
) -> OpenVinoSession:
    """See `edgekit.runtime.session.Engine.open_session`."""
    ov = import_openvino()
    read = Options("openvino", options, _OPTIONS)
    count = read.threads(threads)
    core = ov.Core()
    _check_device(core, device)
    settings = {"PERFORMANCE_HINT": read.choice("performance_hint", _HINTS, "latency")}
    precision = read.choice("precision_hint", _PRECISIONS, "")
    if precision:
        settings["INFERENCE_PRECISION_HINT"] = precision
    streams = read.count("streams")
    if streams is not None:
        settings["NUM_STREAMS"] = str(streams)
    if device == "cpu":
        settings["INFERENCE_NUM_THREADS"] = str(count)
    settings.update(read.pairs("properties", PROPERTIES))
    path = bundle_dir / component.files[0]
    if component.format == "openvino-ir":
        check_ir(path)
    states = States(ov, component)
    if states.pairs and device == "cpu":
        # By itself it keeps keys and values in 8 bits: not what the bundle was verified with.
        settings = {"KV_CACHE_PRECISION": precision or "f32", **settings}
    try:
        model = core.read_model(str(path))
        if component.outputs:
            _check_inputs(model, component)
        if states.pairs:
            states.prepare(model)
        compiled = core.compile_model(model, device.upper(), settings)
    except EdgekitError:
        raise
    except Exception as error:  # OpenVINO raises RuntimeError, TypeError and its own
        raise BundleCorrupt(
            f"OpenVINO {version()} does not load {path.name} on {device}: {short_reason(error)}",
            hint="Compile the bundle again for this device.",
        ) from error
    if not component.outputs:
        inputs, outputs = _ports(compiled)
        component = replace(component, inputs=inputs, outputs=outputs)
    return OpenVinoSession(compiled, component, states, device, version())


def graph_specs(path: Path) -> tuple[tuple[TensorSpec, ...], tuple[TensorSpec, ...]]:
    """(inputs, outputs) of an IR that no manifest describes.

    Raises MissingDependency, BundleUnsafe, BundleCorrupt.
    """
    ov = import_openvino()
    check_ir(path)
    try:
        return _ports(ov.Core().read_model(str(path)))
    except Exception as error:  # OpenVINO raises RuntimeError, TypeError and its own
        raise BundleCorrupt(
            f"OpenVINO {version()} does not load {path.name}: {short_reason(error)}",
            hint="Convert the model again.",
        ) from error


def _ports(
    model: ov.Model | ov.CompiledModel,
) -> tuple[tuple[TensorSpec, ...], tuple[TensorSpec, ...]]:
    inputs = tuple(_spec(port) for port in model.inputs)
    return inputs, tuple(_spec(port) for port in model.outputs)


def _spec(port: ov.Output) -> TensorSpec:
    """A graph's input or output; IR gives varying dimensions no names."""
    name = str(port.get_any_name())
    shape = [
        int(size.get_length()) if size.is_static else "batch" if axis == 0 else f"{name}.{axis}"
        for axis, size in enumerate(port.get_partial_shape())
    ]
    return TensorSpec(name, np.dtype(port.get_element_type().to_dtype()).name, tuple(shape))


class OpenVinoSession:
    """A compiled OpenVINO model with one infer request per call that is running."""

    engine = "openvino"

    def __init__(
        self,
        compiled: ov.CompiledModel,
        component: Component,
        states: States,
        device: str,
        version: str,
    ) -> None:
        self.device = device
        self.inputs = component.inputs
        self.outputs = component.outputs
        self._states = states if states.pairs else None
        self._ports = _output_ports(compiled, component, states)
        self._compiled: ov.CompiledModel | None = compiled
        # An infer request serves one call at a time: a call takes one out and puts it back.
        self._lock = Lock()
        self._idle: list[ov.InferRequest] = [_first_request(compiled, component)]
        self._facts = _facts(compiled, version)

    def run(self, feeds: Mapping[str, Array]) -> dict[str, Array]:
        """See `edgekit.runtime.session.Session.run`."""
        request = self._take()
        states = self._states
        try:
            if states is not None:
                feeds = states.fill(request, feeds)
            request.infer(feeds, share_inputs=True, share_outputs=True)
            # The request's own memory is used again by its next call.
            outputs = {
                name: np.array(request.get_output_tensor(port).data) for name, port in self._ports
            }
            if states is not None:
                outputs |= states.read(request)
        except Exception as error:
            raise SessionError(
                f"OpenVINO could not run the graph: {short_reason(error)}"
            ) from error
        self._give_back(request)
        return outputs

    def decoding(self, batch: int, given: Mapping[str, Array]) -> Decoding:
        """See `edgekit.runtime.caches.start_decoding`."""
        if self._states is None:
            return PlainDecoding(self, batch, given)
        request = self._take()
        first = dict(self._ports)[self.outputs[0].name]
        return OpenVinoDecoding(
            import_openvino(), request, batch, given, first, self._give_back, self._is_closed
        )

    def _take(self) -> ov.InferRequest:
        """An infer request that nobody uses."""
        with self._lock:
            compiled = self._compiled
            request = self._idle.pop() if self._idle else None
        if compiled is None:
            raise SessionError("The session is closed.", hint="Load the bundle again.")
        return request or compiled.create_infer_request()

    def _is_closed(self) -> bool:
        return self._compiled is None

    def _give_back(self, request: ov.InferRequest) -> None:
        with self._lock:
            if self._compiled is not None:
                self._idle.append(request)

    def facts(self) -> dict[str, Fact]:
        """See `edgekit.runtime.session.Session.facts`."""
        return dict(self._facts)

    def close(self) -> None:
        """See `edgekit.runtime.session.Session.close`."""
        with self._lock:
            self._compiled = None
            self._idle.clear()


def check_ir(path: Path) -> None:
    """Raise BundleUnsafe when a file that should be an IR is not XML.

    OpenVINO goes by a file's content. An ONNX graph under another name would miss the check of
    where its external data lie. No ONNX file begins with "<": protobuf has no such field.
    """
    with path.open("rb") as file:
        start = file.read(5)
    if path.suffix != ".xml" or start not in (b"<?xml", b"<net "):
        raise BundleUnsafe(
            f"{path.name} is declared as OpenVINO IR and is no .xml file of that format.",
            hint="Do not use this bundle; get it again from where it was made.",
        )


def _first_request(compiled: ov.CompiledModel, component: Component) -> ov.InferRequest:
    try:
        return compiled.create_infer_request()
    except Exception as error:
        raise SessionError(
            f"OpenVINO cannot start {component.files[0]}: {short_reason(error)}",
            hint="Free some memory, or compile the bundle again for this device.",
        ) from error


def _check_device(core: ov.Core, device: str) -> None:
    if device not in DEVICES:
        raise EngineUnavailable(
            f"The openvino engine has no device {device!r}.",
            hint=f"Its devices: {', '.join(DEVICES)}.",
        )
    available = [str(name) for name in core.available_devices]
    # A machine with two GPUs has GPU.0 and GPU.1.
    if not any(name.partition(".")[0] == device.upper() for name in available):
        raise EngineUnavailable(
            f"OpenVINO finds no {device.upper()} here; it finds {', '.join(available) or 'none'}.",
            hint=_DRIVERS[device],
        )


def _check_inputs(model: ov.Model, component: Component) -> None:
    held = {name for port in model.inputs for name in port.get_names()}
    missing = [spec.name for spec in component.inputs if spec.name not in held]
    if missing or len(model.inputs) != len(component.inputs):
        raise BundleCorrupt(
            f"The manifest and {component.files[0]} disagree about the inputs: the graph has"
            f" {', '.join(sorted(held))}.",
            hint="Export the bundle again.",
        )


def _output_ports(
    compiled: ov.CompiledModel, component: Component, states: States
) -> list[tuple[str, int]]:
    """Those that are no states, and where they stand among the compiled model's."""
    index = {name: at for at, port in enumerate(compiled.outputs) for name in port.get_names()}
    outputs = [spec for spec in component.outputs if spec.name not in states.outputs]
    for spec in outputs:
        if spec.name not in index:
            raise BundleCorrupt(
                f"{component.files[0]} has no output {spec.name!r}; it has"
                f" {', '.join(sorted(index))}.",
                hint="Export the bundle again.",
            )
    return [(spec.name, index[spec.name]) for spec in outputs]


def _facts(compiled: ov.CompiledModel, version: str) -> dict[str, Fact]:
    def ask(name: str) -> object:
        try:
            return compiled.get_property(name)
        except Exception:  # not every plugin has every property
            return None

    facts: dict[str, Fact] = {"version": version}
    devices = ask("EXECUTION_DEVICES")
    if isinstance(devices, list):
        facts["provider"] = ", ".join(map(str, devices))
    precision = ask("INFERENCE_PRECISION_HINT")
    if precision is not None:
        name = str(precision.get_type_name()) if hasattr(precision, "get_type_name") else ""
        name = {"f32": "float32", "bf16": "bfloat16", "f16": "float16"}.get(name, name)
        facts["precision"] = _EFFECTIVE.get(name, name)
    for key, name in (("threads", "INFERENCE_NUM_THREADS"), ("streams", "NUM_STREAMS")):
        value = ask(name)
        if value is not None:
            facts[key] = int(str(value))
    return facts
