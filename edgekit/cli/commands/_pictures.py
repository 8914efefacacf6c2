"""The inputs of ``edgekit run`` for models that read pictures, and copies with what was found."""

from __future__ import annotations

import glob
import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from edgekit.core.errors import ConfigError, InputMismatch
from edgekit.runtime.model import Model
from edgekit.runtime.pictures.decoding import looks_like_picture, open_picture
from edgekit.runtime.pictures.drawing import DRAWN, draw_answer
from edgekit.runtime.pictures.predicting import PICTURES

_WILD = frozenset("*?[")


def picture_files(inputs: Iterable[str]) -> Iterator[Path]:
    """The picture files of paths, folders and patterns, in their order, those of folders by name.

    Raises ConfigError for a folder or a pattern without any picture. A path is taken as it is:
    that it is no picture is told when it is opened.
    """
    for given in inputs:
        path = Path(given)
        if path.is_dir():
            found = [one for one in sorted(path.iterdir()) if one.is_file() and _readable(one)]
            if not found:
                raise ConfigError(
                    f"The folder {given} holds no pictures.",
                    hint="Give one with pictures in it; folders inside are not looked into.",
                )
            yield from found
        elif _WILD & set(given) and not path.exists():
            # Path.glob takes no absolute pattern.
            matched = [Path(one) for one in sorted(glob.glob(given, recursive=True))]  # noqa: PTH207
            files = [one for one in matched if one.is_file()]
            if not files:
                raise ConfigError(
                    f"No file matches {given!r}.", hint="Check the pattern, or give a folder."
                )
            yield from files
        else:
            yield path


def _readable(path: Path) -> bool:
    try:
        return looks_like_picture(path)
    except OSError:
        return False


def answer_pictures(
    model: Model, inputs: Iterable[str], save: Path | None
) -> Iterator[dict[str, object]]:
    """``{"picture", "prediction"}`` of each, some at a time; copies are drawn into `save`.

    Raises ConfigError for what is no picture: what was typed is at fault.
    """
    saver = None if save is None else _Saver(save, model.task)
    waiting: list[Path] = []
    for path in picture_files(inputs):
        waiting.append(path)
        if len(waiting) == PICTURES:
            yield from _answered(model, waiting, saver)
            waiting = []
    yield from _answered(model, waiting, saver)


def answer_mixed(model: Model, inputs: Sequence[str]) -> list[object]:
    """The embeddings of pictures, which exist as files, and of texts, which do not.

    Raises ConfigError for a file that is no picture.
    """
    items = [{"image": one} if os.path.isfile(one) else {"text": one} for one in inputs]  # noqa: PTH113
    try:
        found = model(items)
    except InputMismatch as error:
        raise ConfigError(error.message, hint=error.hint) from error
    return list(found) if isinstance(found, list) else [found]


def _answered(
    model: Model, paths: Sequence[Path], saver: _Saver | None
) -> Iterator[dict[str, object]]:
    if not paths:
        return
    try:
        answers = model(list(paths))
    except InputMismatch as error:
        raise ConfigError(error.message, hint=error.hint) from error
    assert isinstance(answers, list)
    for path, answer in zip(paths, answers, strict=True):
        if saver is not None:
            saver.save(path, answer)
        yield {"picture": str(path), "prediction": answer}


class _Saver:
    """Draws answers on copies in a folder, no two of one name."""

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
        """Write the copy of one picture. Raises ConfigError instead of replacing the picture."""
        name, count = f"{path.stem}.png", 1
        while name in self._names:
            count += 1
            name = f"{path.stem}-{count}.png"
        self._names.add(name)
        target = self._folder / name
        if target.exists() and target.samefile(path):
            raise ConfigError(
                f"--save {self._folder} would replace the picture {path}.",
                hint="Give another folder.",
            )
        with _writing(target):
            draw_answer(open_picture(path), self._task, answer).save(target)


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
