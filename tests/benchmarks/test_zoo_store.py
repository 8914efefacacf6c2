"""The zoo's cache: made once, checked, replaced whole or not at all."""

from __future__ import annotations

import dataclasses
import json
import sys
import threading
import types
from pathlib import Path

import pytest

from benchmarks.zoo import store
from benchmarks.zoo.errors import ZooError
from benchmarks.zoo.rows import Bench, Entry


class Workshop:
    """A converter that writes one file, counts its calls and can be told to fail."""

    def __init__(self) -> None:
        self.calls = 0
        self.text = "content"
        self.failure: Exception | None = None
        self.pause = threading.Event()
        self.pause.set()

    def build(self, bench: Bench) -> None:
        self.calls += 1
        (bench.target / "inner").mkdir()
        (bench.target / "inner" / "file.txt").write_text(self.text)
        self.pause.wait(timeout=10)
        if self.failure is not None:
            raise self.failure


ENTRY = Entry(name="toy", kind="data", summary="a toy", converter="zoo_toy_converter:build")
TABLE = {"toy": ENTRY}


@pytest.fixture
def workshop(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Workshop:
    made = Workshop()
    module = types.ModuleType("zoo_toy_converter")
    module.build = made.build  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "zoo_toy_converter", module)
    monkeypatch.setenv("EDGEKIT_ZOO_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(store, "_checked", {})
    return made


def forget(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make the next fetch behave like the first one of a process."""
    monkeypatch.setattr(store, "_checked", {})


def visible(cache: Path) -> set[str]:
    """Return the names in the cache besides locks."""
    return {path.name for path in cache.iterdir() if path.suffix != ".lock"}


def test_fetch_makes_the_folder(workshop: Workshop, tmp_path: Path) -> None:
    """The folder holds the converter's files and a stamp with their sizes and hashes."""
    folder = store.fetch("toy", table=TABLE)
    assert folder == tmp_path / "cache" / "toy"
    assert (folder / "inner" / "file.txt").read_text() == "content"
    stamp = json.loads((folder / store.STAMP).read_text())
    assert stamp["files"]["inner/file.txt"]["bytes"] == len("content")
    assert visible(tmp_path / "cache") == {"toy", ".gitignore"}


def test_a_cached_entry_is_not_made_again(
    workshop: Workshop, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither the same process nor the next one calls the converter a second time."""
    first = store.fetch("toy", table=TABLE)
    assert store.fetch("toy", table=TABLE) == first
    forget(monkeypatch)
    assert store.fetch("toy", table=TABLE) == first
    assert workshop.calls == 1


@pytest.mark.parametrize("harm", ["flip", "truncate", "delete", "no stamp", "bad stamp"])
def test_a_damaged_entry_is_made_anew(
    workshop: Workshop, monkeypatch: pytest.MonkeyPatch, harm: str
) -> None:
    """A folder whose files are not those it was written with is replaced."""
    folder = store.fetch("toy", table=TABLE)
    file = folder / "inner" / "file.txt"
    if harm == "flip":
        file.write_text("Content")
    elif harm == "truncate":
        file.write_text("cont")
    elif harm == "delete":
        file.unlink()
    elif harm == "no stamp":
        (folder / store.STAMP).unlink()
    else:
        (folder / store.STAMP).write_text("[]")
    forget(monkeypatch)
    assert (store.fetch("toy", table=TABLE) / "inner" / "file.txt").read_text() == "content"
    assert workshop.calls == 2


def test_files_that_others_left_are_no_damage(
    workshop: Workshop, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Importing a factory file writes bytecode into the folder; the entry stays good."""
    folder = store.fetch("toy", table=TABLE)
    (folder / "__pycache__").mkdir()
    (folder / "__pycache__" / "model.pyc").write_bytes(b"code")
    forget(monkeypatch)
    store.fetch("toy", table=TABLE)
    assert workshop.calls == 1


def test_a_new_recipe_makes_the_entry_anew(workshop: Workshop) -> None:
    """Raising the recipe in the table reaches caches that hold the old content."""
    store.fetch("toy", table=TABLE)
    workshop.text = "better"
    newer = {"toy": dataclasses.replace(ENTRY, recipe=2)}
    assert (store.fetch("toy", table=newer) / "inner" / "file.txt").read_text() == "better"


def test_a_failed_conversion_leaves_nothing(workshop: Workshop, tmp_path: Path) -> None:
    """When the converter raises there is no folder, and the next fetch tries again."""
    workshop.failure = ZooError("no good")
    with pytest.raises(ZooError, match="no good"):
        store.fetch("toy", table=TABLE)
    assert visible(tmp_path / "cache") == {".gitignore"}
    workshop.failure = None
    assert store.fetch("toy", table=TABLE).is_dir()


def test_a_failed_renewal_keeps_the_old_folder(workshop: Workshop, tmp_path: Path) -> None:
    """A conversion that fails half way does not touch what an older recipe made."""
    folder = store.fetch("toy", table=TABLE)
    workshop.text, workshop.failure = "half", OSError("disk full")
    with pytest.raises(OSError, match="disk full"):
        store.fetch("toy", table={"toy": dataclasses.replace(ENTRY, recipe=2)})
    assert (folder / "inner" / "file.txt").read_text() == "content"
    assert visible(tmp_path / "cache") == {"toy", ".gitignore"}


def test_what_a_killed_run_left_is_swept_away(workshop: Workshop, tmp_path: Path) -> None:
    """A partial folder of a process that was killed does not end up in the entry."""
    partial = tmp_path / "cache" / ".toy.partial"
    partial.mkdir(parents=True)
    (partial / "stray.txt").write_text("old")
    folder = store.fetch("toy", table=TABLE)
    assert not (folder / "stray.txt").exists()
    assert visible(tmp_path / "cache") == {"toy", ".gitignore"}


def test_a_wrong_output_hash_is_refused(workshop: Workshop, tmp_path: Path) -> None:
    """A pinned output that comes out differently is an error that names both hashes."""
    pinned = {"toy": dataclasses.replace(ENTRY, pins={"inner/file.txt": "0" * 64})}
    with pytest.raises(ZooError, match=f"the table pins {'0' * 64}"):
        store.fetch("toy", table=pinned)
    assert visible(tmp_path / "cache") == {".gitignore"}


def test_a_pinned_output_must_exist(workshop: Workshop) -> None:
    """A pin for a file that the converter did not write is an error."""
    pinned = {"toy": dataclasses.replace(ENTRY, pins={"absent.txt": "0" * 64})}
    with pytest.raises(ZooError, match=r"absent\.txt came out as nothing"):
        store.fetch("toy", table=pinned)


def test_many_callers_make_an_entry_once(workshop: Workshop) -> None:
    """Callers that arrive while an entry is being made wait for it and get the same folder."""
    workshop.pause.clear()
    found: list[Path] = []
    callers = [
        threading.Thread(target=lambda: found.append(store.fetch("toy", table=TABLE)))
        for _ in range(4)
    ]
    for caller in callers:
        caller.start()
    workshop.pause.set()
    for caller in callers:
        caller.join(timeout=30)
    assert len(found) == 4
    assert len(set(found)) == 1
    assert workshop.calls == 1


def test_needs_are_fetched_first(workshop: Workshop, monkeypatch: pytest.MonkeyPatch) -> None:
    """A converter finds the folders of the entries it is made from on its bench."""
    seen: list[dict[str, Path]] = []
    module = types.ModuleType("zoo_second_converter")
    module.build = lambda bench: seen.append(dict(bench.entries))  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "zoo_second_converter", module)
    second = Entry("second", "model", "made of toy", "zoo_second_converter:build", needs=("toy",))
    store.fetch("second", table={**TABLE, "second": second})
    assert seen == [{"toy": store.cache_dir() / "toy"}]


def test_an_unknown_name_gets_the_nearest() -> None:
    """A typing error is answered with the name that was probably meant."""
    with pytest.raises(ZooError, match="did you mean 'minilm'"):
        store.fetch("minilmm")


def test_a_cache_that_cannot_be_made_is_said(
    workshop: Workshop, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A cache path below a file is an error that names the variable to set."""
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("EDGEKIT_ZOO_CACHE", str(tmp_path / "file" / "cache"))
    with pytest.raises(ZooError, match="EDGEKIT_ZOO_CACHE"):
        store.fetch("toy", table=TABLE)


def test_git_does_not_look_into_the_cache(workshop: Workshop, tmp_path: Path) -> None:
    """Wherever the cache lies, it tells git to ignore all that is in it."""
    store.fetch("toy", table=TABLE)
    assert (tmp_path / "cache" / ".gitignore").read_text() == "*\n"
