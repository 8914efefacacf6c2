"""The zoo's small converters, on inputs made in code."""

from __future__ import annotations

import sys
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from benchmarks.zoo.converters import digits, digits_cnn, similarity
from benchmarks.zoo.errors import ZooError


def test_scores_are_the_upper_half() -> None:
    """Three documents have three pairs; the zeros below the diagonal are no scores."""
    matrix = b"1\t0.5\t0.25\n0\t1\t0.75\n0\t0\t1\n"
    assert similarity.read_scores(matrix, 3) == [(0, 1, 0.5), (0, 2, 0.25), (1, 2, 0.75)]


def test_a_matrix_of_another_size_is_refused() -> None:
    """Scores that do not fit the documents are an error."""
    with pytest.raises(ZooError, match="has 2 rows for 3 documents"):
        similarity.read_scores(b"1\t0\n0\t1\n", 3)


def test_word_pairs_are_read_without_comments() -> None:
    """Comment lines are left out and scores are numbers."""
    table = b"# source\n# Word 1\tWord 2\tHuman\nlove\tsex\t6.77\n"
    assert similarity.read_words(table) == [("love", "sex", 6.77)]


def test_documents_are_lines_in_latin_1() -> None:
    """A pound sign in Latin-1 is read, and the last line break is no document."""
    assert similarity.read_documents(b"costs \xa35 \nsecond\n") == ["costs £5", "second"]


def test_digits_are_normalised_and_mixed() -> None:
    """Grey levels are restored from rounded values, scaled, and the digits shuffled together."""
    pixels = {digit: [0.004 * digit] * (20 * 784) for digit in range(10)}
    image, label = digits.arrange(pixels)
    assert (str(image.dtype), image.shape) == ("float32", (200, 1, 28, 28))
    assert (str(label.dtype), label.shape) == ("int64", (200,))
    wanted = (np.arange(10) / 255 - digits.MEAN) / digits.DEVIATION
    np.testing.assert_allclose(image[:, 0, 0, 0], wanted[label], rtol=1e-6)
    assert set(label[:50].tolist()) == set(range(10))


def test_the_digit_model_loads_its_weights(tmp_path: Path) -> None:
    """The factory file finds the renamed weights beside it and computes what the layers say."""
    shapes = {
        "conv_layers.0": (32, 1, 3, 3),
        "conv_layers.3": (64, 32, 3, 3),
        "conv_layers.6": (128, 64, 3, 3),
        "fc_layers.0": (256, 1152),
        "fc_layers.2": (10, 256),
    }
    generator = torch.Generator().manual_seed(1)
    stored = {}
    for name, shape in shapes.items():
        stored[f"{name}.weight"] = torch.randn(shape, generator=generator) * 0.05
        stored[f"{name}.bias"] = torch.randn(shape[0], generator=generator)
    save_file(digits_cnn.rename(stored), tmp_path / "model.safetensors")
    (tmp_path / "model.py").write_text(digits_cnn.MODEL_FILE)
    spec = spec_from_file_location("zoo_digits_model", tmp_path / "model.py")
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    bytecode, sys.dont_write_bytecode = sys.dont_write_bytecode, True
    try:
        spec.loader.exec_module(module)
    finally:
        sys.dont_write_bytecode = bytecode
    model, inputs = module.build()
    value = inputs["image"]
    with torch.inference_mode():
        scores = model(**inputs)
        for name in ("conv_layers.0", "conv_layers.3", "conv_layers.6"):
            weight, bias = stored[f"{name}.weight"], stored[f"{name}.bias"]
            value = torch.nn.functional.conv2d(value, weight, bias, padding=1).relu()
            value = torch.nn.functional.max_pool2d(value, 2, 2)
        value = value.reshape(len(value), -1)
        value = (value @ stored["fc_layers.0.weight"].T + stored["fc_layers.0.bias"]).relu()
        value = value @ stored["fc_layers.2.weight"].T + stored["fc_layers.2.bias"]
    torch.testing.assert_close(scores, value)


def test_an_unknown_tensor_is_refused() -> None:
    """A state dict with another layer is an error that names the tensor."""
    with pytest.raises(ZooError, match=r"'norm\.weight'"):
        digits_cnn.rename({"norm.weight": torch.zeros(1)})
