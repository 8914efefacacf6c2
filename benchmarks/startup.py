"""What starting costs: modules, milliseconds and memory of help, import and load.

``python -m benchmarks.startup``. Whole processes, interleaved; ratios with 95 % intervals.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from benchmarks.measure import compare, interleaved_commands, median, report, shown
from benchmarks.models import sentiment_bundle

HEAVY = ("numpy", "onnx", "onnxruntime", "torch", "transformers", "openvino", "tokenizers")

RAW = """
import os, sys
os.environ["ORT_DISABLE_TELEMETRY"] = "1"
import numpy, onnxruntime
from tokenizers import Tokenizer
tokenizer = Tokenizer.from_file(sys.argv[1] + "/tokenizer.json")
options = onnxruntime.SessionOptions()
options.intra_op_num_threads = 2
session = onnxruntime.InferenceSession(
    sys.argv[1] + "/model.onnx", options, providers=["CPUExecutionProvider"]
)
encoded = tokenizer.encode("A great film.")
feeds = {
    "input_ids": [encoded.ids],
    "attention_mask": [encoded.attention_mask],
    "token_type_ids": [encoded.type_ids],
}
names = [spec.name for spec in session.get_inputs()]
session.run(None, {name: numpy.array(feeds[name], numpy.int64) for name in names})
"""

OURS = """
import sys
import edgekit
edgekit.load(sys.argv[1], threads=2)("A great film.")
"""


def modules(code: str) -> set[str]:
    """The heavy packages that a fresh interpreter holds after `code`."""
    tail = "\nimport sys; print(*{name.partition('.')[0] for name in sys.modules})"
    done = subprocess.run(
        [sys.executable, "-c", code + tail], capture_output=True, text=True, check=True
    )
    return set(done.stdout.split()) & set(HEAVY)


def main() -> None:
    """Measure and report."""
    python = sys.executable
    bundle = str(sentiment_bundle())
    help_code = "from edgekit.cli.main import main\ntry: main(['--help'])\nexcept SystemExit: pass"
    commands = {
        "import click": [python, "-c", "import click"],
        "edgekit --help": [str(Path(python).with_name("edgekit")), "--help"],
        "import edgekit": [python, "-c", "import edgekit"],
        "raw load and predict": [python, "-c", RAW, bundle],
        "edgekit load and predict": [python, "-c", OURS, bundle],
    }
    times, peaks = interleaved_commands(commands, rounds=20)
    help_ratio = compare(times, "edgekit --help", "import click")
    load_ratio = compare(times, "edgekit load and predict", "raw load and predict")
    extra = peaks["edgekit load and predict"] - peaks["raw load and predict"]
    allowed = 1.5 * median(times, "import click") + 50
    figures = {
        "medians_ms": {name: median(times, name) for name in commands},
        "help_over_click": [help_ratio.value, help_ratio.low, help_ratio.high],
        "load_over_raw": [load_ratio.value, load_ratio.low, load_ratio.high],
        "rss_over_raw_bytes": extra,
        "heavy_after_help": sorted(modules(help_code)),
        "heavy_after_import": sorted(modules("import edgekit")),
    }
    lines = [
        f"heavy packages after --help: {figures['heavy_after_help'] or 'none'},"
        f" after import edgekit: {figures['heavy_after_import'] or 'none'}",
        *(f"{name}: {median(times, name):.0f} ms" for name in commands),
        f"--help / import click: {shown(help_ratio)}"
        f" ({median(times, 'edgekit --help'):.0f} ms, limit 1.5× + 50 ms = {allowed:.0f} ms)",
        f"load and first prediction / raw onnxruntime: {shown(load_ratio)}",
        f"peak RSS over raw onnxruntime: {extra / 1e6:+.1f} MB (limit +25 MB)",
    ]
    report("startup", figures, lines)


if __name__ == "__main__":
    main()
