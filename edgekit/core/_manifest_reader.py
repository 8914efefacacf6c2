"""Reads ``edgekit.json`` strictly: refuse first, in words; build the records second."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from typing import TypeVar

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

T = TypeVar("T")
Json = Mapping[str, object]

_REMEDY = "Get the bundle again, or export it again; an edgekit.json is not meant to be edited."
_UPGRADE = "Upgrade edgekit on this device: pip install --upgrade edgekit-ml"

# What each kind of processor may say. Such a key changes answers, so an unknown one is refused.
PROCESSOR_KEYS: Mapping[str, frozenset[str]] = {
    "text": frozenset(
        {"kind", "tokenizer", "max_length", "truncation", "padding", "inputs", "post"}
    ),
    "image": frozenset({"kind", "channels", "layout", "ops", "inputs", "post"}),
    "image-text": frozenset({"kind", "image", "text"}),
    "audio": frozenset(
        {"kind", "sampling_rate", "longest", "convolutions", "ops", "inputs", "post"}
    ),
    # What a generative model reads: texts, or with `features` (a processor of kind audio) sounds.
    "generation": frozenset({"kind", "input", "tokenizer", "features"}),
}
# What each operation on pictures may say besides ``op``, and how a size is written.
PICTURE_OPS: Mapping[str, tuple[str, ...]] = {
    "resize": ("size", "filter", "antialias"),
    "center_crop": ("height", "width"),
    "rescale": ("factor", "offset"),
    "normalize": ("mean", "std"),
    "pad": ("height", "width", "value"),
}
# What each operation on sounds may say besides ``op``.
SOUND_OPS: Mapping[str, tuple[str, ...]] = {
    "fill": ("samples",),
    "standardize": ("epsilon",),
    "log_mel": (
        "frame", "hop", "fft", "bins", "low", "high", "window", "center", "remove_mean",
        "preemphasis", "scale", "unit_area", "floor", "log", "drop_last", "layout",
    ),
    "clamp": ("below",),
    "frames": ("count",),
    "normalize": ("mean", "std"),
}  # fmt: skip
_SIZE_KEYS = frozenset(
    {"height", "width", "shortest_edge", "longest_edge", "max_height", "max_width"}
)
# What each way to read outputs may say besides ``kind``, by the kind of the processor.
POSTS: Mapping[str, Mapping[str, tuple[str, ...]]] = {
    "text": {
        "embedding": (),
        "hidden-states": (),
        "classification": ("activation", "top_k"),
        "token-classification": ("aggregation", "ignore_labels", "unk_token_id"),
        "question-answering": (
            "max_answer_length", "max_sequence_length", "doc_stride", "cls_token_id",
            "handle_impossible_answer", "top_k",
        ),
        "fill-mask": ("top_k", "mask_token_id", "pad_token_id", "clean_up_tokenization_spaces"),
    },
    "image": {
        "image-classification": ("activation", "top_k"),
        "image-embedding": (),
        "image-states": (),
        "object-detection": ("threshold",),
        "segmentation": ("reduce_labels",),
    },
    "audio": {
        "audio-classification": ("activation", "top_k"),
        "ctc": ("blank", "delimiter", "lower", "stride", "clean_up_tokenization_spaces"),
    },
}  # fmt: skip
_OPS_OF: Mapping[str, Mapping[str, tuple[str, ...]]] = {"image": PICTURE_OPS, "audio": SOUND_OPS}
_TRUNCATION_KEYS = frozenset({"strategy", "side", "stride"})
_PADDING_KEYS = frozenset({"side", "token", "id", "type_id"})


class _Reader:
    """One JSON object, read key by key, remembering where it stands for its messages."""

    def __init__(self, value: object, where: str) -> None:
        if not isinstance(value, Mapping):
            raise _corrupt(where, "an object", value)
        self.value: Json = value
        self.where = where

    def _at(self, key: str) -> str:
        return f"{self.where}.{key}" if self.where else key

    def only(self, *keys: str) -> None:
        """Refuse every other key: here a key that is not understood would change answers."""
        refuse_unknown(self.value, frozenset(keys), self.where)

    def text(self, key: str, *, choices: Sequence[str] | None = None) -> str:
        found = self.value.get(key)
        if not isinstance(found, str) or not found:
            raise _corrupt(self._at(key), "a text", found)
        if choices is not None and found not in choices:
            raise BundleVersion(
                f"{self._at(key)} is {found!r}, which this edgekit does not know"
                f" ({', '.join(choices)}).",
                hint=_UPGRADE,
            )
        return found

    def optional_text(self, key: str) -> str | None:
        return None if self.value.get(key) is None else self.text(key)

    def whole(self, key: str) -> int:
        found = self.value.get(key)
        if isinstance(found, bool) or not isinstance(found, int) or found < 0:
            raise _corrupt(self._at(key), "a whole number of at least 0", found)
        return found

    def number(self, key: str) -> float:
        found = self.value.get(key, 0.0)
        if isinstance(found, bool) or not isinstance(found, (int, float)):
            raise _corrupt(self._at(key), "a number", found)
        try:
            return float(found)
        except OverflowError as error:
            raise _corrupt(self._at(key), "a number within a double's reach", found) from error

    def child(self, key: str) -> _Reader:
        return _Reader(self.value.get(key), self._at(key))

    def mapping(self, key: str) -> Json:
        found = self.value.get(key)
        return {} if found is None else _Reader(found, self._at(key)).value

    def optional_mapping(self, key: str) -> Json | None:
        return None if self.value.get(key) is None else self.mapping(key)

    def items(self, key: str, read: Callable[[object, str], T]) -> tuple[T, ...]:
        found = self.value.get(key)
        if not isinstance(found, list):
            raise _corrupt(self._at(key), "a list", found)
        return tuple(read(item, f"{self._at(key)}[{index}]") for index, item in enumerate(found))


def _corrupt(where: str, wanted: str, found: object) -> BundleCorrupt:
    shown = repr(found)
    shown = shown if len(shown) <= 60 else shown[:57] + "..."
    return BundleCorrupt(
        f"edgekit.json: {where or 'the whole'} should be {wanted}, got {shown}.", hint=_REMEDY
    )


def refuse_unknown(value: Json, known: frozenset[str], where: str) -> None:
    """Raise BundleVersion for the first key of `value` outside `known`."""
    for key in sorted(value):
        if key not in known:
            raise BundleVersion(
                f"edgekit.json: {where} has the key {key!r}, which this edgekit does not know"
                " and which may change the answers.",
                hint=_UPGRADE,
            )


def _plain_text(value: object, where: str) -> str:
    if not isinstance(value, str):
        raise _corrupt(where, "a text", value)
    return value


def _dimension(value: object, where: str) -> int | str:
    if isinstance(value, str) and value:
        return value
    if isinstance(value, int) and not isinstance(value, bool) and value >= 0:
        return value
    raise _corrupt(where, "a whole number or a symbol", value)


def _spec(value: object, where: str) -> TensorSpec:
    reader = _Reader(value, where)
    reader.only("name", "dtype", "shape")
    return TensorSpec(
        reader.text("name"),
        reader.text("dtype", choices=DTYPES),
        reader.items("shape", _dimension),
    )


def _component(value: object, where: str) -> Component:
    reader = _Reader(value, where)
    reader.only("format", "files", "inputs", "outputs")
    component = Component(
        reader.text("format", choices=FORMATS),
        reader.items("files", lambda item, at: safe_relative_path(_plain_text(item, at), at)),
        reader.items("inputs", _spec),
        reader.items("outputs", _spec),
    )
    if not component.files or not component.outputs:
        raise _corrupt(where, "a component with at least one file and one output", value)
    return component


def _file(value: object, where: str) -> FileEntry:
    reader = _Reader(value, where)
    digest = reader.text("sha256")
    if len(digest) != 64 or set(digest) - set("0123456789abcdef"):
        raise _corrupt(f"{where}.sha256", "64 lower-case hexadecimal digits", digest)
    path = safe_relative_path(reader.text("path"), f"{where}.path")
    return FileEntry(path, reader.whole("bytes"), digest, reader.text("role", choices=ROLES))


def _source(reader: _Reader) -> Source:
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
    reader = _Reader(value, where)
    return Step(
        step=reader.text("step"),
        options=reader.mapping("options"),
        input_id=reader.optional_text("input_id"),
        versions={key: str(text) for key, text in reader.mapping("versions").items()},
        seconds=reader.number("seconds"),
        facts=reader.mapping("facts"),
        data=reader.mapping("data"),
    )


def _requires(reader: _Reader) -> Requires:
    reader.only("engine", "engine_min_version", "arch", "cpu_features", "extras")
    return Requires(
        reader.text("engine"),
        reader.optional_text("engine_min_version"),
        reader.optional_text("arch"),
        reader.items("cpu_features", _plain_text),
        reader.items("extras", _plain_text),
    )


def _golden(reader: _Reader) -> Golden:
    rules = {}
    for precision, rule in reader.mapping("tolerance").items():
        if precision not in TOLERANCES:
            raise BundleVersion(f"golden.tolerance names {precision!r}.", hint=_UPGRADE)
        try:
            rules[precision] = tolerance_from_json(_Reader(rule, f"golden.{precision}").value)
        except ConfigError as error:
            raise BundleCorrupt(f"edgekit.json: golden: {error.message}", hint=_REMEDY) from error
        except (TypeError, OverflowError) as error:
            # A kind that is a list, a number beyond a double.
            raise _corrupt(f"golden.tolerance.{precision}", "a tolerance", rule) from error
    return Golden(safe_relative_path(reader.text("file"), "golden.file"), rules)


def _processor(value: Json | None) -> Json | None:
    if value is None:
        return None
    _processor_part(value, "processor", tuple(PROCESSOR_KEYS))
    return value


def _processor_part(value: object, where: str, kinds: Sequence[str]) -> None:
    """The keys of one processor, at every depth; their values are read where they are used."""
    reader = _Reader(value, where)
    kind = reader.text("kind", choices=kinds)
    refuse_unknown(reader.value, PROCESSOR_KEYS[kind], where)
    if kind == "text":
        safe_relative_path(reader.text("tokenizer"), f"{where}.tokenizer")
        refuse_unknown(reader.mapping("truncation"), _TRUNCATION_KEYS, f"{where}.truncation")
        refuse_unknown(reader.mapping("padding"), _PADDING_KEYS, f"{where}.padding")
    if kind in _OPS_OF:
        known_ops = _OPS_OF[kind]
        reader.items("ops", lambda item, at: _op(item, at, known_ops))
    if kind in POSTS and reader.value.get("post") is not None:
        post = reader.child("post")
        known = POSTS[kind]
        keys = known[post.text("kind", choices=tuple(known))]
        refuse_unknown(post.value, frozenset({"kind", *keys}), post.where)
    if kind == "generation":
        safe_relative_path(reader.text("tokenizer"), f"{where}.tokenizer")
        if reader.text("input", choices=("text", "audio")) == "audio":
            _processor_part(reader.value.get("features"), f"{where}.features", ("audio",))
        elif reader.value.get("features") is not None:
            raise BundleCorrupt(f"{where}.features belongs to the input audio.", hint=_REMEDY)
    if kind == "image-text":
        for part in ("image", "text"):
            _processor_part(reader.value.get(part), f"{where}.{part}", (part,))


def _op(value: object, where: str, ops: Mapping[str, tuple[str, ...]]) -> None:
    reader = _Reader(value, where)
    word = reader.text("op", choices=tuple(ops))
    refuse_unknown(reader.value, frozenset({"op", *ops[word]}), where)
    if word == "resize":
        refuse_unknown(reader.child("size").value, _SIZE_KEYS, f"{where}.size")


def _runtime(reader: _Reader) -> RuntimeChoice:
    reader.only("options", "chosen_by")
    return RuntimeChoice(reader.mapping("options"), reader.mapping("chosen_by"))


def _check_version(value: Json) -> None:
    if value.get("format") != FORMAT:
        raise _corrupt("format", repr(FORMAT), value.get("format"))
    version = value.get("format_version")
    if isinstance(version, bool) or not isinstance(version, int) or version < 1:
        raise _corrupt("format_version", "a whole number of at least 1", version)
    if version > FORMAT_VERSION:
        raise BundleVersion(
            f"The bundle has format version {version}; this edgekit reads up to {FORMAT_VERSION}.",
            hint=_UPGRADE,
        )


def _check_references(manifest: Manifest, recorded: str | None) -> None:
    """Files that the manifest speaks of are listed, and the id it carries is its own."""
    listed = [entry.path for entry in manifest.files]
    folded = {path.casefold() for path in listed}
    if len(folded) != len(listed):
        raise BundleCorrupt("edgekit.json lists a file twice.", hint=_REMEDY)
    named = [file for part in manifest.components.values() for file in part.files]
    if manifest.golden is not None:
        named.append(manifest.golden.file)
    processor = manifest.processor or {}
    towers = set(manifest.components) == {"image", "text"}
    if processor and towers != (processor["kind"] == "image-text"):
        raise BundleCorrupt(
            f"edgekit.json has a processor of kind {processor['kind']!r} for the components"
            f" {', '.join(sorted(manifest.components))}.",
            hint=_REMEDY,
        )
    for part in (processor, processor.get("text")):
        if isinstance(part, Mapping) and "tokenizer" in part:
            named.append(str(part["tokenizer"]))
    for path in named:
        if path not in listed:
            raise BundleCorrupt(
                f"edgekit.json uses {path!r}, which its list of files lacks.", hint=_REMEDY
            )
    try:
        own = manifest.bundle_id()
    except (ValueError, OverflowError, RecursionError) as error:
        # Lone surrogates, numbers beyond a double, nesting without end: JSON, but not RFC 8785's.
        raise BundleCorrupt(
            f"edgekit.json holds a value that has no canonical form: {error}.", hint=_REMEDY
        ) from error
    if recorded is not None and recorded != own:
        raise BundleCorrupt(
            f"edgekit.json was changed after it was written: its bundle_id {recorded[:12]}… is"
            f" not the one of its content, {own[:12]}….",
            hint=_REMEDY,
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
        raise BundleCorrupt(f"edgekit.json is not valid JSON: {error}.", hint=_REMEDY) from error
    reader = _Reader(value, "")
    _check_version(reader.value)
    parts = reader.child("components")
    if frozenset(parts.value) not in COMPONENT_SETS:
        raise BundleVersion(
            f"edgekit.json has the components {sorted(parts.value)}; this edgekit knows"
            f" {', '.join('+'.join(sorted(names)) for names in COMPONENT_SETS)}.",
            hint=_UPGRADE,
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
        processor=_processor(reader.optional_mapping("processor")),
        labels=None if has("labels") is None else reader.items("labels", _plain_text),
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
