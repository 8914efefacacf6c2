"""Trained models of the zoo: their SOURCEs, their data, and bundles that are exported once."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import edgekit
from benchmarks.zoo import fetch
from tests.conftest import make_once


def command(*words: object) -> tuple[int, dict[str, object], str]:
    """(exit code, the JSON object on standard output, standard error) of an edgekit command."""
    done = subprocess.run(
        [sys.executable, "-m", "edgekit", *map(str, words), "--json"],
        capture_output=True,
        text=True,
    )
    result = json.loads(done.stdout)
    assert isinstance(result, dict)
    return done.returncode, result, done.stderr


def source_of(name: str) -> str:
    """The SOURCE of a model of the zoo."""
    return f"{fetch(name)}/model.py:build" if name == "digits-cnn" else str(fetch(name))


def declared(name: str) -> tuple[str, ...]:
    """The inputs that a custom module needs named."""
    return ("--input", "image=float32:batch,1,28,28") if name == "digits-cnn" else ()


def data_of(name: str) -> Path:
    """Labelled data that the model was not trained on."""
    if name == "digits-cnn":
        return fetch("digits") / "digits.npz"
    return fetch("movies") / "movies.csv"


def exported(shared: Path, name: str) -> Path:
    """A model of the zoo as a bundle, one for all tests: nobody writes into it."""
    return make_once(
        shared / f"zoo-{name}",
        lambda folder: edgekit.export(
            source_of(name), folder, trust_remote_code=True, inputs=declared(name)[1:]
        ),
    )
