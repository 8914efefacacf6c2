"""graphs/grouping.py: what belongs together, what it is called, and what is left out."""

from __future__ import annotations

from pathlib import Path

import onnx
import pytest

from edgekit.core.manifest import Component, TensorSpec
from edgekit.quantization.graphs.grouping import Grouping, find_groups
from edgekit.quantization.graphs.reading import read_graph
from tests.quantization.networks import Weights, model_of

make = onnx.helper.make_node


def groups_of(nodes: list[onnx.NodeProto], weights: Weights, folder: Path) -> Grouping:
    """The groups of a graph from x to y."""
    component = Component(
        "onnx",
        ("model.onnx",),
        (TensorSpec("x", "float32", ("batch", 8)),),
        (TensorSpec("y", "float32", ("batch", 8)),),
    )
    onnx.save(model_of(nodes, weights, component), str(folder / "model.onnx"))
    return find_groups(read_graph(folder / "model.onnx", folder / "work"))


@pytest.mark.parametrize(
    ("node", "name"),
    [
        ("/encoder/layer/3/attention/self/query/MatMul", "layer.3.attention input"),
        ("/encoder/layer/3/attention/output/dense/MatMul", "layer.3.attention output"),
        ("/encoder/layer/3/intermediate/dense/MatMul", "layer.3.feed-forward input"),
        ("/encoder/layer/3/output/dense/MatMul", "layer.3.feed-forward output"),
        ("/transformer/layer/0/attention/out_lin/MatMul", "layer.0.attention output"),
        ("/transformer/layer/0/ffn/lin2/MatMul", "layer.0.feed-forward output"),
        ("/layers/5/self_attn/o_proj/MatMul", "layer.5.attention output"),
        ("/layers/5/mlp/down_proj/MatMul", "layer.5.feed-forward output"),
        ("/layers/5/mlp/Wo/MatMul", "layer.5.feed-forward output"),
        ("/h/11/attn/c_attn/MatMul", "layer.11.attention input"),
        ("/pooler/dense/MatMul", "pooler.dense"),
        ("anything", "anything"),
    ],
)
def test_names(node: str, name: str, tmp_path: Path) -> None:
    """A transformer's parts are named by layer and role, others by their node."""
    weights = Weights()
    weights.add("w", 8, 8)
    grouping = groups_of([make("MatMul", ["x", "w"], ["y"], name=node)], weights, tmp_path)
    assert [group.name for group in grouping.groups] == [name]


def test_shared_weight_is_one_group(tmp_path: Path) -> None:
    """Layers that share a weight, as ALBERT's do, can only be quantized together."""
    weights = Weights()
    weights.add("w", 8, 8)
    nodes = [
        make("MatMul", ["x", "w"], ["a"], name="/one/MatMul"),
        make("Tanh", ["a"], ["b"]),
        make("MatMul", ["b", "w"], ["y"], name="/two/MatMul"),
    ]
    grouping = groups_of(nodes, weights, tmp_path)
    assert [group.nodes for group in grouping.groups] == [("/one/MatMul", "/two/MatMul")]
    assert grouping.groups[0].parameters == 64


def test_products_of_activations_are_no_groups(tmp_path: Path) -> None:
    """A product without a constant side has nothing to quantize."""
    weights = Weights()
    weights.add("w", 8, 8)
    nodes = [
        make("MatMul", ["x", "w"], ["a"], name="/w/MatMul"),
        make("Transpose", ["a"], ["t"], perm=[1, 0]),
        make("MatMul", ["a", "t"], ["s"], name="/scores/MatMul"),
        make("MatMul", ["s", "x"], ["y"], name="/values/MatMul"),
    ]
    grouping = groups_of(nodes, weights, tmp_path)
    assert [group.name for group in grouping.groups] == ["w"]
    assert grouping.kept == ()


def test_weight_with_other_readers(tmp_path: Path) -> None:
    """A weight that something else reads as well stays float, with the reason."""
    weights = Weights()
    weights.add("w", 8, 8)
    nodes = [
        make("MatMul", ["x", "w"], ["a"], name="/w/MatMul"),
        make("ReduceMean", ["w"], ["m"], keepdims=0, name="/mean"),
        make("Add", ["a", "m"], ["y"]),
    ]
    grouping = groups_of(nodes, weights, tmp_path)
    assert grouping.groups == ()
    assert [one.reason for one in grouping.kept] == ["its weight w is also read by ReduceMean"]
