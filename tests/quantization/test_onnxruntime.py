"""quantization/onnxruntime.py: candidates that ONNX Runtime computes."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import onnx
import pytest

from edgekit.core.errors import QuantizeError
from edgekit.quantization import find_quantizer, onnxruntime
from edgekit.quantization.graphs import writing
from edgekit.quantization.recipes import Correction, KeptFloat, Level, Recipe
from tests.quantization.networks import (
    VNNI,
    bundle_of,
    encoder,
    images,
    model_of,
    pictures,
    texts,
)
from tests.quantization.small import Encoder


@pytest.fixture
def small(tmp_path: Path) -> Encoder:
    return Encoder(tmp_path)


def test_found_by_name() -> None:
    """The engine's name finds this module."""
    assert find_quantizer("onnxruntime") is onnxruntime


@pytest.mark.parametrize(
    ("recipe", "least"),
    [
        (Recipe("int8-dynamic"), 0.97),
        (Recipe("int8-dynamic", smooth=0.75), 0.995),
        (Recipe("int8-dynamic", weights="u8", smooth=0.75), 0.995),
        (Recipe("int8-dynamic", reduce_range=True, smooth=0.75), 0.99),
        (Recipe("int8-static", smooth=0.75), 0.995),
        (Recipe("int8-static", calibrator="minmax", smooth=0.75), 0.995),
        (Recipe("int8-static", activations="s8", symmetric=True, smooth=0.75), 0.99),
        (Recipe("int8-dynamic", smooth=0.75, correction="fast"), 0.995),
        (Recipe("int8-static", smooth=0.75, correction="fast"), 0.995),
        (Recipe("int8-dynamic", smooth=0.75, correction="full"), 0.995),
        (Recipe("int8-static", smooth=0.75, correction="full"), 0.995),
        (Recipe("weight-int8"), 0.9995),
        (Recipe("weight-int8", rounding="k-quant"), 0.9995),
        (Recipe("weight-int4"), 0.95),
        (Recipe("weight-int4", rounding="k-quant", block=16), 0.95),
        (Recipe("float16"), 0.99999),
    ],
    ids=lambda value: f"{value.scheme}-{value.weights}" if isinstance(value, Recipe) else "",
)
def test_close_to_the_float_graph(small: Encoder, recipe: Recipe, least: float) -> None:
    """Each recipe's answers are near those of the float graph."""
    assert small.closeness(recipe) >= least


def test_smoothing_removes_the_error_of_outliers(small: Encoder) -> None:
    """Where two channels are large SmoothQuant leaves less than half of the error."""
    plain = 1 - small.closeness(Recipe("int8-dynamic"))
    smoothed = 1 - small.closeness(Recipe("int8-dynamic", smooth=0.75))
    assert smoothed < plain / 2


@pytest.mark.parametrize("scheme", ["int8-dynamic", "int8-static", "weight-int8", "weight-int4"])
def test_every_product_reaches_an_integer_kernel(small: Encoder, scheme: str) -> None:
    """The engine's own graph holds an 8-bit kernel for each of the products."""
    made = small.write(Recipe(scheme))  # type: ignore[arg-type]
    kernels = made.facts["integer_kernels"]
    assert isinstance(kernels, dict)
    assert sum(kernels.values()) == 6
    assert made.quantized_ops == {"Gather": 1, "Gemm": 1, "MatMul": 5}
    assert made.kept_float == ()


@pytest.mark.parametrize("correction", ["fast", "full"])
def test_same_bytes(small: Encoder, correction: Correction) -> None:
    """A recipe gives the same file each time, from another preparation too."""
    recipe = Recipe("int8-static", smooth=0.75, correction=correction)
    other = onnxruntime.prepare(
        small.bundle, "model", VNNI, small.folder / "work2", texts(), seed=1
    )
    small.write(Recipe("weight-int4"))
    small.write(recipe, "first")
    other.write(recipe, small.folder / "second")
    hashes = {
        hashlib.sha256((small.folder / name / "model.onnx").read_bytes()).hexdigest()
        for name in ("first", "second")
    }
    assert len(hashes) == 1


def test_a_full_correction_is_told_in_few_lines(small: Encoder) -> None:
    """Group by group; the few samples that it runs for each of them are no news."""
    told: list[str] = []
    prepared = onnxruntime.prepare(
        small.bundle, "model", VNNI, small.folder / "told", texts(), seed=1, progress=told.append
    )
    prepared.write(Recipe("int8-dynamic", correction="full"), small.folder / "out")
    count = len(prepared.groups)
    assert told[-1] == f"Correcting biases: group {count} of {count}"
    assert len(told) <= 4
    assert not any("Calibrating" in line for line in told)


def test_source_is_left_alone(small: Encoder) -> None:
    """The bundle that is quantized keeps its bytes."""
    before = (small.bundle.path / "model.onnx").read_bytes()
    small.write(Recipe("int8-dynamic", smooth=0.5))
    assert (small.bundle.path / "model.onnx").read_bytes() == before


def test_valid_onnx_without_stale_shapes(small: Encoder) -> None:
    """The result passes the checker, declares no inner shapes and holds no unused weight."""
    made = small.write(Recipe("int8-static", smooth=0.75))
    path = small.folder / "out" / made.component.files[0]
    onnx.checker.check_model(str(path), full_check=True)
    model = onnx.load(str(path))
    read = {name for node in model.graph.node for name in node.input}
    assert not model.graph.value_info
    assert {one.name for one in model.graph.initializer} <= read


def test_query_key_and_value_are_one_group(small: Encoder) -> None:
    """Products of one tensor are tied, and groups are named after their part of the layer."""
    names = [group.name for group in small.prepared.groups]
    assert names == [
        "words",
        "layer.0.attention input",
        "layer.0.feed-forward input",
        "layer.0.feed-forward output",
        "head",
    ]
    assert len(small.prepared.groups[1].nodes) == 3


@pytest.mark.parametrize("level", ["weight-int8", "float16", "float32"])
def test_raised_group(small: Encoder, level: Level) -> None:
    """Raising the group with the outliers brings the answers nearer, the others stay in 8 bits."""
    plain = small.closeness(Recipe("int8-dynamic"))
    recipe = Recipe("int8-dynamic", levels={"layer.0.attention input": level})
    assert small.closeness(recipe) > plain
    made = small.write(recipe)
    kept = {one.node for one in made.kept_float}
    raised = set(small.prepared.groups[1].nodes)
    assert kept == (raised if level == "float32" else set())
    assert made.quantized_ops.get("MatMul (stored)", 0) == (3 if level == "float16" else 0)
    assert sum(made.quantized_ops.values()) + len(kept) == 7


def test_unknown_group(small: Encoder) -> None:
    """A level for a group that is not there is refused with the groups there are."""
    with pytest.raises(QuantizeError, match=r"no group 'layer\.7'.*It has head"):
        small.write(Recipe("int8-dynamic", levels={"layer.7": "float32"}))


def test_embeddings_only_when_asked(small: Encoder) -> None:
    """A recipe without embeddings leaves the table in float and says so."""
    made = small.write(Recipe("int8-dynamic", embeddings=False))
    assert "Gather" not in made.quantized_ops
    assert [one.node for one in made.kept_float] == ["/words/Gather"]


def test_embedding_reads_single_rows(small: Encoder) -> None:
    """The 8-bit table is gathered from before it becomes float, never as a whole."""
    small.write(Recipe("int8-dynamic"))
    model = onnx.load(str(small.folder / "out" / "model.onnx"))
    readers = {node.op_type for node in model.graph.node if "table/int8" in node.input}
    assert readers == {"Gather"}


def test_samples_are_needed(tmp_path: Path) -> None:
    """Static ranges without samples are refused with the remedy."""
    bundle = bundle_of(encoder(), tmp_path / "exported")
    prepared = onnxruntime.prepare(bundle, "model", VNNI, tmp_path / "work", ())
    prepared.write(Recipe("int8-dynamic"), tmp_path / "out")
    with pytest.raises(QuantizeError, match="0 samples"):
        prepared.write(Recipe("int8-static"), tmp_path / "out")


def test_nan_while_calibrating(tmp_path: Path) -> None:
    """Numbers that are none are named with the tensor that held them."""
    bundle = bundle_of(pictures(), tmp_path / "exported")
    bad = [*images(2), {"image": np.full((1, 3, 8, 8), np.nan, dtype=np.float32)}]
    prepared = onnxruntime.prepare(bundle, "model", VNNI, tmp_path / "work", bad)
    with pytest.raises(QuantizeError, match="NaN"):
        prepared.write(Recipe("int8-static"), tmp_path / "out")


def test_excluded(tmp_path: Path) -> None:
    """A pattern leaves the group of the nodes that it matches in float, with the reason."""
    bundle = bundle_of(encoder(), tmp_path / "exported")
    prepared = onnxruntime.prepare(
        bundle, "model", VNNI, tmp_path / "work", (), exclude=["*/intermediate/*"]
    )
    made = prepared.write(Recipe("int8-dynamic"), tmp_path / "out")
    assert [(one.node, one.reason) for one in made.kept_float] == [
        ("/encoder/layer/0/intermediate/dense/MatMul", "excluded")
    ]
    assert made.quantized_ops == {"Gather": 1, "Gemm": 1, "MatMul": 4}


def test_excluding_one_of_a_group_keeps_all_of_it(tmp_path: Path) -> None:
    """Query, key and value are kept together; a group may be called by its own name as well."""
    bundle = bundle_of(encoder(), tmp_path / "exported")
    prepared = onnxruntime.prepare(
        bundle, "model", VNNI, tmp_path / "work", (), exclude=["*/key/MatMul", "head"]
    )
    made = prepared.write(Recipe("int8-dynamic"), tmp_path / "out")
    parts = [f"/encoder/layer/0/attention/self/{one}/MatMul" for one in ("query", "key", "value")]
    assert [one.node for one in made.kept_float] == [*parts, "/head/Gemm"]
    assert made.quantized_ops == {"Gather": 1, "MatMul": 2}


def test_what_no_kernel_takes_is_not_counted(
    small: Encoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A node that the engine computes in float is told as kept, and not as quantized."""
    left = (KeptFloat("/head/Gemm", "no kernel"),)
    monkeypatch.setattr(writing, "audit", lambda *args, **options: ({}, left))
    made = small.write(Recipe("int8-dynamic"))
    assert made.quantized_ops == {"Gather": 1, "MatMul": 5}
    assert made.kept_float == left


def test_half_precision_is_only_stored(small: Encoder) -> None:
    """On a CPU what is in 16 bits is computed in float: it is counted as stored, and once."""
    made = small.write(Recipe("float16"))
    assert made.quantized_ops == {"Gather (stored)": 1, "Gemm (stored)": 1, "MatMul (stored)": 5}
    assert made.kept_float == ()


def test_quantized_already(small: Encoder) -> None:
    """What is quantized is not quantized again."""
    small.write(Recipe("int8-dynamic"))
    made = onnx.load(str(small.folder / "out" / "model.onnx"))
    bundle = bundle_of((made, encoder()[1]), small.folder / "quantized")
    with pytest.raises(QuantizeError, match=r"quantized already.*exported bundle"):
        onnxruntime.prepare(bundle, "model", VNNI, small.folder / "work3", ())


def test_nothing_to_quantize(tmp_path: Path) -> None:
    """A graph without weights to quantize is refused."""
    model, component = encoder()
    bundle = bundle_of((model, component), tmp_path / "exported")
    with pytest.raises(QuantizeError, match="nothing to quantize: excluded"):
        onnxruntime.prepare(bundle, "model", VNNI, tmp_path / "work", (), exclude=["*"])


def test_old_opset(tmp_path: Path) -> None:
    """A graph whose opset lacks the operators is refused with the remedy."""
    from onnx import helper

    from edgekit.core.manifest import Component, TensorSpec
    from tests.quantization.networks import Weights

    weights = Weights()
    weights.add("w", 8, 8)
    component = Component(
        "onnx",
        ("model.onnx",),
        (TensorSpec("x", "float32", ("batch", 8)),),
        (TensorSpec("y", "float32", ("batch", 8)),),
    )
    nodes = [helper.make_node("MatMul", ["x", "w"], ["y"])]
    bundle = bundle_of((model_of(nodes, weights, component, opset=11), component), tmp_path / "b")
    prepared = onnxruntime.prepare(bundle, "model", VNNI, tmp_path / "work", ())
    with pytest.raises(QuantizeError, match=r"opset 11.*--opset"):
        prepared.write(Recipe("int8-dynamic"), tmp_path / "out")
