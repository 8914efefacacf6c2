"""What exporting costs: seconds and peak memory, beside a bare script over the same exporter.

``python -m benchmarks.export [--large]``. Whole processes, interleaved. Memory is what the process
peaked at above a process that only imports torch; ``--large`` adds a random model of over 1 GB.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import numpy as np

from benchmarks.measure import compare, interleaved_commands, median, report, run_peak, shown
from benchmarks.zoo import fetch

ROUNDS = 3
MB = 1_000_000

IMPORT = "import torch"

# What a person would write who knows transformers' exporter: no checks, no tokenizer, no manifest.
BARE = """
import sys
import torch
from torch.export import Dim
from transformers import AutoModel, AutoTokenizer
from transformers.exporters import OnnxConfig, OnnxExporter
model = AutoModel.from_pretrained(sys.argv[1], dtype=torch.float32).eval()
texts = ["one text", "another, longer text"]
sample = dict(AutoTokenizer.from_pretrained(sys.argv[1])(texts, padding=True, return_tensors="pt"))
shapes = {name: {0: Dim.AUTO, 1: Dim.AUTO} for name in sample}
config = OnnxConfig(dynamic_shapes=shapes, opset_version=23)
exported = OnnxExporter().export(model, sample, config=config)
exported.save_pretrained(sys.argv[2])
"""

# Two arguments: the folder that it is written to, and its number of layers.
LARGE = """
import sys
from transformers import BertConfig, BertForSequenceClassification
from tests.models import tokenizer_for
config = BertConfig(
    hidden_size=1024, num_hidden_layers=int(sys.argv[2]), num_attention_heads=16,
    intermediate_size=4096,
)
BertForSequenceClassification(config).save_pretrained(sys.argv[1])
tokenizer_for("bert", 512).save_pretrained(sys.argv[1])
"""


def weights(folder: Path) -> int:
    """Bytes of a checkpoint's weights in float32."""
    from safetensors import safe_open

    with safe_open(folder / "model.safetensors", "np") as stored:
        shapes = [stored.get_slice(name).get_shape() for name in stored.keys()]  # noqa: SIM118
    return 4 * sum(int(np.prod(shape)) for shape in shapes)


def ours(source: Path, output: Path) -> list[str]:
    """Our command, over and over to the same place."""
    words = ["export", str(source), "-o", str(output), "--force", "-q"]
    return [sys.executable, "-m", "edgekit", *words]


def main() -> None:
    """Measure and report."""
    python = sys.executable
    source = fetch("minilm")
    with tempfile.TemporaryDirectory(prefix="edgekit-export-") as name:
        folder = Path(name)
        times, peaks = interleaved_commands(
            {
                "import torch": [python, "-c", IMPORT],
                "bare OnnxExporter": [python, "-c", BARE, str(source), str(folder / "bare")],
                "edgekit export": ours(source, folder / "ours"),
            },
            rounds=ROUNDS,
        )
        size = weights(source)
        ratio = compare(times, "edgekit export", "bare OnnxExporter")
        above = peaks["edgekit export"] - peaks["import torch"]
        bare = peaks["bare OnnxExporter"] - peaks["import torch"]
        limit = 3 * size + 350 * MB
        figures: dict[str, object] = {
            "wall_over_bare": [ratio.value, ratio.low, ratio.high],
            "weights_bytes": size,
            "peak_above_torch_bytes": above,
            "bare_peak_above_torch_bytes": bare,
        }
        lines = [
            f"edgekit export / bare script: {shown(ratio)} wall time"
            f" ({median(times, 'edgekit export') / 1000:.1f} s, limit 1.4×; parity included)",
            f"peak above import torch: {above / MB:.0f} MB (limit 3× weights + 350 MB ="
            f" {limit / MB:.0f} MB; bare script {bare / MB:.0f} MB)",
        ]
        if "--large" in sys.argv:
            large = folder / "large"
            run_peak([python, "-c", LARGE, str(large), "24"])
            size = weights(large)
            above = run_peak(ours(large, folder / "large-bundle")) - peaks["import torch"]
            figures["large"] = {"weights_bytes": size, "peak_above_torch_bytes": above}
            lines.append(
                f"random BERT of {size / MB:.0f} MB: peak {above / MB:.0f} MB above import torch,"
                f" {above / size:.2f}× its weights (limit 3×)"
            )
    report("export", figures, lines)


if __name__ == "__main__":
    main()
