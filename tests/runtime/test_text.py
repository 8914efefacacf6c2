"""Texts become the feeds that the processor describes."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from edgekit.core.errors import BundleCorrupt, BundleVersion, InputMismatch
from edgekit.runtime.text import TextProcessor
from tests.runtime.conftest import MAX_LENGTH, POSTS, TOKENIZER, processor

LONG = "the lazy dog and the fox " * 20


@pytest.fixture
def make(tmp_path: Path) -> Callable[..., TextProcessor]:
    """A TextProcessor of the test tokenizer with some rules changed."""
    TOKENIZER.save(str(tmp_path / "tokenizer.json"))

    def build(
        kind: str = "embedding", *, length: int | None = None, **changes: object
    ) -> TextProcessor:
        post = {**POSTS[kind], **changes.pop("post", {})}  # type: ignore[dict-item]
        return TextProcessor(processor(post, **changes), tmp_path, length=length)

    return build


def test_single_text(make: Callable[..., TextProcessor]) -> None:
    """One text is one row without padding."""
    encoded = make().encode(["the lazy dog"])
    expected = [TOKENIZER.token_to_id(token) for token in ("[CLS]", "the", "lazy", "dog", "[SEP]")]
    assert encoded.feeds["input_ids"].tolist() == [expected]
    assert encoded.feeds["attention_mask"].tolist() == [[1] * 5]
    assert all(array.dtype == np.int64 for array in encoded.feeds.values())


def test_padding_right(make: Callable[..., TextProcessor]) -> None:
    """Shorter rows are filled on the right, outside the mask, with the padding's id and type."""
    rules = {"side": "right", "token": "[MASK]", "id": 4, "type_id": 1}
    names = ["input_ids", "attention_mask", "token_type_ids"]
    feeds = make(padding=rules, inputs=names).encode(["the lazy dog", "the"]).feeds
    assert feeds["input_ids"][1, 3:].tolist() == [4, 4]
    assert feeds["attention_mask"].tolist() == [[1, 1, 1, 1, 1], [1, 1, 1, 0, 0]]
    assert feeds["token_type_ids"].tolist() == [[0] * 5, [0, 0, 0, 1, 1]]


def test_padding_left(make: Callable[..., TextProcessor]) -> None:
    """Padding on the left leaves the tokens at the end."""
    feeds = make(padding={"side": "left", "id": 0}).encode(["the lazy dog", "the"]).feeds
    assert feeds["attention_mask"].tolist() == [[1, 1, 1, 1, 1], [0, 0, 1, 1, 1]]
    assert feeds["input_ids"][1, :2].tolist() == [0, 0]


def test_pair_segments(make: Callable[..., TextProcessor]) -> None:
    """The second text of a pair is of the second segment."""
    names = ["input_ids", "attention_mask", "token_type_ids"]
    feeds = make(inputs=names).encode([("the dog", "the sea")]).feeds
    assert feeds["token_type_ids"].tolist() == [[0, 0, 0, 0, 1, 1, 1]]


def test_inputs_are_the_declared_ones(make: Callable[..., TextProcessor]) -> None:
    """Only what the graph takes is made."""
    assert list(make(inputs=["input_ids"]).encode(["the"]).feeds) == ["input_ids"]


@pytest.mark.parametrize("text", ["", " ", "\n\t"])
def test_empty_text(make: Callable[..., TextProcessor], text: str) -> None:
    """A text of nothing is its special tokens."""
    assert make().encode([text]).feeds["input_ids"].tolist() == [[2, 3]]


def test_truncation_is_said_once_and_counted(
    make: Callable[..., TextProcessor], caplog: pytest.LogCaptureFixture
) -> None:
    """An over-long text loses its end; the first one is a warning, every one is counted."""
    text = make()
    with caplog.at_level(logging.DEBUG, logger="edgekit"):
        encoded = text.encode([LONG, "the", LONG])
    assert encoded.feeds["input_ids"].shape == (3, MAX_LENGTH)
    assert encoded.truncated == text.truncated == 2
    assert [record.levelname for record in caplog.records] == ["WARNING", "DEBUG"]
    assert "24 tokens" in caplog.text


def test_text_of_exactly_the_longest_length(make: Callable[..., TextProcessor]) -> None:
    """A text that just fits is not called truncated."""
    text = make()
    assert text.encode(["the " * (MAX_LENGTH - 2)]).feeds["input_ids"].shape == (1, MAX_LENGTH)
    assert text.truncated == 0


def test_truncation_side(make: Callable[..., TextProcessor]) -> None:
    """With truncation on the left, the end stays."""
    text = make(truncation={"side": "left"}, max_length=4)
    assert TOKENIZER.decode(text.encode(["the quick fox dog"]).rows[0].ids) == "fox dog"


def test_no_longest_length(make: Callable[..., TextProcessor]) -> None:
    """Without a longest length nothing is cut."""
    assert make(max_length=None).encode([LONG]).feeds["input_ids"].shape == (1, 122)


def test_only_second_of_a_pair_is_cut(make: Callable[..., TextProcessor]) -> None:
    """The strategy only_second leaves the first text whole."""
    text = make(truncation={"strategy": "only_second"}, max_length=8)
    row = text.encode([("the lazy dog", LONG)]).rows[0]
    assert row.sequence_ids == [None, 0, 0, 0, None, 1, 1, None]


def test_nothing_left_to_cut(make: Callable[..., TextProcessor]) -> None:
    """A text that its strategy cannot shorten is refused, not crashed upon."""
    with pytest.raises(InputMismatch, match="cannot be tokenized"):
        make(truncation={"strategy": "only_second"}, max_length=8).encode([LONG])


def test_tokenizer_file_rules_do_not_apply(tmp_path: Path) -> None:
    """Padding and truncation written into the tokenizer's own file change nothing."""
    stored = json.loads(TOKENIZER.to_str())
    stored["truncation"] = {
        "max_length": 3, "strategy": "LongestFirst", "stride": 0, "direction": "Right",
    }  # fmt: skip
    stored["padding"] = {
        "strategy": {"Fixed": 9}, "direction": "Left", "pad_to_multiple_of": None,
        "pad_id": 0, "pad_type_id": 0, "pad_token": "[PAD]",
    }  # fmt: skip
    (tmp_path / "tokenizer.json").write_text(json.dumps(stored))
    text = TextProcessor(processor(POSTS["embedding"], max_length=None), tmp_path)
    assert text.encode(["the lazy dog"]).feeds["input_ids"].shape == (1, 5)


def test_fixed_length(make: Callable[..., TextProcessor]) -> None:
    """A graph of a fixed length gets exactly that, filled or cut."""
    feeds = make(length=6).encode(["the", LONG]).feeds
    assert feeds["input_ids"].shape == (2, 6)
    assert feeds["attention_mask"].sum(axis=1).tolist() == [3, 6]
    assert make(length=6).encode(["the"]).feeds["input_ids"].shape == (1, 6)


def test_windows_of_a_context(make: Callable[..., TextProcessor]) -> None:
    """A context that does not fit is read in overlapping windows, each with the whole question."""
    text = make("question-answering")
    encoded = text.encode([("the sea", LONG), ("the sea", "the dog")])
    assert encoded.owners == (*[0] * (len(encoded.rows) - 1), 1)
    assert len(encoded.rows) > 3
    first, second = encoded.rows[:2]
    assert first.ids[:4] == second.ids[:4]
    overlap = [offset for offset in first.offsets[4:-1] if offset in second.offsets[4:-1]]
    assert len(overlap) == 4
    assert encoded.truncated == 0


def test_question_longer_than_the_model(make: Callable[..., TextProcessor]) -> None:
    """A question that leaves no room for its context is refused; tokenizers would abort."""
    with pytest.raises(InputMismatch, match="leaves 0 of 24"):
        make("question-answering").encode([(LONG, "the dog")])
    with pytest.raises(InputMismatch, match="leaves 3 of 24"):
        make("question-answering").encode([("the " * 18, LONG)])


@pytest.mark.parametrize("bad", [3, None, ("the", 1), ("a", "b", "c"), ["the", "dog"], b"the"])
def test_not_a_text(make: Callable[..., TextProcessor], bad: object) -> None:
    """Anything but a str or a pair is refused with what it is."""
    with pytest.raises(InputMismatch, match="A text is a str"):
        make().encode([bad])  # type: ignore[list-item]


def test_half_a_surrogate_pair(make: Callable[..., TextProcessor]) -> None:
    """A str that is not Unicode text is refused with the line that cleans it."""
    with pytest.raises(InputMismatch, match="surrogate") as caught:
        make().encode(["the \ud83d dog"])
    assert "encode('utf-8', 'replace')" in str(caught.value.hint)


def test_text_without_tokens(tmp_path: Path) -> None:
    """Where the tokenizer adds no special tokens, an empty text has nothing to run."""
    stored = json.loads(TOKENIZER.to_str())
    stored["post_processor"] = None
    (tmp_path / "tokenizer.json").write_text(json.dumps(stored))
    with pytest.raises(InputMismatch, match="no tokens"):
        TextProcessor(processor(POSTS["embedding"]), tmp_path).encode([""])


@pytest.mark.parametrize(
    ("changes", "error", "word"),
    [
        ({"inputs": ["input_ids", "position_ids"]}, BundleVersion, "position_ids"),
        ({"inputs": []}, BundleCorrupt, "inputs"),
        ({"inputs": "input_ids"}, BundleCorrupt, "inputs"),
        ({"max_length": -1}, BundleCorrupt, "max_length"),
        ({"max_length": "24"}, BundleCorrupt, "max_length"),
        ({"truncation": {"strategy": "random"}}, BundleVersion, "random"),
        ({"truncation": {"side": "middle"}}, BundleVersion, "middle"),
        ({"padding": {"side": "top"}}, BundleVersion, "top"),
        ({"padding": {"id": 1.5}}, BundleCorrupt, "id"),
        ({"padding": "right"}, BundleCorrupt, "padding"),
    ],
)
def test_rules_that_are_not_understood(
    make: Callable[..., TextProcessor],
    changes: dict[str, object],
    error: type[Exception],
    word: str,
) -> None:
    """A processor that cannot be followed exactly is refused."""
    with pytest.raises(error, match=word):
        make(**changes)


def test_another_kind_of_processor(tmp_path: Path) -> None:
    """A processor of another kind is not for text."""
    with pytest.raises(BundleVersion, match="image"):
        TextProcessor({"kind": "image"}, tmp_path)


def test_stride_longer_than_the_window(make: Callable[..., TextProcessor]) -> None:
    """Windows that would never advance are a fault of the bundle."""
    with pytest.raises(BundleCorrupt, match="contradict"):
        make("question-answering", post={"doc_stride": 30})


def test_broken_tokenizer_file(tmp_path: Path) -> None:
    """A tokenizer file that does not load is BundleCorrupt."""
    (tmp_path / "tokenizer.json").write_text("{}")
    with pytest.raises(BundleCorrupt, match=r"tokenizer\.json does not load"):
        TextProcessor(processor(POSTS["embedding"]), tmp_path)
