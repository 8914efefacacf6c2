"""Rules of a hostile manifest: every value has its bounds."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from edgekit.core.errors import BundleCorrupt, BundleVersion
from edgekit.core.manifest import TensorSpec
from edgekit.runtime.sound.features import Features
from edgekit.runtime.sound.reader import SoundReader, check_graph
from edgekit.runtime.sound.rules import read_sound_rules
from tests.runtime.sound.conftest import CTC, RATE, TOKENS, processor

MEL: dict[str, Any] = {
    "op": "log_mel", "frame": 40, "hop": 16, "fft": 64, "bins": 8, "low": 0.0, "high": 400.0,
}  # fmt: skip
WAVES = (TensorSpec("input_values", "float32", ("batch", "samples")),)
LOGITS = (TensorSpec("logits", "float32", ("batch", "frames", len(TOKENS))),)


def test_numbers_of_wav2vec2() -> None:
    """Its seven convolutions hear 400 samples and step by 320."""
    steps = [[10, 5], *[[3, 2]] * 4, *[[2, 2]] * 2]
    rules = read_sound_rules(processor(convolutions=steps, longest=16_000))
    assert (rules.shortest, rules.ratio, rules.frames(400), rules.frames(16_000)) == (
        400, 320, 1, 49,
    )  # fmt: skip
    assert rules.frames(399) == 0
    assert rules.window is None


def test_windows() -> None:
    """What a tensor of a fixed size is made of."""
    fill = processor(ops=[{"op": "fill", "samples": 100}, MEL], convolutions=[])
    assert read_sound_rules(fill).window == 100
    frames = processor(ops=[MEL, {"op": "frames", "count": 5}], convolutions=[])
    assert read_sound_rules(frames).window == 40 + 4 * 16
    assert read_sound_rules(frames).shape(3) == (5, 8)


@pytest.mark.parametrize(
    "changes",
    [
        {"kind": "image"},
        {"surprise": 1},
        {"ops": [{"op": "surprise"}]},
        {"ops": [{"op": ["fill"]}]},
        {"ops": [{**MEL, "surprise": 1}]},
        {"ops": [{**MEL, "scale": "htk"}], "convolutions": []},
        {"ops": [{**MEL, "window": "boxcar"}], "convolutions": []},
    ],
)
def test_unknown_words(changes: dict[str, Any]) -> None:
    """A newer edgekit may know them."""
    with pytest.raises(BundleVersion):
        read_sound_rules(processor(**changes))


@pytest.mark.parametrize(
    "changes",
    [
        {"ops": {}},
        {"ops": None},
        {"ops": ["fill"]},
        {"post": []},
        {"sampling_rate": 10},
        {"sampling_rate": 10**400},
        {"sampling_rate": True},
        {"longest": 0},
        {"longest": 1 << 27},
        {"longest": 5},
        {"convolutions": 3},
        {"convolutions": [[10]]},
        {"convolutions": [[10, 0]]},
        {"convolutions": [[10, 2.0]]},
        {"convolutions": [[1, 1]] * 33},
        {"convolutions": [[1, 65536]] * 3},
        {"inputs": []},
        {"inputs": ["a", "b", "c"]},
        {"inputs": [""]},
        {"ops": [{"op": "standardize", "epsilon": 0}]},
        {"ops": [{"op": "standardize", "epsilon": float("nan")}]},
        {"ops": [{"op": "standardize"}, {"op": "standardize"}]},
        {"ops": [{"op": "fill", "samples": 10**9}]},
        {"ops": [{"op": "clamp", "below": 8}], "convolutions": []},
        {"ops": [MEL, {"op": "fill", "samples": 50}], "convolutions": []},
        {"ops": [MEL]},
        {"ops": [MEL], "convolutions": [], "inputs": ["values", "mask"]},
        {"ops": [{**MEL, "frame": 65}], "convolutions": []},
        {"ops": [{**MEL, "fft": 1 << 17}], "convolutions": []},
        {"ops": [{**MEL, "bins": 1025}], "convolutions": []},
        {"ops": [{**MEL, "high": 501}], "convolutions": []},
        {"ops": [{**MEL, "low": 400}], "convolutions": []},
        {"ops": [{**MEL, "floor": 0}], "convolutions": []},
        {"ops": [{**MEL, "center": 1}], "convolutions": []},
        {"ops": [MEL, {"op": "normalize", "mean": 0, "std": 0}], "convolutions": []},
        {"ops": [MEL, {"op": "clamp", "below": -1}], "convolutions": []},
        {"ops": [MEL, {"op": "frames", "count": 1 << 25}], "convolutions": []},
        {"ops": [{**MEL, "hop": 1, "bins": 1024}], "convolutions": [], "longest": 1 << 20},
        {"ops": [{**MEL, "low": 399.9}], "convolutions": []},
        {"ops": [{**MEL, "preemphasis": 2}], "convolutions": []},
        {"ops": [{**MEL, "fft": 1 << 16, "bins": 1024}], "convolutions": []},
        {"ops": [MEL, {"op": "normalize", "mean": 0, "std": 1e-300}], "convolutions": []},
        {"ops": [MEL, {"op": "normalize", "mean": 1e300, "std": 1}], "convolutions": []},
        {"ops": [{"op": "standardize", "epsilon": 1e-300}]},
        # Each with another between them, so that they are no neighbours.
        {"ops": [{"op": "fill", "samples": 50}, {"op": "standardize"}] * 2},
        {
            "ops": [
                MEL,
                {"op": "frames", "count": 5},
                {"op": "clamp", "below": 8},
                {"op": "frames", "count": 3},
            ],
            "convolutions": [],
        },
        {"ops": [{"op": "standardize"}] * 10_000},
        # Little is left of what fills the memory on the way.
        {
            "ops": [
                {"op": "fill", "samples": 1 << 26},
                {**MEL, "frame": 2, "hop": 1, "bins": 1024},
                {"op": "frames", "count": 1},
            ],
            "convolutions": [],
        },
        {"ops": [{"op": "fill", "samples": 39}, MEL], "convolutions": []},
        {
            "ops": [{"op": "fill", "samples": 40}, {**MEL, "drop_last": True}],
            "convolutions": [],
        },
    ],
)
def test_wrong_values(changes: dict[str, Any]) -> None:
    """They would fill the memory, divide by zero, or mean nothing."""
    with pytest.raises(BundleCorrupt):
        read_sound_rules(processor(**changes))


@pytest.mark.parametrize(
    "specs",
    [
        (TensorSpec("other", "float32", ("batch", "samples")),),
        (TensorSpec("input_values", "float32", ("batch", "samples", 8)),),
        (*WAVES, TensorSpec("attention_mask", "int64", ("batch", "samples"))),
        (TensorSpec("input_values", "float32", (1 << 20, 600)),),
    ],
)
def test_graphs_that_do_not_fit(specs: tuple[TensorSpec, ...]) -> None:
    """Other names, another number of dimensions, too much at once."""
    with pytest.raises(BundleCorrupt):
        check_graph(processor(), specs)


def test_spectrogram_of_another_size() -> None:
    """The graph's own is fixed."""
    rules = processor(ops=[MEL, {"op": "frames", "count": 5}], convolutions=[])
    spec = TensorSpec("input_values", "float32", ("batch", 5, 8))
    assert check_graph(rules, (spec,))[1] is None
    with pytest.raises(BundleCorrupt, match=r"makes \[5, 8\]"):
        check_graph(rules, (TensorSpec("input_values", "float32", ("batch", 6, 8)),))


@pytest.mark.parametrize(
    ("changes", "kind"),
    [
        ({"post": {"kind": "surprise"}}, BundleVersion),
        ({"post": {**CTC, "surprise": 1}}, BundleVersion),
        ({"post": {**CTC, "blank": 4}}, BundleCorrupt),
        ({"post": {**CTC, "delimiter": -1}}, BundleCorrupt),
        ({"post": {**CTC, "stride": None}}, BundleCorrupt),
        ({"post": {**CTC, "lower": 1}}, BundleCorrupt),
        ({"convolutions": []}, BundleCorrupt),
        ({"post": {"kind": "audio-classification", "top_k": 0}}, BundleCorrupt),
    ],
)
def test_posts_that_cannot_be_read(changes: dict[str, Any], kind: type[Exception]) -> None:
    """The bundle is at fault, and says so when it is opened."""
    with pytest.raises(kind):
        SoundReader(processor(**changes), WAVES, LOGITS, TOKENS)


def test_tokens_of_another_number() -> None:
    """Every frame's classes have a token each."""
    with pytest.raises(BundleCorrupt, match="3 labels for 4 classes"):
        SoundReader(processor(), WAVES, LOGITS, TOKENS[:3])
    with pytest.raises(BundleCorrupt, match="no labels"):
        SoundReader(processor(), WAVES, LOGITS, None)


def test_fixed_samples_below_the_shortest() -> None:
    """No frame comes of so few."""
    spec = TensorSpec("input_values", "float32", ("batch", 9))
    with pytest.raises(BundleCorrupt, match="shortest sound"):
        SoundReader(processor(), (spec,), LOGITS, TOKENS)


@pytest.mark.parametrize("center", [False, True])
@pytest.mark.parametrize("drop_last", [False, True])
@pytest.mark.parametrize("frame", [40, 41])
def test_the_shortest_sound_has_a_frame(frame: int, *, center: bool, drop_last: bool) -> None:
    """And one sample less has none, or nothing to reflect."""
    op = {**MEL, "frame": frame, "center": center, "drop_last": drop_last}
    rules = read_sound_rules(processor(ops=[op], convolutions=[]))
    assert rules.shape(rules.shortest)[0] >= 1
    made = Features(rules)(np.ones(rules.shortest, np.float32))
    assert made.shape == rules.shape(rules.shortest)
    if not center:
        assert rules.shape(rules.shortest - 1)[0] == 0


def test_pieces_begin_at_frames() -> None:
    """Also where the bundle's own stride is none of them."""
    reader = SoundReader(processor(post={**CTC, "stride": 57}), WAVES, LOGITS, TOKENS)
    pieces = list(reader.hear((np.ones(700, np.float32), RATE)))
    assert [(piece.left, piece.right) for piece in pieces] == [(0, 50), (50, 0)]


def test_a_graph_may_take_more_than_the_origin_reads_at_once() -> None:
    """Its fixed size is filled with sound, and not with zeros alone."""
    spec = TensorSpec("input_values", "float32", ("batch", 900))
    reader = SoundReader(processor(), (spec,), LOGITS, TOKENS)
    (piece,) = reader.hear((np.ones(800, np.float32), RATE))
    assert len(piece.samples) == 800
