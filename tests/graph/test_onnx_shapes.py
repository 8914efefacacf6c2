"""graph/onnx_shapes.py: sizes of outputs that follow from the operators."""

from __future__ import annotations

from pathlib import Path

from edgekit.graph.onnx_branches import branch_inputs
from edgekit.graph.onnx_shapes import inferred_outputs
from tests.onnx_models import findings, linear, save, switched


def test_what_follows_and_what_does_not(tmp_path: Path) -> None:
    """The columns of weights do; how much is found does not."""
    path = save(linear(), tmp_path / "m.onnx")
    assert inferred_outputs(path, {"x": ("batch", 4)}) == {"y": (None, 3)}
    assert inferred_outputs(path, {"x": (7, 4)}) == {"y": (7, 3)}
    path = save(findings(), tmp_path / "f.onnx")
    assert inferred_outputs(path, {"x": (2, 8)})["places"] == (2, None)


def test_a_graph_that_contradicts_itself(tmp_path: Path) -> None:
    """Nothing is known then."""
    path = save(linear(), tmp_path / "m.onnx")
    assert inferred_outputs(path, {"x": (2, 9)}).get("y") in (None, (2, 3))
    assert inferred_outputs(tmp_path / "none.onnx", {}) == {}


def test_inputs_that_decide_on_a_branch() -> None:
    """A number that nothing is compared with is none."""
    assert branch_inputs(switched().graph) == ("sr",)
    assert branch_inputs(linear().graph) == ()
