"""Planted differences: a contender slowed by a known share must be resolved as slower.

``python -m benchmarks.measurement.planted --factor 1.15 [--runs 20] [--budget 60] [--processes 5]``
"""

from __future__ import annotations

import argparse

from benchmarks.measurement.runs import keep, side_by_side
from benchmarks.models import compiled
from edgekit.evaluation.measuring import DEFAULT_PRECISION
from edgekit.evaluation.ratios import turn_ratio


def main() -> None:
    """Run, print and keep the verdicts."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.measurement.planted")
    parser.add_argument("--factor", type=float, required=True)
    parser.add_argument("--runs", type=int, default=20)
    parser.add_argument("--budget", type=float, default=60.0)
    parser.add_argument("--processes", type=int, default=5)
    given = parser.parse_args()
    bundle = compiled("cpu-x86")
    found = []
    for run in range(given.runs):
        plain, slowed = side_by_side(
            bundle,
            ["--factor", str(given.factor)],
            budget=given.budget,
            processes=given.processes,
            seed=run,
            precision=DEFAULT_PRECISION,
        )
        estimate = turn_ratio(plain.turn_times(0), slowed.turn_times(0), seed=run)
        found.append(
            {
                "verdict": estimate.verdict,
                "value": round(estimate.value, 4),
                "low": round(estimate.low, 4),
                "high": round(estimate.high, 4),
                "processes": len(plain.turn_times(0)),
            }
        )
        shown = f"{estimate.value:.3f} ({estimate.low:.3f}–{estimate.high:.3f})"
        print(f"{run + 1:3} {shown} {estimate.verdict}", flush=True)
    slower = sum(row["verdict"] == "slower" for row in found)
    print(f"{slower} of {given.runs} resolved as slower (planted: {given.factor:g}×)")
    keep(
        f"planted-{given.factor:g}",
        {
            "factor": given.factor,
            "budget_seconds": given.budget,
            "processes": given.processes,
            "slower": slower,
            "runs": found,
        },
    )


if __name__ == "__main__":
    main()
