"""A planted stall: one answer in fifty comes 200 ms late, and the server scenario must show it.

``python -m benchmarks.measurement.stall [--qps 30] [--budget 120]``. Latencies count from when a
request was due, so whatever waited behind the stall is late as well.
"""

from __future__ import annotations

import argparse

from benchmarks.measurement.runs import keep, side_by_side
from benchmarks.models import compiled
from edgekit.runtime.scenarios import make_scenario
from edgekit.runtime.workloads import Workload

STALL_MS = 200
EVERY = 50


def main() -> None:
    """Run, print and keep the percentiles."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.measurement.stall")
    parser.add_argument("--qps", type=float, default=30.0)
    parser.add_argument("--budget", type=float, default=120.0)
    given = parser.parse_args()
    sides = side_by_side(
        compiled("cpu-x86"),
        ["--stall-ms", str(STALL_MS), "--every", str(EVERY)],
        budget=given.budget,
        processes=5,
        seed=0,
        scenario=make_scenario("server", qps=given.qps),
    )
    found = {}
    for side in sides:
        row = side.row(0, Workload(1, 16, {}), artifact_bytes=None)
        found[side.name] = {"p50_ms": row.p50_ms, "p90_ms": row.p90_ms, "p99_ms": row.p99_ms,
                            "samples": row.samples}  # fmt: skip
        print(f"{side.name}: p50 {row.p50_ms:.1f} ms, p99 {row.p99_ms} ms, {row.samples} requests")
    keep("stall", {"qps": given.qps, "stall_ms": STALL_MS, "every": EVERY, "contenders": found})


if __name__ == "__main__":
    main()
