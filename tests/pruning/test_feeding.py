"""Samples become the tensors that a module takes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from edgekit.core.errors import ConfigError
from edgekit.pruning.feeding import Batch, batches, check_runs
from edgekit.sources.data import read_samples
from edgekit.sources.opening import open_source
from tests.picture_models import picture, save_picture_model
from tests.pruning.sources import text_source, texts


def test_texts_of_like_length_stand_together(tmp_path: Path) -> None:
    """With the labels that belong to them."""
    source = text_source(tmp_path)
    samples = texts(tmp_path, rows=30)
    made = batches(source, samples, 8)
    assert sum(map(len, made)) == 30
    widths = [one.inputs["input_ids"].shape[1] for one in made]
    assert widths[0] < widths[-1]
    labels = torch.cat([one.labels for one in made if one.labels is not None])
    assert sorted(labels.tolist()) == sorted(samples.labels or ())


def test_long_texts_are_cut(tmp_path: Path) -> None:
    """To the tokens that were asked for."""
    source = text_source(tmp_path)
    made = batches(source, texts(tmp_path), 8, longest=6)
    assert max(one.inputs["input_ids"].shape[1] for one in made) == 6


def test_words_are_hidden_from_a_model_that_fills_masks(tmp_path: Path) -> None:
    """One in every text at least, and no special token."""
    source = text_source(tmp_path, task="fill-mask")
    path = tmp_path / "texts.txt.csv"
    path.write_text("text\n" + "\n".join(f"the fox jumps over {n}" for n in range(12)) + "\n")
    made = batches(source, read_samples(str(path), "fill-mask"), 4)
    mask = source.tokenizer.mask_token_id
    for one in made:
        hidden = one.inputs["input_ids"] == mask
        assert hidden.any(1).all()
        assert not hidden[:, 0].any()


def test_pictures_and_arrays(tmp_path: Path) -> None:
    """The first as transformers prepares them, the others as they are."""
    for kind in ("cat", "dog"):
        (tmp_path / "pictures" / kind).mkdir(parents=True)
        for number in range(3):
            picture(40, 40, number).save(tmp_path / "pictures" / kind / f"{number}.png")
    source = open_source(str(save_picture_model("vit", tmp_path / "vit")))
    samples = read_samples(str(tmp_path / "pictures"), "image-classification", labels=source.labels)
    made = batches(source, samples, 4)
    assert [tuple(one.inputs["pixel_values"].shape) for one in made] == [
        (4, 3, 32, 32),
        (2, 3, 32, 32),
    ]
    assert all(one.labels is not None for one in made)
    samples.inputs[4]["image"].write_bytes(b"\x89PNG\r\n\x1a\n")
    with pytest.raises(ConfigError, match=r"^Row 5 of DATA cannot be read: "):
        batches(source, samples, 4)
    np.savez(
        tmp_path / "arrays.npz",
        image=np.random.default_rng(0).random((5, 1, 28, 28), np.float32),
        label=np.arange(5),
    )
    cnn = open_source("tests.models:cnn_with_samples")
    arrays = read_samples(str(tmp_path / "arrays.npz"), "custom", inputs=("image",))
    stacked = batches(cnn, arrays, 3)
    assert [len(one) for one in stacked] == [3, 2]
    with pytest.raises(ConfigError, match="does not run on the samples of DATA"):
        check_runs(cnn, [Batch({"image": torch.zeros(1, 7)})])
    np.savez(tmp_path / "other.npz", image=np.zeros((5, 3, 4, 4), np.float32))
    other = read_samples(str(tmp_path / "other.npz"), "custom", inputs=("image",))
    with pytest.raises(ConfigError, match=r"does not run on the samples of DATA \(image \[3, 3"):
        batches(cnn, other, 3)
