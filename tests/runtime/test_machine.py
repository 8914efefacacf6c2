"""What disturbs a measurement, from counters before and after."""

from __future__ import annotations

import os
from dataclasses import replace

import pytest

from edgekit.runtime import machine
from edgekit.runtime.machine import Snapshot, noise_causes

CPUS = os.cpu_count() or 1
BEFORE = Snapshot(wall=100.0, load=0.0, busy=50.0, stolen=0.0, own=10.0, throttled=0)
# Ten seconds in which only this process computed, on one CPU.
AFTER = Snapshot(wall=110.0, load=1.0, busy=60.0, stolen=0.0, own=20.0, throttled=0)


def causes(before: Snapshot = BEFORE, after: Snapshot = AFTER, **shares: float) -> str:
    """All causes in one text."""
    return "; ".join(noise_causes(before, after, threads=1, shares=shares))


def test_a_quiet_machine_has_no_causes() -> None:
    """Own work is no disturbance."""
    assert causes(a=0.99) == ""


@pytest.mark.parametrize(
    ("before", "after", "expected"),
    [
        (BEFORE, replace(AFTER, busy=60.0 + 5.0 * CPUS), "other programs used 50%"),
        (BEFORE, replace(AFTER, stolen=1.0 * CPUS), "hypervisor took 10%"),
        (BEFORE, replace(AFTER, throttled=12), "held the processes back 12 times"),
    ],
)
def test_every_disturbance_is_named(before: Snapshot, after: Snapshot, expected: str) -> None:
    """With how much of it there was."""
    assert expected in causes(before, after)


def test_what_ran_before_is_no_disturbance() -> None:
    """The load average remembers this process's own work of the minute before."""
    assert causes(replace(BEFORE, load=CPUS * 2.0)) == ""


def test_a_starved_contender_is_named() -> None:
    """A thread that computes and gets less than a CPU was held back."""
    assert "b got 62% of a CPU" in causes(a=0.99, b=0.62)


def test_unknown_counters_are_no_causes() -> None:
    """Systems that do not tell are not called noisy."""
    unknown = replace(BEFORE, load=None, busy=None, stolen=None, throttled=None)
    assert causes(unknown, replace(unknown, wall=110.0)) == ""


def test_a_quota_smaller_than_the_threads_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two threads on half a CPU wait for each other."""
    monkeypatch.setattr(machine.cpu, "cgroup_cpu_quota", lambda: 0.5)
    assert "CPU quota of 0.5" in causes()


def test_a_snapshot_is_of_now() -> None:
    """Counters only grow."""
    first, second = machine.snapshot(), machine.snapshot()
    assert second.wall >= first.wall
    assert second.own >= first.own


def test_the_device_card_is_plain_data() -> None:
    """It goes into JSON as it is."""
    import json

    card = machine.device_card()
    assert json.loads(json.dumps(card)) == card
    assert card["cpus"] == os.cpu_count()
