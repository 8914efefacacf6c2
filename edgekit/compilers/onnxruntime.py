"""Compiles for ONNX Runtime: on the CPU an optimised graph, on CUDA optionally half precision."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

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
from edgekit.compilers.onnxruntime_levels import (
    ENGINE,
    QUIET,
    Level,
    asked_level,
    blocked,
    grown,
    is_older,
    lays_out,
    level_of,
    optimise,
)
from edgekit.compilers.onnxruntime_sessions import LAYOUTS
from edgekit.compilers.onnxruntime_sessions import candidates as session_candidates
from edgekit.compilers.records import Candidate, CompiledComponent
from edgekit.compilers.rewriting import (
    buffer_cache,
    fix_sizes,
    halve,
    has_cache,
    strip_traces,
    with_buffers,
)
from edgekit.core.bundle import Bundle
from edgekit.core.cpu import VNNI
from edgekit.core.errors import CompileError, ConfigError, disk_errors
from edgekit.core.lazy import require
from edgekit.core.manifest import Component, Requires
from edgekit.core.profiles import Profile, float_precision, nearest
from edgekit.core.versions import release
from edgekit.graph.disk import INLINE_BYTES
from edgekit.graph.onnx_files import save_proto
from edgekit.runtime.caches import buffered
from edgekit.runtime.engines.onnxruntime import (
    PROVIDER_OPTIONS,
    SESSION_ENTRIES,
    import_onnxruntime,
)
from edgekit.runtime.generation.rules import GenerationRules

if TYPE_CHECKING:
    import onnx

# What the runtime's engine reads on a device; the other options of a profile are for this module.
_SESSION_OPTIONS = {
    "cpu": ("allow_spinning", "threads"),
    "cuda": ("allow_spinning", "provider_options", "threads"),
}
_PRECISIONS = ("fp32", "fp16")


def check(source: Bundle, profile: Profile, static: Mapping[str, int]) -> None:
    """See `records.Compiler.check`."""
    refuse_unfit(source, profile, engine=ENGINE, formats=("onnx",), devices=("cpu", "cuda"))
    _refuse_buffers(source, profile)
    static_sizes(source, profile, static)
    refuse_settings(profile, ENGINE, "session", SESSION_ENTRIES)
    refuse_settings(profile, ENGINE, "provider_options", PROVIDER_OPTIONS)
    refuse_values(profile, ENGINE, flags=("allow_spinning",))
    asked_level(profile)
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
    version = str(ort.__version__)
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
    level = level_of(profile, summary, precision, version)
    size = sum(source.file(file).stat().st_size for file in part.files)
    entries = _entries(profile, summary)
    # Weights that lie beside the graph would be left there, under a name that no one lists.
    large = len(part.files) > 1 or (size // 2 if to_half else size) > INLINE_BYTES
    facts: dict[str, object] = {"precision": precision, "opset": summary.opset}
    target = directory / part.files[0]
    target.parent.mkdir(parents=True, exist_ok=True)
    with (
        disk_errors(CompileError, f"writing {target.name}"),
        tempfile.TemporaryDirectory(dir=directory, prefix=".work.") as scratch,
    ):
        paths, files = [source.file(file) for file in part.files], part.files
        buffers = not sizes and has_cache(part) and _may_buffer(profile, precision, version)
        fused = _buffered(source, graph_path) if buffers else None
        if to_half or sizes or summary.traces or fused is not None:
            if fused is not None:
                edited, done = fused
                facts |= done
                part = with_buffers(part)
            else:
                whole = to_half or len(files) > 1
                edited = load_graph(graph_path, weights=True) if whole else model
            if to_half:
                edited = halve(edited, large=size > INLINE_BYTES)
            fix_sizes(edited, part, sizes)
            strip_traces(edited)
            names = save_proto(edited, Path(scratch) / target.name)
            paths = [Path(scratch) / name for name in names]
            files = tuple(str(PurePosixPath(part.files[0]).parent / name) for name in names)
        if level.name != "none":
            made = optimise(ort, paths[0], target, part.files[0], level, entries, large=large)
            reason = grown(paths, [directory / file for file in made])
            if reason is None:
                files = made
            else:
                level = Level("none", reason)
        if level.name == "none":
            # What was written here only has to be put in its place; the source's files stay.
            place = shutil.move if paths[0] != graph_path else shutil.copyfile
            for path, file in zip(paths, files, strict=True):
                place(path, directory / file)
    facts["offline_optimization"] = level.name
    if level.reason:
        facts["offline_optimization_reason"] = level.reason
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
                LAYOUTS[0] if lays_out(profile, summary) and not blocked(result) else None
            ),
        ),
        requires=_requires(source, profile, level, result, version),
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
    settings.log_severity_level = QUIET
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


def _refuse_buffers(source: Bundle, profile: Profile) -> None:
    """Raise CompileError for a cache in buffers where the device is no CPU, whose form it has."""
    parts = source.manifest.components.values()
    if profile.device != "cpu" and any(buffered(part.inputs, part.outputs) for part in parts):
        raise CompileError(
            f"{source.path} was compiled for a CPU, with its cache in buffers; the target"
            f" {profile.name} computes on {profile.device}.",
            hint="Compile the exported or quantized bundle that it was made from.",
        )


def _may_buffer(profile: Profile, precision: str, version: str) -> bool:
    """Whether the target's ONNX Runtime has the operators that keep a cache in buffers.

    They have kernels for float32 on the CPU; an older release than this one may lack an input.
    """
    return profile.device == "cpu" and precision != "fp16" and not is_older(profile, version)


def _buffered(source: Bundle, graph_path: Path) -> tuple[onnx.ModelProto, dict[str, int]] | None:
    """The decoder with its cache in buffers; None where another loop than edgekit's feeds it.

    Such a loop may put padding, and count positions, as it likes.
    """
    generation = source.manifest.generation
    rules = None if generation is None else GenerationRules.read(generation)
    if rules is None or rules.mode != "decoder":
        return None
    return buffer_cache(load_graph(graph_path, weights=True), rules.context)


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
    source: Bundle, profile: Profile, level: Level, result: GraphSummary, version: str
) -> Requires:
    # The graph may hold operators of this release that an older one does not know.
    own = level.name != "none" or result.grouped > 0
    written = release(version) if own else None
    extra = "cuda" if profile.device == "cuda" else "ort"
    requires = make_requires(source, profile, engine=ENGINE, extra=extra, needed=written)
    if not blocked(result):
        return requires
    return replace(requires, arch=profile.arch, cpu_features=tuple(sorted(profile.features)))


def _notes(level: Level, precision: str, unfolded: int) -> tuple[str, ...]:
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
