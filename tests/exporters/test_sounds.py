"""transformers' feature extractors as declarative operations, and the proof of it."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
import transformers

from edgekit.core.errors import ExportError
from edgekit.exporters.cases import Case
from edgekit.exporters.sound_parity import check_frames, check_sound_processor
from edgekit.exporters.sounds import build_sound_processor, translate
from edgekit.runtime.sound.processor import SoundProcessor
from edgekit.sources.sounds import vocabulary
from tests.sound_models import CLASSES, SPEECH, TOKENS, tokenizer

EXTRACTORS: dict[str, Any] = {
    "wav2vec2": lambda: transformers.Wav2Vec2FeatureExtractor(),
    "wav2vec2 with a mask": lambda: transformers.Wav2Vec2FeatureExtractor(
        return_attention_mask=True
    ),
    "wav2vec2 as it is": lambda: transformers.Wav2Vec2FeatureExtractor(do_normalize=False),
    "wav2vec2 at 8 kHz": lambda: transformers.Wav2Vec2FeatureExtractor(sampling_rate=8000),
    "ast": lambda: transformers.ASTFeatureExtractor(),
    "ast as it is": lambda: transformers.ASTFeatureExtractor(
        do_normalize=False, num_mel_bins=64, max_length=100
    ),
    "whisper": lambda: transformers.WhisperFeatureExtractor(chunk_length=3),
    "whisper of 128": lambda: transformers.WhisperFeatureExtractor(
        feature_size=128, chunk_length=2
    ),
}
CONVOLUTIONS = SimpleNamespace(
    conv_kernel=[10, 3], conv_stride=[5, 4], num_labels=3, problem_type=None
)


def source(extractor: Any, task: str = CLASSES, **fields: Any) -> Any:
    """What the translation reads of a loaded source."""
    return SimpleNamespace(
        feature_extractor=extractor,
        config=CONVOLUTIONS,
        task=task,
        architecture="Model",
        **{"decoder": None, "labels": None, **fields},
    )


def speech(folder: Path, **options: Any) -> Any:
    """A source with a tokenizer of letters."""
    made = tokenizer(folder, **options)
    labels = vocabulary(made, len(TOKENS))
    extractor = EXTRACTORS["wav2vec2"]()
    return source(extractor, SPEECH, decoder=made, labels=labels)


@pytest.mark.parametrize("name", EXTRACTORS)
def test_features_are_the_same(name: str) -> None:
    """Lengths, amplitudes, silence, an offset, and several in a batch."""
    extractor = EXTRACTORS[name]()
    names = ["input_values"]
    if "mask" in name:
        names.append("attention_mask")
    made = build_sound_processor(source(extractor), names)
    assert check_sound_processor(source(extractor), made) > 12


def test_operations_of_a_common_extractor() -> None:
    """Spelt out: what a bundle says."""
    made = build_sound_processor(source(EXTRACTORS["wav2vec2"]()), ["input_values"])
    assert made == {
        "kind": "audio",
        "sampling_rate": 16000,
        "longest": 960000,
        "convolutions": [[10, 5], [3, 4]],
        "ops": [{"op": "standardize", "epsilon": 1e-7}],
        "inputs": ["input_values"],
        "post": {"kind": "audio-classification", "activation": "softmax", "top_k": 5},
    }


def test_another_operation_is_found_out() -> None:
    """The proof does not rest on the translation."""
    for name, change in (
        ("wav2vec2", {"epsilon": 1e-2}),
        ("ast", {"preemphasis": 0.9}),
        ("whisper", {"window": "hann-symmetric"}),
    ):
        extractor = EXTRACTORS[name]()
        made: Any = build_sound_processor(source(extractor), ["input_values"])
        wrong = next(op for op in made["ops"] if op["op"] in ("standardize", "log_mel"))
        wrong.update(change)
        with pytest.raises(ExportError, match="differently from transformers"):
            check_sound_processor(source(extractor), made)


class StrangeExtractor(transformers.Wav2Vec2FeatureExtractor):
    """One that edgekit has never heard of."""


@pytest.mark.parametrize(
    ("extractor", "told"),
    [
        (lambda: StrangeExtractor(), "StrangeExtractor"),
        (
            lambda: transformers.Wav2Vec2FeatureExtractor(padding_value=1.0),
            "padding_value = 1.0",
        ),
        (
            lambda: transformers.Wav2Vec2FeatureExtractor(padding_side="left"),
            "padding_side = 'left'",
        ),
        (lambda: transformers.WhisperFeatureExtractor(dither=0.1), "dither = 0.1"),
    ],
)
def test_unknown_extractors_are_named(extractor: Any, told: str) -> None:
    """With what they do that edgekit does not."""
    with pytest.raises(ExportError) as caught:
        translate(extractor())
    assert told in caught.value.message
    assert caught.value.hint


def test_an_extractor_of_another_rate() -> None:
    """A spectrogram up to 8 kHz takes 16,000 samples a second."""
    extractor = transformers.WhisperFeatureExtractor(sampling_rate=8000)
    with pytest.raises(ExportError, match="does not suit Model"):
        build_sound_processor(source(extractor), ["input_features"])


@pytest.mark.parametrize(
    "options", [{}, {"do_lower_case": True}, {"clean_up_tokenization_spaces": True}]
)
def test_spelling_is_the_tokenizer_s(options: dict[str, Any], tmp_path: Path) -> None:
    """Repeats, blanks, specials, words; proved on random tokens."""
    made = speech(tmp_path, **options)
    processor = build_sound_processor(made, ["input_values"])
    post: Any = processor["post"]
    assert (post["blank"], post["delimiter"], post["stride"]) == (0, 4, 80000)
    assert check_sound_processor(made, processor) > 200


def test_another_spelling_is_found_out(tmp_path: Path) -> None:
    """A blank of another number."""
    made = speech(tmp_path)
    processor: Any = build_sound_processor(made, ["input_values"])
    processor["post"]["blank"] = 7
    with pytest.raises(ExportError, match="what the tokenizer"):
        check_sound_processor(made, processor)


def test_tokenizers_that_are_refused(tmp_path: Path) -> None:
    """Another class, another mark between words, a blank that the model does not have."""
    made = speech(tmp_path)
    made.decoder = SimpleNamespace()
    with pytest.raises(ExportError, match="SimpleNamespace"):
        build_sound_processor(made, ["input_values"])
    with pytest.raises(ExportError, match="between words"):
        build_sound_processor(speech(tmp_path, replace_word_delimiter_char="_"), ["input_values"])
    made = speech(tmp_path)
    made.labels = made.labels[1:]
    with pytest.raises(ExportError, match="the blank of CTC"):
        build_sound_processor(made, ["input_values"])


def test_frames_that_the_convolutions_do_not_make(tmp_path: Path) -> None:
    """Which of them are sound could not be told."""
    made = speech(tmp_path)
    processor = build_sound_processor(made, ["input_values"])
    case = Case("one", {"input_values": torch.zeros(1, 1000)}, {"samples": 1000})
    right = np.zeros((1, 50, len(TOKENS)), np.float32)
    check_frames(processor, made, [case], [{"logits": right[:, :50]}])
    with pytest.raises(ExportError, match="makes 49 frames of 1000 samples, its convolutions 50"):
        check_frames(processor, made, [case], [{"logits": right[:, :49]}])


def test_own_sounds_are_cut_without_a_word(caplog: pytest.LogCaptureFixture) -> None:
    """They are made to be longer than the model hears; whoever gives such a one is told."""
    extractor = EXTRACTORS["whisper"]()
    made = build_sound_processor(source(extractor), ["input_values"])
    check_sound_processor(source(extractor), made)
    assert caplog.text == ""
    SoundProcessor(made).hear((np.zeros(4 * 16_000, np.float32), 16_000))
    assert "longer than the 3.0 seconds that the model hears" in caplog.text
