"""An imported model against itself: as it was written, and as ONNX Runtime optimises it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from edgekit.core.errors import SourceError
from edgekit.core.results import Parity
from edgekit.core.tolerance import Tolerance, tolerance_for
from edgekit.exporters.imported_inputs import Array, Sampled
from edgekit.runtime.golden import distance, row_length
from edgekit.runtime.session import Session

SAMPLES = "Give inputs that it takes with --samples FILE.npz, one array per input"


def compare_runs(
    session: Session, cases: Sequence[Sampled], precision: str, path: Path
) -> tuple[tuple[Parity, ...], tuple[str, ...]]:
    """How far the model, as apps will load it, is from itself as it was written.

    Raises SourceError where it is farther than the precision allows, or answers with chance.
    """
    rows: list[Parity] = []
    broken: set[str] = set()
    rule = tolerance_for(precision)
    for case in cases:
        shape = {name: array.shape for name, array in case.inputs.items()}
        answers, again = session.run(case.inputs), session.run(case.inputs)
        for name, reference in case.outputs.items():
            answer = answers[name]
            _refuse_chance(path, name, answer, again[name], rule)
            if answer.shape != reference.shape:
                raise SourceError(
                    f"ONNX Runtime's optimisations change the answers of {path}: {name} has the"
                    f" shape {list(answer.shape)}, and {list(reference.shape)} without them.",
                    hint="How much it answers hangs on a comparison of nearly equal numbers: give"
                    " inputs that it is sure of with --samples, or export the model again in"
                    " float32.",
                )
            if not np.isfinite(reference.astype(np.float64)).all():
                broken.add(name)
                continue
            if not reference.size:
                continue
            max_abs, cosine = distance(answer, reference)
            row, scale = row_length(reference), _scale(reference)
            if not rule.accepts(max_abs=max_abs, max_reference=scale, cosine=cosine, row=row):
                raise SourceError(
                    f"ONNX Runtime's optimisations change the answers of {path}: {name} is off by"
                    f" {max_abs:.3g} (cosine {cosine:.6f}), allowed for {precision}:"
                    f" {rule.describe(row)}.",
                    hint="Export the model again in float32, or report it to ONNX Runtime.",
                )
            rows.append(Parity(shape, name, max_abs, cosine, _agreement(answer, reference)))
    notes = (
        (
            f"On these inputs {', '.join(sorted(broken))} held NaN or infinities, which nothing can"
            f" be compared with: they are no golden answers. {SAMPLES}.",
        )
        if broken
        else ()
    )
    return tuple(rows), notes


def _refuse_chance(path: Path, name: str, answer: Array, again: Array, rule: Tolerance) -> None:
    same = answer.shape == again.shape
    if same and np.array_equal(answer, again, equal_nan=answer.dtype.kind == "f"):
        return
    moved, cosine = distance(again, answer) if same else (float("inf"), 0.0)
    row, scale = row_length(answer), _scale(answer)
    if not same or not rule.accepts(max_abs=moved, max_reference=scale, cosine=cosine, row=row):
        raise SourceError(
            f"{path} does not repeat its own answer: {name} differs by {moved:.3g} between two"
            " runs.",
            hint="Remove what is random in the graph (Dropout in training mode, RandomNormal); a"
            " state belongs into inputs and outputs.",
        )


def _scale(array: Array) -> float:
    return float(np.abs(array.astype(np.float64)).max()) if array.size else 0.0


def _agreement(answer: Array, reference: Array) -> float | None:
    if reference.ndim < 2 or reference.shape[-1] < 2 or not reference.size:
        return None
    return float(np.mean(answer.argmax(-1) == reference.argmax(-1)))
