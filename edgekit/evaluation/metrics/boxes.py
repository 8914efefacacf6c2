"""Mean average precision of boxes, as COCO's evaluation has it, in rows that a bootstrap can draw.

A prediction is ``[queries, 6]``: score, class and corners of everything a model says of a picture;
a truth ``[objects, 6]``: class, corners, and whether it stands for a crowd. What matches what is
found once for each picture, so that a draw of pictures only has to put their answers in order.

T.-Y. Lin et al.: Microsoft COCO: Common Objects in Context (arXiv 1405.0312), and the evaluation
on cocodataset.org: IoU from .50 to .95 in steps of .05, precision at 101 values of recall, 100
detections of a class in a picture, crowds neither found nor missed.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edgekit.core.errors import ConfigError
from edgekit.evaluation.metrics.kinds import Prediction, Truth
from edgekit.evaluation.statistics import Aggregate, Floats

#: The least overlaps of a box that is found with what it finds.
OVERLAPS = np.linspace(0.5, 0.95, 10)
#: Of one class in one picture no more are looked at.
MOST_BOXES = 100
#: Of a model that does not name its classes: every row has a number for each.
MOST_CLASSES = 100_000
_RECALLS = np.linspace(0.0, 1.0, 101)
# Columns of a detection in a row: its class, its score, and what it matches (see `_codes`).
_WIDTH = 3
_NOBODY = -1.0
# Pictures whose loss is computed; those of which least may hang are left out.
_TRIED = 200
# Numbers of one block of draws: bounds the memory whatever the number of boxes.
_BLOCK = 4_000_000


def matches(predictions: Sequence[Prediction], truths: Sequence[Truth]) -> Floats:
    """For each picture the number of classes, its objects of each, and its detections.

    A detection has three columns: its class, its score, and what it matches at which overlaps.

    Two sides of a comparison get rows of the same width where they answer with as many boxes.
    Boxes of a class that no picture has an object of change nothing, and are left out.

    Raises ConfigError where no picture has an object.
    """
    wanted = [np.asarray(truth, dtype=np.float64).reshape(-1, 6) for truth in truths]
    counted = [rows[rows[:, 5] == 0, 0].astype(np.int64) for rows in wanted]
    classes = 1 + max((int(rows.max()) for rows in counted if len(rows)), default=-1)
    if not classes:
        raise no_boxes()
    said = [np.asarray(one, dtype=np.float64).reshape(-1, 6) for one in predictions]
    most = max((len(rows) for rows in said), default=0)
    made = np.zeros((len(said), 1 + classes + _WIDTH * most))
    made[:, 0] = classes
    for row, boxes, objects, own in zip(made, said, wanted, counted, strict=True):
        row[1 : 1 + classes] = np.bincount(own, minlength=classes)
        slots = row[1 + classes :].reshape(most, _WIDTH)
        slots[:, 0] = _NOBODY
        found = _found(boxes, objects, classes)
        slots[: len(found)] = found
    return made


def no_boxes() -> ConfigError:
    """What to say of pictures without any object."""
    return ConfigError(
        "No picture has a box to be found, so there is no average precision.",
        hint="Give annotated pictures, or leave --data out.",
    )


def _found(boxes: Floats, objects: Floats, classes: int) -> Floats:
    """The detections of one picture, class by class and the surest first: class, score, code."""
    usable = np.isfinite(boxes).all(axis=1) & (boxes[:, 1] < classes) & (boxes[:, 1] >= 0)
    boxes = boxes[usable]
    parts: list[Floats] = []
    for number in np.unique(boxes[:, 1]):
        mine = boxes[boxes[:, 1] == number]
        mine = mine[np.argsort(-mine[:, 0], kind="stable")[:MOST_BOXES]]
        theirs = objects[objects[:, 0] == number]
        # A crowd comes last: what could be one of its own objects is not taken for a crowd's.
        theirs = theirs[np.argsort(theirs[:, 5], kind="stable")]
        codes = _codes(mine[:, 2:], theirs[:, 1:5], theirs[:, 5] != 0)
        parts.append(np.column_stack([np.full(len(mine), number), mine[:, 0], codes]))
    return np.concatenate(parts) if parts else np.zeros((0, _WIDTH))


def _codes(boxes: Floats, objects: Floats, crowd: NDArray[np.bool_]) -> Floats:
    """Of each box in which of the ten overlaps it is right, and, ten bits higher, not counted."""
    codes = np.zeros(len(boxes))
    if not len(objects):
        return codes
    shared = overlaps(boxes, objects, crowd)
    near = np.flatnonzero(shared.max(axis=1) >= OVERLAPS[0] - 1e-10)
    rows = [(int(index), shared[index].tolist()) for index in near]
    for step, least in enumerate(OVERLAPS.tolist()):
        taken = [False] * len(objects)
        for index, values in rows:
            best, chosen = min(least, 1 - 1e-10), -1
            for place, value in enumerate(values):
                if taken[place] and not crowd[place]:
                    continue
                if chosen >= 0 and not crowd[chosen] and crowd[place]:
                    break
                # Of two that overlap alike it is the later one, as COCO has it.
                if value >= best:
                    best, chosen = value, place
            if chosen >= 0:
                taken[chosen] = True
                codes[index] += 1 << (step + (len(OVERLAPS) if crowd[chosen] else 0))
    return codes


def overlaps(boxes: Floats, objects: Floats, crowd: NDArray[np.bool_]) -> Floats:
    """Intersection over union of every box with every object; of a crowd's over the box alone."""
    low = np.maximum(boxes[:, None, :2], objects[None, :, :2])
    high = np.minimum(boxes[:, None, 2:], objects[None, :, 2:])
    inside = np.prod(np.maximum(high - low, 0), axis=2)
    areas = np.prod(np.maximum(boxes[:, 2:] - boxes[:, :2], 0), axis=1)
    others = np.prod(np.maximum(objects[:, 2:] - objects[:, :2], 0), axis=1)
    whole = np.where(crowd[None, :], areas[:, None], areas[:, None] + others[None, :] - inside)
    return np.asarray(np.where(whole > 0, inside / np.where(whole > 0, whole, 1), 0.0))


def average_precision(steps: slice) -> Aggregate:
    """The mean over classes, and over some of the ten overlaps, of the average precision."""

    def value(rows: Floats, weights: Floats) -> Floats:
        return _Table(rows, steps).draw(weights, weights)

    return value


@dataclass(frozen=True)
class _Found:
    """The detections of one class in all pictures, the surest first.

    ``right[t]`` are the places in that order of those that are right at an overlap, ``ignored[t]``
    of those that do not count there. ``pictures`` are where the detections are from.
    """

    pictures: NDArray[np.intp]
    right: tuple[NDArray[np.intp], ...]
    ignored: tuple[NDArray[np.intp], ...]
    objects: Floats


class _Table:
    """Rows of `matches` in the order that a precision-recall curve wants them."""

    def __init__(self, rows: Floats, steps: slice) -> None:
        objects, slots = _parts(rows)
        pictures, places = np.nonzero(slots[:, :, 0] != _NOBODY)
        numbers, scores, codes = slots[pictures, places].T
        whole = codes.astype(np.int64)
        self.classes: list[_Found] = []
        for number in np.flatnonzero(objects.sum(axis=0) > 0):
            own = np.flatnonzero(numbers == number)
            own = own[np.argsort(-scores[own], kind="stable")]
            bits = range(len(OVERLAPS))[steps]
            self.classes.append(
                _Found(
                    pictures[own],
                    tuple(np.flatnonzero(whole[own] >> bit & 1) for bit in bits),
                    tuple(np.flatnonzero(whole[own] >> (bit + len(OVERLAPS)) & 1) for bit in bits),
                    objects[:, number],
                )
            )

    def draw(self, said: Floats, true: Floats) -> Floats:
        """The value of each draw, of which `said` weighs the answers and `true` the objects.

        Both are `[draws, pictures]`. NaN where a draw has no object at all.
        """
        most = max((len(found.pictures) for found in self.classes), default=1)
        step = max(1, _BLOCK // max(1, most))
        parts = [
            self._draw(said[start : start + step], true[start : start + step])
            for start in range(0, len(said), step)
        ]
        return np.concatenate(parts) if parts else np.zeros(0)

    def _draw(self, said: Floats, true: Floats) -> Floats:
        total, present = np.zeros(len(said)), np.zeros(len(said))
        for found in self.classes:
            objects = true @ found.objects
            occurs = objects > 0
            # The sum of the weights up to each detection, whether it is right or not.
            told = np.cumsum(said[:, found.pictures], axis=1)
            values = [
                _area(said, told, found, right, ignored, np.where(occurs, objects, 1.0))
                for right, ignored in zip(found.right, found.ignored, strict=True)
            ]
            total += np.where(occurs, np.mean(values, axis=0), 0.0)
            present += occurs
        with np.errstate(divide="ignore", invalid="ignore"):
            return np.asarray(total / present)


def _area(
    said: Floats,
    told: Floats,
    found: _Found,
    right: NDArray[np.intp],
    ignored: NDArray[np.intp],
    objects: Floats,
) -> Floats:
    """The average precision of each draw for one class at one overlap.

    Precision is largest, and recall rises, at detections that are right: no others are looked at.
    """
    if not len(right):
        return np.zeros(len(said))
    hits = np.cumsum(said[:, found.pictures[right]], axis=1)
    counted = told[:, right]
    if len(ignored):
        passed = np.cumsum(said[:, found.pictures[ignored]], axis=1)
        before = np.searchsorted(ignored, right)
        padded = np.concatenate([np.zeros((len(said), 1)), passed], axis=1)
        counted = counted - padded[:, before]
    precision = np.where(counted > 0, hits / np.where(counted > 0, counted, 1), 0.0)
    # The best precision at this recall or any higher one.
    best = np.maximum.accumulate(precision[:, ::-1], axis=1)[:, ::-1]
    reached = np.searchsorted(_RECALLS, hits / objects[:, None], side="right")
    new = np.diff(reached, axis=1, prepend=0)
    return np.asarray((best * new).sum(axis=1) / len(_RECALLS))


def lost_pictures(before: Floats, after: Floats, *, steps: slice = slice(None)) -> float:
    """The most that a picture costs whose objects are lost and whose boxes are all wrong.

    Nothing bounds how many wrong boxes a model may be sure of. Assumed is that a picture which is
    answered otherwise is answered no worse than with the boxes of any picture of these, of either
    model: those that harm most stand, as wrong ones, in the place of its own. Of the pictures that
    hold most of the rarest classes it is the one whose loss is largest.
    """
    count = len(before)
    objects, _ = _parts(before)
    totals = objects.sum(axis=0)
    rare = 1 / np.where(totals > 0, totals, 1)
    tried = np.argsort(-(objects @ rare), kind="stable")[:_TRIED]
    wrong = np.concatenate([_worst_boxes(rows, np.where(totals > 0, rare, 0))
                            for rows in (before, after)])  # fmt: skip
    table = _Table(np.concatenate([before, wrong]), steps)
    ones = np.concatenate([np.ones(count), np.zeros(len(wrong))])
    added = np.tile(ones, (len(wrong), 1))
    added[np.arange(len(wrong)), count + np.arange(len(wrong))] = 1
    harm = table.draw(added, np.tile(ones, (len(wrong), 1)))
    said = np.tile(ones, (len(tried), 1))
    said[np.arange(len(tried)), tried] = 0
    said[:, count + int(np.argmin(harm))] = 1
    without = table.draw(said, np.tile(ones, (len(tried), 1)))
    whole = float(table.draw(ones[None], ones[None])[0])
    return count * max(0.0, whole - float(without.min()))


def _worst_boxes(rows: Floats, rare: Floats) -> Floats:
    """The rows whose boxes are surest in the rarest classes, all wrong and without any object."""
    objects, slots = _parts(rows)
    there = slots[:, :, 0] != _NOBODY
    classes = np.where(there, slots[:, :, 0], 0).astype(np.int64)
    # Scores are above 0; their order is all that counts here.
    sure = (there * slots[:, :, 1] * rare[classes]).sum(axis=1)
    chosen: Floats = rows[np.argsort(-sure, kind="stable")[:_TRIED]].copy()
    width = 1 + objects.shape[1]
    chosen[:, 1:width] = 0
    chosen[:, width:].reshape(len(chosen), -1, _WIDTH)[:, :, 2] = 0
    return chosen


def matched_otherwise(before: Floats, after: Floats) -> int:
    """The pictures whose detections match otherwise, or come in another order among all.

    Scores differ everywhere, and alone they say nothing. What counts is the order that they give
    all detections of a class: besides the pictures in which others are found, or the same in
    another order, these are the fewest without which the order would be as before.
    """
    first, second = (_parts(rows)[1] for rows in (before, after))
    moved: NDArray[np.bool_] = (first[:, :, [0, 2]] != second[:, :, [0, 2]]).any(axis=(1, 2))
    pictures, places = np.nonzero((first[:, :, 0] != _NOBODY) & ~moved[:, None])
    numbers, scores, codes = first[pictures, places].T
    others = second[pictures, places, 1]
    for number in np.unique(numbers):
        own = np.flatnonzero(numbers == number)
        own = own[np.argsort(-scores[own], kind="stable")]
        # Among neighbours that match alike no order changes anything: they share a number.
        runs = np.concatenate([[0], np.cumsum(np.diff(codes[own]) != 0)])
        # Of equal scores the first picture's comes first, on both sides.
        again = np.lexsort((own, -others[own]))
        moved[pictures[own[again[_out_of_order(runs[again])]]]] = True
    return int(np.count_nonzero(moved))


def _out_of_order(values: NDArray[np.int64]) -> NDArray[np.intp]:
    """The fewest places without which the values do not fall.

    The rest is a longest subsequence that does not fall, found by its ends (C. Schensted: Longest
    increasing and decreasing subsequences, Canadian Journal of Mathematics 13, 1961).
    """
    ends: list[int] = []
    places: list[int] = []
    before: list[int] = []
    for place, value in enumerate(values.tolist()):
        length = bisect_right(ends, value)
        before.append(places[length - 1] if length else -1)
        ends[length : length + 1] = [value]
        places[length : length + 1] = [place]
    kept = np.zeros(len(values), dtype=bool)
    place = places[-1] if places else -1
    while place >= 0:
        kept[place] = True
        place = before[place]
    return np.flatnonzero(~kept)


def _parts(rows: Floats) -> tuple[Floats, Floats]:
    """The objects ``[pictures, classes]`` and the detections ``[pictures, most, 3]`` of rows."""
    classes = int(rows[0, 0])
    return rows[:, 1 : 1 + classes], rows[:, 1 + classes :].reshape(len(rows), -1, _WIDTH)
