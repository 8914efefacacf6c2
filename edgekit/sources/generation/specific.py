"""What a checkpoint says of one task of several: how a text begins, and with which options."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from edgekit.sources.loaded import LoadedSource


def said_of_task(source: LoadedSource) -> dict[str, Any]:
    """What the checkpoint says of the task that was asked for by name.

    The pipelines that answered with summary_text and translation_text put the prefix of it before
    each text and generated with its options; transformers 5 has neither them nor that.
    """
    return task_params(source).get(source.asked or "", {})


def task_params(source: LoadedSource) -> dict[str, dict[str, Any]]:
    """What the checkpoint says of tasks, by their names."""
    model: Any = source.module.model
    said = getattr(model.config, "task_specific_params", None) or {}
    made = {str(task): dict(own) for task, own in said.items() if isinstance(own, dict)}
    for own in made.values():
        if not isinstance(own.get("prefix"), str) or not own["prefix"]:
            own.pop("prefix", None)
    return made


def prefix_of(source: LoadedSource) -> str | None:
    """What stands before each text that the source reads; None where nothing does."""
    model: Any = source.module.model
    return said_of_task(source).get("prefix") or getattr(model.config, "prefix", None) or None


def ids_of(value: int | Sequence[int] | None) -> tuple[int, ...]:
    """Token ids, of which a config names none, one or several."""
    if value is None:
        return ()
    return (value,) if isinstance(value, int) else tuple(int(one) for one in value)


def first_of(*values: Any) -> Any:
    """The first of some values that anybody has set."""
    return next((value for value in values if value is not None), None)
