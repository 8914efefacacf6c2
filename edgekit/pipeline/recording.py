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
from edgekit.core.hashing import canonical_json, file_hashes, sha256_bytes, sha256_file
from edgekit.core.manifest import MANIFEST_NAME, Manifest
from edgekit.core.measurements import BenchResult, ValidateResult, WorstSample
from edgekit.core.results import to_json
from edgekit.pipeline.rows import data_name
from edgekit.reporting import words
from edgekit.reporting.headline import DROP_GATE
from edgekit.runtime.model import Model
from edgekit.sources.data_paths import find_data
from edgekit.sources.data_pictures import class_folders, reads_files

if TYPE_CHECKING:
    from edgekit.sources.data import Samples
    from edgekit.sources.loaded import LoadedSource

# Characters of a text in a result; the file of worst samples holds all of it.
_SHOWN = 500
# What of a device's record tells where a bundle was run.
_MACHINE = ("cpu", "arch", "system")
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


def data_facts(data: str, samples: Samples, judged: int | None = None) -> dict[str, object]:
    """What it was judged on, as ``ValidateResult.data`` tells it: all samples, or fewer."""
    return {
        "name": data_name(data),
        "rows": samples.read,
        "for_verdicts": samples.eligible,
        "used_before": samples.excluded,
        "judged": len(samples) if judged is None else judged,
    }


def reference_facts(source: LoadedSource) -> dict[str, object]:
    """What it was judged against, as ``ValidateResult.reference`` tells it."""
    return {
        "kind": source.kind,
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
    """The bytes of the reference's parameters and buffers as it runs, tied ones once.

    Of an imported model they are those of its files.
    """
    if source.engine is not None:
        return source.engine.bytes
    tensors = {
        tensor.data_ptr(): tensor.numel() * tensor.element_size()
        for tensor in source.module.state_dict().values()
    }
    return sum(tensors.values())


def record_evidence(
    bundle: Bundle,
    result: ValidateResult,
    *,
    data: str | None = None,
    stood_in: Mapping[str, object] | None = None,
    reference: str | None = None,
    force: bool = False,
) -> str:
    """Write the evidence into the manifest, which leaves the bundle's id as it is.

    What an earlier validation recorded goes: its figures are of another run, perhaps of another
    device. It stays where it gives the same answer to the same question on more rows, unless
    `force` is given; and a run without DATA that does not fail only adds what it has timed.
    Where nobody has run the bundle on its target before and this machine is one, ``run_on`` says
    so. Returns a sentence on what was written, where, and what went.

    Args:
        stood_in: what was judged in the bundle's place, and how: then it was not run itself.
        reference: what stood in the place of the original, where nobody opened that.
    """
    before = bundle.manifest.evidence
    basis: dict[str, object] = {
        "data": None if data is None else data_name(data),
        "sha256": None if data is None else data_hash(data, media=reads_media(bundle.manifest)),
        "budget": _budget(result),
        **(stood_in or {}),
        **({} if reference is None else {"reference": reference}),
        "date": datetime.now(UTC).date().isoformat(),
    }
    found: dict[str, object] = {}
    built_only = "run_on" in before and before["run_on"] is None
    if built_only and stood_in is None and _is_target(bundle.manifest, result.device):
        found["run_on"] = {key: result.device[key] for key in _MACHINE if key in result.device}
    timed, told = _timed(result)
    held = _held(before)
    if held is not None and not force and _same_device(before, result):
        if result.accuracy is None and result.verdict != "fail":
            return _add(bundle, {**before, **found, **timed}, told, held)
        if _weaker(before, basis, result):
            rows = 0 if result.accuracy is None else result.accuracy.samples
            return (
                f"Not recorded: {bundle.path / MANIFEST_NAME} holds {held}, and this verdict rests"
                f" on {words.counted(rows, 'row')} of {basis['data']}. Replace it with --record"
                " --force."
            )
    evidence = {
        **{key: value for key, value in before.items() if key not in _RECORDED},
        **found,
        "accuracy": {"verdict": result.verdict, **_plain(result.accuracy)},
        "numerics": to_json(result.numerics),
        "gates": to_json(result.gates),
        "size": _plain(result.size),
        "device": result.device,
        "versions": result.versions,
        "basis": basis,
        **timed,
    }
    replace_evidence(bundle, evidence)
    judged = [f"the verdict ({result.verdict})", *(["accuracy"] if result.accuracy else [])]
    said = (
        f"Recorded in {bundle.path / MANIFEST_NAME}:"
        f" {words.listed([*judged, 'gates', 'numerics', 'size', *told])}."
    )
    if held is not None:
        said += f" It replaces {held}."
    gone = [key for key in ("latency", "memory") if before.get(key) and key not in evidence]
    if gone:
        said += (
            f" Not measured by this run, and removed: the {words.listed(gone)} of an earlier one."
        )
    return said


def data_hash(data: str, *, media: bool = False) -> str | None:
    """The SHA-256 of a DATA's content.

    None for a data set id, and with `media` for a table that names pictures or sounds: their
    content is elsewhere, and may change under the same names.
    """
    folders = class_folders(data)
    if folders is None:
        path = find_data(data) if Path(data.partition("#")[0]).exists() else None
        if path is None or (media and names_files(path)):
            return None
        with disk_errors(StepError, f"reading {path}"):
            return sha256_file(path)
    name, _, split = data.partition("#")
    root = Path(name) / split
    with disk_errors(StepError, f"reading {root}"):
        return sha256_bytes(canonical_json(file_hashes(root)))


def names_files(path: Path) -> bool:
    """Whether rows of pictures or sounds in a file may be names of other files: all but arrays."""
    return path.suffix.lower() != ".npz"


def reads_media(manifest: Manifest) -> bool:
    """Whether rows of DATA are pictures or sounds for a bundle."""
    return reads_files(manifest) or (manifest.processor or {}).get("kind") == "image-text"


def _timed(result: ValidateResult) -> tuple[dict[str, object], list[str]]:
    """What a run has measured of time and memory, and what it is called; nothing without."""
    timed = result.timing
    if result.latency is None or timed is None:
        return {}, []
    found: dict[str, object] = {
        "latency": _plain(result.latency),
        "memory": {"peak_rss_bytes": timed.contenders[-1].peak_rss_bytes},
        "noise": _plain(timed.noise),
        "workload": measured_at(timed),
    }
    return found, ["latency", "memory"]


def _add(bundle: Bundle, evidence: Mapping[str, object], told: Sequence[str], held: str) -> str:
    """Keep a verdict on DATA beside what a run without any has timed."""
    replace_evidence(bundle, evidence)
    place = bundle.path / MANIFEST_NAME
    kept = f"{place} keeps {held}: this run had no DATA"
    return f"Recorded in {place}: {words.listed(told)}. {kept}." if told else f"{kept}."


def _budget(result: ValidateResult) -> dict[str, object] | None:
    """The drop that was allowed, with its unit; None without DATA."""
    if result.accuracy is None:
        return None
    limits = [gate.limit for gate in result.gates if gate.name == DROP_GATE]
    return {"limit": limits[0], "unit": result.accuracy.drop_unit} if limits else None


def _is_target(manifest: Manifest, device: Mapping[str, object]) -> bool:
    """Whether the machine that ran a bundle is one of those that it was made for.

    A compiled bundle opens on its own accelerator alone; one that is only quantized, on the CPU.
    """
    wanted = manifest.target or {}
    if wanted.get("device", "cpu") != manifest.runtime.options.get("device", "cpu"):
        return False
    if wanted.get("arch") not in (None, device.get("arch")):
        return False
    needs, has = wanted.get("features"), device.get("cpu_features")
    if not isinstance(needs, Sequence) or not isinstance(has, Sequence) or not has:
        # No list of features is a processor that tells none.
        return True
    return {str(one) for one in needs} <= {str(one) for one in has}


def measured_at(timed: BenchResult) -> dict[str, object]:
    """The workload of a measurement: batch, length and threads, as far as they are known.

    The threads are those that the last contender really had.
    """
    if not timed.contenders:
        return {}
    row = timed.contenders[-1]
    own = _mapping(_mapping(timed.protocol.get("facts")).get(row.name)).get("threads")
    threads = own if isinstance(own, int) else timed.protocol.get("threads")
    told = {"batch": row.batch, "length": row.length, "threads": threads}
    return {key: value for key, value in told.items() if value is not None}


def _held(before: Mapping[str, object]) -> str | None:
    """The verdict on DATA that evidence holds, told; None where there is none."""
    accuracy, basis = _mapping(before.get("accuracy")), _mapping(before.get("basis"))
    rows, known = accuracy.get("samples"), basis.get("data")
    if not isinstance(rows, int):
        return None
    on = f" of {known}" if known else ""
    return f"a verdict ({accuracy.get('verdict')}) on {words.counted(rows, 'row')}{on}"


def _same_device(before: Mapping[str, object], result: ValidateResult) -> bool:
    """Whether evidence is of the device that a result is of, whatever kernel it boots."""
    known = _mapping(before.get("device"))
    return all(known.get(key) == result.device.get(key) for key in ("cpu", "arch"))


def _weaker(
    before: Mapping[str, object], basis: Mapping[str, object], result: ValidateResult
) -> bool:
    """Whether a result answers the question that evidence answers on fewer rows, and no worse.

    That few rows decide nothing is no news where more have decided. Another metric, budget or data
    is another question: the latest answer to it stands. Data without a hash are told by their name.
    """
    accuracy, known = _mapping(before.get("accuracy")), _mapping(before.get("basis"))
    rows, own = accuracy.get("samples"), result.accuracy
    if own is None or not isinstance(rows, int) or result.verdict == "fail":
        return False
    name = "data" if known.get("sha256") is None else "sha256"
    return (
        own.samples < rows
        and accuracy.get("metric") == own.metric
        and result.verdict in (accuracy.get("verdict"), "inconclusive")
        and known.get("budget") == basis["budget"]
        and known.get("sha256") == basis["sha256"]
        and known.get(name) == basis[name]
    )


def _mapping(value: object) -> Mapping[str, object]:
    return value if isinstance(value, Mapping) else {}


def _plain(value: object) -> dict[str, object]:
    found = to_json(value)
    return found if isinstance(found, dict) else {}
