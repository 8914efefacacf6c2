"""Rules of a hostile manifest: every value has its bounds."""

from __future__ import annotations

from typing import Any

import pytest

from edgekit.core.errors import BundleCorrupt, BundleVersion
from edgekit.core.manifest import TensorSpec
from edgekit.runtime.sound.reader import SoundReader, check_graph
from edgekit.runtime.sound.rules import read_sound_rules
from tests.runtime.sound.conftest import CTC, TOKENS, processor

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
