"""From a loaded source to a file that ONNX Runtime answers like PyTorch."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import pytest
import torch

from edgekit.core.errors import ConfigError, ExportError
from edgekit.core.manifest import TensorSpec
from edgekit.exporters.exported import Exported
from edgekit.exporters.model import export_model
from edgekit.exporters.module import trace_module
from edgekit.sources.opening import open_source
from tests import models
from tests.models import MODULE_INPUTS, add_sentence_transformer, save_model

FILE = models.__file__


def _export_module(name: str, folder: Path, **options: object) -> Exported:
    source = open_source(f"{FILE}:{name}", inputs=MODULE_INPUTS[name])
    return export_model(source, folder, **options)  # type: ignore[arg-type]


def _write(folder: Path, body: str) -> str:
    (folder / "own.py").write_text("import torch\nfrom torch import nn\n" + body)
    return f"{folder / 'own.py'}:make"


def test_linear_regression_is_exported_with_its_proof(tmp_path: Path) -> None:
    """One file, named dimensions, parity at four shapes or more, a golden batch, no processor."""
    exported = _export_module("linear_regression", tmp_path)
    component = exported.component
    assert component.inputs == (TensorSpec("x", "float32", ("batch", 10)),)
    assert component.outputs == (TensorSpec("output", "float32", ("batch", 1)),)
    assert exported.files == (("model.onnx", "component"),)
    assert [path.name for path in tmp_path.iterdir()] == ["model.onnx"]
    assert len({row.shape["x"] for row in exported.parity}) >= 4
    assert exported.processor is None
    assert exported.golden is not None
    assert set(exported.golden.inputs) == {"x"}
    assert set(exported.golden.reference) == {"output"}


def test_file_holds_no_trace_of_the_machine(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """No path, no stack trace, no metadata in the file, and nothing printed on the way."""
    _export_module("cnn", tmp_path)
    data = (tmp_path / "model.onnx").read_bytes()
    for word in (b"pkg.torch", b"stack_trace", str(Path.cwd()).encode(), b"models.py"):
        assert word not in data
    model = onnx.load(tmp_path / "model.onnx")
    assert model.producer_name == "edgekit"
    assert not any(node.metadata_props or node.doc_string for node in model.graph.node)
    assert "/features/4/Conv" in [node.name for node in model.graph.node]
    assert "features.4.weight" in [tensor.name for tensor in model.graph.initializer]
    captured = capsys.readouterr()
    assert (captured.out, captured.err) == ("", "")


@pytest.mark.slow
@pytest.mark.parametrize("name", ["lstm", "gru"])
def test_recurrent_modules_take_any_length(name: str, tmp_path: Path) -> None:
    """Neither the input nor the declared output is frozen at the sample's length."""
    exported = _export_module(name, tmp_path)
    x = exported.component.inputs[0]
    assert x.shape == ("batch", "sequence", 8)
    assert exported.component.outputs[0].shape[:2] == ("batch", "sequence")
    assert len({row.shape["x"][1] for row in exported.parity}) >= 4
    model = onnx.load(tmp_path / "model.onnx")
    onnx.checker.check_model(model, full_check=True)


def test_input_that_matters_to_no_output_is_refused_or_kept_by_name(tmp_path: Path) -> None:
    """A declared input is never dropped silently from a custom module's graph."""
    body = (
        "class M(nn.Module):\n    def forward(self, x, unused):\n        return 2 * x\n"
        "def make():\n    return M(), {'x': torch.ones(2, 3), 'unused': torch.ones(2, 3)}\n"
    )
    exported = export_model(open_source(_write(tmp_path, body)), tmp_path)
    assert [spec.name for spec in exported.component.inputs] == ["x", "unused"]


def test_frozen_axis_is_an_export_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A trace that makes a constant of a varying axis; the error names axis, size and remedy."""

    def freezing(*arguments: object, **options: object) -> ir.Model:
        module, sample, _, outputs = arguments
        return trace_module(module, sample, {}, outputs, opset=23)  # type: ignore[arg-type]

    monkeypatch.setattr("edgekit.exporters.graphs.trace_module", freezing)
    with pytest.raises(ExportError, match=r"froze axis 0 of x \('batch'\) at 2") as caught:
        _export_module("linear_regression", tmp_path)
    assert "--static batch=2" in str(caught.value.hint)
    exported = _export_module("linear_regression", tmp_path, static={"batch": 2})
    assert exported.component.inputs[0].shape == (2, 10)


@pytest.mark.parametrize(
    "forward",
    ["x * torch.ones(int(x.shape[1]))", "sum(x[:, i] * i for i in range(x.shape[1]))"],
)
def test_size_baked_into_the_graph_is_an_export_error(forward: str, tmp_path: Path) -> None:
    """The input varies and a number inside does not: only a run at another size shows it."""
    body = (
        "class M(nn.Module):\n    def forward(self, x):\n"
        f"        return {forward}\n"
        "def make():\n    return M()\n"
    )
    source = open_source(_write(tmp_path, body), inputs=["x=float32:batch,width"])
    with pytest.raises(ExportError, match=r"at batch 1 \(x \[1, 5\]\)") as caught:
        export_model(source, tmp_path)
    assert "--static DIM=N" in str(caught.value.hint)
    exported = export_model(source, tmp_path, static={"width": 3})
    assert exported.component.inputs[0].shape == ("batch", 3)


def test_dimension_that_cannot_vary_is_an_export_error(tmp_path: Path) -> None:
    """PyTorch itself refuses the other size, and is quoted."""
    spec = _write(tmp_path, "def make():\n    return nn.Linear(3, 2)\n")
    source = open_source(spec, inputs=["input=float32:batch,width"])
    with pytest.raises(ExportError, match="module itself fails in PyTorch at input"):
        export_model(source, tmp_path)


def test_control_flow_on_data_is_an_export_error_with_its_cause(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The innermost error in one line with the user's code; torch's own words are the cause."""
    body = (
        "class M(nn.Module):\n    def forward(self, x):\n"
        "        return x + 1 if float(x.sum()) > 0 else x - 1\n"
        "def make():\n    return M(), torch.ones(2, 3)\n"
    )
    with pytest.raises(ExportError, match=r"torch\.export cannot trace M: \w+: ") as caught:
        export_model(open_source(_write(tmp_path, body)), tmp_path)
    assert caught.value.__cause__ is not None
    message = caught.value.message
    assert "return x + 1 if float(x.sum()) > 0 else x - 1)" in message
    assert "\x1b" not in message
    assert "\n" not in message
    assert "step 1/3" not in message
    assert capsys.readouterr().err == ""


def test_module_that_answers_nan_is_an_export_error(tmp_path: Path) -> None:
    """A reference that is NaN proves nothing."""
    body = (
        "class M(nn.Module):\n    def forward(self, x):\n        return x / 0\n"
        "def make():\n    return M(), torch.ones(2, 3)\n"
    )
    with pytest.raises(ExportError, match="PyTorch itself gives NaN"):
        export_model(open_source(_write(tmp_path, body)), tmp_path)


def test_difference_beyond_the_tolerance_is_an_export_error(tmp_path: Path) -> None:
    """An export that is not equal to PyTorch within what was asked for does not pass."""
    with pytest.raises(ExportError, match="differs from PyTorch: 'logits' at") as caught:
        _export_module("cnn", tmp_path, atol=0.0, rtol=0.0)
    assert "--atol" in str(caught.value.hint)


@pytest.mark.parametrize("opset", [17, 24])
def test_unsupported_opset_is_a_config_error(opset: int, tmp_path: Path) -> None:
    """Only what is tested is offered."""
    with pytest.raises(ConfigError, match=f"opset {opset}"):
        _export_module("linear_regression", tmp_path, opset=opset)


def test_bfloat16_is_refused_before_the_trace(tmp_path: Path) -> None:
    """Nothing here could run it, so nothing could be compared."""
    source = open_source(f"{FILE}:cnn_with_samples", dtype="bfloat16")
    with pytest.raises(ExportError, match="no bfloat16 kernels"):
        export_model(source, tmp_path)


def test_output_that_is_an_input_gets_a_name_of_its_own(tmp_path: Path) -> None:
    """A module that hands an input through, and one tensor under two names."""
    body = (
        "class M(nn.Module):\n    def forward(self, x):\n        y = x + 1\n"
        "        return {'same': x, 'y': y, 'again': y}\n"
        "def make():\n    return M(), torch.ones(2, 3)\n"
    )
    exported = export_model(open_source(_write(tmp_path, body)), tmp_path)
    assert [spec.name for spec in exported.component.outputs] == ["same", "y", "again"]
    assert {row.max_abs for row in exported.parity} == {0.0}


def test_fixed_shape_is_compared_once_and_told(tmp_path: Path) -> None:
    """One row, and a note that says why; where a dimension varies there is none."""
    source = open_source(f"{FILE}:linear_regression", inputs=["x=float32:2,10"])
    exported = export_model(source, tmp_path)
    assert len(exported.parity) == 1
    assert any("one shape to compare" in note for note in exported.notes)
    assert _export_module("linear_regression", tmp_path).notes == ()


def test_program_is_exported_without_another_trace(tmp_path: Path) -> None:
    """A .pt2 keeps its own dynamic dimension."""
    program = torch.export.export(
        models.cnn(),
        (torch.zeros(2, 1, 28, 28),),
        dynamic_shapes={"image": {0: torch.export.Dim("n")}},
    )
    torch.export.save(program, tmp_path / "m.pt2")
    source = open_source(str(tmp_path / "m.pt2"), trust_remote_code=True)
    exported = export_model(source, tmp_path)
    assert exported.component.inputs == (TensorSpec("image", "float32", ("batch", 1, 28, 28)),)
    assert exported.component.outputs[0].shape == ("batch", 10)


def _table(folder: Path) -> list[str]:
    model = onnx.load(folder / "model.onnx")
    return [t.name for t in model.graph.initializer if sorted(t.dims) == [16, 322]]


@pytest.mark.slow
def test_tied_weight_is_written_once(tmp_path: Path) -> None:
    """ALBERT's masked head is the embedding table turned: one initializer, one Transpose."""
    folder = save_model("albert", "fill-mask", tmp_path / "m")
    export_model(open_source(str(folder)), tmp_path)
    assert _table(tmp_path) == ["albert.embeddings.word_embeddings.weight"]


@pytest.mark.slow
def test_rotary_model_is_right_at_batches_above_one(tmp_path: Path) -> None:
    """ModernBERT at opset 23, where torch.onnx leaves the caches at batch 1."""
    folder = save_model("modernbert", "token-classification", tmp_path / "m")
    exported = export_model(open_source(str(folder)), tmp_path)
    assert {row.shape["input_ids"][0] for row in exported.parity} >= {1, 4, 5}
    assert exported.facts["attention_nodes"] == 2


@pytest.mark.slow
@pytest.mark.parametrize("static", [{"sequence": 32}, {"batch": 1, "sequence": 32}])
def test_static_shapes_are_in_graph_and_processor(static: dict[str, int], tmp_path: Path) -> None:
    """What an NPU needs: fixed dimensions, and texts cut to them."""
    folder = save_model("bert", "text-classification", tmp_path / "m")
    exported = export_model(open_source(str(folder)), tmp_path, static=static)
    batch = static.get("batch", "batch")
    assert {spec.shape for spec in exported.component.inputs} == {(batch, 32)}
    assert exported.processor is not None
    assert exported.processor["max_length"] == 32


@pytest.mark.slow
def test_pooled_embedding_comes_out_of_the_graph(tmp_path: Path) -> None:
    """Pooling and normalisation inside; one output, and no pooler that nobody reads."""
    folder = add_sentence_transformer(save_model("bert", "feature-extraction", tmp_path / "m"))
    exported = export_model(open_source(str(folder)), tmp_path)
    assert exported.component.outputs == (
        TensorSpec("sentence_embedding", "float32", ("batch", 32)),
    )
    assert exported.golden is not None
    lengths = np.linalg.norm(exported.golden.reference["sentence_embedding"], axis=1)
    np.testing.assert_allclose(lengths, 1, atol=1e-5)
    names = [t.name for t in onnx.load(tmp_path / "model.onnx").graph.initializer]
    assert not any("pooler" in name for name in names)


@pytest.mark.slow
def test_input_without_effect_leaves_the_text_graph(tmp_path: Path) -> None:
    """DeBERTa has no type embeddings: the graph and the processor do without token types."""
    folder = save_model("deberta-v2", "text-classification", tmp_path / "m")
    exported = export_model(open_source(str(folder)), tmp_path)
    names = [spec.name for spec in exported.component.inputs]
    assert names == ["input_ids", "attention_mask"]
    assert exported.processor is not None
    assert exported.processor["inputs"] == names


MEASURE = """
import sys
from pathlib import Path
import torch
def peak():
    text = Path("/proc/self/status").read_text()
    return int(text.split("VmHWM:")[1].split()[0]) * 1024
base = peak()
from edgekit.exporters.model import export_model
from edgekit.exporters.module import trace_module
from edgekit.sources.opening import open_source
export_model(open_source(sys.argv[1]), Path(sys.argv[2]))
print(peak() - base)
"""


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="peak memory is read in /proc")
def test_memory_stays_near_the_weights(tmp_path: Path) -> None:
    """At most three times the weights and 350 MB above the import of torch."""
    folder = save_model("bert", "text-classification", tmp_path / "m", hidden=768, layers=6)
    weights = (folder / "model.safetensors").stat().st_size
    ran = subprocess.run(
        [sys.executable, "-c", MEASURE, str(folder), str(tmp_path)],
        env={**os.environ, "OMP_NUM_THREADS": "2"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert weights > 100e6
    assert int(ran.stdout) <= 3 * weights + 350e6


def test_parity_rows_tell_shape_output_and_agreement(tmp_path: Path) -> None:
    """What `export --json` prints."""
    exported = _export_module("cnn", tmp_path)
    row = exported.parity[0]
    assert isinstance(row.shape, Mapping)
    assert row.output == "logits"
    assert row.argmax_agreement == 1.0
    assert 0.999 < row.cosine <= 1
