"""What pruning gains and costs: parameters, operations, accuracy and speed against the original.

``python -m benchmarks.pruning [--only PART …]``: some three quarters of an hour in all. The parts,
whose rows are kept from run to run:

- ``repaired``: `minilm-sentiment` by least squares alone, to 1.3 times the speed;
- ``recovered``: the same to 1.6 times the speed, with distillation, and then both quantized;
- ``digits``: `digits-cnn` by channels, to 1.5 times the speed;
- ``smollm2``: see `benchmarks.layers`; half an hour more.

What is compared runs interleaved in one run; accuracy is on rows that nothing has seen.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import edgekit
from benchmarks import layers
from benchmarks.measure import report
from benchmarks.models import DIGITS, FOLDER, SENTIMENT, data, source
from benchmarks.readme import figures, markdown
from edgekit.core.errors import BudgetNotMet
from edgekit.core.pruned import PruneResult
from edgekit.core.results import to_json
from edgekit.evaluation.latency import bench, latency_of
from edgekit.evaluation.measuring import Measuring
from edgekit.reporting import words

Row = dict[str, Any]
HEADER = (
    "model", "how", "parameters", "operations", "speed", "foretold (off by)", "metric", "drop",
    "seconds",
)  # fmt: skip


def repaired() -> list[Row]:
    """Least squares alone: no gradient steps."""
    return [_row(SENTIMENT, "least squares alone, 1.3×", _pruned(SENTIMENT, 1.3, steps=0))]


def recovered() -> list[Row]:
    """Distillation from the original, and int8 on top of both."""
    output = FOLDER / "pruned"
    # Of int8 less of the time is products: both have to be half as fast again.
    found = _pruned(SENTIMENT, 1.6, steps=None, output=output)
    rows = [_row(SENTIMENT, "recovered, 1.6×", found)]
    with tempfile.TemporaryDirectory(prefix="edgekit-pruning-") as name:
        folder = Path(name)
        quantized: list[Path] = []
        for called, model in (("original", source(SENTIMENT)), ("pruned", str(output))):
            edgekit.export(model, folder / called)
            edgekit.quantize(folder / called, folder / f"{called}-int8", method="dynamic")
            quantized.append(folder / f"{called}-int8")
        timed = latency_of(bench(quantized, None, Measuring(lengths=(128,), processes=6)))
        try:
            judged = edgekit.validate(
                quantized[1], reference=source(SENTIMENT), data=str(data(SENTIMENT)),
                max_drop="5pt", latency=False,
            )  # fmt: skip
        except BudgetNotMet as missed:
            judged = missed.result  # type: ignore[assignment]
    rows.append(
        {
            **rows[0],
            "how": "recovered, then int8, against int8 of the original",
            "speed": None if timed is None else to_json(timed.speedup),
            "predicted": None,
            "accuracy": to_json(judged.accuracy),
            "seconds": None,
        }
    )
    return rows


def digits() -> list[Row]:
    """Channels of a small network of one's own."""
    found = _pruned(DIGITS, 1.5, steps=6000, inputs=("image=float32:batch,1,28,28",))
    return [_row(DIGITS, "channels, 6,000 steps of recovery, 1.5×", found)]


PARTS: Mapping[str, Callable[[], list[Row]]] = {
    "repaired": repaired, "recovered": recovered, "digits": digits, "smollm2": layers.rows,
}  # fmt: skip


def _pruned(
    model: str,
    speedup: float,
    *,
    steps: int | None,
    output: Path | None = None,
    inputs: tuple[str, ...] = (),
) -> PruneResult:
    """The result, whatever its verdict; points are what the table tells."""
    with tempfile.TemporaryDirectory(prefix="edgekit-pruning-") as name:
        try:
            return edgekit.prune(
                source(model), output or Path(name) / "pruned", speedup=speedup,
                data=str(data(model)), recover_steps=steps, inputs=inputs, keep=True,
                force=True, max_drop="5pt", progress=print,
            )  # fmt: skip
        except BudgetNotMet as missed:
            if not isinstance(missed.result, PruneResult):
                raise
            print(missed)
            return missed.result


def _row(model: str, how: str, found: PruneResult) -> Row:
    return {
        "model": model,
        "how": how,
        "parameters": 1 - found.parameters.after / found.parameters.before,
        "flops": 1 - found.flops.after / found.flops.before,
        "speed": None if found.latency is None else to_json(found.latency.speedup),
        "predicted": found.predicted_speedup,
        "accuracy": to_json(found.accuracy),
        "seconds": found.seconds,
    }


def shown(row: Row) -> tuple[object, ...]:
    """A row of the table."""
    speed, accuracy = row["speed"], row["accuracy"]
    return (
        f"`{row['model']}`",
        row["how"],
        f"−{row['parameters']:.0%}",
        f"−{row['flops']:.0%}",
        words.NONE
        if speed is None
        else f"{speed['value']:.2f}× ({speed['low']:.2f}–{speed['high']:.2f})",
        _foretold(row),
        words.NONE
        if accuracy is None
        else f"{accuracy['reference']:.4f} → {accuracy['candidate']:.4f}",
        words.NONE
        if accuracy is None
        else f"{words.hundredths(accuracy['drop'], accuracy['drop_unit'])}"
        f" of {accuracy['samples']:,}",
        words.NONE if row["seconds"] is None else f"{row['seconds']:.0f}",
    )


def _foretold(row: Row) -> str:
    """The speed of the latency table, and how far it lies from the one that was measured."""
    predicted, speed = row["predicted"], row["speed"]
    if predicted is None or speed is None:
        return words.NONE
    return f"{predicted:.2f}× ({predicted / speed['value'] - 1:+.1%})"


def main() -> None:
    """Run the parts that are asked for, print the table and keep it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", nargs="+", choices=list(PARTS), default=list(PARTS))
    asked = parser.parse_args().only
    rows: dict[str, list[Row]] = dict(figures("pruning").get("rows", {}))
    for part in asked:
        rows[part] = PARTS[part]()
    listed = [shown(row) for part in PARTS for row in rows.get(part, [])]
    told = markdown(HEADER, listed)
    report("pruning", {"rows": rows, "markdown": told}, told.splitlines())


if __name__ == "__main__":
    main()
