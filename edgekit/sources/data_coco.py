"""Annotations in COCO's form: one JSON object with images, annotations and categories.

The file is read piece by piece, and of each annotation eight numbers are held, whatever outlines
and captions stand beside them. Pictures lie in the file's folder or in one beside it.
"""

from __future__ import annotations

import json
import os
import re
from array import array
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TextIO

import numpy as np

from edgekit.core.errors import ConfigError
from edgekit.sources.data_boxes import OBJECTS
from edgekit.sources.data_files import Row, Table

# Characters that are read at a time, and the most that one element may take.
_PIECE = 1 << 20
_LONGEST = 1 << 26
_BLANK = re.compile(r"[ \t\r\n]*")
_PARTS = ("images", "annotations", "categories")
# What the folder of pictures is called where it has the name of no split.
_USUAL = "images"
# Pictures that a folder is known by.
_LOOKED_FOR = 10
# Names that a message quotes.
_TOLD = 5


def open_coco(path: Path) -> Table | None:
    """The pictures of a file in COCO's form with their objects; None for any other JSON file.

    Of each picture ``image`` is the name of its file, ``objects`` what is in it. Raises ConfigError
    for a file that is broken, or names pictures that are nowhere near it.
    """
    with path.open("rb") as stream:
        head = stream.read(4096).decode("utf-8-sig", errors="replace")
    if not head.lstrip().startswith("{") or not _looks_like_coco(path):
        return None
    kept: list[_Coco] = []

    def rows(columns: Sequence[str]) -> Iterator[Row]:
        if not kept:
            kept.append(_read(path))
        yield from _rows(path, kept[0], told)

    told: list[str] = []
    return Table(str(path), ("image", OBJECTS), rows, {}, told)


@dataclass
class _Coco:
    """What is held of a file: names and sizes of pictures, and the boxes as bare numbers."""

    pictures: dict[int, tuple[str, tuple[int, int] | None]] = field(default_factory=dict)
    categories: dict[int, str] = field(default_factory=dict)
    owners: array[int] = field(default_factory=lambda: array("q"))
    #: Six numbers of each annotation: its category, x, y, width, height, and whether a crowd.
    boxes: array[float] = field(default_factory=lambda: array("d"))


def _looks_like_coco(path: Path) -> bool:
    """Whether the object has images and annotations: its keys alone are looked at, up to both."""
    found: set[str] = set()
    with path.open(encoding="utf-8-sig") as stream:
        try:
            for key, _ in _members(stream, path, wanted=()):
                found.add(key)
                if {"images", "annotations"} <= found:
                    return True
        except UnicodeDecodeError:
            return False
        except ConfigError:
            # Broken behind what says what it is: that is told when its rows are read.
            return bool(found & {"images", "annotations"})
    return False


def _read(path: Path) -> _Coco:
    made = _Coco()
    put = {"images": _picture, "annotations": _annotation, "categories": _category}
    try:
        with path.open(encoding="utf-8-sig") as stream:
            for key, element in _members(stream, path, wanted=_PARTS):
                if element is not None:
                    put[key](made, element, path)
    except UnicodeDecodeError as error:
        raise ConfigError(
            f"{path} is not UTF-8: {error.reason}.",
            hint="Save the file as UTF-8, for example: iconv -f latin1 -t utf-8 OLD > NEW",
        ) from error
    if not made.pictures:
        raise ConfigError(f"{path} names no images.", hint="Check how it was written.")
    return made


def _picture(made: _Coco, one: Mapping[str, object], path: Path) -> None:
    name, number = one.get("file_name"), _number(one.get("id"))
    if not isinstance(name, str) or not name or number is None:
        raise ConfigError(
            f"{path}: the image {_shown(one)} has no id and file_name.",
            hint='Images are {"id": 1, "file_name": "a.jpg", …}.',
        )
    if number in made.pictures:
        raise ConfigError(f"{path} has two images of the id {number}.")
    height, width = _number(one.get("height")), _number(one.get("width"))
    made.pictures[number] = name, (height, width) if height and width else None


def _annotation(made: _Coco, one: Mapping[str, object], path: Path) -> None:
    owner, category = _number(one.get("image_id")), _number(one.get("category_id"))
    box = one.get("bbox")
    fine = isinstance(box, list) and len(box) == 4
    numbers = [
        float(value)
        for value in (box if isinstance(box, list) else [])
        if isinstance(value, int | float)
        and not isinstance(value, bool)
        and abs(value) < 1e9
        and value == value
    ]
    if owner is None or category is None or not fine or len(numbers) != 4 or min(numbers[2:]) < 0:
        raise ConfigError(
            f"{path}: the annotation {_shown(one)} has no image_id, category_id and bbox of four"
            " numbers [x, y, width, height].",
            hint="Give the annotations of objects (instances); those of keypoints alone, captions"
            " and panoptic segments have none.",
        )
    made.owners.append(owner)
    made.boxes.extend([category, *numbers, float(bool(one.get("iscrowd")))])


def _category(made: _Coco, one: Mapping[str, object], path: Path) -> None:
    number, name = _number(one.get("id")), one.get("name")
    if number is None or not isinstance(name, str) or not name:
        raise ConfigError(
            f"{path}: the category {_shown(one)} has no id and name.",
            hint='Categories are {"id": 1, "name": "cat"}.',
        )
    made.categories[number] = name


def _rows(path: Path, made: _Coco, told: list[str]) -> Iterator[Row]:
    owners = np.array(made.owners, dtype=np.int64)
    boxes = np.array(made.boxes, dtype=np.float64).reshape(-1, 6)
    strange = sorted(set(np.unique(owners).tolist()) - set(made.pictures))
    if strange:
        raise ConfigError(
            f"{path} has annotations of images that it does not name: {_listed(strange)}.",
            hint="Check that images and annotations are of the same split.",
        )
    unknown = sorted(set(np.unique(boxes[:, 0]).astype(int).tolist()) - set(made.categories))
    if unknown and made.categories:
        raise ConfigError(
            f"{path} has annotations of categories that it does not name: {_listed(unknown)}.",
            hint="Check its categories.",
        )
    folder = _folder(path, made)
    if folder != path.parent and not told:
        place = Path(os.path.relpath(folder.resolve(), path.parent.resolve())).as_posix()
        told.append(f"The pictures of {path.name} are those of {place} beside it.")
    order = np.argsort(owners, kind="stable")
    begins = np.searchsorted(owners[order], [*made.pictures])
    ends = np.searchsorted(owners[order], [*made.pictures], side="right")
    for (name, size), begin, end in zip(made.pictures.values(), begins, ends, strict=True):
        own = boxes[order[begin:end]]
        yield {
            "image": str(folder / name),
            OBJECTS: {
                "bbox": own[:, 1:5].tolist(),
                # Without names they are the model's class numbers.
                "labels": [made.categories.get(int(one), int(one)) for one in own[:, 0]],
                "iscrowd": own[:, 5].tolist(),
                "size": size,
            },
        }


def _folder(path: Path, made: _Coco) -> Path:
    """Where the pictures lie: beside the file, or in a folder beside it or beside its folder.

    Told by some of the pictures, the first and the last among them. Of several folders that have
    them, the one that the file is called by; beside the file's own folder no other one counts but
    that of the usual name, for splits of one data set may use the same names of files.
    """
    names = [name for name, _ in made.pictures.values()]
    first = names[0]
    some = [names[at] for at in sorted({len(names) * n // _LOOKED_FOR for n in range(_LOOKED_FOR)})]
    some.append(names[-1])

    def holds(folder: Path) -> bool:
        return all(os.path.isfile(folder / name) for name in some)  # noqa: PTH113

    here = path.parent
    if holds(here):
        return here
    for root in (here, here.resolve().parent):
        try:
            folders = [one for one in sorted(root.iterdir()) if one.is_dir()]
        except OSError:
            continue
        held = [one for one in folders if holds(one)]
        named = [one for one in held if path.stem.endswith(one.name)]
        if not named:
            named = held if root == here else [one for one in held if one.name == _USUAL]
        if len(named) > 1:
            raise ConfigError(
                f"{path} names the picture {first!r}, which is in"
                f" {' and in '.join(str(one) for one in named[:_TOLD])}.",
                hint="Put the file into the folder of its pictures.",
            )
        if named:
            return named[0]
    raise ConfigError(
        f"{path} names the picture {first!r}, and there is no folder beside it that holds this one"
        " and the others.",
        hint="Put the file into the folder of its pictures.",
    )


def _members(
    stream: TextIO, path: Path, *, wanted: Sequence[str]
) -> Iterator[tuple[str, Mapping[str, object] | None]]:
    """The keys of the object in a file, each with the elements of its list where it is wanted.

    A key comes once with None, and then with every element. Nothing else is held.
    """
    text = _Text(stream, path)
    text.take("{")
    while text.peek() != "}":
        key = text.value()
        if not isinstance(key, str):
            raise text.broken("a key is no text")
        text.take(":")
        yield key, None
        if key not in wanted:
            text.skip()
        else:
            text.take("[")
            while text.peek() != "]":
                element = text.value()
                if not isinstance(element, dict):
                    raise ConfigError(
                        f"{path}: {key} should be a list of objects, got {_shown(element)}."
                    )
                yield key, element
                if text.peek() != "]":
                    text.take(",")
            text.take("]")
        if text.peek() != "}":
            text.take(",")


class _Text:
    """A JSON text that is read piece by piece, from one value to the next."""

    def __init__(self, stream: TextIO, path: Path) -> None:
        self._stream = stream
        self._path = path
        self._decoder = json.JSONDecoder()
        self._text = ""
        self._at = 0

    def peek(self) -> str:
        """The next character that is no blank. Raises ConfigError where the file ends."""
        while True:
            found = _BLANK.match(self._text, self._at)
            assert found is not None
            self._at = found.end()
            if self._at < len(self._text):
                return self._text[self._at]
            self._more()

    def take(self, wanted: str) -> None:
        """Go past a character. Raises ConfigError where another one stands."""
        if self.peek() != wanted:
            raise self.broken(f"{self._near()} stands where {wanted!r} should be")
        self._at += 1

    def value(self) -> object:
        """The value that begins here. Raises ConfigError for what is no JSON, or too long."""
        self.peek()
        while True:
            try:
                value, end = self._decoder.raw_decode(self._text, self._at)
            except json.JSONDecodeError:
                self._more()
                continue
            except (ValueError, RecursionError) as error:
                raise self.broken(str(error)) from error
            # A number at the end of a piece may go on in the next one.
            if end == len(self._text) and self._try_more():
                continue
            self._at = end
            return value

    def skip(self) -> None:
        """Go past the value that begins here, however long a list or an object it is."""
        opened = self.peek()
        if opened not in "[{":
            self.value()
            return
        closing = {"[": "]", "{": "}"}[opened]
        self.take(opened)
        while self.peek() != closing:
            if opened == "{":
                self.value()
                self.take(":")
            self.value()
            if self.peek() != closing:
                self.take(",")
        self.take(closing)

    def broken(self, why: str) -> ConfigError:
        """What to say of a text that is no JSON."""
        return ConfigError(
            f"{self._path} is not JSON: {why}.", hint="Write it again, or copy it again."
        )

    def _near(self) -> str:
        return repr(self._text[self._at : self._at + 20])

    def _more(self) -> None:
        if not self._try_more():
            left = self._text[self._at :]
            raise self.broken("it ends too early" if not left else f"near {self._near()}")

    def _try_more(self) -> bool:
        left = self._text[self._at :]
        if len(left) >= _LONGEST:
            return False
        piece = self._stream.read(max(_PIECE, len(left)))
        self._text, self._at = left + piece, 0
        return bool(piece)


def _number(value: object) -> int | None:
    if isinstance(value, bool) or not isinstance(value, int) or abs(value) >= 1 << 53:
        return None
    return value


def _listed(values: Sequence[object]) -> str:
    more = f" and {len(values) - _TOLD} more" if len(values) > _TOLD else ""
    return ", ".join(map(str, values[:_TOLD])) + more


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:80]}…"
