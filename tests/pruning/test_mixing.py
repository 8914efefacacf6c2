"""Texts made of others: where they begin and end, and when none are made."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from edgekit.pruning.feeding import Batch
from edgekit.pruning.mixing import Mixer
from edgekit.sources.loaded import LoadedSource
from edgekit.sources.opening import open_source

BEGIN, END = 2, 3


@pytest.fixture
def source(classifier_source: Path) -> LoadedSource:
    """The small random classifier."""
    return open_source(str(classifier_source))


def batch(lengths: list[int], first: int) -> Batch:
    """Texts of these lengths, whose words tell row and place: ``first + 100 × row + place``."""
    ids = torch.zeros(len(lengths), max(lengths), dtype=torch.int64)
    mask = torch.zeros_like(ids)
    for row, length in enumerate(lengths):
        ids[row, :length] = first + 100 * row + torch.arange(length)
        ids[row, 0], ids[row, length - 1] = BEGIN, END
        mask[row, :length] = 1
    return Batch(
        {"input_ids": ids, "attention_mask": mask, "token_type_ids": torch.zeros_like(ids)}
    )


def test_a_text_begins_as_one_and_ends_as_another(source: LoadedSource) -> None:
    """Between what begins and ends a text are words of one row in order, then of another."""
    mixer = Mixer(source, [batch([12, 12, 12, 12], 1000)])
    assert mixer.mixes
    made = mixer.made(0, torch.Generator().manual_seed(0)).inputs
    assert set(made) == {"input_ids", "attention_mask", "token_type_ids"}
    assert not made["token_type_ids"].any()
    strangers = 0
    for row, (ids, mask) in enumerate(zip(made["input_ids"], made["attention_mask"], strict=True)):
        words = ids[: int(mask.sum())].tolist()
        assert (words[0], words[-1]) == (BEGIN, END)
        assert not ids[len(words) :].any()
        owners = [(word - 1000) // 100 for word in words[1:-1]]
        own = [owner for owner in owners if owner == row]
        assert owners[: len(own)] == own, "its own words come first"
        assert len(set(owners[len(own) :])) <= 1, "and then those of one other"
        assert len(words) <= 12
        strangers += len(owners) - len(own)
    assert strangers


def test_words_are_missing_from_some(source: LoadedSource) -> None:
    """Of many texts of one length some are shorter, but most are not."""
    mixer = Mixer(source, [batch([40] * 64, 1000)])
    lengths = mixer.made(0, torch.Generator().manual_seed(0)).inputs["attention_mask"].sum(1)
    thinned = int((lengths < 38).sum())
    assert 5 <= thinned <= 32
    assert int(lengths.min()) > 20


def test_the_same_seed_makes_the_same_texts(source: LoadedSource) -> None:
    """A recovery that goes on makes the texts that it would have made."""
    mixer = Mixer(source, [batch([9, 12, 14], 1000), batch([15, 15], 5000)])
    first, again = (
        mixer.made(1, torch.Generator().manual_seed(4)).inputs["input_ids"] for _ in range(2)
    )
    assert torch.equal(first, again)


def test_what_is_no_single_text_is_left_as_it_is(source: LoadedSource) -> None:
    """Pairs, padding on the left, other inputs, and no batches at all."""
    plain = batch([12, 9], 1000).inputs
    pair = {**plain, "token_type_ids": plain["token_type_ids"] + 1}
    left = {**plain, "attention_mask": plain["attention_mask"].flip(1)}
    more = {**plain, "position_ids": plain["input_ids"]}
    parted = {**plain, "input_ids": plain["input_ids"].clone()}
    parted["input_ids"][0, 4] = parted["input_ids"][0, 11] = source.tokenizer.sep_token_id
    for inputs in (pair, left, more, parted):
        assert not Mixer(source, [Batch(plain), Batch(inputs)]).mixes
    assert not Mixer(source, []).mixes


def test_a_text_of_two_words_stays(source: LoadedSource) -> None:
    """What has nothing between its first and its last word cannot be cut."""
    mixer = Mixer(source, [batch([2, 2], 1000)])
    made = mixer.made(0, torch.Generator().manual_seed(0)).inputs["input_ids"]
    assert made.tolist() == [[BEGIN, END], [BEGIN, END]]
