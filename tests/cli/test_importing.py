"""The command import: what it tells, and each bad file with its exit code."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from onnx import helper

from tests.cli.test_main import edgekit as command
from tests.onnx_models import (
    FLOAT,
    custom_operator,
    linear,
    model,
    point_to,
    save,
    save_outside,
)


def test_what_is_told(tmp_path: Path) -> None:
    """The keys of DESIGN, and for a person the interface."""
    path = save(linear(), tmp_path / "net.onnx")
    done = command("import", path, "-o", tmp_path / "b", "--json")
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert set(told) == {
        "output", "bundle_id", "task", "architecture", "opset", "inputs", "outputs", "parity",
        "bytes", "seconds", "peak_rss_bytes",
    }  # fmt: skip
    assert told["inputs"] == [{"name": "x", "dtype": "float32", "shape": ["batch", 4]}]
    done = command("import", path, "-o", tmp_path / "b2")
    assert "takes x float32[batch, 4]" in done.stdout
    assert "Its reference is the imported model itself." in done.stdout
    done = command("validate", tmp_path / "b2", "--no-latency")
    assert done.returncode == 0, done.stderr
    assert "as imported" in done.stdout
    assert "PyTorch" not in done.stdout


def test_samples_are_a_file_of_arrays(tmp_path: Path) -> None:
    """As `edgekit run` takes them."""
    path = save(linear(), tmp_path / "net.onnx")
    np.savez(tmp_path / "call.npz", x=np.ones((5, 4), np.float32))
    done = command("import", path, "-o", tmp_path / "b", "--samples", tmp_path / "call.npz")
    assert done.returncode == 0, done.stderr
    assert "x[5×4]" in done.stdout
    done = command("run", tmp_path / "b", tmp_path / "call.npz")
    assert len(json.loads(done.stdout)["y"]) == 5


def _cut(path: Path) -> None:
    save(linear(), path)
    path.write_bytes(path.read_bytes()[:500])


def _outside(path: Path) -> None:
    (path.parent / "weights").mkdir()
    save_outside(linear(), path, "weights.data")
    point_to(path, lambda told: told.update(location="../../etc/passwd"))


def _twice(path: Path) -> None:
    made = linear()
    made.graph.input.append(made.graph.input[0])
    save(made, path)


def _unknown_type(path: Path) -> None:
    made = linear()
    made.graph.output[0].type.tensor_type.elem_type = 99
    save(made, path)


def _unknown_weights(path: Path) -> None:
    made = linear()
    made.graph.initializer[0].data_type = 99
    save(made, path)


def _too_large(path: Path) -> None:
    shape = (1 << 20, 1 << 24)
    nodes = [helper.make_node("Relu", ["x"], ["y"])]
    save(model(nodes, {"x": (FLOAT, shape)}, {"y": (FLOAT, shape)}), path)


_BAD: dict[str, tuple[Callable[[Path], object], int, str]] = {
    "nothing": (lambda path: None, 2, "no file"),
    "folder": (lambda path: path.mkdir(), 2, "not a file"),
    "text": (lambda path: path.write_text("I am a text file.\n"), 4, "not an ONNX file"),
    "truncated": (_cut, 4, "cut short"),
    "custom operator": (lambda path: save(custom_operator(), path), 4, "acme.ops: Whiten"),
    "opset": (lambda path: save(linear(opset=99), path), 7, "has opset 99"),
    "IR version": (lambda path: save(linear(ir_version=99), path), 7, "IR version 99"),
    "data outside": (_outside, 4, "'..'"),
    "dynamic rank": (lambda path: save(linear(None), path), 4, "no declared shape"),
    "name twice": (_twice, 4, "there twice"),
    "unknown type": (_unknown_type, 4, "has the type 99"),
    "unknown weights": (_unknown_weights, 4, "has the type 99"),
    "too large": (_too_large, 4, "too many to be made up"),
    "axes": (lambda path: save(linear((1,) * 65), path), 4, "65 axes"),
}


@pytest.mark.parametrize("bad", _BAD)
def test_bad_files(bad: str, tmp_path: Path) -> None:
    """One clear error, its exit code, and nothing left."""
    make, code, told = _BAD[bad]
    path = tmp_path / "m.onnx"
    make(path)
    done = command("import", path, "-o", tmp_path / "out", "--json")
    assert done.returncode == code, done.stderr
    error = json.loads(done.stdout)["error"]
    assert told in error["message"]
    assert error["hint"]
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "out").exists()
    assert list(tmp_path.glob(".out*")) == []


def test_existing_output_is_kept(tmp_path: Path) -> None:
    """Unless --force is given."""
    path = save(linear(), tmp_path / "net.onnx")
    assert command("import", path, "-o", tmp_path / "b").returncode == 0
    assert command("import", path, "-o", tmp_path / "b").returncode == 2
    assert command("import", path, "-o", tmp_path / "b", "--force").returncode == 0


def test_validate_of_a_pytorch_bundle_names_what_it_needs(tmp_path: Path, classifier: Path) -> None:
    """Only imported models are their own reference."""
    done = command("validate", classifier, "--no-latency", "--json")
    assert done.returncode == 2
    error = json.loads(done.stdout)["error"]
    assert "needs the original model" in error["message"]
    assert "--reference SOURCE" in error["hint"]
