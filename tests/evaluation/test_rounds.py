"""Rounds of child processes: planted differences, and children that misbehave."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import pytest

from edgekit.evaluation.outputs import Known, OutputCheck
from edgekit.evaluation.ratios import ratio
from edgekit.evaluation.rounds import LEAST_ROUNDS, Entrant, Plan, Records, _shuffled, run_rounds
from edgekit.runtime.conversation import child_environment
from edgekit.runtime.records import Record
from edgekit.runtime.scenarios import SINGLE_STREAM, Scenario
from edgekit.runtime.workloads import Workload, save_workloads
from tests.evaluation.test_counting import Drawn

CHILDREN = Path(__file__).with_name("children.py")


def entrant(folder: Path, name: str, kind: str = "busy", milliseconds: float = 1.0) -> Entrant:
    """A contender of `children.py` on two workloads."""
    inputs = folder / "inputs.safetensors"
    if not inputs.exists():
        feeds = {"x": np.zeros((1, 2), dtype=np.float32)}
        save_workloads([Workload(1, 16, feeds), Workload(1, 128, feeds)], inputs)
    command = (sys.executable, str(CHILDREN), kind, str(milliseconds), str(inputs))
    return Entrant(name, command, child_environment())


def run(
    folder: Path,
    *entrants: Entrant,
    processes: int = 2,
    budget: float = 0.4,
    timeout: float = 30.0,
    scenario: Scenario = SINGLE_STREAM,
    **options: Any,
) -> dict[str, Record]:
    """A short run of both workloads."""
    plan = Plan(2, processes, budget, 1, 0.05, timeout, scenario)
    return run_rounds(entrants, plan, folder=folder, **options)


def test_every_contender_is_measured_in_fresh_processes(tmp_path: Path) -> None:
    """Each round has a process of each, with times, load figures and a peak of memory."""
    records = run(tmp_path, entrant(tmp_path, "a"), entrant(tmp_path, "b", milliseconds=2))
    for record in records.values():
        assert record.error is None
        assert len(record.imports) == len(record.loads) == len(record.peaks) == 2
        assert [len(record.rounds(index)) for index in (0, 1)] == [2, 2]
        assert record.facts["engine"] == "busy"
        # Each workload is the first of one of the two rounds.
        assert {index: len(values) for index, values in record.firsts.items()} == {0: 1, 1: 1}
    fastest = [min(float(times.min()) for times in record.rounds(0)) for record in records.values()]
    assert fastest[0] >= 1
    assert fastest[1] >= 2


def test_who_listens_hears_of_every_round(tmp_path: Path) -> None:
    """With the seconds that were timed; a bar never goes back, and ends."""
    said: list[str] = []
    run(tmp_path, entrant(tmp_path, "a"), processes=3, progress=said.append)
    assert [text[:12] for text in said] == ["Round 1 of 3", "Round 2 of 3", "Round 3 of 3"]
    assert said[0].endswith(", 0 of 0.4 s timed")
    bar = Drawn()
    run(tmp_path, entrant(tmp_path, "a"), progress=bar)
    steps = [done for _, done, _ in bar.drawn]
    assert steps == sorted(steps)
    assert (steps[0], steps[-1]) == (0, 2)
    assert len({int(step * 10) for step in steps}) > 10


def test_rounds_of_nobody_are_not_begun(tmp_path: Path) -> None:
    """When the last contender has failed there is nothing left to measure."""
    said: list[str] = []
    records = run(tmp_path, entrant(tmp_path, "a", "crashes"), processes=4, progress=said.append)
    assert records["a"].error is not None
    assert len(said) == 1


def test_a_planted_difference_is_told(tmp_path: Path) -> None:
    """A busy loop ten times as long comes out as slower, also where others use the machine."""
    fast, slow = entrant(tmp_path, "fast"), entrant(tmp_path, "slow", milliseconds=10)
    records = run(tmp_path, fast, slow, processes=4, budget=1.6)
    found = ratio(records["fast"].rounds(0), records["slow"].rounds(0))
    assert found.verdict == "slower"
    assert found.low < found.value < 0.5


@pytest.mark.parametrize(
    ("kind", "reason"),
    [
        ("crashes", "exit code 3"),
        ("killed", "SIGKILL, as the system does when memory runs out"),
        ("hangs", "no answer within 2 s"),
        ("raises", "RuntimeError: the engine lost its device"),
        ("babbles", "not json"),
        ("nan", "its output y holds NaN"),
        ("refuses", "EngineUnavailable: This engine is not here. Install it."),
        ("no-import", "the engine is broken"),
    ],
)
def test_a_bad_child_is_reported_and_the_others_go_on(
    tmp_path: Path, kind: str, reason: str
) -> None:
    """The reason stands in the contender's error; the good one is measured to the end."""
    timeout = 2.0 if kind == "hangs" else 30.0
    good, bad = entrant(tmp_path, "good"), entrant(tmp_path, "bad", kind)
    records = run(tmp_path, good, bad, timeout=timeout)
    assert reason in str(records["bad"].error)
    assert records["good"].error is None
    assert len(records["good"].rounds(1)) == 2
    row = records["bad"].row(0, Workload(1, 16, {}), artifact_bytes=5)
    assert (row.p50_ms, row.samples, row.processes) == (None, 0, 0)
    assert row.error == records["bad"].error
    assert row.error_kind == ("EngineUnavailable" if kind == "refuses" else None)


@pytest.mark.parametrize(
    ("kind", "reason"),
    [
        ("wrong", "output y is off from that of good by up to 1"),
        ("drifts", "changed while it was timed: output y"),
    ],
)
def test_wrong_answers_disqualify_and_the_others_go_on(
    tmp_path: Path, kind: str, reason: str
) -> None:
    """At once where they are wrong from the beginning, else as soon as they change."""
    good, bad = entrant(tmp_path, "good"), entrant(tmp_path, "bad", kind)
    check = OutputCheck("custom", {"good": Known(), "bad": Known()})
    records = run(tmp_path, good, bad, check=check)
    assert reason in str(records["bad"].error)
    assert records["bad"].error_kind == "MeasurementError"
    assert records["good"].error is None
    assert len(records["good"].rounds(1)) == 2
    assert bool(records["bad"].times) == (kind == "drifts")
    assert not list(tmp_path.glob("*.outputs.*"))


def test_enough_is_enough(tmp_path: Path) -> None:
    """It is asked after the fifth round and not before."""
    asked: list[int] = []

    def enough(records: Records) -> bool:
        asked.append(len(records["a"].loads))
        return len(asked) == 2

    records = run(tmp_path, entrant(tmp_path, "a"), processes=8, enough=enough)
    assert asked == [LEAST_ROUNDS, LEAST_ROUNDS + 1]
    assert len(records["a"].rounds(0)) == LEAST_ROUNDS + 1


def test_nothing_is_asked_when_the_run_ends_anyway(tmp_path: Path) -> None:
    """To form all ratios after the last round would be for nothing."""

    def enough(records: Records) -> bool:
        raise AssertionError("it was asked")

    records = run(tmp_path, entrant(tmp_path, "a"), processes=LEAST_ROUNDS, enough=enough)
    assert len(records["a"].rounds(0)) == LEAST_ROUNDS


def test_requests_come_as_the_scenario_says(tmp_path: Path) -> None:
    """The same arrivals for all, whose latencies count from when they were due."""
    scenario = Scenario("server", qps=100.0)
    one, other = entrant(tmp_path, "one"), entrant(tmp_path, "other")
    records = run(tmp_path, one, other, scenario=scenario)
    counts = [
        [turn.inferences for round_ in range(2) for turn in record.turns[0][round_]]
        for record in records.values()
    ]
    assert counts[0] == counts[1]
    assert records["one"].scenario == scenario


def test_what_libraries_print_is_no_answer(tmp_path: Path) -> None:
    """A child's stdout is its own: prints of others go to stderr."""
    records = run(tmp_path, entrant(tmp_path, "chatty", "prints"))
    assert records["chatty"].error is None


def test_the_order_follows_from_the_seed() -> None:
    """Who goes first is drawn, and drawn again the same."""
    orders = [_shuffled(Random(5), list("abcdef")) for _ in range(2)]
    assert orders[0] == orders[1] != list("abcdef")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_no_child_outlives_the_parent(tmp_path: Path, number: signal.Signals) -> None:
    """Ctrl-C and SIGTERM end the children at once; after SIGKILL they see their input end."""
    marker = tmp_path / "pids"
    script = tmp_path / "parent.py"
    script.write_text(
        "import pathlib, signal\n"
        "from edgekit.core.signals import stops_raise\n"
        "from tests.evaluation.test_rounds import entrant, run\n"
        "import edgekit.runtime.conversation as conversation\n"
        "original = conversation.Child.__init__\n"
        "def remember(self, *given, **named):\n"
        "    original(self, *given, **named)\n"
        f"    pathlib.Path({str(marker)!r}).open('a').write(f'{{self._process.pid}}\\n')\n"
        "conversation.Child.__init__ = remember\n"
        # A shell that starts a job in the background leaves Ctrl-C ignored in it.
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        f"folder = pathlib.Path({str(tmp_path)!r})\n"
        # As the commands do: a stop inside a finalizer is lost to a handler that only raises.
        "with stops_raise():\n"
        "    run(folder, entrant(folder, 'a'), entrant(folder, 'b'), budget=600)\n"
    )
    root = Path(__file__).resolve().parents[2]
    environment = {**os.environ, "PYTHONPATH": str(root)}
    parent = subprocess.Popen(
        [sys.executable, str(script)], env=environment, stderr=subprocess.DEVNULL
    )
    try:
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline and (
            not marker.exists() or len(marker.read_text().split()) < 2
        ):
            time.sleep(0.05)
        time.sleep(0.3)
        parent.send_signal(number)
        parent.wait(timeout=30)
    finally:
        # One that took no notice would go on computing beside all later tests.
        parent.kill()
    children = [int(word) for word in marker.read_text().split()]
    assert len(children) == 2
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline and any(map(_alive, children)):
        time.sleep(0.05)
    assert not any(map(_alive, children))


def test_nothing_is_left_to_import_in_a_round() -> None:
    """What draws the turns is there before the first child: a stop inside its import is lost."""
    code = "import sys, edgekit.evaluation.rounds; print('numpy.random' in sys.modules)"
    ran = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    )
    assert ran.stdout.strip() == "True"


def _alive(pid: int) -> bool:
    """Whether a process still runs; one that waits to be reaped does not."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state != "Z"
