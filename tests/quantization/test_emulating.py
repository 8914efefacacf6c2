"""Answers from a processor without VNNI: what stands in for QEMU is a script of two lines."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from edgekit.core.bundle import open_bundle
from edgekit.core.errors import MeasurementError
from edgekit.quantization import emulating
from edgekit.quantization.emulating import emulated_answers, find_emulator
from edgekit.runtime.golden import read
from tests.pipeline.quantizable import Small, make_small

Emulator = Callable[[str], tuple[str, ...]]


@pytest.fixture
def small(tmp_path: Path) -> Small:
    """The small classifier."""
    return make_small(tmp_path)


@pytest.fixture
def emulator(tmp_path: Path) -> Emulator:
    """A program that gets a command behind ``-cpu NAME`` and does what is given to the shell."""

    def make(does: str) -> tuple[str, ...]:
        script = tmp_path / "qemu"
        script.write_text(f"#!/bin/sh\n{does}\n")
        script.chmod(0o755)
        return (str(script), "-cpu", emulating.PROCESSOR)

    return make


def test_the_answers_come_back(small: Small, emulator: Emulator, tmp_path: Path) -> None:
    """The command runs behind the emulator's own words, and its answers are those of the bundle."""
    found = emulated_answers(small.bundle, emulator('shift 2; exec "$@"'), tmp_path)
    golden = open_bundle(small.bundle).manifest.golden
    assert golden is not None
    expected = read(small.bundle / golden.file).expected
    assert found.keys() == expected.keys()
    for name, values in expected.items():
        np.testing.assert_allclose(found[name], values, atol=1e-5)


@pytest.mark.parametrize(
    ("does", "told"),
    [
        ("echo unknown instruction >&2; exit 3", "unknown instruction"),
        ("exit 4", "its exit code is 4"),
        ("exit 0", "ended without an answer"),
        ("exec sleep 60", "more than 0.2 seconds"),
    ],
)
def test_no_answer(small: Small, emulator: Emulator, tmp_path: Path, does: str, told: str) -> None:
    """What goes wrong in there is told in its own words, and does not take for ever."""
    seconds = 0.2 if "sleep" in does else 60.0
    with pytest.raises(MeasurementError, match=told):
        emulated_answers(small.bundle, emulator(does), tmp_path, seconds=seconds)


def test_an_emulator_that_is_gone(small: Small, tmp_path: Path) -> None:
    """A program that is not there is named."""
    with pytest.raises(MeasurementError, match="nothing-here does not run"):
        emulated_answers(small.bundle, (str(tmp_path / "nothing-here"),), tmp_path)


@pytest.mark.parametrize("name", ["qemu-x86_64", "qemu-x86_64-static"])
def test_it_is_found_where_it_is_installed(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Either of Debian's two packages, on x86 Linux alone; nothing that has no AVX2 yet."""
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setattr("edgekit.core.cpu.arch", lambda: "x86_64")
    monkeypatch.setenv("PATH", str(tmp_path))
    assert find_emulator() is None
    program = tmp_path / name
    program.write_text("#!/bin/sh\necho 'qemu-x86_64 version 7.1.9 (Debian)'\n")
    program.chmod(0o755)
    assert find_emulator() is None
    program.write_text("#!/bin/sh\necho 'qemu-x86_64 version 7.2.0 (Debian)'\n")
    assert find_emulator() == (str(program), "-cpu", emulating.PROCESSOR)
    monkeypatch.setattr("edgekit.core.cpu.arch", lambda: "arm64")
    assert find_emulator() is None


@pytest.mark.slow
@pytest.mark.skipif(find_emulator() is None, reason="QEMU's user mode is not installed here")
def test_a_real_one(small: Small, tmp_path: Path) -> None:
    """QEMU runs the interpreter and the engine, and products in float are the same there."""
    words = find_emulator()
    assert words is not None
    found = emulated_answers(small.bundle, words, tmp_path)
    golden = open_bundle(small.bundle).manifest.golden
    assert golden is not None
    for name, values in read(small.bundle / golden.file).expected.items():
        np.testing.assert_allclose(found[name], values, atol=1e-4)
