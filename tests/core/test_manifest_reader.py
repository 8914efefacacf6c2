"""What the reader refuses of a processor before anything is built from it."""

from __future__ import annotations

import json
from dataclasses import replace
from importlib.resources import files
from typing import Any

import jsonschema
import pytest

from edgekit.core._processor_reader import PICTURE_OPS, POSTS, SOUND_OPS
from edgekit.core.errors import BundleCorrupt, BundleVersion
from edgekit.core.manifest import FileEntry, Golden, Manifest, parse_manifest
from edgekit.core.tolerance import Tolerance
from edgekit.runtime.pictures.tasks import PICTURE_TASKS, PictureContext, make_picture_task
from edgekit.runtime.sound.rules import read_sound_rules
from edgekit.runtime.sound.tasks import SOUND_TASKS, SoundContext, make_sound_task
from edgekit.runtime.tasks import TEXT_TASKS, Context, make_text_task
from tests.core.conftest import make_manifest

SCHEMA = json.loads((files("edgekit.core") / "manifest.schema.json").read_text(encoding="utf-8"))
RESIZE = {"op": "resize", "size": {"shortest_edge": 8}}
IMAGE = {"kind": "image", "ops": [RESIZE], "post": {"kind": "image-classification"}}
TEXT = {"kind": "text", "tokenizer": "tokenizer.json", "post": {"kind": "embedding"}}
AUDIO = {
    "kind": "audio",
    "sampling_rate": 16000,
    "longest": 480000,
    "convolutions": [[10, 5], [3, 2]],
    "ops": [{"op": "standardize"}],
    "post": {"kind": "ctc", "blank": 0, "stride": 80000},
}
BOTH = {"kind": "image-text", "image": IMAGE, "text": TEXT}


def manifest(*components: str, processor: object = None) -> Manifest:
    """A manifest of some components, all of them of one graph."""
    whole = make_manifest()
    part = whole.components["model"]
    names = ("model.xml", "model.bin", "tokenizer.json")
    return replace(
        whole,
        components=dict.fromkeys(components, part),
        processor=processor,  # type: ignore[arg-type]
        files=tuple(
            FileEntry(name, 3, "0" * 64, role)
            for name, role in zip(names, ("component", "weights", "processor"), strict=True)
        ),
    )


@pytest.mark.parametrize(
    ("components", "processor"),
    [
        (("model",), IMAGE),
        (("model",), TEXT),
        (("model",), {**IMAGE, "ops": []}),
        (("model",), AUDIO),
        (("image", "text"), BOTH),
        (("image", "text"), None),
    ],
)
def test_processors_that_are_read(components: tuple[str, ...], processor: object) -> None:
    """As they are exported; the published schema agrees."""
    made = manifest(*components, processor=processor)
    jsonschema.validate(made.to_dict(), SCHEMA)
    assert parse_manifest(made.to_json()).processor == processor


@pytest.mark.parametrize(
    ("components", "processor"),
    [
        (("model",), BOTH),
        (("encoder", "decoder"), BOTH),
        (("image", "text"), IMAGE),
        (("image", "text"), TEXT),
    ],
)
def test_towers_have_a_processor_of_their_own(
    components: tuple[str, ...], processor: object
) -> None:
    """And nothing else has it."""
    with pytest.raises(BundleCorrupt, match="for the components"):
        parse_manifest(manifest(*components, processor=processor).to_json())


@pytest.mark.parametrize(
    "processor",
    [
        {**IMAGE, "ops": [{"op": "surprise"}]},
        {**IMAGE, "ops": [{**RESIZE, "surprise": 1}]},
        {**IMAGE, "ops": [{"op": "resize", "size": {"surprise": 8}}]},
        {**IMAGE, "post": {"kind": "surprise"}},
        {**IMAGE, "post": {"kind": "image-classification", "surprise": 1}},
        {**TEXT, "post": {"kind": "embedding", "surprise": 1}},
    ],
)
def test_unknown_words_of_a_processor(processor: dict[str, Any]) -> None:
    """Each would change answers; the reader need not build the processor to see it."""
    with pytest.raises(BundleVersion, match="surprise"):
        parse_manifest(manifest("model", processor=processor).to_json())
    towers = {**BOTH, str(processor["kind"]): processor}
    made = manifest("image", "text", processor=towers)
    with pytest.raises(BundleVersion, match="surprise"):
        parse_manifest(made.to_json())
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(made.to_dict(), SCHEMA)


@pytest.mark.parametrize(
    "processor",
    [
        {key: value for key, value in IMAGE.items() if key != "ops"},
        {**IMAGE, "ops": {}},
        {**IMAGE, "ops": ["resize"]},
        {**IMAGE, "ops": [{"op": ["resize"]}]},
        {**IMAGE, "ops": [{"op": "resize", "size": 8}]},
        {**IMAGE, "post": []},
        {**IMAGE, "post": {"kind": ["segmentation"]}},
        {**TEXT, "post": {"kind": {}}},
    ],
)
def test_wrong_values_of_a_processor(processor: object) -> None:
    """Also those that no table can be asked for."""
    made = manifest("model", processor=processor)
    with pytest.raises(BundleCorrupt):
        parse_manifest(made.to_json())
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(made.to_dict(), SCHEMA)


@pytest.mark.parametrize(
    "rule",
    [
        {"kind": []},
        {"kind": "max_abs", "relative": 10**400},
        {"kind": "cosine", "minimum": []},
    ],
)
def test_wrong_tolerances(rule: dict[str, object]) -> None:
    """One clear error."""
    golden = Golden("tokenizer.json", {"fp32": Tolerance("max_abs", relative=0.5)})
    made = replace(manifest("model"), golden=golden)
    data: Any = json.loads(made.to_json())
    data["golden"]["tolerance"]["fp32"] = rule
    with pytest.raises(BundleCorrupt, match="golden"):
        parse_manifest(json.dumps(data).encode())


def test_step_that_took_longer_than_a_double_can_say() -> None:
    """A whole number of any length is JSON."""
    data: Any = json.loads(manifest("model").to_json())
    data["steps"] = [{"step": "export", "seconds": 10**400}]
    with pytest.raises(BundleCorrupt, match=r"steps\[0\]\.seconds"):
        parse_manifest(json.dumps(data).encode())


@pytest.mark.parametrize(("kind", "known"), [("image", PICTURE_OPS), ("audio", SOUND_OPS)])
def test_schema_and_code_know_the_same_operations(kind: str, known: object) -> None:
    """Names and keys."""
    listed = SCHEMA["$defs"][f"{kind}_processor"]["properties"]["ops"]["items"]["oneOf"]
    assert {
        one["properties"]["op"]["const"]: tuple(key for key in one["properties"] if key != "op")
        for one in listed
    } == known


@pytest.mark.parametrize("kind", ["text", "image", "audio"])
def test_schema_and_tasks_know_the_same_posts(kind: str) -> None:
    """What the reader lets pass is what a task understands, and the other way round."""
    listed = SCHEMA["$defs"][f"{kind}_processor"]["properties"]["post"]["oneOf"]
    assert {
        one["properties"]["kind"]["const"]: tuple(key for key in one["properties"] if key != "kind")
        for one in listed
    } == POSTS[kind]
    tasks: Any = {"text": TEXT_TASKS, "image": PICTURE_TASKS, "audio": SOUND_TASKS}[kind]
    assert set(POSTS[kind]) == set(tasks)
    for name, keys in POSTS[kind].items():
        post = {"kind": name, "surprise": 1}
        with pytest.raises(BundleVersion) as caught:
            if kind == "text":
                make_text_task(Context(post, None, (), None))  # type: ignore[arg-type]
            elif kind == "audio":
                rules = read_sound_rules({**AUDIO, "post": post})
                make_sound_task(SoundContext(rules, None, ()))
            else:
                make_picture_task(PictureContext(post, None, ()))
        assert caught.value.message.endswith(f"it knows {', '.join(keys) or 'none'}.")
