"""The declarative picture processor of a bundle, from transformers' image processors.

A processor is translated when its class does nothing of its own, or when what it does is written
down here; any other is refused by the name of what it does. `picture_parity` proves the result.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from edgekit.core.errors import BundleError, ExportError
from edgekit.exporters.processors import activation
from edgekit.runtime.pictures.rules import check_places, read_picture_rules
from edgekit.sources.loaded import LoadedSource
from edgekit.sources.towers import IMAGE_EMBEDS

if TYPE_CHECKING:
    from transformers import BaseImageProcessor

Op = dict[str, object]

# What a class may do of its own, and what of it belongs to pictures.
_STEPS = (
    "resize", "center_crop", "rescale", "normalize", "pad", "_preprocess", "process_image",
    "convert_to_rgb", "_preprocess_image_like_inputs", "_prepare_image_like_inputs", "preprocess",
)  # fmt: skip
# Settings that every processor has, and those that matter in training or elsewhere only.
_COMMON = frozenset(
    {
        "do_convert_rgb", "do_resize", "size", "default_to_square", "crop_size", "resample",
        "do_rescale", "rescale_factor", "do_normalize", "image_mean", "image_std", "do_pad",
        "pad_size", "do_center_crop", "data_format", "input_data_format", "device",
        "return_tensors", "disable_grouping", "image_seq_length", "do_reduce_labels", "format",
        "do_convert_annotations",
    }
)  # fmt: skip
_CONVNEXT_WARPS = 384


def build_picture_processor(source: LoadedSource, inputs: Sequence[str]) -> dict[str, object]:
    """What the runtime needs to turn pictures into the graph's `inputs`, and outputs into answers.

    Raises ExportError, naming it, for an operation that the vocabulary of bundles lacks, or by
    which boxes and masks would be elsewhere than in the picture.
    """
    assert source.image_processor is not None
    made: dict[str, object] = {
        "kind": "image",
        "channels": "rgb",
        "layout": "chw",
        "ops": translate(source.image_processor),
        "inputs": list(inputs),
        "post": _POST[source.task](source),
    }
    try:
        check_places(read_picture_rules(made))
    except BundleError as error:
        raise ExportError(
            f"The image processor {type(source.image_processor).__name__} does not suit"
            f" {source.task}: {error.message}",
            hint="Switch do_center_crop and do_pad off in the processor's config, and give it a"
            " size of height and width.",
        ) from error
    return made


def check_static_size(source: LoadedSource, static: Mapping[str, int]) -> None:
    """Refuse to fix the size of pictures where boxes or masks would be elsewhere then.

    Before anything is traced. Raises ExportError where pictures that keep their proportions would
    be filled up, and the model cannot tell with what.
    """
    height, width = static.get("height"), static.get("width")
    if source.image_processor is None or height is None or width is None:
        return
    made = {
        "kind": "image",
        "ops": translate(source.image_processor),
        "inputs": [*source.sample_inputs],
        "post": _POST[source.task](source),
    }
    try:
        check_places(read_picture_rules(made), (height, width))
    except BundleError as error:
        raise ExportError(
            f"--static height={height} and width={width} do not suit {source.task} with the image"
            f" processor {type(source.image_processor).__name__}: {error.message}",
            hint=f'Give the processor\'s config a size of {{"height": {height}, "width": {width}}},'
            " so that pictures are resized to it, or leave --static out.",
        ) from error


def translate(processor: BaseImageProcessor) -> list[Op]:
    """The operations of a processor, in their order. Raises ExportError, naming the unknown one."""
    name = type(processor).__name__
    known, own = _TRANSLATORS.get(name, (None, frozenset()))
    if known is None:
        _refuse_own_steps(processor)
        known = _plain
    for key in getattr(processor, "_valid_kwargs_names", ()):
        value = getattr(processor, key, None)
        if key not in _COMMON and key not in own and value not in (None, False):
            raise ExportError(
                f"The image processor {name} is set to {key} = {value!r}, which edgekit's picture"
                " processing does not have.",
                hint="Switch it off in the processor's config if the model does not need it.",
            )
    return known(processor)


def _refuse_own_steps(processor: BaseImageProcessor) -> None:
    from transformers.image_processing_backends import PilBackend

    kind = type(processor)
    if not isinstance(processor, PilBackend):
        raise ExportError(
            f"The image processor {kind.__name__} is none of transformers' Pillow processors.",
            hint="Save a standard one into the model's folder: its operations, sizes and numbers.",
        )
    for step in _STEPS:
        if getattr(kind, step) is not getattr(PilBackend, step):
            raise ExportError(
                f"The image processor {kind.__name__} has a {step.lstrip('_')} of its own, which"
                " edgekit's picture processing does not know.",
                hint=f"Known are {', '.join(sorted(_TRANSLATORS))}, and processors that do nothing"
                " of their own.",
            )


def _plain(processor: Any) -> list[Op]:
    """Resize, centre crop, rescale, normalize, pad: whatever is switched on."""
    ops = _resize(processor)
    if processor.do_center_crop:
        ops.append(_crop(processor, processor.crop_size))
    ops += _numbers(processor)
    return ops + _pad(processor)


def _without_crop(processor: Any) -> list[Op]:
    return _resize(processor) + _numbers(processor)


def _detr(processor: Any) -> list[Op]:
    return _resize(processor) + _numbers(processor) + _pad(processor)


def _convnext(processor: Any) -> list[Op]:
    """Small pictures are resized to more than is wanted and cropped, large ones are warped."""
    ops: list[Op] = []
    if processor.do_resize:
        edge = processor.size.shortest_edge
        if not edge:
            raise _unknown_size(processor)
        if edge < _CONVNEXT_WARPS:
            ops.append(_resized(processor, {"shortest_edge": int(edge / processor.crop_pct)}))
            ops.append({"op": "center_crop", "height": edge, "width": edge})
        else:
            ops.append(_resized(processor, {"height": edge, "width": edge}))
    if processor.do_center_crop:
        ops.append(_crop(processor, processor.crop_size))
    return ops + _numbers(processor)


def _efficientnet(processor: Any) -> list[Op]:
    """Rescaled to −1…1 where asked for, and divided by the deviation once more for the classes."""
    ops = _resize(processor)
    if processor.do_center_crop:
        ops.append(_crop(processor, processor.crop_size))
    numbers = _numbers(processor)
    if processor.do_rescale and processor.rescale_offset:
        numbers[0]["offset"] = -1.0
    if processor.include_top:
        numbers.append({"op": "normalize", "mean": 0.0, "std": _listed(processor.image_std)})
    return ops + numbers


_TRANSLATORS: Mapping[str, tuple[Callable[[Any], list[Op]], frozenset[str]]] = {
    "ConvNextImageProcessorPil": (_convnext, frozenset({"crop_pct"})),
    "DetrImageProcessorPil": (_detr, frozenset()),
    "EfficientNetImageProcessorPil": (
        _efficientnet, frozenset({"rescale_offset", "include_top"})
    ),
    "MobileNetV2ImageProcessorPil": (_plain, frozenset()),
    "SegformerImageProcessorPil": (_without_crop, frozenset()),
}  # fmt: skip


def _resize(processor: Any) -> list[Op]:
    if not processor.do_resize:
        return []
    size = dict(processor.size)
    # The order in which transformers looks at them.
    for keys in (
        ("shortest_edge", "longest_edge"), ("shortest_edge",), ("max_height", "max_width"),
        ("height", "width"),
    ):  # fmt: skip
        if all(size.get(key) for key in keys):
            return [_resized(processor, {key: int(size[key]) for key in keys})]
    raise _unknown_size(processor)


def _resized(processor: Any, size: Mapping[str, int]) -> Op:
    from PIL.Image import Resampling

    resample = Resampling.BILINEAR if processor.resample is None else processor.resample
    return {"op": "resize", "size": dict(size), "filter": Resampling(resample).name.lower()}


def _unknown_size(processor: Any) -> ExportError:
    return ExportError(
        f"The image processor {type(processor).__name__} resizes to {dict(processor.size)}, which"
        " edgekit's picture processing does not know.",
        hint="Known are height and width, shortest_edge (with longest_edge), max_height and"
        " max_width.",
    )


def _crop(processor: Any, size: Any) -> Op:
    if size is None or not (size.height and size.width):
        raise ExportError(
            f"The image processor {type(processor).__name__} crops to {size}, without a height and"
            " a width.",
            hint="Give it a crop_size of height and width.",
        )
    return {"op": "center_crop", "height": int(size.height), "width": int(size.width)}


def _numbers(processor: Any) -> list[Op]:
    ops: list[Op] = []
    if processor.do_rescale:
        ops.append({"op": "rescale", "factor": float(processor.rescale_factor)})
    if processor.do_normalize:
        mean, std = _listed(processor.image_mean), _listed(processor.image_std)
        ops.append({"op": "normalize", "mean": mean, "std": std})
    return ops


def _listed(value: Any) -> float | list[float]:
    return [float(item) for item in value] if isinstance(value, list | tuple) else float(value)


def _pad(processor: Any) -> list[Op]:
    """Without a size of its own it pads to the largest of a batch, which is up to the runtime."""
    size = processor.pad_size
    if not processor.do_pad or size is None:
        return []
    return [{"op": "pad", "height": int(size.height), "width": int(size.width)}]


def _classification(source: LoadedSource) -> dict[str, object]:
    assert source.config is not None
    return {
        "kind": "image-classification",
        "activation": activation(source.config),
        "top_k": 5,
    }


def _features(source: LoadedSource) -> dict[str, object]:
    return {"kind": "image-embedding" if IMAGE_EMBEDS in source.output_axes else "image-states"}


def _segmentation(source: LoadedSource) -> dict[str, object]:
    """Masks of DATA count the classes from 1 where the processor says so.

    Only judging reads it, and it stands here all the same: a bundle is judged where its checkpoint
    is not, and whose masks are read otherwise is another bundle.
    """
    reduces = getattr(source.image_processor, "do_reduce_labels", False)
    return {"kind": "segmentation", **({"reduce_labels": True} if reduces else {})}


_POST: Mapping[str, Callable[[LoadedSource], dict[str, object]]] = {
    "image-classification": _classification,
    "feature-extraction": _features,
    "object-detection": lambda source: {"kind": "object-detection", "threshold": 0.5},
    "image-segmentation": _segmentation,
}
