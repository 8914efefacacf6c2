"""compilers/tuning.py: options chosen by measurement, with sessions that only pretend."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from edgekit.compilers import tuning
from edgekit.compilers.records import Candidate
from edgekit.core.errors import EngineUnavailable, SessionError
from edgekit.core.manifest import Component
from edgekit.runtime.timing import Turn
from tests.compilers.conftest import Builder, attention_model, feeds

PART = Component("onnx", ("model.onnx",), (), ())
WORKLOAD = {"batch": 1, "length": 16}


class FakeSession:
    """A session whose options say how long a run takes."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self.closed = False

    def run(self, feeds: object) -> dict[str, object]:
        if self.seconds < 0:
            raise SessionError("This one does not run.")
        return {}

    def facts(self) -> dict[str, str]:
        return {"precision": "fp32"}

    def close(self) -> None:
        self.closed = True


class FakeEngine:
    """Opens FakeSessions and remembers them."""

    def __init__(self) -> None:
        self.opened: list[FakeSession] = []
        self.turns = 0
        self.options: list[dict[str, object]] = []
        self.threads: list[int | None] = []

    def open_session(self, bundle_dir, component, *, options, device, threads) -> FakeSession:
        if options.get("missing"):
            raise EngineUnavailable("Not on this machine.")
        self.options.append(dict(options))
        self.threads.append(threads)
        self.opened.append(FakeSession(float(options["seconds"])))
        return self.opened[-1]


@pytest.fixture
def engine(monkeypatch: pytest.MonkeyPatch) -> FakeEngine:
    """The engine that `tune` finds; its turns take the time that they are told to."""
    fake = FakeEngine()
    random = np.random.default_rng(0)

    def take_turn(run: partial, **settings: object) -> Turn:
        run()
        noise = 1 + 0.02 * random.standard_normal()
        fake.turns += 1
        return Turn((int(run.func.__self__.seconds * noise * 1e9),), 0.0, 0.0, 0.0, 1, None)

    monkeypatch.setattr(tuning, "find_engine", lambda name: fake)
    monkeypatch.setattr(tuning, "take_turn", take_turn)
    monkeypatch.setattr(tuning, "come_to_rest", lambda: True)
    return fake


def choose(*candidates: Candidate, folder: Path = Path("nowhere")) -> tuning.Choice:
    """The choice among some candidates."""
    return tuning.tune(
        folder,
        PART,
        {},
        candidates,
        engine="fake",
        device="cpu",
        threads=1,
        workload=WORKLOAD,
        seconds=0.0,
    )


def candidate(name: str, seconds: float, **changes: object) -> Candidate:
    """A candidate whose every run takes `seconds`."""
    return Candidate(name, {"seconds": seconds}, **changes)


def test_clearly_faster_candidate_is_chosen(engine: FakeEngine) -> None:
    """An alternative that takes a quarter of the time replaces the preferred one."""
    choice = choose(candidate("slow", 0.008), candidate("fast", 0.002))
    assert choice.options == {"seconds": 0.002}
    told = choice.chosen_by
    assert (told["what"], told["against"]) == ("fast", "slow")
    assert told["low"] < told["ratio"] < told["high"]
    assert told["ratio"] == pytest.approx(4, rel=0.1)
    assert told["workload"] == WORKLOAD
    assert [row["name"] for row in told["measured"]] == ["slow", "fast"]


def test_preferred_candidate_stays_when_nothing_is_gained(engine: FakeEngine) -> None:
    """The first stays against an equal, and against a gain below the one asked for."""
    preferred = candidate("first", 0.004)
    assert choose(preferred, candidate("slower", 0.006)).options == preferred.options
    little = choose(preferred, candidate("second", 0.003, least_gain=3.0))
    assert little.options == preferred.options
    assert little.chosen_by["ratio"] < 1


def test_a_gain_must_come_again(engine: FakeEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    """Faster in the rounds that chose it and not in fresh ones: the first stays, and it is told."""
    taken = tuning.take_turn

    def lucky(run: partial, **settings: object) -> Turn:
        turn = taken(run, **settings)
        # Two candidates in six rounds choose; what comes after them confirms.
        slower = 3 if engine.turns > 12 and run.func.__self__.seconds < 0.004 else 1
        return replace(turn, nanoseconds=tuple(slower * one for one in turn.nanoseconds))

    monkeypatch.setattr(tuning, "take_turn", lucky)
    choice = choose(candidate("first", 0.004), candidate("lucky", 0.002))
    assert choice.chosen_by["what"] == "first"
    assert choice.chosen_by["ratio"] == pytest.approx(0.5, rel=0.1)
    assert choice.chosen_by["again"]["high"] < 1


def test_what_follows_is_tried_for_the_chosen_one_alone(engine: FakeEngine) -> None:
    """Its alternatives are measured against it; those of the other candidate never run."""
    mine, theirs = candidate("mine", 0.001), candidate("theirs", 0.001)
    choice = choose(
        candidate("slow", 0.008, then=(theirs,)), candidate("fast", 0.002, then=(mine,))
    )
    assert choice.chosen_by["what"] == "mine"
    assert choice.chosen_by["against"] == "fast"
    assert choice.chosen_by["before"]["what"] == "fast"
    assert choice.chosen_by["before"]["against"] == "slow"
    assert len(engine.opened) == 4
    # Nothing gained: what was chosen first stays.
    kept = choose(candidate("slow", 0.008), candidate("fast", 0.002, then=(candidate("x", 0.003),)))
    assert kept.options == {"seconds": 0.002}


def test_the_only_one_is_measured_against_what_follows(engine: FakeEngine) -> None:
    """One candidate with alternatives is a choice among them."""
    choice = choose(candidate("only", 0.004, then=(candidate("other", 0.001),)))
    assert choice.chosen_by["what"] == "other"
    assert "before" not in choice.chosen_by


def test_candidates_have_their_own_threads(engine: FakeEngine) -> None:
    """A number among the options is what the session is opened with; else that of the run."""
    own = Candidate("alone", {"seconds": 0.001, "threads": 3})
    choose(candidate("all", 0.002), own)
    assert engine.threads == [1, 3]


def test_no_more_sessions_than_fit(
    engine: FakeEngine, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Of a large model two at a time, and it is told what was not tried."""
    (tmp_path / "model.onnx").write_bytes(bytes(100))
    monkeypatch.setattr(tuning, "_MOST_BYTES", 250)
    three = [candidate(name, 0.002) for name in "abc"]
    choice = choose(*three, folder=tmp_path)
    assert [row["name"] for row in choice.chosen_by["measured"]] == ["a", "b"]
    assert choice.chosen_by["left_out"] == ["c"]
    monkeypatch.setattr(tuning, "_MOST_BYTES", 300)
    assert "left_out" not in choose(*three, folder=tmp_path).chosen_by


def test_candidate_for_the_record_is_never_chosen(engine: FakeEngine) -> None:
    """What the profile does not allow is measured and left."""
    choice = choose(candidate("allowed", 0.006), candidate("other", 0.001, eligible=False))
    assert choice.chosen_by["what"] == "allowed"
    assert choice.chosen_by["against"] == "other"
    assert [row["eligible"] for row in choice.chosen_by["measured"]] == [True, False]


def test_candidate_that_does_not_open_is_named(engine: FakeEngine) -> None:
    """A precision or device that is missing here costs only its own place."""
    missing = Candidate("missing", {"missing": True, "seconds": 0.0})
    choice = choose(candidate("first", 0.001), missing, candidate("third", 0.002))
    assert choice.chosen_by["refused"] == {"missing": "Not on this machine."}
    assert choice.chosen_by["what"] == "first"


def test_candidate_that_does_not_run_is_named(engine: FakeEngine) -> None:
    """As one in bf16 that counts a length too coarsely to index with."""
    choice = choose(candidate("first", 0.001), candidate("broken", -1.0))
    assert choice.chosen_by["refused"] == {"broken": "This one does not run."}
    assert choice.chosen_by["what"] == "first"
    assert all(session.closed for session in engine.opened)


def test_preferred_candidate_must_open(engine: FakeEngine) -> None:
    """Without the first there is nothing to ship, and nothing is hidden."""
    with pytest.raises(EngineUnavailable):
        choose(Candidate("missing", {"missing": True}), candidate("second", 0.001))


def test_one_candidate_is_not_measured(engine: FakeEngine) -> None:
    """Nothing is opened when there is nothing to compare."""
    choice = choose(candidate("only", 0.001))
    assert choice.options == {"seconds": 0.001}
    assert choice.chosen_by == {"what": "only", "workload": WORKLOAD, "threads": 1}
    assert engine.opened == []


def test_sessions_are_closed(engine: FakeEngine) -> None:
    """Every session is closed, also when the first of them fails to run."""
    choose(candidate("first", 0.001), candidate("second", 0.002))
    with pytest.raises(SessionError):
        choose(candidate("broken", -1.0), candidate("second", 0.001))
    assert engine.opened
    assert all(session.closed for session in engine.opened)


def test_device_is_not_an_option_of_the_session(engine: FakeEngine) -> None:
    """The manifest's options name the device; engines take it as an argument."""
    first = Candidate("first", {"seconds": 0.001, "device": "cpu"})
    choice = choose(first, candidate("second", 0.002))
    assert all("device" not in options for options in engine.options)
    assert choice.options["device"] == "cpu"


def test_real_sessions_are_measured(build: Builder) -> None:
    """ONNX Runtime's own sessions go through the same path."""
    bundle = build(attention_model())
    choice = tuning.tune(
        bundle.path,
        bundle.manifest.components["model"],
        {name: np.asarray(array) for name, array in feeds().items()},
        (
            Candidate("first", {"device": "cpu", "allow_spinning": False}, least_gain=9.0),
            Candidate("second", {"device": "cpu", "allow_spinning": True}, least_gain=9.0),
            Candidate("alone", {"device": "cpu", "threads": 1}, least_gain=9.0),
        ),
        engine="onnxruntime",
        device="cpu",
        threads=2,
        workload=WORKLOAD,
        seconds=0.0,
    )
    assert choice.options == {"device": "cpu", "allow_spinning": False}
    assert all(row["p50_ms"] > 0 for row in choice.chosen_by["measured"])
    # As the sessions say themselves.
    assert [row["threads"] for row in choice.chosen_by["measured"]] == [2, 2, 1]
