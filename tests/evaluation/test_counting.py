"""How far a loop is: every step for a bar, some lines for everybody else."""

from __future__ import annotations

from edgekit.evaluation.counting import Bar, Counted


class Drawn:
    """A listener with a bar."""

    def __init__(self) -> None:
        self.said: list[str] = []
        self.drawn: list[tuple[str, float, float]] = []

    def __call__(self, text: str, /) -> None:
        self.said.append(text)

    def advance(self, text: str, done: float, total: float) -> None:
        self.drawn.append((text, done, total))


def test_a_bar_hears_of_every_step_and_of_the_end() -> None:
    """And of nothing else."""
    listener = Drawn()
    assert isinstance(listener, Bar)
    counted = Counted(listener, 4)
    counted.tell("one", 1)
    counted.tell("two", 2)
    counted.end()
    assert listener.drawn == [("one", 1, 4), ("two", 2, 4), ("", 4, 4)]
    assert listener.said == []


def test_others_hear_ten_lines() -> None:
    """The start is no news, the end is."""
    said: list[str] = []
    counted = Counted(said.append, 1000)
    for done in range(0, 1001, 8):
        counted.tell(str(done), done)
    counted.end()
    assert said == ["104", "200", "304", "400", "504", "600", "704", "800", "904", "1000"]
    assert not isinstance(said.append, Bar)


def test_rounds_are_told_when_they_begin() -> None:
    """One line for each, whatever happens within."""
    said: list[str] = []
    counted = Counted(said.append, 3, lines=3, first=True)
    for number in range(3):
        for part in (0.0, 0.4, 0.999):
            counted.tell(f"round {number}", number + part)
    counted.end()
    assert said == ["round 0", "round 1", "round 2"]


class Clock:
    """A clock that a test sets."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def test_what_is_to_come_is_foretold_once_the_pace_is_known() -> None:
    """Early and once beside the lines, then with each of them, as long as it is worth a word."""
    said: list[str] = []
    clock = Clock()
    counted = Counted(said.append, 1000, lines=2, clock=clock)
    for done in range(1, 1001):
        clock.now = 0.4 * done
        counted.tell(f"step {done}", done)
    assert said == ["step 14; about 7 min to go", "step 500; about 3 min to go", "step 1000"]


def test_a_short_loop_foretells_nothing() -> None:
    """Nobody plans with half a minute."""
    said: list[str] = []
    clock = Clock()
    counted = Counted(said.append, 100, lines=1, clock=clock)
    for done in range(1, 101):
        clock.now = 0.3 * done
        counted.tell(f"step {done}", done)
    assert said == ["step 100"]


def test_steps_of_an_earlier_run_say_nothing_of_the_pace() -> None:
    """And were told then."""
    said: list[str] = []
    clock = Clock()
    with Counted(said.append, 1000, lines=4, start=500, clock=clock) as counted:
        clock.now = 60.0
        counted.tell("step 510", 510)
        clock.now = 120.0
        counted.tell("step 520", 520)
    assert said == ["step 520; about 48 min to go"]


def test_hours_are_hours() -> None:
    """A bar has it as well."""
    listener = Drawn()
    clock = Clock()
    with Counted(listener, 100, clock=clock) as counted:
        clock.now = 60.0
        counted.tell("one", 1)
        clock.now = 3600.0
        counted.tell("fifty", 50)
        clock.now = 6900.0
        counted.tell("ninety-nine", 99)
    assert [text for text, _, _ in listener.drawn] == [
        "one",
        "fifty; about 1 h to go",
        "ninety-nine; about 70 s to go",
        "",
    ]


def test_the_pace_is_that_of_the_steps_after_the_first() -> None:
    """It has waited for what is made ready before all of them."""
    said: list[str] = []
    clock = Clock()
    with Counted(said.append, 512, clock=clock) as counted:
        clock.now = 7.0
        counted.tell("sample 1", 1)
        clock.now = 13.0
        counted.tell("sample 52", 52)
    assert said == ["sample 52; about 50 s to go"]
