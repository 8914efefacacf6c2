"""graph/onnx_files.py: one file, or the weights beside it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from edgekit.graph import onnx_files
from edgekit.graph.onnx_files import save_proto
from tests.compilers.conftest import attention_model


def weights(path: Path) -> dict[str, np.ndarray]:
    """The weights of a file by name, wherever they lie."""
    return {one.name: numpy_helper.to_array(one) for one in onnx.load(str(path)).graph.initializer}


def test_one_file(tmp_path: Path) -> None:
    """Up to the limit everything is in one file, in a folder that is made for it."""
    model = attention_model()[0]
    path = tmp_path / "new" / "model.onnx"
    assert save_proto(model, path) == ("model.onnx",)
    assert onnx.load(str(path)) == model
    assert [one.name for one in path.parent.iterdir()] == ["model.onnx"]


def test_weights_beside_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Beyond the limit the large ones go to a second file, and replace those of an earlier one."""
    monkeypatch.setattr(onnx_files, "INLINE_BYTES", 1000)
    path = tmp_path / "model.onnx"
    sizes = []
    for _ in range(2):
        model = attention_model()[0]
        expected = {one.name: numpy_helper.to_array(one) for one in model.graph.initializer}
        assert save_proto(model, path) == ("model.onnx", "model.onnx.data")
        sizes.append((tmp_path / "model.onnx.data").stat().st_size)
    assert sizes[0] == sizes[1]
    found = weights(path)
    assert found.keys() == expected.keys()
    for name, values in expected.items():
        np.testing.assert_array_equal(found[name], values)
