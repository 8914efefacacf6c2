"""Static ranges for OpenVINO: what meets rounded activations, what is raised, same bytes again."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from edgekit.core.errors import QuantizeError
from edgekit.quantization.recipes import Recipe
from tests.compilers.conftest import attention_model
from tests.quantization.openvino_small import (
    STATIC,
    Made,
    Prepare,
    distance,
    exact,
    hashes,
    outputs,
    pictures,
    residual_model,
    sentences,
)


def test_static_computes_with_integers(ready: Prepare, tmp_path: Path) -> None:
    """Each weight matrix meets rounded activations; the attention stays one operator in float."""
    prepared = ready(attention_model(), sentences())
    written = prepared.write(STATIC, tmp_path / "out")
    assert written.quantized_ops["MatMul"] == 4
    assert written.facts["attention_operators"] == 1
    assert written.precision == "int8"
    assert written.requires.engine == "openvino"
    assert written.requires.extras == ("openvino", "text")
    rows = sentences(4)
    found = distance(exact(prepared, tmp_path, rows), outputs(tmp_path / "out", written, rows))
    assert 0 < found < 0.01


def test_no_samples_no_ranges(ready: Prepare, tmp_path: Path) -> None:
    """Static quantization without calibration data says so."""
    with pytest.raises(QuantizeError, match="needs calibration data, got 0 samples"):
        ready(attention_model()).write(STATIC, tmp_path / "out")


@pytest.mark.parametrize("made", [attention_model, residual_model])
def test_all_raised_is_the_float_graph(
    made: Callable[[], Made], ready: Prepare, tmp_path: Path
) -> None:
    """With every group raised to float32 nothing is left of rounding, scaling or correction."""
    rows = sentences() if made is attention_model else pictures()
    prepared = ready(made(), rows)
    recipe = replace(STATIC, levels={group.name: "float32" for group in prepared.groups})
    written = prepared.write(recipe, tmp_path / "out")
    assert "FakeQuantize" not in (tmp_path / "out" / "model.xml").read_text()
    assert len(written.kept_float) == sum(len(group.nodes) for group in prepared.groups)
    np.testing.assert_allclose(
        outputs(tmp_path / "out", written, rows), exact(prepared, tmp_path, rows), atol=1e-5
    )


def test_rounding_before_a_pooling_is_raised_on_one_way_only(
    ready: Prepare, tmp_path: Path
) -> None:
    """What a raised convolution shares with others, through a pooling, it gets unrounded alone."""
    rows = pictures()
    prepared = ready(residual_model(), rows)
    reference = exact(prepared, tmp_path, rows)
    errors = {}
    for name in ("none", "first", "second", "third"):
        recipe = replace(STATIC, levels={} if name == "none" else {name: "float32"})
        written = prepared.write(recipe, tmp_path / name)
        assert written.quantized_ops["Convolution"] == (3 if name == "none" else 2)
        errors[name] = distance(reference, outputs(tmp_path / name, written, rows))
    assert 0 < errors["third"] < errors["none"] < 0.01


def test_a_group_raised_to_weights_only(ready: Prepare, tmp_path: Path) -> None:
    """Its activations are float in the graph, the plugin is told how to round them; no float."""
    prepared = ready(attention_model(), sentences())
    name = prepared.groups[-1].name
    written = prepared.write(replace(STATIC, levels={name: "weight-int8"}), tmp_path / "out")
    assert written.options == {
        "precision_hint": "f32",
        "properties": {"DYNAMIC_QUANTIZATION_GROUP_SIZE": "32"},
    }
    assert written.quantized_ops["MatMul"] == 4
    assert all("raised" not in item.reason for item in written.kept_float)


def test_same_bytes_in_another_process(ready: Prepare, tmp_path: Path) -> None:
    """Names that count what a process has made so far do not reach the file.

    Nor does NNCF leave an identity under the home folder, as its import does when it is let.
    """
    prepared = ready(attention_model(), sentences())
    # Whatever came before in this process has moved the counters.
    prepared.write(Recipe("float16"), tmp_path / "before")
    prepared.write(STATIC, tmp_path / "here")
    script = (
        "import sys; from pathlib import Path\n"
        "from edgekit.core.bundle import open_bundle\n"
        "from edgekit.quantization.openvino import prepare\n"
        "from tests.quantization.openvino_small import PROFILE, STATIC, sentences\n"
        "source, work, out = map(Path, sys.argv[1:])\n"
        "ready = prepare(open_bundle(source), 'model', PROFILE, work, sentences())\n"
        "ready.write(STATIC, out)\n"
    )
    home = tmp_path / "home"
    home.mkdir()
    folders = [prepared.source.path, tmp_path / "other-work", tmp_path / "there"]
    done = subprocess.run(
        [sys.executable, "-c", script, *map(str, folders)],
        cwd=Path(__file__).resolve().parents[2],
        env={**os.environ, "HOME": str(home)},
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stdout) == (0, ""), done.stderr
    assert hashes(tmp_path / "here") == hashes(tmp_path / "there")
    assert list(home.iterdir()) == []


def test_nncf_keeps_quiet(
    ready: Prepare, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """No bars and no log lines on standard output, and loggers stay Python's own."""
    ready(attention_model(), sentences(3)).write(STATIC, tmp_path / "out")
    assert capfd.readouterr().out == ""
    assert logging.getLoggerClass() is logging.Logger
