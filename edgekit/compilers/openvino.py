"""Compiles for OpenVINO: the graph as IR, and the precision and streams to ask its device for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path, PurePosixPath

from edgekit.compilers.checks import (
    judge_precision,
    make_requires,
    refuse_graph,
    refuse_settings,
    refuse_unfit,
    refuse_values,
    session_options,
    static_sizes,
)
from edgekit.compilers.inspection import GraphSummary, load_graph, summarise
from edgekit.compilers.records import Candidate, CompiledComponent
from edgekit.core.bundle import Bundle
from edgekit.core.errors import CompileError
from edgekit.core.manifest import Component
from edgekit.core.profiles import FLOAT_PRECISIONS, Profile
from edgekit.core.versions import version_key
from edgekit.graph.openvino import (
    DEVICE_CHOICE,
    PRECISION_HINTS,
    Converted,
    convert,
    oldest_reader,
    precision_hint,
)
from edgekit.runtime.engines.openvino import PROPERTIES, import_openvino

ENGINE = "openvino"

# What the runtime's engine reads on a device, besides what is set here. The NPU's plugin gives one
# request the whole unit, and knows no streams.
_SESSION_OPTIONS = {
    "cpu": ("performance_hint", "streams", "properties", "threads"),
    "gpu": ("performance_hint", "streams", "properties"),
    "npu": ("performance_hint", "properties"),
}

PERFORMANCE_HINTS = ("latency", "throughput")
# The kinds of constants that a precision is stored in.
_STORED = {
    "int4": {"i4", "u4"}, "int8": {"i8", "u8"}, "bf16": {"bf16"}, "fp16": {"f16"},
}  # fmt: skip
_COMPUTED = {hint: precision for precision, hint in PRECISION_HINTS.items()}


def check(source: Bundle, profile: Profile, static: Mapping[str, int]) -> None:
    """See `records.Compiler.check`."""
    refuse_unfit(
        source,
        profile,
        engine=ENGINE,
        formats=("onnx", "openvino-ir"),
        devices=("cpu", "gpu", "npu"),
    )
    static_sizes(source, profile, static)
    refuse_settings(profile, ENGINE, "properties", PROPERTIES)
    refuse_values(
        profile, ENGINE, counts=("streams",), choices={"performance_hint": PERFORMANCE_HINTS}
    )
    precision_hint(profile)


def compile_component(
    source: Bundle,
    name: str,
    profile: Profile,
    directory: Path,
    *,
    static: Mapping[str, int],
) -> CompiledComponent:
    """See `records.Compiler.compile_component`."""
    part = source.manifest.components[name]
    sizes = static_sizes(source, profile, static)
    summary = _summary(source, name, part, profile)
    hint = _hint(source, profile)
    graph = PurePosixPath(part.files[0])
    files = (str(graph.with_suffix(".xml")), str(graph.with_suffix(".bin")))
    xml = directory / files[0]
    xml.parent.mkdir(parents=True, exist_ok=True)
    converted = convert(
        source.file(part.files[0]),
        xml,
        inputs=part.inputs,
        outputs=part.outputs,
        static=sizes,
        # Where half precision is computed in, it is also stored in: half the file, same answers.
        compress_to_fp16=hint == "f16",
    )
    facts: dict[str, object] = {
        "operators": sum(converted.operators.values()),
        "opset": converted.opset,
        "attention_operators": converted.attention,
    }
    precision = _stored_precision(hint, summary, xml)
    facts["precision"] = precision
    # What has 4 or 8 bits is computed in them; floats in what the hint says.
    computed = precision if precision not in FLOAT_PRECISIONS else _COMPUTED.get(hint, "fp32")
    chosen = _asked(profile) is not None or hint != precision_hint(profile)
    notes = list(judge_precision(source, profile, computed, asked=chosen))
    if summary is not None:
        facts["attention_operators_before"] = summary.attention
        if converted.attention < summary.attention:
            notes.append(
                f"OpenVINO kept {converted.attention} of {summary.attention} attentions as one"
                " operator; the others run slower."
            )
    return CompiledComponent(
        component=replace(
            part,
            format="openvino-ir",
            files=files,
            inputs=converted.inputs,
            outputs=converted.outputs,
        ),
        files={files[0]: "component", files[1]: "weights"},
        options=session_options(
            profile,
            ENGINE,
            _SESSION_OPTIONS[profile.device],
            precision_hint=None if hint == DEVICE_CHOICE else hint,
        ),
        requires=make_requires(
            source, profile, engine=ENGINE, extra="openvino", needed=_needed(profile, converted)
        ),
        precision=precision,
        facts=facts,
        notes=tuple(notes),
    )


def candidates(
    profile: Profile, options: Mapping[str, object], threads: int
) -> tuple[Candidate, ...]:
    """The floating-point precisions that the profile lists, in its order, and the device's own.

    What the device would choose by itself is measured but never taken: it may be a precision that
    the profile does not allow.
    """
    hint = options.get("precision_hint")
    hints = [hint]
    if _asked(profile) is None:
        # Half precision is stored in the weights as well: not a matter of options only.
        allowed = [item for item in profile.precisions if item in FLOAT_PRECISIONS]
        others = [PRECISION_HINTS[item] for item in allowed if item != "fp16"]
        hints += [item for item in others if item != hint]
    rest = {key: value for key, value in options.items() if key != "precision_hint"}
    found = [
        Candidate(f"precision_hint {item}", {**rest, "precision_hint": item})
        for item in hints
        if item is not None
    ]
    free = Candidate("precision left to the device", rest, eligible=hint is None)
    return (*found, free)


def check_artifact(directory: Path, component: Component) -> Mapping[str, object]:
    """See `records.Compiler.check_artifact`: read again, and compiled for the CPU."""
    openvino = import_openvino()
    path = directory / component.files[0]
    core = openvino.Core()
    try:
        model = core.read_model(str(path))
    except Exception as error:
        raise CompileError(
            f"OpenVINO does not read {path.name} that it has just written: {error}.",
            hint="This is a bug; please report it.",
        ) from error
    facts: dict[str, object] = {"structure": "openvino.Core.read_model"}
    try:
        core.compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    except Exception as error:
        # Not a failure: the CPU plugin may lack what the device has.
        facts["opens_on_cpu"] = f"no: {error}"
    else:
        facts["opens_on_cpu"] = "yes"
    return facts


def _summary(source: Bundle, name: str, part: Component, profile: Profile) -> GraphSummary | None:
    if part.format != "onnx":
        return None
    summary = summarise(load_graph(source.file(part.files[0]), weights=False))
    refuse_graph(source, name, summary, profile, standard_only=True)
    return summary


def _hint(source: Bundle, profile: Profile) -> str:
    """The precision to ask for: what a quantized bundle was judged in, unless an option says."""
    told = source.manifest.runtime.options.get("precision_hint")
    carried = source.manifest.stage == "quantized" and _asked(profile) is None
    return told if carried and isinstance(told, str) and told else precision_hint(profile)


def _asked(profile: Profile) -> object:
    return profile.options.get(ENGINE, {}).get("precision_hint")


def _stored_precision(hint: str, summary: GraphSummary | None, xml: Path) -> str:
    """What the weights are: what the device computes in is a matter of the hint."""
    fewer = _fewer_bits(xml) if summary is None else summary.quantized
    return fewer or ("fp16" if hint == PRECISION_HINTS["fp16"] else "fp32")


def _fewer_bits(xml: Path) -> str | None:
    """What an IR holds weights of that is less than float32, the fewest bits first."""
    model = import_openvino().Core().read_model(str(xml))
    kinds = {
        str(node.get_output_element_type(0).get_type_name())
        for node in model.get_ops()
        if node.get_type_name() == "Constant" and len(node.get_output_shape(0)) > 1
    }
    return next((precision for precision, of in _STORED.items() if kinds & of), None)


def _needed(profile: Profile, converted: Converted) -> str:
    """The oldest OpenVINO that reads the file. Raises CompileError when the target's is older."""
    needed = oldest_reader(converted.opset)
    promised = profile.engine_min_version
    if promised is not None and version_key(promised) < version_key(needed):
        raise CompileError(
            f"The graph needs OpenVINO {needed} or later; the target {profile.name} promises"
            f" {promised}.",
            hint=f"Install OpenVINO {needed} on the device, and compile with --set"
            f" 'engine_min_version=\"{needed}\"'",
        )
    return needed
