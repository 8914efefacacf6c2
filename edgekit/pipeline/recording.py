"""What a validation leaves behind: facts of both models, evidence, the worst samples."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from edgekit.core.bundle import Bundle, replace_evidence
from edgekit.core.errors import ConfigError, StepError, disk_errors
from edgekit.core.manifest import MANIFEST_NAME
from edgekit.core.measurements import Accuracy, BenchResult, ValidateResult, WorstSample
from edgekit.core.results import to_json
from edgekit.pipeline.rows import data_name
from edgekit.reporting import words
from edgekit.runtime.model import Model

if TYPE_CHECKING:
    from edgekit.sources.loaded import LoadedSource

# Characters of a text in a result; the file of worst samples holds all of it.
_SHOWN = 500
# All that a validation writes into the evidence; the rest is of other steps.
_RECORDED = frozenset(
    {
        "accuracy", "numerics", "gates", "size", "latency", "memory", "noise", "device",
        "versions", "basis", "workload",
    }
)  # fmt: skip


def bundle_facts(model: Model) -> dict[str, object]:
    """What was judged, as ``ValidateResult.bundle`` tells it."""
    manifest = model.manifest
    target = manifest.target or {}
    return {
        "name": manifest.name,
        "bundle_id": model.bundle.id,
        "stage": manifest.stage,
        "task": manifest.task,
        "target": target.get("name"),
        "engine": manifest.requires.engine,
        "precision": model.precision,
    }


def reference_facts(source: LoadedSource) -> dict[str, object]:
    """What it was judged against, as ``ValidateResult.reference`` tells it."""
    return {
        "id": source.id,
        "sha256": source.sha256,
        "architecture": source.architecture,
        "parameters": source.parameters,
    }


def shortened(samples: Sequence[WorstSample]) -> tuple[WorstSample, ...]:
    """The samples with texts of a length that a page can hold."""
    return tuple(
        replace(
            sample,
            input=_cut(sample.input),
            label=None if sample.label is None else _cut(sample.label),
            reference=_cut(sample.reference),
            candidate=_cut(sample.candidate),
        )
        for sample in samples
    )


def _cut(text: str) -> str:
    return text if len(text) <= _SHOWN else text[: _SHOWN - 1] + "…"


def check_worst_file(path: Path) -> None:
    """Raise ConfigError, before anything runs, where no file can be written."""
    if path.is_dir() or not path.absolute().parent.is_dir():
        raise ConfigError(
            f"The worst samples cannot be written to {path}: "
            + ("it is a folder." if path.is_dir() else "there is no such folder."),
            hint="Name a file with --worst, for example worst.jsonl.",
        )


def write_worst(path: Path, samples: Sequence[WorstSample]) -> None:
    """Write the samples as JSON lines, whole. Raises ConfigError or StepError when it cannot."""
    with disk_errors(StepError, f"writing {path}"), path.open("w", encoding="utf-8") as stream:
        for sample in samples:
            stream.write(json.dumps(to_json(sample), ensure_ascii=False, allow_nan=False) + "\n")


def source_bytes(source: LoadedSource) -> int:
    """The bytes of the reference's parameters and buffers as it runs, tied ones once."""
    tensors = {
        tensor.data_ptr(): tensor.numel() * tensor.element_size()
        for tensor in source.module.state_dict().values()
    }
    return sum(tensors.values())


def record_evidence(
    bundle: Bundle, result: ValidateResult, *, data: str | None = None, force: bool = False
) -> str:
    """Write the evidence into the manifest, which leaves the bundle's id as it is.

    What an earlier validation recorded goes: its figures are of another run, perhaps of another
    device. Only where it rests on more rows of the same data it stays, unless `force` is given.
    Returns a sentence on what was written, where, and what went.
    """
    before = bundle.manifest.evidence
    name = None if data is None else data_name(data)
    stronger = _stronger(before, result, name)
    if stronger is not None and not force:
        return (
            f"Not recorded: {bundle.path / MANIFEST_NAME} holds {stronger}, and this verdict rests"
            f" on {_rests_on(result.accuracy, name)}. Replace it with --record --force."
        )
    timed = result.timing
    evidence = {
        **{key: value for key, value in before.items() if key not in _RECORDED},
        "accuracy": {"verdict": result.verdict, **_plain(result.accuracy)},
        "numerics": to_json(result.numerics),
        "gates": to_json(result.gates),
        "size": _plain(result.size),
        "device": result.device,
        "versions": result.versions,
        "basis": {"data": name, "date": datetime.now(UTC).date().isoformat()},
    }
    told = [f"the verdict ({result.verdict})", *(["accuracy"] if result.accuracy else [])]
    told += ["gates", "numerics", "size"]
    if result.latency is not None and timed is not None:
        told += ["latency", "memory"]
        evidence["latency"] = _plain(result.latency)
        evidence["memory"] = {"peak_rss_bytes": timed.contenders[-1].peak_rss_bytes}
        evidence["noise"] = _plain(timed.noise)
        evidence["workload"] = measured_at(timed)
    replace_evidence(bundle, evidence)
    said = f"Recorded in {bundle.path / MANIFEST_NAME}: {words.listed(told)}."
    if stronger is not None:
        said += f" It replaces {stronger}."
    gone = [key for key in ("latency", "memory") if before.get(key) and key not in evidence]
    if gone:
        said += (
            f" Not measured by this run, and removed: the {words.listed(gone)} of an earlier one."
        )
    return said


def measured_at(timed: BenchResult) -> dict[str, object]:
    """The workload of a measurement: batch, length and threads, as far as they are known."""
    if not timed.contenders:
        return {}
    row = timed.contenders[-1]
    told = {"batch": row.batch, "length": row.length, "threads": timed.protocol.get("threads")}
    return {key: value for key, value in told.items() if value is not None}


def _stronger(before: Mapping[str, object], result: ValidateResult, data: str | None) -> str | None:
    """Evidence that rests on more rows than a result does, told; None where there is none.

    Another metric, or other data, is another question: the latest answer to it stands.
    """
    held, basis = before.get("accuracy"), before.get("basis")
    held = held if isinstance(held, Mapping) else {}
    known = basis.get("data") if isinstance(basis, Mapping) else None
    rows, metric = held.get("samples"), held.get("metric")
    if not isinstance(rows, int):
        return None
    own = result.accuracy
    if own is not None:
        other_data = known is not None and data is not None and known != data
        if rows <= own.samples or metric != own.metric or other_data:
            return None
    on = f" of {known}" if known else ""
    return f"a verdict ({held.get('verdict')}) on {words.counted(rows, 'row')}{on}"


def _rests_on(accuracy: Accuracy | None, data: str | None) -> str:
    if accuracy is None:
        return "the golden inputs alone"
    return f"{words.counted(accuracy.samples, 'row')}{f' of {data}' if data else ''}"


def _plain(value: object) -> dict[str, object]:
    found = to_json(value)
    return found if isinstance(found, dict) else {}
