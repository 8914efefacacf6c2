"""Error rates of the latency statistics, on recorded timings, by resampling.

``python -m benchmarks.measurement.rates [--record]``. With ``--record`` the same bundle runs twice
in 60 rounds of fresh processes, and the times are kept. Runs are then put together from rounds
drawn out of the recording, with the two sides of each round swapped at random (nothing
distinguishes them), once as they are and once with one side slowed: how often is a difference
told that is not there, and how often is one found that is?
"""

from __future__ import annotations

import argparse
import json

import numpy as np

from benchmarks.measurement.runs import RESULTS, keep, side_by_side
from benchmarks.models import compiled
from edgekit.evaluation.ratios import Turns, turn_ratio

ROUNDS = 60
SIZES = (5, 10, 20, 40)
FACTORS = (1.0, 1.02, 1.05, 1.10, 1.15)


def record() -> None:
    """Keep the microseconds of 60 rounds of two identical contenders."""
    sides = side_by_side(compiled("cpu-x86"), (), budget=60.0, processes=ROUNDS, seed=1)
    rounds = [
        [[np.round(times * 1e3).astype(int).tolist() for times in turns] for turns in found]
        for found in (side.turn_times(0) for side in sides)
    ]
    keep("recording", {"unit": "microseconds", "sides": rounds})


def drawn(
    sides: list[list[list[np.ndarray[tuple[int], np.dtype[np.float64]]]]],
    size: int,
    factor: float,
    generator: np.random.Generator,
) -> tuple[Turns, Turns]:
    """One run of `size` rounds, without replacement; the second side slowed by the factor."""
    a, b = [], []
    for index in generator.choice(len(sides[0]), size=size, replace=False):
        swap = int(generator.integers(2))
        a.append(sides[swap][index])
        b.append([times * factor for times in sides[1 - swap][index]])
    return a, b


def main() -> None:
    """Resample, print and keep the rates."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.measurement.rates")
    parser.add_argument("--record", action="store_true")
    parser.add_argument("--trials", type=int, default=1000)
    given = parser.parse_args()
    if given.record:
        record()
    stored = json.loads((RESULTS / "recording.json").read_text(encoding="utf-8"))
    sides = [
        [[np.asarray(times, dtype=float) for times in turns] for turns in side]
        for side in stored["sides"]
    ]
    generator = np.random.default_rng(0)
    rows = []
    for size in SIZES:
        for factor in FACTORS:
            verdicts = []
            widths = []
            for trial in range(given.trials):
                a, b = drawn(sides, size, factor, generator)
                estimate = turn_ratio(a, b, seed=trial, resamples=400)
                verdicts.append(estimate.verdict)
                widths.append(estimate.resolvable - 1)
            row = {
                "processes": size,
                "factor": factor,
                "slower": verdicts.count("slower") / given.trials,
                "faster": verdicts.count("faster") / given.trials,
                "median_half_width": round(float(np.median(widths)), 4),
            }
            rows.append(row)
            print(
                f"{size:3} processes, {factor:.2f}×: slower {row['slower']:6.1%},"
                f" faster {row['faster']:6.1%}, interval ±{row['median_half_width']:.1%}",
                flush=True,
            )
    keep("rates", {"trials": given.trials, "rows": rows})


if __name__ == "__main__":
    main()
