"""The engines by name: two of our own, others through the entry-point group ``edgekit.engines``."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, cast

from edgekit.core.errors import EngineUnavailable
from edgekit.runtime.session import Engine

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint

GROUP = "edgekit.engines"

ENGINES = {
    "onnxruntime": "edgekit.runtime.engines.onnxruntime",
    "openvino": "edgekit.runtime.engines.openvino",
}


def engine_names() -> list[str]:
    """The names of all engines that edgekit knows here, installed or not, sorted."""
    return sorted({*ENGINES, *_entry_points()})


def find_engine(name: str) -> Engine:
    """The engine of a name; its package is not imported yet.

    Raises EngineUnavailable for a name that nobody registered, or an entry that does not import.
    """
    if name in ENGINES:
        return cast(Engine, importlib.import_module(ENGINES[name]))
    others = _entry_points()
    if name not in others:
        raise EngineUnavailable(
            f"There is no engine {name!r}; known are {', '.join(engine_names())}.",
            hint="Install the package that brings it, or load the bundle with another engine.",
        )
    try:
        return cast(Engine, others[name].load())
    except Exception as error:
        raise EngineUnavailable(
            f"The engine {name!r} ({others[name].value}) does not import: {error}.",
            hint="Install or repair the package that brings it.",
        ) from error


def engine_devices(name: str) -> list[str]:
    """What an engine could run on here. Raises MissingDependency, EngineUnavailable."""
    return find_engine(name).devices()


def _entry_points() -> dict[str, EntryPoint]:
    # 20 ms, and only third-party engines need it.
    from importlib.metadata import entry_points

    return {entry.name: entry for entry in entry_points(group=GROUP)}
