"""Bundles of pictures put together node by node, and albums for them; no PyTorch."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from PIL import Image

from edgekit.core.bundle import Bundle
from edgekit.core.manifest import TensorSpec
from tests.runtime.conftest import Graph, write_bundle

LABELS = ("red", "green", "blue")
RESIZE = {"op": "resize", "size": {"height": 4, "width": 4}}
Shape = tuple[int | str, ...]
# Of each kind of post-processing the task, and the graph's outputs with the axes they are meant of.
KINDS: Mapping[str, tuple[str, Mapping[str, tuple[int, ...]]]] = {
    "image-classification": ("image-classification", {"logits": (2, 3)}),
    "segmentation": ("image-segmentation", {"logits": ()}),
    "image-embedding": ("feature-extraction", {"image_embeds": (2, 3)}),
    "image-states": ("feature-extraction", {"last_hidden_state": (3,)}),
    "object-detection": ("object-detection", {"logits": (3,), "pred_boxes": (3,)}),
}


def picture_bundle(path: Path, kind: str, *, other: bool = False, varies: bool = False) -> Bundle:
    """A bundle whose outputs are means of the pixels.

    Args:
        other: put an output that nobody reads before the others.
        varies: pictures keep their sizes, and the graph takes any.
    """
    task, outputs = KINDS[kind]
    size: Shape = ("height", "width") if varies else (4, 4)
    graph = Graph([TensorSpec("pixel_values", "float32", ("batch", 3, *size))])
    if other:
        graph.op("Neg", "pixel_values", to="other")
        graph.outputs.append(TensorSpec("other", "float32", ("batch", 3, *size)))
    for name, axes in outputs.items():
        if axes:
            graph.weight(f"{name}_axes", np.array(axes, np.int64))
            graph.op("ReduceMean", "pixel_values", f"{name}_axes", to=name, keepdims=0)
        else:
            graph.op("Identity", "pixel_values", to=name)
        kept = [one for axis, one in enumerate(("batch", 3, *size)) if axis not in axes]
        graph.outputs.append(TensorSpec(name, "float32", tuple(kept)))
    processor = {"kind": "image", "ops": [] if varies else [RESIZE], "post": {"kind": kind}}
    return write_bundle(path, graph, task=task, labels=LABELS, processor=processor)


def album(folder: Path, count: int) -> Path:
    """Pictures of several sizes in folders that are called as the classes."""
    for number in range(count):
        path = folder / LABELS[number % 3] / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        colour = (number % 256, number // 256, 9)
        Image.new("RGB", (8 + number % 3, 6 + number % 2), colour).save(path)
    return folder
