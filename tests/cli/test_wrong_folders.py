"""A folder that is no bundle, given to every command that takes one."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner

from edgekit.cli.console import Console
from edgekit.cli.main import cli
from edgekit.core.errors import EdgekitError

COMMANDS = {
    "quantize": ("{}", "-o", "out"),
    "compile": ("{}", "-o", "out"),
    "validate": ("{}", "--reference", "module.py:make"),
    "bench": ("{}",),
    "run": ("{}", "a text"),
    "inspect": ("{}",),
    "verify": ("{}",),
    "report": ("{}", "-o", "r.html"),
}


def refused(command: str, path: Path) -> EdgekitError:
    """What a command says of a path in the place of its bundle."""
    words = [command, *(word.format(path) for word in COMMANDS[command])]
    done = CliRunner().invoke(cli, words, obj=Console(json_output=False))
    assert isinstance(done.exception, EdgekitError)
    return done.exception


@pytest.mark.parametrize("command", COMMANDS)
def test_a_folder_that_is_no_bundle(
    command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Exit 6 in the same words, whatever was asked for."""
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "photos"
    folder.mkdir()
    error = refused(command, folder)
    assert (error.exit_code, error.message) == (
        6, f"{folder} is not a bundle: it has no edgekit.json.",
    )  # fmt: skip


@pytest.mark.parametrize("command", [name for name in COMMANDS if name != "report"])
def test_a_path_where_nothing_is(
    command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Exit 2, in the same words."""
    monkeypatch.chdir(tmp_path)
    error = refused(command, tmp_path / "none")
    assert (error.exit_code, error.message) == (2, f"There is no bundle at {tmp_path / 'none'}.")
