"""The reader of one JSON object of ``edgekit.json``: key by key, each refusal with its place."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TypeVar

from edgekit.core.errors import BundleCorrupt, BundleVersion

T = TypeVar("T")
Json = Mapping[str, object]

REMEDY = "Get the bundle again, or export it again; an edgekit.json is not meant to be edited."
UPGRADE = "Upgrade edgekit on this device: pip install --upgrade edgekit-ml"


class Reader:
    """One JSON object, read key by key, remembering where it stands for its messages."""

    def __init__(self, value: object, where: str) -> None:
        if not isinstance(value, Mapping):
            raise corrupt(where, "an object", value)
        self.value: Json = value
        self.where = where

    def _at(self, key: str) -> str:
        return f"{self.where}.{key}" if self.where else key

    def only(self, *keys: str) -> None:
        """Refuse every other key: here a key that is not understood would change answers."""
        refuse_unknown(self.value, frozenset(keys), self.where)

    def text(self, key: str, *, choices: Sequence[str] | None = None) -> str:
        """A text that is not empty, one of `choices` where there are some."""
        found = self.value.get(key)
        if not isinstance(found, str) or not found:
            raise corrupt(self._at(key), "a text", found)
        if choices is not None and found not in choices:
            raise BundleVersion(
                f"{self._at(key)} is {found!r}, which this edgekit does not know"
                f" ({', '.join(choices)}).",
                hint=UPGRADE,
            )
        return found

    def optional_text(self, key: str) -> str | None:
        """The same, or None for null."""
        return None if self.value.get(key) is None else self.text(key)

    def whole(self, key: str) -> int:
        """A whole number of at least 0."""
        found = self.value.get(key)
        if isinstance(found, bool) or not isinstance(found, int) or found < 0:
            raise corrupt(self._at(key), "a whole number of at least 0", found)
        return found

    def number(self, key: str) -> float:
        """Any number within a double's reach; 0 where there is none."""
        found = self.value.get(key, 0.0)
        if isinstance(found, bool) or not isinstance(found, (int, float)):
            raise corrupt(self._at(key), "a number", found)
        try:
            return float(found)
        except OverflowError as error:
            raise corrupt(self._at(key), "a number within a double's reach", found) from error

    def child(self, key: str) -> Reader:
        """A reader of the object at a key, which has to be there."""
        return Reader(self.value.get(key), self._at(key))

    def mapping(self, key: str) -> Json:
        """The object at a key as it is; empty for null."""
        found = self.value.get(key)
        return {} if found is None else Reader(found, self._at(key)).value

    def optional_mapping(self, key: str) -> Json | None:
        """The same, or None for null."""
        return None if self.value.get(key) is None else self.mapping(key)

    def items(self, key: str, read: Callable[[object, str], T]) -> tuple[T, ...]:
        """What `read` makes of each item of a list."""
        found = self.value.get(key)
        if not isinstance(found, list):
            raise corrupt(self._at(key), "a list", found)
        return tuple(read(item, f"{self._at(key)}[{index}]") for index, item in enumerate(found))


def corrupt(where: str, wanted: str, found: object) -> BundleCorrupt:
    """The refusal of a value: its place, what should stand there, what does."""
    shown = repr(found)
    shown = shown if len(shown) <= 60 else shown[:57] + "..."
    return BundleCorrupt(
        f"edgekit.json: {where or 'the whole'} should be {wanted}, got {shown}.", hint=REMEDY
    )


def refuse_unknown(value: Json, known: frozenset[str], where: str) -> None:
    """Raise BundleVersion for the first key of `value` outside `known`."""
    for key in sorted(value):
        if key not in known:
            raise BundleVersion(
                f"edgekit.json: {where} has the key {key!r}, which this edgekit does not know"
                " and which may change the answers.",
                hint=UPGRADE,
            )


def plain_text(value: object, where: str) -> str:
    """A text, which may be empty. Raises BundleCorrupt for anything else."""
    if not isinstance(value, str):
        raise corrupt(where, "a text", value)
    return value
