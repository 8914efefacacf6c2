"""Where a bundle goes wrong: tensors inside, ranked by their error."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from edgekit.core.bundle import Bundle
from edgekit.core.errors import ConfigError
from edgekit.core.manifest import Component, Origin, Source, TensorSpec
from edgekit.core.measurements import LayerError
from edgekit.evaluation import layers
from edgekit.evaluation.layers import LayerComparison, layer_errors
from edgekit.graph.taps import write_tapped
from tests.runtime.conftest import Graph, write_bundle

ROWS = [{"x": np.random.default_rng(seed).normal(size=(2, 4)).astype(np.float32)}
        for seed in range(3)]  # fmt: skip
W = np.random.default_rng(7).normal(size=(4, 8)).astype(np.float32)
V = np.random.default_rng(8).normal(size=(8, 2)).astype(np.float32)


def layered(folder: Path, *, w: np.ndarray = W, v: np.ndarray = V, prefix: str = "") -> Bundle:
    """x·w → h → relu → r → r·v → y, and a tensor of whole numbers beside it."""
    graph = Graph(
        [TensorSpec("x", "float32", ("batch", 4))], [TensorSpec("y", "float32", ("batch", 2))]
    )
    graph.weight("w", w)
    graph.weight("v", v)
    h, r = f"{prefix}h", f"{prefix}r"
    graph.op("MatMul", "x", "w", to=h)
    graph.op("Relu", h, to=r)
    graph.op("Shape", r, to=f"{prefix}shape")
    graph.op("MatMul", r, "v", to="y" if not prefix else "z")
    if prefix:
        graph.op("Identity", "z", to="y")
    return write_bundle(folder, graph, task="custom")


def expected_db(before: Sequence[np.ndarray], after: Sequence[np.ndarray]) -> float:
    """The signal-to-noise ratio of all samples together, by hand."""
    x = np.concatenate([np.ravel(one) for one in before]).astype(np.float64)
    y = np.concatenate([np.ravel(one) for one in after]).astype(np.float64)
    return float(10 * np.log10((x**2).sum() / ((x - y) ** 2).sum()))


@pytest.mark.parametrize("activations", [layers.ACTIVATIONS, 1])
def test_errors_are_ranked(tmp_path: Path, activations: int) -> None:
    """Worst first, with the values of numpy, however few tensors are held at a time."""
    noisy = W + np.random.default_rng(1).normal(scale=0.05, size=W.shape).astype(np.float32)
    base, worse = layered(tmp_path / "a"), layered(tmp_path / "b", w=noisy)
    found = layer_errors(base, worse, ROWS, activations=activations).errors
    h = [[one["x"] @ w for one in ROWS] for w in (W, noisy)]
    r = [[np.maximum(one, 0) for one in side] for side in h]
    y = [[one @ V for one in side] for side in r]
    values = {"h": expected_db(*h), "r": expected_db(*r), "y": expected_db(*y)}
    assert {one.tensor: one.sqnr_db for one in found} == pytest.approx(values, abs=0.01)
    assert [one.sqnr_db for one in found] == sorted(one.sqnr_db for one in found)
    assert {one.tensor: one.operator for one in found} == {
        "h": "MatMul", "r": "Relu", "y": "MatMul",
    }  # fmt: skip
    first = next(one for one in found if one.tensor == "h")
    assert first.max_abs == pytest.approx(
        max(float(np.abs(a - b).max()) for a, b in zip(*h, strict=True)), rel=1e-4
    )


def test_the_layer_that_was_hurt_is_found(tmp_path: Path) -> None:
    """What comes before it is equal, and left out."""
    base, worse = layered(tmp_path / "a"), layered(tmp_path / "b", v=V * np.float32(1.1))
    assert [one.tensor for one in layer_errors(base, worse, ROWS).errors] == ["y"]
    assert layer_errors(base, base, ROWS) == LayerComparison((), 3, 0)


def test_groups_keep_to_the_memory_given(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Half for each of the two graphs; tensors are 64 bytes, and the result the same."""
    sizes: list[int] = []

    def counted(component: Component, folder: Path, names: Sequence[str], target: Path) -> object:
        sizes.append(len(names))
        return write_tapped(component, folder, names, target)

    monkeypatch.setattr(layers, "write_tapped", counted)
    base, worse = layered(tmp_path / "a"), layered(tmp_path / "b", w=W * np.float32(1.5))
    whole = layer_errors(base, worse, ROWS)
    assert sizes == [4, 4]
    sizes.clear()
    assert layer_errors(base, worse, ROWS, activations=300) == whole
    assert max(sizes) == 3
    assert len(sizes) == 4


def test_a_tensor_with_nan_is_the_worst(tmp_path: Path) -> None:
    """Its ratio is minus infinity."""
    bad = V.copy()
    bad[0, 0] = np.nan
    found = layer_errors(layered(tmp_path / "a"), layered(tmp_path / "b", v=bad), ROWS).errors
    assert found[0].tensor == "y"
    assert found[0].sqnr_db == -math.inf


def test_graphs_that_cannot_be_compared_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Other names inside, another origin, or a baseline of another format."""
    base, other = layered(tmp_path / "a"), layered(tmp_path / "b", prefix="p_")
    # The output alone is common, and equal.
    assert layer_errors(base, other, ROWS) == LayerComparison((), 1, 0)
    with monkeypatch.context() as patched:
        patched.setattr(layers, "tensor_names", lambda *_: frozenset({"p_h"}))
        with pytest.raises(ConfigError, match="No tensor inside"):
            layer_errors(base, other, ROWS)

    def of(bundle: Bundle, sha256: str, kind: str = "onnx") -> Bundle:
        source = Source("factory", "m", None, sha256, "M", 1, "float32", None, Origin("m", sha256))
        part = replace(bundle.manifest.components["model"], format=kind)
        changed = replace(bundle.manifest, source=source, components={"model": part})
        return Bundle(bundle.path, changed)

    with pytest.raises(ConfigError, match="another model"):
        layer_errors(of(base, "0" * 64), of(other, "1" * 64), ROWS)
    with pytest.raises(ConfigError, match="no ONNX bundle"):
        layer_errors(of(base, "0" * 64, "openvino-ir"), of(base, "0" * 64), ROWS)


def test_tensors_of_another_shape_are_counted(tmp_path: Path) -> None:
    """What could not be compared is not called equal."""
    wide = np.concatenate([W, W[:, :1] * 0], axis=1)
    tall = np.concatenate([V, V[:1]], axis=0)
    base, other = layered(tmp_path / "a"), layered(tmp_path / "b", w=wide, v=tall)
    found = layer_errors(base, other, ROWS)
    assert (found.compared, found.skipped) == (1, 2)


@pytest.mark.parametrize(
    ("comparison", "parts", "never"),
    [
        (LayerComparison((), 5, 0), ["All tensors inside that were compared (5)"], "Not compared"),
        (LayerComparison((), 1, 2), ["compared (1)", "2 of 3 tensors"], "None"),
        (LayerComparison((), 0, 0), ["No tensor inside"], "All tensors"),
        (LayerComparison((), 0, 2), ["None of the 2 tensors"], "All tensors"),
        (
            LayerComparison((LayerError("y", "MatMul", 3.0, 0.5),), 1, 2),
            ["Not compared", "2 of 3 tensors"],
            "All tensors",
        ),
    ],
)
def test_the_note_says_how_much_was_compared(
    comparison: LayerComparison, parts: list[str], never: str
) -> None:
    """Equal, another shape, or both."""
    note = comparison.note(Path("exported"))
    assert note is not None
    assert all(part in note for part in parts)
    assert never not in note


def test_a_full_table_needs_no_note() -> None:
    """It shows what there is."""
    errors = (LayerError("y", "MatMul", 3.0, 0.5),)
    assert LayerComparison(errors, 1, 0).note(Path("exported")) is None
