"""Models of two towers, one for pictures and one for texts, whose embeddings can be compared."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import PurePath
from typing import Protocol

import numpy as np

from edgekit.core.errors import InputMismatch
from edgekit.core.manifest import TensorSpec
from edgekit.runtime.golden import coarsest
from edgekit.runtime.session import Array, Fact, Session

_FORMS = (
    "A str is a text; give a picture as pathlib.Path, bytes, a Pillow image or an array, or write"
    ' {"image": "cat.jpg"} and {"text": "a cat"}.'
)


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


def parts_of(session: Session) -> Mapping[str, Session] | None:
    """The sessions that were joined, seen through whatever is wrapped around them."""
    found: Mapping[str, Session] | None = getattr(session, "parts", None)
    return found


class Tower(Protocol):
    """Answers the inputs of one kind."""

    def __call__(
        self, inputs: object, *, batch_size: int | None, options: Mapping[str, object]
    ) -> object:
        """See `edgekit.runtime.predictor.Predictor`."""
        ...


class TowerPredictor:
    """Pictures and texts in, embeddings that can be compared out; a list may mix them."""

    def __init__(self, image: Tower, text: Tower) -> None:
        self._towers = {"image": image, "text": text}

    def __call__(
        self, inputs: object, *, batch_size: int | None, options: Mapping[str, object]
    ) -> object:
        """See `edgekit.runtime.predictor.Predictor`."""
        if not isinstance(inputs, list):
            kind, item = _kind_of(inputs)
            return self._towers[kind](item, batch_size=batch_size, options=options)
        sorted_out = [_kind_of(item) for item in inputs]
        answers: list[object] = [None] * len(inputs)
        for kind, tower in self._towers.items():
            places = [place for place, (own, _) in enumerate(sorted_out) if own == kind]
            items = [sorted_out[place][1] for place in places]
            found = tower(items, batch_size=batch_size, options=options) if items else []
            assert isinstance(found, list)
            for place, answer in zip(places, found, strict=True):
                answers[place] = answer
        return answers


def _kind_of(item: object) -> tuple[str, object]:
    """``image`` or ``text``, and what its tower reads. Raises InputMismatch."""
    if isinstance(item, str):
        return "text", item
    if isinstance(item, Mapping):
        if len(item) == 1 and next(iter(item)) in ("image", "text"):
            key, value = next(iter(item.items()))
            return str(key), value
        raise InputMismatch(f"A dict with {', '.join(map(str, item))} is no input.", hint=_FORMS)
    if isinstance(item, bytes | bytearray | memoryview | PurePath | np.ndarray) or hasattr(
        item, "getexif"
    ):
        return "image", item
    raise InputMismatch(f"{type(item).__name__} is neither a picture nor a text.", hint=_FORMS)


def prefixed(specs: Mapping[str, tuple[TensorSpec, ...]]) -> tuple[TensorSpec, ...]:
    """The specs of all components, with their names and symbols told apart.

    Two towers need not be fed alike: the batch of the one is not that of the other.
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
