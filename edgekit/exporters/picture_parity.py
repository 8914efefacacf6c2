"""The proof that Pillow and numpy make the tensors and answers of transformers' processor."""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping, Sequence
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import numpy as np

from edgekit.core.errors import EdgekitError, ExportError
from edgekit.runtime.pictures.processor import PictureProcessor
from edgekit.runtime.pictures.tasks import detect, segment
from edgekit.sources.loaded import LoadedSource
from edgekit.sources.pictures import draw
from edgekit.sources.quiet import quiet

if TYPE_CHECKING:
    from PIL.Image import Image
    from transformers import BaseImageProcessor

# (width, height): a pixel, slivers, edges that no number divides, larger and smaller than usual.
_SIZES = (
    (1, 1), (2, 3), (17, 5), (64, 48), (223, 225), (224, 224), (257, 256), (333, 500), (640, 427),
    (40, 300), (511, 37),
)  # fmt: skip
# Pillow's modes with a format that keeps them.
_MODES = (
    ("L", "PNG"), ("1", "PNG"), ("P", "PNG"), ("LA", "PNG"), ("RGBA", "PNG"), ("RGBA", "WEBP"),
    ("CMYK", "TIFF"), ("RGB", "JPEG"), ("L", "JPEG"), ("CMYK", "JPEG"), ("RGB", "GIF"),
)  # fmt: skip
_ORIENTATIONS = range(2, 9)
_QUERIES = 40
_ANSWER_SIZES = ((1, 1), (37, 61), (120, 90))


def check_picture_processor(source: LoadedSource, processor: Mapping[str, object]) -> int:
    """Compare both on pictures of odd sizes, modes, formats and orientations; how many there were.

    Tensors have to be the same to the last bit. Where a processor makes the answers too (boxes,
    masks), those are compared on random outputs.

    Raises ExportError with the first picture whose tensor differs.
    """
    theirs = source.image_processor
    assert theirs is not None
    try:
        ours = PictureProcessor(processor)
    except EdgekitError as error:
        raise ExportError(
            f"The picture processor that was made of {type(theirs).__name__} cannot be used:"
            f" {error.message}",
            hint=error.hint,
        ) from error
    count = 0
    with quiet():
        for name, data in _suite():
            _compare(name, data, theirs, ours)
            count += 1
        _compare_sixteen_bits(theirs, ours)
        count += 1 + _compare_together(theirs, ours)
        _check_answers(source, theirs)
    return count


def _suite() -> Iterator[tuple[str, bytes]]:
    from PIL import Image as pillow

    for seed, (width, height) in enumerate(_SIZES):
        yield f"{width}×{height} RGB", _stored(draw(width, height, seed), "PNG")
    for mode, format in _MODES:
        yield f"{mode} {format}", _stored(draw(61, 83).convert(mode), format)
    for orientation in _ORIENTATIONS:
        exif = pillow.Exif()
        exif[0x0112] = orientation
        yield f"orientation {orientation}", _stored(draw(90, 70), "JPEG", exif=exif)


def _stored(image: Image, format: str, **options: Any) -> bytes:
    stream = io.BytesIO()
    image.save(stream, format, **options)
    return stream.getvalue()


def _compare(name: str, data: bytes, theirs: BaseImageProcessor, ours: PictureProcessor) -> None:
    """As `transformers.pipeline` reads a file: upright and in RGB before the processor has it."""
    from PIL import Image as pillow
    from transformers.image_utils import load_image

    expected = _of_transformers(theirs, [load_image(pillow.open(io.BytesIO(data)))])
    _same(name, expected, ours, [data])


def _compare_sixteen_bits(theirs: BaseImageProcessor, ours: PictureProcessor) -> None:
    """Pillow clips 16 bits to white, which nobody wants: the upper eight are what both get."""
    from PIL import Image as pillow

    values = np.asarray(draw(60, 50).convert("L")).astype(np.uint16) * 257
    upper = pillow.fromarray((values >> 8).astype(np.uint8)).convert("RGB")
    expected = _of_transformers(theirs, [upper])
    _same("16-bit PNG", expected, ours, [_stored(pillow.fromarray(values), "PNG")])


def _compare_together(theirs: BaseImageProcessor, ours: PictureProcessor) -> int:
    """Two pictures of other sizes in one batch; how many batches were compared."""
    pictures = [draw(70, 50, 1), draw(41, 90, 2)]
    try:
        expected = _of_transformers(theirs, pictures)
    except ValueError:
        # It fills nothing up: pictures of two sizes make no tensor.
        return 0
    _same("batch of two sizes", expected, ours, [_stored(image, "PNG") for image in pictures])
    return 1


def _of_transformers(theirs: BaseImageProcessor, images: Sequence[Image]) -> list[np.ndarray]:
    """The pixels of a batch, and the mask where the processor makes one."""
    made = theirs(images=list(images), return_tensors="np")
    return [np.asarray(made[key]) for key in ("pixel_values", "pixel_mask") if key in made]


def _same(
    name: str, expected: Sequence[np.ndarray], ours: PictureProcessor, pictures: Sequence[bytes]
) -> None:
    try:
        made = ours.collate([ours.encode(data) for data in pictures])
    except EdgekitError as error:
        raise ExportError(
            f"The picture {name!r} of the comparison with transformers is refused: {error.message}",
            hint=error.hint,
        ) from error
    # The graph may take no mask although the processor makes one; or make it up without one.
    for key, wanted in zip(ours.rules.inputs, expected, strict=False):
        found = made[key]
        if found.shape != wanted.shape:
            raise ExportError(
                f"Pillow and numpy make {key} {list(found.shape)} of the picture {name!r},"
                f" transformers {list(wanted.shape)}.",
                hint=_HINT,
            )
        if not np.array_equal(found, wanted.astype(found.dtype)):
            gap = float(np.abs(found - wanted.astype(found.dtype)).max())
            raise ExportError(
                f"Pillow and numpy prepare the picture {name!r} differently from transformers: the"
                f" values of {key} differ by up to {gap:.3g}.",
                hint=_HINT,
            )


_HINT = "The image processor does something that its config does not say; report its class."


def _check_answers(source: LoadedSource, theirs: BaseImageProcessor) -> None:
    check = {
        "object-detection": _check_boxes,
        "image-segmentation": _check_masks,
    }.get(source.task)
    if check is not None:
        check(theirs)


def _check_boxes(theirs: Any) -> None:
    import torch

    random = np.random.default_rng(7)
    logits = 3 * random.standard_normal((1, _QUERIES, 9)).astype(np.float32)
    boxes = random.random((1, _QUERIES, 4)).astype(np.float32)
    outputs = SimpleNamespace(logits=torch.from_numpy(logits), pred_boxes=torch.from_numpy(boxes))
    make = _post_process(theirs, "post_process_object_detection")
    for size in _ANSWER_SIZES:
        expected = make(outputs, threshold=0.3, target_sizes=[size])[0]
        scores, classes, corners = detect(logits[0], boxes[0], size)
        kept = scores > np.float32(0.3)
        alike = (
            len(expected["scores"]) == int(kept.sum())
            and np.array_equal(classes[kept], expected["labels"].numpy())
            and np.allclose(scores[kept], expected["scores"].numpy(), atol=1e-5)
            and np.allclose(corners[kept], expected["boxes"].numpy(), atol=1e-2)
        )
        if not alike:
            raise _other_answers(theirs, "boxes")


def _check_masks(theirs: Any) -> None:
    import torch

    logits = np.random.default_rng(8).standard_normal((1, 7, 16, 24)).astype(np.float32)
    outputs = SimpleNamespace(logits=torch.from_numpy(logits))
    make = _post_process(theirs, "post_process_semantic_segmentation")
    for size in _ANSWER_SIZES:
        expected = make(outputs, target_sizes=[size])[0].numpy()
        # Where two classes tie, rounding decides.
        if np.mean(segment(logits[0], size) != expected) > 1e-3:
            raise _other_answers(theirs, "masks")


def _post_process(theirs: Any, name: str) -> Any:
    found = getattr(theirs, name, None)
    if found is None:
        raise ExportError(
            f"The image processor {type(theirs).__name__} has no {name}, so nothing says how the"
            " outputs are read.",
            hint="Give the task that the model was trained for with --task.",
        )
    return found


def _other_answers(theirs: Any, what: str) -> ExportError:
    return ExportError(
        f"The image processor {type(theirs).__name__} makes other {what} of a model's outputs than"
        " DETR and SegFormer do, the ways that edgekit has.",
        hint="Export it as a module of your own (file.py:factory) and read its outputs yourself.",
    )
