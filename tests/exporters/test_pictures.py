"""transformers' image processors as declarative operations, and the proof of it."""

from __future__ import annotations

from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

import pytest
import transformers

from edgekit.core.errors import ExportError
from edgekit.exporters.picture_parity import check_picture_processor
from edgekit.exporters.pictures import build_picture_processor, check_static_size, translate

if TYPE_CHECKING:
    from edgekit.sources.loaded import LoadedSource

PROCESSORS: dict[str, Any] = {
    "vit": lambda: transformers.ViTImageProcessorPil(),
    "vit without normalising": lambda: transformers.ViTImageProcessorPil(do_normalize=False),
    "vit nearest": lambda: transformers.ViTImageProcessorPil(resample=0),
    "vit lanczos, one mean": lambda: transformers.ViTImageProcessorPil(
        resample=1, image_mean=0.3, image_std=0.2
    ),
    "deit": lambda: transformers.DeiTImageProcessorPil(),
    "clip": lambda: transformers.CLIPImageProcessorPil(),
    "bit": lambda: transformers.BitImageProcessorPil(size={"shortest_edge": 37}),
    "convnext": lambda: transformers.ConvNextImageProcessorPil(),
    "convnext small": lambda: transformers.ConvNextImageProcessorPil(size={"shortest_edge": 33}),
    "mobilenet v2": lambda: transformers.MobileNetV2ImageProcessorPil(),
    "efficientnet": lambda: transformers.EfficientNetImageProcessorPil(),
    "efficientnet with offset": lambda: transformers.EfficientNetImageProcessorPil(
        do_center_crop=True, rescale_factor=1 / 127.5, rescale_offset=True, include_top=False
    ),
    "segformer": lambda: transformers.SegformerImageProcessorPil(),
    "detr": lambda: transformers.DetrImageProcessorPil(),
    "detr padded": lambda: transformers.DetrImageProcessorPil(
        size={"shortest_edge": 40, "longest_edge": 64}, pad_size={"height": 70, "width": 70}
    ),
    "detr within": lambda: transformers.DetrImageProcessorPil(
        size={"max_height": 50, "max_width": 60}
    ),
}
TASKS = {"segformer": "image-segmentation", "detr": "object-detection"}


@pytest.mark.parametrize("name", PROCESSORS)
def test_operations_are_the_same_on_odd_pictures(name: str) -> None:
    """Sizes, modes, formats and orientations; of DETR and SegFormer the answers, too."""
    processor = PROCESSORS[name]()
    task = TASKS.get(name, "image-classification")
    made = {"kind": "image", "ops": translate(processor)}
    source: Any = SimpleNamespace(image_processor=processor, task=task)
    assert check_picture_processor(source, made) > 25


def test_operations_of_a_common_processor() -> None:
    """Spelt out: what a bundle says."""
    assert translate(PROCESSORS["clip"]()) == [
        {"op": "resize", "size": {"shortest_edge": 224}, "filter": "bicubic"},
        {"op": "center_crop", "height": 224, "width": 224},
        {"op": "rescale", "factor": 1 / 255},
        {
            "op": "normalize",
            "mean": [0.48145466, 0.4578275, 0.40821073],
            "std": [0.26862954, 0.26130258, 0.27577711],
        },
    ]


def test_another_operation_is_found_out() -> None:
    """The proof does not rest on the translation."""
    processor = transformers.ViTImageProcessorPil()
    made = {"kind": "image", "ops": translate(transformers.ViTImageProcessorPil(resample=3))}
    source: Any = SimpleNamespace(image_processor=processor, task="image-classification")
    with pytest.raises(ExportError, match="differently from transformers"):
        check_picture_processor(source, made)


def test_other_boxes_are_found_out() -> None:
    """A detector that takes sigmoids of queries and classes is not read as DETR's."""
    processor = transformers.DeformableDetrImageProcessorPil()
    source: Any = SimpleNamespace(image_processor=processor, task="object-detection", config=None)
    detr = translate(transformers.DetrImageProcessorPil())
    with pytest.raises(ExportError, match="makes other boxes"):
        check_picture_processor(source, {"kind": "image", "ops": detr})


class Sharpening(transformers.ViTImageProcessorPil):
    """A processor with a step of its own."""

    def rescale(self, image: Any, scale: float, **kwargs: Any) -> Any:
        """Twice as bright."""
        return super().rescale(image, 2 * scale)


@pytest.mark.parametrize(
    ("processor", "told"),
    [
        (Sharpening(), "Sharpening has a rescale of its own"),
        (transformers.DonutImageProcessorPil(), "of its own"),
        (SimpleNamespace(), "none of transformers' Pillow processors"),
        (transformers.ViTImageProcessorPil(do_center_crop=True), "crops to None"),
    ],
)
def test_unknown_operations_are_named(processor: Any, told: str) -> None:
    """What the vocabulary lacks is no guess."""
    with pytest.raises(ExportError, match=told):
        translate(processor)


class Unmasking(transformers.DetrImageProcessorPil):
    """A processor whose mask says that padding is picture."""

    def preprocess(self, *args: Any, **kwargs: Any) -> Any:
        """Ones everywhere."""
        made = super().preprocess(*args, **kwargs)
        made["pixel_mask"] = made["pixel_mask"] * 0 + 1
        return made


class Filling(transformers.DetrImageProcessorPil):
    """A processor that fills a batch of several sizes up with ones."""

    def preprocess(self, *args: Any, **kwargs: Any) -> Any:
        """Zeros are never the value of a pixel of the suite's noise."""
        made = super().preprocess(*args, **kwargs)
        made["pixel_values"][made["pixel_values"] == 0] = 1
        return made


@pytest.mark.parametrize(
    ("kind", "told"), [(Unmasking, "values of pixel_mask"), (Filling, "batch of two sizes")]
)
def test_batches_and_masks_are_compared(kind: Any, told: str) -> None:
    """One picture alone shows neither how a batch is filled up nor what is said of it."""
    size = {"shortest_edge": 40, "longest_edge": 64}
    made = {
        "kind": "image",
        "ops": translate(transformers.DetrImageProcessorPil(size=size)),
        "inputs": ["pixel_values", "pixel_mask"],
    }
    plain: Any = SimpleNamespace(
        image_processor=transformers.DetrImageProcessorPil(size=size), task="object-detection"
    )
    check_picture_processor(plain, made)
    source: Any = SimpleNamespace(image_processor=kind(size=size), task="object-detection")
    with pytest.raises(ExportError, match=told):
        check_picture_processor(source, made)


@pytest.mark.parametrize(
    ("processor", "task", "inputs", "told"),
    [
        (
            transformers.MobileNetV2ImageProcessorPil(),
            "image-segmentation",
            ["pixel_values"],
            "center_crop",
        ),
        (PROCESSORS["detr padded"](), "object-detection", ["pixel_values"], "has pad"),
        (PROCESSORS["detr padded"](), "object-detection", ["pixel_values", "pixel_mask"], None),
        (PROCESSORS["segformer"](), "image-segmentation", ["pixel_values"], None),
    ],
)
def test_answers_of_a_part_are_not_given_for_the_whole(
    processor: Any, task: str, inputs: list[str], told: str | None
) -> None:
    """Masks of the middle of a picture, or of a canvas, would lie elsewhere in it."""
    source: Any = SimpleNamespace(image_processor=processor, task=task)
    if told is None:
        assert build_picture_processor(source, inputs)["inputs"] == inputs
        return
    with pytest.raises(ExportError, match=told):
        build_picture_processor(source, inputs)


@pytest.mark.parametrize(
    ("size", "static", "refused"),
    [
        ({"shortest_edge": 64}, {"height": 64, "width": 64}, True),
        ({"height": 64, "width": 64}, {"height": 64, "width": 64}, False),
        ({"height": 32, "width": 64}, {"height": 64, "width": 64}, True),
        ({"shortest_edge": 64}, {"batch": 1}, False),
    ],
)
def test_size_that_would_shift_masks(
    size: dict[str, int], static: dict[str, int], refused: bool
) -> None:
    """Told before anything is traced, with what to change."""
    source = cast("LoadedSource", SimpleNamespace(
        image_processor=transformers.SegformerImageProcessorPil(size=size),
        sample_inputs=("pixel_values",), task="image-segmentation",
    ))  # fmt: skip
    if not refused:
        check_static_size(source, static)
        return
    with pytest.raises(ExportError, match="--static height=64 and width=64") as caught:
        check_static_size(source, static)
    assert '{"height": 64, "width": 64}' in (caught.value.hint or "")


@pytest.mark.parametrize("reduces", [True, False])
def test_masks_that_count_from_one_are_told(reduces: bool) -> None:
    """As the processor says; only then does the manifest say anything."""
    source = cast("LoadedSource", SimpleNamespace(
        image_processor=transformers.SegformerImageProcessorPil(
            size={"height": 64, "width": 64}, do_reduce_labels=reduces
        ),
        task="image-segmentation",
    ))  # fmt: skip
    made = build_picture_processor(source, ("pixel_values",))
    expected = {"kind": "segmentation", **({"reduce_labels": True} if reduces else {})}
    assert made["post"] == expected
