"""What tests of quantization for OpenVINO start from."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import onnx
import pytest

from edgekit.core.bundle import Bundle, BundleWriter
from edgekit.core.manifest import Manifest, Requires
from edgekit.quantization.openvino import OpenVinoPrepared, prepare
from edgekit.quantization.recipes import Feeds
from tests.quantization.openvino_small import PROFILE, Made, Prepare


@pytest.fixture
def bundle(tmp_path: Path) -> Callable[[Made], Bundle]:
    """Writes a model as an exported bundle."""

    def write(made: Made) -> Bundle:
        model, component = made
        manifest = Manifest(
            name="exported",
            created_by="edgekit tests",
            stage="exported",
            task="custom",
            source=None,
            components={"model": component},
            requires=Requires("onnxruntime", extras=("ort", "text")),
        )
        with BundleWriter(tmp_path / "exported", force=True) as writer:
            onnx.save(model, str(writer.add("model.onnx", "component")))
            writer.stage(manifest)
            return writer.commit()

    return write


@pytest.fixture
def ready(bundle: Callable[[Made], Bundle], tmp_path: Path) -> Prepare:
    """Prepares a model; keyword arguments are those of `prepare`."""

    def make(made: Made, samples: Sequence[Feeds] = (), **options: object) -> OpenVinoPrepared:
        work = tmp_path / "work"
        return prepare(bundle(made), "model", PROFILE, work, samples, **options)  # type: ignore[arg-type]

    return make
