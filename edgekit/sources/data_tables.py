"""A task's samples in a table: which columns they come from, and row by row what these hold."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice

from edgekit.core.errors import ConfigError
from edgekit.core.profiles import nearest
from edgekit.sources.data_columns import (
    Label,
    Labels,
    Problem,
    TaskColumns,
    Value,
    names_label,
    problem_of,
    read_inputs,
)
from edgekit.sources.data_files import Table, column_not_found

TableRow = tuple[Mapping[str, Value], Label | None, Problem | None]

# Rows that tell whether a column could hold labels.
_GLANCE = 50


@dataclass(frozen=True)
class Chosen:
    """The columns that are read: of the inputs by the task's names, and the label's, if any.

    ``notes`` are sentences a person should see.
    """

    inputs: Mapping[str, str]
    label: str | None
    notes: tuple[str, ...] = ()

    @property
    def names(self) -> list[str]:
        """All of them, each once."""
        label = [] if self.label is None else [self.label]
        return list(dict.fromkeys([*self.inputs.values(), *label]))


def choose_columns(
    table: Table,
    task: TaskColumns,
    mapping: Mapping[str, str],
    labels: Labels,
    *,
    labels_wanted: bool,
) -> Chosen:
    """The columns of a table that a task reads.

    Raises ConfigError for a column that is not there; for labels under a name that nobody mapped
    where they are wanted: without them another metric would be judged, and nobody would notice.
    """
    for name, column in mapping.items():
        if name not in task.known:
            raise ConfigError(
                f"--columns names {name!r}, which this task does not read.",
                hint=nearest(name, task.known),
            )
        if column not in table.columns:
            raise column_not_found(table, column, "Check --columns.")
    actual = {name: mapping.get(name, name) for name in task.inputs}
    actual |= {
        name: mapping.get(name, name)
        for name in task.optional
        if mapping.get(name, name) in table.columns
    }
    for name, column in actual.items():
        if column not in table.columns:
            raise column_not_found(table, column, f"Map it with --columns {name}=COLUMN.")
    if task.label is None:
        return Chosen(actual, None)
    label = mapping.get(task.label, task.label)
    if label in table.columns:
        return Chosen(actual, label)
    others = [name for name in table.columns if name not in actual.values()]
    if nearest(label, others).startswith("Did you mean"):
        raise column_not_found(table, label, f"Map it with --columns {task.label}=COLUMN.")
    if labels_wanted:
        like = next((one for one in others if _like_labels(table, one, task, labels)), None)
        if like is not None:
            raise labels_not_mapped(f"{table.origin} has no column {label!r}", task.label, like)
    left = f" ({', '.join(others)} not read)" if others else ""
    return Chosen(actual, None, (no_labels(f"{table.origin} has no column {label!r}{left}"),))


def no_labels(fact: str) -> str:
    """What follows where DATA holds no labels."""
    return (
        f"{fact}: without labels the metric is agreement with the reference, which tells whether"
        " the bundle answers as PyTorch does, not whether that is right."
    )


def labels_not_mapped(fact: str, name: str, like: str) -> ConfigError:
    """What to say of labels that stand under another name."""
    return ConfigError(
        f"{fact}, and {like!r} looks like labels: without them --max-drop would be a budget of"
        " agreement with the reference.",
        hint=f"Map it with --columns {name}={like}, or choose agreement with --metric.",
    )


def _like_labels(table: Table, column: str, task: TaskColumns, labels: Labels) -> bool:
    """Whether a column is called, or filled, as one of labels would be."""
    if names_label(column, task.label or ""):
        return True
    if task.label != "label" or labels.model is None or len(labels.model) < 2:
        # Any number may be a score: only classes are known by their names.
        return False
    named = replace(labels, data=table.names.get(column))
    values = [row.get(column) for row in islice(table.rows([column]), _GLANCE)]
    try:
        found = {task.read_label(value, named) for value in values if value not in (None, "")}
    except ConfigError:
        return False
    return len(found) > 1


def table_rows(
    table: Table, task: TaskColumns, chosen: Chosen, labels: Labels
) -> Iterator[TableRow]:
    """Inputs, label and kind of problem, row by row.

    Raises ConfigError naming the row that holds something else than it should.
    """
    label = chosen.label
    named = replace(labels, data=table.names.get(label)) if label else labels
    for number, row in enumerate(table.rows(chosen.names), start=1):
        try:
            inputs = read_inputs(row, chosen.inputs)
            made: Label | None = None
            if label is not None:
                value = _given(row, label, task, named)
                if named.problem is None and task.label == "label":
                    named = replace(named, problem=problem_of(value, named))
                made = task.read_label(value, named)
        except ConfigError as error:
            raise ConfigError(
                f"{table.origin}, row {number}: {error.message}", hint=error.hint
            ) from error
        except RecursionError as error:
            raise ConfigError(
                f"{table.origin}, row {number} holds lists in lists that nobody can read.",
                hint="Check how it was written.",
            ) from error
        yield inputs, made, named.problem


def _given(row: Mapping[str, object], column: str, task: TaskColumns, labels: Labels) -> object:
    """The cell of a label. Raises ConfigError for one without a value.

    An empty text is a value where it means something: no class of several, no answer.
    """
    value = row.get(column)
    means_none = labels.problem == "multi_label_classification" or task.label == "answers"
    if value is None or (value == "" and not means_none):
        fact = "is empty" if column in row else "is not there"
        raise ConfigError(
            f"{column} {fact}.", hint="Drop the row, or leave the column out altogether."
        )
    return value


def check_table(table: Table, columns: Sequence[str]) -> None:
    """Raise ConfigError for a table without a row, or whose first one cannot be read."""
    if next(table.rows(list(columns)), None) is None:
        raise ConfigError(f"{table.origin} has no rows.", hint="Check how it was written.")
