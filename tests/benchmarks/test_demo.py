"""What ``make demo`` leaves behind."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks import demo
from edgekit.reporting import write_report
from tests.reporting import results


def test_its_results_are_read_by_report(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The JSON is a comparison's, with the command that makes it again; the page lies beside."""
    monkeypatch.setattr(demo, "RESULTS", tmp_path / "results.json")
    monkeypatch.setattr(demo, "PAGE", tmp_path / "report.html")
    demo.leave(results.comparison(), [Path("demo/openvino")], Path("my model"))
    write_report(demo.RESULTS, None, markdown=tmp_path / "r.md")
    text = (tmp_path / "r.md").read_text()
    assert "edgekit bench demo/openvino --reference 'my model' --budget 30" in text
    assert "minilm-ort-int8" in demo.PAGE.read_text()


def test_its_end_says_what_comes_next() -> None:
    """Look, embed, take a model of one's own."""
    said = demo.next_steps(Path("demo/onnxruntime"))
    for part in ("demo/report.html", "edgekit report demo/results.json", "edgekit.load(", "build"):
        assert part in said
