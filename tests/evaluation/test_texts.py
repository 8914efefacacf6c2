"""The bundle's side of a comparison of texts, also before its reference is open."""

from __future__ import annotations

from collections.abc import Callable
from itertools import chain

import numpy as np
import pytest

from edgekit.core.bundle import Bundle
from edgekit.evaluation.texts import CandidateTexts, run_texts
from edgekit.runtime import load
from tests.evaluation.conftest import text_source
from tests.evaluation.test_accuracy import labelled

Make = Callable[..., Bundle]


@pytest.mark.parametrize("kind", ["classification", "token-classification", "embedding"])
def test_texts_that_were_read_before_make_no_difference(bundle_of: Make, kind: str) -> None:
    """The predictions are those of a comparison that begins with both."""
    samples = labelled(kind)
    source = text_source(kind)
    with load(bundle_of(kind).path) as model:
        whole = run_texts(model, source, samples, notes=[])
        begun = CandidateTexts(model, samples)
        found = run_texts(model, source, samples, candidate=begun, notes=[])
    for mine, theirs in zip(found.candidate, whole.candidate, strict=True):
        np.testing.assert_array_equal(np.asarray(mine), np.asarray(theirs))
    assert found.gaps == whole.gaps


def test_the_longest_texts_come_first(bundle_of: Make) -> None:
    """What does not fit in memory fails at once; none is left out."""
    with load(bundle_of("classification").path) as model:
        found = CandidateTexts(model, labelled("classification"), batch_size=7)
        lengths = [len(found.rows[index][0]) for batch in found.batches for index in batch]
        assert max(map(len, found.batches)) == 7
        assert len(found.answers(0)) == len(found.batches[0])
    assert lengths == sorted(lengths, reverse=True)
    assert sorted(chain(*found.batches)) == list(range(len(found.units)))
