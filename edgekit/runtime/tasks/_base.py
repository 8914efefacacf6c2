"""What every text task has in common: rows of outputs in, one answer per text out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from edgekit.core.errors import BundleCorrupt, BundleVersion, ConfigError, InputMismatch
from edgekit.core.manifest import TensorSpec
from edgekit.runtime.session import Array
from edgekit.runtime.text import Encoding, Text, TextProcessor

Options = Mapping[str, object]
Answer = dict[str, object]


@dataclass(frozen=True, slots=True)
class Row:
    """One row of a batch: its encoding, and of each output that the task reads, what belongs to it.

    Outputs with one entry per token have as many as the encoding: padding is already cut off.
    """

    encoding: Encoding
    outputs: tuple[Array, ...]


@dataclass(frozen=True)
class Context:
    """What a task is made from."""

    post: Mapping[str, object]
    labels: tuple[str, ...] | None
    outputs: tuple[TensorSpec, ...]
    processor: TextProcessor


class Reads(Protocol):
    """What a bundle says of a task's outputs."""

    @property
    def post(self) -> Mapping[str, object]:
        """How they are read."""

    @property
    def labels(self) -> tuple[str, ...] | None:
        """The names of the classes."""

    @property
    def outputs(self) -> tuple[TensorSpec, ...]:
        """What the graph gives."""


class TextTask(Protocol):
    """Post-processing of one task; holds parameters only, so it serves many threads."""

    outputs: tuple[str, ...]
    per_token: bool
    options: frozenset[str]

    def read(self, item: object) -> Text:
        """The text, or pair of texts, of one input. Raises InputMismatch."""
        ...

    def answer(self, text: Text, rows: Sequence[Row], options: Options) -> object:
        """The answer to one text from its rows (several where it was read in windows)."""
        ...

    def alone(self, answer: object, item: object) -> object:
        """The form in which the answer to a single input is given, as transformers does."""
        ...


def check_keys(post: Mapping[str, object], *known: str) -> None:
    """Refuse a key of ``processor.post`` that may change answers. Raises BundleVersion."""
    for key in sorted(post):
        if key != "kind" and key not in known:
            raise BundleVersion(
                f"processor.post has the key {key!r}, which this edgekit does not know for"
                f" {post.get('kind')}; it knows {', '.join(known) or 'none'}.",
                hint="Upgrade edgekit on this device: pip install --upgrade edgekit-ml",
            )


def pick_outputs(context: Reads, *names: str) -> tuple[str, ...]:
    """The outputs to read: those of the given names, else the first ones of the graph.

    Imported graphs name their outputs as they like. Raises BundleCorrupt when there are too few.
    """
    held = [spec.name for spec in context.outputs]
    if all(name in held for name in names):
        return names
    if len(held) < len(names):
        raise BundleCorrupt(
            f"{context.post.get('kind')} reads {len(names)} outputs ({', '.join(names)}); the"
            f" graph has {len(held)} ({', '.join(held)})."
        )
    return tuple(held[: len(names)])


def labels_of(context: Reads, output: str) -> tuple[str, ...]:
    """The label of each class; transformers' LABEL_0… where the bundle has none.

    Raises BundleCorrupt when their number is not the graph's.
    """
    shape = next(spec.shape for spec in context.outputs if spec.name == output)
    classes = shape[-1] if shape else None
    if context.labels is None:
        count = classes if isinstance(classes, int) else 0
        return tuple(f"LABEL_{index}" for index in range(count))
    if isinstance(classes, int) and classes != len(context.labels):
        raise BundleCorrupt(
            f"The bundle has {len(context.labels)} labels for {classes} classes of {output}."
        )
    return context.labels


def label(labels: tuple[str, ...], index: int) -> str:
    """The name of a class."""
    return labels[index] if index < len(labels) else f"LABEL_{index}"


def read_text(item: object, *, pairs: bool, task: str) -> Text:
    """A str, or where `pairs` are allowed (str, str) or {"text", "text_pair"}."""
    if isinstance(item, str):
        return item
    if pairs and isinstance(item, tuple) and len(item) == 2:
        first, second = item
        if isinstance(first, str) and isinstance(second, str):
            return (first, second)
    if pairs and isinstance(item, Mapping) and set(item) == {"text", "text_pair"}:
        return read_text((item["text"], item["text_pair"]), pairs=True, task=task)
    forms = "a str or a pair (str, str)" if pairs else "a str"
    raise InputMismatch(
        f"{task} takes {forms}, or a list of them, got {kind_of(item)}.",
        hint=_remedy(item, "Write a pair as a tuple: ('…', '…')." if pairs else None),
    )


def _remedy(item: object, pair: str | None) -> str:
    """What to give instead of something that is no text, by what its giver may have meant."""
    if isinstance(item, np.ndarray) and item.dtype.kind in "UO":
        return "Give a list of str: array.tolist()."
    if isinstance(item, Mapping) and any(isinstance(value, str) for value in item.values()):
        return pair or "Give texts."
    if isinstance(item, Mapping | np.ndarray):
        return "Raw tensors go through model.run({name: array, …})."
    if isinstance(item, bytes):
        return "Decode it: data.decode('utf-8')."
    if not isinstance(item, list | tuple) or not item:
        return "Give texts."
    if not all(isinstance(part, str) for part in item):
        return "Give texts: a str, or one flat list of str."
    return pair if pair and len(item) == 2 else "Give several texts as one flat list."


def kind_of(item: object) -> str:
    """What something is that is no text, short enough for a message."""
    if isinstance(item, tuple | list):
        inside = ", ".join(type(part).__name__ for part in item[:3])
        return f"{type(item).__name__} of {len(item)} ({inside})"
    if isinstance(item, Mapping):
        return f"dict with {', '.join(map(str, list(item)[:4]))}"
    return type(item).__name__


def softmax(logits: Array) -> NDArray[np.float32]:
    """Softmax over the last axis, in float32."""
    values = np.asarray(logits, dtype=np.float32)
    powers = np.exp(values - values.max(axis=-1, keepdims=True))
    return np.asarray(powers / powers.sum(axis=-1, keepdims=True))


def count_option(options: Mapping[str, object], key: str, default: int) -> int:
    """A number of at least 1 among options or parameters. Raises ConfigError."""
    found = options.get(key, default)
    if isinstance(found, bool) or not isinstance(found, int) or found < 1:
        raise ConfigError(f"{key} is a whole number of at least 1, got {found!r}.")
    return found


def choice_option(
    options: Mapping[str, object], key: str, choices: Sequence[str], default: str
) -> str:
    """One of some words among options. Raises ConfigError."""
    found = options.get(key, default)
    if found not in choices:
        raise ConfigError(f"{key} is one of {', '.join(choices)}, got {found!r}.")
    return str(found)


def flag_option(options: Mapping[str, object], key: str, default: bool) -> bool:
    """True or False among options. Raises ConfigError."""
    found = options.get(key, default)
    if not isinstance(found, bool):
        raise ConfigError(f"{key} is True or False, got {found!r}.")
    return found
