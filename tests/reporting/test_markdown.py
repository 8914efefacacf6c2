"""Markdown for pull requests."""

from __future__ import annotations

from dataclasses import replace

from edgekit.reporting import render_markdown
from tests.reporting import results


def test_verdict_and_figures_come_first() -> None:
    """The verdict, its sentence and the figures stand above all that folds."""
    text = render_markdown(results.as_json(results.validation()))

    lines = text.splitlines()
    assert lines[0] == "## ✅ Pass: minilm-ort-int8"
    assert "4.40× as fast" in lines[2]
    assert text.index("| Speed |") < text.index("<details>")
    assert lines[-3:] == ["```sh", results.validation().command, "```"]


def test_hostile_text_is_no_markup() -> None:
    """Markup, mentions, pipes and back-ticks of a sample are shown as they are."""
    text = render_markdown(results.as_json(results.validation()))

    assert "<script" not in text
    assert "<img" not in text
    assert "\\@all" in text
    assert "\\| \\`x\\`" in text
    assert "https://" not in text


def test_a_command_cannot_close_its_fence() -> None:
    """A command that holds back-ticks stands inside a longer fence."""
    result = replace(results.comparison(), command="edgekit bench ``` x")

    text = render_markdown(results.as_json(result))

    assert text.endswith("````sh\nedgekit bench ``` x\n````\n")


def test_rows_of_a_table_have_the_same_cells() -> None:
    """Every table is one: the same number of bars in each of its lines."""
    text = render_markdown(results.as_json(results.comparison()))

    for block in text.split("\n\n"):
        rows = [line.replace("\\|", "") for line in block.splitlines() if line.startswith("|")]
        assert len({row.count("|") for row in rows}) <= 1, block
