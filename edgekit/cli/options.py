"""Options that several commands share, and what their texts mean."""

from __future__ import annotations

import logging
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Literal, TypeVar

import click

from edgekit.cli.configuration import read_defaults
from edgekit.cli.console import Console
from edgekit.core.errors import ConfigError

F = TypeVar("F", bound=Callable[..., object])

pass_console = click.make_pass_decorator(Console)


class Length(click.ParamType["int | Literal['data']"]):
    """A number of tokens, or the word "data"."""

    name = "length"

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> int | Literal["data"]:
        """See `click.ParamType.convert`."""
        if value == "data":
            return "data"
        if isinstance(value, bool) or not str(value).isdecimal() or int(str(value)) < 1:
            self.fail(f"{value!r} is neither a number of tokens nor 'data'.", param, ctx)
        return int(str(value))


class BundlePath(click.ParamType[Path]):
    """The path of a bundle; an empty one, of a variable that was not set, is no current folder."""

    name = "bundle"

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> Path:
        """See `click.ParamType.convert`."""
        if not str(value):
            self.fail("the path of the bundle is empty.", param, ctx)
        return Path(str(value))


def common(function: F) -> F:
    """``--json``, ``-q``, ``-v`` and ``--config``: every command has them."""
    for option in reversed(
        [
            click.option(
                "--json", is_flag=True, expose_value=False, help="Print one JSON object on stdout."
            ),
            click.option(
                "-q", "--quiet", is_flag=True, expose_value=False, callback=_quiet,
                help="Print results and errors only.",
            ),
            click.option(
                "-v", "--verbose", is_flag=True, expose_value=False, callback=_verbose,
                help="Tell more of what is being done.",
            ),
            click.option(
                "--config", type=click.Path(path_type=Path), is_eager=True, expose_value=False,
                callback=_config, metavar="FILE.toml",
                help="Defaults: option = value for all commands, under [COMMAND] for one.",
            ),
        ]
    ):  # fmt: skip
        function = option(function)
    return function


def seed(function: F) -> F:
    """``--seed``, of the commands that choose at random: every choice follows from it."""
    return click.option(
        "--seed", type=int, default=0, show_default=True, help="Seed of every random choice."
    )(function)


def output(function: F) -> F:
    """``-o/--output`` and ``--force`` of the commands that write a bundle."""
    function = click.option("--force", is_flag=True, help="Replace an existing output.")(function)
    return click.option(
        "-o", "--output", type=click.Path(path_type=Path), required=True, metavar="DIR",
        help="The folder of the new bundle.",
    )(function)  # fmt: skip


def target(*, what: str = "see: edgekit targets.", engine: str = "the first") -> Callable[[F], F]:
    """``--target``, ``--engine`` and ``--set``: what a bundle is made for.

    `what` ends the help of the target; `engine` says which of its engines are the default.
    """
    made = [
        click.option(
            "--target", default="host", show_default=True, metavar="NAME|FILE.toml",
            help=f"The target profile; {what}",
        ),
        click.option(
            "--engine", metavar="NAME", help=f"One of the target's engines; {engine} by default."
        ),
        click.option(
            "--set", "overrides", multiple=True, metavar="KEY=VALUE",
            help="Change a key of the profile, e.g. options.openvino.streams=2.",
        ),
    ]  # fmt: skip

    def add(function: F) -> F:
        for option in reversed(made):
            function = option(function)
        return function

    return add


def workload(function: F) -> F:
    """``--batch``, ``--length`` and ``--threads`` of the commands that choose by measuring."""
    for option in reversed(
        [
            click.option(
                "--batch", type=click.IntRange(min=1), help="Batch of the workload to choose for."
            ),
            click.option(
                "--length", type=click.IntRange(min=1), help="Tokens of the workload to choose for."
            ),
            click.option("--threads", type=click.IntRange(min=1), help="Threads of the engine."),
        ]
    ):
        function = option(function)
    return function


def source_loading(function: F) -> F:
    """How a PyTorch source is loaded."""
    for option in reversed(
        [
            click.option("--revision", metavar="REV", help="Revision of a Hugging Face model."),
            click.option(
                "--trust-remote-code", is_flag=True,
                help="Run code that comes with the source (custom models, .pt2 files).",
            ),
        ]
    ):  # fmt: skip
        function = option(function)
    return function


def source_reading(function: F) -> F:
    """``--task``, ``--input`` and ``--processor``: what a PyTorch source may not tell itself."""
    for option in reversed(
        [
            click.option(
                "--task", metavar="TASK", help="The task; inferred from the source by default."
            ),
            click.option(
                "--input", "inputs", multiple=True, metavar="NAME=DTYPE:DIM,…",
                help="An input of a custom module; a name as DIM is a dimension that varies.",
            ),
            click.option(
                "--processor", type=click.Path(path_type=Path, dir_okay=False), metavar="FILE",
                help="How a custom module's pictures are prepared and its outputs read, as JSON or"
                " TOML.",
            ),
        ]
    ):  # fmt: skip
        function = option(function)
    return function


def reference_inputs(function: F) -> F:
    """``--input`` of the commands that run a reference."""
    return click.option(
        "--input", "inputs", multiple=True, metavar="NAME=DTYPE:DIM,…",
        help="An input of a custom reference; the bundle's own by default.",
    )(function)  # fmt: skip


def timing(*, budget: float, sweep: bool) -> Callable[[F], F]:
    """What is timed, and for how long; with `sweep` several batches and lengths."""
    if sweep:
        sizes = [
            click.option(
                "--batch", "batches", type=click.IntRange(min=1), multiple=True, default=(1,),
                show_default=True, help="Rows of a workload; may be repeated.",
            ),
            click.option(
                "--length", "lengths", type=Length(), multiple=True, metavar="N|data",
                help="Tokens of a workload, or those of --data; may be repeated"
                " (16 and 128 by default).",
            ),
        ]  # fmt: skip
    else:
        sizes = [
            click.option(
                "--batch", type=click.IntRange(min=1), help="Batch of the timing; the bundle's own."
            ),
            click.option(
                "--length", type=Length(), metavar="N|data",
                help="Tokens of the timing, or those of --data.",
            ),
        ]  # fmt: skip

    def add(function: F) -> F:
        for option in reversed(
            [
                *sizes,
                click.option(
                    "--threads", type=click.IntRange(min=1), help="Threads of every model."
                ),
                click.option(
                    "--budget", type=float, default=budget, show_default=True,
                    help="Seconds of timing in all, start-up of the processes excluded.",
                ),
                click.option(
                    "--processes", type=click.IntRange(min=2), default=5, show_default=True,
                    help="Fresh processes of every model.",
                ),
            ]
        ):  # fmt: skip
            function = option(function)
        return function

    return add


def data(function: F) -> F:
    """``--data`` and ``--columns``."""
    for option in reversed(
        [
            click.option(
                "--data", metavar="DATA", help="Labelled samples: FILE[#split] or data set id."
            ),
            click.option(
                "--columns", metavar="MAP", help="Column names, e.g. text=review,label=stars."
            ),
        ]
    ):
        function = option(function)
    return function


def budget(drop: str) -> Callable[[F], F]:
    """``--metric`` and ``--max-drop`` of the commands that choose; `drop` helps with the last."""

    def add(function: F) -> F:
        limit = click.option("--max-drop", metavar="DROP", help=drop)
        return click.option(
            "--metric", metavar="NAME|MODULE:FUNCTION", help="The metric of the budget."
        )(limit(function))

    return add


def report_files(function: F) -> F:
    """``--html`` and ``--markdown`` of commands whose result is worth sending."""
    for option in reversed(
        [
            click.option(
                "--html", type=click.Path(path_type=Path), metavar="FILE",
                help="Write the result as a page: one file, no scripts, no network.",
            ),
            click.option(
                "--markdown", type=click.Path(path_type=Path), metavar="FILE",
                help="Write the result as Markdown, for a pull request.",
            ),
        ]
    ):  # fmt: skip
        function = option(function)
    return function


def reports(function: F) -> F:
    """The same with a ``--force`` of their own, of commands that write nothing else."""
    forced = click.option("--force", is_flag=True, help="Replace reports that exist.")
    return report_files(forced(function))


def static_dimensions(values: tuple[str, ...]) -> dict[str, int]:
    """``--static batch=1 --static sequence=128`` as a mapping; ConfigError for another form."""
    dimensions: dict[str, int] = {}
    for value in values:
        name, separator, number = value.partition("=")
        if not separator or not name or not re.fullmatch(r"[0-9]{1,9}", number) or int(number) < 1:
            raise ConfigError(
                f"--static takes DIM=N with a whole number above 0, got {value!r}.",
                hint="For example: --static batch=1 --static sequence=128",
            )
        dimensions[name] = int(number)
    return dimensions


def _quiet(context: click.Context, _: click.Parameter, value: bool) -> None:
    if value:
        context.find_object(Console).verbosity = -1  # type: ignore[union-attr]
        logging.getLogger("edgekit").setLevel(logging.ERROR)


def _verbose(context: click.Context, _: click.Parameter, value: bool) -> None:
    if value:
        context.find_object(Console).verbosity = 1  # type: ignore[union-attr]
        logging.basicConfig(format="%(name)s: %(message)s", stream=sys.stderr)
        logging.getLogger("edgekit").setLevel(logging.DEBUG)


def _config(context: click.Context, _: click.Parameter, path: Path | None) -> None:
    if path is not None:
        defaults = read_defaults(context, path)
        context.default_map = {**(context.default_map or {}), **defaults}
