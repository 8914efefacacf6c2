"""Metrics of tags, one per token, and of the entities that they spell."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence

import numpy as np

from edgekit.core.errors import ConfigError
from edgekit.evaluation.metrics.kinds import IGNORED, Prediction, Truth
from edgekit.evaluation.statistics import Floats

# IOB and its richer relatives (BIOES, BILOU).
_ENTITY_TAG = re.compile(r"O\Z|[BIESLU](-.+)?\Z")


def tags(predictions: Sequence[Prediction], truths: Sequence[Truth]) -> Floats:
    """How many tags are right, of how many; where the truth is -100 nothing counts.

    Tags that are missing at the end are wrong.
    """
    found = []
    for prediction, truth in zip(predictions, truths, strict=True):
        said, true = np.ravel(np.asarray(prediction)), np.ravel(np.asarray(truth))
        both = min(len(said), len(true))
        counted = true != IGNORED
        right = (said[:both] == true[:both]) & counted[:both]
        found.append((float(right.sum()), float(counted.sum())))
    return np.array(found)


def entities(names: Sequence[str]) -> Callable[[Sequence[Prediction], Sequence[Truth]], Floats]:
    """Rows of hits, false alarms and misses of whole entities, given the names of the tags.

    Raises ConfigError unless the names are those of entity tags: O, B-PER, I-PER…
    """
    strange = [name for name in names if not _ENTITY_TAG.match(name)]
    if strange or not names:
        raise ConfigError(
            f"entity-f1 reads tags like B-PER, I-PER and O; the model has {', '.join(strange[:3])}"
            if strange
            else "entity-f1 reads tags like B-PER, I-PER and O; the model names none.",
            hint="Choose --metric token-accuracy.",
        )

    def rows(predictions: Sequence[Prediction], truths: Sequence[Truth]) -> Floats:
        found = []
        for prediction, truth in zip(predictions, truths, strict=True):
            said, true = np.ravel(np.asarray(prediction)), np.ravel(np.asarray(truth))
            places = np.flatnonzero(true != IGNORED)
            wanted = entity_spans([names[int(true[place])] for place in places])
            answered = entity_spans(
                [
                    # A tag that is missing is no entity.
                    names[int(said[place])] if place < len(said) and said[place] != IGNORED else "O"
                    for place in places
                ]
            )
            hits = len(wanted & answered)
            found.append((hits, len(answered) - hits, len(wanted) - hits))
        return np.array(found, dtype=np.float64)

    return rows


def entity_spans(tags: Sequence[str]) -> set[tuple[str, int, int]]:
    """The entities that tags spell: kind, first token, and the one behind the last.

    As CoNLL's evaluation reads them (E. Tjong Kim Sang, F. De Meulder: Introduction to the
    CoNLL-2003 shared task, 2003), also where the tags break their own rules: an I- without a
    beginning, or of another kind than the tag before it, begins an entity.
    """
    found: set[tuple[str, int, int]] = set()
    start, before, kind = 0, "O", ""
    for place, tag in enumerate([*tags, "O"]):
        mark, _, name = tag.partition("-")
        if mark in "IEL" and before in "BI" and name == kind:
            before = mark
            continue
        if before != "O":
            found.add((kind, start, place))
        start, before, kind = place, mark, name
    return found


def share_influence(before: Floats, after: Floats) -> float:
    """The longest sample, with all of its tags, over the average one."""
    average = float(before[:, 1].mean())
    return float(before[:, 1].max()) / average if average else math.inf
