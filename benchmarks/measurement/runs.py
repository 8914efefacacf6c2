"""Shared by the checks: a run of contenders, and where results are kept."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from benchmarks.measure import machine
from edgekit.core import cpu
from edgekit.core.bundle import open_bundle
from edgekit.evaluation.comparison import precise
from edgekit.evaluation.rounds import Entrant, Plan, run_rounds
from edgekit.pipeline.provenance import versions
from edgekit.runtime.contenders import worker_command
from edgekit.runtime.conversation import child_environment, python_command
from edgekit.runtime.records import Record
from edgekit.runtime.scenarios import SINGLE_STREAM, Scenario
from edgekit.runtime.workloads import make_workloads, save_workloads

RESULTS = Path(__file__).parent / "results"


def side_by_side(
    bundle: Path,
    planted: Sequence[str],
    *,
    budget: float,
    processes: int,
    seed: int,
    scenario: Scenario = SINGLE_STREAM,
    precision: float = 0.0,
) -> tuple[Record, Record]:
    """The bundle as it is and with a planted difference, at 1×16 tokens.

    As bench does, it ends before the budget once the ratio is known to ± `precision` (0: never).
    `planted` are arguments of `benchmarks.measurement.slowed`; none make it the bundle itself.
    """
    threads = cpu.available_threads()
    with tempfile.TemporaryDirectory(prefix="edgekit-planted-") as name:
        folder = Path(name)
        path = folder / "workloads.safetensors"
        save_workloads(make_workloads(open_bundle(bundle), lengths=[16]), path)
        plain = worker_command(bundle, path, threads)
        other = plain
        if planted:
            given = [str(bundle), "--worker", str(path), "--threads", str(threads), *planted]
            other = python_command("benchmarks.measurement.slowed", *given)
        entrants = [
            Entrant("plain", plain, child_environment()),
            Entrant("planted", other, child_environment()),
        ]
        plan = Plan(1, processes, budget, seed, scenario=scenario)
        records = run_rounds(
            entrants,
            plan,
            folder=folder,
            enough=lambda found: precise(
                [(found["plain"], found["planted"])], 1, precision=precision, seed=seed
            ),
        )
    for record in records.values():
        if record.error is not None:
            raise RuntimeError(f"{record.name}: {record.error}")
    return records["plain"], records["planted"]


def keep(name: str, figures: Mapping[str, object]) -> Path:
    """Write figures with the machine and the versions beside them."""
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / f"{name}.json"
    record = {"machine": machine(), "versions": versions(), **figures}
    path.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    return path
