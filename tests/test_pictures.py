"""Families of picture models, exported and answered by both engines as transformers answers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers

import edgekit
from edgekit.core.bundle import open_bundle
from edgekit.core.errors import InputMismatch
from tests.conftest import make_once
from tests.picture_models import FAMILIES, picture, save_picture_model

SINGLE = [name for name, family in FAMILIES.items() if family.model != "CLIPModel"]
PIPELINES = {"feature-extraction": "image-feature-extraction"}


def exported(shared: Path, family: str) -> tuple[Path, Path]:
    """The source and the bundle of a family, made once."""
    source = make_once(
        shared / f"picture-{family}-source", lambda folder: save_picture_model(family, folder)
    )
    bundle = make_once(
        shared / f"picture-{family}", lambda folder: edgekit.export(str(source), folder)
    )
    return source, bundle


def reference(source: Path, task: str) -> Any:
    """transformers' pipeline of a source, with its Pillow processor."""
    processor = transformers.AutoImageProcessor.from_pretrained(source, backend="pil")
    return transformers.pipeline(
        PIPELINES.get(task, task), model=str(source), image_processor=processor
    )


@pytest.mark.slow
@pytest.mark.parametrize("engine", ["onnxruntime", "openvino"])
@pytest.mark.parametrize("family", SINGLE)
def test_answers_are_those_of_the_pipeline(family: str, engine: str, shared: Path) -> None:
    """Pictures of several sizes, one by one and together."""
    source, bundle = exported(shared, family)
    task = FAMILIES[family].task
    pictures = [picture(70, 50), picture(41, 90, 1), picture(33, 33, 2), picture(70, 50, 3)]
    theirs = reference(source, task)
    # Random detectors are sure of nothing.
    options = {"threshold": 0.05} if task == "object-detection" else {}
    with edgekit.load(bundle, engine=engine) as model:
        assert model.task == task
        together: Any = model(pictures, **options)
        for image, mine in zip(pictures, together, strict=True):
            expected = theirs(image, **options)
            alike(task, model(image, **options), expected)
            alike(task, mine, expected)


def alike(task: str, ours: Any, theirs: Any) -> None:
    """Assert that two answers say the same."""
    if task == "feature-extraction":
        assert np.allclose(ours, np.array(theirs), atol=1e-3)
        return
    assert len(ours) == len(theirs) > 0
    for mine, their in zip(ours, theirs, strict=True):
        if task == "image-segmentation":
            assert mine["label"] == their["label"]
            assert np.mean(np.asarray(mine["mask"]) != np.asarray(their["mask"])) < 0.005
            continue
        assert mine["score"] == pytest.approx(their["score"], abs=1e-3)
        if "box" in their:
            assert mine["label"] == their["label"]
            assert all(abs(mine["box"][key] - their["box"][key]) <= 1 for key in their["box"])


@pytest.mark.slow
@pytest.mark.parametrize("family", SINGLE)
def test_only_what_varies_is_dynamic(family: str, shared: Path) -> None:
    """The batch; height and width for the one processor that keeps proportions."""
    manifest = open_bundle(exported(shared, family)[1]).manifest
    shape = manifest.components["model"].inputs[0].shape
    assert shape[:2] == ("batch", 3)
    assert (
        shape[2:] == ("height", "width")
        if family == "detr"
        else all(isinstance(size, int) for size in shape[2:])
    )
    assert manifest.requires.extras == ("ort", "vision")
    assert manifest.golden is not None


@pytest.mark.slow
@pytest.mark.parametrize("family", ["vit", "detr"])
def test_bundle_verifies(family: str, shared: Path) -> None:
    """The golden pictures are answered as they were when the bundle was written."""
    with edgekit.load(exported(shared, family)[1]) as model:
        rows = model.selftest()
    assert rows
    assert all(row.passed for row in rows)


@pytest.mark.slow
@pytest.mark.parametrize("engine", ["onnxruntime", "openvino"])
def test_towers_are_those_of_clip(engine: str, shared: Path) -> None:
    """Pictures and texts, one by one and mixed, as CLIPModel itself embeds them."""
    source, bundle = exported(shared, "clip")
    pictures = [picture(70, 50), picture(41, 90, 1)]
    texts = ["A great film!", "The quick brown fox jumps over the lazy dog, again and again."]
    model = transformers.AutoModel.from_pretrained(source).eval()
    tokenizer = transformers.AutoTokenizer.from_pretrained(source)
    processor = transformers.AutoImageProcessor.from_pretrained(source, backend="pil")
    read = tokenizer(texts, padding=True, return_tensors="pt")
    with torch.inference_mode():
        theirs = model(
            input_ids=read["input_ids"],
            attention_mask=read["attention_mask"],
            pixel_values=processor(images=pictures, return_tensors="pt")["pixel_values"],
        )
    with edgekit.load(bundle, engine=engine) as ours:
        mixed: Any = ours([pictures[0], texts[0], {"text": texts[1]}, {"image": pictures[1]}])
        assert np.allclose(np.stack([mixed[0], mixed[3]]), theirs.image_embeds, atol=1e-4)
        assert np.allclose(np.stack([mixed[1], mixed[2]]), theirs.text_embeds, atol=1e-4)
        alone: Any = ours(texts[0])
        assert np.allclose(alone, mixed[1], atol=1e-5)
        assert all(row.passed for row in ours.selftest())
        with pytest.raises(InputMismatch, match="neither a picture nor a text"):
            ours(3)
        assert {spec.name for spec in ours.manifest.components["image"].inputs} == {"pixel_values"}
    assert open_bundle(bundle).manifest.requires.extras == ("ort", "text", "vision")
