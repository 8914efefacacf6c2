"""ONNX files as references."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from onnx import TensorProto, helper

import edgekit
from edgekit.core.bundle import open_bundle
from edgekit.core.errors import ConfigError, SourceError
from edgekit.runtime.engines import onnxruntime
from edgekit.runtime.golden import read
from edgekit.runtime.session import Session
from edgekit.sources.imported import open_imported, stored_source
from edgekit.sources.opening import open_reference, open_source
from tests.onnx_models import (
    FLOAT,
    HALF,
    INT64,
    custom_operator,
    linear,
    model,
    point_to,
    save,
    save_outside,
)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """A model that was never PyTorch."""
    return save(linear(), tmp_path / "net.onnx")


def test_file_and_bundle_are_one_model(file: Path, tmp_path: Path) -> None:
    """By their hash and by their answers."""
    edgekit.import_onnx(file, tmp_path / "b")
    given = {"x": torch.ones(2, 4)}
    first, second = open_imported(str(file)), open_imported(str(tmp_path / "b"))
    assert first.sha256 == second.sha256
    assert second.id == "net.onnx"
    torch.testing.assert_close(first.module(**given), second.module(**given), rtol=0, atol=0)


def test_the_graph_runs_as_it_was_written(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without optimisations, with as many threads as are asked for."""
    asked: list[tuple[object, object]] = []
    real = onnxruntime.open_session

    def spy(*given: Any, **more: Any) -> Session:
        asked.append((more["options"], more["threads"]))
        return real(*given, **more)

    monkeypatch.setattr(onnxruntime, "open_session", spy)
    source = open_imported(str(file))
    assert source.engine is not None
    source.engine.use_threads(1)
    source.module(x=torch.ones(1, 4))
    written = {"graph_optimization": "none"}
    assert asked == [(written, None), (written, 1)]


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


def test_nothing_is_opened_that_was_not_checked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An engine would read whatever file the graph names, and run whatever it holds."""
    opened: list[object] = []
    monkeypatch.setattr(onnxruntime, "open_session", lambda *given, **more: opened.append(given))
    path = save_outside(linear(), tmp_path / "m.onnx")
    point_to(path, lambda told: told.update(location="../../etc/passwd"))
    with pytest.raises(SourceError):
        open_reference(str(path))
    with pytest.raises(SourceError, match="custom operators"):
        open_reference(str(save(custom_operator(), tmp_path / "c.onnx")))
    assert opened == []
