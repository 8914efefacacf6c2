"""Post-processing of picture tasks in numpy, by the ``kind`` of a processor's ``post``.

Each repeats what transformers' pipeline answers by default, and its processor's `post_process_…`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import numpy as np
from numpy.typing import NDArray

from edgekit.core.errors import BundleCorrupt, BundleVersion, ConfigError
from edgekit.core.manifest import TensorSpec
from edgekit.runtime.pictures.interpolation import blend, weights
from edgekit.runtime.session import Array
from edgekit.runtime.tasks._base import (
    Answer,
    Options,
    check_keys,
    label,
    pick_outputs,
    softmax,
)
from edgekit.runtime.tasks.classification import Ranking

if TYPE_CHECKING:
    from PIL.Image import Image

# Numbers that are interpolated at a time: a picture of a camera in 150 classes has 1.8 billion.
_STRIPE = 1 << 22


@dataclass(frozen=True)
class PictureContext:
    """What a picture task is made from."""

    post: Mapping[str, object]
    labels: tuple[str, ...] | None
    outputs: tuple[TensorSpec, ...]


class PictureTask(Protocol):
    """Post-processing of one task; holds parameters only, so it serves many threads."""

    outputs: tuple[str, ...]
    options: frozenset[str]
    # Whether an answer has a value for every pixel, and so the size of what was decoded.
    per_pixel: bool

    def answer(self, outputs: Sequence[Array], size: tuple[int, int], options: Options) -> object:
        """The answer to one picture of `size` (height, width) from its rows of the outputs."""
        ...


class ImageClassification:
    """``[{"label", "score"}]``, the best ``top_k`` (5) first; ``top_k=None`` gives all."""

    options = Ranking.options
    per_pixel = False

    def __init__(self, context: PictureContext) -> None:
        check_keys(context.post, "activation", "top_k")
        self.outputs = pick_outputs(context, "logits")
        self._ranking = Ranking(context, self.outputs[0])

    def answer(self, outputs: Sequence[Array], size: tuple[int, int], options: Options) -> object:
        """See `PictureTask.answer`."""
        return self._ranking.answer(outputs[0], options)


class ImageEmbedding:
    """One float32 array ``[hidden]`` per picture: the graph pools and projects."""

    options: frozenset[str] = frozenset()
    per_pixel = False

    def __init__(self, context: PictureContext) -> None:
        check_keys(context.post)
        self.outputs = pick_outputs(context, "image_embeds")

    def answer(self, outputs: Sequence[Array], size: tuple[int, int], options: Options) -> object:
        """The embedding, an array of its own that does not keep the batch alive."""
        return np.array(outputs[0], dtype=np.float32)


class ImageStates(ImageEmbedding):
    """One float32 array ``[1, …]`` per picture: patches and features, or a map of channels."""

    def __init__(self, context: PictureContext) -> None:
        check_keys(context.post)
        self.outputs = pick_outputs(context, "last_hidden_state")

    def answer(self, outputs: Sequence[Array], size: tuple[int, int], options: Options) -> object:
        """The hidden states as transformers' pipeline gives them, with a batch of one."""
        return np.array(outputs[0][None], dtype=np.float32)


class ObjectDetection:
    """``[{"score", "label", "box": {"xmin", "ymin", "xmax", "ymax"}}]``, boxes in pixels.

    Of every query the best class that is not the last one, "nothing", when its score is above
    ``threshold`` (.5). Boxes come from the graph as centre, width and height from 0 to 1.
    """

    options = frozenset({"threshold"})
    per_pixel = False

    def __init__(self, context: PictureContext) -> None:
        check_keys(context.post, "threshold")
        self.outputs = pick_outputs(context, "logits", "pred_boxes")
        self._labels = context.labels or ()
        self._threshold = fraction_option(context.post, "threshold", 0.5)

    def answer(self, outputs: Sequence[Array], size: tuple[int, int], options: Options) -> object:
        """See `PictureTask.answer`."""
        threshold = fraction_option(options, "threshold", self._threshold)
        scores, classes, boxes = detect(outputs[0], outputs[1], size)
        kept = np.flatnonzero(scores > np.float32(threshold))
        return [
            {
                "score": float(scores[index]),
                "label": label(self._labels, int(classes[index])),
                "box": dict(
                    zip(("xmin", "ymin", "xmax", "ymax"), map(int, boxes[index]), strict=True)
                ),
            }
            for index in kept
        ]


class Segmentation:
    """``[{"score": None, "label", "mask"}]``: for each class that occurs its pixels, by number.

    A mask is a Pillow image of the picture's size, 255 where the class is and 0 elsewhere. Of a
    JPEG so large that it was decoded smaller it has the size that was decoded.
    """

    options: frozenset[str] = frozenset()
    per_pixel = True

    def __init__(self, context: PictureContext) -> None:
        # Of masks to learn or to judge by, which answers have nothing to do with.
        check_keys(context.post, "reduce_labels")
        if not isinstance(context.post.get("reduce_labels", False), bool):
            raise ConfigError(
                f"reduce_labels is true or false, got {context.post['reduce_labels']!r}."
            )
        self.outputs = pick_outputs(context, "logits")
        self._labels = context.labels or ()

    def answer(self, outputs: Sequence[Array], size: tuple[int, int], options: Options) -> object:
        """See `PictureTask.answer`."""
        classes = segment(outputs[0], size)
        return [
            {
                "score": None,
                "label": label(self._labels, int(found)),
                "mask": _mask(classes == found),
            }
            for found in np.unique(classes)
        ]


def detect(
    logits: Array, boxes: Array, size: tuple[int, int]
) -> tuple[NDArray[np.float32], NDArray[np.intp], NDArray[np.float32]]:
    """Score, class and corners in pixels of every query, ``[queries]`` and ``[queries, 4]``."""
    likely = softmax(logits)[:, :-1]
    places = np.asarray(boxes, dtype=np.float32)
    half = np.float32(0.5) * places[:, 2:]
    corners = np.concatenate([places[:, :2] - half, places[:, :2] + half], axis=1)
    height, width = size
    corners *= np.array([width, height, width, height], dtype=np.float32)
    return likely.max(axis=-1), likely.argmax(axis=-1), corners


def segment(logits: Array, size: tuple[int, int]) -> NDArray[np.uint16]:
    """The class of every pixel ``[height, width]`` from scores ``[classes, rows, columns]``.

    The scores are brought to the picture's size, stripe by stripe: never all of them at once.
    """
    values = np.asarray(logits, dtype=np.float32)
    height, width = size
    rows, columns = weights(values.shape[1], height), weights(values.shape[2], width)
    found = np.empty((height, width), dtype=np.uint16)
    step = max(1, _STRIPE // (len(values) * width))
    for start in range(0, height, step):
        stop = min(start + step, height)
        found[start:stop] = blend(values, rows.part(start, stop), columns).argmax(axis=0)
    return found


def _mask(where: NDArray[np.bool_]) -> Image:
    from PIL import Image as pillow

    return pillow.fromarray(where.astype(np.uint8) * 255)


def fraction_option(options: Mapping[str, object], key: str, default: float) -> float:
    """A number from 0 to 1 among options or parameters. Raises ConfigError."""
    found = options.get(key, default)
    if isinstance(found, bool) or not isinstance(found, int | float) or not 0 <= found <= 1:
        raise ConfigError(f"{key} is a number from 0 to 1, got {found!r}.")
    return float(found)


PICTURE_TASKS: Mapping[str, Callable[[PictureContext], PictureTask]] = {
    "image-classification": ImageClassification,
    "image-embedding": ImageEmbedding,
    "image-states": ImageStates,
    "object-detection": ObjectDetection,
    "segmentation": Segmentation,
}
# The task of a bundle by the kind of its post-processing.
TASK_OF: Mapping[str, str] = {
    "image-classification": "image-classification",
    "image-embedding": "feature-extraction",
    "image-states": "feature-extraction",
    "object-detection": "object-detection",
    "segmentation": "image-segmentation",
}


def make_picture_task(context: PictureContext) -> PictureTask:
    """The task that ``context.post`` describes. Raises BundleVersion, BundleCorrupt."""
    kind = context.post.get("kind")
    if not isinstance(kind, str) or kind not in PICTURE_TASKS:
        raise BundleVersion(
            f"processor.post is of kind {kind!r}; for pictures this edgekit knows"
            f" {', '.join(PICTURE_TASKS)}.",
            hint="Upgrade edgekit on this device: pip install --upgrade edgekit-ml",
        )
    try:
        return PICTURE_TASKS[kind](context)
    except ConfigError as error:
        # The same words are an option's fault in a call and the bundle's here.
        raise BundleCorrupt(f"processor.post: {error.message}", hint=error.hint) from error


__all__ = [
    "PICTURE_TASKS",
    "TASK_OF",
    "Answer",
    "PictureContext",
    "PictureTask",
    "detect",
    "make_picture_task",
    "segment",
]
