"""Marks of time: what may follow, where a window ends, how a text is cut; as transformers does."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch
from transformers import GenerationConfig
from transformers.generation.logits_process import WhisperTimeStampLogitsProcessor
from transformers.models.whisper.generation_whisper import WhisperGenerationMixin
from transformers.models.whisper.tokenization_whisper import _decode_asr

from edgekit.runtime.generation.speech.rules import SpeechRules
from edgekit.runtime.generation.speech.times import Clock, Cutting, chunks_of, settled

VOCABULARY, EOS, WITHOUT, MARKS = 40, 20, 28, 11
FIRST = WITHOUT + 1
RULES = SpeechRules(
    start=21, window=20, stride=2, precision=0.02, without_times=WITHOUT, first_time=4,
    special=frozenset(range(EOS, FIRST)),
)  # fmt: skip


class Spelling:
    """What is used of a tokenizer: a letter for each token of text."""

    all_special_ids = sorted(RULES.special)

    def convert_tokens_to_ids(self, token: str) -> int:
        return {"<|notimestamps|>": WITHOUT}.get(token, 22)

    def decode(self, ids: list[int]) -> str:
        return "".join(chr(97 + number) if number < EOS else "<|x|>" for number in ids)

    def _strip_prompt(self, ids: list[int], *_: int) -> list[int]:
        return ids


def said(random: np.random.Generator, length: int) -> list[int]:
    """Tokens of text, and marks that come alone and in pairs."""
    made: list[int] = []
    while len(made) < length:
        made += random.integers(0, EOS, random.integers(0, 3)).tolist()
        made += random.integers(FIRST, VOCABULARY, random.integers(0, 3)).tolist()
    return made[:length]


@pytest.mark.parametrize("latest", [4, None])
def test_scores_are_masked_as_theirs(latest: int | None) -> None:
    """Hundreds of beginnings of windows, with scores that sometimes prefer text."""
    config = GenerationConfig(
        no_timestamps_token_id=WITHOUT, eos_token_id=EOS, max_initial_timestamp_index=latest
    )
    theirs = WhisperTimeStampLogitsProcessor(config, begin_index=2)
    rules = SpeechRules(**{**vars(RULES), "first_time": latest})
    ours = Clock(rules, EOS)
    random = np.random.default_rng(5)
    for length in (0, 1, 2, 3, 4, 7) * 60:
        tokens = said(random, length)
        scores = random.normal(0, 3, VOCABULARY).astype(np.float32)
        wanted = theirs(torch.tensor([[21, 22, *tokens]]), torch.from_numpy(scores)[None])[0]
        ours.mask(scores, tokens)
        np.testing.assert_array_equal(scores, wanted.numpy(), err_msg=str(tokens))


def test_windows_end_where_theirs_do() -> None:
    """What is kept of a window and how far the next one is."""
    random = np.random.default_rng(6)
    for length in (1, 2, 3, 5, 8, 13) * 40:
        tokens = said(random, length)
        segments, offset = WhisperGenerationMixin._retrieve_segment(
            seek_sequence=torch.tensor(tokens), seek_outputs=[{}],
            time_offset=torch.zeros(1, dtype=torch.float64), timestamp_begin=FIRST,
            seek_num_frames=torch.tensor([20]), time_precision=0.02, time_precision_features=0.01,
            input_stride=2, prev_idx=0, idx=0, return_token_timestamps=False,
            decoder_input_ids=torch.zeros(1, 2),
        )  # fmt: skip
        kept, further = settled(tokens, RULES, 20)
        assert kept == torch.cat([one["tokens"] for one in segments]).tolist()
        # A window that would begin again where it began is passed over: theirs never ends.
        assert further == (int(offset) or 20)


def test_a_window_without_a_word_is_behind_us() -> None:
    """No tokens, no marks: the next window."""
    assert settled([], RULES, 13) == ([], 13)


@pytest.mark.parametrize("times", [True, False])
def test_chunks_are_theirs(times: bool) -> None:
    """Many windows after each other, some of which end in the middle of a sentence."""
    random = np.random.default_rng(7)
    spelling: Any = Spelling()
    for length in (0, 1, 2, 4, 9, 30) * 40:
        tokens = said(random, length)
        text, more = _decode_asr(
            spelling, [{"tokens": torch.tensor([tokens], dtype=torch.long)}],
            return_timestamps=times, return_language=None, time_precision=0.02, segment_size=10,
        )  # fmt: skip
        chunks = chunks_of(tokens, RULES, spelling.decode)
        assert "".join(chunk.text for chunk in chunks) == text
        if times:
            assert [
                {"timestamp": (chunk.start, chunk.end), "text": chunk.text} for chunk in chunks
            ] == more["chunks"]


def test_chunks_of_windows_as_they_come_are_those_of_all() -> None:
    """Cut after any token, also between two marks; each token is spelled once."""
    random = np.random.default_rng(8)
    spelling: Any = Spelling()
    for length in (0, 1, 2, 5, 12, 40) * 40:
        tokens = said(random, length)
        spelled: list[int] = []

        def spell(ids: Sequence[int], into: list[int] = spelled) -> str:
            into += ids
            return str(spelling.decode(ids))

        cutting = Cutting(RULES, spell)
        cuts = sorted(random.integers(0, length + 1, 3).tolist())
        chunks = [
            chunk
            for begin, end in zip([0, *cuts], [*cuts, length], strict=True)
            for chunk in cutting.add(tokens[begin:end])
        ]
        assert chunks + cutting.rest() == chunks_of(tokens, RULES, spelling.decode)
        assert spelled == [token for token in tokens if token < EOS]
