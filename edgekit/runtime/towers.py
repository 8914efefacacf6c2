"""Models of two towers, one for pictures and one for texts, whose embeddings can be compared."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import PurePath
from typing import Protocol

import numpy as np

from edgekit.core.errors import InputMismatch

_FORMS = (
    "A str is a text; give a picture as pathlib.Path, bytes, a Pillow image or an array, or write"
    ' {"image": "cat.jpg"} and {"text": "a cat"}.'
)


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
