"""When tokens came: noted, told, summed up."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
import pytest

from edgekit.runtime.conversation import ChildFailed
from edgekit.runtime.session import Array
from edgekit.runtime.tokens import Request, TokenTurn, last_requests, token_figures


def spoken(count: int) -> Request:
    """A request that is answered by so many tokens."""

    def answer(came: Callable[[], object]) -> Mapping[str, Array]:
        for _ in range(count):
            came()
        return {}

    return Request(answer)


def test_the_last_requests_of_several_are_told_in_their_order() -> None:
    """What ran before them warmed up; once told, they are forgotten."""
    first, second = spoken(3), spoken(3)
    for request in (first, second, first):
        request()
    told = last_requests((first, second), 2)
    assert [len(told[key]) for key in ("first_token_ns", "token_ns")] == [2, 4]  # type: ignore[arg-type]
    assert last_requests((first, second), 2) == {"first_token_ns": [], "token_ns": []}


def test_of_very_many_steps_whole_requests_are_left_out() -> None:
    """A step's place in its answer decides how long it takes."""
    request = spoken(1001)
    for _ in range(9):
        request()
    told = last_requests([request], 9)
    assert len(told["first_token_ns"]) == 9  # type: ignore[arg-type]
    assert len(told["token_ns"]) == 3 * 1000  # type: ignore[arg-type]


def test_what_is_told_is_read() -> None:
    """In milliseconds; models that do not generate tell nothing."""
    turn = TokenTurn.of({"first_token_ns": [4_000_000], "token_ns": [1_000_000, 2_000_000]})
    assert turn is not None
    assert turn.of_measure("first_token").tolist() == [4.0]
    assert turn.of_measure("token").tolist() == [1.0, 2.0]
    assert TokenTurn.of({"nanoseconds": [1]}) is None
    for wrong in ("soon", [["a"]], [[1.0]], None):
        with pytest.raises(ChildFailed, match="times of tokens"):
            TokenTurn.of({"first_token_ns": wrong, "token_ns": []})


def test_figures_are_those_of_the_times() -> None:
    """Medians of all; the rate counts the rows of a batch; a p90 takes 64 samples."""
    turns = [[TokenTurn(np.array([10.0]), np.full(40, 2.0))] for _ in range(2)]
    found = token_figures(turns, batch=3)
    assert found.first is not None
    assert (found.first.p50, found.first.p90) == (10.0, None)
    assert found.token is not None
    assert (found.token.p50, found.token.p90) == (2.0, 2.0)
    assert found.per_second == pytest.approx(1500.0)


def test_answers_of_one_token_have_no_steps() -> None:
    """And nothing measured has no figures."""
    found = token_figures([[TokenTurn(np.array([10.0]), np.zeros(0))]], batch=1)
    assert found.first is not None
    assert found.token is found.per_second is None
    empty = token_figures([], batch=1)
    assert empty.first is empty.token is empty.per_second is None
