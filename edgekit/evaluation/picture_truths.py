"""What DATA says of pictures: masks, which are read one by one, and boxes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, cast

import numpy as np

from edgekit.core.errors import ConfigError
from edgekit.core.manifest import Manifest
from edgekit.evaluation.metrics import Metric, Prediction, Truth
from edgekit.evaluation.metrics.boxes import MOST_CLASSES, no_boxes
from edgekit.evaluation.metrics.masks import IGNORED_PIXEL
from edgekit.evaluation.statistics import Floats
from edgekit.runtime.pictures.decoding import (
    BROKEN,
    MOST_PIXELS,
    open_picture,
    own_size,
    pillow_limit,
    told_size,
)
from edgekit.runtime.session import Array
from edgekit.sources.data import Samples
from edgekit.sources.data_boxes import Boxes

if TYPE_CHECKING:
    from PIL.Image import Image

# The formats that hold numbers of classes unchanged. Pillow would open any other, and hand
# PostScript to Ghostscript.
_MASKS = ("PNG", "TIFF", "BMP", "GIF", "WEBP")
# The boxes that a reference is sure of, where nothing else says how sure that is.
_SURE = 0.5


@dataclass(frozen=True)
class MaskTruths:
    """The masks of DATA, each read when its picture is compared and let go at once.

    A metric's rows are a few numbers for each picture, whatever its size. Without labels the
    reference's mask is the truth. ``reduced`` says that classes are counted from 1, 0 being none.
    """

    metric: Metric
    samples: Samples
    reduced: bool

    def rows(
        self, index: int, reference: Prediction, candidate: Prediction
    ) -> tuple[Floats, Floats, tuple[str, str]]:
        """The metric's row of both sides of a picture, and how they are told.

        Raises ConfigError for a mask that cannot be read, or does not fit.
        """
        truth = self.read(index) if self.samples.labels is not None else reference
        before, after = (self.metric.rows([said], [truth])[0] for said in (reference, candidate))
        one = np.ones((1, 1))
        values = [float(self.metric.aggregate(row[None], one)[0]) for row in (before, after)]
        apart = float(np.mean(np.asarray(reference) != np.asarray(candidate)))
        name = self.metric.name
        told = (f"{name} {values[0]:.4f}", f"{name} {values[1]:.4f}, {apart:.2%} of pixels differ")
        return before, after, told

    def read(self, index: int) -> Array:
        """The mask of one sample. Raises ConfigError."""
        assert self.samples.labels is not None
        return read_mask(self.samples.labels[index], reduced=self.reduced)


def reduces_labels(manifest: Manifest) -> bool:
    """Whether masks of DATA count the bundle's classes from 1, as its processor does."""
    post = (manifest.processor or {}).get("post")
    return isinstance(post, Mapping) and post.get("reduce_labels") is True


def masks_notes(samples: Samples, manifest: Manifest) -> list[str]:
    """What a person should know of how masks of DATA are read: they may be reduced already."""
    if samples.labels is None or samples.task != "image-segmentation":
        return []
    if not reduces_labels(manifest):
        return []
    return [
        "As the model was trained, 0 of a mask does not count and its other classes are taken one"
        " lower: give masks that were not reduced yet."
    ]


def check_truths(samples: Samples, classes: Sequence[str] = ()) -> None:
    """Look at the sizes of all masks, and of the pictures that boxes were drawn in, by their heads.

    Of boxes also whether there are any to be found, and of `classes` of the model, where these are
    known. What is wrong at the end of DATA should not cost an hour. Raises ConfigError.
    """
    boxes = [label for label in samples.labels or () if isinstance(label, Boxes)]
    if boxes:
        _check_boxes(boxes, len(classes))
    for number, (row, label) in enumerate(zip(samples.inputs, samples.labels or (), strict=False)):
        if isinstance(label, Boxes):
            if label.size is not None:
                _check_size(row["image"], label.size, f"The boxes of sample {number + 1} were")
        elif samples.task == "image-segmentation":
            size = _mask_size(label)
            if size is not None:
                _check_size(row["image"], size, f"The mask {label}")


def _check_boxes(labels: Sequence[Boxes], classes: int) -> None:
    rows = [row for label in labels for row in label.rows]
    if not any(not row[5] for row in rows):
        raise no_boxes()
    lowest, highest = (int(edge(row[0] for row in rows)) for edge in (min, max))
    most = classes or MOST_CLASSES
    if lowest < 0:
        raise ConfigError(
            f"The label {lowest} is no class: classes are counted from 0 to {most - 1}.",
            hint="Leave out the boxes without a label, or give theirs.",
        )
    if highest >= most:
        has = f"has {classes} classes" if classes else f"has no more than {most} classes"
        raise ConfigError(
            f"The label {highest} is unknown to the model, which {has}.",
            hint="Write class numbers from 0, or the model's label names; a file in COCO's form"
            " names its own with categories.",
        )


def _check_size(picture: object, size: tuple[int, int], what: str) -> None:
    if isinstance(picture, np.ndarray):
        found: tuple[int, int] | None = (picture.shape[0], picture.shape[1])
    else:
        found = told_size(picture) if isinstance(picture, Path) else None
    if found is not None and found != size and found == size[::-1]:
        # Perhaps it says behind its pixels how it was held.
        found = own_size(open_picture(picture))
    # What is no picture is told where it is decoded.
    if found is not None and found != size:
        raise wrong_size(what, size, found)


def wrong_size(what: str, size: tuple[int, int], found: tuple[int, int]) -> ConfigError:
    """What to say of a mask, or of boxes, that are another picture's."""
    if what.startswith("The boxes"):
        return ConfigError(
            f"{what} drawn in a picture of {size[1]}×{size[0]} pixels; the picture has"
            f" {found[1]}×{found[0]}.",
            hint="Draw boxes in the size of upright pictures, or correct the file's width and"
            " height.",
        )
    return ConfigError(
        f"{what} has {size[1]}×{size[0]} pixels, its picture {found[1]}×{found[0]}.",
        hint="Write masks in the size of their upright pictures.",
    )


def _mask_size(value: object) -> tuple[int, int] | None:
    """(height, width) of a mask by its head. Raises ConfigError for what is none."""
    with _opened(value) as image:
        return image.height, image.width


def read_mask(value: object, *, reduced: bool = False) -> Array:
    """The class of every pixel in a mask's file, ``[height, width]``.

    `reduced` masks count classes from 1: 0 does not count then, as ADE20K has it.

    Raises ConfigError for one that cannot be read, or holds colours instead of class numbers.
    """
    with _opened(value) as image:
        found = np.asarray(image)
    if found.ndim != 2 or found.dtype.kind not in "ui":
        raise ConfigError(
            f"The mask {value} holds {found.dtype}{list(found.shape)}, not class numbers.",
            hint="Write it with one channel of 8 bits: 0, 1, … the class of each pixel.",
        )
    return _reduced(found) if reduced else found


def _reduced(mask: Array) -> Array:
    """Classes one lower, what was 0 not counted; what was not counted before is not now either."""
    none = (mask == 0) | (mask == IGNORED_PIXEL)
    lower = np.subtract(mask, 1, dtype=mask.dtype, casting="unsafe")
    return np.where(none, np.asarray(IGNORED_PIXEL, mask.dtype), lower)


@contextmanager
def _opened(value: object) -> Iterator[Image]:
    """A mask of which the head was read. Raises ConfigError for what is none, or too large."""
    from PIL import Image

    if not isinstance(value, Path):
        raise ConfigError(
            f"A mask is a file of its own, got {type(value).__name__}.",
            hint="Give a table with the columns image and mask, which hold paths.",
        )
    try:
        with Image.open(value, formats=_MASKS) as image:
            if image.width * image.height > MOST_PIXELS:
                raise _too_large(
                    value,
                    f"{image.width}×{image.height} pixels; the limit is {MOST_PIXELS // 10**6}"
                    " million",
                )
            yield image
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise _too_large(value, f"it has {pillow_limit(error)}") from error
    except BROKEN as error:
        raise ConfigError(
            f"The mask {value} cannot be read: {str(error) or type(error).__name__}.",
            hint=f"Masks are files of {', '.join(_MASKS)}.",
        ) from error


def _too_large(path: Path, what: str) -> ConfigError:
    return ConfigError(
        f"The mask {path} is too large: {what}.",
        hint="Make it and its picture smaller first.",
    )


def box_truths(
    samples: Samples, reference: Sequence[Prediction], manifest: Manifest
) -> list[Truth]:
    """What is to be found in each picture, ``[objects, 6]``: class, corners, crowd.

    Without labels it is what the reference is sure of, by the bundle's own threshold.
    """
    if samples.labels is not None:
        boxes = [cast("Boxes", label) for label in samples.labels]
        return [np.array(one.rows, dtype=np.float64).reshape(-1, 6) for one in boxes]
    post = (manifest.processor or {}).get("post")
    told = post.get("threshold") if isinstance(post, Mapping) else None
    least = float(told) if isinstance(told, int | float) else _SURE
    found: list[Truth] = []
    for one in reference:
        rows = np.asarray(one, dtype=np.float64).reshape(-1, 6)
        sure = rows[rows[:, 0] > least]
        found.append(np.column_stack([sure[:, 1:], np.zeros(len(sure))]))
    return found
