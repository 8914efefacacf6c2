"""Metrics of masks, held against scikit-learn's."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import accuracy_score, jaccard_score

from edgekit.core.errors import ConfigError
from edgekit.evaluation.metrics import find_metric

NAMES = ("a", "b", "c", "d")


def masks(seed: int, count: int = 6) -> list[np.ndarray]:
    """Random masks of the first three of four classes."""
    random = np.random.default_rng(seed)
    return [random.integers(0, 3, (5 + number, 7)).astype(np.uint8) for number in range(count)]


def value(name: str, said: list[np.ndarray], true: list[np.ndarray]) -> float:
    """A metric over all pictures."""
    metric = find_metric("image-segmentation", None, labelled=True, name=name, classes=NAMES)
    return float(metric.aggregate(metric.rows(said, true), np.ones((1, len(said))))[0])


def flat(arrays: list[np.ndarray]) -> np.ndarray:
    """All pixels in a row."""
    return np.concatenate([array.ravel() for array in arrays])


def test_mean_iou_is_sklearns() -> None:
    """Over all pixels of all pictures; a class that never occurs does not count."""
    said, true = masks(1), masks(2)
    expected = jaccard_score(flat(true), flat(said), average="macro", labels=[0, 1, 2])
    assert value("mean-iou", said, true) == pytest.approx(expected)


def test_pixel_accuracy_is_sklearns() -> None:
    """Right pixels of all."""
    said, true = masks(1), masks(2)
    assert value("pixel-accuracy", said, true) == pytest.approx(
        accuracy_score(flat(true), flat(said))
    )


def test_mean_iou_is_the_default() -> None:
    """With labels; without, agreement."""
    assert find_metric(
        "image-segmentation", None, labelled=True, name=None, classes=NAMES
    ).name == ("mean-iou")
    assert find_metric("image-segmentation", None, labelled=False, name=None).name == (
        "pixel-agreement"
    )


def test_pixels_that_do_not_count() -> None:
    """255 stands for what nobody labelled."""
    said, true = masks(1), masks(2)
    for mine, their in zip(said, true, strict=True):
        their[0], mine[0] = 255, 2
    kept = flat(true) != 255
    expected = jaccard_score(flat(true)[kept], flat(said)[kept], average="macro", labels=[0, 1, 2])
    assert value("mean-iou", said, true) == pytest.approx(expected)


def test_weighted_draws() -> None:
    """Twice a picture is as two copies of it."""
    said, true = masks(1, 2), masks(2, 2)
    metric = find_metric("image-segmentation", None, labelled=True, name=None, classes=NAMES)
    weights = np.array([[2.0, 1.0]])
    twice = metric.aggregate(metric.rows(said, true), weights)[0]
    assert twice == pytest.approx(value("mean-iou", [said[0], *said], [true[0], *true]))


def test_wrong_masks() -> None:
    """Another size than the picture's, or a class that the model lacks."""
    with pytest.raises(ConfigError, match="7×6 pixels, its picture 7×5"):
        value("mean-iou", masks(1, 1), [masks(2, 2)[1]])
    with pytest.raises(ConfigError, match="the class 9"):
        value("mean-iou", masks(1, 1), [np.full((5, 7), 9, np.uint8)])
