"""Checkpoint folders that the tests spoil, each a fresh copy."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.models import save_model


@pytest.fixture(scope="session")
def _saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_model("bert", "text-classification", tmp_path_factory.mktemp("saved") / "bert")


@pytest.fixture
def checkpoint(_saved: Path, tmp_path: Path) -> Path:
    """A copy of a tiny BERT classifier's folder, to be changed at will."""
    folder = tmp_path / "checkpoint"
    shutil.copytree(_saved, folder)
    return folder
