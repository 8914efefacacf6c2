"""graphs/reading.py and drafting.py: large weights stay on disk, candidates may be large."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest

from edgekit.core.errors import QuantizeError
from edgekit.graph import onnx_files
from edgekit.quantization.graphs.drafting import Draft
from edgekit.quantization.graphs.reading import read_graph
from tests.quantization.networks import bundle_of, encoder, texts


def run(path: Path) -> np.ndarray:
    """The answers of a graph to one text."""
    settings = ort.SessionOptions()
    settings.log_severity_level = 4
    session = ort.InferenceSession(str(path), settings, providers=["CPUExecutionProvider"])
    return session.run(None, dict(texts(1)[0]))[0]


def test_weights_are_read_from_disk(tmp_path: Path) -> None:
    """Only small constants are in memory, and every weight reads as it was."""
    model, _ = encoder()
    source = tmp_path / "model.onnx"
    onnx.save(model, str(source))
    graph = read_graph(source, tmp_path / "work")
    held = sum(len(one.raw_data) for one in graph.weights.values())
    assert held < 5_000
    for one in model.graph.initializer:
        np.testing.assert_array_equal(graph.array(one.name), onnx.numpy_helper.to_array(one))


def test_source_with_weights_beside_it(tmp_path: Path) -> None:
    """A model whose weights lie in another file is read the same way."""
    model, _ = encoder()
    plain, apart = tmp_path / "plain.onnx", tmp_path / "apart.onnx"
    onnx.save(model, str(plain))
    onnx.save(model, str(apart), save_as_external_data=True, location="w.bin", size_threshold=64)
    first, second = read_graph(plain, tmp_path / "a"), read_graph(apart, tmp_path / "b")
    for name in first.weights:
        np.testing.assert_array_equal(first.array(name), second.array(name))


def test_folder_that_was_used_before(tmp_path: Path) -> None:
    """Working files of an earlier run are replaced, not added to."""
    source = tmp_path / "model.onnx"
    onnx.save(encoder()[0], str(source))
    sizes = []
    for _ in range(2):
        read_graph(source, tmp_path / "work")
        sizes.append((tmp_path / "work" / "float.onnx.data").stat().st_size)
    assert sizes[0] == sizes[1]


def test_large_candidate(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Beyond the limit the weights go beside the graph, also over an older candidate."""
    bundle = bundle_of(encoder(), tmp_path / "b")
    graph = read_graph(bundle.path / "model.onnx", tmp_path / "work")
    monkeypatch.setattr(onnx_files, "INLINE_BYTES", 1000)
    for _ in range(2):
        draft = Draft(graph)
        for node in graph.model.graph.node:
            draft.copy(node)
        files = draft.save(tmp_path / "out" / "model.onnx")
    assert files == ("model.onnx", "model.onnx.data")
    size = (tmp_path / "out" / "model.onnx.data").stat().st_size
    assert size < 1.5 * (bundle.path / "model.onnx").stat().st_size
    np.testing.assert_array_equal(
        run(tmp_path / "out" / "model.onnx"), run(bundle.path / "model.onnx")
    )


def test_scalars_stay_scalars(tmp_path: Path) -> None:
    """Some kernels take a vector of one number for a mistake."""
    bundle = bundle_of(encoder(), tmp_path / "b")
    draft = Draft(read_graph(bundle.path / "model.onnx", tmp_path / "work"))
    draft.constant("two", np.array(2.0, dtype=np.float32))
    draft.add("Mul", ["two", "two"], ["logits"], "/four")
    held = {one.name: list(one.dims) for one in draft.build().graph.initializer}
    assert held["two"] == []


def test_nodes_without_names(tmp_path: Path) -> None:
    """Nodes without a name, or with another's, get one of their own."""
    model, _ = encoder()
    for node in model.graph.node:
        node.name = "" if node.op_type == "Add" else "/same"
    source = tmp_path / "model.onnx"
    onnx.save(model, str(source))
    names = [node.name for node in read_graph(source, tmp_path / "work").model.graph.node]
    assert len(set(names)) == len(names)
    assert all(names)


def test_not_onnx(tmp_path: Path) -> None:
    """A file of something else is refused by name."""
    source = tmp_path / "model.onnx"
    source.write_bytes(b"something else")
    with pytest.raises(QuantizeError, match=r"model\.onnx"):
        read_graph(source, tmp_path / "work")


def test_what_nothing_reads_is_not_written(tmp_path: Path) -> None:
    """Nor what only such a node reads: its weight would fill the file."""
    bundle = bundle_of(encoder(), tmp_path / "b")
    draft = Draft(read_graph(bundle.path / "model.onnx", tmp_path / "work"))
    draft.add("Transpose", ["table"], ["turned"], "/turn", perm=[1, 0])
    draft.add("Neg", ["turned"], ["negative"], "/neg")
    draft.constant("two", np.array(2.0, dtype=np.float32))
    draft.add("Neg", ["two"], ["logits"], "/last")
    graph = draft.build().graph
    assert [node.name for node in graph.node] == ["/last"]
    assert [one.name for one in graph.initializer] == ["two"]
