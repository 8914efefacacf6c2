"""Module factories as sources."""

from __future__ import annotations

from collections import namedtuple
from pathlib import Path

import pytest
import torch

from edgekit.core.errors import ConfigError, SourceError
from edgekit.sources.custom import name_outputs
from edgekit.sources.opening import open_source
from tests import models
from tests.models import MODULE_INPUTS, MODULES

FILE = models.__file__


def _write(folder: Path, body: str) -> str:
    path = folder / "own.py"
    path.write_text("import torch\nfrom torch import nn\n" + body)
    return f"{path}:make"


@pytest.mark.parametrize("name", MODULES)
def test_factory_in_a_file_with_declared_inputs(name: str) -> None:
    """The samples have the declared names, types and dimensions, no two symbols alike."""
    source = open_source(f"{FILE}:{name}", inputs=MODULE_INPUTS[name])
    assert (source.kind, source.task, source.id) == ("factory", "custom", f"models.py:{name}")
    assert source.tokenizer is None
    sizes = {
        symbol: source.sample_inputs[key].shape[axis]
        for key, axes in source.dynamic_axes.items()
        for axis, symbol in axes.items()
    }
    assert len(set(sizes.values())) == len(sizes)
    outputs = source.module(**source.sample_inputs)
    assert all(isinstance(value, torch.Tensor) for value in outputs.values())


def test_factory_in_a_module() -> None:
    """package.module:factory gives the same model as its file."""
    by_name = open_source("tests.models:cnn", inputs=MODULE_INPUTS["cnn"])
    by_file = open_source(f"{FILE}:cnn", inputs=MODULE_INPUTS["cnn"])
    assert by_name.sha256 == by_file.sha256
    assert by_name.id == "tests.models:cnn"


def test_samples_of_the_factory_need_no_declaration() -> None:
    """The common first axis is the batch, because every output grows with it."""
    source = open_source(f"{FILE}:cnn_with_samples")
    assert source.dynamic_axes == {"image": {0: "batch"}}


def test_sample_of_one_row_still_has_a_batch_axis(tmp_path: Path) -> None:
    """A single row is what people give; torch.export would freeze it."""
    spec = _write(tmp_path, "def make():\n    return nn.Linear(4, 2), torch.zeros(1, 4)\n")
    source = open_source(spec)
    assert source.dynamic_axes == {"input": {0: "batch"}}
    assert source.sample_inputs["input"].shape == (2, 4)


def test_first_axis_that_is_no_batch_stays_fixed(tmp_path: Path) -> None:
    """Where the output does not grow with it, it is a dimension like any other."""
    spec = _write(
        tmp_path,
        "class M(nn.Module):\n    def forward(self, x):\n        return x.sum(0)\n"
        "def make():\n    return M(), torch.zeros(3, 4)\n",
    )
    source = open_source(spec)
    assert source.dynamic_axes == {"x": {}}
    assert "All dimensions are fixed as in the factory's samples (x [3, 4])" in source.notes[0]


def test_batch_that_was_found_is_told() -> None:
    """Nobody declared it; a declaration needs no note."""
    assert (
        "the first axis was found to be the batch"
        in (open_source(f"{FILE}:cnn_with_samples").notes[0])
    )
    assert open_source(f"{FILE}:cnn", inputs=MODULE_INPUTS["cnn"]).notes == ()


@pytest.mark.parametrize(("returned", "told"), [("x, x + 1", True), ("{'output_0': x}", False)])
def test_numbered_outputs_are_told(tmp_path: Path, returned: str, told: bool) -> None:
    """A tuple's outputs have no names of their own; a dict would give them some."""
    spec = _write(
        tmp_path,
        "class M(nn.Module):\n    def forward(self, x):\n"
        f"        return {returned}\ndef make():\n    return M()\n",
    )
    notes = open_source(spec, inputs=["x=float32:batch,4"]).notes
    assert any("return a dict" in note for note in notes) == told


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("def make():\n    return 3\n", "returned int"),
        ("def make():\n    raise RuntimeError('no')\n", "failed: RuntimeError: no"),
        ("raise RuntimeError('no')\n", "fails on import: RuntimeError: no"),
        ("def make():\n    return nn.Linear(4, 2), 'x'\n", "sample inputs are str"),
        ("def make():\n    return nn.Linear(4, 2), {'x': 1}\n", "sample input 'x' is int"),
        ("def make():\n    return nn.Linear(4, 2), torch.zeros(2, 5)\n", "fails on the inputs"),
        (
            "class M(nn.Module):\n    def forward(self, x):\n        return 'text'\n"
            "def make():\n    return M(), torch.zeros(2, 4)\n",
            "without any tensor",
        ),
    ],
)
def test_unusable_code_is_a_source_error(body: str, message: str, tmp_path: Path) -> None:
    """The user's code is the source; what it does wrong is told with its own words."""
    with pytest.raises(SourceError, match=message):
        open_source(_write(tmp_path, body))


@pytest.mark.parametrize(
    ("spec", "inputs", "message"),
    [
        ("nowhere.py:make", (), "no file nowhere.py"),
        ("no.such.module:make", (), "no Python module 'no.such.module'"),
        (f"{FILE}:lstmm", (), "has no 'lstmm'"),
        (f"{FILE}:MODULES", (), "not a function"),
        (f"{FILE}:cnn", (), "Nothing says which inputs Cnn takes"),
        (f"{FILE}:cnn", ("picture=float32:batch,1,28,28",), "forward takes image"),
        (f"{FILE}:cnn_with_samples", ("image=float32:batch,3,28,28",), "factory's sample is"),
        (f"{FILE}:cnn_with_samples", ("image=int64:batch,1,28,28",), "factory's sample is"),
        (f"{FILE}:cnn", ("image=float32:batch",), None),
    ],
)
def test_wrong_usage_is_a_config_error(
    spec: str, inputs: tuple[str, ...], message: str | None
) -> None:
    """Names and declarations are the caller's; a shape that does not run is the module's word."""
    if message is None:
        with pytest.raises(SourceError, match="fails on the inputs"):
            open_source(spec, inputs=inputs)
        return
    with pytest.raises(ConfigError, match=message):
        open_source(spec, inputs=inputs)


def test_task_is_not_for_factories() -> None:
    """--task would promise post-processing that a custom module does not get."""
    with pytest.raises(ConfigError, match="is for checkpoints"):
        open_source(f"{FILE}:cnn_with_samples", task="text-classification")


def test_half_precision_module_gets_fitting_samples() -> None:
    """--dtype casts module and float samples alike, and the hash is that of the origin."""
    full = open_source(f"{FILE}:cnn_with_samples")
    half = open_source(f"{FILE}:cnn_with_samples", dtype="float16")
    assert half.sample_inputs["image"].dtype == torch.float16
    assert half.sha256 == full.sha256


def test_outputs_are_named_by_their_structure() -> None:
    """Dict keys, fields and positions become names; nothing but tensors counts."""
    a = torch.zeros(1)
    pair = namedtuple("pair", "left right")
    assert list(name_outputs(a)) == ["output"]
    assert list(name_outputs((a, a))) == ["output_0", "output_1"]
    assert list(name_outputs({"y": a, "none": None})) == ["y"]
    assert list(name_outputs(pair(a, a))) == ["left", "right"]
    assert list(name_outputs({"y": a, "state": [a, (a, a)]})) == [
        "y",
        "state.0",
        "state.1.0",
        "state.1.1",
    ]


def test_factory_that_ends_the_process(tmp_path: Path) -> None:
    """`sys.exit` in the user's code is a failed source, not a success."""
    (tmp_path / "net.py").write_text("import sys\ndef build():\n    sys.exit(0)\n")
    with pytest.raises(SourceError, match="SystemExit"):
        open_source(f"{tmp_path / 'net.py'}:build", inputs=["x=float32:batch,3"])
