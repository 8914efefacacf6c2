"""doctor finds what gets in the way, and says how to mend it."""

from __future__ import annotations

import pytest
from click.testing import CliRunner

from edgekit.cli.commands import doctor
from edgekit.cli.commands.doctor import command, diagnose
from edgekit.cli.console import Console
from edgekit.core import cpu
from edgekit.core.lazy import install_line


def test_clash_of_the_two_packages() -> None:
    """onnxruntime beside onnxruntime-gpu is a problem with the two lines that mend it."""
    found = diagnose({"onnxruntime": "1.31", "onnxruntime-gpu": "1.31"}, {})
    fix = next(item.fix for item in found if "overwrite" in item.problem)
    assert fix.splitlines()[0].startswith("pip uninstall")
    assert fix.splitlines()[1] == install_line("cuda", options="--force-reinstall")


def test_no_engine() -> None:
    """Without an engine the line that installs one is given."""
    found = diagnose({"torch": "2.13"}, {})
    assert any(item.fix == install_line("runtime") for item in found)


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


@pytest.mark.parametrize(
    ("missing", "other"), [("onnxruntime-gpu", "ort"), ("onnxruntime", "cuda")]
)
def test_extras_that_exclude_each_other(
    monkeypatch: pytest.MonkeyPatch, missing: str, other: str
) -> None:
    """The line that would make the clash says so beside itself."""
    there = {name: "1" for name in doctor.PACKAGES if name != missing}
    monkeypatch.setattr(doctor, "installed", lambda: there)
    monkeypatch.setattr(doctor, "_devices", dict)
    shown = CliRunner().invoke(command, obj=Console(json_output=False)).stdout
    row = next(line for line in shown.splitlines() if line.startswith(f"{missing} "))
    assert f"(not together with {other})" in row
