"""The proof that numpy makes the tensors and texts of transformers' extractor and tokenizer."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from edgekit.core.errors import EdgekitError, ExportError
from edgekit.core.manifest import TensorSpec
from edgekit.exporters.cases import Case
from edgekit.exporters.exported import Array
from edgekit.exporters.processor_parity import silent_truncation
from edgekit.runtime.sound.processor import SoundProcessor
from edgekit.runtime.sound.tasks import SoundContext, Transcription, make_sound_task
from edgekit.sources.loaded import LoadedSource
from edgekit.sources.quiet import quiet
from edgekit.sources.sounds import MASK, compose, extract

if TYPE_CHECKING:
    from transformers import SequenceFeatureExtractor

Wave = NDArray[np.float32]

# In units of features that are of the order of one.
_APART = 1e-4
_SPELLINGS = 200


def check_sound_processor(source: LoadedSource, processor: Mapping[str, object]) -> int:
    """Compare both on sounds of many lengths, amplitudes and kinds; how many there were.

    Raises ExportError with the first sound whose tensor differs by more than 1e-4, or the first
    row of tokens that is spelled differently.
    """
    theirs = source.feature_extractor
    assert theirs is not None
    try:
        ours = SoundProcessor(processor)
    except EdgekitError as error:
        raise ExportError(
            f"The sound processor that was made of {type(theirs).__name__} cannot be used:"
            f" {error.message}",
            hint=error.hint,
        ) from error
    count = 0
    with quiet(), silent_truncation():
        for name, wave in _suite(ours):
            _same(name, extract(theirs, [wave]), ours, [wave])
            count += 1
        count += _compare_together(theirs, ours)
        if source.decoder is not None:
            count += _compare_spelling(source, ours)
    return count


def check_frames(
    processor: Mapping[str, object],
    source: LoadedSource,
    cases: Sequence[Case],
    references: Sequence[Mapping[str, Array]],
) -> None:
    """Raise ExportError where a model makes another number of frames than its convolutions do."""
    rules = SoundProcessor(processor).rules
    if source.decoder is None:
        return
    for case, found in zip(cases, references, strict=True):
        samples = case.inputs[rules.inputs[0]].shape[1]
        made = found["logits"].shape[1]
        if made != rules.frames(samples):
            raise ExportError(
                f"{source.architecture} makes {made} frames of {samples} samples, its convolutions"
                f" {rules.frames(samples)}: edgekit cannot tell which of them are sound.",
                hint="Export it as a module of your own (file.py:factory) and read its outputs"
                " yourself.",
            )


def _suite(ours: SoundProcessor) -> Iterator[tuple[str, Wave]]:
    rules = ours.rules
    rate, least = rules.sampling_rate, max(rules.shortest, 2)
    window = rules.window
    lengths = [least, least + 1, 2 * least + 7, rate // 3, rate, 2 * rate + 1]
    if window is not None:
        # Just around what the model hears, and beyond it.
        lengths += [window - 1, window, window + 1, window + rate]
    for seed, length in enumerate(lengths):
        if length >= least:
            yield f"{length} samples", compose(length, seed, rate)
    wave = compose(rate, 50, rate)
    for amplitude in (1e-4, 0.01, 3.0):
        yield f"amplitude {amplitude:g}", wave * np.float32(amplitude)
    yield "silence", np.zeros(rate, np.float32)
    yield "an offset", np.full(rate, 0.25, np.float32)
    impulse = np.zeros(rate, np.float32)
    impulse[rate // 2] = 1.0
    yield "an impulse", impulse
    time = np.arange(rate) / rate
    yield "a tone", np.sin(2 * np.pi * 440 * time).astype(np.float32)
    yield "noise", np.random.default_rng(9).uniform(-1, 1, rate).astype(np.float32)
    half = wave.copy()
    half[rate // 2 :] = 0
    yield "a sound and silence", half


def _compare_together(theirs: SequenceFeatureExtractor, ours: SoundProcessor) -> int:
    """Sounds of several lengths in one batch; how many batches were compared."""
    rate = ours.rules.sampling_rate
    waves = [compose(length, 70 + length, rate) for length in (rate, rate // 2 + 11, rate // 4)]
    if len(ours.rules.inputs) == 2:
        options: dict[str, Any] = {"padding": True, "return_attention_mask": True}
        _same("batch of three", extract(theirs, waves, **options), ours, waves)
        return 1
    if ours.rules.log_mel is None:
        # Without a mask the lengths of a batch are alike: what fills up would be sound.
        waves = [compose(rate, seed, rate) for seed in range(3)]
    _same("batch of three", extract(theirs, waves), ours, waves)
    return 1


def _same(
    name: str, expected: Mapping[str, Array], ours: SoundProcessor, waves: Sequence[Wave]
) -> None:
    rate = ours.rules.sampling_rate
    try:
        made = ours.collate([ours.encode((wave, rate)) for wave in waves])
    except EdgekitError as error:
        raise ExportError(
            f"The sound {name!r} of the comparison with transformers is refused: {error.message}",
            hint=error.hint,
        ) from error
    values, *mask = ours.rules.inputs
    pairs = [(values, expected[next(key for key in expected if key != MASK)])]
    pairs += [(key, expected[MASK]) for key in mask if MASK in expected]
    for key, wanted in pairs:
        found = made[key]
        if found.shape != wanted.shape:
            raise ExportError(
                f"numpy makes {key} {list(found.shape)} of the sound {name!r}, transformers"
                f" {list(wanted.shape)}.",
                hint=_HINT,
            )
        gap = float(np.abs(found.astype(np.float64) - wanted.astype(np.float64)).max())
        if not gap <= _APART:
            raise ExportError(
                f"numpy prepares the sound {name!r} differently from transformers: the values of"
                f" {key} differ by up to {gap:.3g}.",
                hint=_HINT,
            )


_HINT = "The feature extractor does something that its config does not say; report its class."


def _compare_spelling(source: LoadedSource, ours: SoundProcessor) -> int:
    """Random tokens, many of them repeated, as the tokenizer spells them; how many rows."""
    tokenizer: Any = source.decoder
    labels = source.labels
    assert labels is not None
    spec = TensorSpec("logits", "float32", ("batch", "frames", len(labels)))
    task = make_sound_task(SoundContext(ours.rules, labels, (spec,)))
    assert isinstance(task, Transcription)
    random = np.random.default_rng(11)
    for _ in range(_SPELLINGS):
        some = random.integers(0, len(labels), random.integers(1, 40))
        ids = np.repeat(some, random.integers(1, 4, len(some))).tolist()
        expected, found = tokenizer.decode(ids), task.decode(ids)
        if expected != found:
            raise ExportError(
                f"numpy spells {found!r} what the tokenizer {type(tokenizer).__name__} spells"
                f" {expected!r}.",
                hint="Save the tokenizer that the model was trained with into its folder.",
            )
    return _SPELLINGS
