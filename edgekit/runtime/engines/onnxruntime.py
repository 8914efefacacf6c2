"""ONNX Runtime, on the CPU and on CUDA.

Options of ``runtime.options``: ``threads`` (intra-op), ``allow_spinning``, ``graph_optimization``
(none, basic, extended, all: what is applied at load), ``session`` (ONNX Runtime's own session
config entries, those of `SESSION_ENTRIES`), ``provider_options`` (of the CUDA provider, those of
`PROVIDER_OPTIONS`).
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from threading import Lock, Thread
from types import ModuleType
from typing import TYPE_CHECKING
from weakref import WeakSet

import numpy as np

from edgekit.core.errors import BundleCorrupt, EdgekitError, EngineUnavailable, SessionError
from edgekit.core.lazy import install_line, require
from edgekit.core.manifest import Component, TensorSpec
from edgekit.runtime.caches import IDS, Decoding, buffered, cache_pairs
from edgekit.runtime.engines._onnxruntime_caches import (
    BufferedCache,
    GrowingCache,
    refused,
)
from edgekit.runtime.engines._onnxruntime_rows import (
    each_row,
    put,
    room_for,
    run_apart,
    whole_cache,
)
from edgekit.runtime.engines._options import Options
from edgekit.runtime.session import Array, Fact

if TYPE_CHECKING:
    from onnxruntime import InferenceSession, NodeArg, SessionOptions

FORMATS = ("onnx",)
DEVICES = ("cpu", "cuda")
EXACT_OPTIONS: Mapping[str, object] = {}

_PROVIDERS = {"cpu": "CPUExecutionProvider", "cuda": "CUDAExecutionProvider"}
_OPTIONS = frozenset(
    {"threads", "allow_spinning", "graph_optimization", "session", "provider_options"}
)
# Entries that tune a session and neither name a file nor reach beyond this process (ONNX Runtime,
# onnxruntime_session_options_config_keys.h).
SESSION_ENTRIES = frozenset(
    {
        "mlas.enable_gemm_fastmath_arm64_bfloat16", "optimization.disable_specified_optimizers",
        "optimization.enable_cast_chain_elimination", "optimization.enable_gelu_approximation",
        "session.disable_aot_function_inlining", "session.disable_cpu_ep_fallback",
        "session.disable_double_qdq_remover", "session.disable_prepacking",
        "session.disable_qdq_constant_folding", "session.dynamic_block_base",
        "session.enable_quant_qdq_cleanup", "session.force_spinning_stop",
        "session.inter_op.allow_spinning", "session.intra_op.allow_spinning",
        "session.intra_op_thread_affinities", "session.qdq_matmulnbits_accuracy_level",
        "session.qdqisint8allowed", "session.set_denormal_as_zero",
        "session.use_device_allocator_for_initializers", "session.x64quantprecision",
    }
)  # fmt: skip
# Without those that take an address in memory (user_compute_stream, gpu_external_alloc, …).
PROVIDER_OPTIONS = frozenset(
    {
        "arena_extend_strategy", "cudnn_conv1d_pad_to_nc1d", "cudnn_conv_algo_search",
        "cudnn_conv_use_max_workspace", "device_id", "do_copy_in_default_stream",
        "enable_cuda_graph", "enable_skip_layer_norm_strict_mode", "fuse_conv_bias",
        "gpu_mem_limit", "prefer_nhwc", "sdpa_kernel", "tunable_op_enable",
        "tunable_op_max_tuning_duration_ms", "tunable_op_tuning_enable",
        "use_ep_level_unified_stream", "use_tf32",
    }
)  # fmt: skip
_LEVELS = {
    "none": "ORT_DISABLE_ALL",
    "basic": "ORT_ENABLE_BASIC",
    "extended": "ORT_ENABLE_EXTENDED",
    "all": "ORT_ENABLE_ALL",
}
# The types whose names are not numpy's.
_TYPES = {"float": "float32", "double": "float64"}
# What it says of a model that is newer than itself.
_TOO_OLD = ("Unsupported model IR version", "is till opset")
_QUIET = 4  # only fatal messages: everything else comes back as an exception


def _cuda_remedy() -> str:
    return (
        "On a machine with an NVIDIA GPU run: pip uninstall -y onnxruntime onnxruntime-gpu &&"
        f" {install_line('cuda')}. Elsewhere load it with device='cpu'."
    )


def import_onnxruntime() -> ModuleType:
    """The module `onnxruntime`, its telemetry off. The one place that imports it.

    Its wheels (1.29 and later) send usage data and write under the user's cache folder unless
    ORT_DISABLE_TELEMETRY is set before the import. A value the user has set is left alone.

    Raises MissingDependency.
    """
    loaded = sys.modules.get("onnxruntime")
    if loaded is not None:
        return loaded
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
    return require("onnxruntime", "ort")


def version() -> str:
    """The version of ONNX Runtime. Raises MissingDependency."""
    return str(import_onnxruntime().__version__)


def devices() -> list[str]:
    """The providers of this build, whether or not their hardware is here. MissingDependency."""
    return [str(name) for name in import_onnxruntime().get_available_providers()]


def open_session(
    bundle_dir: Path,
    component: Component,
    *,
    options: Mapping[str, object],
    device: str,
    threads: int | None,
) -> OnnxRuntimeSession:
    """See `edgekit.runtime.session.Engine.open_session`."""
    ort = import_onnxruntime()
    wanted = _provider(ort, device)
    read = Options("onnxruntime", options, _OPTIONS)
    count = read.threads(threads)
    settings = _session_options(ort, read, count)
    providers: list[object] = [_PROVIDERS["cpu"]]
    given = read.pairs("provider_options", PROVIDER_OPTIONS)
    if device == "cuda":
        # TF32 keeps 10 bits of the mantissa: not what a float32 bundle was verified with.
        providers.insert(0, (wanted, {"use_tf32": "0", **given}))
    path = bundle_dir / component.files[0]
    session = _create(ort, path, settings, providers)
    obtained = session.get_providers()
    if not obtained or obtained[0] != wanted:
        raise EngineUnavailable(
            f"ONNX Runtime was asked for {wanted} and gave {', '.join(obtained)}: the"
            " provider's libraries (CUDA, cuDNN) or the GPU are missing.",
            hint=_cuda_remedy(),
        )
    if not component.outputs:
        component = replace(component, inputs=_inputs(session), outputs=_outputs(session))
    _check_names(component, session)
    return OnnxRuntimeSession(session, component, device, wanted, count, str(ort.__version__))


def graph_specs(path: Path) -> tuple[tuple[TensorSpec, ...], tuple[TensorSpec, ...]]:
    """(inputs, outputs) of an ONNX file that no manifest describes.

    Raises MissingDependency, EngineUnavailable, BundleCorrupt.
    """
    ort = import_onnxruntime()
    settings = ort.SessionOptions()
    settings.log_severity_level = _QUIET
    settings.intra_op_num_threads = 1
    # Nothing is run: optimising would only take time and memory.
    settings.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = _create(ort, path, settings, [_PROVIDERS["cpu"]])
    return _inputs(session), _outputs(session)


def _inputs(session: InferenceSession) -> tuple[TensorSpec, ...]:
    return tuple(_spec(value) for value in session.get_inputs())


def _outputs(session: InferenceSession) -> tuple[TensorSpec, ...]:
    return tuple(_spec(value) for value in session.get_outputs())


def _spec(value: NodeArg) -> TensorSpec:
    """A graph's input or output; a dimension without a name gets one of its own."""
    shape = [
        size if isinstance(size, (int, str)) else "batch" if axis == 0 else f"{value.name}.{axis}"
        for axis, size in enumerate(value.shape)
    ]
    inside = value.type.removeprefix("tensor(").removesuffix(")")
    return TensorSpec(value.name, _TYPES.get(inside, inside), tuple(shape))


class OnnxRuntimeSession:
    """An opened ONNX graph; ONNX Runtime's `run` is safe from many threads."""

    engine = "onnxruntime"

    def __init__(
        self,
        session: InferenceSession,
        component: Component,
        device: str,
        provider: str,
        threads: int,
        version: str,
    ) -> None:
        self.device = device
        self.inputs = component.inputs
        self.outputs = component.outputs
        self._names = [spec.name for spec in component.outputs]
        self._session: InferenceSession | None = session
        # One of the inputs that are buffers of a cache, where they are.
        self._buffered = buffered(component.inputs, component.outputs)
        # They hold on to ONNX Runtime's session.
        self._decodings: WeakSet[BufferedCache] = WeakSet()
        self._lock = Lock()
        self._facts: dict[str, Fact] = {
            "version": version,
            "provider": provider,
            "threads": threads,
            # Kernels compute in the types that the graph holds.
            "precision": "fp32",
        }

    def run(self, feeds: Mapping[str, Array]) -> dict[str, Array]:
        """See `edgekit.runtime.session.Session.run`."""
        session = self.opened()
        past = None if self._buffered is None else feeds.get(self._buffered)
        held = past.shape[2] if past is not None and past.ndim == 4 else 0
        if past is None or not run_apart(feeds, held):
            return self._answer(session, feeds)
        return self._answer_rows(session, feeds, held)

    def decoding(self, batch: int, given: Mapping[str, Array]) -> Decoding:
        """See `edgekit.runtime.caches.start_decoding`."""
        self.opened()
        value = import_onnxruntime().OrtValue.ortvalue_from_numpy
        if self._buffered is None:
            return GrowingCache(self, value, batch, given)
        made = BufferedCache(self, value, batch, given)
        with self._lock:
            self._decodings.add(made)
        return made

    def opened(self) -> InferenceSession:
        """ONNX Runtime's own session. Raises SessionError when this one is closed."""
        session = self._session
        if session is None:
            raise SessionError("The session is closed.", hint="Load the bundle again.")
        return session

    def facts(self) -> dict[str, Fact]:
        """See `edgekit.runtime.session.Session.facts`."""
        return dict(self._facts)

    def close(self) -> None:
        """See `edgekit.runtime.session.Session.close`."""
        self._session = None
        with self._lock:
            begun = tuple(self._decodings)
        for one in begun:
            one.close()

    def _answer_rows(
        self, session: InferenceSession, feeds: Mapping[str, Array], held: int
    ) -> dict[str, Array]:
        """The answers to rows of which each runs alone and without padding."""
        pasts = {present: spec.name for spec, present in cache_pairs(self.inputs, self.outputs)}
        found: dict[str, Array] = {}
        kept: dict[str, list[Array]] = {name: [] for name in pasts}
        for number, row in enumerate(each_row(self.inputs, feeds, held)):
            if row is None:
                raise SessionError(
                    f"Row {number + 1} of {len(feeds[IDS])} is padding alone.",
                    hint="Leave it out, or begin it with a token.",
                )
            for name, answer in self._answer(session, row.feeds).items():
                if name in pasts:
                    past = feeds[pasts[name]][number : number + 1]
                    kept[name].append(whole_cache(answer, past, row))
                    continue
                if name not in found:
                    found[name] = room_for(answer, row, len(feeds[IDS]))
                put(found[name], number, answer, row)
        found |= {name: np.concatenate(caches) for name, caches in kept.items()}
        return {name: found[name] for name in self._names}

    def _answer(self, session: InferenceSession, feeds: Mapping[str, Array]) -> dict[str, Array]:
        try:
            return dict(zip(self._names, session.run(self._names, feeds), strict=True))
        except Exception as error:
            raise refused(error) from error


def _provider(ort: ModuleType, device: str) -> str:
    if device not in _PROVIDERS:
        raise EngineUnavailable(
            f"The onnxruntime engine has no device {device!r}.",
            hint=f"Its devices: {', '.join(DEVICES)}.",
        )
    wanted = _PROVIDERS[device]
    available = ort.get_available_providers()
    if wanted not in available:
        raise EngineUnavailable(
            f"This build of ONNX Runtime {ort.__version__} has no {wanted}; it has"
            f" {', '.join(available)}.",
            hint=_cuda_remedy(),
        )
    return wanted


def _session_options(ort: ModuleType, read: Options, threads: int) -> SessionOptions:
    settings = ort.SessionOptions()
    settings.log_severity_level = _QUIET
    settings.intra_op_num_threads = threads
    settings.inter_op_num_threads = 1
    level = read.choice("graph_optimization", _LEVELS, "all")
    settings.graph_optimization_level = getattr(ort.GraphOptimizationLevel, level)
    # Subnormal inputs ran 50 times slower.
    entries = {"session.set_denormal_as_zero": "1"}
    spinning = read.flag("allow_spinning")
    if spinning is not None:
        entries["session.intra_op.allow_spinning"] = "1" if spinning else "0"
    entries.update(read.pairs("session", SESSION_ENTRIES))
    for name, value in entries.items():
        settings.add_session_config_entry(name, value)
    return settings


def _create(
    ort: ModuleType, path: Path, settings: SessionOptions, providers: list[object]
) -> InferenceSession:
    """An InferenceSession made in a thread of its own.

    The first session of a process that asks for denormals as zero also switches the floating
    point unit of the *creating* thread for good, and numpy there answers differently (and warns).
    ONNX Runtime's own pool threads are switched in any case.
    """
    made: list[InferenceSession] = []
    failed: list[Exception] = []

    def create() -> None:
        try:
            made.append(ort.InferenceSession(str(path), settings, providers=providers))
        except Exception as error:
            failed.append(error)

    thread = Thread(target=create, name="edgekit-load")
    thread.start()
    thread.join()
    if failed:
        raise _refusal(path, failed[0], str(ort.__version__)) from failed[0]
    return made[0]


def _refusal(path: Path, error: Exception, version: str) -> EdgekitError:
    text = str(error)
    # Of a path anything may be a part.
    reason = text.replace(str(path), "")
    if any(phrase in reason for phrase in _TOO_OLD):
        return EngineUnavailable(
            f"ONNX Runtime {version} is too old for {path.name}: {text}",
            hint="Run: pip install --upgrade onnxruntime",
        )
    if "CUDA" in reason or "cuda" in reason:
        return EngineUnavailable(f"CUDA could not be started: {text}", hint=_cuda_remedy())
    return BundleCorrupt(
        f"ONNX Runtime {version} does not load {path.name}: {text}",
        hint="Export or compile the bundle again for this engine.",
    )


def _check_names(component: Component, session: InferenceSession) -> None:
    for what, specs, held in (
        ("input", component.inputs, session.get_inputs()),
        ("output", component.outputs, session.get_outputs()),
    ):
        declared = {spec.name for spec in specs}
        actual = {value.name for value in held}
        wrong = declared - actual if what == "output" else declared ^ actual
        if wrong:
            raise BundleCorrupt(
                f"The manifest and {component.files[0]} disagree about the {what}"
                f" {sorted(wrong)[0]!r}: the graph has {', '.join(sorted(actual))}.",
                hint="Export the bundle again.",
            )
