"""Which axes of an imported model vary, and which of them are one."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from onnx import helper

from tests.exporters.test_imported import bring
from tests.onnx_models import FLOAT, model


def sums(*groups: str, open_: str = "") -> object:
    """A model that adds the inputs of each group, named by a letter, and those of `open_` alone."""
    nodes, inputs, outputs = [], {}, {}
    for group in (*groups, *open_):
        inputs |= dict.fromkeys(group, (FLOAT, (None, None)))
        nodes.append(helper.make_node("Sum", list(group), [f"of_{group}"]))
        outputs[f"of_{group}"] = (FLOAT, (None, None))
    return model(nodes, inputs, outputs)


def axes(made: object, folder: Path) -> dict[str, int | str]:
    """What became of the second axis of each input."""
    found = bring(made, folder).exported.component.inputs  # type: ignore[arg-type]
    assert {spec.shape[0] for spec in found} == {"batch"}
    return {spec.name: spec.shape[1] for spec in found}


def test_independent_pairs_stay_independent(tmp_path: Path) -> None:
    """Two texts with a mask each: both may have their own length."""
    found = axes(sums("ab", "cd"), tmp_path)
    assert found == {"a": "a_1", "b": "a_1", "c": "c_1", "d": "c_1"}


def test_three_that_are_one(tmp_path: Path) -> None:
    """No two of them move while the third stays; another one moves by itself."""
    found = axes(sums("abc", open_="d"), tmp_path)
    assert found == {"a": "a_1", "b": "a_1", "c": "a_1", "d": "d_1"}


def test_three_and_three(tmp_path: Path) -> None:
    """Neither all six, nor any pair."""
    found = axes(sums("abc", "def"), tmp_path)
    assert [found[name] for name in "abcdef"] == ["a_1"] * 3 + ["d_1"] * 3


def test_many_that_are_one(tmp_path: Path) -> None:
    """More than all pairs of them could be tried: the states of a decoder's layers."""
    found = axes(sums("abcdefghijklmnopqrst"), tmp_path)
    assert set(found.values()) == {"a_1"}


def test_fixed_axis_beside_a_pair(tmp_path: Path) -> None:
    """It is a size; the pair varies all the same."""
    made = model(
        [
            helper.make_node("Add", ["a", "b"], ["sum"]),
            helper.make_node("MatMul", ["k", "w"], ["product"]),
        ],
        dict.fromkeys("kab", (FLOAT, (None, None))),
        {"sum": (FLOAT, (None, None)), "product": (FLOAT, (None, 2))},
        {"w": np.ones((16, 2), np.float32)},
    )
    assert axes(made, tmp_path) == {"k": 16, "a": "a_1", "b": "a_1"}
