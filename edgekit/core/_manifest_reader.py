"""Reads ``edgekit.json`` strictly: refuse first, in words; build the records second."""

from __future__ import annotations

import json
from collections.abc import Mapping

from edgekit.core._json_reader import REMEDY, UPGRADE, Json, Reader, corrupt, plain_text
from edgekit.core._processor_reader import read_processor
from edgekit.core.errors import BundleCorrupt, BundleUnsafe, BundleVersion, ConfigError
from edgekit.core.manifest import (
    COMPONENT_SETS,
    DTYPES,
    FORMAT,
    FORMAT_VERSION,
    FORMATS,
    MANIFEST_MAX_BYTES,
    ROLES,
    STAGES,
    TASKS,
    Component,
    FileEntry,
    Golden,
    Manifest,
    Origin,
    Requires,
    RuntimeChoice,
    Source,
    Step,
    TensorSpec,
)
from edgekit.core.paths import safe_relative_path
from edgekit.core.tolerance import TOLERANCES, tolerance_from_json


def _dimension(value: object, where: str) -> int | str:
    if isinstance(value, str) and value:
        return value
    if isinstance(value, int) and not isinstance(value, bool) and value >= 0:
        return value
    raise corrupt(where, "a whole number or a symbol", value)


def _spec(value: object, where: str) -> TensorSpec:
    reader = Reader(value, where)
    reader.only("name", "dtype", "shape")
    return TensorSpec(
        reader.text("name"),
        reader.text("dtype", choices=DTYPES),
        reader.items("shape", _dimension),
    )


def _component(value: object, where: str) -> Component:
    reader = Reader(value, where)
    reader.only("format", "files", "inputs", "outputs")
    component = Component(
        reader.text("format", choices=FORMATS),
        reader.items("files", lambda item, at: safe_relative_path(plain_text(item, at), at)),
        reader.items("inputs", _spec),
        reader.items("outputs", _spec),
    )
    if not component.files or not component.outputs:
        raise corrupt(where, "a component with at least one file and one output", value)
    return component


def _file(value: object, where: str) -> FileEntry:
    reader = Reader(value, where)
    digest = reader.text("sha256")
    if len(digest) != 64 or set(digest) - set("0123456789abcdef"):
        raise corrupt(f"{where}.sha256", "64 lower-case hexadecimal digits", digest)
    path = safe_relative_path(reader.text("path"), f"{where}.path")
    return FileEntry(path, reader.whole("bytes"), digest, reader.text("role", choices=ROLES))


def _source(reader: Reader) -> Source:
    origin = reader.child("origin")
    return Source(
        kind=reader.text("kind"),
        id=reader.text("id"),
        revision=reader.optional_text("revision"),
        sha256=reader.text("sha256"),
        architecture=reader.text("architecture"),
        parameters=reader.whole("parameters"),
        dtype=reader.text("dtype"),
        license=reader.optional_text("license"),
        origin=Origin(origin.text("id"), origin.text("sha256")),
    )


def _step(value: object, where: str) -> Step:
    reader = Reader(value, where)
    return Step(
        step=reader.text("step"),
        options=reader.mapping("options"),
        input_id=reader.optional_text("input_id"),
        versions={key: str(text) for key, text in reader.mapping("versions").items()},
        seconds=reader.number("seconds"),
        facts=reader.mapping("facts"),
        data=reader.mapping("data"),
    )


def _requires(reader: Reader) -> Requires:
    reader.only("engine", "engine_min_version", "arch", "cpu_features", "extras")
    return Requires(
        reader.text("engine"),
        reader.optional_text("engine_min_version"),
        reader.optional_text("arch"),
        reader.items("cpu_features", plain_text),
        reader.items("extras", plain_text),
    )


def _golden(reader: Reader) -> Golden:
    rules = {}
    for precision, rule in reader.mapping("tolerance").items():
        if precision not in TOLERANCES:
            raise BundleVersion(f"golden.tolerance names {precision!r}.", hint=UPGRADE)
        try:
            rules[precision] = tolerance_from_json(Reader(rule, f"golden.{precision}").value)
        except ConfigError as error:
            raise BundleCorrupt(f"edgekit.json: golden: {error.message}", hint=REMEDY) from error
        except (TypeError, OverflowError) as error:
            # A kind that is a list, a number beyond a double.
            raise corrupt(f"golden.tolerance.{precision}", "a tolerance", rule) from error
    return Golden(safe_relative_path(reader.text("file"), "golden.file"), rules)


def _runtime(reader: Reader) -> RuntimeChoice:
    reader.only("options", "chosen_by")
    return RuntimeChoice(reader.mapping("options"), reader.mapping("chosen_by"))


def _check_version(value: Json) -> None:
    if value.get("format") != FORMAT:
        raise corrupt("format", repr(FORMAT), value.get("format"))
    version = value.get("format_version")
    if isinstance(version, bool) or not isinstance(version, int) or version < 1:
        raise corrupt("format_version", "a whole number of at least 1", version)
    if version > FORMAT_VERSION:
        raise BundleVersion(
            f"The bundle has format version {version}; this edgekit reads up to {FORMAT_VERSION}.",
            hint=UPGRADE,
        )


def _check_references(manifest: Manifest, recorded: str | None) -> None:
    """Files that the manifest speaks of are listed, and the id it carries is its own."""
    listed = [entry.path for entry in manifest.files]
    folded = {path.casefold() for path in listed}
    if len(folded) != len(listed):
        raise BundleCorrupt("edgekit.json lists a file twice.", hint=REMEDY)
    named = [file for part in manifest.components.values() for file in part.files]
    if manifest.golden is not None:
        named.append(manifest.golden.file)
    processor = manifest.processor or {}
    towers = set(manifest.components) == {"image", "text"}
    if processor and towers != (processor["kind"] == "image-text"):
        raise BundleCorrupt(
            f"edgekit.json has a processor of kind {processor['kind']!r} for the components"
            f" {', '.join(sorted(manifest.components))}.",
            hint=REMEDY,
        )
    for part in (processor, processor.get("text")):
        if isinstance(part, Mapping) and "tokenizer" in part:
            named.append(str(part["tokenizer"]))
    for path in named:
        if path not in listed:
            raise BundleCorrupt(
                f"edgekit.json uses {path!r}, which its list of files lacks.", hint=REMEDY
            )
    try:
        own = manifest.bundle_id()
    except (ValueError, OverflowError, RecursionError) as error:
        # Lone surrogates, numbers beyond a double, nesting without end: JSON, but not RFC 8785's.
        raise BundleCorrupt(
            f"edgekit.json holds a value that has no canonical form: {error}.", hint=REMEDY
        ) from error
    if recorded is not None and recorded != own:
        raise BundleCorrupt(
            f"edgekit.json was changed after it was written: its bundle_id {recorded[:12]}… is"
            f" not the one of its content, {own[:12]}….",
            hint=REMEDY,
        )


def _no_constants(name: str) -> object:
    raise ValueError(f"{name} is not JSON")


def read_manifest(data: bytes) -> Manifest:
    """What `parse_manifest` promises."""
    if len(data) > MANIFEST_MAX_BYTES:
        raise BundleUnsafe(
            f"edgekit.json has {len(data)} bytes, more than the {MANIFEST_MAX_BYTES} allowed.",
            hint="Do not use this bundle.",
        )
    try:
        value = json.loads(data.decode("utf-8"), parse_constant=_no_constants)
    except (ValueError, RecursionError) as error:
        raise BundleCorrupt(f"edgekit.json is not valid JSON: {error}.", hint=REMEDY) from error
    reader = Reader(value, "")
    _check_version(reader.value)
    parts = reader.child("components")
    if frozenset(parts.value) not in COMPONENT_SETS:
        raise BundleVersion(
            f"edgekit.json has the components {sorted(parts.value)}; this edgekit knows"
            f" {', '.join('+'.join(sorted(names)) for names in COMPONENT_SETS)}.",
            hint=UPGRADE,
        )
    has = reader.value.get
    manifest = Manifest(
        name=reader.text("name"),
        created_by=reader.text("created_by"),
        stage=reader.text("stage", choices=STAGES),
        task=reader.text("task", choices=TASKS),
        source=None if has("source") is None else _source(reader.child("source")),
        components={
            name: _component(part, f"components.{name}") for name, part in parts.value.items()
        },
        requires=_requires(reader.child("requires")),
        processor=read_processor(reader.optional_mapping("processor")),
        labels=None if has("labels") is None else reader.items("labels", plain_text),
        generation=reader.optional_mapping("generation"),
        target=reader.optional_mapping("target"),
        workload=reader.optional_mapping("workload"),
        runtime=_runtime(reader.child("runtime")),
        steps=reader.items("steps", _step),
        golden=None if has("golden") is None else _golden(reader.child("golden")),
        evidence=reader.mapping("evidence"),
        files=reader.items("files", _file),
    )
    _check_references(manifest, reader.optional_text("bundle_id"))
    return manifest
