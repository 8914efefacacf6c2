"""Compiles for ONNX Runtime: on the CPU an optimised graph, on CUDA optionally half precision."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from types import ModuleType

from edgekit.compilers.checks import (
    judge_precision,
    make_requires,
    refuse_graph,
    refuse_settings,
    refuse_unfit,
    refuse_values,
    session_options,
    static_sizes,
    with_sizes,
)
from edgekit.compilers.inspection import GraphSummary, load_graph, summarise
from edgekit.compilers.onnxruntime_sessions import LAYOUTS
from edgekit.compilers.onnxruntime_sessions import candidates as session_candidates
from edgekit.compilers.records import Candidate, CompiledComponent
from edgekit.compilers.rewriting import fix_sizes, halve, strip_traces
from edgekit.core import cpu
from edgekit.core.bundle import Bundle
from edgekit.core.cpu import VNNI
from edgekit.core.errors import CompileError, ConfigError, disk_errors
from edgekit.core.lazy import require
from edgekit.core.manifest import Component, Requires
from edgekit.core.profiles import Profile, float_precision, nearest
from edgekit.core.versions import release, version_key
from edgekit.graph.disk import INLINE_BYTES, raise_if_full
from edgekit.graph.onnx_files import save_proto
from edgekit.runtime.engines.onnxruntime import (
    PROVIDER_OPTIONS,
    SESSION_ENTRIES,
    import_onnxruntime,
)

ENGINE = "onnxruntime"

_LEVELS = {
    "none": "ORT_DISABLE_ALL",
    "basic": "ORT_ENABLE_BASIC",
    "extended": "ORT_ENABLE_EXTENDED",
    "all": "ORT_ENABLE_ALL",
}
# As far as the machine allows, but for what is measured: how convolutions are laid out.
_AUTO = "auto"
# What the runtime's engine reads on a device; the other options of a profile are for this module.
_SESSION_OPTIONS = {
    "cpu": ("allow_spinning", "threads"),
    "cuda": ("allow_spinning", "provider_options", "threads"),
}
_PRECISIONS = ("fp32", "fp16")
_LAYOUT_DOMAINS = ("com.microsoft.nchwc:", "com.ms.internal.nhwc:")
# Of the operators that multiply, for the layout to be worth measuring: a transformer's one
# convolution, which cuts a picture into patches, is next to nothing of its work.
_LEAST_CONVOLUTIONS = 0.1
_QUIET = 4  # only fatal messages: everything else comes back as an exception


@dataclass(frozen=True)
class _Level:
    """How far the graph is optimised here, and why not as far as the profile asks."""

    name: str
    reason: str | None = None


def check(source: Bundle, profile: Profile, static: Mapping[str, int]) -> None:
    """See `records.Compiler.check`."""
    refuse_unfit(source, profile, engine=ENGINE, formats=("onnx",), devices=("cpu", "cuda"))
    static_sizes(source, profile, static)
    refuse_settings(profile, ENGINE, "session", SESSION_ENTRIES)
    refuse_settings(profile, ENGINE, "provider_options", PROVIDER_OPTIONS)
    refuse_values(profile, ENGINE, flags=("allow_spinning",))
    _asked_level(profile)
    _asked_precision(profile)


def compile_component(
    source: Bundle,
    name: str,
    profile: Profile,
    directory: Path,
    *,
    static: Mapping[str, int],
) -> CompiledComponent:
    """See `records.Compiler.compile_component`."""
    ort = import_onnxruntime()
    part = source.manifest.components[name]
    sizes = static_sizes(source, profile, static)
    graph_path = source.file(part.files[0])
    model = load_graph(graph_path, weights=False)
    summary = summarise(model)
    refuse_graph(source, name, summary, profile, standard_only=False)
    precision = _precision(profile, summary)
    asked = _asked_precision(profile) is not None
    notes = judge_precision(source, profile, precision, asked=asked)
    to_half = precision == "fp16" and not summary.half
    level = _level(profile, summary, precision, str(ort.__version__))
    size = sum(source.file(file).stat().st_size for file in part.files)
    entries = _entries(profile, summary)
    # Weights that lie beside the graph would be left there, under a name that no one lists.
    large = len(part.files) > 1 or (size // 2 if to_half else size) > INLINE_BYTES
    facts: dict[str, object] = {
        "precision": precision,
        "opset": summary.opset,
        "offline_optimization": level.name,
    }
    if level.reason:
        facts["offline_optimization_reason"] = level.reason
    target = directory / part.files[0]
    target.parent.mkdir(parents=True, exist_ok=True)
    with (
        disk_errors(CompileError, f"writing {target.name}"),
        tempfile.TemporaryDirectory(dir=directory, prefix=".work.") as scratch,
    ):
        optimised = level.name != "none"
        current, files = graph_path, part.files
        if to_half or sizes or summary.traces:
            edited = load_graph(graph_path, weights=True) if to_half or len(files) > 1 else model
            if to_half:
                edited = halve(edited, large=size > INLINE_BYTES)
            fix_sizes(edited, part, sizes)
            strip_traces(edited)
            current = Path(scratch) / target.name if optimised else target
            folder = PurePosixPath(part.files[0]).parent
            files = tuple(str(folder / name) for name in save_proto(edited, current))
        elif not optimised:
            for file in files:
                shutil.copyfile(source.file(file), directory / file)
        if optimised:
            files = _optimise(ort, current, target, part.files[0], level, entries, large=large)
    result = summarise(load_graph(target, weights=False))
    component = replace(
        part,
        files=tuple(files),
        inputs=with_sizes(part.inputs, sizes),
        outputs=with_sizes(part.outputs, sizes),
    )
    unfolded = result.operators.get("BatchNormalization", 0)
    if summary.convolutions:
        facts["unfolded_batch_norms"] = unfolded
    facts |= {
        "nodes": sum(result.operators.values()),
        "engine_operators": list(result.foreign),
        "attention_operators": result.attention,
    }
    return CompiledComponent(
        component=component,
        files=_roles(component.files),
        options=session_options(
            profile,
            ENGINE,
            _SESSION_OPTIONS[profile.device],
            session=entries or None,
            graph_optimization=(
                LAYOUTS[0] if _lays_out(profile, summary) and not _layout(result) else None
            ),
        ),
        requires=_requires(source, profile, level, result, str(ort.__version__)),
        precision=precision,
        facts=facts,
        notes=(*_notes(level, precision, unfolded), *notes),
    )


def candidates(
    profile: Profile, options: Mapping[str, object], threads: int
) -> tuple[Candidate, ...]:
    """See `records.Compiler.candidates` and `onnxruntime_sessions.candidates`."""
    return session_candidates(profile, options, threads)


def check_artifact(directory: Path, component: Component) -> Mapping[str, object]:
    """See `records.Compiler.check_artifact`: onnx.checker, and a session on the CPU provider."""
    ort = import_onnxruntime()
    path = directory / component.files[0]
    try:
        # From the path: a model above 2 GiB does not fit into one message.
        require("onnx.checker", "build").check_model(str(path))
    except Exception as error:
        raise CompileError(
            f"{path.name} is not valid ONNX: {error}.", hint="This is a bug; please report it."
        ) from error
    settings = ort.SessionOptions()
    settings.log_severity_level = _QUIET
    settings.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    facts: dict[str, object] = {"structure": "onnx.checker"}
    try:
        ort.InferenceSession(str(path), settings, providers=["CPUExecutionProvider"])
    except Exception as error:
        # Not a failure: some operators have a kernel for the device only.
        facts["opens_on_cpu"] = f"no: {error}"
    else:
        facts["opens_on_cpu"] = "yes"
    return facts


def _asked_level(profile: Profile) -> str:
    asked = profile.options.get(ENGINE, {}).get("offline_optimization", "extended")
    if not isinstance(asked, str) or asked not in (*_LEVELS, _AUTO):
        raise ConfigError(
            f"options.onnxruntime.offline_optimization is {asked!r}.",
            hint=nearest(str(asked), [*_LEVELS, _AUTO]),
        )
    if asked == "all" and not _is_this_machine(profile):
        raise ConfigError(
            f'offline_optimization = "all" lays the graph out for one processor; the target'
            f" {profile.name} is not exactly this machine.",
            hint='Use --target host, or --set options.onnxruntime.offline_optimization="extended".',
        )
    return asked


def _is_this_machine(profile: Profile) -> bool:
    return profile.arch == cpu.arch() and set(profile.features) == (cpu.cpu_features() or set())


def _asked_precision(profile: Profile) -> str | None:
    asked = profile.options.get(ENGINE, {}).get("precision")
    if asked is not None and asked not in _PRECISIONS:
        raise ConfigError(
            f"options.onnxruntime.precision is {asked!r}.",
            hint=nearest(str(asked), _PRECISIONS),
        )
    return None if asked is None else str(asked)


def _precision(profile: Profile, summary: GraphSummary) -> str:
    """The tolerance row: of quantized graphs their own, else what was asked for.

    On the CPU float graphs stay float32: its kernels for half precision convert back and forth.
    """
    asked = _asked_precision(profile)
    if summary.quantized:
        if asked == "fp16":
            raise ConfigError(
                f"options.onnxruntime.precision is 'fp16', and the graph is {summary.quantized}.",
                hint="Compile the exported bundle for half precision.",
            )
        return summary.quantized
    if summary.half:
        return "fp16"
    if asked is not None:
        return asked
    first = float_precision(profile)
    return "fp16" if profile.device == "cuda" and first == "fp16" else "fp32"


def _level(profile: Profile, summary: GraphSummary, precision: str, version: str) -> _Level:
    asked = _asked_level(profile)
    if asked == "none":
        return _Level("none")
    measured = asked == _AUTO and _lays_out(profile, summary)
    at_load = asked == _AUTO and _floats_convolve(summary)
    if asked == _AUTO:
        asked = "all" if _is_this_machine(profile) and not at_load else "extended"
    if profile.device != "cpu":
        return _Level("none", "optimising here would choose kernels of the CPU provider")
    if precision == "fp16":
        return _Level("none", "the CPU provider would write its conversions to float32 down")
    if profile.arch is not None and profile.arch != cpu.arch():
        return _Level("none", f"this machine is {cpu.arch()}, the target {profile.arch}")
    promised = profile.engine_min_version
    if promised is not None and version_key(promised) < version_key(release(version)):
        return _Level("none", f"the target promises {promised}, older than {version} here")
    if asked == "all" and cpu.arch() == "x86_64" and "avx512f" not in profile.features:
        # The layout's block is 16 floats with AVX-512 and 8 without (onnxruntime, mlas snchwc.cpp):
        # a file for 8 would be opened, and be wrong, where there is AVX-512.
        return _Level("extended", "a list of features cannot rule AVX-512 out")
    if asked == "all" and cpu.arch() != "x86_64":
        return _Level("extended", f"layouts for {cpu.arch()} differ between releases")
    if measured:
        return _Level(asked, "the layout of convolutions is chosen by measuring, at load")
    if at_load:
        return _Level(asked, "convolutions are laid out at load")
    return _Level(asked)


def _optimise(
    ort: ModuleType,
    source: Path,
    target: Path,
    file: str,
    level: _Level,
    entries: Mapping[str, str],
    *,
    large: bool,
) -> tuple[str, ...]:
    """Let ONNX Runtime write its optimised graph; the files, as the bundle names them."""
    settings = ort.SessionOptions()
    settings.log_severity_level = _QUIET
    settings.intra_op_num_threads = 1
    settings.optimized_model_filepath = str(target)
    settings.graph_optimization_level = getattr(ort.GraphOptimizationLevel, _LEVELS[level.name])
    # Some decide which fusions are taken, so that they count here as much as at load.
    for key, value in entries.items():
        settings.add_session_config_entry(key, value)
    # The session is thrown away: packing weights for its kernels would be for nothing.
    settings.add_session_config_entry("session.disable_prepacking", "1")
    files: tuple[str, ...] = (file,)
    if large:
        files = (file, f"{file}.data")
        prefix = "session.optimized_model_external_initializers_"
        settings.add_session_config_entry(prefix + "file_name", f"{target.name}.data")
        settings.add_session_config_entry(prefix + "min_size_in_bytes", "1024")
    try:
        ort.InferenceSession(str(source), settings, providers=["CPUExecutionProvider"])
    except Exception as error:
        raise_if_full(target.parent)
        raise CompileError(
            f"ONNX Runtime does not take {file}: {error}.",
            hint="Export the model again; if that does not help, it uses an operator that this"
            " release does not run.",
        ) from error
    return files


def _entries(profile: Profile, summary: GraphSummary) -> dict[str, str]:
    """ONNX Runtime's session config entries: the profile's, and what quantized graphs need."""
    given = profile.options.get(ENGINE, {}).get("session", {})
    if not isinstance(given, Mapping):
        raise ConfigError(f"options.onnxruntime.session is a table, got {given!r}.")
    entries = {}
    if summary.quantized and profile.device == "cpu" and profile.may_lack(VNNI):
        # Without VNNI the sum of two 8-bit products saturates at 16 bits.
        entries["session.x64quantprecision"] = "1"
    return entries | {str(key): str(value) for key, value in given.items()}


def _roles(files: tuple[str, ...]) -> dict[str, str]:
    graph, *weights = files
    return {graph: "component", **dict.fromkeys(weights, "weights")}


def _requires(
    source: Bundle, profile: Profile, level: _Level, result: GraphSummary, version: str
) -> Requires:
    # The optimised graph holds operators of this release that an older one may not know.
    written = release(version) if level.name != "none" else None
    extra = "cuda" if profile.device == "cuda" else "ort"
    requires = make_requires(source, profile, engine=ENGINE, extra=extra, needed=written)
    if not _layout(result):
        return requires
    return replace(requires, arch=profile.arch, cpu_features=tuple(sorted(profile.features)))


def _layout(result: GraphSummary) -> int:
    """The number of kinds of operators whose data lie in blocks made for one processor."""
    return sum(kind.startswith(_LAYOUT_DOMAINS) for kind in result.foreign)


def _lays_out(profile: Profile, summary: GraphSummary) -> bool:
    """Whether it is to be measured in which layout the graph is faster.

    Not of a graph whose work is elsewhere: what its few convolutions gain no measurement shows.
    """
    share = summary.convolutions / max(1, summary.convolutions + summary.products)
    return profile.device == "cpu" and _floats_convolve(summary) and share >= _LEAST_CONVOLUTIONS


def _floats_convolve(summary: GraphSummary) -> bool:
    """Whether there are convolutions whose layout is free.

    How a quantized graph is fused is part of what was judged.
    """
    return summary.convolutions > 0 and summary.quantized is None


def _notes(level: _Level, precision: str, unfolded: int) -> tuple[str, ...]:
    notes = []
    if unfolded and level.name != "none":
        notes.append(
            f"{unfolded} batch normalisations stand beside no convolution that they could be folded"
            " into, and are computed."
        )
    if level.reason and level.name == "none":
        notes.append(f"The graph is optimised on the device, not here: {level.reason}.")
    if precision == "fp16":
        notes.append(
            "Half precision ends at 65504: check the answers on the device with edgekit verify."
        )
    return tuple(notes)
