"""Checkpoints of pictures: their processor, their inputs, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import transformers

from edgekit.core.errors import SourceError
from edgekit.sources.opening import open_source
from edgekit.sources.pictures import draw, made_size, picture_batch
from tests.picture_models import save_picture_model


def test_classifier_of_pictures(tmp_path: Path) -> None:
    """Its task, labels and inputs follow from the folder; only the batch varies."""
    source = open_source(str(save_picture_model("vit", tmp_path / "m")))
    assert (source.task, source.labels) == (
        "image-classification",
        ("cat", "dog", "bird", "fish", "bee"),
    )
    assert {name: tuple(value.shape) for name, value in source.sample_inputs.items()} == {
        "pixel_values": (2, 3, 32, 32)
    }
    assert source.dynamic_axes == {"pixel_values": {0: "batch"}}
    assert type(source.image_processor).__name__ == "ViTImageProcessorPil"
    assert source.tokenizer is None


def test_detector_takes_any_size_and_a_mask_with_holes(tmp_path: Path) -> None:
    """A mask of ones would vanish from the trace."""
    source = open_source(str(save_picture_model("detr", tmp_path / "m")))
    assert source.dynamic_axes["pixel_mask"] == {0: "batch", 1: "height", 2: "width"}
    assert 0 < source.sample_inputs["pixel_mask"].float().mean() < 1


def test_towers_are_sources_of_their_own(tmp_path: Path) -> None:
    """Joined under names that begin with theirs."""
    source = open_source(str(save_picture_model("clip", tmp_path / "m")))
    assert list(source.parts) == ["image", "text"]
    assert list(source.sample_inputs) == [
        "image.pixel_values",
        "text.input_ids",
        "text.attention_mask",
    ]
    assert source.parts["text"].max_length == 64
    found = source.module(**source.sample_inputs)
    assert set(found) == {"image.image_embeds", "text.text_embeds"}


def test_features_of_a_classifier(tmp_path: Path) -> None:
    """Any checkpoint is a feature extractor without its head."""
    folder = save_picture_model("vit", tmp_path / "m")
    source = open_source(str(folder), task="image-feature-extraction")
    assert source.task == "feature-extraction"
    assert set(source.output_axes) == {"last_hidden_state"}


def test_folder_without_a_processor(tmp_path: Path) -> None:
    """Nothing says how pictures are prepared, and nobody guesses."""
    folder = save_picture_model("vit", tmp_path / "m")
    (folder / "preprocessor_config.json").unlink()
    with pytest.raises(SourceError, match="how pictures are prepared"):
        open_source(str(folder))


def test_processor_with_code_of_its_own(tmp_path: Path) -> None:
    """Refused until it is trusted."""
    folder = save_picture_model("vit", tmp_path / "m")
    path = folder / "preprocessor_config.json"
    held = json.loads(path.read_text())
    path.write_text(json.dumps({**held, "auto_map": {"AutoImageProcessor": "own.Processor"}}))
    with pytest.raises(SourceError, match="code of its own") as caught:
        open_source(str(folder))
    assert "--trust-remote-code" in str(caught.value.hint)


def test_size_that_every_picture_gets() -> None:
    """None where a processor keeps proportions."""
    assert made_size(transformers.ViTImageProcessorPil()) == (224, 224)
    assert made_size(transformers.DetrImageProcessorPil()) is None


def test_batches_of_pictures_differ() -> None:
    """Rows that are alike would prove nothing."""
    made = picture_batch(transformers.ViTImageProcessorPil(), ("pixel_values",), count=3)
    rows = made["pixel_values"]
    assert not (rows[0] == rows[1]).all()
    assert not (rows[1] == rows[2]).all()
    assert draw(7, 5).size == (7, 5)
