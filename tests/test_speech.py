"""Whisper on both engines: what transformers writes down of a sound, token for token."""

from __future__ import annotations

import csv
import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
import transformers
from numpy.typing import NDArray

import edgekit
from benchmarks.zoo import fetch
from edgekit.core.bundle import open_bundle
from edgekit.core.errors import BundleCorrupt, ConfigError, InputMismatch
from edgekit.runtime.generation.speech import SpeechPredictor
from edgekit.runtime.golden import GOLDEN_NAME, read
from edgekit.runtime.opening import open_sessions
from edgekit.runtime.sound import read_sound
from edgekit.sources.families import ENGINES
from edgekit.sources.sounds import compose
from tests.cli.test_main import edgekit as run
from tests.conftest import make_once
from tests.speech_models import KINDS, save_speech_model

RATE = 16_000
NEW = 64
Wave = NDArray[np.float32]


def exported(shared: Path, kind: str) -> tuple[Path, Path]:
    """The source and the bundle of a kind, made once."""
    source = make_once(
        shared / f"speech-{kind}-source", lambda folder: save_speech_model(kind, folder)
    )
    bundle = make_once(
        shared / f"speech-{kind}", lambda folder: edgekit.export(str(source), folder)
    )
    return source, bundle


class Theirs:
    """transformers' generate and what its pipeline makes of tokens."""

    def __init__(self, source: Path) -> None:
        self.model: Any = transformers.WhisperForConditionalGeneration.from_pretrained(
            source, dtype=torch.float32
        ).eval()
        self.extractor = transformers.AutoFeatureExtractor.from_pretrained(source)
        self.tokenizer: Any = transformers.AutoTokenizer.from_pretrained(source)

    def tokens(self, waves: Sequence[Wave], **options: Any) -> list[list[int]]:
        """The tokens of some sounds, the end and padding left out."""
        long = len(waves[0]) > self.extractor.n_samples
        how = {"truncation": False, "padding": "longest"} if long else {}
        made = self.extractor(
            list(waves), sampling_rate=RATE, return_tensors="pt", return_attention_mask=True, **how
        )
        with torch.inference_mode():
            found = self.model.generate(
                made.input_features, attention_mask=made.attention_mask, **options
            )
        ends = {self.tokenizer.eos_token_id, self.tokenizer.pad_token_id}
        return [[token for token in row if token not in ends] for row in found.tolist()]

    def answer(self, tokens: Sequence[int], *, times: bool) -> dict[str, Any]:
        """What the pipeline says of tokens, in windows of the model's length."""
        from transformers.models.whisper.tokenization_whisper import _decode_asr

        text, more = _decode_asr(
            self.tokenizer,
            [{"tokens": torch.tensor([list(tokens)])}],
            return_timestamps=times or None,
            return_language=None,
            time_precision=self.extractor.chunk_length / self.model.config.max_source_positions,
            segment_size=self.model.config.max_source_positions,
        )
        return {"text": text, **more}


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_answers_are_those_of_generate(kind: str, shared: Path) -> None:
    """One sound and four together, with and without marks of time, in 64 tokens and more."""
    source, bundle = exported(shared, kind)
    theirs = Theirs(source)
    waves = [compose(length, seed) for seed, length in enumerate((32_000, 9_001, 20_000, 900))]
    calls: list[dict[str, Any]] = [{"min_new_tokens": NEW, "max_new_tokens": NEW + 8}, {}]
    if kind == "multilingual":
        calls += [
            {"language": "german", "max_new_tokens": 20},
            {"task": "translate", "max_new_tokens": 30},
        ]
        calls += [{"language": "<|ja|>", "task": "translate", "num_beams": 3, "max_new_tokens": 20}]
    expected = []
    for options in calls:
        for times in (False, True):
            wanted = theirs.tokens(waves, **options, return_timestamps=times)
            if "min_new_tokens" in options and not times:
                assert min(map(len, wanted)) >= NEW
            answers = [theirs.answer(tokens, times=times) for tokens in wanted]
            expected.append(({**options, "return_timestamps": times}, answers))
    items: Any = [(wave, RATE) for wave in waves]
    for engine in ENGINES:
        with edgekit.load(bundle, engine=engine, threads=2) as model:
            for options, answers in expected:
                assert model(items, batch_size=4, **options) == answers, (options, engine)
                assert model(items[1], **options) == answers[1], (options, engine)


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_long_sounds_are_heard_in_windows(kind: str, shared: Path) -> None:
    """Nine windows of a made-up sound: where each begins is what transformers finds."""
    source, bundle = exported(shared, kind)
    theirs = Theirs(source)
    wave = np.concatenate([compose(RATE, seed) for seed in range(18)])[: 17 * RATE + 123]
    options: dict[str, Any] = {"max_new_tokens": 40}
    wanted = theirs.tokens([wave], **options, return_timestamps=True)[0]
    expected = theirs.answer(wanted, times=True)
    assert len(wanted) > 80
    for engine in ENGINES:
        with edgekit.load(bundle, engine=engine, threads=2) as model:
            told: Any = model((wave, RATE), **options, return_timestamps=True)
            assert told == expected
            # Nobody needs to ask for the marks by which windows are cut.
            assert model((wave, RATE), **options) == {"text": expected["text"]}
            pieces = list(model.stream((wave, RATE), **options))
            assert "".join(pieces) == expected["text"]
            assert len(pieces) > 2
            # A short sound beside it changes nothing.
            short = (compose(9_001, 3), RATE)
            both: Any = model([short, (wave, RATE)], **options, return_timestamps=True)
            assert both == [model(short, **options, return_timestamps=True), expected]
            # Nor where the long one alone is asked for marks, and so begins otherwise.
            both = model([short, (wave, RATE), short], **options)
            alone = model(short, **options)
            assert both == [alone, {"text": expected["text"]}, alone]


@pytest.mark.slow
def test_windows_without_speech_are_left_out(shared: Path) -> None:
    """As transformers leaves them out, where both thresholds say so."""
    source, bundle = exported(shared, "multilingual")
    theirs = Theirs(source)
    wave = np.concatenate([compose(RATE, seed) for seed in range(9)])
    found = []
    for chance in (0.0, 1.0):
        options: dict[str, Any] = {"max_new_tokens": 30, "language": "en"}
        limits = {"no_speech_threshold": chance, "logprob_threshold": -0.01}
        wanted = theirs.tokens(
            [wave], **options, **limits, temperature=0.0, return_timestamps=True
        )[0]
        with edgekit.load(bundle) as model:
            told: Any = model((wave, RATE), **options, **limits)
        assert told["text"] == theirs.answer(wanted, times=True)["text"]
        found.append(told["text"])
    assert found[0] == ""
    assert found[1] != ""


@pytest.mark.slow
def test_bad_calls_are_told_in_words(shared: Path, tmp_path: Path) -> None:
    """Unknown languages and tasks, silence, nothing at all, and a text for a sound."""
    _, bundle = exported(shared, "multilingual")
    wave = (compose(9_001, 1), RATE)
    with edgekit.load(bundle) as model:
        for options, said in (
            ({"language": "germann"}, "knows no language 'germann'"),
            ({"language": 3}, "a code or a name"),
            ({"task": "transcribed"}, "'transcribe' or 'translate'"),
            ({"return_timestamps": "word"}, "True or False"),
            ({"no_speech_threshold": 0.5}, "go together"),
            ({"chunk_length_s": 3}, "no option 'chunk_length_s'"),
        ):
            with pytest.raises(ConfigError, match=said):
                model(wave, **options)
        with pytest.raises(ConfigError) as caught:
            model(wave, language="germann")
        assert "Did you mean 'german'?" in str(caught.value.hint)
        with pytest.raises(InputMismatch, match="max_new_tokens is 96"):
            model(wave, max_new_tokens=96)
        silent: Any = model((np.zeros(RATE, np.float32), RATE))
        assert isinstance(silent["text"], str)
        with pytest.raises(InputMismatch, match="holds no samples"):
            model((np.zeros(0, np.float32), RATE))
        (tmp_path / "notes.wav").write_text("no sound at all")
        with pytest.raises(InputMismatch, match="is not a sound"):
            model(tmp_path / "notes.wav")
        named: Any = model(wave, language="fr", return_language=True)
        assert {chunk["language"] for chunk in named["chunks"]} == {"french"}
    with edgekit.load(exported(shared, "english")[1]) as model:
        for options in ({"language": "en"}, {"task": "transcribe"}):
            with pytest.raises(ConfigError, match="knows English alone"):
                model(wave, **options)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("changed", "told"),
    [
        ({"start": 9_999}, "names the token 9,999"),
        ({"without_times": 512}, "names the token 513"),
        ({"languages": {"en": 7_000}, "names": {}}, "names the token 7,000"),
        ({"window": 150}, r"takes \[40, 200\] and generation.speech 150"),
    ],
)
def test_rules_that_do_not_fit_are_refused(
    changed: dict[str, Any], told: str, shared: Path
) -> None:
    """Tokens beyond the decoder's, and windows of another length than the encoder's."""
    bundle = open_bundle(exported(shared, "multilingual")[1])
    rules: Any = dict(bundle.manifest.generation or {})
    rules["speech"] = {**rules["speech"], **changed}
    session = open_sessions(bundle)
    with pytest.raises(BundleCorrupt, match=told):
        SpeechPredictor(session, replace(bundle.manifest, generation=rules), bundle.path)
    session.close()


@pytest.mark.slow
def test_whisper_writes_down_what_pytorch_does(shared: Path) -> None:
    """Twelve clips of the real tiny.en, and all of them as one long sound, on both engines.

    Its golden answers fit their file: those of the encoder are sampled.
    """
    source, data = fetch("whisper-tiny-en"), fetch("speech")
    bundle = make_once(
        shared / "whisper-tiny-en", lambda folder: edgekit.export(str(source), folder)
    )
    held = read(bundle / GOLDEN_NAME)
    assert all(name.startswith("encoder.present.") for name in held.strides)
    assert len(held.strides) == 8
    with (data / "speech.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))[::24]
    paths = [data / row["audio"] for row in rows]
    waves = [read_sound(path, RATE, most=30 * RATE) for path in paths]
    whole = np.concatenate(waves)
    assert len(whole) > 31 * RATE
    theirs = Theirs(source)
    expected = [theirs.answer(found, times=False) for found in theirs.tokens(waves)]
    long = theirs.answer(theirs.tokens([whole], return_timestamps=True)[0], times=True)
    for engine in ENGINES:
        with edgekit.load(bundle, engine=engine, threads=2) as model:
            assert all(row.passed for row in model.selftest())
            assert model(list(paths)) == expected
            assert model((whole, RATE), return_timestamps=True) == long


@pytest.mark.slow
def test_run_writes_down_files(shared: Path, tmp_path: Path) -> None:
    """From the shell: a line of JSON for each sound, and bad words with exit code 2."""
    _, bundle = exported(shared, "multilingual")
    wave = compose(20_000, 2)
    path = tmp_path / "clip.wav"
    soundfile.write(path, wave, RATE, subtype="FLOAT")
    options: dict[str, Any] = {"language": "de", "task": "translate", "return_timestamps": True}
    options |= {"no_speech_threshold": 0.6, "logprob_threshold": -100.0}
    with edgekit.load(bundle) as model:
        expected = model((wave, RATE), max_new_tokens=20, **options)
    asked = ("--language", "de", "--task", "translate", "--timestamps", "--max-new-tokens", 20)
    asked += ("--no-speech-threshold", ".6", "--logprob-threshold", "-100")
    done = run("run", bundle, path, *asked)
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert told["sound"] == str(path)
    assert told["prediction"] == json.loads(json.dumps(expected))
    for words, said in (
        (("--language", "klingon"), "knows no language 'klingon'"),
        (("--no-speech-threshold", ".5"), "and --logprob-threshold go together"),
        (("--prompt", "hello"), "reads sounds"),
        (("--save", tmp_path / "copies"), "--save draws on pictures"),
    ):
        done = run("run", bundle, *(() if "--prompt" in words else (path,)), *words)
        assert (done.returncode, said in done.stderr) == (2, True), done.stderr
