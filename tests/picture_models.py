"""Tiny random models of pictures, built by family and saved as Hugging Face folders.

The weights are random: such models prove numerics, never accuracy.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import transformers
from PIL import Image

from tests.models import tokenizer_for

LABELS = {0: "cat", 1: "dog", 2: "bird", 3: "fish", 4: "bee"}


@dataclass(frozen=True)
class Family:
    """The task of a family, its config, model class and image processor."""

    task: str
    config: Callable[[], Any]
    model: str
    processor: Callable[[], Any]


def _vit() -> Any:
    return transformers.ViTConfig(
        hidden_size=32, num_hidden_layers=2, num_attention_heads=2, intermediate_size=64,
        image_size=32, patch_size=8, id2label=LABELS,
    )  # fmt: skip


def _deit() -> Any:
    return transformers.DeiTConfig(
        hidden_size=32, num_hidden_layers=2, num_attention_heads=2, intermediate_size=64,
        image_size=32, patch_size=8, id2label=LABELS,
    )  # fmt: skip


def _resnet(**extra: Any) -> Any:
    return transformers.ResNetConfig(
        embedding_size=8, hidden_sizes=[8, 16], depths=[1, 1], layer_type="basic",
        id2label=LABELS, **extra,
    )  # fmt: skip


def _convnext() -> Any:
    return transformers.ConvNextConfig(
        hidden_sizes=[8, 16], depths=[1, 1], num_stages=2, id2label=LABELS
    )


def _mobilenet_v2() -> Any:
    return transformers.MobileNetV2Config(
        depth_multiplier=0.35, image_size=64, last_hidden_size=32, id2label=LABELS
    )


def _swin() -> Any:
    return transformers.SwinConfig(
        image_size=32, patch_size=2, embed_dim=8, depths=[2, 1], num_heads=[1, 2], window_size=4,
        id2label=LABELS,
    )  # fmt: skip


def _segformer() -> Any:
    return transformers.SegformerConfig(
        hidden_sizes=[8, 8, 16, 16], depths=[1, 1, 1, 1], num_attention_heads=[1, 1, 2, 2],
        decoder_hidden_size=16, id2label=LABELS,
    )  # fmt: skip


def _detr() -> Any:
    return transformers.DetrConfig(
        use_timm_backbone=False, use_pretrained_backbone=False, backbone=None,
        backbone_config=_resnet(out_features=["stage2"]), d_model=16, encoder_layers=1,
        decoder_layers=1, encoder_ffn_dim=32, decoder_ffn_dim=32, encoder_attention_heads=2,
        decoder_attention_heads=2, num_queries=7, id2label=LABELS,
    )  # fmt: skip


def _clip() -> Any:
    tower = {
        "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2,
        "num_attention_heads": 2, "projection_dim": 16,
    }  # fmt: skip
    return transformers.CLIPConfig(
        text_config={**tower, "vocab_size": 700, "max_position_embeddings": 64,
                     "bos_token_id": 2, "eos_token_id": 3, "pad_token_id": 0},
        vision_config={**tower, "image_size": 32, "patch_size": 8},
        projection_dim=16,
    )  # fmt: skip


def _square(edge: int = 32) -> Any:
    return transformers.ViTImageProcessorPil(size={"height": edge, "width": edge})


def _cropped(kind: str, edge: int = 32) -> Callable[[], Any]:
    return lambda: getattr(transformers, kind)(
        size={"shortest_edge": edge + 4}, crop_size={"height": edge, "width": edge}
    )


FAMILIES: Mapping[str, Family] = {
    "vit": Family("image-classification", _vit, "ViTForImageClassification", _square),
    "vit-features": Family("feature-extraction", _vit, "ViTModel", _square),
    "deit": Family(
        "image-classification", _deit, "DeiTForImageClassification",
        lambda: transformers.DeiTImageProcessorPil(
            size={"height": 36, "width": 36}, crop_size={"height": 32, "width": 32}
        ),
    ),
    "resnet": Family(
        "image-classification", _resnet, "ResNetForImageClassification",
        lambda: transformers.ConvNextImageProcessorPil(size={"shortest_edge": 32}),
    ),
    "convnext": Family(
        "image-classification", _convnext, "ConvNextForImageClassification",
        lambda: transformers.ConvNextImageProcessorPil(size={"shortest_edge": 384}),
    ),
    "mobilenet-v2": Family(
        "image-classification", _mobilenet_v2, "MobileNetV2ForImageClassification",
        _cropped("MobileNetV2ImageProcessorPil", 64),
    ),
    "swin": Family("image-classification", _swin, "SwinForImageClassification", _square),
    "segformer": Family(
        "image-segmentation", _segformer, "SegformerForSemanticSegmentation",
        lambda: transformers.SegformerImageProcessorPil(size={"height": 64, "width": 64}),
    ),
    "detr": Family(
        "object-detection", _detr, "DetrForObjectDetection",
        lambda: transformers.DetrImageProcessorPil(
            size={"shortest_edge": 64, "longest_edge": 120}
        ),
    ),
    "clip": Family("feature-extraction", _clip, "CLIPModel", _cropped("CLIPImageProcessorPil")),
}  # fmt: skip


def save_picture_model(family: str, folder: Path) -> Path:
    """Write config, random weights and image processor (and CLIP's tokenizer) of a family."""
    chosen = FAMILIES[family]
    torch.manual_seed(0)
    model = getattr(transformers, chosen.model)(chosen.config()).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            # Wider than what training starts from: answers of different pictures should differ.
            if parameter.dim() == 4:
                torch.nn.init.kaiming_normal_(parameter)
            elif parameter.dim() > 1:
                parameter.mul_(3)
        for name, buffer in model.named_buffers():
            if name.endswith("running_var"):
                buffer.uniform_(0.5, 1.5)
    model.save_pretrained(folder)
    chosen.processor().save_pretrained(folder)
    if family == "clip":
        tokenizer_for("bert").save_pretrained(folder)
    return folder


def picture(width: int = 70, height: int = 50, seed: int = 0) -> Image.Image:
    """A picture to try a model on."""
    from edgekit.sources.pictures import draw

    return draw(width, height, seed)
