"""Graphs without their weights, against what onnx reads."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from edgekit.graph.onnx_light import append_outputs, read_light


def write(path: Path, *, external: bool = False, width: int = 64) -> onnx.ModelProto:
    """A graph with weights in all the ways that a file can hold them."""
    random = np.random.default_rng(0)
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 4])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, None)
    weights = [
        numpy_helper.from_array(random.normal(size=(4, width)).astype(np.float32), "raw"),
        helper.make_tensor("typed", TensorProto.FLOAT, [64, 64], random.normal(size=64 * 64)),
        helper.make_tensor("whole", TensorProto.INT64, [600], range(600)),
        numpy_helper.from_array(np.array([-1, 8, 8]), "shape"),
        *(
            numpy_helper.from_array(np.array([at]), name)
            for name, at in (("start", 0), ("end", 64), ("axis", 1))
        ),
    ]
    nodes = [
        helper.make_node("MatMul", ["x", "raw"], ["h"]),
        helper.make_node("Slice", ["h", "start", "end", "axis"], ["s"]),
        helper.make_node("MatMul", ["s", "typed"], ["g"]),
        helper.make_node("Reshape", ["g", "shape"], ["y"]),
    ]
    graph = helper.make_graph(nodes, "g", [x], [y], weights, doc_string="d" * 300)
    opsets = [helper.make_opsetid("", 21)]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=10, producer_name="p")
    onnx.save(model, str(path), save_as_external_data=external, location="w", size_threshold=500)
    return onnx.load(str(path), load_external_data=False)


@pytest.mark.parametrize("external", [False, True])
def test_all_but_the_numbers(tmp_path: Path, external: bool) -> None:
    """Names, types, shapes and places of large weights; small ones and all else as they are."""
    expected = write(tmp_path / "m.onnx", external=external)
    for weight in expected.graph.initializer:
        if weight.name in ("raw", "typed", "whole"):
            for field in ("raw_data", "float_data", "int64_data"):
                weight.ClearField(field)
    found = read_light(tmp_path / "m.onnx")
    assert found.SerializeToString(deterministic=True) == expected.SerializeToString(
        deterministic=True
    )


def test_appended_outputs(tmp_path: Path) -> None:
    """They follow those that are there, and nothing else of the graph changes."""
    expected = write(tmp_path / "m.onnx")
    append_outputs(tmp_path / "m.onnx", ["h", "g"])
    expected.graph.output.extend(onnx.ValueInfoProto(name=name) for name in ("h", "g"))
    found = onnx.load(str(tmp_path / "m.onnx"))
    assert found.SerializeToString(deterministic=True) == expected.SerializeToString(
        deterministic=True
    )
    assert [output.name for output in read_light(tmp_path / "m.onnx").graph.output] == [
        "y", "h", "g",
    ]  # fmt: skip


@pytest.mark.parametrize("cut", [1, 100, 5000])
def test_a_file_that_is_cut_short(tmp_path: Path, cut: int) -> None:
    """It is no graph with fewer weights."""
    path = tmp_path / "m.onnx"
    write(path)
    path.write_bytes(path.read_bytes()[:-cut])
    with pytest.raises(ValueError, match="over its message"):
        read_light(path)


def test_memory_does_not_follow_the_weights(tmp_path: Path) -> None:
    """A file of 100 MB is read in a few MB."""
    path = tmp_path / "m.onnx"
    write(path, width=6_000_000)
    assert path.stat().st_size > 90_000_000
    code = (
        "import onnx, resource, sys; from pathlib import Path\n"
        "from edgekit.graph.onnx_light import read_light\n"
        "peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "before = peak(); read_light(Path(sys.argv[1])); print(peak() - before)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(path)], check=True, capture_output=True, text=True
    )
    assert int(done.stdout) * (1 if sys.platform == "darwin" else 1024) < 20_000_000
