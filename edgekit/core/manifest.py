"""The bundle manifest, format version 1: its records, its JSON and the identity made from it.

The published form is ``manifest.schema.json`` beside this file; `parse_manifest` enforces it and
says in one sentence what is wrong. What a manifest *answers* with (components, processor, labels,
generation, requires, runtime options, files) decides `Manifest.bundle_id`; what it *tells* (steps,
source, evidence, target) does not.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field

from edgekit.core.hashing import canonical_json, sha256_bytes
from edgekit.core.tolerance import Tolerance

FORMAT = "edgekit-bundle"
FORMAT_VERSION = 1
MANIFEST_NAME = "edgekit.json"
MANIFEST_MAX_BYTES = 1 << 20
GOLDEN_MAX_BYTES = 8 << 20

STAGES = ("exported", "imported", "quantized", "compiled")
FORMATS = ("onnx", "openvino-ir")
ROLES = ("component", "weights", "processor", "golden", "license", "evidence")
COMPONENT_SETS = (
    frozenset({"model"}),
    frozenset({"encoder", "decoder"}),
    frozenset({"image", "text"}),
)
DTYPES = (
    "bool", "int8", "uint8", "int16", "uint16", "int32", "uint32", "int64", "uint64",
    "float16", "bfloat16", "float32", "float64", "string",
)  # fmt: skip

TASKS = (
    "feature-extraction",
    "text-classification",
    "token-classification",
    "question-answering",
    "fill-mask",
    "image-classification",
    "object-detection",
    "image-segmentation",
    "audio-classification",
    "automatic-speech-recognition",
    "text-generation",
    "text2text-generation",
    "custom",
)


@dataclass(frozen=True)
class TensorSpec:
    """Name, numpy dtype and shape of one input or output; a symbol is a dimension that varies."""

    name: str
    dtype: str
    shape: tuple[int | str, ...]

    def to_json(self) -> dict[str, object]:
        """The record as the manifest holds it."""
        return {"name": self.name, "dtype": self.dtype, "shape": list(self.shape)}

    def __str__(self) -> str:
        return f"{self.name} {self.dtype}[{', '.join(map(str, self.shape))}]"


@dataclass(frozen=True)
class Component:
    """One graph of the bundle; the first of ``files`` is the one an engine opens."""

    format: str
    files: tuple[str, ...]
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]

    def to_json(self) -> dict[str, object]:
        """The record as the manifest holds it."""
        return {
            "format": self.format,
            "files": list(self.files),
            "inputs": [spec.to_json() for spec in self.inputs],
            "outputs": [spec.to_json() for spec in self.outputs],
        }


@dataclass(frozen=True)
class FileEntry:
    """One file of the bundle: its path inside, its size in bytes, its hash and its role."""

    path: str
    bytes: int
    sha256: str
    role: str

    def to_json(self) -> dict[str, object]:
        """The record as the manifest holds it."""
        return {"path": self.path, "bytes": self.bytes, "sha256": self.sha256, "role": self.role}


@dataclass(frozen=True)
class Origin:
    """The un-pruned, un-quantized model that everything is measured against."""

    id: str
    sha256: str


@dataclass(frozen=True)
class Source:
    """Where the weights came from; ``sha256`` is the hash of the sorted state dict."""

    kind: str
    id: str
    revision: str | None
    sha256: str
    architecture: str
    parameters: int
    dtype: str
    license: str | None
    origin: Origin

    def to_json(self) -> dict[str, object]:
        """The record as the manifest holds it."""
        return {
            "kind": self.kind,
            "id": self.id,
            "revision": self.revision,
            "sha256": self.sha256,
            "architecture": self.architecture,
            "parameters": self.parameters,
            "dtype": self.dtype,
            "license": self.license,
            "origin": {"id": self.origin.id, "sha256": self.origin.sha256},
        }


@dataclass(frozen=True)
class Requires:
    """What a device must have before the bundle may be opened there."""

    engine: str
    engine_min_version: str | None = None
    arch: str | None = None
    cpu_features: tuple[str, ...] = ()
    extras: tuple[str, ...] = ()

    def to_json(self) -> dict[str, object]:
        """The record as the manifest holds it."""
        return {
            "engine": self.engine,
            "engine_min_version": self.engine_min_version,
            "arch": self.arch,
            "cpu_features": list(self.cpu_features),
            "extras": list(self.extras),
        }


@dataclass(frozen=True)
class RuntimeChoice:
    """Engine options that change speed or answers, and what they were chosen by."""

    options: Mapping[str, object] = field(default_factory=dict)
    chosen_by: Mapping[str, object] = field(default_factory=dict)

    def to_json(self) -> dict[str, object]:
        """The record as the manifest holds it."""
        return {"options": dict(self.options), "chosen_by": dict(self.chosen_by)}


@dataclass(frozen=True)
class Step:
    """One thing that was done to get here; ``seconds`` is wall-clock time."""

    step: str
    options: Mapping[str, object] = field(default_factory=dict)
    input_id: str | None = None
    versions: Mapping[str, str] = field(default_factory=dict)
    seconds: float = 0.0
    facts: Mapping[str, object] = field(default_factory=dict)
    data: Mapping[str, object] = field(default_factory=dict)

    def to_json(self) -> dict[str, object]:
        """The record as the manifest holds it."""
        return {
            "step": self.step,
            "options": dict(self.options),
            "input_id": self.input_id,
            "versions": dict(self.versions),
            "seconds": self.seconds,
            "facts": dict(self.facts),
            "data": dict(self.data),
        }


@dataclass(frozen=True)
class Golden:
    """The file of golden inputs and outputs, and the tolerances that differ from core's table."""

    file: str
    tolerance: Mapping[str, Tolerance] = field(default_factory=dict)

    def to_json(self) -> dict[str, object]:
        """The record as the manifest holds it."""
        return {
            "file": self.file,
            "tolerance": {name: rule.to_json() for name, rule in self.tolerance.items()},
        }


@dataclass(frozen=True)
class Manifest:
    """Everything ``edgekit.json`` says."""

    name: str
    created_by: str
    stage: str
    task: str
    source: Source | None
    components: Mapping[str, Component]
    requires: Requires
    processor: Mapping[str, object] | None = None
    labels: tuple[str, ...] | None = None
    generation: Mapping[str, object] | None = None
    target: Mapping[str, object] | None = None
    workload: Mapping[str, object] | None = None
    runtime: RuntimeChoice = field(default_factory=RuntimeChoice)
    steps: tuple[Step, ...] = ()
    golden: Golden | None = None
    evidence: Mapping[str, object] = field(default_factory=dict)
    files: tuple[FileEntry, ...] = ()

    def answers(self) -> dict[str, object]:
        """The part that decides what the bundle answers: the input of `bundle_id`."""
        return {
            "format_version": FORMAT_VERSION,
            "components": {name: part.to_json() for name, part in self.components.items()},
            "processor": None if self.processor is None else dict(self.processor),
            "labels": None if self.labels is None else list(self.labels),
            "generation": None if self.generation is None else dict(self.generation),
            "requires": self.requires.to_json(),
            "runtime": {"options": dict(self.runtime.options)},
            "files": [
                entry.to_json()
                for entry in sorted(self.files, key=lambda entry: entry.path)
                if entry.role != "evidence"
            ],
        }

    @property
    def judged_on_data(self) -> bool:
        """Whether a budget on real samples, not a tolerance, is what its answers were held to.

        They may then differ from the original's on inputs that mean nothing, such as noise. What
        was kept although it did not pass is held to the tolerance as everything else.
        """
        return any(
            step.step == "quantize"
            and step.facts.get("held_to") == "data"
            and step.facts.get("verdict", "pass") == "pass"
            for step in self.steps
        )

    def bundle_id(self) -> str:
        """SHA-256 over the canonical JSON (RFC 8785) of `answers`: the same wherever it lies."""
        return sha256_bytes(canonical_json(self.answers()))

    def to_dict(self) -> dict[str, object]:
        """The manifest as plain JSON values, in the order in which a person reads it."""
        return {
            "format": FORMAT,
            "format_version": FORMAT_VERSION,
            "bundle_id": self.bundle_id(),
            "name": self.name,
            "created_by": self.created_by,
            "stage": self.stage,
            "task": self.task,
            "source": None if self.source is None else self.source.to_json(),
            "components": {name: part.to_json() for name, part in self.components.items()},
            "processor": None if self.processor is None else dict(self.processor),
            "labels": None if self.labels is None else list(self.labels),
            "generation": None if self.generation is None else dict(self.generation),
            "requires": self.requires.to_json(),
            "target": None if self.target is None else dict(self.target),
            "workload": None if self.workload is None else dict(self.workload),
            "runtime": self.runtime.to_json(),
            "steps": [step.to_json() for step in self.steps],
            "golden": None if self.golden is None else self.golden.to_json(),
            "evidence": dict(self.evidence),
            "files": [entry.to_json() for entry in sorted(self.files, key=lambda e: e.path)],
        }

    def to_json(self) -> bytes:
        """The bytes of ``edgekit.json``. Raises ValueError when they pass the cap of 1 MiB."""
        data = json.dumps(self.to_dict(), indent=2, ensure_ascii=False, allow_nan=False)
        encoded = data.encode("utf-8") + b"\n"
        if len(encoded) > MANIFEST_MAX_BYTES:
            raise ValueError(f"the manifest has {len(encoded)} bytes, over {MANIFEST_MAX_BYTES}")
        return encoded


def parse_manifest(data: bytes) -> Manifest:
    """The manifest in the bytes of an ``edgekit.json``.

    Raises:
        BundleCorrupt: not JSON, or a value that is not what the schema asks for.
        BundleVersion: a newer major version, or an unknown key where keys change answers.
        BundleUnsafe: over the size cap, or a path that could leave the bundle.
    """
    from edgekit.core._manifest_reader import read_manifest

    return read_manifest(data)
