"""SIGTERM as an exception, and stops that arrive where exceptions are ignored."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable, Iterator

import pytest

from edgekit.core.signals import Terminated, stops_raise

STOPS = [(signal.SIGINT, KeyboardInterrupt), (signal.SIGTERM, Terminated)]


@pytest.fixture(autouse=True)
def default_interrupt() -> Iterator[None]:
    """A process started in the background inherits an ignored SIGINT."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


class Finalized:
    """Does something when it is collected."""

    def __init__(self, work: Callable[[], None]) -> None:
        self.work = work

    def __del__(self) -> None:
        self.work()


@pytest.mark.parametrize(("number", "raised"), STOPS)
def test_a_stop_is_raised(number: signal.Signals, raised: type[BaseException]) -> None:
    """The signal is an exception in the main thread."""
    with pytest.raises(raised), stops_raise():
        os.kill(os.getpid(), number)
        time.sleep(5)


@pytest.mark.parametrize(("number", "raised"), STOPS)
def test_a_stop_inside_a_finalizer_is_not_lost(
    number: signal.Signals, raised: type[BaseException], capfd: pytest.CaptureFixture[str]
) -> None:
    """It is raised again once the finalizer that swallowed it has returned."""

    def stopped() -> None:
        os.kill(os.getpid(), number)
        time.sleep(0.1)

    with pytest.raises(raised), stops_raise():
        finalized = Finalized(stopped)
        del finalized
        time.sleep(5)
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize(("number", "raised"), STOPS)
def test_a_stop_inside_the_last_finalizer_ends_the_block(
    number: signal.Signals, raised: type[BaseException]
) -> None:
    """It is raised within the block, not a moment after it."""

    def stopped() -> None:
        os.kill(os.getpid(), number)
        time.sleep(0)

    with pytest.raises(raised), stops_raise():
        finalized = Finalized(stopped)
        del finalized
    time.sleep(0.1)


def test_other_ignored_exceptions_are_told_as_before(monkeypatch: pytest.MonkeyPatch) -> None:
    """Only stops are kept from the hook that was there."""
    told: list[type[BaseException]] = []
    monkeypatch.setattr(sys, "unraisablehook", lambda args: told.append(args.exc_type))

    def broken() -> None:
        raise ValueError

    with stops_raise():
        finalized = Finalized(broken)
        del finalized
    assert told == [ValueError]


def test_handlers_are_put_back() -> None:
    """Nothing of it remains after the block."""
    before = signal.getsignal(signal.SIGTERM), sys.unraisablehook
    with stops_raise():
        assert signal.getsignal(signal.SIGTERM) != before[0]
    assert (signal.getsignal(signal.SIGTERM), sys.unraisablehook) == before
