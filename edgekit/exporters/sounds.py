"""The declarative sound processor of a bundle, from transformers' feature extractors.

An extractor is translated when what its class does is written down here; any other is refused by
name. `sound_parity` proves the result.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from edgekit.core.errors import BundleError, ExportError
from edgekit.exporters.processors import activation
from edgekit.runtime.sound.rules import read_sound_rules
from edgekit.sources.loaded import LoadedSource
from edgekit.sources.sounds import convolutions

if TYPE_CHECKING:
    from transformers import SequenceFeatureExtractor

Op = dict[str, object]

# Seconds that are read at once. Attention grows with their square: a minute of Wav2Vec2's large
# form takes half a gigabyte a layer.
_LONGEST_CLASSIFIED = 60
# Speech is read in pieces of so many seconds, of which a sixth on either side is a neighbour's: it
# is what transformers' pipeline does when it is told to cut.
_PIECE = 30
_STRIDE = 5

# What Kaldi's filter banks do at every rate, as AST's extractor calls them.
_KALDI_FRAME, _KALDI_HOP, _KALDI_FFT = 400, 160, 512
_KALDI_FLOOR = 1.192092955078125e-07


def build_sound_processor(source: LoadedSource, inputs: Sequence[str]) -> dict[str, object]:
    """What the runtime needs to turn sounds into the graph's `inputs`, and outputs into answers.

    Raises ExportError, naming it, for an extractor or a tokenizer that edgekit does not know.
    """
    return describe_sounds(source, inputs, _POST[source.task](source))


def describe_sounds(
    source: LoadedSource, inputs: Sequence[str], post: Mapping[str, object] | None = None
) -> dict[str, object]:
    """The processor of a source's sounds; ``post`` says how the graph's outputs are read, if it is
    for the processor to say.

    Raises ExportError, naming it, for an extractor that edgekit does not know.
    """
    extractor = source.feature_extractor
    assert extractor is not None
    assert source.config is not None
    ops = translate(extractor)
    rate = int(extractor.sampling_rate)
    waves = all(op["op"] == "standardize" for op in ops)
    made: dict[str, object] = {
        "kind": "audio",
        "sampling_rate": rate,
        "longest": rate * (_PIECE if source.decoder is not None else _LONGEST_CLASSIFIED),
        "convolutions": [list(pair) for pair in convolutions(source.config)] if waves else [],
        "ops": ops,
        "inputs": list(inputs),
    }
    if post is not None:
        made["post"] = dict(post)
    try:
        read_sound_rules(made)
    except BundleError as error:
        raise ExportError(
            f"The feature extractor {type(extractor).__name__} does not suit"
            f" {source.architecture}: {error.message}",
            hint="Save the feature extractor that the model was trained with into its folder.",
        ) from error
    return made


def translate(extractor: SequenceFeatureExtractor) -> list[Op]:
    """The operations of an extractor, in their order. Raises ExportError for an unknown one."""
    name = type(extractor).__name__
    known = _TRANSLATORS.get(name)
    if known is None:
        raise ExportError(
            f"edgekit does not know what the feature extractor {name} does.",
            hint=f"Known are {', '.join(sorted(_TRANSLATORS))}. Export the model as a module of"
            " your own (file.py:factory) and prepare its tensors yourself.",
        )
    for key, wanted in (("padding_value", 0.0), ("padding_side", "right"), ("dither", 0.0)):
        found = getattr(extractor, key, wanted)
        if found != wanted:
            raise ExportError(
                f"The feature extractor {name} is set to {key} = {found!r}, which edgekit's sound"
                " processing does not have.",
                hint=f"Set it to {wanted!r} if the model was trained so.",
            )
    return known(extractor)


def _waves(extractor: Any) -> list[Op]:
    """Samples themselves, standardized where that is switched on."""
    return [{"op": "standardize", "epsilon": 1e-7}] if extractor.do_normalize else []


def _spectrogram_of_kaldi(extractor: Any) -> list[Op]:
    ops: list[Op] = [
        {
            "op": "log_mel",
            "frame": _KALDI_FRAME,
            "hop": _KALDI_HOP,
            "fft": _KALDI_FFT,
            "bins": int(extractor.num_mel_bins),
            "low": 20.0,
            "high": float(extractor.sampling_rate // 2),
            "window": "hann-symmetric",
            "remove_mean": True,
            "preemphasis": 0.97,
            "scale": "kaldi",
            "floor": _KALDI_FLOOR,
        },
        {"op": "frames", "count": int(extractor.max_length)},
    ]
    if extractor.do_normalize:
        mean, std = float(extractor.mean), float(extractor.std)
        ops.append({"op": "normalize", "mean": mean, "std": 2 * std})
    return ops


def _spectrogram_of_whisper(extractor: Any) -> list[Op]:
    return [
        {"op": "fill", "samples": int(extractor.n_samples)},
        {
            "op": "log_mel",
            "frame": int(extractor.n_fft),
            "hop": int(extractor.hop_length),
            "fft": int(extractor.n_fft),
            "bins": int(extractor.feature_size),
            "low": 0.0,
            "high": 8000.0,
            "center": True,
            "unit_area": True,
            "log": "log10",
            "drop_last": True,
            "layout": "bins-first",
        },
        {"op": "clamp", "below": 8.0},
        {"op": "normalize", "mean": -4.0, "std": 4.0},
    ]


_TRANSLATORS: Mapping[str, Callable[[Any], list[Op]]] = {
    "ASTFeatureExtractor": _spectrogram_of_kaldi,
    "Wav2Vec2FeatureExtractor": _waves,
    "WhisperFeatureExtractor": _spectrogram_of_whisper,
}


def _classification(source: LoadedSource) -> dict[str, object]:
    assert source.config is not None
    return {"kind": "audio-classification", "activation": activation(source.config), "top_k": 5}


def _transcription(source: LoadedSource) -> dict[str, object]:
    tokenizer: Any = source.decoder
    name = type(tokenizer).__name__
    if name != "Wav2Vec2CTCTokenizer":
        raise ExportError(
            f"edgekit does not know how the tokenizer {name} spells text.",
            hint="Known is Wav2Vec2CTCTokenizer. Export the model as a module of your own"
            " (file.py:factory) and read its outputs yourself.",
        )
    if tokenizer.replace_word_delimiter_char != " ":
        raise ExportError(
            f"The tokenizer {name} writes {tokenizer.replace_word_delimiter_char!r} between words,"
            " which edgekit does not.",
            hint="Set replace_word_delimiter_char to a blank.",
        )
    assert source.labels is not None
    assert source.feature_extractor is not None
    numbers = {token: index for index, token in reversed(list(enumerate(source.labels)))}
    blank = numbers.get(str(tokenizer.pad_token))
    if blank is None:
        raise ExportError(
            f"The model has {len(source.labels)} classes, none of which is the tokenizer's padding"
            f" {tokenizer.pad_token!r}, the blank of CTC.",
            hint="Save the tokenizer that the model was trained with into its folder.",
        )
    delimiter = tokenizer._word_delimiter_token
    return {
        "kind": "ctc",
        "blank": blank,
        "delimiter": None if delimiter is None else numbers.get(str(delimiter)),
        "lower": bool(tokenizer.do_lower_case),
        "stride": int(source.feature_extractor.sampling_rate) * _STRIDE,
        "clean_up_tokenization_spaces": bool(tokenizer.clean_up_tokenization_spaces),
    }


_POST: Mapping[str, Callable[[LoadedSource], dict[str, object]]] = {
    "audio-classification": _classification,
    "automatic-speech-recognition": _transcription,
}
