"""`validate` on pictures: the bundle and the origin, each with a processing of its own."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
import transformers
from PIL import Image

import edgekit
from edgekit.core.errors import ConfigError
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


def detections(source: Path, image: Image.Image) -> list[list[float]]:
    """What a detector itself says of a picture: the class of every query, and its corners."""
    model = transformers.AutoModelForObjectDetection.from_pretrained(source).eval()
    processor = transformers.AutoImageProcessor.from_pretrained(source, backend="pil")
    with torch.inference_mode():
        outputs = model(**processor(images=[image], return_tensors="pt"))
    found = processor.post_process_object_detection(
        outputs, threshold=0.0, target_sizes=[(image.height, image.width)]
    )[0]
    return [
        [int(label), *box]
        for label, box in zip(found["labels"], found["boxes"].tolist(), strict=True)
    ]


@pytest.mark.slow
@pytest.mark.parametrize(("unseen", "value"), [(False, 1.0), (True, 51 / 101)])
def test_boxes_are_compared(unseen: bool, value: float, shared: Path, tmp_path: Path) -> None:
    """The model's own boxes are all found; beside as many that nobody sees, half of them.

    Recall then ends at one half, at a precision of 1: 51 of COCO's 101 places.
    """
    source, bundle = exported(shared, "detr")
    images, annotations = [], []
    for number in range(60):
        image = picture(40 + number % 7, 30 + number % 5, number)
        (tmp_path / "val").mkdir(exist_ok=True)
        image.save(tmp_path / "val" / f"{number}.png")
        images.append({"id": number, "file_name": f"{number}.png", "width": image.width,
                       "height": image.height})  # fmt: skip
        for label, left, top, right, low in detections(source, image):
            for away in (0, 5000) if unseen else (0,):
                box = [left + away, top, right - left, low - top]
                annotations.append({"image_id": number, "category_id": 90 - label, "bbox": box})
    categories = [{"id": 90 - label, "name": name} for label, name in LABELS.items()]
    content = {"images": images, "annotations": annotations, "categories": categories}
    (tmp_path / "boxes.json").write_text(json.dumps(content))
    found = edgekit.validate(
        bundle, reference=str(source), data=str(tmp_path / "boxes.json"), latency=False,
        max_drop="40pt",
    )  # fmt: skip
    assert found.accuracy is not None
    assert found.accuracy.metric == "map"
    assert found.accuracy.reference == pytest.approx(value, abs=1e-3)
    assert found.accuracy.candidate == pytest.approx(value, abs=1e-3)
    assert found.accuracy.drop_upper_95 < 0.4
    assert found.verdict == "pass"


@pytest.mark.slow
def test_categories_that_the_model_does_not_know(shared: Path, tmp_path: Path) -> None:
    """DATA is at fault: the label and the model's are told, exit code 2."""
    source, bundle = exported(shared, "detr")
    picture(40, 30).save(tmp_path / "0.png")
    content = {
        "images": [{"id": 0, "file_name": "0.png"}],
        "annotations": [{"image_id": 0, "category_id": 1, "bbox": [1, 2, 3, 4]}],
        "categories": [{"id": 1, "name": "unicorn"}],
    }
    (tmp_path / "boxes.json").write_text(json.dumps(content))
    with pytest.raises(ConfigError, match=r"'unicorn' is unknown to the model.*cat, dog") as told:
        edgekit.validate(
            bundle, reference=str(source), data=str(tmp_path / "boxes.json"), latency=False
        )
    assert told.value.exit_code == 2
