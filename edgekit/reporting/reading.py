"""Which result a JSON object is, so that what draws a report works on typed records."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeVar

from edgekit.core.bundle import Bundle
from edgekit.core.errors import ConfigError
from edgekit.core.measurements import BenchResult, ValidateResult
from edgekit.core.reading import read_record

Result = BenchResult | ValidateResult
T = TypeVar("T")

_REMEDY = "Give what `edgekit validate --json` or `edgekit bench --json` printed."


def read_result(data: Mapping[str, object]) -> Result:
    """The result behind `data`, which is what ``--json`` prints.

    Raises ConfigError for an object that is neither a validation nor a comparison, or whose
    fields hold something else than they should.
    """
    if "contenders" in data:
        return _whole(BenchResult, data)
    if "verdict" in data and "accuracy" in data:
        return _whole(ValidateResult, data)
    error = data.get("error")
    if isinstance(error, Mapping) and "message" in error:
        raise ConfigError(
            f"The file holds no result but an error: {str(error['message'])[:300]}", hint=_REMEDY
        )
    found = ", ".join(map(str, list(data)[:6])) or "nothing"
    raise ConfigError(
        f"The file is no result of validate or bench; its keys are: {found}.", hint=_REMEDY
    )


def evidence_result(bundle: Bundle) -> ValidateResult:
    """The validation that a bundle's manifest holds as evidence.

    Raises ConfigError where nothing has been recorded.
    """
    manifest = bundle.manifest
    evidence = manifest.evidence
    accuracy = evidence.get("accuracy")
    if not isinstance(accuracy, Mapping) or "verdict" not in accuracy:
        raise ConfigError(
            f"The bundle {bundle.path} holds no evidence to report.",
            hint=f"Record it with: edgekit validate {bundle.path} --reference SOURCE --record",
        )
    source = manifest.source
    memory = evidence.get("memory")
    peak = memory.get("peak_rss_bytes") if isinstance(memory, Mapping) else None
    notes = []
    if isinstance(peak, int):
        notes.append(f"Peak memory above what the imports took: {peak / 1e6:.1f} MB.")
    target = manifest.target or {}
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
            "bundle": {
                "name": manifest.name,
                "bundle_id": bundle.id,
                "stage": manifest.stage,
                "task": manifest.task,
                "target": target.get("name"),
                "engine": manifest.requires.engine,
            },
            "reference": {}
            if source is None
            else {
                "id": source.origin.id,
                "sha256": source.origin.sha256,
                "architecture": source.architecture,
                "parameters": source.parameters,
            },
            "notes": notes,
        },
    )


def _whole(kind: type[T], data: Mapping[str, object]) -> T:
    try:
        return read_record(kind, data)
    except ConfigError as error:
        raise ConfigError(f"The result cannot be read: {error.message}", hint=_REMEDY) from error
