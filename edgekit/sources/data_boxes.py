"""Boxes in DATA: what an object detector should find in a picture, however a row says it."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, TypeGuard

from edgekit.core.errors import ConfigError
from edgekit.sources.data_files import CLASS_COLUMNS, Row, Table, column_not_found

if TYPE_CHECKING:
    from edgekit.sources.data_columns import Labels

#: The column of a table that holds all objects of a picture.
OBJECTS = "objects"
# What the objects of a picture may be called where each fact has a column, or a list, of its own:
# corners, or a corner with width and height; then the class; then whether it is a crowd.
_CORNERS, _SIZES = ("boxes", "box"), ("bbox", "bboxes")
_CROWDS = ("iscrowd", "is_crowd")
# No picture has more, and a file that says so is broken.
_MOST = 100_000


@dataclass(frozen=True)
class Boxes:
    """The objects of one picture.

    Each row is a class number, the corners xmin, ymin, xmax, ymax in pixels, and 1 for a crowd, of
    which none is to be found singly. ``size`` is the (height, width) of the picture they were drawn
    in, where that is told.
    """

    rows: tuple[tuple[float, float, float, float, float, float], ...]
    size: tuple[int, int] | None = None


def boxes_label(value: object, labels: Labels) -> Boxes:
    """The objects of a cell: columns of facts in one object, or a list of an object each.

    ``{"boxes": [[xmin, ymin, xmax, ymax], …], "labels": […]}``, with ``bbox`` for COCO's
    ``[x, y, width, height]``; or ``[{"box": […], "label": …}, …]``.

    Raises ConfigError for what is neither, boxes outside of all pictures, and unknown labels.
    """
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except (ValueError, RecursionError) as error:
            raise _no_boxes(value) from error
    size: tuple[int, int] | None = None
    if isinstance(value, Mapping):
        size = _size(value.get("size"))
        facts = [_listed(value, names) for names in (_CORNERS, _SIZES, CLASS_COLUMNS, _CROWDS)]
    elif _is_list(value):
        facts = _turned(value)
    else:
        raise _no_boxes(value)
    corners, sizes, classes, crowds = facts
    boxes = corners if corners is not None else sizes
    if boxes is None or classes is None:
        raise _no_boxes(value)
    crowds = crowds or [0] * len(boxes)
    if not len(boxes) == len(classes) == len(crowds) <= _MOST:
        raise ConfigError(
            f"there are {len(boxes)} boxes, {len(classes)} labels and {len(crowds)} marks of"
            " crowds.",
            hint="Write one of each for every object.",
        )
    return Boxes(
        tuple(
            (
                float(labels.index(name)),
                *_corners(box, from_size=corners is None),
                float(bool(crowd)),
            )
            for box, name, crowd in zip(boxes, classes, crowds, strict=True)
        ),
        size,
    )


def with_objects(table: Table, mapping: Mapping[str, str]) -> tuple[Table, dict[str, str]]:
    """A table whose facts have columns of their own (boxes, labels) with one of objects besides.

    The mapping comes back without the names of those columns. Raises ConfigError for a column that
    is named and not there.
    """
    rest = {name: column for name, column in mapping.items() if name not in ("boxes", "labels")}
    if rest == mapping and (OBJECTS in mapping or OBJECTS in table.columns):
        return table, rest
    boxes = mapping.get("boxes") or _first(table, (*_CORNERS, *_SIZES))
    classes = mapping.get("labels") or _first(table, CLASS_COLUMNS)
    for column, name in ((mapping.get("boxes"), "boxes"), (mapping.get("labels"), "labels")):
        if column is not None and column not in table.columns:
            raise column_not_found(table, column, f"Check --columns {name}=….")
    if boxes is None or classes is None:
        return table, rest
    crowds = _first(table, _CROWDS)
    used = [boxes, classes, *([crowds] if crowds else [])]
    kind = "bbox" if boxes in _SIZES else "boxes"

    def rows(columns: Sequence[str]) -> Iterator[Row]:
        plain = [name for name in columns if name != OBJECTS]
        for row in table.rows([*plain, *used] if columns else ()):
            objects = {kind: row.get(boxes), "labels": row.get(classes)}
            if crowds is not None and row.get(crowds) is not None:
                objects["iscrowd"] = row.get(crowds)
            yield {**{name: row[name] for name in plain if name in row}, OBJECTS: objects}

    others = tuple(name for name in table.columns if name not in used)
    names = {**table.names, **({OBJECTS: table.names[classes]} if classes in table.names else {})}
    return replace(table, columns=(*others, OBJECTS), rows=rows, names=names), rest


def _first(table: Table, names: Sequence[str]) -> str | None:
    return next((name for name in names if name in table.columns), None)


def _is_list(value: object) -> TypeGuard[Sequence[object]]:
    return isinstance(value, Sequence) and not isinstance(value, str | bytes)


def _listed(value: Mapping[object, object], names: Sequence[str]) -> list[object] | None:
    """The list under the first of some names; one that is JSON in a text, too."""
    found = next((value[name] for name in names if value.get(name) is not None), None)
    if isinstance(found, str):
        try:
            found = json.loads(found)
        except (ValueError, RecursionError) as error:
            raise _no_boxes(found) from error
    if found is None:
        return None
    if not _is_list(found):
        raise _no_boxes(found)
    return list(found)


def _turned(value: Sequence[object]) -> list[list[object] | None]:
    """The facts of a list of objects, fact by fact; crowds where any object says so."""
    objects = [one for one in value if isinstance(one, Mapping)]
    if len(objects) != len(value):
        raise _no_boxes(value)
    found: list[list[object] | None] = []
    for names in (_CORNERS, _SIZES, CLASS_COLUMNS):
        name = next((name for name in names if objects and name in objects[0]), None)
        if name is None:
            found.append(None if objects else [])
        elif not all(name in one for one in objects):
            raise ConfigError(f"not every object has a {name!r}.", hint="Give all the same names.")
        else:
            found.append([one[name] for one in objects])
    found.append([next((one[k] for k in _CROWDS if k in one), 0) for one in objects])
    return found


def _corners(value: object, *, from_size: bool) -> tuple[float, float, float, float]:
    numbers: list[float] = []
    if _is_list(value) and len(value) == 4:
        for one in value:
            if isinstance(one, bool) or not isinstance(one, int | float):
                break
            try:
                number = float(one)
            except OverflowError:
                break
            if not math.isfinite(number):
                break
            numbers.append(number)
    if len(numbers) != 4:
        raise ConfigError(
            f"a box should be four finite numbers, got {_shown(value)}.",
            hint="Write boxes as [xmin, ymin, xmax, ymax], or as bbox [x, y, width, height].",
        )
    first, second, third, fourth = numbers
    if from_size:
        third, fourth = first + third, second + fourth
    if third < first or fourth < second:
        raise ConfigError(
            f"the box {_shown(value)} ends before it begins.",
            hint="boxes are [xmin, ymin, xmax, ymax], bbox is [x, y, width, height].",
        )
    return first, second, third, fourth


def _size(value: object) -> tuple[int, int] | None:
    if not _is_list(value) or len(value) != 2:
        return None
    height, width = value
    if not isinstance(height, int) or not isinstance(width, int) or min(height, width) < 1:
        return None
    return height, width


def _no_boxes(value: object) -> ConfigError:
    return ConfigError(
        f"the objects of a picture should be boxes with labels, got {_shown(value)}.",
        hint='Write "boxes": [[xmin, ymin, xmax, ymax], …] and "labels": [name, …], or give a file'
        " in COCO's form.",
    )


def _shown(value: object) -> str:
    try:
        text = repr(value)
    except (ValueError, RecursionError):
        return f"a {type(value).__name__} too long to show"
    return text if len(text) <= 80 else f"{text[:80]}…"
