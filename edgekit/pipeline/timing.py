"""The measurements of steps: a bundle against its reference, a pair, many in one process."""

from __future__ import annotations

import gc
from collections.abc import Callable, Mapping, Sequence
from typing import Literal

import numpy as np

from edgekit.core.bundle import Bundle
from edgekit.core.errors import ConfigError, MeasurementError
from edgekit.core.measurements import BenchResult
from edgekit.evaluation import latency as timing
from edgekit.evaluation.contenders import Artifact, ReferenceSource, plan_workloads
from edgekit.evaluation.measuring import Measuring
from edgekit.pipeline.progress import Progress
from edgekit.runtime.timing import come_to_rest, take_turn
from edgekit.runtime.workloads import fit_workload

DEFAULT_LENGTH = 128
_SIDES = 3
# Many in one process: turns of so many seconds, in so many rounds.
_TURN_SECONDS = 0.03
_ROUNDS = 7
# A pair of bundles; DESIGN's protocol, briefly.
_PAIR_SECONDS = 12.0
_PAIR_PROCESSES = 6


def plan_timing(
    bundle: Bundle,
    *,
    batch: int | None,
    length: int | Literal["data"] | None,
    data: str | None,
    columns: str | None,
    threads: int | None,
    budget: float,
    processes: int,
    seed: int,
) -> Measuring:
    """What is to be measured: one workload, the bundle's own unless one is given.

    Raises ConfigError, before anything runs, for what the bundle cannot be measured with.
    """
    parts = bundle.manifest.components
    if set(parts) != {"model"}:
        raise ConfigError(
            f"{bundle.path} has the components {', '.join(parts)}; validate measures bundles of one"
            " component.",
            hint="Validate without timing with --no-latency.",
        )
    workload = bundle.manifest.workload or {}
    own_batch, own_length = workload.get("batch"), workload.get("length")
    rows, tokens = fit_workload(
        bundle,
        own_batch if isinstance(own_batch, int) else 1,
        own_length if isinstance(own_length, int) else DEFAULT_LENGTH,
    )
    chosen = tokens if length is None else length
    from_data = chosen == "data"
    measuring = Measuring(
        batches=(batch or rows,),
        lengths=None if chosen is None else (chosen,),
        threads=threads,
        budget=budget,
        processes=processes,
        seed=seed,
        data=data if from_data else None,
        columns=columns if from_data else None,
    )
    measuring.check()
    name = bundle.manifest.name
    own = Artifact(name, bundle.path, parts["model"].inputs, bundle.bytes(), bundle)
    plan_workloads([own], measuring)
    return measuring


def untimed(bundle: Bundle) -> str | None:
    """Why the speed of a bundle is not measured where nobody asks for it, as a note; else None.

    Bundles that generate with two components have answers of any length: their verdict rests on
    what they answer.
    """
    parts = bundle.manifest.components
    if bundle.manifest.generation is None or set(parts) == {"model"}:
        return None
    return (
        f"Speed is not measured: validate times bundles of one component, and this one has"
        f" {' and '.join(parts)}."
    )


def time_against(
    bundle: Bundle, source: ReferenceSource, measuring: Measuring, progress: Progress
) -> BenchResult:
    """The bundle against the reference, as planned.

    Raises MeasurementError when one of the two could not be measured.
    """
    # The reference, the bundle, and the bundle once more, which tells how noisy the machine is.
    progress(
        f"Measuring latency: {_SIDES * measuring.processes} fresh processes ({_SIDES} in each of"
        f" {measuring.processes} rounds), at most {measuring.budget:g} s of timing; their start-up"
        " comes on top"
    )
    result = timing.bench([bundle.path], source, measuring, progress=progress)
    for row in result.contenders:
        if row.error is not None:
            raise MeasurementError(
                f"{row.name} could not be measured: {row.error}.",
                hint="Validate without timing with --no-latency.",
            )
    return result


def time_pair(
    before: Bundle,
    after: Bundle,
    workload: Mapping[str, int],
    *,
    threads: int | None,
    seed: int,
) -> BenchResult:
    """A bundle against the one that it is made of, in fresh processes at one workload.

    Raises MeasurementError when one of the two cannot be measured.
    """
    length = workload.get("length")
    measuring = Measuring(
        batches=(workload["batch"],),
        lengths=None if length is None else (length,),
        threads=threads,
        budget=_PAIR_SECONDS,
        processes=_PAIR_PROCESSES,
        seed=seed,
    )
    result = timing.bench([before.path, after.path], None, measuring)
    for row in result.contenders:
        if row.error is not None and row.error_kind != "MeasurementError":
            raise MeasurementError(f"{row.name} could not be measured: {row.error}.")
    return result


def typical_ms(
    runs: Sequence[Callable[[], object]], *, seed: int, rounds: int = _ROUNDS
) -> list[float]:
    """The median milliseconds of each call, taken in turns in this process."""
    generator = np.random.default_rng(seed)
    for run in runs:
        run()
    # Every turn collects garbage first: what torch and the sessions hold is none.
    gc.collect()
    gc.freeze()
    try:
        medians: list[list[float]] = [[] for _ in runs]
        for _ in range(rounds):
            for index in generator.permutation(len(runs)):
                come_to_rest()
                turn = take_turn(runs[index], seconds=_TURN_SECONDS, least=2, discard=1)
                medians[index].append(float(np.median(turn.nanoseconds)) / 1e6)
    finally:
        gc.unfreeze()
    return [float(np.median(own)) for own in medians]
