"""What an export asks of a model that generates, before anybody has the bundle."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

import edgekit
from edgekit.core.errors import ExportError
from edgekit.pipeline.trying import try_generation
from tests.runtime.generation.conftest import RULES, write_generator


def test_bundle_that_answers_is_let_through(tmp_path: Path) -> None:
    """Greedily, and drawn as its checkpoint says."""
    rules = replace(RULES, defaults={"do_sample": True, "temperature": 0.7})
    with edgekit.load(write_generator(tmp_path / "b", rules).path) as model:
        try_generation(model)


def test_bundle_that_refuses_every_call_is_no_export(tmp_path: Path) -> None:
    """Defaults that contradict each other make every call an error."""
    rules = replace(RULES, defaults={"do_sample": True, "num_beams": 4})
    bundle = write_generator(tmp_path / "b", rules)
    with edgekit.load(bundle.path) as model, pytest.raises(ExportError, match="num_beams=4"):
        try_generation(model)
