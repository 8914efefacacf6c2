"""Tiny exported bundles that many tests read, made once for all worker processes."""

from __future__ import annotations

import fcntl
import gc
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from edgekit.core.cachefolder import VARIABLE


@pytest.fixture(scope="session")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that all workers of this run share."""
    base = tmp_path_factory.getbasetemp()
    # Under pytest-xdist every worker has a folder of its own inside the run's.
    folder = base.parent if base.name.startswith("popen-") else base
    shared = folder / "shared"
    shared.mkdir(exist_ok=True)
    return shared


@pytest.fixture(scope="session", autouse=True)
def _caches_of_this_run(shared: Path) -> Iterator[None]:
    """Tests, and the processes that they start, never write into the user's own caches."""
    with pytest.MonkeyPatch.context() as patch:
        if VARIABLE not in os.environ:
            patch.setenv(VARIABLE, str(shared / "cache"))
        yield


@pytest.fixture(scope="session", autouse=True)
def _few_rounds() -> Iterator[None]:
    """Choices of `compile` in this process are made by as few rounds as there may be."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("edgekit.compilers.tuning._MOST_ROUNDS", 6)
        yield


@pytest.fixture(autouse=True)
def _heap_of_its_own() -> None:
    """No collection of a test walks what imports and earlier tests hold: every export has two.

    A worker that has exported a hundred models holds millions of objects.
    """
    gc.collect()
    gc.freeze()


def make_once(folder: Path, make: Callable[[Path], object]) -> Path:
    """The folder that `make` fills, by the first worker that asks for it."""
    with folder.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not folder.exists():
            make(folder)
    return folder


@pytest.fixture(scope="session")
def classifier_source(shared: Path) -> Path:
    """A small random BERT classifier with a tokenizer, as a Hugging Face folder."""
    from tests.models import save_model

    return make_once(
        shared / "classifier-source",
        lambda folder: save_model("bert", "text-classification", folder),
    )


@pytest.fixture(scope="session")
def classifier(shared: Path, classifier_source: Path) -> Path:
    """The exported bundle of `classifier_source`."""
    import edgekit

    return make_once(
        shared / "classifier", lambda folder: edgekit.export(str(classifier_source), folder)
    )


@pytest.fixture
def brief(monkeypatch: pytest.MonkeyPatch) -> None:
    """A step compares its result's speed in as few processes as there may be, in this process."""
    monkeypatch.setattr("edgekit.pipeline.timing._PAIR_SECONDS", 1.0)
    monkeypatch.setattr("edgekit.pipeline.timing._PAIR_PROCESSES", 2)
