"""A processor of kind ``image``, read and checked: how a picture becomes a graph's tensor.

The operations run in the order in which they stand. Those on the picture itself (``resize``,
``center_crop``) come first, those on numbers (``rescale``, ``normalize``) next, ``pad`` last: it
is the order of transformers' image processors, whose arithmetic they repeat.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import TypeAlias

from edgekit.core._processor_reader import PICTURE_OPS, PROCESSOR_KEYS
from edgekit.core.errors import BundleCorrupt, BundleVersion, InputMismatch
from edgekit.runtime.fields import UPGRADE, number, only, short, word_of

#: Pillow's filters by the names that bundles use.
FILTERS = ("nearest", "box", "bilinear", "hamming", "bicubic", "lanczos")
CHANNELS: Mapping[str, int] = {"rgb": 3, "bgr": 3, "grey": 1}
LAYOUTS = ("chw", "hwc")

#: The most pixels of one tensor, all pictures of a batch together: 805 MB of red, green and blue.
#: A picture of one row made 256 high would have millions of columns.
MOST_TENSOR_PIXELS = 1 << 26
# No model reads more, and a number beyond says that the bundle is broken.
_LONGEST_EDGE = 1 << 16
_SIZES = (
    {"height", "width"},
    {"shortest_edge"},
    {"shortest_edge", "longest_edge"},
    {"max_height", "max_width"},
)


@dataclass(frozen=True)
class Size:
    """What a picture is resized to: exactly, or with its proportions kept.

    ``height`` and ``width``; or ``shortest_edge``, with ``longest_edge`` as a limit; or
    ``max_height`` and ``max_width``, of which one is reached.
    """

    height: int | None = None
    width: int | None = None
    shortest_edge: int | None = None
    longest_edge: int | None = None
    max_height: int | None = None
    max_width: int | None = None

    @property
    def fixed(self) -> tuple[int, int] | None:
        """(height, width) where it is the same for every picture."""
        if self.height is None or self.width is None:
            return None
        return self.height, self.width

    def target(self, height: int, width: int) -> tuple[int, int]:
        """The (height, width) that a picture of a size gets, rounded as transformers rounds.

        Raises InputMismatch for a picture so long and thin that nothing sensible comes out.
        """
        found = self.fixed or self._scaled(height, width)
        if min(found) < 1 or found[0] * found[1] > MOST_TENSOR_PIXELS:
            raise InputMismatch(
                f"A picture of {width}×{height} pixels would be resized to"
                f" {found[1]}×{found[0]}: it is too long and thin for this model.",
                hint="Crop it first.",
            )
        return found

    def _scaled(self, height: int, width: int) -> tuple[int, int]:
        if self.max_height is not None and self.max_width is not None:
            scale = min(self.max_height / height, self.max_width / width)
            return int(height * scale), int(width * scale)
        edge = self.shortest_edge
        assert edge is not None
        if self.longest_edge is None:
            long = int(edge * max(height, width) / min(height, width))
            return (long, edge) if width <= height else (edge, long)
        return _within(height, width, edge, self.longest_edge)


def _within(height: int, width: int, edge: int, most: int) -> tuple[int, int]:
    """The shorter edge at `edge`, or at less where the longer one would exceed `most`."""
    wanted: float = edge
    short, long = float(min(height, width)), float(max(height, width))
    if long / short * edge > most:
        wanted = most * short / long
        edge = round(wanted)
    if min(height, width) == edge:
        return height, width
    if width < height:
        return int(wanted * height / width), edge
    return edge, int(wanted * width / height)


@dataclass(frozen=True)
class Resize:
    """``filter`` is one of Pillow's, which average when they reduce; ``antialias`` False does not.

    Without it every pixel comes from its four neighbours, as in OpenCV's INTER_LINEAR.
    """

    size: Size
    filter: str = "bilinear"
    antialias: bool = True


@dataclass(frozen=True)
class CenterCrop:
    """The middle of the picture; what a smaller one lacks is black."""

    height: int
    width: int


@dataclass(frozen=True)
class Rescale:
    """pixel × factor + offset."""

    factor: float
    offset: float = 0.0


@dataclass(frozen=True)
class Normalize:
    """(value − mean) / std, of each channel."""

    mean: tuple[float, ...]
    std: tuple[float, ...]


@dataclass(frozen=True)
class Pad:
    """Filled up at the bottom and the right with a value."""

    height: int
    width: int
    value: float = 0.0


Op: TypeAlias = Resize | CenterCrop | Rescale | Normalize | Pad
# The order in which they may stand.
_STAGES: Mapping[type[Op], int] = {Resize: 0, CenterCrop: 0, Rescale: 1, Normalize: 1, Pad: 2}


@dataclass(frozen=True)
class PictureRules:
    """A processor of kind ``image``.

    ``channels`` is what a picture of any kind becomes first: rgb, bgr or grey. ``layout`` is that
    of the tensor, chw or hwc behind the batch. ``inputs`` are the graph's: the pixels, and where
    it takes one the mask of what is no padding.
    """

    channels: str
    layout: str
    ops: tuple[Op, ...]
    inputs: tuple[str, ...]
    post: Mapping[str, object]

    @property
    def size(self) -> tuple[int, int] | None:
        """(height, width) of the tensor where it is the same for every picture."""
        found: tuple[int, int] | None = None
        for op in self.ops:
            if isinstance(op, Resize):
                found = op.size.fixed
            elif isinstance(op, CenterCrop | Pad):
                found = op.height, op.width
        return found


def check_places(rules: PictureRules, size: tuple[int, int] | None = None) -> None:
    """Refuse a processor by which boxes or masks would be somewhere else than in the picture.

    Answers that have a place are scaled to the whole picture, so the graph has to see all of it
    and nothing but it. Only DETR's boxes are told by a mask what is padding; `size` is the (height,
    width) that the graph fixes, up to which pictures are filled. Raises BundleCorrupt.
    """
    kind = rules.post.get("kind")
    if kind not in ("object-detection", "segmentation"):
        return
    seen: tuple[int, int] | None = None
    for op in rules.ops:
        if isinstance(op, Resize):
            seen = op.size.fixed
        elif isinstance(op, CenterCrop) and seen != (op.height, op.width):
            raise BundleCorrupt(
                f"processor.ops has center_crop, and after it {kind} would answer for the middle"
                " of the picture only.",
                hint="Resize to the height and width of the graph instead.",
            )
    filled = size or rules.size
    told = kind == "object-detection" and len(rules.inputs) == 2
    if filled is None or filled == seen or told:
        return
    how = (
        "processor.ops has pad"
        if any(isinstance(op, Pad) for op in rules.ops)
        else f"the graph takes {filled[1]}×{filled[0]}, and processor.ops has no resize to it"
    )
    raise BundleCorrupt(
        f"Pictures would be filled up ({how}), and {kind} would answer for what they are filled up"
        " with, too.",
        hint="Resize to the height and width of the graph instead.",
    )


def read_picture_rules(processor: Mapping[str, object]) -> PictureRules:
    """The checked rules of a processor of kind ``image``.

    Raises:
        BundleVersion: an operation, key or word that this edgekit does not know.
        BundleCorrupt: a value that is not what it should be, or operations out of order.
    """
    if processor.get("kind") != "image":
        raise BundleVersion(f"The processor is of kind {processor.get('kind')!r}, not 'image'.")
    only(processor, "processor", tuple(sorted(PROCESSOR_KEYS["image"])))
    channels = word_of(processor, "channels", tuple(CHANNELS), "rgb", "processor")
    listed = processor.get("ops", [])
    if not isinstance(listed, list | tuple):
        raise BundleCorrupt(f"processor.ops should be a list, got {listed!r}.")
    ops = tuple(
        _op(value, f"processor.ops[{place}]", CHANNELS[channels])
        for place, value in enumerate(listed)
    )
    for earlier, later in pairwise(ops):
        if _STAGES[type(earlier)] > _STAGES[type(later)]:
            raise BundleCorrupt(
                f"processor.ops has {_name(later)} behind {_name(earlier)}.",
                hint="resize and center_crop come first, then rescale and normalize, pad last.",
            )
    post = processor.get("post", {})
    if not isinstance(post, Mapping):
        raise BundleCorrupt(f"processor.post should be an object, got {post!r}.")
    return PictureRules(
        channels=channels,
        layout=word_of(processor, "layout", LAYOUTS, "chw", "processor"),
        ops=ops,
        inputs=_inputs(processor),
        post=post,
    )


def _inputs(processor: Mapping[str, object]) -> tuple[str, ...]:
    names = processor.get("inputs", ["pixel_values"])
    if (
        not isinstance(names, list | tuple)
        or len(names) not in (1, 2)
        or not all(isinstance(name, str) and name for name in names)
    ):
        raise BundleCorrupt(
            f"processor.inputs names the input of the pixels and that of the mask, got {names!r}.",
            hint='Write ["pixel_values"] or ["pixel_values", "pixel_mask"].',
        )
    return tuple(names)


def _name(op: Op) -> str:
    return next(word for word, (kind, _) in _OPS.items() if kind is type(op))


def _op(value: object, where: str, channels: int) -> Op:
    if not isinstance(value, Mapping):
        raise BundleCorrupt(f"{where} should be an object, got {value!r}.")
    word = value.get("op")
    if not isinstance(word, str) or word not in _OPS:
        raise BundleVersion(
            f"{where} is {word!r}, which this edgekit does not know; it knows {', '.join(_OPS)}.",
            hint=UPGRADE,
        )
    only(value, where, ("op", *PICTURE_OPS[word]))
    return _OPS[word][1](value, where, channels)


def _resize(value: Mapping[str, object], where: str, channels: int) -> Op:
    size = value.get("size")
    if not isinstance(size, Mapping) or set(size) not in _SIZES:
        raise BundleCorrupt(
            f"{where}.size should have height and width, or shortest_edge (and longest_edge), or"
            f" max_height and max_width, got {size!r}."
        )
    edges = {str(key): _edge(size, str(key), f"{where}.size") for key in size}
    if "height" in edges:
        _check_area(edges["height"], edges["width"], where)
    word = word_of(value, "filter", FILTERS, "bilinear", where)
    antialias = value.get("antialias", True)
    if not isinstance(antialias, bool):
        raise BundleCorrupt(f"{where}.antialias is true or false, got {antialias!r}.")
    if not antialias and word != "bilinear":
        raise BundleVersion(
            f"{where} asks for {word} without antialias; this edgekit has that for bilinear only.",
            hint=UPGRADE,
        )
    return Resize(Size(**edges), word, antialias)


def _center_crop(value: Mapping[str, object], where: str, channels: int) -> Op:
    return CenterCrop(*_area(value, where))


def _rescale(value: Mapping[str, object], where: str, channels: int) -> Op:
    return Rescale(number(value, "factor", where), number(value, "offset", where, 0.0))


def _normalize(value: Mapping[str, object], where: str, channels: int) -> Op:
    mean, std = (_per_channel(value, key, where, channels) for key in ("mean", "std"))
    if 0.0 in std:
        raise BundleCorrupt(f"{where}.std holds a zero.")
    return Normalize(mean, std)


def _pad(value: Mapping[str, object], where: str, channels: int) -> Op:
    return Pad(*_area(value, where), number(value, "value", where, 0.0))


_OPS: Mapping[str, tuple[type[Op], Callable[[Mapping[str, object], str, int], Op]]] = {
    "resize": (Resize, _resize),
    "center_crop": (CenterCrop, _center_crop),
    "rescale": (Rescale, _rescale),
    "normalize": (Normalize, _normalize),
    "pad": (Pad, _pad),
}


def _edge(value: Mapping[str, object], key: str, where: str) -> int:
    found = value.get(key)
    if isinstance(found, bool) or not isinstance(found, int) or not 0 < found <= _LONGEST_EDGE:
        raise BundleCorrupt(
            f"{where}.{key} should be a number of pixels from 1 to {_LONGEST_EDGE}, got"
            f" {short(found)}."
        )
    return found


def _area(value: Mapping[str, object], where: str) -> tuple[int, int]:
    height, width = _edge(value, "height", where), _edge(value, "width", where)
    _check_area(height, width, where)
    return height, width


def _check_area(height: int, width: int, where: str) -> None:
    if height * width > MOST_TENSOR_PIXELS:
        raise BundleCorrupt(
            f"{where} makes pictures of {width}×{height}; the limit is"
            f" {MOST_TENSOR_PIXELS // 10**6} million pixels."
        )


def _per_channel(
    value: Mapping[str, object], key: str, where: str, channels: int
) -> tuple[float, ...]:
    """One number for each channel; a single one stands for all."""
    found = value.get(key)
    listed = list(found) if isinstance(found, list | tuple) else [found] * channels
    if len(listed) != channels:
        raise BundleCorrupt(f"{where}.{key} should have {channels} numbers, got {found!r}.")
    return tuple(number({key: item}, key, where) for item in listed)
