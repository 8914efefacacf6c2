"""Families of sound models, exported and answered by both engines as transformers answers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import transformers

import edgekit
from edgekit.core.bundle import open_bundle
from edgekit.sources.sounds import compose
from tests.conftest import make_once
from tests.sound_models import FAMILIES, SPEECH, save_sound_model

RATE = 16_000
LENGTHS = (RATE, 7_001, 2 * RATE + 13, RATE, 900)


def exported(shared: Path, family: str) -> tuple[Path, Path]:
    """The source and the bundle of a family, made once."""
    source = make_once(
        shared / f"sound-{family}-source", lambda folder: save_sound_model(family, folder)
    )
    bundle = make_once(
        shared / f"sound-{family}", lambda folder: edgekit.export(str(source), folder)
    )
    return source, bundle


@pytest.mark.slow
@pytest.mark.parametrize("engine", ["onnxruntime", "openvino"])
@pytest.mark.parametrize("family", FAMILIES)
def test_answers_are_those_of_the_pipeline(family: str, engine: str, shared: Path) -> None:
    """Sounds of several lengths, one by one and together."""
    source, bundle = exported(shared, family)
    task = FAMILIES[family].task
    waves = [compose(length, seed) for seed, length in enumerate(LENGTHS)]
    theirs: Any = transformers.pipeline(task, model=str(source))
    with edgekit.load(bundle, engine=engine) as model:
        assert model.task == task
        together: Any = model([(wave, RATE) for wave in waves])
        for wave, mine in zip(waves, together, strict=True):
            expected = theirs(wave.copy())
            alike(model((wave, RATE)), expected)
            alike(mine, expected)


def alike(ours: Any, theirs: Any) -> None:
    """Assert that two answers say the same."""
    if isinstance(theirs, dict):
        assert ours == theirs
        assert len(ours["text"]) > 2
        return
    assert len(ours) == len(theirs) == 5
    for mine, their in zip(ours, theirs, strict=True):
        assert mine["score"] == pytest.approx(their["score"], abs=1e-4)
        assert mine["label"] == their["label"]


@pytest.mark.slow
@pytest.mark.parametrize("family", ["wav2vec2-ctc", "wav2vec2-ctc-masked"])
def test_long_speech_is_read_in_pieces(family: str, shared: Path) -> None:
    """As transformers' pipeline reads it when it is told to, marks of time included."""
    source, bundle = exported(shared, family)
    wave = np.concatenate([compose(RATE, seed) for seed in range(5)])[: 5 * RATE - 77]
    theirs: Any = transformers.pipeline(SPEECH, model=str(source))
    with edgekit.load(bundle) as model:
        for chunk, stride in ((1.0, None), (2.0, 0.5), (1.5, 0.0)):
            options = {"chunk_length_s": chunk}
            if stride is not None:
                options["stride_length_s"] = stride
            for marks in ("word", "char"):
                expected = theirs(wave.copy(), return_timestamps=marks, **options)
                found: Any = model((wave, RATE), return_timestamps=marks, **options)
                assert found["text"] == expected["text"]
                assert [one["text"] for one in found["chunks"]] == [
                    one["text"] for one in expected["chunks"]
                ]
                assert np.allclose(
                    [one["timestamp"] for one in found["chunks"]],
                    [one["timestamp"] for one in expected["chunks"]],
                )


@pytest.mark.slow
@pytest.mark.parametrize("family", FAMILIES)
def test_only_what_varies_is_dynamic(family: str, shared: Path) -> None:
    """The batch, and of waves the samples; nothing of a spectrogram."""
    manifest = open_bundle(exported(shared, family)[1]).manifest
    component = manifest.components["model"]
    if family in ("ast", "whisper"):
        assert component.inputs[0].shape[0] == "batch"
        assert all(isinstance(size, int) for size in component.inputs[0].shape[1:])
    else:
        assert all(spec.shape == ("batch", "samples") for spec in component.inputs)
        masked = any(part in family for part in ("masked", "hubert-ctc", "wavlm-ctc"))
        assert len(component.inputs) == 1 + masked
    assert manifest.requires.extras == ("ort", "audio")
    assert manifest.golden is not None


@pytest.mark.slow
@pytest.mark.parametrize("family", ["wav2vec2-ctc-masked", "ast"])
def test_bundle_verifies(family: str, shared: Path) -> None:
    """The golden sounds are answered as they were when the bundle was written."""
    with edgekit.load(exported(shared, family)[1]) as model:
        rows = model.selftest()
    assert rows
    assert all(row.passed for row in rows)


@pytest.mark.slow
def test_real_speech_is_prepared_as_transformers_does(shared: Path) -> None:
    """From the file on: decoded, brought from 8 to 16 kHz, and made numbers of."""
    from transformers.audio_utils import load_audio

    from benchmarks.zoo import fetch
    from edgekit.runtime.sound.processor import SoundProcessor

    clips = sorted(fetch("speech").glob("*.wav"))
    assert len(clips) == 281
    for family in ("wav2vec2", "ast", "whisper"):
        processor: Any = open_bundle(exported(shared, family)[1]).manifest.processor
        ours = SoundProcessor(processor)
        theirs = FAMILIES[family].extractor()
        for clip in clips[::9]:
            wave = load_audio(str(clip), sampling_rate=RATE, backend="soundfile")
            expected = theirs(wave, sampling_rate=RATE, return_tensors="np")
            found = ours.collate([ours.encode(clip)])[processor["inputs"][0]]
            assert np.allclose(found, expected[processor["inputs"][0]], rtol=0, atol=1e-4)
