"""The inputs of ``edgekit run`` for models of pictures or sounds, and copies of what was found."""

from __future__ import annotations

import glob
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from edgekit.core.errors import ConfigError, InputMismatch
from edgekit.runtime.model import Model
from edgekit.runtime.pictures.decoding import looks_like_picture, open_picture
from edgekit.runtime.pictures.drawing import DRAWN, draw_answer
from edgekit.runtime.pictures.predicting import PICTURES
from edgekit.runtime.sound.decoding import looks_like_sound
from edgekit.runtime.sound.predicting import SOUNDS

_WILD = frozenset("*?[")
# Pictures and texts that are embedded together.
_TOGETHER = 32


@dataclass(frozen=True)
class Kind:
    """Files of a kind: how messages and answers call them, how a folder's are told from others.

    ``together`` of them are answered at a time.
    """

    word: str
    readable: Callable[[Path], bool]
    together: int


#: What a model reads that reads files, by the kind of its processor.
KINDS: Mapping[str, Kind] = {
    "image": Kind("picture", looks_like_picture, PICTURES),
    "audio": Kind("sound", looks_like_sound, SOUNDS),
}


def media_files(inputs: Iterable[str], kind: Kind) -> Iterator[Path]:
    """The files of paths, folders and patterns, in their order, those of folders by name.

    Raises ConfigError for an empty word, and for a folder or a pattern without any file of the
    kind. A path is taken as it is: that it is none is told when it is opened.
    """
    for given in inputs:
        # Path("") is the current folder, which nobody asked for.
        if not given.strip():
            raise ConfigError(
                f"An input is empty, where the path of a {kind.word} should be.",
                hint="Check the variable or the quotes that it came from.",
            )
        files = several_files(given, kind)
        if files is not None:
            yield from files
        elif _is_pattern(given):
            raise ConfigError(
                f"No file matches {given!r}.", hint="Check the pattern, or give a folder."
            )
        else:
            yield Path(given)


def several_files(given: str, kind: Kind) -> list[Path] | None:
    """The files of a kind in a folder, or those that a pattern matches; None for any other word.

    Raises ConfigError for a folder that cannot be read or holds none.
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
        files = [one for one in found if os.path.isfile(one) and _readable(one, kind)]  # noqa: PTH113
        if not files:
            raise ConfigError(
                f"The folder {given} itself holds no {kind.word}s.",
                hint=f"Folders inside are not looked into; a pattern reaches them: '{given}/*/*'",
            )
        return files
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


def _readable(path: Path, kind: Kind) -> bool:
    try:
        return kind.readable(path)
    except OSError:
        return False


def answer_files(
    model: Model,
    inputs: Iterable[str],
    kind: Kind,
    saver: Saver | None,
    options: Mapping[str, object],
) -> Iterator[dict[str, object]]:
    """``{"picture", "prediction"}`` of each, some at a time; copies are drawn by `saver`.

    The model is called with `options`. Of sounds it is ``{"sound", "prediction"}``. Raises
    ConfigError for a file of another kind: what was typed is at fault.
    """
    paths = media_files(inputs, kind)
    while some := list(islice(paths, kind.together)):
        for path, answer in zip(some, _answers(model, list(some), options), strict=True):
            if saver is not None:
                saver.save(path, answer)
            yield {kind.word: str(path), "prediction": answer}


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
        files = several_files(given, KINDS["image"])
        if files is not None:
            yield from files
        elif os.path.isfile(given):  # noqa: PTH113
            yield Path(given)
        else:
            yield read_text(given)


def _answers(
    model: Model, items: list[object], options: Mapping[str, object] | None = None
) -> list[object]:
    try:
        answers = model(items, **(options or {}))  # type: ignore[arg-type]
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
