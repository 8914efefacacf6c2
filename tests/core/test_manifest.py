"""The manifest is read strictly and written as its published schema says."""

from __future__ import annotations

import json
from dataclasses import replace
from importlib.resources import files

import jsonschema
import pytest

from edgekit.core.errors import BundleCorrupt, BundleUnsafe, BundleVersion
from edgekit.core.manifest import (
    DTYPES,
    FORMATS,
    ROLES,
    STAGES,
    TASKS,
    FileEntry,
    Golden,
    Manifest,
    Origin,
    RuntimeChoice,
    Source,
    Step,
    parse_manifest,
)
from edgekit.core.tolerance import Tolerance
from tests.core.conftest import make_manifest

SCHEMA = json.loads((files("edgekit.core") / "manifest.schema.json").read_text(encoding="utf-8"))


@pytest.fixture
def full() -> Manifest:
    """A manifest that uses every field."""
    entries = tuple(
        FileEntry(name, 3, "0" * 64, role)
        for name, role in [
            ("model.xml", "component"),
            ("model.bin", "weights"),
            ("tokenizer.json", "processor"),
            ("golden.safetensors", "golden"),
            ("report.html", "evidence"),
        ]
    )
    return replace(
        make_manifest(),
        source=Source("factory", "a.b:c", None, "1" * 64, "Net", 5, "float32", "mit",
                      Origin("a.b:c", "1" * 64)),
        processor={"kind": "text", "tokenizer": "tokenizer.json", "max_length": 16,
                   "truncation": {"strategy": "longest_first"}, "padding": {"id": 0},
                   "inputs": ["x"], "post": {"kind": "embedding"}},
        labels=("no", "yes"),
        target={"name": "host"},
        workload={"batch": 1, "length": 16},
        runtime=RuntimeChoice({"threads": 2}, {"ratio": 1.25}),
        steps=(Step("export", {"opset": 23}, None, {"torch": "2.13.0"}, 1.5, {"nodes": 3}, {}),),
        golden=Golden("golden.safetensors", {"int8": Tolerance("cosine", minimum=0.98)}),
        evidence={"run_on": None},
        files=entries,
    )  # fmt: skip


def _changed(manifest: Manifest, **values: object) -> bytes:
    return json.dumps({**manifest.to_dict(), **values}).encode()


def test_round_trip(full: Manifest) -> None:
    """What is written reads back as the same manifest with the same id."""
    again = parse_manifest(full.to_json())
    assert again.to_dict() == full.to_dict()
    assert again.bundle_id() == full.bundle_id()


def test_matches_the_published_schema(full: Manifest) -> None:
    """The JSON that is written is valid by the schema that is published."""
    jsonschema.Draft202012Validator.check_schema(SCHEMA)
    jsonschema.validate(full.to_dict(), SCHEMA)


def test_schema_and_code_know_the_same_words() -> None:
    """The schema's enumerations are the code's."""
    properties = SCHEMA["properties"]
    spec = SCHEMA["$defs"]["component"]["properties"]["inputs"]["items"]["properties"]
    assert tuple(properties["stage"]["enum"]) == STAGES
    assert tuple(properties["task"]["enum"]) == TASKS
    assert tuple(properties["files"]["items"]["properties"]["role"]["enum"]) == ROLES
    assert tuple(SCHEMA["$defs"]["component"]["properties"]["format"]["enum"]) == FORMATS
    assert tuple(spec["dtype"]["enum"]) == DTYPES


def test_evidence_does_not_change_the_id(full: Manifest) -> None:
    """Evidence tells of a bundle; it is not what the bundle answers."""
    told = replace(full, evidence={"accuracy": 1.0}, steps=(), target=None)
    assert told.bundle_id() == full.bundle_id()


def test_labels_change_the_id(full: Manifest) -> None:
    """Labels are answers."""
    assert replace(full, labels=("yes", "no")).bundle_id() != full.bundle_id()


@pytest.mark.parametrize("key", ["components", "processor", "requires", "runtime"])
def test_unknown_key_that_changes_answers(full: Manifest, key: str) -> None:
    """Where a key changes answers, one that is not understood is refused by name."""
    value = {**full.to_dict()[key], "surprise": {}}  # type: ignore[dict-item]
    with pytest.raises(BundleVersion, match="surprise"):
        parse_manifest(_changed(full, **{key: value}))


@pytest.mark.parametrize("key", ["source", "evidence", "target"])
def test_unknown_key_that_only_tells(full: Manifest, key: str) -> None:
    """Where a key only tells, one that is not understood is ignored."""
    value = {**full.to_dict()[key], "surprise": 1}  # type: ignore[dict-item]
    parse_manifest(_changed(full, **{key: value, "surprise": 1}))


@pytest.mark.parametrize(
    "data",
    [b"", b"[]", b"{", b"\xff", b'{"format": "other"}', b'{"format": "edgekit-bundle"}',
     b"[" * 100_000, b'{"format_version": NaN}'],
)  # fmt: skip
def test_not_a_manifest(data: bytes) -> None:
    """Anything that is not a manifest is one clear error, however broken."""
    with pytest.raises(BundleCorrupt):
        parse_manifest(data)


def test_changed_manifest(full: Manifest) -> None:
    """A manifest edited by hand no longer has its own id."""
    with pytest.raises(BundleCorrupt, match="changed after it was written"):
        parse_manifest(_changed(full, labels=["yes", "no"]))


def test_every_wrong_type_is_one_clear_error(full: Manifest) -> None:
    """Replacing any single value by one of another type never escapes as a bug."""
    for key in full.to_dict():
        for wrong in (7, "x", [], {}, True, [None], {"a": None}):
            try:
                parse_manifest(_changed(full, **{key: wrong}))
            except (BundleCorrupt, BundleVersion, BundleUnsafe):
                continue


def test_unlisted_file(full: Manifest) -> None:
    """A component file outside the list of files is refused."""
    kept = replace(full, files=full.files[1:])
    with pytest.raises(BundleCorrupt, match=r"model.xml"):
        parse_manifest(kept.to_json())


@pytest.mark.parametrize("value", ['"\\ud800"', "1e999", "9" * 400, "[" * 5000 + "]" * 5000])
def test_value_without_a_canonical_form(full: Manifest, value: str) -> None:
    """JSON that RFC 8785 cannot write is a corrupt manifest, not a bug of ours."""
    data = full.to_json().replace(b'"threads": 2', f'"threads": {value}'.encode())
    assert value.encode() in data
    with pytest.raises(BundleCorrupt):
        parse_manifest(data)


@pytest.mark.parametrize(
    ("facts", "judged"),
    [
        ({"held_to": "data"}, True),
        ({"held_to": "data", "verdict": "pass"}, True),
        ({"held_to": "data", "verdict": "fail"}, False),
        ({"held_to": "data", "verdict": "inconclusive"}, False),
        ({"held_to": "tolerance", "verdict": "pass"}, False),
    ],
)
def test_what_counts_as_judged_on_data(
    full: Manifest, facts: dict[str, object], judged: bool
) -> None:
    """A budget that was met; a candidate that is still being judged is not held to less."""
    step = Step("quantize", facts=facts)
    assert replace(full, steps=(*full.steps, step)).judged_on_data is judged
