"""The declarative processor of pictures is read strictly."""

from __future__ import annotations

import pytest

from edgekit.core.errors import BundleCorrupt, BundleVersion, InputMismatch
from edgekit.runtime.pictures.rules import (
    CenterCrop,
    Normalize,
    Pad,
    Rescale,
    Resize,
    Size,
    read_picture_rules,
)

RESIZE = {"op": "resize", "size": {"shortest_edge": 256}, "filter": "bicubic"}
CROP = {"op": "center_crop", "height": 224, "width": 200}
RESCALE = {"op": "rescale", "factor": 0.5, "offset": -1}
NORMALIZE = {"op": "normalize", "mean": [1, 2, 3], "std": 2}
PAD = {"op": "pad", "height": 300, "width": 300, "value": 1}


def test_everything_is_read() -> None:
    """All operations with all that they may say."""
    rules = read_picture_rules(
        {"kind": "image", "channels": "bgr", "layout": "hwc", "inputs": ["x", "mask"],
         "ops": [RESIZE, CROP, RESCALE, NORMALIZE, PAD], "post": {"kind": "segmentation"}}
    )  # fmt: skip
    assert rules.ops == (
        Resize(Size(shortest_edge=256), "bicubic"),
        CenterCrop(224, 200),
        Rescale(0.5, -1.0),
        Normalize((1.0, 2.0, 3.0), (2.0, 2.0, 2.0)),
        Pad(300, 300, 1.0),
    )
    assert (rules.channels, rules.layout, rules.inputs) == ("bgr", "hwc", ("x", "mask"))
    assert rules.size == (300, 300)


@pytest.mark.parametrize(
    ("ops", "size"),
    [
        ([], None),
        ([RESIZE], None),
        ([RESIZE, CROP], (224, 200)),
        ([CROP, RESIZE], None),
        ([{"op": "resize", "size": {"height": 2, "width": 3}}], (2, 3)),
    ],
)
def test_size_that_every_picture_gets(ops: list[object], size: tuple[int, int] | None) -> None:
    """None where it depends on the picture."""
    assert read_picture_rules({"kind": "image", "ops": ops}).size == size


@pytest.mark.parametrize(
    "change",
    [
        {"kind": "text"},
        {"colour": "rgb"},
        {"channels": "cmyk"},
        {"ops": [{"op": "sharpen"}]},
        {"ops": [{"op": ["resize"]}]},
        {"ops": [{"op": {}}]},
        {"ops": [{**RESIZE, "gamma": 2}]},
        {"ops": [{**RESIZE, "filter": "area"}]},
        {"ops": [{**RESIZE, "antialias": False}]},
    ],
)
def test_unknown_words_are_refused(change: dict[str, object]) -> None:
    """Each would change the tensors: a newer edgekit knows what they mean."""
    with pytest.raises(BundleVersion) as caught:
        read_picture_rules({"kind": "image", "ops": [], **change})
    assert str(next(iter(change)))[:3] in caught.value.message


@pytest.mark.parametrize(
    "change",
    [
        {"ops": "resize"},
        {"ops": [{"op": "resize", "size": {"height": 2}}]},
        {"ops": [{"op": "resize", "size": {"height": 0, "width": 2}}]},
        {"ops": [{"op": "resize", "size": {"height": 10**6, "width": 2}}]},
        {"ops": [{"op": "center_crop", "height": 2}]},
        {"ops": [{"op": "rescale", "factor": float("nan")}]},
        {"ops": [{"op": "normalize", "mean": [0, 0], "std": 1}]},
        {"ops": [{"op": "normalize", "mean": 0, "std": [1, 0, 1]}]},
        {"ops": [RESCALE, RESIZE]},
        {"ops": [PAD, NORMALIZE]},
        {"ops": [{**RESIZE, "antialias": 1}]},
        {"inputs": []},
        {"inputs": ["a", "b", "c"]},
        {"post": "softmax"},
        {"ops": [{"op": "rescale", "factor": 10**400}]},
        {"ops": [{"op": "normalize", "mean": 10**400, "std": 1}]},
        {"ops": [{**CROP, "height": 10**4, "width": 10**4}]},
        {"ops": [{**PAD, "height": 8193, "width": 8193}]},
        {"ops": [{"op": "resize", "size": {"height": 1 << 16, "width": 1 << 16}}]},
    ],
)
def test_wrong_values_are_refused(change: dict[str, object]) -> None:
    """Named with their place in the processor."""
    with pytest.raises(BundleCorrupt, match="processor"):
        read_picture_rules({"kind": "image", "ops": [], **change})


@pytest.mark.parametrize(
    ("size", "picture", "target"),
    [
        (Size(height=3, width=5), (100, 100), (3, 5)),
        (Size(shortest_edge=256), (333, 500), (256, 384)),
        (Size(shortest_edge=256), (500, 333), (384, 256)),
        (Size(shortest_edge=800, longest_edge=1333), (427, 640), (800, 1199)),
        (Size(shortest_edge=800, longest_edge=1333), (100, 1000), (133, 1333)),
        (Size(shortest_edge=800, longest_edge=1333), (800, 1000), (800, 1000)),
        (Size(max_height=50, max_width=50), (100, 200), (25, 50)),
    ],
)
def test_sizes_are_rounded_as_transformers_rounds(
    size: Size, picture: tuple[int, int], target: tuple[int, int]
) -> None:
    """Cut, not rounded, but for the edge that a limit makes smaller."""
    assert size.target(*picture) == target


@pytest.mark.parametrize(
    ("size", "picture"),
    [
        (Size(shortest_edge=256), (1, 60_000)),
        (Size(shortest_edge=8, longest_edge=16), (1, 60_000)),
    ],
)
def test_slivers_are_refused(size: Size, picture: tuple[int, int]) -> None:
    """One row made 256 high would have fifteen million columns; cut to a limit none is left."""
    with pytest.raises(InputMismatch, match="too long and thin"):
        size.target(*picture)
