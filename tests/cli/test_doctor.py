"""doctor finds what gets in the way, and says how to mend it."""

from __future__ import annotations

import pytest

from edgekit.cli.commands.doctor import diagnose
from edgekit.core import cpu


def test_clash_of_the_two_packages() -> None:
    """onnxruntime beside onnxruntime-gpu is a problem with the two lines that mend it."""
    found = diagnose({"onnxruntime": "1.31", "onnxruntime-gpu": "1.31"}, {})
    fix = next(item.fix for item in found if "overwrite" in item.problem)
    assert fix.splitlines()[0].startswith("pip uninstall")
    assert "edgekit-ml[cuda]" in fix.splitlines()[1]


def test_no_engine() -> None:
    """Without an engine the line that installs one is given."""
    found = diagnose({"torch": "2.13"}, {})
    assert any("edgekit-ml[runtime]" in item.fix for item in found)


def test_broken_engine() -> None:
    """An engine that does not open is a problem that keeps its words."""
    found = diagnose({"openvino": "2026.4"}, {"openvino": "error: no such library"})
    assert any("no such library" in item.problem for item in found)


def test_telemetry(monkeypatch: pytest.MonkeyPatch) -> None:
    """A user's own wish to send telemetry is respected, and told."""
    monkeypatch.setenv("ORT_DISABLE_TELEMETRY", "0")
    found = diagnose({"onnxruntime": "1.31"}, {"onnxruntime": "CPU"})
    assert any("telemetry" in item.problem for item in found)


def test_throttled_container(monkeypatch: pytest.MonkeyPatch) -> None:
    """A CPU quota below the machine's cores is told with both numbers."""
    monkeypatch.setattr(cpu, "cgroup_cpu_quota", lambda: 0.5)
    found = diagnose({"onnxruntime": "1.31"}, {"onnxruntime": "CPU"})
    assert any("0.5" in item.problem for item in found)
