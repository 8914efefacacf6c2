"""The one shape that every engine's session has."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

from edgekit.core.manifest import Component, TensorSpec

Array: TypeAlias = NDArray[np.generic]
Fact: TypeAlias = str | int | float | bool


def contiguous(array: Array) -> Array:
    """The same numbers in C's order; numpy's own function makes a row of a scalar."""
    return np.asarray(array, order="C")


class Session(Protocol):
    """An opened graph. `run` may be called from many threads at once."""

    engine: str
    device: str
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]

    def run(self, feeds: Mapping[str, Array]) -> dict[str, Array]:
        """The outputs by name. Feeds are not checked here: the engine's words come back.

        Raises SessionError when the engine refuses, or after `close`.
        """
        ...

    def facts(self) -> dict[str, Fact]:
        """What the engine really does: ``version``, ``provider``, ``precision``, ``threads``…"""
        ...

    def close(self) -> None:
        """Free the engine's memory now; calls that are running finish first. Idempotent."""
        ...


class Engine(Protocol):
    """A module of `edgekit.runtime.engines`, or of a third party's entry point.

    The entry-point group is ``edgekit.engines``; the entry's value is such a module.
    ``EXACT_OPTIONS`` make it compute in the precision of the graph, for bundles that were not
    compiled for it and so say nothing of its options.
    """

    FORMATS: tuple[str, ...]
    DEVICES: tuple[str, ...]
    EXACT_OPTIONS: Mapping[str, object]

    def open_session(
        self,
        bundle_dir: Path,
        component: Component,
        *,
        options: Mapping[str, object],
        device: str,
        threads: int | None,
    ) -> Session:
        """An opened component of the bundle in a folder.

        ``options`` are the manifest's ``runtime.options`` without ``device``; ``threads`` None
        means what the options say, else what this process may use. A component that declares no
        outputs is a graph without a manifest: its own names and shapes are taken.

        Raises:
            MissingDependency: the engine's package is not installed.
            EngineUnavailable: the device is not here, or another one was obtained.
            BundleVersion: an option that this engine does not know.
            BundleCorrupt: the graph does not load.
        """
        ...

    def version(self) -> str:
        """The engine's version, importing it. Raises MissingDependency."""
        ...

    def devices(self) -> list[str]:
        """What the engine finds on this machine, in its own words. Raises MissingDependency."""
        ...
