"""The inputs of ``edgekit run`` for models that read pictures, and copies with what was found."""

from __future__ import annotations

import glob
import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from itertools import islice
from pathlib import Path

from edgekit.core.errors import ConfigError, InputMismatch
from edgekit.runtime.model import Model
from edgekit.runtime.pictures.decoding import looks_like_picture, open_picture
from edgekit.runtime.pictures.drawing import DRAWN, draw_answer
from edgekit.runtime.pictures.predicting import PICTURES

_WILD = frozenset("*?[")
# Pictures and texts that are embedded together.
_TOGETHER = 32


def picture_files(inputs: Iterable[str]) -> Iterator[Path]:
    """The picture files of paths, folders and patterns, in their order, those of folders by name.

    Raises ConfigError for an empty word, and for a folder or a pattern without any picture. A path
    is taken as it is: that it is no picture is told when it is opened.
    """
    for given in inputs:
        # Path("") is the current folder, which nobody asked for.
        if not given.strip():
            raise ConfigError(
                "An input is empty, where the path of a picture should be.",
                hint="Check the variable or the quotes that it came from.",
            )
        files = several_files(given)
        if files is not None:
            yield from files
        elif _is_pattern(given):
            raise ConfigError(
                f"No file matches {given!r}.", hint="Check the pattern, or give a folder."
            )
        else:
            yield Path(given)


def several_files(given: str) -> list[Path] | None:
    """The pictures of a folder, or the files that a pattern matches; None for any other word.

    Raises ConfigError for a folder that cannot be read or holds no pictures.
    """
    # Path.is_dir() raises where a word is too long for a path; so do its siblings.
    if os.path.isdir(given):  # noqa: PTH112
        try:
            found = [Path(given, name) for name in sorted(os.listdir(given))]  # noqa: PTH208
        except OSError as error:
            raise ConfigError(
                f"The folder {given} cannot be read: {error.strerror or error}.",
                hint="Check its permissions.",
            ) from error
        pictures = [one for one in found if os.path.isfile(one) and _readable(one)]  # noqa: PTH113
        if not pictures:
            raise ConfigError(
                f"The folder {given} holds no pictures.",
                hint="Give one with pictures in it; folders inside are not looked into.",
            )
        return pictures
    if not _is_pattern(given):
        return None
    try:
        # Path.glob takes no absolute pattern.
        matched = sorted(glob.glob(given, recursive=True))  # noqa: PTH207
    except (OSError, ValueError):
        return None
    return [Path(one) for one in matched if os.path.isfile(one)] or None  # noqa: PTH113


def _is_pattern(given: str) -> bool:
    return bool(_WILD & set(given)) and not os.path.exists(given)  # noqa: PTH110


def _readable(path: Path) -> bool:
    try:
        return looks_like_picture(path)
    except OSError:
        return False


def answer_pictures(
    model: Model, inputs: Iterable[str], saver: Saver | None
) -> Iterator[dict[str, object]]:
    """``{"picture", "prediction"}`` of each, some at a time; copies are drawn by `saver`.

    Raises ConfigError for what is no picture: what was typed is at fault.
    """
    paths = picture_files(inputs)
    while some := list(islice(paths, PICTURES)):
        for path, answer in zip(some, _answers(model, list(some)), strict=True):
            if saver is not None:
                saver.save(path, answer)
            yield {"picture": str(path), "prediction": answer}


def answer_mixed(
    model: Model, inputs: Iterable[str], read_text: Callable[[str], str]
) -> Iterator[object]:
    """Embeddings: ``{"picture", "prediction"}`` of pictures, those of texts alone.

    Files, folders and patterns that match are pictures; `read_text` makes any other word a text.

    Raises ConfigError for a file that is no picture, and as `read_text` does.
    """
    items = _mixed(inputs, read_text)
    while some := list(islice(items, _TOGETHER)):
        asked: list[object] = [{"text": one} if isinstance(one, str) else one for one in some]
        for item, answer in zip(some, _answers(model, asked), strict=True):
            if isinstance(item, Path):
                yield {"picture": str(item), "prediction": answer}
            else:
                yield answer


def _mixed(inputs: Iterable[str], read_text: Callable[[str], str]) -> Iterator[Path | str]:
    for given in inputs:
        files = several_files(given)
        if files is not None:
            yield from files
        elif os.path.isfile(given):  # noqa: PTH113
            yield Path(given)
        else:
            yield read_text(given)


def _answers(model: Model, items: list[object]) -> list[object]:
    try:
        answers = model(items)
    except InputMismatch as error:
        raise ConfigError(error.message, hint=error.hint) from error
    assert isinstance(answers, list)
    return answers


class Saver:
    """Draws answers on copies in a folder: every name once, and none that was there before.

    One serves a whole command: the names that it has written are its own to number.
    """

    def __init__(self, folder: Path, task: str) -> None:
        if task not in DRAWN:
            raise ConfigError(
                f"--save draws boxes and masks; {task} has neither.",
                hint="Leave --save out: the answers are printed.",
            )
        self._folder = folder
        self._task = task
        self._names: set[str] = set()
        with _writing(folder):
            folder.mkdir(parents=True, exist_ok=True)

    def save(self, path: Path, answer: object) -> None:
        """Write the copy of one picture. Raises ConfigError instead of replacing any file."""
        drawn = draw_answer(open_picture(path), self._task, answer)
        target = self._folder / self._name(path.stem)
        with _writing(target):
            try:
                # Neither replaces a file nor follows a link, whatever comes in between.
                stream = target.open("xb")
            except FileExistsError as error:
                raise ConfigError(
                    f"--save would replace {target}, which this run did not write.",
                    hint="Give an empty folder, or one that does not exist yet.",
                ) from error
            with stream:
                drawn.save(stream, format="PNG")

    def _name(self, stem: str) -> str:
        """A name that this run has not used, on file systems that ignore case as well."""
        name, count = f"{stem}.png", 1
        while name.casefold() in self._names:
            count += 1
            name = f"{stem}-{count}.png"
        self._names.add(name.casefold())
        return name


@contextmanager
def _writing(path: Path) -> Iterator[None]:
    """A folder or file that cannot be written as a ConfigError."""
    try:
        yield
    except OSError as error:
        raise ConfigError(
            f"--save cannot write {path}: {error.strerror or error}.",
            hint="Give a folder that can be written.",
        ) from error
