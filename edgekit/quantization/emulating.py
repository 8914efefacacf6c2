"""What a bundle answers on an x86 processor without VNNI: QEMU imitates one, where it is installed.

``python -m edgekit.quantization.emulating BUNDLE OUTPUT`` is the child that QEMU runs.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from edgekit.core import cpu
from edgekit.core.bundle import open_bundle
from edgekit.core.errors import MeasurementError
from edgekit.runtime import load
from edgekit.runtime.conversation import child_environment, python_command
from edgekit.runtime.golden import read
from edgekit.runtime.session import Array
from edgekit.runtime.workloads import load_outputs, save_outputs

#: The youngest kind with AVX2 alone that every QEMU of these years knows.
PROCESSOR = "Haswell-v4"
#: A call takes some fifty times as long; the golden inputs of MiniLM are a matter of seconds.
SECONDS = 300.0
#: Earlier ones take AVX and AVX2 from the processor that was asked for (release notes of 7.2), and
#: ONNX Runtime would compute with other kernels than that has.
_WITH_AVX2 = (7, 2)
_NAMES = ("qemu-x86_64", "qemu-x86_64-static")


def find_emulator() -> tuple[str, ...] | None:
    """The words before a command that is to run without VNNI; None where no QEMU can."""
    if cpu.arch() != "x86_64" or sys.platform != "linux":
        return None
    found = next(filter(None, map(shutil.which, _NAMES)), None)
    if found is None or _version(found) < _WITH_AVX2:
        return None
    return found, "-cpu", PROCESSOR


def _version(emulator: str) -> tuple[int, ...]:
    """A QEMU's version; nothing where it does not say."""
    try:
        done = subprocess.run([emulator, "--version"], capture_output=True, timeout=10)
    except (OSError, subprocess.TimeoutExpired):
        return ()
    numbers = re.search(rb"version (\d+)\.(\d+)", done.stdout)
    return () if numbers is None else (int(numbers[1]), int(numbers[2]))


def emulated_answers(
    bundle: Path, emulator: Sequence[str], folder: Path, *, seconds: float = SECONDS
) -> Mapping[str, Array]:
    """A bundle's answers to its golden inputs, by name, from a process that `emulator` runs.

    Raises MeasurementError for one that ends without answers, or takes more than `seconds`.
    """
    path = folder / "emulated.safetensors"
    command = python_command("edgekit.quantization.emulating", str(bundle), str(path))
    try:
        done = subprocess.run(
            [*emulator, *command], env=child_environment(), capture_output=True, timeout=seconds
        )
    except subprocess.TimeoutExpired as error:
        raise MeasurementError(f"it took more than {seconds:g} seconds") from error
    except OSError as error:
        raise MeasurementError(f"{emulator[0]} does not run: {error}") from error
    if done.returncode or not path.is_file():
        said = done.stderr.decode(errors="replace").strip().splitlines()
        # A process that a signal ended says why in no words of its own.
        reason = said[-1] if said else f"its exit code is {done.returncode}"
        raise MeasurementError(f"it ended without an answer: {reason}")
    return load_outputs(path)[0]


def main(arguments: Sequence[str]) -> None:
    """Answer the golden inputs of a bundle, and write the answers down."""
    bundle = open_bundle(arguments[0], check="quick")
    golden = bundle.manifest.golden
    if golden is None:
        raise SystemExit(f"{bundle.path} holds no golden inputs")
    with load(bundle.path, threads=1, check="quick") as model:
        answers = model.run(read(bundle.file(golden.file)).inputs)
    save_outputs([answers], Path(arguments[1]))


if __name__ == "__main__":
    main(sys.argv[1:])
