"""What `edgekit inspect` tells a person."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from edgekit.cli.commands.inspecting import describe
from edgekit.core.bundle import Bundle
from edgekit.core.manifest import RuntimeChoice, Step
from tests.core.conftest import make_manifest


def test_facts_of_a_step_are_told() -> None:
    """What a compiled bundle was compared with, and why it did not run; not the tables."""
    step = Step(
        "compile",
        seconds=1.5,
        versions={"edgekit": "0.1.0", "openvino": "2026.4.1"},
        facts={"compared": "PyTorch", "not_run": "no NPU", "components": {"model": {"opset": 1}}},
    )
    told = describe(Bundle(Path("b"), replace(make_manifest(), steps=(step,)))).splitlines()
    at = told.index("  compile, 1.5 s (edgekit 0.1.0, openvino 2026.4.1)")
    assert told[at + 1 : at + 4] == ["    compared = PyTorch", "    not_run = no NPU", ""]


def test_who_chose_the_options_is_told_in_words() -> None:
    """A workload is told as numbers, not as a Python dict."""
    choice = RuntimeChoice({"streams": 1}, {"what": "measured", "workload": {"batch": 1}})
    told = describe(Bundle(Path("b"), replace(make_manifest(), runtime=choice)))
    assert "what measured, workload (batch 1)" in told
