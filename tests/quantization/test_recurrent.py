"""Recurrent layers: left in float by every method on both engines, and told with the reason."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from numpy.typing import NDArray
from onnx import helper

import edgekit
from edgekit.core.errors import QuantizeError
from edgekit.core.manifest import Component, TensorSpec
from edgekit.core.profiles import load_profile
from edgekit.quantization import onnxruntime, openvino
from edgekit.runtime.engines import find_engine
from tests.compilers.conftest import make_model
from tests.quantization.networks import Feeds, Made, Weights, bundle_of
from tests.quantization.small import cosine

INPUT, HIDDEN = 16, 32
GATES = {"LSTM": 4, "GRU": 3}
REASON = "recurrent layers are left in float"
ENGINES = {"onnxruntime": onnxruntime, "openvino": openvino}


def recurrent(operator: str, *, head: bool = True) -> Made:
    """A sequence ``[steps, batch, 16]`` to its last state, or to a product of that."""
    weights = Weights()
    gates = GATES[operator]
    weights.add("w", 1, gates * HIDDEN, INPUT, spread=0.2)
    weights.add("r", 1, gates * HIDDEN, HIDDEN, spread=0.2)
    weights.add("b", 1, 2 * gates * HIDDEN, spread=0.1)
    last = "state" if head else "y"
    nodes = [
        helper.make_node(
            operator, ["x", "w", "r", "b"], ["", last], name="/layer", hidden_size=HIDDEN
        )
    ]
    if head:
        weights.add("head", HIDDEN, 8)
        nodes.append(helper.make_node("MatMul", ["state", "head"], ["y"], name="/head/MatMul"))
    component = Component(
        "onnx",
        ("model.onnx",),
        (TensorSpec("x", "float32", ("steps", "batch", INPUT)),),
        (TensorSpec("y", "float32", (1, "batch", 8 if head else HIDDEN)),),
    )
    return make_model(nodes, weights.held, component), component


def sequences(count: int = 6) -> list[Feeds]:
    """Noise of several lengths."""
    random = np.random.default_rng(2)
    return [
        {"x": random.standard_normal((3 + row, 2, INPUT)).astype(np.float32)}
        for row in range(count)
    ]


def answers(
    engine: str, folder: Path, part: Component, rows: Sequence[Feeds], options: dict[str, object]
) -> NDArray[np.float32]:
    """The output for all rows."""
    if engine == "openvino":
        options = {"precision_hint": "f32", **options}
    session = find_engine(engine).open_session(
        folder, part, options=options, device="cpu", threads=1
    )
    try:
        return np.concatenate([session.run(row)["y"] for row in rows])
    finally:
        session.close()


@pytest.mark.parametrize("operator", GATES)
@pytest.mark.parametrize("method", ["dynamic", "static", "weight-only", "float16"])
@pytest.mark.parametrize(("engine", "module"), ENGINES.items())
def test_it_stays_float_and_is_told(
    engine: str, module: ModuleType, method: str, operator: str, tmp_path: Path
) -> None:
    """The product behind it is quantized, and the answers stay near those of the float graph."""
    profile = load_profile("cpu-x86-vnni")
    bundle, rows = bundle_of(recurrent(operator), tmp_path / "exported"), sequences()
    prepared = module.prepare(bundle, "model", profile, tmp_path / "work", rows)
    # One product would be smoothed, or not, by chance.
    recipe = replace(module.recipes(profile, method, None)[0], smooth=None)
    written = prepared.write(recipe, tmp_path / "out")
    assert [one.reason for one in written.kept_float] == [REASON]
    # OpenVINO's converter makes one operator with another name of it.
    assert written.kept_float[0].node in ("/layer", f"{operator}Sequence.0")
    assert sum(written.quantized_ops.values()) == 1
    part = bundle.manifest.components["model"]
    expected = answers("onnxruntime", bundle.path, part, rows, {})
    found = answers(engine, tmp_path / "out", written.component, rows, dict(written.options))
    assert cosine(found, expected) > 0.995
    assert not np.array_equal(found, expected)


@pytest.mark.parametrize("module", ENGINES.values())
def test_nothing_else_to_quantize(module: ModuleType, tmp_path: Path) -> None:
    """A graph of nothing but a recurrent layer is refused, before anything is calibrated."""
    bundle = bundle_of(recurrent("LSTM", head=False), tmp_path / "exported")
    with pytest.raises(QuantizeError, match=REASON):
        module.prepare(bundle, "model", load_profile("cpu-x86-vnni"), tmp_path / "work", [])


MODULE = """
import torch


class Tagger(torch.nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.layer = torch.nn.LSTM(16, 64, batch_first=True)
        self.head = torch.nn.Linear(64, 64)

    def forward(self, x):
        return {"y": self.head(self.layer(x)[0])}


def make():
    return Tagger(), {"x": torch.ones(2, 5, 16)}
"""


@pytest.mark.slow
@pytest.mark.parametrize("engine", ENGINES)
def test_a_module_of_ones_own(engine: str, tmp_path: Path) -> None:
    """From PyTorch to a quantized bundle: it answers as before, and says what stayed float."""
    (tmp_path / "module.py").write_text(MODULE)
    exported, output = tmp_path / "exported", tmp_path / "q"
    edgekit.export(f"{tmp_path / 'module.py'}:make", exported, inputs=("x=float32:batch,steps,16",))
    result = edgekit.quantize(exported, output, engine=engine, allow_slower=True)
    assert REASON in {one.reason for one in result.kept_float}
    assert sum(result.quantized_ops.values()) == 1
    feeds = {"x": np.random.default_rng(1).standard_normal((3, 7, 16)).astype(np.float32)}
    with edgekit.load(exported) as before, edgekit.load(output) as after:
        expected, found = before.run(feeds)["y"], after.run(feeds)["y"]
    assert cosine(np.asarray(found), np.asarray(expected)) > 0.995
