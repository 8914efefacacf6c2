"""Which keys a bundle's processor may have: one that is unknown would change the answers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from edgekit.core._json_reader import REMEDY, Json, Reader, refuse_unknown
from edgekit.core.errors import BundleCorrupt
from edgekit.core.paths import safe_relative_path

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


def read_processor(value: Json | None) -> Json | None:
    """The processor as it stands there; None where there is none.

    Raises BundleVersion for a key or a kind that is unknown, at every depth.
    """
    if value is None:
        return None
    _processor_part(value, "processor", tuple(PROCESSOR_KEYS))
    return value


def _processor_part(value: object, where: str, kinds: Sequence[str]) -> None:
    """The keys of one processor, at every depth; their values are read where they are used."""
    reader = Reader(value, where)
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
            raise BundleCorrupt(f"{where}.features belongs to the input audio.", hint=REMEDY)
    if kind == "image-text":
        for part in ("image", "text"):
            _processor_part(reader.value.get(part), f"{where}.{part}", (part,))


def _op(value: object, where: str, ops: Mapping[str, tuple[str, ...]]) -> None:
    reader = Reader(value, where)
    word = reader.text("op", choices=tuple(ops))
    refuse_unknown(reader.value, frozenset({"op", *ops[word]}), where)
    if word == "resize":
        refuse_unknown(reader.child("size").value, _SIZE_KEYS, f"{where}.size")
