"""The column of `edgekit targets` that says whether a target is this machine."""

from __future__ import annotations

import pytest

from edgekit.cli.commands.targets import fits_here
from edgekit.core import cpu
from edgekit.core.errors import MissingDependency
from edgekit.core.profiles import Profile, load_profile
from edgekit.runtime import engines


@pytest.fixture(autouse=True)
def machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """An x86 machine of the floor, with the engines' devices of one that has no accelerator."""
    monkeypatch.setattr(cpu, "arch", lambda: "x86_64")
    monkeypatch.setattr(cpu, "cpu_features", lambda: frozenset({"avx2", "fma", "f16c"}))
    monkeypatch.setattr(engines, "engine_devices", lambda _: ["CPUExecutionProvider", "CPU"])


@pytest.mark.parametrize(
    ("target", "told"),
    [
        ("cpu-x86", "yes"),
        ("cpu-arm64", "no: this is x86_64"),
        ("cpu-x86-vnni", "no: CPU lacks avx512_vnni and 3 more"),
        ("openvino-gpu", "no: GPU not found"),
        ("openvino-npu", "no: NPU not found"),
        ("cuda", "no: CUDA not found"),
    ],
)
def test_what_is_lacking_is_named(target: str, told: str) -> None:
    """A CPU that fits is not enough for a target whose device is another one."""
    assert fits_here(load_profile(target)) == told


def test_device_that_is_here(monkeypatch: pytest.MonkeyPatch) -> None:
    """OpenVINO numbers its devices where there are several."""
    monkeypatch.setattr(engines, "engine_devices", lambda _: ["CPU", "GPU.0"])
    assert fits_here(load_profile("openvino-gpu")) == "yes"


def test_device_that_only_a_run_can_find(monkeypatch: pytest.MonkeyPatch) -> None:
    """ONNX Runtime lists what its build could use, whether or not the hardware is there."""
    monkeypatch.setattr(engines, "engine_devices", lambda _: ["CUDAExecutionProvider"])
    assert fits_here(load_profile("cuda")) == "CPU yes, CUDA unknown"


def test_engine_that_is_not_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the engine nobody knows the device."""

    def missing(_: str) -> list[str]:
        raise MissingDependency("not here")

    monkeypatch.setattr(engines, "engine_devices", missing)
    profile = Profile("mine", ("openvino",), "npu")
    assert fits_here(profile) == "unknown: openvino is not usable"
