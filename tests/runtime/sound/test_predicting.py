"""Sounds answered by a graph whose answers are known: whole, in pieces, together."""

from __future__ import annotations

import logging
import tracemalloc
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

import edgekit
from edgekit.core.errors import ConfigError, InputMismatch
from edgekit.runtime.model import Model
from edgekit.runtime.sound.processor import SoundProcessor
from tests.runtime.sound.conftest import (
    FRAME,
    RATE,
    classifier,
    processor,
    speller,
    spoken,
    stored,
    wave,
)


@pytest.fixture(scope="module")
def speech(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Model]:
    """The speller, opened."""
    bundle = speller(tmp_path_factory.mktemp("speech") / "bundle")
    with edgekit.load(bundle.path) as model:
        yield model


@pytest.fixture(scope="module")
def sides(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Model]:
    """The classifier, opened."""
    with edgekit.load(classifier(tmp_path_factory.mktemp("sides") / "bundle").path) as model:
        yield model


def said(model: Model, text: str, **options: Any) -> Any:
    """What a model writes down of a spoken text."""
    return model((spoken(text), RATE), **options)


@pytest.mark.parametrize(
    ("frames", "text"),
    [
        ("aab_bb ab", "abb ab"),
        ("aaaa", "a"),
        ("a_a", "aa"),
        ("__", ""),
        ("  a  ", "a"),
        ("a _ b", "a  b"),
    ],
)
def test_repeats_and_blanks(speech: Model, frames: str, text: str) -> None:
    """One letter of equal neighbours, none of blanks; words between delimiters."""
    assert said(speech, frames) == {"text": text}


def test_marks_of_time(speech: Model) -> None:
    """From the first frame of a word or letter to behind its last."""
    found = said(speech, "_aab ba_", return_timestamps="word")
    assert found["chunks"] == [
        {"text": "ab", "timestamp": (0.01, 0.04)},
        {"text": "ba", "timestamp": (0.05, 0.07)},
    ]
    letters = said(speech, "_aab", return_timestamps="char")["chunks"]
    assert [one["text"] for one in letters] == ["a", "b"]
    assert letters[0]["timestamp"] == (0.01, 0.03)


@pytest.mark.parametrize("frames", [59, 60, 61, 99, 100, 101, 100 + 40, 777])
def test_pieces_say_what_the_whole_says(speech: Model, frames: int) -> None:
    """60 frames are read at once; 10 on either side are a neighbour's."""
    random = np.random.default_rng(frames)
    text = "".join(random.choice(list("_ ab"), frames))
    expected = "".join(
        letter
        for place, letter in enumerate(text)
        if letter != "_" and (not place or text[place - 1] != letter)
    )
    assert said(speech, text) == {"text": expected.strip()}
    short = {"chunk_length_s": 0.2, "stride_length_s": 0.03}
    assert said(speech, text, **short) == {"text": expected.strip()}


@pytest.mark.parametrize("frames", [60, 61, 120, 125])
def test_pieces_that_share_nothing(frames: int, speech: Model) -> None:
    """What is left at the end may be shorter than a frame."""
    text = "ab" * (frames // 2) + "a" * (frames % 2)
    sound = np.concatenate([spoken(text), np.zeros(3, np.float32)])
    assert speech((sound, RATE), stride_length_s=0) == {"text": text}
    assert speech((sound, RATE), chunk_length_s=0.3, stride_length_s=0) == {"text": text}


@pytest.mark.parametrize(
    "options",
    [
        {"chunk_length_s": 0.61},
        {"chunk_length_s": -1},
        {"chunk_length_s": "long"},
        {"chunk_length_s": 0.2, "stride_length_s": 0.1},
        {"chunk_length_s": 0},
        {"stride_length_s": True},
        {"return_timestamps": "sentence"},
        {"top_k": 3},
    ],
)
def test_wrong_options(speech: Model, options: dict[str, Any]) -> None:
    """Each is told."""
    with pytest.raises(ConfigError):
        said(speech, "ab", **options)


def test_lists_keep_their_order(speech: Model, tmp_path: Path) -> None:
    """Sounds of several lengths, long ones among them, files and arrays."""
    texts = ["ab", "ba", "a" + "_b" * 80, "b", "ab", "a_a", "bb a"]
    items: list[Any] = [(spoken(text), RATE) for text in texts]
    items[1] = tmp_path / "one.flac"
    soundfile.write(items[1], spoken(texts[1]), RATE)
    items[3] = stored(spoken(texts[3]), subtype="FLOAT")
    expected = [speech(item) for item in items]
    for size in (1, 2, 3, 100):
        assert speech(items, batch_size=size) == expected
    assert speech([]) == []
    assert expected[2]["text"] == "a" + "b" * 80


def test_long_speech_takes_little_memory(speech: Model, tmp_path: Path) -> None:
    """An hour is read block by block: a tenth of its own samples would show."""
    path = tmp_path / "hour.flac"
    minute = np.tile(spoken("a_b_"), 60 * RATE // (4 * FRAME))
    with soundfile.SoundFile(path, "w", RATE, 1) as file:
        for _ in range(60):
            file.write(minute)
    tracemalloc.start()
    try:
        found: Any = speech(path)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert len(found["text"]) == 3600 * RATE // (2 * FRAME)
    # 14 MB as floats; blocks of 4 MB, some of them at a time, and numbers of tokens.
    assert peak < 60e6


def test_classes(sides: Model) -> None:
    """The best first; options as of pictures."""
    found: Any = sides((np.full(50, 0.5, np.float32), RATE))
    assert [one["label"] for one in found] == ["above", "below"]
    assert found[0]["score"] == pytest.approx(1 / (1 + np.exp(-1.0)))
    only: Any = sides((np.full(50, -0.5, np.float32), RATE), top_k=1, function_to_apply="none")
    assert only == [{"label": "below", "score": 0.5}]


def test_too_long_for_a_classifier(sides: Model, tmp_path: Path) -> None:
    """Its seconds and the limit are told, before anything is decoded where the file tells them."""
    path = tmp_path / "long.wav"
    soundfile.write(path, wave(8 * RATE), RATE)
    for item in (path, (wave(601), RATE)):
        with pytest.raises(InputMismatch, match=r"up to 0\.6 seconds at once") as caught:
            sides(item)
        assert "pieces" in (caught.value.hint or "")


def test_too_short(speech: Model) -> None:
    """Less than a frame is nothing to hear."""
    with pytest.raises(InputMismatch, match="has 9 samples at 1,000 Hz; the model takes at least"):
        speech((wave(9), RATE))


def test_fixed_samples_and_batch(tmp_path: Path) -> None:
    """A graph of fixed sizes gets zeros behind a sound, whose frames do not answer."""
    bundle = speller(tmp_path / "fixed", samples=40 * FRAME, batch=2)
    with edgekit.load(bundle.path) as model:
        assert said(model, "ab") == {"text": "ab"}
        texts = ["ab a", "b", "a_" * 40]
        found: Any = model([(spoken(text), RATE) for text in texts])
    assert [one["text"] for one in found] == ["ab a", "b", "a" * 40]


def test_masks_and_padding() -> None:
    """One where there is sound; values behind it are zero."""
    ours = SoundProcessor(
        processor(ops=[{"op": "standardize"}], inputs=["input_values", "attention_mask"])
    )
    feeds = ours.collate([ours.encode((wave(30, 1), RATE)), ours.encode((wave(20, 2), RATE))])
    assert feeds["attention_mask"].tolist() == [[1] * 30, [1] * 20 + [0] * 10]
    assert feeds["attention_mask"].dtype == np.int64
    assert not feeds["input_values"][1, 20:].any()
    assert feeds["input_values"][1, :20].std() == pytest.approx(1, abs=1e-3)


def test_window_leaves_the_rest_out(caplog: pytest.LogCaptureFixture) -> None:
    """And says so."""
    ours = SoundProcessor(processor(ops=[{"op": "fill", "samples": 50}], convolutions=[]))
    with caplog.at_level(logging.WARNING, logger="edgekit"):
        short = ours.encode((wave(40), RATE))
        assert not caplog.records
        long = ours.encode((wave(80), RATE))
    assert "longer than the 0.1 seconds" in caplog.text
    assert len(short.values) == len(long.values) == 50
    assert np.array_equal(long.values, wave(80)[:50])
