"""The bar of a terminal: on stderr, gone at the end, and only where there is a terminal."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from rich.console import Console as Terminal
from rich.progress import Progress, TextColumn

from edgekit.cli import bars
from edgekit.cli.console import Console
from edgekit.runtime.conversation import child_environment
from tests.runtime.conftest import linear_graph, write_bundle


def display(stream: io.StringIO) -> Progress:
    """An empty display on a terminal of 60 columns."""
    terminal = Terminal(file=stream, force_terminal=True, width=60)
    column = TextColumn("{task.description} {task.completed:g}/{task.total:g}", markup=False)
    return Progress(column, console=terminal, auto_refresh=False, transient=True)


def test_a_bar_is_drawn_twice_a_second_at_most() -> None:
    """A terminal that draws takes a processor from what is being timed."""
    stream, times = io.StringIO(), iter([0.0, 0.3, 0.6, 0.7])
    with display(stream) as shown:
        bar = bars.Bars(shown, clock=lambda: next(times))
        for done in range(1, 5):
            bar.advance("Evaluated", done, 9)
        told = stream.getvalue()
        bar.advance("", 9, 9)
        assert shown.tasks == []
    assert [f"Evaluated {done}/9" in told for done in (1, 2, 3, 4)] == [True, False, True, False]


def test_sentences_stand_above_the_bar_as_they_are() -> None:
    """No markup, no control characters, no lines that are broken in two."""
    stream = io.StringIO()
    with display(stream) as shown:
        bars.Bars(shown)("[bold]\x1b[31mred" + "x" * 80)
    assert "[bold]\\x1b[31mred" + "x" * 80 in stream.getvalue()


class Screen(io.StringIO):
    """A stream that calls itself a terminal."""

    def isatty(self) -> bool:
        """It is one."""
        return True


@pytest.mark.parametrize("why", ["pipe", "quiet", "verbose", "dumb", "no rich"])
def test_where_there_is_no_bar_there_are_lines(why: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """As many as ever."""
    console = Console(json_output=False)
    console.verbosity = {"quiet": -1, "verbose": 1}.get(why, 0)
    monkeypatch.setattr(sys, "stderr", io.StringIO() if why == "pipe" else Screen())
    monkeypatch.setenv("TERM", "dumb" if why == "dumb" else "xterm")
    if why == "no rich":
        monkeypatch.setitem(sys.modules, "rich.progress", None)
    with bars.listening(console) as told:
        assert told == console.status


def test_a_terminal_gets_a_bar(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also when stdout is a file."""
    monkeypatch.setattr(sys, "stderr", Screen())
    monkeypatch.setenv("TERM", "xterm")
    with bars.listening(Console(json_output=False)) as told:
        assert isinstance(told, bars.Bars)


@pytest.mark.skipif(sys.platform == "win32", reason="a terminal of one's own is POSIX")
def test_the_bar_of_a_command_leaves_the_results_alone(tmp_path: Path) -> None:
    """One JSON object on stdout; the rounds on the terminal, whose cursor comes back."""
    import pty

    write_bundle(tmp_path / "linear", linear_graph(), task="custom")
    words = ("bench", "linear", "--json", "--budget", "0.4", "--processes", "2", "--threads", "1")
    ours, theirs = pty.openpty()
    with subprocess.Popen(
        [sys.executable, "-m", "edgekit", *words],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=theirs,
        env=child_environment(TERM="xterm"),
    ) as process:
        os.close(theirs)
        seen = b""
        # Linux ends a terminal whose other side is gone with an error.
        try:
            while found := os.read(ours, 1 << 16):
                seen += found
        except OSError:
            pass
        os.close(ours)
        assert process.stdout is not None
        printed = process.stdout.read()
    assert process.returncode == 0, seen.decode()
    assert json.loads(printed)["protocol"]["rounds"] == 2
    shown = seen.decode()
    assert "Round 1 of 2, 0 of 0.4 s timed" in shown
    assert "━" in shown
    assert shown.rindex("\x1b[?25h") > shown.rindex("\x1b[?25l")
