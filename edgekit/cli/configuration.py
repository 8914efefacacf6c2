"""``--config FILE.toml``: defaults for options, in a file that holds nothing else."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path

import click

from edgekit.core.errors import ConfigError
from edgekit.core.profiles import nearest


def read_defaults(context: click.Context, path: Path) -> dict[str, object]:
    """What the file sets for the command of a context, by the names of its parameters.

    Keys of the top level are for every command that has such an option; those of a table are for
    the command that it is named after, and come first.

    Raises ConfigError for a file that cannot be read, a table that names no command, and a key
    that none of the commands it is meant for has as an option.
    """
    values = _read(path)
    group = context.parent.command if context.parent else None
    commands = group.list_commands(context) if isinstance(group, click.Group) else []
    tables = {key: value for key, value in values.items() if isinstance(value, Mapping)}
    shared = {key: value for key, value in values.items() if key not in tables}
    for name in tables:
        if name not in commands:
            raise ConfigError(
                f"{path}: there is no command {name!r}.", hint=nearest(name, commands)
            )
    for name in shared:
        if name in commands:
            raise ConfigError(f"{path}: {name} should be a table, got {shared[name]!r}.")
    own_name = context.command.name or ""
    own = _options(context.command)
    for name, table in tables.items():
        known = own if name == own_name else _options(_command(group, context, name))
        _refuse_unknown(table, known, f"{path}: {name} has no option", known)
    if any(_word(key) not in own for key in shared):
        # Only now: the other commands are imported to look at their options.
        every = {word for name in commands for word in _options(_command(group, context, name))}
        _refuse_unknown(shared, every, f"{path}: no command has an option", own)
    meant = {**{key: value for key, value in shared.items() if _word(key) in own},
             **tables.get(own_name, {})}  # fmt: skip
    return dict(_default(path, key, value, own[_word(key)]) for key, value in meant.items())


def _read(path: Path) -> dict[str, object]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"The configuration {path} cannot be read: {error.strerror}.") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} is not valid TOML: {error}.") from error


def _command(group: click.Command | None, context: click.Context, name: str) -> click.Command:
    found = group.get_command(context, name) if isinstance(group, click.Group) else None
    return context.command if found is None else found


def _options(command: click.Command) -> dict[str, click.Option]:
    """The options of a command that a file can set, by their long names without dashes."""
    return {
        word.lstrip("-"): parameter
        for parameter in command.params
        if isinstance(parameter, click.Option) and parameter.expose_value
        for word in parameter.opts
        if word.startswith("--")
    }


def _word(key: str) -> str:
    return key.replace("_", "-")


def _refuse_unknown(
    table: Mapping[str, object],
    known: Mapping[str, click.Option] | set[str],
    fact: str,
    proposed: Mapping[str, click.Option],
) -> None:
    """`proposed` are tried for the nearest name before all that are `known`."""
    for key in table:
        if _word(key) in known:
            continue
        hint = nearest(_word(key), list(proposed))
        if not hint.startswith("Did you mean"):
            hint = nearest(_word(key), sorted(known))
        raise ConfigError(f"{fact} {key!r} to set.", hint=hint)


def _default(path: Path, key: str, value: object, option: click.Option) -> tuple[str, object]:
    several = isinstance(value, Sequence) and not isinstance(value, str)
    if isinstance(value, Mapping) or (several and not option.multiple):
        raise ConfigError(f"{path}: {key} takes one value, got {value!r}.")
    # One value of an option that may be repeated is a list of one.
    one = option.multiple and not several
    return option.name or key, [value] if one else value
