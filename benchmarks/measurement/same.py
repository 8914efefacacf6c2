"""A/A: a bundle against its own copy, run after run. It must hardly ever be "faster" or "slower".

``python -m benchmarks.measurement.same [--runs 40] [--budget 20]``
"""

from __future__ import annotations

import argparse
import shutil
import tempfile
from pathlib import Path

import edgekit
from benchmarks.measurement.runs import keep
from benchmarks.models import compiled


def main() -> None:
    """Run, print and keep the verdicts."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.measurement.same")
    parser.add_argument("--runs", type=int, default=40)
    parser.add_argument("--budget", type=float, default=20.0)
    given = parser.parse_args()
    bundle = compiled("cpu-x86")
    found = []
    with tempfile.TemporaryDirectory(prefix="edgekit-same-") as folder:
        copy = Path(folder) / "copy"
        shutil.copytree(bundle, copy)
        for run in range(given.runs):
            result = edgekit.bench([bundle, copy], lengths=[16], budget=given.budget, seed=run)
            ratio = result.ratios[0]
            found.append(
                {
                    "verdict": ratio.verdict,
                    "value": round(ratio.value, 4),
                    "low": round(ratio.low, 4),
                    "high": round(ratio.high, 4),
                    "machine": result.noise.verdict,
                }
            )
            print(f"{run + 1:3} {ratio.value:.3f} ({ratio.low:.3f}–{ratio.high:.3f})", end=" ")
            print(f"{ratio.verdict}; {result.noise.verdict}", flush=True)
    resolved = sum(row["verdict"] != "not resolved" for row in found)
    print(f"{resolved} of {given.runs} identical pairs were told apart")
    keep("same", {"budget_seconds": given.budget, "resolved": resolved, "runs": found})


if __name__ == "__main__":
    main()
