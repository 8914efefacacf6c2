"""What README says of the product is what the product says of itself."""

from __future__ import annotations

import re

import click

from benchmarks.readme import README, between, targets
from edgekit.cli.main import COMMANDS, cli
from edgekit.core.errors import EdgekitError

TEXT = README.read_text(encoding="utf-8")


def test_targets_are_the_profiles() -> None:
    """The table of targets is the generated one."""
    assert between(TEXT, "targets", targets()) == TEXT, "run: python -m benchmarks.readme"


def test_every_command_has_a_row() -> None:
    """No command is missing from the table, and none is listed that is not there."""
    section = TEXT.split("## Commands")[1].split("\n## ")[0]
    listed = re.findall(r"^\| `edgekit (\w+)", section, re.MULTILINE)
    assert sorted(listed) == sorted(COMMANDS)


def test_every_exit_code_is_told() -> None:
    """Each exit code of the error tree is explained."""
    codes = {error.exit_code for error in _tree(EdgekitError)}
    for code in codes:
        assert f"{code} " in TEXT.split("Exit codes:")[1].split("\n\n")[0]


def test_documented_options_exist() -> None:
    """Every option that README shows with a command is one of that command's."""
    blocks = "".join(re.findall(r"```bash\n(.*?)```", TEXT, re.DOTALL))
    lines = re.findall(r"^edgekit (.+)$", blocks, re.MULTILINE)
    assert lines
    for line in lines:
        name, *words = line.split("#")[0].split()
        command = cli.get_command(click.Context(cli), name)
        assert command is not None
        known = {word for parameter in command.params for word in parameter.opts}
        assert {word for word in words if word.startswith("-") and len(word) > 2} <= known


def _tree(error: type[EdgekitError]) -> set[type[EdgekitError]]:
    below = {sub for child in error.__subclasses__() for sub in _tree(child)}
    return {error, *below}
