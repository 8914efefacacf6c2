"""bench: bundles and the original model, measured side by side."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from edgekit.core.errors import MeasurementError, StepError
from edgekit.core.results import BenchResult
from edgekit.evaluation import latency
from edgekit.pipeline.progress import Progress, silent
from edgekit.pipeline.provenance import versions
from edgekit.runtime.conversation import told_error


def bench(
    bundles: Sequence[Path | str] | Path | str,
    *,
    reference: str | None = None,
    batch: int = 1,
    lengths: Sequence[int] | None = None,
    threads: int | None = None,
    budget: float = latency.DEFAULT_BUDGET,
    processes: int = latency.DEFAULT_PROCESSES,
    revision: str | None = None,
    trust_remote_code: bool = False,
    inputs: Sequence[str] = (),
    seed: int = 0,
    progress: Progress = silent,
) -> BenchResult:
    """Latency, throughput and memory of bundles and, if given, of the PyTorch reference.

    Fresh processes per contender, interleaved in random order, on the same arrays and threads.
    Every ratio has a 95 % interval; the first bundle is measured twice as an A/A check. Memory is
    the peak RSS of a contender's process above what its imports took.

    Args:
        reference: the original SOURCE in PyTorch; with it every ratio is against it.
        batch, lengths: the workloads; 1 × 16 and 1 × 128 tokens by default.
        budget: seconds of timing in all, start-up excluded.
        processes: fresh processes per contender.

    Raises:
        ConfigError: options that do not fit the bundles.
        MissingDependency, SessionError: the engine or device of the only bundle is not here.
        MeasurementError: a contender crashed, hung or answered nonsense; ``result`` has the rest.
    """
    several = [bundles] if isinstance(bundles, (str, Path)) else list(bundles)
    result = latency.bench(
        several,
        reference,
        batch=batch,
        lengths=lengths,
        threads=threads,
        budget=budget,
        processes=processes,
        seed=seed,
        revision=revision,
        trust_remote_code=trust_remote_code,
        inputs=inputs,
        progress=progress,
    )
    result = replace(result, versions={**versions(), **result.versions})
    failed = {row.name: row.error for row in result.contenders if row.error is not None}
    if failed:
        told = "; ".join(f"{name}: {error}" for name, error in failed.items())
        if len(several) == 1:
            # What is missing on this device is no fault of the measurement.
            kind = result.contenders[-1].error_kind
            error = told_error(kind, f"It could not be measured: {told}.", result=result)
            if error is not None and not isinstance(error, StepError):
                raise error
        raise MeasurementError(
            f"{len(failed)} of the contenders could not be measured: {told}.",
            hint="The others were; their figures are in the result.",
            result=result,
        )
    return result
