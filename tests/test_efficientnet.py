"""A trained network on photographs: from factory and processor file to answers that are right."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import edgekit
from benchmarks.zoo import fetch
from edgekit.sources.opening import open_source
from tests.cli.test_main import edgekit as command
from tests.conftest import make_once

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def bundle(shared: Path) -> Path:
    """The exported bundle, made by the command."""
    folder = fetch("efficientnet-lite0")

    def make(target: Path) -> None:
        done = command(
            "export", f"{folder / 'model.py'}:build", "--input", "image=float32:batch,3,224,224",
            "--processor", folder / "processor.toml", "-o", target, "--json",
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        assert json.loads(done.stdout)["task"] == "image-classification"

    return make_once(shared / "efficientnet", make)


@pytest.fixture(scope="module")
def pictures() -> list[Path]:
    """The photographs, each in a folder that is called as its class."""
    return sorted(fetch("pictures").glob("*/*.jpg"))


@pytest.mark.parametrize("engine", ["onnxruntime", "openvino"])
def test_photographs_are_recognised(engine: str, bundle: Path, pictures: list[Path]) -> None:
    """18 of 20, 19 among the five best: what the model is known for."""
    with edgekit.load(bundle, engine=engine) as model:
        answers: Any = model(list(pictures))
    labels = [f"LABEL_{path.parent.name}" for path in pictures]
    found = [[row["label"] for row in answer] for answer in answers]
    pairs = list(zip(labels, found, strict=True))
    assert sum(label == best[0] for label, best in pairs) == 18
    assert sum(label in best for label, best in pairs) == 19


def test_pixels_are_prepared_as_the_model_was_trained(bundle: Path, pictures: list[Path]) -> None:
    """Written out with Pillow and PyTorch, without anything of edgekit's."""
    source = open_source(
        f"{fetch('efficientnet-lite0') / 'model.py'}:build",
        inputs=("image=float32:batch,3,224,224",),
    )
    image = Image.open(pictures[10]).convert("RGB")
    short = min(image.size)
    size = tuple(int(256 * edge / short) for edge in image.size)
    small = image.resize(size, Image.Resampling.BICUBIC)  # type: ignore[arg-type]
    left, top = (small.width - 224) // 2, (small.height - 224) // 2
    pixels = np.asarray(small.crop((left, top, left + 224, top + 224)), dtype=np.float32)
    given = torch.from_numpy(np.moveaxis((pixels - 127) / 128, -1, 0)[None].copy())
    with torch.inference_mode():
        theirs = source.module(image=given)["logits"].softmax(-1)[0]
    with edgekit.load(bundle) as model:
        ours: Any = model(pictures[10])
    best = int(theirs.argmax())
    assert ours[0]["label"] == f"LABEL_{best}"
    assert ours[0]["score"] == pytest.approx(float(theirs[best]), abs=1e-4)


def test_command_reads_a_folder(bundle: Path, tmp_path: Path, pictures: list[Path]) -> None:
    """Names of files with their answers, line by line."""
    for path in pictures[:3]:
        shutil.copy(path, tmp_path / f"{path.parent.name}.jpg")
    done = command("run", bundle, tmp_path)
    assert done.returncode == 0, done.stderr
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    assert [Path(line["picture"]).name for line in lines] == sorted(
        f"{path.parent.name}.jpg" for path in pictures[:3]
    )
