"""Pictures to trace and compare with, drawn here and prepared by transformers' own processor."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, cast

import numpy as np
import torch
from torch import Tensor

from edgekit.core.errors import SourceError
from edgekit.core.lazy import require
from edgekit.sources.checks import read_json
from edgekit.sources.inputs import PROCESSOR_FILES

if TYPE_CHECKING:
    from PIL.Image import Image
    from transformers import BaseImageProcessor, PreTrainedConfig

# Axes of the tensors whose size follows from the picture.
PICTURE_AXES = {
    "pixel_values": {0: "batch", 2: "height", 3: "width"},
    "pixel_mask": {0: "batch", 1: "height", 2: "width"},
}
# (height, width) of what is traced where a model takes any size: small, and no two edges alike.
TRACED_SIZE = (96, 128)


def draw(width: int, height: int, seed: int = 0) -> Image:
    """A picture of smooth colours, edges and noise, another one for each seed."""
    require("PIL", "vision")
    from PIL import Image as pillow

    random = np.random.default_rng(seed)
    down, right = np.mgrid[0:height, 0:width].astype(np.float32)
    phase = random.uniform(0, 6, 3).astype(np.float32)
    waves = np.stack([down / 17 + right / 29, down / 41 - right / 13, (down + right) / 7], axis=-1)
    values = 127 + 80 * np.sin(waves + phase)
    # A bright block on a dark ground: edges are where filters differ.
    values[height // 3 : height // 2 + 1, width // 4 : width // 2 + 1] += 90
    values += random.normal(0, 12, values.shape)
    return pillow.fromarray(values.clip(0, 255).astype(np.uint8))


def load_image_processor(
    folder: Path, config: PreTrainedConfig, *, trusted: bool
) -> BaseImageProcessor:
    """transformers' processor of a checkpoint, in its Pillow form.

    Raises SourceError where the folder has none, or one that brings code of its own.
    """
    require("PIL", "vision")
    from transformers import AutoImageProcessor

    held = [name for name in PROCESSOR_FILES if (folder / name).is_file()]
    if not held:
        raise SourceError(
            f"{folder} does not say how pictures are prepared: it holds none of"
            f" {', '.join(PROCESSOR_FILES)}.",
            hint="Save the image processor that the model was trained with into the folder"
            " (image_processor.save_pretrained).",
        )
    own = next((name for name in held if "auto_map" in read_json(folder / name)), None)
    if own is not None and not trusted:
        raise SourceError(
            f"{folder / own} names code of its own to prepare pictures with.",
            hint="Read that code, and pass --trust-remote-code if you trust it.",
        )
    return cast(
        "BaseImageProcessor",
        AutoImageProcessor.from_pretrained(
            folder, config=config, local_files_only=True, trust_remote_code=trusted, backend="pil"
        ),
    )


def made_names(processor: BaseImageProcessor) -> tuple[str, ...]:
    """The tensors that a processor makes of pictures."""
    return tuple(processor(images=[draw(40, 30)], return_tensors="np"))


def made_size(processor: BaseImageProcessor) -> tuple[int, int] | None:
    """(height, width) of the tensor where every picture gets the same, else None."""
    shapes = {
        tuple(np.shape(processor(images=[draw(*size)], return_tensors="np")["pixel_values"])[2:])
        for size in ((96, 64), (61, 128))
    }
    found = shapes.pop()
    return None if shapes else (int(found[0]), int(found[1]))


def picture_batch(
    processor: BaseImageProcessor,
    names: Sequence[str],
    *,
    count: int,
    start: int = 0,
    size: tuple[int, int] | None = None,
) -> dict[str, Tensor]:
    """Pictures as transformers prepares them, by input name, `[count, …]`.

    With a `size` (height, width) they are not resized: the first has it, the others are smaller
    and filled up, so that a mask has something to hide.
    """
    if size is None:
        pictures = [
            draw(150 + 37 * (start + row), 120 + 11 * row, start + row) for row in range(count)
        ]
        made = processor(images=pictures, return_tensors="np")
    else:
        height, width = size
        pictures = [
            draw(
                max(1, width - (row % 3) * width // 4),
                max(1, height - (row * 2 % 3) * height // 4),
                start + row,
            )
            for row in range(count)
        ]
        made = processor(images=pictures, do_resize=False, return_tensors="np")
    return {name: torch.from_numpy(np.ascontiguousarray(made[name])) for name in names}
