"""Operations and answers equal to transformers' own, picture by picture."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from PIL import Image

from edgekit.core.manifest import TensorSpec
from edgekit.runtime.pictures.processor import PictureProcessor
from edgekit.runtime.pictures.tasks import PictureContext, detect, make_picture_task, segment
from tests.runtime.pictures.conftest import draw

SIZES = ((1, 1), (3, 2), (17, 5), (224, 224), (225, 223), (320, 213), (40, 300))
SCALE = {"op": "rescale", "factor": 1 / 255}
NORMALIZE = {"op": "normalize", "mean": [0.5] * 3, "std": [0.5] * 3}
CASES: dict[str, tuple[Any, list[dict[str, object]]]] = {
    "exact": (
        transformers.ViTImageProcessorPil(size={"height": 32, "width": 48}),
        [{"op": "resize", "size": {"height": 32, "width": 48}}, SCALE, NORMALIZE],
    ),
    "shortest edge and crop": (
        transformers.CLIPImageProcessorPil(
            size={"shortest_edge": 40}, crop_size={"height": 33, "width": 37},
            image_mean=[0.5] * 3, image_std=[0.5] * 3,
        ),
        [
            {"op": "resize", "size": {"shortest_edge": 40}, "filter": "bicubic"},
            {"op": "center_crop", "height": 33, "width": 37},
            SCALE,
            NORMALIZE,
        ],
    ),
    "crop that fills up": (
        transformers.DeiTImageProcessorPil(
            do_resize=False, crop_size={"height": 101, "width": 60}
        ),
        [{"op": "center_crop", "height": 101, "width": 60}, SCALE, NORMALIZE],
    ),
    "longest edge": (
        transformers.DetrImageProcessorPil(
            size={"shortest_edge": 48, "longest_edge": 80},
            image_mean=[0.5] * 3, image_std=[0.5] * 3,
        ),
        [
            {"op": "resize", "size": {"shortest_edge": 48, "longest_edge": 80}},
            SCALE,
            NORMALIZE,
        ],
    ),
    "offset": (
        transformers.EfficientNetImageProcessorPil(
            size={"height": 20, "width": 20}, rescale_factor=1 / 127.5, rescale_offset=True,
            do_normalize=False, include_top=False,
        ),
        [
            {"op": "resize", "size": {"height": 20, "width": 20}, "filter": "bicubic"},
            {"op": "rescale", "factor": 1 / 127.5, "offset": -1.0},
        ],
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_tensors_are_the_same_to_the_last_bit(name: str) -> None:
    """Odd sizes, larger and smaller than what is asked for."""
    theirs, ops = CASES[name]
    ours = PictureProcessor({"kind": "image", "ops": ops})
    for width, height in SIZES:
        image = draw(width, height)
        expected = np.asarray(theirs(images=image, return_tensors="np")["pixel_values"])[0]
        assert np.array_equal(ours.encode(image).pixels, expected), (width, height)


class Outputs(dict[str, Any]):
    """What a model of transformers returns: its outputs are keys and attributes."""

    logits: torch.Tensor
    pred_boxes: torch.Tensor


def _outputs(**arrays: np.ndarray) -> Any:
    return SimpleNamespace(**{name: torch.from_numpy(array) for name, array in arrays.items()})


@pytest.mark.parametrize("size", [(1, 1), (37, 61), (480, 640)])
def test_boxes_are_those_of_detr(size: tuple[int, int]) -> None:
    """Scores, classes and corners of post_process_object_detection."""
    random = np.random.default_rng(3)
    logits = 3 * random.standard_normal((1, 50, 8)).astype(np.float32)
    boxes = random.random((1, 50, 4)).astype(np.float32)
    theirs = transformers.DetrImageProcessorPil().post_process_object_detection(
        _outputs(logits=logits, pred_boxes=boxes), threshold=0.3, target_sizes=[size]
    )[0]
    scores, classes, corners = detect(logits[0], boxes[0], size)
    kept = scores > 0.3
    assert np.allclose(scores[kept], theirs["scores"], atol=1e-6)
    assert np.array_equal(classes[kept], theirs["labels"])
    assert np.allclose(corners[kept], theirs["boxes"], atol=1e-3)


@pytest.mark.parametrize("size", [(16, 16), (37, 61), (9, 5), (300, 200)])
def test_masks_are_those_of_segformer(size: tuple[int, int]) -> None:
    """post_process_semantic_segmentation; only where two classes tie may rounding decide."""
    random = np.random.default_rng(4)
    logits = random.standard_normal((1, 21, 16, 16)).astype(np.float32)
    theirs = (
        transformers.SegformerImageProcessorPil()
        .post_process_semantic_segmentation(_outputs(logits=logits), target_sizes=[size])[0]
        .numpy()
    )
    assert np.mean(segment(logits[0], size) != theirs) <= 1e-4


def _context(kind: str, outputs: dict[str, tuple[int, ...]], **post: object) -> PictureContext:
    specs = tuple(TensorSpec(name, "float32", ("batch", *s)) for name, s in outputs.items())
    return PictureContext({"kind": kind, **post}, ("a", "b", "c", "d", "e", "f"), specs)


@pytest.mark.parametrize(("problem", "word"), [
    ("single_label_classification", "softmax"), ("multi_label_classification", "sigmoid"),
])  # fmt: skip
def test_classes_are_those_of_the_pipeline(problem: str, word: str) -> None:
    """ImageClassificationPipeline.postprocess, with its five best and with other numbers."""
    logits = np.array([0.1, 2.0, -1.0, 2.0, 0.3, 1.5], np.float32)
    config = SimpleNamespace(problem_type=problem, num_labels=6, id2label=dict(enumerate("abcdef")))
    pipeline = transformers.ImageClassificationPipeline.__new__(
        transformers.ImageClassificationPipeline
    )
    pipeline.model = SimpleNamespace(config=config)
    task = make_picture_task(_context("image-classification", {"logits": (6,)}, activation=word))
    for options in ({}, {"top_k": 2}, {"top_k": 9}, {"function_to_apply": "none"}):
        theirs = pipeline.postprocess({"logits": torch.from_numpy(logits)[None]}, **options)
        ours: Any = task.answer([logits], (1, 1), options)
        assert [row["label"] for row in ours] == [row["label"] for row in theirs]
        assert np.allclose([row["score"] for row in ours], [row["score"] for row in theirs])


def test_detections_are_those_of_the_pipeline() -> None:
    """ObjectDetectionPipeline.postprocess: corners cut to whole pixels."""
    random = np.random.default_rng(5)
    logits = 4 * random.standard_normal((1, 30, 7)).astype(np.float32)
    boxes = random.random((1, 30, 4)).astype(np.float32)
    pipeline = transformers.ObjectDetectionPipeline.__new__(transformers.ObjectDetectionPipeline)
    pipeline.tokenizer = None
    pipeline.image_processor = transformers.DetrImageProcessorPil()
    pipeline.model = SimpleNamespace(config=SimpleNamespace(id2label=dict(enumerate("abcdef"))))

    outputs = Outputs(target_size=torch.tensor([[48, 64]]))
    outputs.logits, outputs.pred_boxes = torch.from_numpy(logits), torch.from_numpy(boxes)
    theirs = pipeline.postprocess(outputs)
    task = make_picture_task(
        _context("object-detection", {"logits": (30, 7), "pred_boxes": (30, 4)})
    )
    ours: Any = task.answer([logits[0], boxes[0]], (48, 64), {})
    assert len(ours) == len(theirs) > 3
    for mine, their in zip(ours, theirs, strict=True):
        assert (mine["label"], mine["box"]) == (their["label"], their["box"])
        assert abs(mine["score"] - their["score"]) < 1e-6


def test_segments_are_those_of_the_pipeline() -> None:
    """ImageSegmentationPipeline.postprocess: a mask of the picture's size for each class."""
    logits = np.random.default_rng(6).standard_normal((1, 6, 8, 8)).astype(np.float32)
    pipeline = transformers.ImageSegmentationPipeline.__new__(
        transformers.ImageSegmentationPipeline
    )
    pipeline.image_processor = transformers.SegformerImageProcessorPil()
    pipeline.model = SimpleNamespace(config=SimpleNamespace(id2label=dict(enumerate("abcdef"))))

    outputs = Outputs(target_size=[(20, 31)])
    outputs.logits = torch.from_numpy(logits)
    theirs = pipeline.postprocess(outputs)
    task = make_picture_task(_context("segmentation", {"logits": (6, 8, 8)}))
    ours: Any = task.answer([logits[0]], (20, 31), {})
    assert [row["label"] for row in ours] == [row["label"] for row in theirs]
    for mine, their in zip(ours, theirs, strict=True):
        assert isinstance(mine["mask"], Image.Image)
        assert np.mean(np.asarray(mine["mask"]) != np.asarray(their["mask"])) < 0.01
