"""The measuring child of an imported reference."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

from edgekit.core.errors import SourceError
from edgekit.core.onnx_file import model_hash
from edgekit.evaluation.contenders import ReferenceSource, reference_entrants
from edgekit.evaluation.imported_child import ImportedContender
from edgekit.runtime import raw
from edgekit.runtime.conversation import Child
from edgekit.runtime.records import Record
from edgekit.runtime.session import Session
from edgekit.runtime.workloads import Workload, load_outputs
from tests.onnx_models import HALF, custom_operator, linear, save

FEEDS = {"x": np.ones((2, 4), np.float32)}


def test_it_is_measured_without_pytorch(tmp_path: Path) -> None:
    """The whole conversation, with what the file tells in its facts."""
    path = save(linear(), tmp_path / "net.onnx")
    (entrant,) = reference_entrants(
        ReferenceSource(str(path)), ("imported",), [Workload(2, None, FEEDS)], tmp_path, threads=2
    )
    assert entrant.name == "imported"
    assert "edgekit.evaluation.imported_child" in entrant.command
    record = Record("imported")
    with Child(entrant.command, stderr=tmp_path / "e", environment=entrant.environment) as child:
        record.open(child, 0, timeout=60, outputs=tmp_path / "o")
        record.warm(child, 0, seconds=0.0, timeout=60)
        record.measure(child, 0, 0, seconds=0.0, least=2, timeout=60)
        record.close(child, timeout=60)
    assert record.error is None
    assert load_outputs(tmp_path / "o")[0]["y"].shape == (2, 3)
    facts = record.facts
    assert (facts["sha256"], facts["engine"]) == (model_hash(path), "onnxruntime")
    assert facts["parameter_bytes"] == path.stat().st_size
    assert facts["threads"] in (1, 2)


def test_pytorch_is_not_imported(tmp_path: Path) -> None:
    """It would stand in the memory and in the time to start."""
    import subprocess

    code = "import sys, edgekit.evaluation.imported_child; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize("faster", [1, 2])
def test_the_better_of_one_and_all_threads(
    faster: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One session at a time, and calls run in the one that stays."""
    monkeypatch.setattr(
        "edgekit.evaluation.imported_child._median",
        lambda call: 0.0 if opened.facts()["threads"] == faster else 1.0,
    )
    alive: list[Session] = []
    real = raw.RawContender.open

    def spy(self: raw.RawContender) -> raw.OpenGraph:
        assert not alive
        found = real(self)
        assert isinstance(found, raw.OpenGraph)
        alive.append(found.session)
        close = found.session.close
        monkeypatch.setattr(found.session, "close", lambda: (alive.clear(), close()))
        return found

    monkeypatch.setattr(raw.RawContender, "open", spy)
    path = save(linear(), tmp_path / "net.onnx")
    opened = ImportedContender(path, 2).open()
    call = opened.start(Workload(2, None, FEEDS))
    prepared = opened.prepare(Workload(2, None, FEEDS))
    assert opened.facts()["threads"] == faster
    np.testing.assert_array_equal(call()["y"], prepared()["y"])


def test_the_files_precision_counts(tmp_path: Path) -> None:
    """Of half precision the bytes of a graph tell nothing."""
    path = save(linear(kind=HALF), tmp_path / "half.onnx")
    facts = ImportedContender(path, 1, {"precision": "fp16"}).open().facts()
    assert facts["effective_precision"] == "fp16"


def test_what_no_engine_may_be_given(tmp_path: Path) -> None:
    """Refused before a process is started."""
    path = save(custom_operator(), tmp_path / "c.onnx")
    with pytest.raises(SourceError, match="custom operators"):
        reference_entrants(ReferenceSource(str(path)), ("imported",), [], tmp_path, threads=1)
