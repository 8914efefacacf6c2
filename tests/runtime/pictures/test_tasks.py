"""Answers to pictures from the outputs of a graph."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from edgekit.core.errors import BundleCorrupt, BundleVersion, ConfigError
from edgekit.core.manifest import TensorSpec
from edgekit.runtime.pictures import tasks
from edgekit.runtime.pictures.tasks import PictureContext, PictureTask, make_picture_task

LABELS = ("cat", "dog", "bird")


def make(
    kind: str, *outputs: str, labels: tuple[str, ...] | None = LABELS, **post: object
) -> PictureTask:
    """A task over outputs of three classes."""
    specs = tuple(TensorSpec(name, "float32", ("batch", 3)) for name in outputs or ("logits",))
    return make_picture_task(PictureContext({"kind": kind, **post}, labels, specs))


def test_classification_gives_the_best_first() -> None:
    """All of them when there are fewer than five."""
    answer: Any = make("image-classification").answer([np.array([1, 3, 2], np.float32)], (1, 1), {})
    assert [row["label"] for row in answer] == ["dog", "bird", "cat"]
    assert sum(row["score"] for row in answer) == pytest.approx(1)


@pytest.mark.parametrize(("top_k", "count"), [(1, 1), (2, 2), (None, 3)])
def test_how_many_classes(top_k: int | None, count: int) -> None:
    """None is all."""
    task = make("image-classification", top_k=1)
    logits = np.array([1, 3, 2], np.float32)
    assert len(task.answer([logits], (1, 1), {"top_k": top_k})) == count  # type: ignore[arg-type]
    assert len(task.answer([logits], (1, 1), {})) == 1  # type: ignore[arg-type]


def test_bundle_without_labels() -> None:
    """Named by number, as transformers does."""
    task = make("image-classification", labels=None)
    answer: Any = task.answer([np.array([1, 3, 2], np.float32)], (1, 1), {"top_k": 1})
    assert answer[0]["label"] == "LABEL_1"


def test_embeddings_are_copies() -> None:
    """One embedding does not keep a batch in memory."""
    batch = np.ones((4, 3), np.float32)
    for kind, output in (("image-embedding", "image_embeds"), ("image-states", "other")):
        answer: Any = make(kind, output).answer([batch[0]], (1, 1), {})
        assert not np.shares_memory(answer, batch)
        assert answer.shape == ((3,) if kind == "image-embedding" else (1, 3))


def test_detections_above_the_threshold() -> None:
    """The last class is nothing, whatever its score."""
    logits = np.array([[9, 0, 0, 0], [0, 0, 0, 9], [1, 0, 0, 1]], np.float32)
    boxes = np.array([[0.5, 0.5, 0.5, 0.5]] * 3, np.float32)
    task = make("object-detection", "logits", "pred_boxes")
    answer: Any = task.answer([logits, boxes], (100, 200), {})
    assert [row["label"] for row in answer] == ["cat"]
    assert answer[0]["box"] == {"xmin": 50, "ymin": 25, "xmax": 150, "ymax": 75}
    assert len(task.answer([logits, boxes], (100, 200), {"threshold": 0.3})) == 2  # type: ignore[arg-type]


def test_segmentation_in_stripes_is_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    """However few rows are interpolated at a time."""
    logits = np.random.default_rng(0).standard_normal((3, 7, 5)).astype(np.float32)
    whole = tasks.segment(logits, (40, 33))
    monkeypatch.setattr(tasks, "_STRIPE", 1)
    assert np.array_equal(tasks.segment(logits, (40, 33)), whole)


def test_segments_cover_the_picture_once() -> None:
    """The masks of all classes are the whole picture."""
    logits = np.random.default_rng(0).standard_normal((3, 7, 5)).astype(np.float32)
    answer: Any = make("segmentation").answer([logits], (21, 30), {})
    total = sum(np.asarray(row["mask"]).astype(int) for row in answer)
    assert total.shape == (21, 30)
    assert (total == 255).all()
    assert {row["label"] for row in answer} <= set(LABELS)


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        ("image-classification", {"top_k": 0}),
        ("image-classification", {"function_to_apply": "tanh"}),
        ("object-detection", {"threshold": 2}),
        ("object-detection", {"threshold": "high"}),
    ],
)
def test_wrong_options(kind: str, options: dict[str, object]) -> None:
    """Named with what they got."""
    outputs = ("logits", "pred_boxes") if kind == "object-detection" else ("logits",)
    arrays = [np.zeros((2, 4), np.float32), np.zeros((2, 4), np.float32)]
    given = arrays if kind == "object-detection" else [np.zeros(3, np.float32)]
    with pytest.raises(ConfigError, match=next(iter(options))):
        make(kind, *outputs).answer(given, (1, 1), options)


def test_wrong_posts() -> None:
    """A kind or key that nobody knows, a value that is wrong, an output that is missing."""
    with pytest.raises(BundleVersion, match="panoptic"):
        make("panoptic")
    with pytest.raises(BundleVersion, match="sharpness"):
        make("image-classification", sharpness=1)
    with pytest.raises(BundleCorrupt, match="threshold"):
        make("object-detection", "logits", "pred_boxes", threshold=-1)
    with pytest.raises(BundleCorrupt, match="reads 2 outputs"):
        make("object-detection")
