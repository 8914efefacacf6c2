"""Bare graphs beside bundles: opened by their ending, on both engines, without a manifest."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import helper

from edgekit.core.bundle import Bundle
from edgekit.core.errors import BundleCorrupt, BundleVersion, ConfigError
from edgekit.core.manifest import TensorSpec
from edgekit.runtime.contenders import (
    BundleContender,
    make_contender,
    read_options,
    with_options,
    worker_command,
)
from edgekit.runtime.conversation import Child, child_environment
from edgekit.runtime.raw import (
    OpenGraph,
    RawContender,
    is_raw,
    raw_bytes,
    raw_inputs,
    raw_precision,
    raw_workloads,
)
from edgekit.runtime.records import Record
from edgekit.runtime.workloads import Workload, load_outputs, save_workloads
from tests.runtime.conftest import linear_graph, text_graph

Make = Callable[..., Bundle]


@pytest.fixture(params=[".onnx", ".xml"])
def graph(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """The file of y = 2a + b, in either format."""
    path = tmp_path / "linear.onnx"
    path.write_bytes(linear_graph().model().SerializeToString())
    if request.param == ".onnx":
        return path
    openvino = pytest.importorskip("openvino")
    openvino.save_model(openvino.convert_model(str(path)), str(path.with_suffix(".xml")))
    return path.with_suffix(".xml")


def test_inputs_are_the_graphs(graph: Path) -> None:
    """Names, types and shapes, a batch that varies included."""
    assert set(raw_inputs(graph)) == {
        TensorSpec("a", "float32", ("batch", 3)), TensorSpec("b", "float32", ("batch", 3)),
    }  # fmt: skip


def test_a_graph_runs_like_a_bundle(graph: Path) -> None:
    """Opened without a manifest, its inputs checked, its engine named."""
    contender = make_contender(graph, 1, {})
    assert isinstance(contender, RawContender)
    contender.imports()
    opened = contender.open()
    assert isinstance(opened, OpenGraph)
    (workload,) = raw_workloads(raw_inputs(graph), batch=2)
    answer = opened.prepare(workload)()["y"]
    np.testing.assert_allclose(
        answer, 2 * workload.feeds["a"] + workload.feeds["b"], rtol=2e-2, atol=2e-2
    )
    facts = opened.facts()
    assert facts["engine"] == ("onnxruntime" if graph.suffix == ".onnx" else "openvino")
    assert facts["effective_precision"] in ("fp32", "bf16", "fp16")


def test_a_graph_is_measured_by_the_same_child(graph: Path, tmp_path: Path) -> None:
    """The whole conversation, outputs and drift included."""
    path = tmp_path / "w"
    save_workloads(raw_workloads(raw_inputs(graph), batch=2), path)
    record = Record("raw")
    command = worker_command(graph, path, 1)
    with Child(command, stderr=tmp_path / "e", environment=child_environment()) as child:
        record.open(child, 0, timeout=60, outputs=tmp_path / "o")
        record.warm(child, 0, seconds=0.0, timeout=60)
        record.measure(child, 0, 0, seconds=0.0, least=2, timeout=60)
        record.measure_stages(child, 0, seconds=0.0, timeout=60)
        record.close(child, timeout=60)
    assert load_outputs(tmp_path / "o")[0]["y"].shape == (2, 3)
    row = record.row(0, Workload(2, None, {}), artifact_bytes=raw_bytes(graph))
    assert row.p50_ms is not None
    assert row.stages is None
    assert row.peak_rss_bytes is not None
    assert record.drifts[0][0].max_abs == 0.0


def test_options_reach_the_engine(tmp_path: Path) -> None:
    """Those of the command line, as manifests hold them."""
    path = tmp_path / "linear.onnx"
    path.write_bytes(linear_graph().model().SerializeToString())
    with pytest.raises(BundleVersion, match="has 'speed', which"):
        RawContender(path, 1, {"speed": 1}).open()
    assert RawContender(path, 1, {"allow_spinning": False}).open()


def test_options_stand_over_the_manifests(text_bundle: Make) -> None:
    """Those that hold several are set one by one; the bundle on disk stays as it is."""
    bundle = text_bundle(
        "classification",
        options={"allow_spinning": True, "session": {"session.disable_prepacking": "1"}},
    )
    changed = with_options(
        bundle, {"allow_spinning": False, "session": {"session.set_denormal_as_zero": "0"}}
    )
    assert changed.manifest.runtime.options == {
        "allow_spinning": False,
        "session": {"session.disable_prepacking": "1", "session.set_denormal_as_zero": "0"},
    }
    assert with_options(bundle, {}) is bundle
    contender = make_contender(bundle.path, 1, {"allow_spinning": False})
    assert isinstance(contender, BundleContender)
    assert contender.open().facts()["effective_precision"] == "fp32"


def test_options_travel_on_the_command_line(tmp_path: Path) -> None:
    """As JSON, and only when there are some."""
    assert "--options" not in worker_command(tmp_path, tmp_path, 1)
    assert "--own-threads" not in worker_command(tmp_path, tmp_path, 1)
    assert "--own-threads" in worker_command(tmp_path, tmp_path, 1, own_threads=True)
    command = worker_command(tmp_path, tmp_path, 1, {"allow_spinning": False})
    assert read_options(command[-1]) == {"allow_spinning": False}
    assert read_options(None) == {}
    for wrong in ("[1]", "no"):
        with pytest.raises(ConfigError, match="JSON object"):
            read_options(wrong)


def test_tokens_get_lengths(tmp_path: Path) -> None:
    """A graph of token ids is measured at lengths, its mask all ones."""
    path = tmp_path / "text.onnx"
    path.write_bytes(text_graph("classification").model().SerializeToString())
    specs = raw_inputs(path)
    made = raw_workloads(specs, batch=2, lengths=[8])
    assert [workload.name for workload in made] == ["2×8"]
    assert made[0].feeds["input_ids"].shape == (2, 8)
    assert (made[0].feeds["attention_mask"] == 1).all()
    assert [workload.length for workload in raw_workloads(specs)] == [16, 128]
    again = raw_workloads(specs, batch=2, lengths=[8])[0].feeds["input_ids"]
    np.testing.assert_array_equal(again, made[0].feeds["input_ids"])


def test_sizes_that_the_graph_does_not_have_are_refused() -> None:
    """By the option."""
    fixed = (TensorSpec("x", "float32", (1, 3)),)
    with pytest.raises(ConfigError, match="--batch 2"):
        raw_workloads(fixed, batch=2)
    with pytest.raises(ConfigError, match="--length"):
        raw_workloads(fixed, lengths=[8])
    (made,) = raw_workloads((TensorSpec("x", "float32", ("batch", "n")),), batch=2)
    assert made.feeds["x"].shape == (2, 16)


def test_what_is_no_graph_is_refused(tmp_path: Path) -> None:
    """A missing file by name, a broken one by its engine's words."""
    with pytest.raises(ConfigError, match="no file"):
        raw_inputs(tmp_path / "missing.onnx")
    with pytest.raises(ConfigError, match="no bare graph"):
        raw_inputs(tmp_path)
    (tmp_path / "broken.onnx").write_bytes(b"broken")
    with pytest.raises(BundleCorrupt, match=r"broken\.onnx"):
        raw_inputs(tmp_path / "broken.onnx")
    assert not is_raw(tmp_path)


def test_a_quantized_graph_is_judged_as_one(tmp_path: Path) -> None:
    """Its operators tell, whatever its weights are called."""
    path = tmp_path / "g.onnx"
    path.write_bytes(linear_graph().model().SerializeToString())
    assert raw_precision(path) == "fp32"
    model = onnx.load(path)
    model.graph.node.insert(0, helper.make_node("DynamicQuantizeLinear", ["a"], ["q", "s", "z"]))
    onnx.save(model, tmp_path / "q.onnx")
    assert raw_precision(tmp_path / "q.onnx") == "int8"
    # A mark may lie across two of the pieces in which a file is read.
    data = bytearray(3 << 20)
    data[(1 << 20) - 4 : (1 << 20) + 7] = b"MatMulNBits"
    (tmp_path / "cut.onnx").write_bytes(data)
    assert raw_precision(tmp_path / "cut.onnx") == "int4"
    ir = tmp_path / "g.xml"
    ir.write_text('<net><layer type="Const"><data element_type="i8"/></layer></net>')
    assert raw_precision(ir) == "int8"


def test_weights_beside_the_graph_count(tmp_path: Path) -> None:
    """The artifact is all that a device needs."""
    (tmp_path / "m.xml").write_bytes(b"12345")
    (tmp_path / "m.bin").write_bytes(b"123")
    assert raw_bytes(tmp_path / "m.xml") == 8
