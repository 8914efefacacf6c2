"""bench: bundles and the original model, measured side by side."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Literal

from edgekit.core.errors import ConfigError, MeasurementError, StepError
from edgekit.core.measurements import BenchResult
from edgekit.evaluation import latency
from edgekit.evaluation.contenders import ReferenceSource
from edgekit.evaluation.measuring import (
    DEFAULT_BUDGET,
    DEFAULT_PRECISION,
    DEFAULT_PROCESSES,
    Length,
    Measuring,
)
from edgekit.pipeline.progress import Progress, silent
from edgekit.pipeline.provenance import versions
from edgekit.runtime.conversation import told_error
from edgekit.runtime.scenarios import make_scenario


def bench(
    bundles: Sequence[Path | str] | Path | str,
    *,
    reference: str | None = None,
    also: Sequence[Literal["compile", "bfloat16"]] = (),
    batch: int | Sequence[int] = 1,
    lengths: Sequence[Length] | None = None,
    max_new_tokens: int | None = None,
    data: str | None = None,
    columns: str | None = None,
    scenario: str = "single-stream",
    qps: float | None = None,
    interval: float | None = None,
    streams: int | None = None,
    threads: int | None = None,
    budget: float = DEFAULT_BUDGET,
    processes: int = DEFAULT_PROCESSES,
    precision: float = DEFAULT_PRECISION,
    probe: bool = False,
    attach: Sequence[Path | str] = (),
    revision: str | None = None,
    trust_remote_code: bool = False,
    inputs: Sequence[str] = (),
    seed: int = 0,
    progress: Progress = silent,
) -> BenchResult:
    """Latency, throughput and memory of bundles and, if given, of the PyTorch reference.

    Fresh processes per contender, interleaved in random order, on the same arrays and threads.
    Every ratio has a 95 % interval; the first bundle is measured twice as an A/A check. Memory is
    the peak RSS of a contender's process above what its imports took. A contender whose outputs
    are not those of the reference (without one: of the first) is disqualified.

    Args:
        bundles: bundles; bare ``.onnx`` and OpenVINO ``.xml`` files may stand among them.
        reference: the original SOURCE in PyTorch; with it every ratio is against it.
        also: the reference once more, through ``torch.compile`` or in bfloat16.
        batch, lengths: the workloads, each with each; 1 × 16 and 1 × 128 tokens by default. The
            length "data" goes round texts of `data` (DATA, with `columns`).
        max_new_tokens: of models that generate requests are measured, prompts of those lengths (128
            by default) that are answered by exactly so many tokens, 32 by default.
        scenario: "single-stream", "offline" (with `streams` callers at a time, or the better of
            one and as many as threads), "server" (with `qps` requests per second), "sparse" (one
            request every `interval` seconds).
        budget: seconds of timing in all, start-up excluded.
        processes: fresh processes per contender.
        precision: a run of more than five `processes` ends after the fifth, or a later one, when
            every ratio is known to ± so much.
        probe: try runtime options of the bundles as well, and propose those that pay.
        attach: JSON results of other devices, shown beside without ratios.

    Raises:
        ConfigError: options that do not fit the bundles or each other.
        MissingDependency, SessionError: the engine or device of the only bundle is not here.
        MeasurementError: a contender crashed, hung or answered nonsense; ``result`` has the rest.
    """
    several = [bundles] if isinstance(bundles, (str, Path)) else list(bundles)
    for mode in also:
        if mode not in ("compile", "bfloat16"):
            raise ConfigError(
                f"--also knows no {mode!r}.", hint="It takes 'compile' and 'bfloat16'."
            )
    measuring = Measuring(
        batches=(batch,) if isinstance(batch, int) else tuple(batch),
        lengths=None if lengths is None else tuple(lengths),
        threads=threads,
        budget=budget,
        processes=processes,
        seed=seed,
        scenario=make_scenario(scenario, qps=qps, interval=interval, streams=streams, seed=seed),
        precision=precision,
        data=data,
        columns=columns,
        new_tokens=max_new_tokens,
    )
    source = reference and ReferenceSource(
        reference,
        revision=revision,
        trust_remote_code=trust_remote_code,
        inputs=tuple(inputs),
    )
    result = latency.bench(
        several, source or None, measuring,
        also=also, probes=probe, attach=attach, progress=progress,
    )  # fmt: skip
    result = replace(result, versions={**versions(), **result.versions})
    failed = {row.name: row.error for row in result.contenders if row.error is not None}
    if failed:
        told = "; ".join(f"{name}: {error.rstrip('.')}" for name, error in failed.items())
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
