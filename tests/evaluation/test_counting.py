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
