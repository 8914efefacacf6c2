"""The lines that install what is missing, from where edgekit itself came."""

from __future__ import annotations

import gc
import json
import sys
import uuid
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

import pytest

from edgekit.core import lazy
from edgekit.core.errors import MissingDependency
from edgekit.core.lazy import imported_ahead, install_line, rare_collections, require

INDEX = "pip install 'edgekit-ml[ort,text]'"


class _Distribution:
    """A distribution with one file about where it came from."""

    def __init__(self, told: str | None) -> None:
        self._told = told

    def read_text(self, _: str) -> str | None:
        """See `importlib.metadata.Distribution.read_text`."""
        return self._told


def installed(monkeypatch: pytest.MonkeyPatch, told: object) -> None:
    """Let edgekit have been installed as direct_url.json tells; None means from an index."""
    text = told if told is None or isinstance(told, str) else json.dumps(told)
    monkeypatch.setattr(metadata, "distribution", lambda _: _Distribution(text))


@pytest.mark.parametrize(("editable", "options"), [(True, "-e "), (False, "")])
def test_installed_from_a_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, editable: bool, options: str
) -> None:
    """A checkout brings its extras itself: the index may not even hold the distribution."""
    folder = tmp_path / "my edgekit"
    folder.mkdir()
    (folder / "pyproject.toml").touch()
    installed(monkeypatch, {"url": folder.as_uri(), "dir_info": {"editable": editable}})
    assert install_line("ort", "text") == f"pip install {options}'{folder}[ort,text]'"


@pytest.mark.parametrize(
    "told",
    [
        None,
        {"url": "file:///x/edgekit_ml-0.1.0-py3-none-any.whl", "archive_info": {}},
        {"url": "file:///no/such/folder", "dir_info": {"editable": True}},
        {"url": 3, "dir_info": 4},
        [],
        "{",
    ],
    ids=["index", "wheel", "folder that is gone", "strange", "list", "no JSON"],
)
def test_installed_from_elsewhere(monkeypatch: pytest.MonkeyPatch, told: object) -> None:
    """From an index, a wheel or nobody knows where: the distribution's name."""
    installed(monkeypatch, told)
    assert install_line("ort", "text") == INDEX


def test_not_installed_at_all(monkeypatch: pytest.MonkeyPatch) -> None:
    """A copy on the path without metadata names the distribution."""

    def missing(name: str) -> metadata.Distribution:
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(metadata, "distribution", missing)
    assert install_line("ort", "text") == INDEX


def test_missing_module_has_its_line() -> None:
    """The error for a missing package holds the line of this installation."""
    with pytest.raises(MissingDependency) as caught:
        require("no_such_package", "ort")
    assert caught.value.hint == f"Run: {install_line('ort')}"


@pytest.mark.parametrize(
    ("module", "told"), [("soundfile", "apt-get install libsndfile1"), ("other", "edgekit-ml")]
)
def test_a_library_of_the_system_is_missing(
    module: str, told: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A package that opens one when it is imported says so with an OSError."""

    def refuse(name: str) -> object:
        raise OSError(f"library of {name} not found")

    installed(monkeypatch, None)
    monkeypatch.setattr(lazy.importlib, "import_module", refuse)
    with pytest.raises(MissingDependency, match=f"library of {module} not found") as caught:
        require(module, "audio")
    assert told in (caught.value.hint or "")


@pytest.fixture
def threshold() -> Iterator[tuple[int, int, int]]:
    """A threshold for collections that a program may have set; as it was, afterwards."""
    before = gc.get_threshold()
    gc.set_threshold(600, 8, 9)
    yield (600, 8, 9)
    gc.set_threshold(*before)


def test_garbage_is_collected_rarely_while_anybody_imports(
    threshold: tuple[int, int, int],
) -> None:
    """Whoever ends first leaves it rare for the other; at the end it is as before."""
    first, second = rare_collections(), rare_collections()
    first.__enter__()
    assert gc.get_threshold() == (50_000, 8, 9)
    second.__enter__()
    first.__exit__(None, None, None)
    assert gc.get_threshold() == (50_000, 8, 9)
    second.__exit__(None, None, None)
    assert gc.get_threshold() == threshold


def test_what_is_not_collected_stays_so(threshold: tuple[int, int, int]) -> None:
    """A program that has turned collections off gets none."""
    gc.set_threshold(0)
    with rare_collections():
        assert gc.get_threshold()[0] == 0
    assert gc.get_threshold()[0] == 0


def test_a_failed_import_leaves_the_threshold(threshold: tuple[int, int, int]) -> None:
    """Whatever an import does."""
    with pytest.raises(MissingDependency):
        require("no_such_package", "ort")
    assert gc.get_threshold() == threshold


@pytest.fixture
def written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The name of a module that takes a while to be imported and has the value 1."""
    name = f"written_{uuid.uuid4().hex}"
    (tmp_path / f"{name}.py").write_text("import time\ntime.sleep(0.2)\nvalue = 1\n")
    monkeypatch.syspath_prepend(tmp_path)
    yield name
    sys.modules.pop(name, None)


def test_another_thread_imports_meanwhile(written: str) -> None:
    """All of it is there in the end, also for who asks before."""
    with imported_ahead(["json", written]):
        first = require(written, "build")
        assert first.value == 1
    assert sys.modules[written] is first


def test_all_is_imported_when_the_block_ends(written: str) -> None:
    """Whatever the other thread has still to do."""
    with imported_ahead([written]):
        assert written not in sys.modules or not hasattr(sys.modules[written], "value")
    assert sys.modules[written].value == 1


def test_what_is_not_there_is_told_to_who_needs_it(written: str) -> None:
    """Not before, and what comes after it in the list waits for its user."""
    missing = f"{written}_missing"
    with imported_ahead([missing, written]):
        assert missing not in sys.modules
    assert written not in sys.modules
    with pytest.raises(MissingDependency, match=missing):
        require(missing, "build")
