"""Several components of a bundle as one session: towers, or an encoder and its decoder."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from edgekit.core.manifest import TensorSpec
from edgekit.runtime.golden import coarsest
from edgekit.runtime.session import Array, Fact, Session


class JoinedSession:
    """The sessions of several components as one, with names like ``image.pixel_values``."""

    def __init__(self, parts: Mapping[str, Session]) -> None:
        self.parts = dict(parts)
        first = next(iter(self.parts.values()))
        self.engine = first.engine
        self.device = first.device
        self.inputs = prefixed({name: part.inputs for name, part in self.parts.items()})
        self.outputs = prefixed({name: part.outputs for name, part in self.parts.items()})

    def run(self, feeds: Mapping[str, Array]) -> dict[str, Array]:
        """The outputs of every component, by component and name. Raises SessionError."""
        found: dict[str, Array] = {}
        for name, part in self.parts.items():
            own = {spec.name: feeds[f"{name}.{spec.name}"] for spec in part.inputs}
            found |= {f"{name}.{key}": array for key, array in part.run(own).items()}
        return found

    def facts(self) -> dict[str, Fact]:
        """What the first says, with the coarsest precision of all."""
        said = [part.facts() for part in self.parts.values()]
        return {
            **said[0],
            "precision": coarsest(*(str(facts.get("precision", "fp32")) for facts in said)),
        }

    def close(self) -> None:
        """See `edgekit.runtime.session.Session.close`."""
        for part in self.parts.values():
            part.close()


def of_part(arrays: Mapping[str, Array], part: str) -> dict[str, Array]:
    """Those of some arrays that belong to a component, by the names that its graph has."""
    start = f"{part}."
    return {
        name.removeprefix(start): array for name, array in arrays.items() if name.startswith(start)
    }


def parts_of(session: Session) -> Mapping[str, Session] | None:
    """The sessions that were joined, seen through whatever is wrapped around them."""
    found: Mapping[str, Session] | None = getattr(session, "parts", None)
    return found


def prefixed(specs: Mapping[str, tuple[TensorSpec, ...]]) -> tuple[TensorSpec, ...]:
    """The specs of all components, with their names and symbols told apart.

    Components need not be fed alike: the batch of the one is not that of the other.
    """
    return tuple(
        replace(
            spec,
            name=f"{name}.{spec.name}",
            shape=tuple(f"{name}.{size}" if isinstance(size, str) else size for size in spec.shape),
        )
        for name, part in specs.items()
        for spec in part
    )
