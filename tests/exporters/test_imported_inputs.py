"""Made-up inputs: names for axes, and how large a call may be."""

from __future__ import annotations

import pytest

from edgekit.core.manifest import TensorSpec
from edgekit.exporters.imported_inputs import drawn_feeds, name_axes
from edgekit.graph.onnx_foreign import Port


def test_names_of_inputs_that_are_numbers() -> None:
    """As exporters number them: each has axes of its own."""
    ports = [Port(name, "float32", (None, None)) for name in ("0", "1")]
    specs = name_axes(ports, None)
    assert [spec.shape for spec in specs] == [("batch", "input_0_1"), ("batch", "input_1_1")]


def test_names_that_the_graph_has_already() -> None:
    """An axis without a name is not the one that happens to be called so."""
    ports = [
        Port("x", "float32", (2, None)),
        Port("y", "float32", ("x_1", 3)),
        Port("x:1", "float32", (2, "not a name")),
        Port("x/1", "float32", (2, "not a name")),
    ]
    assert [spec.shape for spec in name_axes(ports, None)] == [
        (2, "x_1_2"), ("x_1", 3), (2, "x_1_1"), (2, "x_1_1_2"),
    ]  # fmt: skip


@pytest.mark.parametrize("shape", [(1 << 20, 1 << 24), (0, 1 << 62), ("n", 1 << 40)])
def test_calls_that_are_too_large_are_not_made_up(shape: tuple[int | str, ...]) -> None:
    """No machine could hold them."""
    assert list(drawn_feeds([TensorSpec("x", "float32", shape)], 0)) == []
