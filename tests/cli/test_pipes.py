"""A reader that goes away: the command ends quietly, with its own exit code."""

from __future__ import annotations

import io
import os
import subprocess
import sys
from pathlib import Path

import pytest

from edgekit.cli.console import Outlet, ReaderGone, outlet
from tests.core.conftest import write_bundle

# A stand-in for a command of the table: the code of its body is given in the test.
STAND_IN = """
import sys, types
import click
from edgekit.cli import main
from edgekit.cli.options import common, pass_console
from edgekit.core.errors import BudgetNotMet

@click.command("inspect")
@common
@pass_console
def command(console):
{body}

stand_in = types.ModuleType("edgekit.cli.commands.inspecting")
stand_in.command = command
sys.modules[stand_in.__name__] = stand_in
main.main(["inspect", *sys.argv[1:]])
"""


def unread(*words: object, errors: bool = False) -> subprocess.CompletedProcess[str]:
    """Run with a standard output (and error) that nobody reads any more."""
    reader, writer = os.pipe()
    os.close(reader)
    try:
        return subprocess.run(
            [sys.executable, *map(str, words)],
            stdout=writer,
            stderr=writer if errors else subprocess.PIPE,
            text=True,
        )
    finally:
        os.close(writer)


def stand_in(*lines: str) -> str:
    """The program of a command with this body."""
    return STAND_IN.format(body="\n".join(f"    {line}" for line in lines))


@pytest.mark.parametrize("words", [["--help"], ["inspect", "--help"], ["targets"], ["BUNDLE"]])
def test_text_that_nobody_reads(tmp_path: Path, words: list[str]) -> None:
    """Where only the printing failed the command succeeded, and says nothing more."""
    if words == ["BUNDLE"]:
        words = ["inspect", str(write_bundle(tmp_path / "b").path)]
    done = unread("-m", "edgekit", *words)
    assert (done.returncode, done.stderr) == (0, "")


def test_json_that_nobody_reads(tmp_path: Path) -> None:
    """The same holds for the one JSON object."""
    done = unread("-m", "edgekit", "inspect", write_bundle(tmp_path / "b").path, "--json")
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("errors", [False, True])
def test_verdict_that_nobody_reads(errors: bool) -> None:
    """A missed budget stays 5 when its table could not be printed, nor its error told."""
    body = ("print('long\\n' * 50_000, flush=True)", "raise BudgetNotMet('missed')")
    done = unread("-c", stand_in(*body), errors=errors)
    assert done.returncode == 5
    assert errors or done.stderr == "Error: missed\n"


def test_work_goes_on_without_a_reader(tmp_path: Path) -> None:
    """Progress that nobody reads does not stop what it is about."""
    made = tmp_path / "made"
    body = ("console.status('working')", f"open({str(made)!r}, 'w').close()")
    assert unread("-c", stand_in(*body), errors=True).returncode == 0
    assert made.exists()


def test_stream_ends_with_its_reader() -> None:
    """Where the answers are all that a command does, it stops when nobody reads them."""
    reader, writer = os.pipe()
    os.close(reader)
    with open(writer, "w", encoding="utf-8") as stream:  # noqa: PTH123
        opened = outlet(stream)
        assert opened is not None
        opened.ends = True
        with pytest.raises(ReaderGone):
            print("answer", file=opened, flush=True)
        print("more", file=opened, flush=True)


def test_outlet_speaks_as_its_stream_does() -> None:
    """Text, encoding and buffering are those of the stream it stands for."""
    held = io.BytesIO()
    opened = outlet(io.TextIOWrapper(held, encoding="latin-1", write_through=True))
    assert isinstance(opened, Outlet)
    print("Größe", file=opened)
    assert held.getvalue() == "Größe\n".encode("latin-1")


def test_run_ends_with_its_reader() -> None:
    """An endless input ends when nobody reads the answers, and that is success."""
    done = unread("-c", stand_in("while True: print('answer', flush=True)").replace(
        '["inspect", *', '["run", *').replace("commands.inspecting", "commands.running"
    ))  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")


def test_source_that_ends_the_process() -> None:
    """sys.exit() in the code of a source is a failed step, whatever code it gives."""
    done = unread("-c", stand_in("sys.exit(0)"))
    assert done.returncode == 4
    assert "The code of the source ended the process with exit code 0." in done.stderr


def test_broken_pipe_to_another_process() -> None:
    """A pipe that is not ours to print on is a bug with its traceback, not a silent end."""
    done = unread("-c", stand_in("raise BrokenPipeError(32, 'Broken pipe')"))
    assert done.returncode == 1
    assert "a pipe to another process broke" in done.stderr
