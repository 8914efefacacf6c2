"""Which result a JSON object is, so that what draws a report works on typed records."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

from edgekit.core.bundle import Bundle
from edgekit.core.errors import ConfigError
from edgekit.core.measurements import (
    BenchResult,
    Latency,
    QuantizeResult,
    Size,
    ValidateResult,
)
from edgekit.core.pruned import PruneResult
from edgekit.core.reading import read_record
from edgekit.reporting import words
from edgekit.reporting.deciding import noisy

Result = BenchResult | PruneResult | ValidateResult
T = TypeVar("T")

#: How a note begins that tells of a bundle whose device was not here.
NOT_RUN = "Built, not run on"

_REMEDY = (
    "Give what `edgekit validate`, `bench`, `prune`, `quantize` or `build` printed with --json, or"
    " a bundle."
)


def read_result(data: Mapping[str, object]) -> Result:
    """The result behind `data`, which is what ``--json`` prints.

    Of a quantization it is the verdict on its bundle, of a build the validation of the one that it
    chose. Raises ConfigError for an object that is none of these, or whose fields hold something
    else than they should.
    """
    if "contenders" in data:
        return _whole(BenchResult, data)
    if "candidates" in data and "validation" in data:
        return _of_build(data)
    if "kept_float" in data and "verdict" in data:
        return _of_quantization(data)
    if "flops" in data and "structures" in data:
        return _of_pruning(data)
    if "verdict" in data and "accuracy" in data:
        return _whole(ValidateResult, data)
    error = data.get("error")
    if isinstance(error, Mapping) and "message" in error:
        raise ConfigError(
            f"The file holds no result but an error: {str(error['message'])[:300]}", hint=_REMEDY
        )
    found = ", ".join(map(str, list(data)[:6])) or "nothing"
    raise ConfigError(
        f"The file is no result of validate, bench, prune, quantize or build; its keys are:"
        f" {found}.",
        hint=_REMEDY,
    )


def all_notes(result: Result) -> tuple[str, ...]:
    """The notes of a result and of its timing, each once.

    Of a ratio whose turns are not kept, as a bundle's evidence holds it, also what it compares.
    """
    if isinstance(result, (BenchResult, PruneResult)):
        return tuple(dict.fromkeys(result.notes))
    timing = result.timing
    bare = result.latency is not None and (timing is None or not timing.ratios)
    found = (
        *result.notes,
        *(() if timing is None else timing.notes),
        *((words.turn_by_turn(),) if bare else ()),
    )
    return tuple(dict.fromkeys(found))


def _of_build(data: Mapping[str, object]) -> ValidateResult:
    found = data["validation"]
    if not isinstance(found, Mapping):
        tried = data["candidates"]
        count = len(tried) if isinstance(tried, Sequence) else 0
        raise ConfigError(
            f"The build chose none of its {count} candidates: there is no validation to render.",
            hint="Its JSON tells why in candidates[].reason.",
        )
    return _whole(ValidateResult, found)


def _of_pruning(data: Mapping[str, object]) -> PruneResult:
    # A path is a text in JSON.
    output = data.get("output")
    found = _whole(PruneResult, {**data, "output": None})
    return replace(found, output=Path(output)) if isinstance(output, str) else found


def _of_quantization(data: Mapping[str, object]) -> ValidateResult:
    """The verdict of a quantization as a validation tells its own.

    Sizes are the bundle's and its input's; the speed, which is against the input too, is a note.
    Raises ConfigError where there was no candidate to tell of.
    """
    # A path is a text in JSON.
    output = data.get("output")
    result = _whole(QuantizeResult, {**data, "output": None})
    if result.bundle_id is None or result.bytes is None or result.ratio_to_input is None:
        raise ConfigError(
            "The quantization has no candidate to report.", hint="Its notes and its error say why."
        )
    before = round(result.bytes / result.ratio_to_input) if result.ratio_to_input else 0
    notes = [
        f"The verdict of edgekit quantize on {result.method}, {result.bits} bits, for"
        f" {result.engine} on {result.target}: on rows that no choice has seen, where there is an"
        " accuracy. The size is compared with the input's.",
        *_speed_note(result.latency, result.workload, noisy=noisy(result.noise)),
        *result.notes,
    ]
    # Where none was left, `run_on` tells of none.
    if output is not None and result.run_on is None:
        notes.insert(0, f"{NOT_RUN} {result.target}.")
    return ValidateResult(
        verdict=result.verdict,
        accuracy=result.accuracy,
        numerics={},
        latency=None,
        size=Size(before, result.bytes, result.ratio_to_input),
        gates=(),
        device=result.run_on or {},
        versions={},
        bundle={
            "name": Path(output).name if isinstance(output, str) else "",
            "bundle_id": result.bundle_id,
            "target": result.target,
            "engine": result.engine,
        },
        notes=tuple(notes),
    )


def _speed_note(
    latency: Latency | None, workload: Mapping[str, object], *, noisy: bool = False
) -> list[str]:
    if latency is None:
        return []
    at = words.ran_at(workload.get("batch"), workload.get("length"), workload.get("threads"))
    return [
        f"Its speed{f' at {at}' if at else ''} is {words.times(latency.speedup.value)} its input's"
        f" ({words.bracketed(latency.speedup, noisy=noisy)}):"
        f" {words.milliseconds(latency.reference_ms)} →"
        f" {words.milliseconds(latency.candidate_ms)}."
    ]


def _of_step(bundle: Bundle) -> ValidateResult | None:
    """The verdict that `quantize` left in the manifest's steps; None where there is none."""
    manifest = bundle.manifest
    step = next((one for one in reversed(manifest.steps) if one.step == "quantize"), None)
    if step is None or step.facts.get("verdict") not in ("pass", "fail", "inconclusive"):
        return None
    facts = step.facts
    before = _original_bytes(bundle)
    found = _whole(
        ValidateResult,
        {
            "verdict": facts["verdict"],
            "accuracy": facts.get("accuracy"),
            "numerics": {},
            "latency": None,
            "size": {
                "reference_bytes": before,
                "candidate_bytes": bundle.bytes(),
                "ratio": bundle.bytes() / max(1, before),
            },
            "gates": [],
            "device": manifest.evidence.get("run_on") or {},
            "versions": dict(step.versions),
        },
    )
    latency = facts.get("latency")
    workload = facts.get("workload")
    notes = [
        "The verdict of edgekit quantize"
        + (", from before the bundle was compiled" if manifest.stage == "compiled" else "")
        + (f"; judged on {facts['judged_on']}" if facts.get("judged_on") else "")
        + ". For one of this bundle: edgekit validate --record.",
        *_speed_note(
            _whole(Latency, latency) if isinstance(latency, Mapping) else None,
            workload if isinstance(workload, Mapping) else {},
        ),
    ]
    told = facts.get("notes")
    notes += [str(note) for note in told] if isinstance(told, Sequence) else []
    return replace(
        found, bundle=_bundle(bundle), reference=_reference(bundle),
        notes=(*_not_run(bundle), *notes),
    )  # fmt: skip


def _original_bytes(bundle: Bundle) -> int:
    """Those of an imported model's files; of PyTorch's parameters in float32, for none are told."""
    manifest = bundle.manifest
    if manifest.source is None:
        return bundle.bytes()
    for step in manifest.steps:
        size = step.facts.get("bytes")
        if step.step == "import" and isinstance(size, int) and not isinstance(size, bool):
            return size
    return 4 * manifest.source.parameters


def _not_run(bundle: Bundle) -> list[str]:
    manifest = bundle.manifest
    if manifest.target is None or manifest.evidence.get("run_on", {}) is not None:
        return []
    return [f"{NOT_RUN} {manifest.target.get('name')}: its speed is not measured."]


def _bundle(bundle: Bundle) -> dict[str, object]:
    manifest = bundle.manifest
    return {
        "name": manifest.name,
        "bundle_id": bundle.id,
        "stage": manifest.stage,
        "task": manifest.task,
        "target": (manifest.target or {}).get("name"),
        "engine": manifest.requires.engine,
    }


def _reference(bundle: Bundle) -> dict[str, object]:
    source = bundle.manifest.source
    if source is None:
        return {}
    return {
        "kind": source.kind,
        "id": source.origin.id,
        "sha256": source.origin.sha256,
        "architecture": source.architecture,
        "parameters": source.parameters,
    }


def evidence_result(bundle: Bundle) -> ValidateResult:
    """The validation that a bundle's manifest holds as evidence, or else what `quantize` found.

    Raises ConfigError where nothing has been recorded.
    """
    manifest = bundle.manifest
    evidence = manifest.evidence
    accuracy = evidence.get("accuracy")
    if not isinstance(accuracy, Mapping) or "verdict" not in accuracy:
        quantized = _of_step(bundle)
        if quantized is not None:
            return quantized
        raise ConfigError(
            f"The bundle {bundle.path} holds no evidence to report.",
            hint=f"Record it with: edgekit validate {bundle.path} --reference SOURCE --record",
        )
    memory = evidence.get("memory")
    peak = memory.get("peak_rss_bytes") if isinstance(memory, Mapping) else None
    notes = _not_run(bundle)
    basis = evidence.get("basis")
    if isinstance(basis, Mapping):
        on = f" on {basis['data']}" if basis.get("data") else ""
        place = stood_in(basis)
        by = f" {place}" if place else ""
        notes.append(f"Judged{on}{by}{against(basis)}; recorded {basis.get('date')}.")
    if isinstance(peak, int):
        notes.append(f"Peak memory above what the imports took: {peak / 1e6:.1f} MB.")
    device, versions = evidence.get("device", {}), evidence.get("versions", {})
    noise = evidence.get("noise")
    # Of the measurement itself the manifest keeps how quiet the machine was.
    timing = {
        "protocol": {}, "device": device, "versions": versions, "contenders": [], "ratios": [],
        "noise": noise,
    }  # fmt: skip
    return _whole(
        ValidateResult,
        {
            "verdict": accuracy["verdict"],
            "accuracy": accuracy if "metric" in accuracy else None,
            "numerics": evidence.get("numerics", {}),
            "latency": evidence.get("latency") or None,
            "size": evidence.get("size"),
            "gates": evidence.get("gates", []),
            "device": device,
            "versions": versions,
            "timing": timing if noise else None,
            "bundle": _bundle(bundle),
            "reference": _reference(bundle),
            "data": _data(basis),
            "notes": notes,
        },
    )


def _data(basis: object) -> dict[str, object]:
    """The name of the DATA that evidence rests on; nothing where it rests on none."""
    name = basis.get("data") if isinstance(basis, Mapping) else None
    return {"name": name} if isinstance(name, str) else {}


def stood_in(basis: Mapping[str, object]) -> str:
    """What judged a bundle in its device's place, and how it computed; empty where itself was."""
    if not basis.get("judged_on"):
        return ""
    how = f" in {basis['precision']}" if basis.get("precision") else ""
    return f"in its device's place on the {basis['judged_on']}{how}"


def against(basis: Mapping[str, object]) -> str:
    """What stood in the place of an original that nobody opened, for the end of a sentence."""
    known = basis.get("reference")
    return f", against {known} of the original" if isinstance(known, str) else ""


def _whole(kind: type[T], data: Mapping[str, object]) -> T:
    try:
        return read_record(kind, data)
    except ConfigError as error:
        raise ConfigError(f"The result cannot be read: {error.message}", hint=_REMEDY) from error
