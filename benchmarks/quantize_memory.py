"""What quantizing takes of memory: a random BERT of over 500 MB, by every way of both engines.

``python -m benchmarks.quantize_memory``. Memory is the largest sum of the proportional set sizes of
the command and all its children (those that time it among them), read five times a second, above
that of a process that only imports what the command does. The constant that the aim allows is what
the libraries' own buffers and the interpreters that time it come to, whatever the model.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterable, Sequence
from pathlib import Path

from benchmarks.export import LARGE, MB, weights
from benchmarks.measure import report

CONSTANT = 450 * MB
_SECONDS = 0.2
IMPORT = "import torch, edgekit.cli, edgekit.pipeline.quantizing, onnxruntime, openvino, nncf"
# A model without a training answers anything: what is asked here is memory, not accuracy.
_ANY = [f'--set=tolerance.{name}={{kind="cosine",minimum=0.0}}' for name in ("int8", "int4")]
WAYS = {
    "ORT dynamic": ("onnxruntime", "dynamic", "8"),
    "ORT static": ("onnxruntime", "static", "8"),
    "ORT weight-only, 4 bits": ("onnxruntime", "weight-only", "4"),
    "OpenVINO static": ("openvino", "static", "8"),
    "OpenVINO weight-only, 8 bits": ("openvino", "weight-only", "8"),
}


def family(root: int) -> set[int]:
    """A process and all that come of it, those in sessions of their own among them."""
    parents: dict[int, int] = {}
    for process in Path("/proc").iterdir():
        if process.name.isdigit():
            try:
                # proc(5): the name stands in brackets and may hold any character.
                fields = (process / "stat").read_text().rpartition(")")[2].split()
            except OSError:
                # It has ended meanwhile.
                continue
            parents[int(process.name)] = int(fields[1])
    found = {root}
    while more := {one for one, parent in parents.items() if parent in found} - found:
        found |= more
    return found


def proportional(processes: Iterable[int]) -> int:
    """The proportional set sizes of processes, in bytes; those that have ended hold nothing."""
    total = 0
    for one in processes:
        try:
            told = Path(f"/proc/{one}/smaps_rollup").read_text()
        except OSError:
            continue
        total += sum(
            int(line.split()[1]) * 1024 for line in told.splitlines() if line.startswith("Pss:")
        )
    return total


def peak(command: Sequence[str]) -> int:
    """The largest sum over a command's life. CalledProcessError when it fails."""
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    largest = 0
    ended = threading.Event()

    def watch() -> None:
        nonlocal largest
        while not ended.wait(_SECONDS):
            largest = max(largest, proportional(family(process.pid)))

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        code = process.wait()
    finally:
        ended.set()
        watcher.join()
    if code:
        raise subprocess.CalledProcessError(code, command)
    return largest


def main() -> None:
    """Measure and report."""
    python = sys.executable
    with tempfile.TemporaryDirectory(prefix="edgekit-memory-") as name:
        folder = Path(name)
        model, exported = folder / "model", folder / "exported"
        subprocess.run([python, "-c", LARGE, str(model), "12"], check=True)
        size = weights(model)
        edgekit = [python, "-m", "edgekit"]
        subprocess.run([*edgekit, "export", str(model), "-o", str(exported), "-q"], check=True)
        base = peak([python, "-c", f"{IMPORT}; import time; time.sleep(1)"])
        above: dict[str, int] = {}
        lines: list[str] = []
        for way, (engine, method, bits) in WAYS.items():
            words = [
                "quantize", str(exported), "-o", str(folder / "quantized"), "--engine", engine,
                "--method", method, "--bits", bits, "--force", "--keep", "--allow-slower", "-q",
                *_ANY,
            ]  # fmt: skip
            above[way] = peak([*edgekit, *words]) - base
            lines.append(
                f"{way}: {above[way] / MB:.0f} MB above the imports,"
                f" {above[way] / size:.2f}× the weights of {size / MB:.0f} MB"
                f" (limit 3× + {CONSTANT / MB:.0f} MB = {(3 * size + CONSTANT) / MB:.0f} MB)"
            )
            print(lines[-1], flush=True)
    figures = {"weights_bytes": size, "constant_bytes": CONSTANT, "above_imports_bytes": above}
    report("quantize_memory", figures, lines)


if __name__ == "__main__":
    main()
