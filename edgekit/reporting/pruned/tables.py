"""The tables and cards of a pruning's report, which the terminal shows as well."""

from __future__ import annotations

from collections.abc import Mapping

from edgekit.core.pruned import Change, PruneResult
from edgekit.reporting import tables, words
from edgekit.reporting.tables import Table


def sensitivity(result: PruneResult) -> list[Table]:
    """What each structure costs by itself."""
    rows = tuple(
        (row.structure, words.share(row.ratio), f"{row.parameters:,}", words.digits(row.loss),
         _share(row.agreement), _share(row.accuracy), _times(row.speedup))
        for row in result.sensitivity
    )  # fmt: skip
    header = ("cut alone", "share", "parameters", "loss", "as the original", "right", "foretold")
    known = next((row.reference_accuracy for row in result.sensitivity), None)
    foot = () if known is None else (f"Of the original {words.share(known)} are right.",)
    return [Table("What each structure costs by itself", header, rows, foot)] if rows else []


def layers(result: PruneResult) -> list[Table]:
    """What is left of every layer; those that are gone come last."""
    rows = [
        (layer.name, _left(layer.heads), _left(layer.ffn)) for layer in result.layers if layer.kept
    ]
    rows += [(layer.name, "gone", "") for layer in result.layers if not layer.kept]
    header = ("layer", "heads", "neurons")
    return [Table("What is left of every layer", header, tuple(rows))] if rows else []


def tried(result: PruneResult) -> list[Table]:
    """The cuts that were tried, and why each was or was not taken."""
    rows = tuple(
        (one.name, _times(one.predicted_speedup), _times(one.speedup),
         words.NONE if one.loss is None else words.digits(one.loss), one.reason)
        for one in result.tried
    )  # fmt: skip
    header = ("tried", "foretold", "timed", "loss", "why")
    return [Table("Cuts that were tried", header, rows)] if rows else []


def change(found: Change) -> str:
    """``22,000,000 → 17,000,000 (22.73 % less)``."""
    less = 1 - found.after / found.before if found.before else 0.0
    return f"{found.before:,} → {found.after:,} ({words.share(less)} less)"


def cards(result: PruneResult) -> list[Table]:
    """What was asked for, how it was made, and on what machine it was timed."""
    made = {
        "original": result.source or None,
        "structures": ", ".join(result.structures),
        "rated by": result.method,
        "target": result.target,
        "engine": result.engine,
        **result.workload,
        "seconds": result.seconds,
    }
    found = [
        _card("Goal", result.goal),
        _card("How it was made", made),
        _card("Least squares", result.repair or {}),
        _card("Recovery", {} if result.recovery is None else vars(result.recovery)),
    ]
    quiet = [] if result.noise is None else tables.noise(result.noise)
    return [card for card in found if card.rows] + quiet


def _card(title: str, values: Mapping[str, object]) -> Table:
    rows = tuple(
        (key.replace("_", " "), tables.plain(value))
        for key, value in values.items()
        if value is not None
    )
    return Table(title, (), rows)


def _left(found: Change) -> str:
    return f"{found.after:,} of {found.before:,}"


def _share(value: float | None) -> str:
    return words.NONE if value is None else words.share(value)


def _times(value: float | None) -> str:
    return words.NONE if value is None else words.times(value)
