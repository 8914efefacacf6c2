"""The samples on which two models differ most, in words that a person can read."""

from __future__ import annotations

import heapq
import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import cast

import numpy as np

from edgekit.core.measurements import WorstSample
from edgekit.evaluation.metrics import IGNORED, Prediction, cosine
from edgekit.evaluation.metrics.table import CLASSIFIED
from edgekit.evaluation.pairs import Pairs
from edgekit.sources.data import Samples
from edgekit.sources.data_boxes import Boxes
from edgekit.sources.data_roles import Inputs
from edgekit.sources.data_spool import Spool

# More of a list (tags, tokens, numbers) is no help to the eye.
_SHOWN = 8
# The score above which a detector tells of a box.
_SURE = 0.5


@dataclass(frozen=True)
class _Kind:
    """What is decided by a prediction, and how the two sides of a sample are written.

    ``decide`` gives None where nothing is decided: numbers and vectors only lie apart.
    """

    decide: Callable[[Prediction], object]
    show: Callable[[_Words, Inputs, Prediction, Prediction], tuple[str, str]]


@dataclass(frozen=True)
class _Words:
    """What turns numbers into words."""

    labels: Sequence[str]
    decode: Callable[[Sequence[int]], str] | None

    def label(self, number: int) -> str:
        """The name of a class, else its number."""
        return self.labels[number] if 0 <= number < len(self.labels) else str(number)


def worst_samples(
    samples: Samples,
    pairs: Pairs,
    problem: str | None,
    *,
    labels: Sequence[str],
    metric: str,
    count: int,
) -> tuple[WorstSample, ...]:
    """At most `count` samples that differ: other decisions first, then by the distance.

    An output with NaN is the worst of all. Nothing is kept but `count` candidates.
    """
    kind = _KINDS[_kind_of(samples.task, problem, metric)]
    words = _Words(labels, pairs.decode)
    order = (
        (
            kind.decide(pairs.reference[index]) != kind.decide(pairs.candidate[index]),
            math.inf if math.isnan(pairs.gaps[index]) else pairs.gaps[index],
            -index,
        )
        for index in range(len(samples))
    )
    differing = (item for item in order if item[0] or item[1] > 0)
    found: list[WorstSample] = []
    for changed, _, place in heapq.nlargest(count, differing):
        index = -place
        inputs = samples.inputs[index]
        before, after = (
            pairs.told[index]
            if pairs.told
            else kind.show(words, inputs, pairs.reference[index], pairs.candidate[index])
        )
        found.append(
            WorstSample(
                row=samples.rows[index] if samples.rows else index + 1,
                input=_shown_inputs(inputs, samples.spool),
                label=_shown_label(samples, index, words, pairs),
                reference=before,
                candidate=after,
                distance=pairs.gaps[index],
                changed=changed,
            )
        )
    return tuple(found)


def _kind_of(task: str, problem: str | None, metric: str) -> str:
    if metric == "perplexity":
        return "likelihood"
    if task in CLASSIFIED:
        if problem == "multi_label_classification":
            return "classes"
        single = problem == "single_label_classification" or metric == "agreement"
        return "class" if single else "numbers"
    return {
        "token-classification": "tags",
        "question-answering": "answer",
        "automatic-speech-recognition": "answer",
        "text-generation": "likelihood",
        "text2text-generation": "answer",
        "fill-mask": "tokens",
        "object-detection": "boxes",
        "image-segmentation": "masks",
    }.get(task, "numbers")


def _class(prediction: Prediction) -> object:
    return int(np.argmax(np.asarray(prediction)))


def _classes(prediction: Prediction) -> object:
    return tuple(np.flatnonzero(np.asarray(prediction, dtype=np.float64) > 0).tolist())


def _tuple(prediction: Prediction) -> object:
    return tuple(np.ravel(np.asarray(prediction)).tolist())


def _nothing(prediction: Prediction) -> object:
    return None


def _show_class(
    words: _Words, inputs: Inputs, before: Prediction, after: Prediction
) -> tuple[str, str]:
    return _with_share(words, before), _with_share(words, after)


def _with_share(words: _Words, logits: Prediction) -> str:
    scores = np.ravel(np.asarray(logits, dtype=np.float64))
    if not np.isfinite(scores).all():
        return "no finite numbers"
    chosen = int(scores.argmax())
    shares = np.exp(scores - scores.max())
    return f"{words.label(chosen)} {shares[chosen] / shares.sum():.3f}"


def _show_classes(
    words: _Words, inputs: Inputs, before: Prediction, after: Prediction
) -> tuple[str, str]:
    def told(prediction: Prediction) -> str:
        chosen = np.flatnonzero(np.asarray(prediction, dtype=np.float64) > 0)
        return ", ".join(words.label(int(one)) for one in chosen) or "none"

    return told(before), told(after)


def _show_tags(
    words: _Words, inputs: Inputs, before: Prediction, after: Prediction
) -> tuple[str, str]:
    """The words that are tagged differently, with their tags."""
    tokens = [str(token) for token in cast("tuple[str, ...]", inputs.get("tokens", ()))]
    first, second = np.ravel(np.asarray(before)), np.ravel(np.asarray(after))

    def told(tags: Sequence[int]) -> str:
        pairs = [
            f"{tokens[place]} {words.label(tags[place]) if tags[place] != IGNORED else '(cut off)'}"
            for place in _differing(first, second)
        ]
        return ", ".join(pairs) or "the same tags"

    return told(first.tolist()), told(second.tolist())


def _show_tokens(
    words: _Words, inputs: Inputs, before: Prediction, after: Prediction
) -> tuple[str, str]:
    """The tokens that were found where the two differ."""
    first, second = np.ravel(np.asarray(before)), np.ravel(np.asarray(after))
    if len(first) != len(second):
        return f"{len(first)} tokens", f"{len(second)} tokens"
    places = _differing(first, second)

    def told(tokens: Sequence[int]) -> str:
        chosen = [int(tokens[place]) for place in places]
        if not chosen:
            return "the same tokens"
        return words.decode(chosen) if words.decode is not None else str(chosen)

    return told(first.tolist()), told(second.tolist())


def _differing(first: np.ndarray, second: np.ndarray) -> list[int]:
    both = min(len(first), len(second))
    places: list[int] = np.flatnonzero(first[:both] != second[:both])[:_SHOWN].tolist()
    return places


def _show_answer(
    words: _Words, inputs: Inputs, before: Prediction, after: Prediction
) -> tuple[str, str]:
    return str(before) or "no answer", str(after) or "no answer"


def _show_numbers(
    words: _Words, inputs: Inputs, before: Prediction, after: Prediction
) -> tuple[str, str]:
    first, second = np.ravel(np.asarray(before)), np.ravel(np.asarray(after))
    if len(first) <= _SHOWN:
        return _numbers(first), _numbers(second)
    alike = cosine(first, second) if first.shape == second.shape else math.nan
    return f"{len(first)} numbers", f"{len(second)} numbers, cosine {alike:.6f}"


def _sure(prediction: Prediction) -> np.ndarray:
    """The boxes that a detector would tell of, the surest first; of none the surest one."""
    boxes = np.asarray(prediction, dtype=np.float64).reshape(-1, 6)
    boxes = boxes[np.argsort(-boxes[:, 0], kind="stable")]
    return boxes[: max(1, int(np.count_nonzero(boxes[:, 0] > _SURE)))]


def _kinds_of_boxes(prediction: Prediction) -> object:
    return tuple(sorted(_sure(prediction)[:, 1].tolist()))


def _show_boxes(
    words: _Words, inputs: Inputs, before: Prediction, after: Prediction
) -> tuple[str, str]:
    def told(prediction: Prediction) -> str:
        boxes = _sure(prediction)
        more = f" and {len(boxes) - _SHOWN} more" if len(boxes) > _SHOWN else ""
        some = [
            f"{words.label(int(one[1]))} {one[0]:.3f} at {_numbers(np.round(one[2:], 1))}"
            for one in boxes[:_SHOWN]
            if np.isfinite(one).all()
        ]
        return (", ".join(some) or "no finite numbers") + more

    return told(before), told(after)


def _show_likelihood(
    words: _Words, inputs: Inputs, before: Prediction, after: Prediction
) -> tuple[str, str]:
    def told(prediction: Prediction) -> str:
        found = np.ravel(np.asarray(prediction, dtype=np.float64))
        if len(found) < 2:
            return f"log-likelihood {found[0]:.4f}"
        if not found[1]:
            return "nothing to foretell"
        with np.errstate(over="ignore"):
            value = np.exp(-found[0] / found[1])
        return f"perplexity {value:.4f}, {int(found[1])} tokens"

    return told(before), told(after)


def _numbers(values: np.ndarray) -> str:
    return " ".join(f"{value:.6g}" for value in values.tolist())


_KINDS: Mapping[str, _Kind] = {
    "class": _Kind(_class, _show_class),
    "classes": _Kind(_classes, _show_classes),
    "tags": _Kind(_tuple, _show_tags),
    "tokens": _Kind(_tuple, _show_tokens),
    "answer": _Kind(str, _show_answer),
    "numbers": _Kind(_nothing, _show_numbers),
    "likelihood": _Kind(_nothing, _show_likelihood),
    "boxes": _Kind(_kinds_of_boxes, _show_boxes),
    "masks": _Kind(_nothing, _show_numbers),
}


def _shown_inputs(inputs: Inputs, spool: Spool | None) -> str:
    """The texts of a sample, or what its arrays are; of a picture in a table what it is called."""
    if len(inputs) == 1 and (text := inputs.get("text", inputs.get("source"))) is not None:
        return str(text)
    parts = []
    for name, value in inputs.items():
        if isinstance(value, np.ndarray):
            some = _numbers(np.ravel(value)[:_SHOWN])
            more = " …" if value.size > _SHOWN else ""
            parts.append(f"{name}: {value.dtype}{list(value.shape)} {some}{more}")
        elif isinstance(value, tuple):
            parts.append(" ".join(value))
        else:
            stored = None if spool is None else spool.told(value)
            parts.append(f"{name}: {value if stored is None else stored}")
    return "\n".join(parts)


def _shown_label(samples: Samples, index: int, words: _Words, pairs: Pairs) -> str | None:
    if samples.labels is None:
        return None
    label = samples.labels[index]
    if samples.task == "token-classification":
        first, second = (
            np.ravel(np.asarray(side[index])) for side in (pairs.reference, pairs.candidate)
        )
        tags = [int(tag) for tag in np.ravel(np.asarray(label))]
        told = [
            words.label(tags[place]) if tags[place] != IGNORED else "(not counted)"
            for place in _differing(first, second)
        ]
        return ", ".join(told)
    if isinstance(label, Boxes):
        counted = Counter(words.label(int(row[0])) for row in label.rows)
        return ", ".join(f"{count} {name}" for name, count in sorted(counted.items())) or "none"
    if isinstance(label, tuple):
        several = samples.problem == "multi_label_classification"
        return ", ".join(words.label(int(one)) if several else str(one) for one in label) or "none"
    if isinstance(label, int) and samples.problem != "regression":
        return words.label(label)
    return f"{label:.6g}" if isinstance(label, float) else str(label)
