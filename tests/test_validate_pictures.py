"""`validate` on pictures: the bundle and the origin, each with a processing of its own."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import edgekit
from tests.picture_models import LABELS, picture
from tests.test_pictures import exported


def album(folder: Path, count: int = 60) -> Path:
    """Pictures in folders that are called as the classes of the models."""
    for number in range(count):
        path = folder / LABELS[number % 5] / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        picture(40 + number % 7, 30 + number % 5, number).save(path)
    return folder


@pytest.mark.slow
def test_classes_are_compared(shared: Path, tmp_path: Path) -> None:
    """An export answers as its origin, on labelled and on unlabelled pictures."""
    source, bundle = exported(shared, "vit")
    data = album(tmp_path / "album")
    found = edgekit.validate(
        bundle, reference=str(source), data=str(data), latency=False, max_drop="20pt"
    )
    assert found.accuracy is not None
    assert (found.accuracy.metric, found.accuracy.drop) == ("accuracy", 0.0)
    assert found.accuracy.samples >= 30
    assert found.numerics["logits"].max_abs < 1e-4
    listed = tmp_path / "list.jsonl"
    paths = sorted(data.rglob("*.png"))
    listed.write_text("".join(json.dumps({"image": str(path)}) + "\n" for path in paths))
    agreed = edgekit.validate(
        bundle, reference=str(source), data=str(listed), latency=False, max_drop="20pt"
    )
    assert agreed.accuracy is not None
    assert (agreed.accuracy.metric, agreed.accuracy.candidate) == ("agreement", 1.0)


@pytest.mark.slow
def test_masks_are_compared(shared: Path, tmp_path: Path) -> None:
    """Mean IoU of masks of the pictures' sizes."""
    source, bundle = exported(shared, "segformer")
    random = np.random.default_rng(0)
    rows = ["image,mask"]
    for number in range(60):
        image = picture(40 + number % 7, 30 + number % 5, number)
        image.save(tmp_path / f"{number}.png")
        mask = random.integers(0, 5, (image.height, image.width)).astype(np.uint8)
        Image.fromarray(mask).save(tmp_path / f"{number}-mask.png")
        rows.append(f"{number}.png,{number}-mask.png")
    (tmp_path / "d.csv").write_text("\n".join(rows))
    try:
        found = edgekit.validate(
            bundle, reference=str(source), data=str(tmp_path / "d.csv"), latency=False,
            max_drop="20pt",
        )  # fmt: skip
    except edgekit.BudgetNotMet as error:
        # Too few samples for a bound on a metric that is no mean: nothing else may be wrong.
        found = error.result  # type: ignore[assignment]
        assert found.verdict == "inconclusive"
    assert found.accuracy is not None
    assert found.accuracy.metric == "mean-iou"
    assert abs(found.accuracy.drop) < 0.01


@pytest.mark.slow
def test_features_are_compared(shared: Path, tmp_path: Path) -> None:
    """By the angle between the means of both models' vectors; no label is needed."""
    source, bundle = exported(shared, "vit-features")
    data = album(tmp_path / "album")
    found = edgekit.validate(
        bundle, reference=str(source), data=str(data), latency=False, max_drop="20pt"
    )
    assert found.accuracy is not None
    assert found.accuracy.metric == "cosine-agreement"
    assert found.accuracy.candidate == pytest.approx(1, abs=1e-4)


@pytest.mark.slow
def test_module_with_a_processor_is_compared(tmp_path: Path) -> None:
    """What was declared prepares for both; the original is still the user's own module."""
    processor = tmp_path / "p.json"
    processor.write_text(
        json.dumps(
            {
                "channels": "grey",
                "ops": [
                    {"op": "resize", "size": {"height": 28, "width": 28}},
                    {"op": "normalize", "mean": 127, "std": 128},
                ],
                "post": {"kind": "image-classification"},
            }
        )
    )
    data = album(tmp_path / "album")
    for number, folder in enumerate(sorted(data.iterdir())):
        folder.rename(data / str(number))
    bundle = tmp_path / "b"
    edgekit.export("tests.models:cnn_with_samples", bundle, processor=processor)
    found = edgekit.validate(
        bundle, reference="tests.models:cnn_with_samples", data=str(data), latency=False,
        max_drop="20pt",
    )  # fmt: skip
    assert found.accuracy is not None
    assert found.accuracy.metric == "accuracy"
    assert found.numerics["logits"].max_abs < 1e-4


@pytest.mark.slow
def test_towers_are_compared_on_golden_inputs(shared: Path) -> None:
    """Both vectors against those of the original, named after their component."""
    source, bundle = exported(shared, "clip")
    found = edgekit.validate(bundle, reference=str(source), latency=False)
    assert found.verdict == "pass"
    assert set(found.numerics) == {"image.image_embeds", "text.text_embeds"}


@pytest.mark.slow
def test_towers_are_measured_together(shared: Path) -> None:
    """One inference is a picture and a text."""
    _, bundle = exported(shared, "clip")
    found = edgekit.bench([bundle], budget=2.0, processes=2)
    assert found.contenders[0].error is None
    assert (found.contenders[0].p50_ms or 0) > 0
