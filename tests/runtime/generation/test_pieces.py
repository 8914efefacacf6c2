"""Tokens into text, piece by piece."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer, decoders, models
from transformers import PreTrainedTokenizerFast
from transformers.generation.stopping_criteria import StopStringCriteria

from edgekit.runtime.generation.pieces import Pieces, Stops, clean
from tests.runtime.generation.conftest import EOS, byte_tokenizer

TEXT = "Grüße aus 東京 👩‍👩‍👧 – naïve café, e\u0301tude! \U0001f468\U0001f3fd"


def sentencepiece() -> Tokenizer:
    """Words with their space in front, bytes for what no word has: as Llama's."""
    words = ["<unk>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256))]
    words += ["▁the", "▁ferry", "▁left", "s", "▁", ".", "▁n't", "▁'", "▁m"]
    tokenizer = Tokenizer(models.WordLevel({word: at for at, word in enumerate(words)}, "<unk>"))
    tokenizer.decoder = decoders.Sequence(
        [
            decoders.Replace("▁", " "),
            decoders.ByteFallback(),
            decoders.Fuse(),
            decoders.Strip(" ", 1, 0),
        ]
    )
    tokenizer.add_special_tokens(["</s>"])
    return tokenizer


def told(tokenizer: Tokenizer, ids: Sequence[int], *, cleanup: bool = False) -> list[str]:
    """The pieces of some tokens, those that are empty too."""
    pieces = Pieces(tokenizer, cleanup=cleanup)
    return [*(pieces.add(token) for token in ids), pieces.end()]


def test_no_piece_holds_half_a_character() -> None:
    """With a token for a byte, a character comes when its last byte does, and is never mended."""
    tokenizer = byte_tokenizer()
    pieces = told(tokenizer, [*tokenizer.encode(TEXT).ids, EOS])
    assert "".join(pieces) == TEXT
    assert not any("\ufffd" in piece for piece in pieces)
    assert [piece for piece in pieces if piece] == list(TEXT)


@pytest.mark.parametrize("seed", range(20))
@pytest.mark.parametrize("make", [byte_tokenizer, sentencepiece])
def test_pieces_joined_are_the_whole(make: object, seed: int) -> None:
    """Also of tokens at random, most of which are no characters, with special ones among them."""
    tokenizer = make()  # type: ignore[operator]
    size = tokenizer.get_vocab_size()
    ids = np.random.default_rng(seed).integers(0, size, 200).tolist()
    assert "".join(told(tokenizer, ids)) == tokenizer.decode(ids, skip_special_tokens=True)


@pytest.mark.parametrize("seed", range(20))
def test_cleaned_pieces_joined_are_the_whole(seed: int) -> None:
    """Where spaces are taken out of a text, no piece tells one that would go."""
    tokenizer = sentencepiece()
    ids = (258 + np.random.default_rng(seed).integers(0, 9, 120)).tolist()
    whole = clean(tokenizer.decode(ids, skip_special_tokens=True))
    pieces = told(tokenizer, ids, cleanup=True)
    assert "".join(pieces) == whole
    assert sum(bool(piece) for piece in pieces) > 10


def test_cleaning_is_transformers() -> None:
    """The spaces before punctuation, and no others."""
    text = "it is n't , is it ? ' yes ' I 'm here . They 've we 're he 's !  x"
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=byte_tokenizer())
    assert clean(text) == tokenizer.clean_up_tokenization(text)


@pytest.mark.parametrize("stops", [["the"], ["\n\n", "東"], ["e f"], ["x"], ["</s>"], ["é"]])
def test_stops_are_those_of_transformers(stops: list[str]) -> None:
    """At every token of a text, on the token that transformers stops at."""
    tokenizer = byte_tokenizer()
    theirs = StopStringCriteria(PreTrainedTokenizerFast(tokenizer_object=tokenizer), stops)
    ours = Stops(tokenizer, stops)
    ids = tokenizer.encode("to the ferry\n\nof 東京, café</s>").ids
    for end in range(1, len(ids) + 1):
        expected = bool(theirs(torch.tensor([ids[:end]]), None)[0])
        assert ours(ids[:end]) == expected, (stops, tokenizer.decode(ids[:end]))


def test_no_stops_no_end() -> None:
    """Without texts nothing is decoded for them."""
    assert not Stops(byte_tokenizer(), ())([1, 2])
