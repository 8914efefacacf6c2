"""What an interrupted pruning had found before its recovery, in a checkpoint and out of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from edgekit.core.pruned import Cut, SensitivityRow, TablePoint
from edgekit.core.results import to_json
from edgekit.pruning.checkpoints import Checkpoint
from edgekit.sources.pruned.plan import Plan


@dataclass(frozen=True)
class Begun:
    """The plan under recovery, and what its run had to tell."""

    plan: Plan
    predicted: float | None
    report: dict[str, object] | None
    tried: tuple[Cut, ...]
    table: tuple[TablePoint, ...]
    sensitivity: tuple[SensitivityRow, ...]

    def write(self, checkpoint: Checkpoint) -> None:
        """Note it in the place of what was there."""
        facts = {
            "predicted": self.predicted,
            "repair": self.report,
            "tried": to_json(self.tried),
            "table": to_json(self.table),
            "sensitivity": to_json(self.sensitivity),
        }
        checkpoint.begin(self.plan, facts)


def read_begun(checkpoint: Checkpoint) -> Begun | None:
    """What can be gone on with; None where there is nothing, or any part of it is damaged."""
    found = checkpoint.begun()
    if found is None or checkpoint.state() is None:
        return None
    plan, facts = found
    predicted, report = facts.get("predicted"), facts.get("repair")
    try:
        return Begun(
            plan,
            float(predicted) if isinstance(predicted, (int, float)) else None,
            report if isinstance(report, dict) else None,
            tuple(Cut(**row) for row in _rows(facts, "tried")),  # type: ignore[arg-type]
            tuple(TablePoint(**row) for row in _rows(facts, "table")),  # type: ignore[arg-type]
            tuple(SensitivityRow(**row) for row in _rows(facts, "sensitivity")),  # type: ignore[arg-type]
        )
    except TypeError:
        return None


def _rows(facts: Mapping[str, object], name: str) -> list[dict[str, object]]:
    value = facts.get(name)
    return [row for row in value if isinstance(row, dict)] if isinstance(value, list) else []
