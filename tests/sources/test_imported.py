"""ONNX files as references."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import numpy as np
import onnxruntime
import pytest
import torch
from onnx import TensorProto, helper

import edgekit
from edgekit.core.bundle import open_bundle
from edgekit.core.errors import ConfigError, SourceError
from edgekit.runtime.engines.onnxruntime import OnnxRuntimeSession
from edgekit.runtime.golden import read
from edgekit.sources.imported import OnnxModule, open_imported, stored_source
from edgekit.sources.loaded import LoadedSource
from edgekit.sources.opening import open_reference, open_source
from tests.onnx_models import FLOAT, HALF, INT64, linear, model, save


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """A model that was never PyTorch."""
    return save(linear(), tmp_path / "net.onnx")


def settings(source: LoadedSource) -> Any:
    """What the engine was told when it opened the graph."""
    module = source.module
    assert isinstance(module, OnnxModule)
    session = module.session()
    assert isinstance(session, OnnxRuntimeSession)
    return cast(Any, session)._session.get_session_options()


def test_file_and_bundle_are_one_model(file: Path, tmp_path: Path) -> None:
    """By their hash and by their answers."""
    edgekit.import_onnx(file, tmp_path / "b")
    given = {"x": torch.ones(2, 4)}
    first, second = open_imported(str(file)), open_imported(str(tmp_path / "b"))
    assert first.sha256 == second.sha256
    assert second.id == "net.onnx"
    torch.testing.assert_close(first.module(**given), second.module(**given), rtol=0, atol=0)


def test_optimisations_and_threads_can_be_changed(file: Path) -> None:
    """The engine is told so; the answers stay within what float32 allows."""
    source = open_imported(str(file))
    assert source.engine is not None
    given = {"x": torch.ones(1, 4)}
    before = source.module(**given)["y"]
    levels = onnxruntime.GraphOptimizationLevel
    assert settings(source).graph_optimization_level == levels.ORT_DISABLE_ALL
    source.engine.as_shipped()
    assert settings(source).graph_optimization_level == levels.ORT_ENABLE_ALL
    for threads in (1, 2):
        source.engine.use_threads(threads)
        assert settings(source).intra_op_num_threads == threads
    torch.testing.assert_close(source.module(**given)["y"], before)


@pytest.mark.parametrize(
    ("kind", "told"),
    [(TensorProto.STRING, "type string"), (TensorProto.BFLOAT16, "type bfloat16")],
)
def test_what_no_array_of_numbers_holds(kind: int, told: str, tmp_path: Path) -> None:
    """Neither text nor numbers that numpy does not have."""
    made = model(
        [helper.make_node("Identity", ["x"], ["y"])], {"x": (kind, (2,))}, {"y": (kind, (2,))}
    )
    with pytest.raises(SourceError, match=told):
        open_imported(str(save(made, tmp_path / "m.onnx")))


def test_sequences_are_no_arrays(tmp_path: Path) -> None:
    """A model that takes several tensors at once."""
    made = model([helper.make_node("SequenceAt", ["x", "i"], ["y"])], {"i": (INT64, ())}, {})
    tensor = helper.make_tensor_type_proto(FLOAT, (2,))
    made.graph.input.append(helper.make_value_info("x", helper.make_sequence_type_proto(tensor)))
    made.graph.output.append(helper.make_value_info("y", tensor))
    with pytest.raises(SourceError, match="input 'x'"):
        open_imported(str(save(made, tmp_path / "m.onnx")))


def test_what_the_engine_says_of_inputs(file: Path) -> None:
    """A wrong shape is the caller's affair."""
    with pytest.raises(ValueError, match="ONNX Runtime"):
        open_imported(str(file)).module(x=torch.ones(2, 9))


def test_types_of_inputs_are_known(tmp_path: Path) -> None:
    """Numpy's arrays are converted to them."""
    source = open_imported(str(save(linear(kind=HALF), tmp_path / "half.onnx")))
    assert source.sample_inputs["x"].dtype == torch.float16
    assert source.precision == "fp16"


def test_bundle_of_another_stage(file: Path, tmp_path: Path) -> None:
    """It holds what was made of the model, not the model."""
    edgekit.import_onnx(file, tmp_path / "b")
    edgekit.compile(tmp_path / "b", tmp_path / "c")
    with pytest.raises(ConfigError, match="stage compiled"):
        open_imported(str(tmp_path / "c"))


def test_stored_answers(file: Path, tmp_path: Path) -> None:
    """To the golden inputs, and to no others."""
    edgekit.import_onnx(file, tmp_path / "b")
    bundle = open_bundle(tmp_path / "b")
    golden = read(bundle.file("golden.safetensors"))
    source = stored_source(bundle, golden)
    assert source.engine is not None
    assert source.engine.bytes == file.stat().st_size
    given = torch.from_numpy(golden.inputs["x"])
    np.testing.assert_array_equal(source.module(x=given)["y"].numpy(), golden.reference["y"])
    with pytest.raises(ValueError, match="golden inputs"):
        source.module(x=given + 1)


def test_export_points_to_import(file: Path) -> None:
    """There is nothing to trace in a graph."""
    with pytest.raises(ConfigError) as caught:
        open_source(str(file))
    assert "edgekit import" in (caught.value.hint or "")


def test_options_of_pytorch_models(file: Path) -> None:
    """A graph has neither a revision nor another dtype."""
    with pytest.raises(ConfigError, match="--revision"):
        open_reference(str(file), revision="main")
    with pytest.raises(ConfigError, match="--dtype"):
        open_reference(str(file), dtype="bfloat16")


def test_broken_reference(tmp_path: Path) -> None:
    """It is refused as an import is."""
    path = tmp_path / "m.onnx"
    path.write_text("not a model")
    with pytest.raises(SourceError, match="not an ONNX file"):
        open_reference(str(path))
