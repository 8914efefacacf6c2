"""``edgekit run``: predictions from the shell, one JSON line per input."""

from __future__ import annotations

import json
import os
import sys
import zipfile
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path

import click
import numpy as np

from edgekit.cli.console import Console
from edgekit.cli.options import common, pass_console
from edgekit.core.errors import ConfigError
from edgekit.core.results import to_json
from edgekit.runtime import load
from edgekit.runtime.model import Model

# Lines of standard input that are predicted together.
_BATCH = 32


@click.command("run")
@click.argument("bundle", type=click.Path(path_type=Path))
@click.argument("inputs", nargs=-1)
@click.option("--engine", metavar="NAME", help="Run on this engine instead of the bundle's own.")
@click.option("--threads", type=click.IntRange(min=1), help="Threads of the engine.")
@common
@pass_console
def command(
    console: Console,
    bundle: Path,
    inputs: tuple[str, ...],
    engine: str | None,
    threads: int | None,
) -> None:
    """Predict: texts as arguments or lines of standard input; .npz files for custom models.

    A pair of texts is written as a JSON list, a question with its context as a JSON object. The
    answer to each input is one JSON line (with --json one object that holds them all).
    """
    with load(bundle, engine=engine, threads=threads) as model:
        answers: list[object] = []
        count = 0
        for some in _batches(inputs):
            for answer in _predict(model, some):
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


def _batches(inputs: Sequence[str]) -> Iterator[list[str]]:
    if inputs and inputs != ("-",):
        yield list(inputs)
        return
    if sys.stdin.isatty():
        raise ConfigError(
            "run got no input.", hint="Give a text, a .npz file, or lines on standard input."
        )
    lines = (line.rstrip("\n") for line in sys.stdin)
    while some := list(islice(lines, _BATCH)):
        yield some


def _predict(model: Model, inputs: list[str]) -> list[object]:
    if model.task == "custom":
        return [model(_arrays(Path(path))) for path in inputs]
    for line in inputs:
        # Its name would be answered as a text. Path.is_file() raises where a text is too long.
        if line.endswith(".npz") and os.path.isfile(line):  # noqa: PTH113
            raise ConfigError(
                f"{line} is a file of arrays; this bundle's task {model.task} reads texts.",
                hint="Give texts, or pass arrays to model.run() in Python.",
            )
    parsed = [_text(line) for line in inputs]
    answers = model(parsed)
    return list(answers) if isinstance(answers, list) else [answers]


def _text(line: str) -> object:
    """A text, or the pair or question that a JSON list or object spells out."""
    if line[:1] in ("[", "{"):
        try:
            value = json.loads(line)
        except json.JSONDecodeError:
            return line
        if isinstance(value, dict):
            return value
        if isinstance(value, list) and len(value) == 2 and all(isinstance(v, str) for v in value):
            return (value[0], value[1])
    return line


def _arrays(path: Path) -> dict[str, np.ndarray]:
    if not path.is_file():
        raise ConfigError(
            f"There is no file {path}.",
            hint="A custom model takes a .npz file with one array per input.",
        )
    try:
        archive = np.load(path, allow_pickle=False)
        if not isinstance(archive, np.lib.npyio.NpzFile):
            raise ConfigError(
                f"{path} holds one array without a name.",
                hint="Write it with numpy.savez(FILE, INPUT=array, …), named as the inputs.",
            )
        with archive:
            return {name: archive[name] for name in archive.files}
    except (ValueError, OSError, EOFError, KeyError, zipfile.BadZipFile) as error:
        raise ConfigError(
            f"{path} is not a readable .npz file: {error or 'it is empty'}.",
            hint="Write it with numpy.savez(FILE, INPUT=array, …).",
        ) from error


def _plain(value: object) -> object:
    if isinstance(value, np.ndarray):
        return value.tolist()
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    return value
