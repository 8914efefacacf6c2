"""SIGTERM as an exception, and stops that arrive where exceptions are ignored."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable, Iterator

import pytest

from edgekit.core import signals
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


def stopped_twice(number: signal.Signals, raised: type[BaseException]) -> list[str]:
    """What is still done by a cleaning up in which a stop comes again."""
    done: list[str] = []
    with pytest.raises(raised), stops_raise():
        try:
            os.kill(os.getpid(), number)
            time.sleep(5)
        finally:
            done.append("begun")
            os.kill(os.getpid(), number)
            time.sleep(0.05)
            done.append("ended")
    return done


@pytest.mark.parametrize(("number", "raised"), STOPS)
def test_a_stop_that_is_sent_twice_is_one(
    number: signal.Signals, raised: type[BaseException]
) -> None:
    """As timeout does, to the process and to its group: what is being cleaned up gets clean."""
    assert stopped_twice(number, raised) == ["begun", "ended"]


@pytest.mark.parametrize(("number", "raised"), STOPS)
def test_a_later_stop_is_another(
    number: signal.Signals, raised: type[BaseException], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who asks again does not want to wait for the end of the cleaning up."""
    monkeypatch.setattr(signals, "_ONCE_SECONDS", 0.0)
    assert stopped_twice(number, raised) == ["begun"]


def test_an_ignored_interrupt_stays_ignored() -> None:
    """A shell's background job takes no Ctrl-C."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with stops_raise():
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(0.05)
    assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN


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

    def found() -> list[object]:
        handlers = [signal.getsignal(number) for number, _ in STOPS]
        return [*handlers, sys.unraisablehook]

    before = found()
    with stops_raise():
        assert not set(map(id, found())) & set(map(id, before))
    assert found() == before
