"""Features of long sounds: those of the whole, however it arrives."""

from __future__ import annotations

import numpy as np
import pytest

from edgekit.runtime.generation.speech.features import long_features, window_of
from edgekit.runtime.sound.features import Features
from edgekit.runtime.sound.rules import read_sound_rules

MEL = {
    "op": "log_mel", "frame": 400, "hop": 160, "fft": 400, "bins": 20, "low": 0.0, "high": 8000.0,
    "center": True, "unit_area": True, "log": "log10", "drop_last": True, "layout": "bins-first",
}  # fmt: skip
RULES = read_sound_rules(
    {
        "kind": "audio", "sampling_rate": 16_000, "longest": 480_000,
        "ops": [MEL, {"op": "clamp", "below": 8.0}, {"op": "normalize", "mean": -4.0, "std": 4.0}],
        "inputs": ["input_features"],
    }
)  # fmt: skip


@pytest.mark.parametrize("size", [7, 100, 160, 201, 1_000, 16_000, 10**6])
@pytest.mark.parametrize("length", [4_001, 16_000, 20_077])
def test_blocks_change_nothing(size: int, length: int) -> None:
    """Small blocks, large ones, and all at once."""
    wave = np.random.default_rng(3).normal(0, 0.1, length).astype(np.float32)
    wave[: length // 2] *= 0.001
    blocks = [wave[at : at + size] for at in range(0, length, size)]
    found = long_features(blocks, RULES, "The sound")
    wanted = Features(RULES)(wave)
    assert found.dtype == np.float32
    assert found.shape == wanted.shape == (20, length // 160)
    np.testing.assert_allclose(found, wanted, atol=1e-6)


def test_windows_are_filled_up() -> None:
    """Behind the end of a sound there are zeros."""
    features = np.ones((2, 10), np.float32)
    window = window_of(features, 7, 5)
    assert window.tolist() == [[1, 1, 1, 0, 0]] * 2
    assert window_of(features, 2, 5).tolist() == [[1] * 5] * 2
