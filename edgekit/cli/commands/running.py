"""``edgekit run``: predictions from the shell, one JSON line per input."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from itertools import chain, islice
from pathlib import Path

import click
import numpy as np

from edgekit.cli.commands._generating import (
    answer_prompt,
    check_generative,
    chosen,
    generation,
    on_shell,
)
from edgekit.cli.commands._pictures import KINDS, Saver, answer_files, answer_mixed
from edgekit.cli.console import Console
from edgekit.cli.options import BundlePath, common, pass_console
from edgekit.core.errors import ConfigError, InputMismatch
from edgekit.core.results import to_json
from edgekit.runtime import load
from edgekit.runtime.arrays import read_arrays
from edgekit.runtime.model import Model
from edgekit.runtime.options import spelled

# Lines of standard input that are predicted together.
_BATCH = 32
# How files of arrays begin: .npz is a zip archive.
_ARRAYS = (b"PK\x03\x04", b"\x93NUMPY")
# How files end that somebody may take for an input: tables, arrays, pictures, sounds.
_FILES = frozenset(
    {
        ".csv", ".tsv", ".json", ".jsonl", ".ndjson", ".parquet", ".txt", ".npz", ".npy", ".bmp",
        ".gif", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp", ".flac", ".mp3", ".ogg", ".wav",
    }
)  # fmt: skip
_PAIR = {"text", "text_pair"}
_QUESTION = {"question", "context"}
# Characters of an input, and of a path, that a message quotes.
_SHOWN = 60
_SHOWN_PATH = 250


@click.command("run")
@click.argument("bundle", type=BundlePath())
@click.argument("inputs", nargs=-1)
@click.option(
    "--engine",
    metavar="NAME",
    help="Run on this engine instead of the bundle's own. A compiled bundle runs on its own only.",
)
@click.option("--threads", type=click.IntRange(min=1), help="Threads of the engine.")
@click.option(
    "--save",
    type=click.Path(path_type=Path, file_okay=False),
    metavar="DIR",
    help="Draw boxes or masks on copies of the pictures, in this folder.",
)
@generation
@common
@pass_console
def command(
    console: Console,
    /,
    bundle: Path,
    inputs: tuple[str, ...],
    engine: str | None,
    threads: int | None,
    save: Path | None,
    prompt: str | None,
    raw: bool,
    **generating: object,
) -> None:
    """Predict: texts, or paths of pictures or sounds, as arguments or lines of standard input.

    Of pictures and sounds a folder or a pattern does as well; custom models take .npz files. A pair
    of texts is written as a JSON list, ["a", "b"], a question with its context as a JSON object,
    {"question": "…", "context": "…"}. A single argument that looks like a path is no text; as a
    JSON string, '"and/or"', it is one. The answer to each input is one JSON line, for pictures
    {"picture": PATH, "prediction": …}, for sounds {"sound": PATH, "prediction": …} (with --json
    one object that holds them all). --prompt TEXT tells a generative model's answer as it comes.
    """
    if prompt is not None and inputs:
        raise ConfigError(
            f"run got --prompt and {len(inputs)} inputs beside it.",
            hint="Give one of them: arguments are answered like lines of standard input.",
        )
    if raw and prompt is None:
        raise ConfigError(
            "run got --raw without --prompt, whose template it leaves out.",
            hint="Give --prompt TEXT, or leave --raw out: arguments and lines of standard input"
            " get no template.",
        )
    with load(bundle, engine=engine, threads=threads) as model, spelled(on_shell):
        options = chosen(generating)
        check_generative(model, prompt, options)
        if prompt is not None:
            answer_prompt(console, model, prompt, options, raw=raw)
            return
        processor = model.manifest.processor or {}
        reads = str(processor.get("kind"))
        if reads == "generation" and processor.get("input") == "audio":
            reads = "audio"
        kind = KINDS.get(reads)
        if save is not None and reads != "image":
            raise ConfigError(
                f"--save draws on pictures, which this bundle's task {model.task} does not read.",
                hint="Leave --save out.",
            )
        saver = None if save is None else Saver(save, model.task)
        answers: list[object] = []
        count = 0
        typed = list(inputs)
        for some in _batches(typed, model.task if kind is None else kind.word):
            found = (
                answer_files(model, some, kind, saver, options)
                if kind is not None
                else _predict(model, some, options, typed=some is typed)
            )
            for answer in found:
                count += 1
                numbers = _plain(answer)
                plain = to_json(numbers)
                if plain != numbers:
                    console.status(
                        f"Answer {count} holds NaN or infinity; JSON has neither: they are null."
                    )
                if console.json_output:
                    answers.append(plain)
                else:
                    print(json.dumps(plain, ensure_ascii=False), flush=True)
        if console.json_output:
            console.result({"predictions": answers}, "")


def _batches(inputs: list[str], task: str) -> Iterator[list[str]]:
    if inputs and inputs != ["-"]:
        yield inputs
        return
    paths = {one.word for one in KINDS.values()}
    what = "a .npz file" if task == "custom" else "a text"
    if task in paths:
        what = f"the path of a {task}"
    nothing = ConfigError(
        "run got no input.",
        hint=f"Give {what} as an argument, or one per line on standard input.",
    )
    if sys.stdin is None or sys.stdin.isatty():  # None where it was closed
        raise nothing
    lines = _lines(task)
    if task in paths:
        lines = (line for line in lines if line.strip())
    first = next(lines, None)
    if first is None:
        raise nothing
    lines = chain([first], lines)
    while some := list(islice(lines, _BATCH)):
        yield some


def _lines(task: str) -> Iterator[str]:
    """The lines of standard input. Raises ConfigError for what is no text."""
    for number, line in enumerate(sys.stdin.buffer, 1):
        if number == 1 and line.startswith(_ARRAYS):
            raise ConfigError(
                "Standard input holds a file of arrays; run reads lines of text from it.",
                hint="Give arrays as an argument: edgekit run BUNDLE FILE.npz"
                if task == "custom"
                else f"This bundle's task {task} reads texts.",
            )
        try:
            yield line.decode("utf-8").rstrip("\r\n")
        except UnicodeDecodeError as error:
            raise ConfigError(
                f"stdin is not UTF-8: line {number} holds the byte 0x{line[error.start]:02x} at"
                f" position {error.start + 1}.",
                hint="Convert it, for example: iconv -f latin1 -t utf-8 FILE | edgekit run BUNDLE",
            ) from error


def _predict(
    model: Model, inputs: list[str], options: Mapping[str, object], *, typed: bool
) -> Iterable[object]:
    if model.manifest.processor is None:
        return [model(read_arrays(Path(path))) for path in inputs]
    if model.manifest.processor.get("kind") == "image-text":
        return answer_mixed(model, inputs, _no_path)
    for line in inputs:
        # Its name would be answered as a text. Path.is_file() raises where a text is too long.
        if line.endswith(".npz") and os.path.isfile(line):  # noqa: PTH113
            raise ConfigError(
                f"{line} is a file of arrays; this bundle's task {model.task} reads texts.",
                hint="Give texts, or pass arrays to model.run() in Python.",
            )
    if typed and len(inputs) == 1:
        _check_no_path(inputs[0])
        inputs = [_unquoted(inputs[0])]
    generative = model.manifest.generation is not None
    parsed = inputs if generative else [_text(line, model.task) for line in inputs]
    try:
        answers = model(parsed, **options)  # type: ignore[arg-type]
    except InputMismatch as error:
        # What was typed is at fault here, not what an app hands over.
        raise ConfigError(error.message, hint=error.hint) from error
    return list(answers) if isinstance(answers, list) else [answers]


def _no_path(word: str) -> str:
    """A text among pictures. Raises ConfigError for one that is meant as a path."""
    _check_no_path(word)
    return _unquoted(word)


def _check_no_path(word: str) -> None:
    """Raise ConfigError for an argument that is meant as a path: its name would be answered."""
    if any(mark.isspace() for mark in word) or word[:1] in ("[", "{", '"'):
        return
    kind = os.path.splitext(word)[1].lower()  # noqa: PTH122 - it may be no path
    # Path.is_file() raises where a text is too long.
    if kind in _FILES and os.path.isfile(word):  # noqa: PTH113
        raise ConfigError(
            f"{word} is a file; run answers texts.",
            hint=f"Give its lines on standard input, edgekit run BUNDLE < {word}, or judge the"
            " bundle on it with edgekit validate --data.",
        )
    if kind in _FILES or os.sep in word:
        raise ConfigError(
            f"There is no file {_shortened(word, _SHOWN_PATH)}.",
            hint="If it is a text, write it as a JSON string: edgekit run BUNDLE"
            f" '{_quoted(word)}'",
        )


def _quoted(word: str) -> str:
    return _shortened(json.dumps(word, ensure_ascii=False), _SHOWN)


def _unquoted(word: str) -> str:
    """The text that a JSON string holds; any other word as it is."""
    if word[:1] == '"':
        with suppress(ValueError):
            value = json.loads(word)
            return value if isinstance(value, str) else word
    return word


def _text(line: str, task: str) -> object:
    """A text, or the pair or question that a JSON list or object spells out.

    Raises ConfigError for JSON that is neither, and for a text where a question is asked for.
    """
    question = task == "question-answering"
    value: object = line
    if line[:1] in ("[", "{"):
        # A text may begin with a bracket; thousands of brackets or digits are too many to parse.
        with suppress(ValueError, RecursionError):
            value = json.loads(line)
    if isinstance(value, str) and not question:
        return value
    pairs = task != "token-classification"
    if pairs and isinstance(value, list) and [type(part) for part in value] == [str, str]:
        return (value[0], value[1])
    if pairs and isinstance(value, dict) and set(value) == (_QUESTION if question else _PAIR):
        return value
    shown = _shortened(line, _SHOWN)
    if question:
        raise ConfigError(
            f"question-answering reads a question with its context, got {shown!r}.",
            hint='Write {"question": "…", "context": "…"}.',
        )
    if not pairs:
        raise ConfigError(
            f"{task} reads single texts, got the JSON {shown!r}.",
            hint="Give each text as an argument, or one per line on standard input.",
        )
    raise ConfigError(
        f"The input {shown!r} is JSON, but no pair of texts.",
        hint='Write a pair as ["a", "b"]; a text of this form can be given from Python only.',
    )


def _shortened(text: str, most: int) -> str:
    return text if len(text) <= most else text[: most - 1] + "…"


def _plain(value: object) -> object:
    if isinstance(value, np.ndarray):
        return value.tolist()
    if isinstance(value, np.generic):
        return value.item()
    if hasattr(value, "getbbox"):
        # A mask, which JSON cannot show: how much of the picture it is.
        shown = np.asarray(value) > 0
        return {"width": shown.shape[1], "height": shown.shape[0], "pixels": int(shown.sum())}
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    return value
