"""``edgekit run`` of generative models: their options, and an answer told as it comes."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Generator, Mapping
from contextlib import closing, suppress
from typing import TypeVar, cast

import click

from edgekit.cli.console import Console, printable
from edgekit.core.errors import ConfigError, InputMismatch
from edgekit.core.results import to_json
from edgekit.runtime.model import GENERATIVE, Model

F = TypeVar("F", bound=Callable[..., object])

#: The options by the names that a model takes them under.
NAMES: Mapping[str, str] = {
    "max_new_tokens": "max_new_tokens",
    "sample": "do_sample",
    "temperature": "temperature",
    "top_k": "top_k",
    "top_p": "top_p",
    "min_p": "min_p",
    "repetition_penalty": "repetition_penalty",
    "num_beams": "num_beams",
    "stop": "stop_strings",
    "seed": "seed",
    "language": "language",
    "task": "task",
    "timestamps": "return_timestamps",
    "no_speech_threshold": "no_speech_threshold",
    "logprob_threshold": "logprob_threshold",
}


def generation(function: F) -> F:
    """The options of generative models; see `chosen`."""
    for option in reversed(
        [
            click.option(
                "--prompt", metavar="TEXT",
                help="Answer this prompt, told as it comes; a chat model gets it as a message, or a"
                " conversation as JSON: [{\"role\": …, \"content\": …}].",
            ),
            click.option(
                "--raw", is_flag=True, help="Give --prompt to a chat model without its template."
            ),
            click.option("--max-new-tokens", type=int, metavar="N", help="Most tokens to tell."),
            click.option(
                "--sample/--greedy", default=None,
                help="Draw each token, or take the likeliest; by default as the model says.",
            ),
            click.option("--temperature", type=float, help="Draw; above 1 more freely."),
            click.option("--top-k", type=int, help="Draw among so many tokens."),
            click.option("--top-p", type=float, help="Draw among the likeliest of this chance."),
            click.option("--min-p", type=float, help="Draw among those of this part of the best."),
            click.option(
                "--repetition-penalty", type=float, help="Above 1: what was said is less likely."
            ),
            click.option("--num-beams", type=int, help="Follow so many answers, tell the best."),
            click.option(
                "--stop", multiple=True, metavar="TEXT", help="End with this text; may be repeated."
            ),
            click.option("--seed", type=int, help="What is drawn follows from it."),
            click.option(
                "--language", metavar="NAME",
                help="What is spoken, as en or english; a multilingual model finds it out itself.",
            ),
            click.option(
                "--task", metavar="NAME", help="transcribe speech, or translate it into English."
            ),
            click.option(
                "--timestamps", is_flag=True, default=None, help="Also tell when speech was said."
            ),
            click.option(
                "--no-speech-threshold", type=float, metavar="CHANCE",
                help="Skip a window that is likelier silent than this (0.6), where …",
            ),
            click.option(
                "--logprob-threshold", type=float, metavar="LOG",
                help="… its tokens are less likely than this on average (-1.0).",
            ),
        ]
    ):  # fmt: skip
        function = option(function)
    return function


def chosen(options: Mapping[str, object]) -> dict[str, object]:
    """Those of the command's options that were given, by the model's names."""
    return {
        name: list(value) if isinstance(value, tuple) else value
        for key, name in NAMES.items()
        if (value := options.get(key)) is not None and value != ()
    }


def check_generative(model: Model, prompt: str | None, options: Mapping[str, object]) -> None:
    """Raise ConfigError for options of generative models where the model is none."""
    if model.manifest.generation is not None or not (options or prompt is not None):
        return
    given: str | None = "--prompt"
    if prompt is None:
        name, value = next(iter(options.items()))
        given = on_shell(name, value if isinstance(value, bool) else None)
    raise ConfigError(
        f"{given} is for models that generate; this bundle's task is {model.task}.",
        hint=f"Leave it out, or load a bundle of {', '.join(sorted(GENERATIVE))}.",
    )


def on_shell(name: str, value: object = None) -> str | None:
    """How the command writes an option of a model's; None for one that it has not."""
    if name == "do_sample":
        return "--greedy" if value is False else "--sample"
    key = next((key for key, own in NAMES.items() if own == name), None)
    if key is None:
        return None
    word = f"--{key.replace('_', '-')}"
    return word if value is None or isinstance(value, bool) else f"{word} {value}"


def answer_prompt(
    console: Console, model: Model, prompt: str, options: Mapping[str, object], *, raw: bool
) -> None:
    """Tell the answer to one prompt as it comes, or with ``--json`` when it is there.

    As JSON it is what a call answers, the form of inputs that are given as arguments.
    Raises ConfigError for a prompt that the model does not take: what was typed is at fault.
    """
    if (model.manifest.processor or {}).get("input") != "text":
        raise ConfigError(
            f"--prompt is a text; this bundle's task {model.task} reads sounds.",
            hint="Give the path of a sound: edgekit run BUNDLE clip.wav",
        )
    asked = _asked(model, prompt, raw=raw)
    try:
        if console.json_output:
            answers = model([asked], **options)  # type: ignore[arg-type]
            console.result({"predictions": to_json(answers)}, "")
            return
        pieces = model.stream(asked, **options)
    except InputMismatch as error:
        raise ConfigError(error.message, hint=error.hint) from error
    with closing(cast("Generator[str, None, None]", pieces)):
        begun = False
        try:
            for piece in pieces:
                begun = True
                sys.stdout.write(printable(piece))
                sys.stdout.flush()
        finally:
            # Also after Ctrl-C: the shell's next line is one of its own.
            if begun:
                sys.stdout.write("\n")
                sys.stdout.flush()


def _asked(model: Model, prompt: str, *, raw: bool) -> object:
    """What a prompt asks: a conversation, as it stands in JSON or of one message, or a text."""
    if raw:
        return prompt
    if prompt.lstrip()[:1] == "[":
        # A text may begin with a bracket; thousands of brackets or digits are too many to parse.
        with suppress(ValueError, RecursionError):
            found = json.loads(prompt)
            if found and all(isinstance(one, dict) and "role" in one for one in found):
                return found
    if (model.manifest.generation or {}).get("chat") is None:
        return prompt
    return [{"role": "user", "content": prompt}]
