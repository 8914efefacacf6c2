"""Tokens compared: the same ones in float32, the first one's scores in coarser precisions."""

from __future__ import annotations

import numpy as np
import pytest

from edgekit.core.tolerance import TOLERANCES
from edgekit.evaluation.said import compare_said, without_tokens
from edgekit.runtime.session import Array

EXACT, COARSE = TOLERANCES["fp32"], TOLERANCES["int8"]


def said(tokens: list[list[int]], gap: float = 1.0, largest: float = 10.0) -> dict[str, Array]:
    """An answer whose scores are at most `largest`."""
    found = np.array(tokens)
    return {
        "tokens": found,
        "gaps": np.full(found.shape, gap, np.float32),
        "first_logits": np.full((len(found), 20), largest, np.float32),
    }


def test_the_same_tokens_are_counted() -> None:
    """Over all rows and workloads."""
    answers = [said([[1, 2], [3, 4]]), said([[5, 6]])]
    found = compare_said(answers, answers, EXACT)
    assert found is not None
    assert (found.same, found.count, found.worst) == (6, 6, None)


@pytest.mark.parametrize(
    ("gap", "excused"), [(1.0, False), (2.1e-3, False), (1.9e-3, True), (0.0, True)]
)
def test_a_choice_between_equal_scores_is_no_fault(gap: float, excused: bool) -> None:
    """Both sides may move by what the tolerance allows: 1e-4 of the largest score, twice."""
    found = compare_said([said([[1, 2, 3]])], [said([[1, 9, 3]], gap)], EXACT)
    assert found is not None
    assert found.worst is not None
    assert found.worst.excused is excused
    assert (found.worst.place, found.worst.token, found.worst.wanted) == (2, 9, 2)
    # What follows another token is another text.
    assert (found.same, found.count) == (1, 3)


def test_the_surer_of_several_partings_counts() -> None:
    """One row that went wrong is one too many."""
    base = said([[1, 2], [1, 2]])
    other = said([[9, 2], [1, 9]])
    other["gaps"] = np.array([[0.0, 0.0], [0.0, 0.5]], np.float32)
    found = compare_said([base], [other], EXACT)
    assert found is not None
    assert found.worst is not None
    assert (found.worst.place, found.worst.gap) == (2, 0.5)


def test_coarse_precisions_may_say_something_else() -> None:
    """How much of it is the same is known all the same."""
    found = compare_said([said([[1, 2, 3]])], [said([[1, 2, 9]])], COARSE)
    assert found is not None
    assert (found.same, found.count, found.worst) == (2, 3, None)


def test_answers_of_another_length_are_others() -> None:
    """Whatever stands in them."""
    found = compare_said([said([[1, 2]])], [said([[1, 2, 3]])], EXACT)
    assert found is not None
    assert found.worst is not None
    assert not found.worst.excused


def test_other_models_may_have_outputs_of_such_names() -> None:
    """Only an answer to a request is compared here, and left out elsewhere."""
    plain = [{"tokens": np.arange(3)}]
    assert compare_said(plain, plain, EXACT) is None
    assert without_tokens(plain) == tuple(plain)
    assert list(without_tokens([said([[1]])])[0]) == ["first_logits"]
