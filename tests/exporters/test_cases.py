"""The shapes at which an export is compared."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from edgekit.core.errors import ConfigError, ExportError
from edgekit.exporters.cases import golden_inputs, parity_cases, sizes_of, traced_sample
from edgekit.sources.loaded import LoadedSource
from edgekit.sources.opening import open_source
from tests import models
from tests.models import MODULE_INPUTS, save_model


@pytest.fixture(scope="module")
def text(tmp_path_factory: pytest.TempPathFactory) -> LoadedSource:
    """A tiny classifier."""
    folder = tmp_path_factory.mktemp("text") / "m"
    return open_source(str(save_model("bert", "text-classification", folder)))


@pytest.fixture(scope="module")
def state() -> LoadedSource:
    """An LSTM with its state in and out."""
    return open_source(f"{models.__file__}:lstm", inputs=MODULE_INPUTS["lstm"])


@pytest.mark.parametrize(
    "static", [{}, {"batch": 1}, {"sequence": 32}, {"batch": 1, "sequence": 32}]
)
def test_text_cases_are_new_shapes_with_padding(text: LoadedSource, static: dict[str, int]) -> None:
    """At least four, none of the traced shape, some padded; two where the shape is fixed."""
    sample = traced_sample(text, static)
    assert not sample["attention_mask"].all()
    cases = parity_cases(text, sample, static)
    assert len(cases) >= 4 or (len(static) == 2 and len(cases) == 2)
    shapes = [tuple(case.inputs["input_ids"].shape) for case in cases]
    if len(static) < 2:
        assert tuple(sample["input_ids"].shape) not in shapes
    assert any(not case.inputs["attention_mask"].all() for case in cases)
    assert max(length for _, length in shapes) == static.get("sequence", 64)
    assert min(batch for batch, _ in shapes) == 1 or "sequence" in static


def test_static_dimensions_are_kept_in_every_case(text: LoadedSource) -> None:
    """What was fixed for the trace is fixed in the comparison."""
    static = {"sequence": 32}
    for case in parity_cases(text, traced_sample(text, static), static):
        assert case.inputs["input_ids"].shape[1] == 32


def test_tensor_cases_vary_every_symbol_together(state: LoadedSource) -> None:
    """All inputs of one symbol keep one size, and batch 1 is among them."""
    sample = traced_sample(state, {})
    cases = parity_cases(state, sample, {})
    assert len(cases) >= 4
    traced = sizes_of(state, sample)
    for case in cases:
        assert sizes_of(state, case.inputs) == dict(case.sizes)
        assert dict(case.sizes) != traced
    assert {case.sizes["batch"] for case in cases} >= {1, 5, 16}


def test_a_fixed_module_is_compared_once_with_other_values() -> None:
    """Where no dimension varies there is one shape, and repeating it would prove nothing."""
    source = open_source(f"{models.__file__}:cnn", inputs=["image=float32:2,1,28,28"])
    sample = traced_sample(source, {})
    (case,) = parity_cases(source, sample, {})
    assert (case.name, case.inputs["image"].shape) == ("other values", sample["image"].shape)
    assert not torch.equal(case.inputs["image"], sample["image"])


def test_fixing_the_last_dimension_leaves_one_case(state: LoadedSource) -> None:
    """--static may fix them all as well."""
    static = {"batch": 2, "sequence": 3}
    (case,) = parity_cases(state, traced_sample(state, static), static)
    assert case.inputs["x"].shape[:2] == (2, 3)


@pytest.mark.parametrize("sample", ["torch.zeros(3, 4)", "torch.arange(12).reshape(3, 4)"])
def test_fixed_zeros_and_integers_get_other_values_too(tmp_path: Path, sample: str) -> None:
    """Zeros have no spread to draw noise from, and integers take none."""
    (tmp_path / "own.py").write_text(
        "import torch\nfrom torch import nn\n"
        "class M(nn.Module):\n    def forward(self, x):\n        return x.sum(0)\n"
        f"def make():\n    return M(), {sample}\n"
    )
    source = open_source(f"{tmp_path / 'own.py'}:make")
    (case,) = parity_cases(source, traced_sample(source, {}), {})
    assert not torch.equal(case.inputs["x"], source.sample_inputs["x"])
    assert (case.inputs["x"] >= 0).all()


@pytest.mark.parametrize(
    ("static", "message"),
    [
        ({"length": 3}, "names the dimension 'length'"),
        ({"batch": 0}, "is not a size"),
        ({"sequence": 65}, "longer than the 64 tokens"),
    ],
)
def test_impossible_static_dimension_is_a_config_error(
    text: LoadedSource, static: dict[str, int], message: str
) -> None:
    """The dimensions and sizes that exist are said."""
    with pytest.raises(ConfigError, match=message):
        traced_sample(text, static)


def test_sample_that_contradicts_its_symbols_is_an_export_error(state: LoadedSource) -> None:
    """Two axes of one name and two sizes."""
    sample = dict(state.sample_inputs)
    sample["h0"] = torch.zeros(2, 9, 16)
    with pytest.raises(ExportError, match="'batch' is 2 in one sample input and 9"):
        sizes_of(state, sample)


def test_golden_batch_is_small_and_padded(text: LoadedSource, state: LoadedSource) -> None:
    """Two short rows; fewer where the outputs are large; none where even one is too large."""
    batch = golden_inputs(text, {}, 100)
    assert batch is not None
    assert batch["input_ids"].shape == (2, 16)
    assert not batch["attention_mask"].all()
    large = golden_inputs(text, {}, 250_000 * 4)
    assert large is not None
    assert large["input_ids"].numel() <= 4
    assert golden_inputs(text, {"sequence": 64}, 250_000 * 4) is None
    assert golden_inputs(state, {}, 10**9) is None
