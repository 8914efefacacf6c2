"""Options that several commands share, and what their texts mean."""

from __future__ import annotations

import logging
import re
import sys
import tomllib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TypeVar

import click

from edgekit.cli.console import Console
from edgekit.core.errors import ConfigError
from edgekit.core.profiles import nearest

F = TypeVar("F", bound=Callable[..., object])

pass_console = click.make_pass_decorator(Console)


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
                callback=_config, metavar="FILE.toml", help="Defaults for any option.",
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
        logging.basicConfig(format="%(name)s: %(message)s", stream=sys.stderr)
        logging.getLogger("edgekit").setLevel(logging.DEBUG)


def _config(context: click.Context, _: click.Parameter, path: Path | None) -> None:
    """Read defaults: keys of the top level, then those of a table named as the command."""
    if path is None:
        return
    try:
        values = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"The configuration {path} cannot be read: {error.strerror}.") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} is not valid TOML: {error}.") from error
    group = context.parent.command if context.parent else None
    commands = group.list_commands(context) if isinstance(group, click.Group) else []
    known = {
        word.lstrip("-"): parameter
        for parameter in context.command.params
        if isinstance(parameter, click.Option)
        for word in parameter.opts
        if word.startswith("--")
    }
    tables = {key: value for key, value in values.items() if isinstance(value, Mapping)}
    for name in tables:
        if name not in commands:
            raise ConfigError(
                f"{path}: there is no command {name!r}.", hint=nearest(name, list(commands))
            )
    own = tables.get(context.command.name or "", {})
    shared = {key: value for key, value in values.items() if key not in tables}
    for name in commands:
        if name in shared:
            raise ConfigError(f"{path}: {name} should be a table, got {shared[name]!r}.")
    defaults: dict[str, object] = {}
    for key, value in {**shared, **own}.items():
        parameter = known.get(key.replace("_", "-"))
        if parameter is None or not parameter.expose_value:
            # A shared file may hold options of other commands on its top level, not in our table.
            if key in own:
                names = [name for name, option in known.items() if option.expose_value]
                raise ConfigError(
                    f"{path}: {context.command.name} has no option {key!r} to set.",
                    hint=nearest(key.replace("_", "-"), names),
                )
            continue
        several = isinstance(value, list)
        if several and not parameter.multiple:
            raise ConfigError(f"{path}: {key} takes one value, got {value!r}.")
        # One value of an option that may be repeated is a list of one.
        defaults[parameter.name or key] = [value] if parameter.multiple and not several else value
    context.default_map = {**(context.default_map or {}), **defaults}
