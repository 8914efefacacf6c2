"""The rows of README's table of picture models, from what a run has kept."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks import vision

USED = {"torch": "2.13.0", "onnxruntime": "1.31.1", "openvino": "2026.4.1"}
NETWORK = {
    "rows": {
        "pytorch": {"p50_ms": 27.0, "settings": "eager, 2 threads, channels_last", "speed": None},
        "ort-fp32": {"p50_ms": 5.9, "settings": None, "speed": [4.58, 4.5, 4.6]},
    },
    "noise": {"verdict": "quiet"},
}
PREPARED = {
    "ratio": [1.02, 1.0, 1.04], "ms": {"edgekit": 121.0, "pillow": 119.0},
    "peak_above_imports": {"edgekit": 40e6, "pillow": 41e6}, "decoded_bytes": 36_000_000,
}  # fmt: skip


def test_rows_of_what_was_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who ran, how fast, and what was kept of the answers; machine and versions below."""
    facts = {
        "efficientnet": {**NETWORK, "kept": {"ort-fp32": [18, 20]}},
        "large": {"ResNet-50": {**NETWORK, "cosine": {"ort-fp32": 0.99999991}}},
        "prepare": PREPARED,
    }
    parts = {
        name: {"facts": one, "versions": USED, "machine": {"cpu": "a processor"}}
        for name, one in facts.items()
    }
    path = tmp_path / "vision.json"
    path.write_text(json.dumps({"parts": parts}))
    monkeypatch.setattr(vision, "RESULTS", path)
    rows = vision.rows()
    assert rows[0][1:4] == ("PyTorch eager (eager, 2 threads, channels_last)", "27.0 ms", "")
    assert rows[1] == (
        "`efficientnet-lite0`", "ort-fp32", "5.90 ms", "4.58× (4.50–4.60)", "18 of 20 photographs",
    )  # fmt: skip
    assert rows[3][4] == "cosine 1.000000"
    assert rows[-1][3] == "1.02× the time (1.00–1.04)"
    assert "torch 2.13.0" in vision.where()
    assert "the machine was quiet" in vision.where()


def test_nothing_was_measured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No rows, and nothing to say."""
    monkeypatch.setattr(vision, "RESULTS", tmp_path / "none.json")
    assert vision.rows() == []
    assert vision.where() == ""
