"""Rows of tokens: exactly the length, and texts that come back as the same rows."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from edgekit.core.bundle import Bundle
from edgekit.core.errors import ConfigError, InputMismatch
from edgekit.runtime import load
from edgekit.runtime.rows import passage_rows
from edgekit.runtime.text import TextProcessor
from edgekit.runtime.workloads import make_workloads, text_workload
from tests.runtime.conftest import CORPUS, MAX_LENGTH

Make = Callable[..., Bundle]
KINDS = ("classification", "embedding", "token-classification", "question-answering", "fill-mask")


@pytest.mark.parametrize("kind", KINDS)
def test_texts_tokenize_to_their_rows(text_bundle: Make, kind: str) -> None:
    """What is predicted in the stages is what is run in the turns."""
    bundle = text_bundle(kind)
    (made,) = make_workloads(bundle, batch=3, lengths=[13])
    assert made.texts is not None
    processor = TextProcessor(bundle.manifest.processor or {}, bundle.path)
    again = processor.encode(made.texts)
    assert (again.feeds["input_ids"] == made.feeds["input_ids"]).all()
    with load(bundle.path) as model:
        answers = model(list(made.texts))
    assert isinstance(answers, list)
    assert len(answers) == 3


def test_a_text_that_does_not_come_back_is_left_out(
    text_bundle: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The rows are there all the same."""
    bundle = text_bundle("classification")
    maker = TextProcessor(bundle.manifest.processor or {}, bundle.path)
    monkeypatch.setattr("edgekit.runtime.rows._size", lambda maker, text: 0)
    rows, texts = passage_rows(maker, {}, 2, 9)
    assert [len(row) for row in rows] == [9, 9]
    assert texts is None


def test_data_have_their_natural_lengths(text_bundle: Make) -> None:
    """Batches in the order of the data, each padded to its own longest row."""
    bundle = text_bundle("classification")
    texts = [CORPUS[0], "the dog", CORPUS[1], CORPUS[2], "a"]
    made = text_workload(bundle, texts, batch=2)
    assert (made.name, made.length) == ("2×data", "data")
    assert made.feeds is made.variants[0]
    assert len(made.variants) == 2
    assert made.texts == tuple(texts[:4])
    shapes = [feeds["input_ids"].shape for feeds in made.variants]
    assert shapes[0][0] == shapes[1][0] == 2
    first, second = made.singles()
    assert (first.texts, second.texts) == (tuple(texts[:2]), tuple(texts[2:4]))
    assert first.feeds["attention_mask"].sum(axis=1).tolist()[1] == 4
    with load(bundle.path) as model:
        for feeds in made.variants:
            assert model.run(feeds)


def test_windows_are_rows_without_texts_of_their_own(text_bundle: Make) -> None:
    """A context longer than the model takes is read in several rows."""
    bundle = text_bundle("question-answering")
    made = text_workload(bundle, [("who jumps", " ".join(CORPUS))])
    assert len(made.variants) > 1
    assert made.texts is None
    assert max(feeds["input_ids"].shape[1] for feeds in made.variants) == MAX_LENGTH


def test_fixed_shapes_fill_every_row(text_bundle: Make) -> None:
    """A graph of one length gets all rows at that length."""
    made = text_workload(text_bundle("classification", batch=1, sequence=12), ["a", CORPUS[0]])
    assert [feeds["input_ids"].shape for feeds in made.variants] == [(1, 12), (1, 12)]


def test_data_that_do_not_fit_are_refused(text_bundle: Make, linear_bundle: Make) -> None:
    """Too few, not a text, or no text model."""
    bundle = text_bundle("classification")
    with pytest.raises(ConfigError, match="fewer than a batch of 4"):
        text_workload(bundle, ["a", "b"], batch=4)
    with pytest.raises(ConfigError, match="takes no text"):
        text_workload(linear_bundle(), ["a"])
    with pytest.raises(InputMismatch, match="str or a pair"):
        text_workload(bundle, [3])  # type: ignore[list-item]
