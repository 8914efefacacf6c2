"""What compilers take and give: the protocol and its records."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from edgekit.core.bundle import Bundle
from edgekit.core.manifest import Component, Requires
from edgekit.core.profiles import Profile
from edgekit.core.versions import version_key


@dataclass(frozen=True)
class CompiledComponent:
    """One component, written for a target, and what the new manifest says of it.

    ``files`` maps each file that was written below the output folder to its role; ``options`` is
    the manifest's ``runtime.options``; ``precision`` is what the weights are stored in (the coarser
    of it and of what the engine computes in decides the tolerance); ``facts``, which hold it too,
    go into the step's facts; ``notes`` are sentences for a person.
    """

    component: Component
    files: Mapping[str, str]
    options: Mapping[str, object]
    requires: Requires
    precision: str
    facts: Mapping[str, object] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Candidate:
    """Session options to be measured.

    The first of a list is preferred: another one takes its place only when it is resolved faster by
    at least the factor ``least_gain``. One that is not ``eligible`` is measured for the record.
    ``then`` are alternatives that are measured against the candidate where it was chosen: what
    follows from a choice is tried for the chosen one alone.
    """

    name: str
    options: Mapping[str, object]
    least_gain: float = 1.0
    eligible: bool = True
    then: tuple[Candidate, ...] = ()


@dataclass(frozen=True)
class Choice:
    """The chosen options, and the manifest's ``runtime.chosen_by``."""

    options: Mapping[str, object]
    chosen_by: Mapping[str, object]


class Compiler(Protocol):
    """A module of this package, or of a third party's entry point in ``edgekit.compilers``."""

    def check(self, source: Bundle, profile: Profile, static: Mapping[str, int]) -> None:
        """Refuse what cannot be compiled, before anything is written.

        Raises:
            ConfigError: a static dimension that the model does not have, a wrong option.
            CompileError: the bundle was made for another engine, target or opset.
        """
        ...

    def compile_component(
        self,
        source: Bundle,
        name: str,
        profile: Profile,
        directory: Path,
        *,
        static: Mapping[str, int],
    ) -> CompiledComponent:
        """Write the component `name` of `source` below `directory` for the profile's device.

        ``static`` holds the sizes given by the user; the profile's own come on top where the model
        has such a dimension. Raises what `check` raises, MissingDependency, and CompileError when
        the engine refuses the graph or the disk is full.
        """
        ...

    def candidates(
        self, profile: Profile, options: Mapping[str, object], threads: int
    ) -> tuple[Candidate, ...]:
        """The options worth measuring on the profile's device, the preferred ones first.

        ``options`` are those of the compiled component, ``threads`` what a session will use.
        """
        ...

    def check_artifact(self, directory: Path, component: Component) -> Mapping[str, object]:
        """What can be told of an artifact whose device is not here, for the step's facts.

        Raises CompileError when its structure is wrong.
        """
        ...


def combine_requires(parts: Mapping[str, CompiledComponent]) -> Requires:
    """What a device must have to open all components of one bundle, all made for one target."""
    all_requires = [part.requires for part in parts.values()]
    first = all_requires[0]
    versions = [found.engine_min_version for found in all_requires if found.engine_min_version]
    return Requires(
        engine=first.engine,
        engine_min_version=max(versions, key=version_key, default=None),
        arch=next((found.arch for found in all_requires if found.arch), None),
        cpu_features=_union(found.cpu_features for found in all_requires),
        extras=_union(found.extras for found in all_requires),
    )


def _union(groups: Iterable[Iterable[str]]) -> tuple[str, ...]:
    return tuple(sorted({item for group in groups for item in group}))
