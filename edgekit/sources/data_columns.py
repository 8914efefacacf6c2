"""What each task reads from a row: its inputs, and its label as a number the metrics can use."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from edgekit.core.errors import ConfigError
from edgekit.core.profiles import nearest
from edgekit.sources.data_boxes import OBJECTS, Boxes, boxes_label
from edgekit.sources.data_files import Row
from edgekit.sources.data_spool import Stored

Value = str | tuple[str, ...] | Path | Stored
Label = (
    int
    | float
    | str
    | tuple[int, ...]
    | tuple[float, ...]
    | tuple[str, ...]
    | Path
    | Stored
    | Boxes
)
# The words of transformers' `config.problem_type`.
Problem = Literal["single_label_classification", "multi_label_classification", "regression"]

# A tag of this number is not counted (transformers and torch use it the same way).
IGNORED_TAG = -100
_LONGEST_SHOWN = 80
# What columns of labels are called in the data sets that people have.
LABEL_NAMES = frozenset(
    {
        "answer", "answers", "category", "class", "classes", "gold", "intent", "label", "labels",
        "ner_tags", "output", "polarity", "pos_tags", "rating", "score", "sentiment", "similarity",
        "stars", "tag", "tags", "target", "topic", "transcript", "transcription",
        "truth", "y",
    }
)  # fmt: skip
# What is the input of other tasks, and what was said in the data sets of speech.
_SAID = frozenset({"sentence", "text"})


@dataclass(frozen=True)
class TaskColumns:
    """The columns of one task: required and optional inputs, the label, and how to read it."""

    inputs: tuple[str, ...]
    optional: tuple[str, ...]
    label: str | None
    read_label: Callable[[object, Labels], Label]

    @property
    def known(self) -> tuple[str, ...]:
        """All column names that the task knows, inputs first."""
        return (*self.inputs, *self.optional, *((self.label,) if self.label else ()))


@dataclass(frozen=True)
class Labels:
    """What is known of the labels: the model's names, the data set's own, and the problem."""

    model: tuple[str, ...] | None
    data: tuple[str, ...] | None
    problem: Problem | None

    def index(self, value: object) -> int:
        """The model's class for a name or number in the data.

        A name wins over a number: five stars called "1"…"5" are not the classes 1…5.
        Raises ConfigError naming the model's labels.
        """
        number = _whole(value)
        text = str(number) if number is not None else str(value).strip()
        if number is not None and self.data is not None and 0 <= number < len(self.data):
            named = self.data[number]
            if self.model is not None and named in self.model:
                return self.model.index(named)
        if self.model is not None:
            if text in self.model:
                return self.model.index(text)
            folded = [name.casefold() for name in self.model]
            if folded.count(text.casefold()) == 1:
                return folded.index(text.casefold())
        if number is not None and number >= 0 and (self.model is None or number < len(self.model)):
            return number
        if self.model is None:
            raise ConfigError(
                f"The label {_shown(text)} is not a number and the model names no labels.",
                hint="Write labels as the model's class numbers, 0, 1, …",
            )
        raise ConfigError(
            f"The label {_shown(text)} is unknown to the model; its labels are"
            f" {', '.join(self.model)}.",
            hint=f"{nearest(text, self.model)} Class numbers 0…{len(self.model) - 1} work too.",
        )


def problem_of(value: object, labels: Labels) -> Problem:
    """The kind of classification, from what the model says and else from its first label."""
    if labels.problem is not None:
        return labels.problem
    if labels.model is not None and len(labels.model) == 1:
        return "regression"
    if isinstance(_parsed(value), list):
        return "multi_label_classification"
    if labels.model is None and isinstance(value, float) and not value.is_integer():
        return "regression"
    return "single_label_classification"


def class_label(value: object, labels: Labels) -> Label:
    """A class number, the numbers of all classes that hold, or a regression's value."""
    problem = problem_of(value, labels)
    if problem == "regression":
        return number_label(value, labels)
    if problem == "multi_label_classification":
        parsed = _parsed(value)
        if isinstance(parsed, str):
            parsed = [part for part in parsed.split(",") if part.strip()]
        if not isinstance(parsed, list):
            raise ConfigError(
                f"The label {_shown(value)} is not a list, as a multi-label model needs.",
                hint='Write ["first", "second"], or [] for none.',
            )
        return tuple(sorted({labels.index(item) for item in parsed}))
    return labels.index(value)


def number_label(value: object, _: Labels) -> float:
    """A finite number. Raises ConfigError for anything else."""
    try:
        number = float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError, OverflowError):
        number = math.nan
    if isinstance(value, bool) or not math.isfinite(number):
        raise ConfigError(
            f"The label {_shown(value)} is not a number, which this model predicts.",
            hint="Name the right column with --columns, or drop the row.",
        )
    return number


def tag_labels(value: object, labels: Labels) -> tuple[int, ...]:
    """One class number per token; IGNORED_TAG stays what it is."""
    return tuple(
        IGNORED_TAG if _whole(word) == IGNORED_TAG else labels.index(word) for word in words(value)
    )


def answers_label(value: object, _: Labels) -> tuple[str, ...]:
    """The accepted answers, (“”,) for a question that has none.

    A text, a list of texts, or SQuAD's {"text": […], "answer_start": […]}.
    """
    parsed = _parsed(value)
    if isinstance(parsed, Mapping):
        parsed = parsed.get("text")
    if isinstance(parsed, str):
        parsed = [parsed]
    if not isinstance(parsed, Sequence) or not all(isinstance(item, str) for item in parsed):
        raise ConfigError(
            f"The answers {_shown(value)} are neither a text nor a list of texts.",
            hint='Write "answer", ["one", "another"] or SQuAD\'s {"text": […]}.',
        )
    return tuple(parsed) or ("",)


def no_label(value: object, _: Labels) -> Label:
    """Raises ConfigError: the task is judged without labels."""
    raise ConfigError(f"This task reads no labels, got {_shown(value)}.")


def text_label(value: object, _: Labels) -> str:
    """What was said. Raises ConfigError for anything but a text."""
    if not isinstance(value, str):
        raise ConfigError(f"A transcription is a text, got {_shown(value)}.")
    return value


def target_label(value: object, _: Labels) -> str | tuple[str, ...]:
    """What a text should become, or several such texts. Raises ConfigError for anything else."""
    several = _parsed(value)
    if isinstance(several, list) and several and all(isinstance(one, str) for one in several):
        return tuple(several)
    if isinstance(value, str):
        return value
    raise ConfigError(f"A target is a text or a list of texts, got {_shown(value)}.")


def mask_label(value: object, _: Labels) -> Path | Stored:
    """The file of a mask, which is read where it is compared."""
    assert isinstance(value, Path | Stored)
    return value


TASK_COLUMNS: Mapping[str, TaskColumns] = {
    "text-classification": TaskColumns(("text",), ("text_pair",), "label", class_label),
    "token-classification": TaskColumns(("tokens",), (), "tags", tag_labels),
    "question-answering": TaskColumns(("question", "context"), (), "answers", answers_label),
    "feature-extraction": TaskColumns(("text",), ("text_pair",), "score", number_label),
    "fill-mask": TaskColumns(("text",), (), None, no_label),
    "image-classification": TaskColumns(("image",), (), "label", class_label),
    "image-segmentation": TaskColumns(("image",), (), "mask", mask_label),
    "object-detection": TaskColumns(("image",), (), OBJECTS, boxes_label),
    "audio-classification": TaskColumns(("audio",), (), "label", class_label),
    "automatic-speech-recognition": TaskColumns(("audio",), (), "transcription", text_label),
    "text-generation": TaskColumns(("text",), (), None, no_label),
    "text2text-generation": TaskColumns(("source",), (), "target", target_label),
}
# Of a model of pictures whose answers are compared with the original's alone.
ONLY_PICTURES = TaskColumns(("image",), (), None, no_label)


def read_inputs(row: Row, actual: Mapping[str, str]) -> dict[str, Value]:
    """The canonical inputs of a row; `actual` maps the task's column names to the table's."""
    found: dict[str, Value] = {}
    for name, column in actual.items():
        if column not in row and name != "text_pair":
            present = ", ".join(row) or "nothing"
            raise ConfigError(
                f"it has no {column!r}, only {present}.", hint="Give every row the same names."
            )
        value = row.get(column)
        if name == "tokens":
            found[name] = words(value)
        elif isinstance(value, str | Path | Stored):
            found[name] = value
        elif value is None and name == "text_pair":
            continue
        else:
            raise ConfigError(f"{column} should be a text, got {_shown(value)}.")
    return found


def names_label(column: str, label: str) -> bool:
    """Whether a column is called as one of a task's labels would be; `label` is the task's own."""
    name = column.strip().casefold()
    return name in LABEL_NAMES or (label == "transcription" and name in _SAID)


def words(value: object) -> tuple[str, ...]:
    """A list of words: a list, its JSON, or words between blanks."""
    parsed = _parsed(value)
    if isinstance(parsed, str):
        parsed = parsed.split()
    if not isinstance(parsed, Sequence):
        raise ConfigError(
            f"A list of words was expected, got {_shown(value)}.",
            hint='Write ["one", "two"], or words between blanks.',
        )
    return tuple(str(item) for item in parsed)


def _parsed(value: object) -> object:
    """A cell that holds a JSON list or object as that value; everything else as it is."""
    if isinstance(value, str) and value.lstrip()[:1] in ("[", "{"):
        try:
            return json.loads(value)
        # Also for numbers of thousands of digits and for lists nested as deep.
        except (ValueError, RecursionError):
            return value
    return list(value) if isinstance(value, tuple) else value


def _shown(value: object) -> str:
    """A cell for a message, which nobody wants to scroll through."""
    try:
        text = value if isinstance(value, str) else repr(value)
    except (ValueError, RecursionError):
        return f"a {type(value).__name__} too long to show"
    short = text if len(text) <= _LONGEST_SHOWN else f"{text[:_LONGEST_SHOWN]}…"
    return repr(short) if isinstance(value, str) else short


def _whole(value: object) -> int | None:
    """The integer that a number or its text means."""
    if isinstance(value, bool):
        return int(value)
    if isinstance(value, int):
        return value
    if isinstance(value, float):
        return int(value) if value.is_integer() else None
    if isinstance(value, str):
        try:
            return int(value.strip())
        except ValueError:
            return None
    return None
