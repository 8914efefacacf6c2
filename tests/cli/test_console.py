"""What reaches the terminal: strangers' texts are shown and not obeyed."""

from __future__ import annotations

from dataclasses import replace

import pytest

from edgekit.cli.commands._bench_tables import describe
from edgekit.cli.console import Console, printable, table
from edgekit.core.errors import ConfigError
from tests.reporting import results

RED = "\x1b[31mred\x07\x9b1m"


def test_control_characters_are_spelled_out() -> None:
    """All but the ends of lines and tabulators; letters of every script stay."""
    assert printable(f"a\tb\n{RED}\r\x7f ä 日 👍🏽") == (
        "a\tb\n\\x1b[31mred\\x07\\x9b1m\\r\\x7f ä 日 👍🏽"
    )


def test_a_cell_is_one_line() -> None:
    """Its width is that of what is shown."""
    lines = table(("name", "n"), [(f"{RED}\nx", 1), ("y", 2)]).split("\n")
    assert lines[2] == "\\x1b[31mred\\x07\\x9b1m\\nx  1"
    assert lines[3] == "y".ljust(len(lines[2]) - 3) + "  2"


def test_everything_that_is_printed_is_harmless(capfd: pytest.CaptureFixture[str]) -> None:
    """Results, states and errors."""
    console = Console(json_output=False)
    console.result(None, RED)
    console.status(RED)
    console.fail(ConfigError(RED, hint=RED))
    told = "".join(capfd.readouterr())
    assert "\x1b" not in told
    assert told.count("\\x1b[31mred") == 4


def test_an_attached_file_writes_no_lines_of_its_own(capfd: pytest.CaptureFixture[str]) -> None:
    """The name of its processor, of its contenders and of what made it noisy."""
    result = replace(results.comparison(), protocol={})
    other = result.attached[0]
    other = replace(
        other,
        device={"cpu": f"{RED}\nspeed 100×"},
        contenders=tuple(replace(row, name=RED, engine=RED) for row in other.contenders),
    )
    Console(json_output=False).result(result, describe(replace(result, attached=(other,))))
    told = capfd.readouterr().out
    assert "\x1b" not in told
    assert "\nspeed 100×" not in told
