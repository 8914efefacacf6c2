"""The cache of builds: what is found again, and what must not be."""

from __future__ import annotations

import json
import os
import shutil
import threading
from collections.abc import Callable, Mapping
from dataclasses import replace
from multiprocessing import get_context
from pathlib import Path

import pytest

from edgekit.core.bundle import open_bundle
from edgekit.core.cachefolder import VARIABLE
from edgekit.core.errors import ConfigError, StepError
from edgekit.core.manifest import Origin, Source
from edgekit.pipeline.builds import store as keeping
from edgekit.pipeline.builds.store import Kept, Store, clear, entries
from tests.runtime.conftest import linear_graph, write_bundle

KEY: Mapping[str, object] = {"input": "ab", "options": {"seed": 0, "bits": [8, 4]}}
DAY = 86_400


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache of this test's own, empty."""
    folder = tmp_path / "cache"
    monkeypatch.setenv(VARIABLE, str(folder))
    return folder


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    """What the steps of these tests make."""
    return write_bundle(tmp_path / "made", linear_graph(), task="custom").path


class Steps:
    """Builds in a row, each with a folder of its own, and how often something was made."""

    def __init__(self, bundle: Path, work: Path, root: Path | None) -> None:
        self.bundle, self.work, self.root = bundle, work, root
        self.made = self.builds = 0

    def make(self, path: Path) -> Mapping[str, object]:
        """The step itself."""
        self.made += 1
        shutil.copytree(self.bundle, path)
        return {"told": self.made}

    def build(self, key: Mapping[str, object] | None = KEY, name: str = "compile") -> Kept:
        """Ask a new store for a step."""
        self.builds += 1
        work = self.work / f"work-{self.builds}"
        work.mkdir()
        return Store(self.root, work).step(name, key, self.make)

    def entry(self) -> Path:
        """The one entry that there is."""
        assert self.root is not None
        (found,) = (self.root / "build").iterdir()
        return found


@pytest.fixture
def steps(tmp_path: Path, bundle: Path, cache: Path) -> Steps:
    """Builds that share the cache."""
    return Steps(bundle, tmp_path, cache)


def test_found_again(steps: Steps, bundle: Path) -> None:
    """The second build gets the same bundle and facts without making it."""
    first, second = steps.build(), steps.build()
    assert (first.cached, second.cached, steps.made) == (False, True, 1)
    assert first.facts == second.facts == {"told": 1}
    assert second.bundle.id == first.bundle.id == open_bundle(bundle).id
    assert open_bundle(second.bundle.path).path.parent.name == "work-2"


@pytest.mark.parametrize(
    "other",
    [
        {**KEY, "input": "cd"},
        {**KEY, "options": {"seed": 1, "bits": [8, 4]}},
        {**KEY, "options": {"seed": 0, "bits": [4, 8]}},
        {**KEY, "options": {"seed": 0}},
        {**KEY, "more": None},
        {"input": "ab"},
    ],
)
def test_any_other_part_is_another_entry(steps: Steps, other: Mapping[str, object]) -> None:
    """A changed, added or missing part of the key makes the step run; both are kept."""
    steps.build()
    assert not steps.build(other).cached
    assert steps.build(other).cached
    assert steps.build().cached
    assert steps.made == 2


def test_order_of_a_key_means_nothing(steps: Steps) -> None:
    """The same parts in another order are the same key."""
    steps.build()
    assert steps.build(dict(reversed(list(KEY.items())))).cached


def test_steps_of_two_names(steps: Steps) -> None:
    """The same key of another step is another entry."""
    steps.build()
    assert not steps.build(name="quantize").cached


def test_no_key_and_no_cache(steps: Steps, cache: Path) -> None:
    """A step that depends on more than can be told is made each time, and so is all without one."""
    assert [steps.build(None).cached, steps.build(None).cached] == [False, False]
    steps.root = None
    assert [steps.build().cached, steps.build().cached] == [False, False]
    assert not cache.exists()


def _truncate(entry: Path) -> None:
    os.truncate(entry / "bundle" / "model.onnx", 10)


def _flip(entry: Path) -> None:
    path = entry / "bundle" / "model.onnx"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)


def _no_bundle(entry: Path) -> None:
    shutil.rmtree(entry / "bundle")


def _no_facts(entry: Path) -> None:
    (entry / "entry.json").unlink()


def _half_facts(entry: Path) -> None:
    os.truncate(entry / "entry.json", 20)


def _a_list(entry: Path) -> None:
    (entry / "entry.json").write_text("[]")


def _wrong_facts(entry: Path) -> None:
    stored = json.loads((entry / "entry.json").read_text())
    (entry / "entry.json").write_text(json.dumps({**stored, "facts": 1}))


def _of_another_key(entry: Path) -> None:
    stored = json.loads((entry / "entry.json").read_text())
    (entry / "entry.json").write_text(json.dumps({**stored, "digest": "0" * 64}))


def _a_file(entry: Path) -> None:
    shutil.rmtree(entry)
    entry.write_text("?")


@pytest.mark.parametrize(
    "damage",
    [_truncate, _flip, _no_bundle, _no_facts, _half_facts, _a_list, _wrong_facts, _of_another_key],
)
def test_damaged_entry(steps: Steps, damage: Callable[[Path], None]) -> None:
    """It is as if it was not there, and the new one takes its place."""
    steps.build()
    damage(steps.entry())
    assert not steps.build().cached
    again = steps.build()
    assert (again.cached, again.facts, steps.made) == (True, {"told": 2}, 2)


def test_a_file_in_the_place_of_an_entry(steps: Steps) -> None:
    """What cannot be an entry is replaced as well."""
    steps.build()
    _a_file(steps.entry())
    assert not steps.build().cached
    assert steps.build().cached


def test_failures_are_not_kept(steps: Steps) -> None:
    """What the step raises is raised, now and the next time."""

    def fail(path: Path) -> Mapping[str, object]:
        path.mkdir()
        raise StepError("No.")

    for name in ("first", "second"):
        work = steps.work / name
        work.mkdir()
        with pytest.raises(StepError, match="No"):
            Store(steps.root, work).step("compile", KEY, fail)
    assert entries() == []
    assert not steps.build().cached


def test_interrupted_while_it_is_kept(steps: Steps, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ctrl-C between the copy and the rename leaves no part of an entry."""

    def interrupt(value: object, **options: object) -> str:
        if isinstance(value, dict) and "digest" in value:
            raise KeyboardInterrupt
        return dumps(value, **options)  # type: ignore[arg-type]

    dumps = json.dumps

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(json, "dumps", interrupt)
        steps.build()
    assert entries() == []


@pytest.mark.parametrize("place", ["file", "below a file"])
def test_a_cache_that_cannot_be_written(steps: Steps, cache: Path, place: str) -> None:
    """The step's bundle is there all the same."""
    cache.write_text("not a folder")
    steps.root = cache if place == "file" else cache / "deeper"
    kept = steps.build()
    assert not kept.cached
    assert open_bundle(kept.bundle.path).id == kept.bundle.id


def test_a_full_disk(steps: Steps, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An entry that does not fit is no failure, and no part of it stays."""
    copy = shutil.copytree

    def full(source: Path, to: Path, **options: object) -> Path:
        if cache in to.parents:
            to.mkdir()
            raise shutil.Error([(str(source), str(to), "No space left on device")])
        return copy(source, to)

    monkeypatch.setattr(shutil, "copytree", full)
    assert not steps.build().cached
    assert entries() == []


def test_a_cache_that_can_only_be_read(steps: Steps, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its entries are found, though nobody can note when."""
    steps.build()

    def refuse(path: Path, *times: object, **options: object) -> None:
        if path == entry:
            raise PermissionError("read-only")
        note(path, *times, **options)  # type: ignore[arg-type]

    entry, note = steps.entry(), os.utime
    monkeypatch.setattr(os, "utime", refuse)
    assert steps.build().cached


def test_what_is_found_is_lent(steps: Steps) -> None:
    """A build goes on with what it has found when somebody clears the cache."""
    steps.build()
    kept = steps.build()
    assert clear()[0] == 1
    assert open_bundle(kept.bundle.path).id == kept.bundle.id


def test_lent_on_another_disk(steps: Steps, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where files cannot have two names they are copied."""

    def refuse(*_: object) -> None:
        raise OSError("Invalid cross-device link")

    monkeypatch.setattr(os, "link", refuse)
    steps.build()
    assert steps.build().cached


def test_removed_while_it_is_lent(steps: Steps, monkeypatch: pytest.MonkeyPatch) -> None:
    """An entry that goes at that moment is made again."""
    steps.build()
    found = keeping._read

    def gone(place: Path, key: Mapping[str, object]) -> Kept | None:
        kept = found(place, key)
        shutil.rmtree(place, ignore_errors=True)
        return kept

    with monkeypatch.context() as patch:
        patch.setattr(keeping, "_read", gone)
        assert not steps.build().cached
    assert steps.build().cached


def test_two_that_make_the_same(steps: Steps) -> None:
    """Both have their bundle, and one whole entry is kept."""
    barrier = threading.Barrier(2)
    kept: list[Kept] = []

    def make(path: Path) -> Mapping[str, object]:
        shutil.copytree(steps.bundle, path)
        # Both have missed before either has kept anything.
        barrier.wait(30)
        return {}

    def build(number: int) -> None:
        work = steps.work / f"thread-{number}"
        work.mkdir()
        kept.append(Store(steps.root, work).step("compile", KEY, make))

    threads = [threading.Thread(target=build, args=(number,)) for number in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert [one.cached for one in kept] == [False, False]
    assert steps.entry().name.startswith("compile-")
    assert steps.build().cached


def _keep_many(bundle: Path, work: Path, root: Path) -> None:
    """What a process of the next test does: the same few steps over and over."""
    steps = Steps(bundle, work, root)
    for turn in range(12):
        steps.build({"part": turn % 3})


def test_processes_side_by_side(steps: Steps) -> None:
    """Builds of several processes, and one that clears, leave only whole entries."""
    context = get_context("spawn")
    workers = []
    for number in range(2):
        work = steps.work / f"process-{number}"
        work.mkdir()
        workers.append(context.Process(target=_keep_many, args=(steps.bundle, work, steps.root)))
    for worker in workers:
        worker.start()
    while any(worker.is_alive() for worker in workers):
        clear()
    for worker in workers:
        worker.join(60)
    assert [worker.exitcode for worker in workers] == [0, 0]
    for part in range(3):
        steps.build({"part": part})
        assert steps.build({"part": part}).cached
    assert len(entries()) == 3


def test_listing(steps: Steps, cache: Path) -> None:
    """Bundles and calibrations with their size, the one that was not used for longest first."""
    assert entries() == []
    steps.build()
    steps.build(name="quantize")
    (cache / "calibration").mkdir()
    (cache / "calibration" / "ab.json").write_text("1234")
    for age, pattern in enumerate(("build/compile-*", "calibration/*", "build/quantize-*")):
        (path,) = cache.glob(pattern)
        os.utime(path, (1000 + age, 1000 + age))
    found = entries()
    assert [one.kind for one in found] == ["compile", "calibration", "quantize"]
    assert [one.used for one in found] == [1000, 1001, 1002]
    assert found[1].bytes == 4
    assert found[0].bytes > sum(one.stat().st_size for one in steps.bundle.iterdir())


def test_asking_for_an_entry_is_using_it(steps: Steps) -> None:
    """It goes to the end of the list."""
    steps.build()
    os.utime(steps.entry(), (1000, 1000))
    steps.build()
    assert entries()[0].used > 1000


def test_clear(steps: Steps, cache: Path) -> None:
    """Everything goes, also what a clock that was wrong has dated into the future."""
    steps.build()
    steps.build({"another": 1})
    os.utime(next((cache / "build").iterdir()), (4e9, 4e9))
    size = sum(one.bytes for one in entries())
    assert clear() == (2, size)
    assert (entries(), clear()) == ([], (0, 0))


def test_clear_what_is_old(steps: Steps) -> None:
    """What was used since stays."""
    steps.build()
    old = steps.entry()
    steps.build({"another": 1})
    now = old.stat().st_mtime
    os.utime(old, (now - 3 * DAY, now - 3 * DAY))
    assert clear(older_than_days=4)[0] == 0
    assert clear(older_than_days=2)[0] == 1
    assert not old.exists()
    assert len(entries()) == 1


@pytest.mark.parametrize("days", [float("nan"), -1.0])
def test_clear_of_no_age(steps: Steps, days: float) -> None:
    """What is no number of days removes nothing."""
    steps.build()
    with pytest.raises(ConfigError, match="--older-than"):
        clear(older_than_days=days)
    assert len(entries()) == 1


def test_an_entry_tells_of_what_and_for_what(cache: Path, bundle: Path, tmp_path: Path) -> None:
    """The model and the target that its manifest names; a strange manifest names none."""
    opened = open_bundle(bundle)
    origin = Origin("minilm", "0" * 64)
    source = Source("huggingface", "minilm", None, "0" * 64, "Bert", 5, "float32", None, origin)
    manifest = replace(opened.manifest, source=source, target={"name": "host"})
    (bundle / "edgekit.json").write_bytes(manifest.to_json())
    Steps(bundle, tmp_path, cache).build()
    (entry,) = entries()
    assert (entry.kind, entry.model, entry.target) == ("compile", "minilm", "host, onnxruntime")
    (entry.path / "bundle" / "edgekit.json").write_text("[1]")
    (entry,) = entries()
    assert (entry.model, entry.target) == (None, None)
