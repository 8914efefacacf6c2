"""Who writes down what is said: the bundle as an app asks it, and its original in PyTorch."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias, cast

import numpy as np
from numpy.typing import NDArray

from edgekit.core.errors import ConfigError, InputMismatch
from edgekit.evaluation.counting import Counted
from edgekit.evaluation.generation.readers import refusals, whole_model
from edgekit.evaluation.generation.writers import OPTIONS, written
from edgekit.evaluation.pairs import Pairs
from edgekit.evaluation.reference import better_threads
from edgekit.runtime.generation.options import MAX_NEW_TOKENS
from edgekit.runtime.generation.rules import GenerationRules
from edgekit.runtime.model import Model
from edgekit.runtime.session import Array
from edgekit.runtime.sound.decoding import read_sound
from edgekit.runtime.sound.predicting import SOUNDS
from edgekit.sources.data import Samples
from edgekit.sources.quiet import quiet

if TYPE_CHECKING:
    from edgekit.sources.loaded import LoadedSource

Wave: TypeAlias = NDArray[np.float32]
# Samples of a sound at most: a day of it.
_MOST = 24 * 3600 * 16_000
# Whisper's prompt, which counts against its context.
_PROMPT = 4


def run_speech(
    model: Model,
    source: LoadedSource,
    samples: Samples,
    *,
    notes: list[str],
    progress: Callable[[str], None] = lambda text: None,
) -> Pairs:
    """What both write down of each sound, by the checkpoint's own options; nothing is drawn.

    Decoding and resampling are the bundle's for both; features, generating and spelling are those
    of each. Raises ConfigError for a sound that cannot be read, or a reference that is no
    checkpoint.
    """
    listen = _listener(source, GenerationRules.read(model.manifest.generation or {}))
    rate = int(cast("Any", source.feature_extractor).sampling_rate)
    before: list[str] = []
    after: list[str] = []
    long = 0
    counted = Counted(progress, len(samples))
    for waves in heard(samples, rate):
        told = model([(wave, rate) for wave in waves], batch_size=SOUNDS, **OPTIONS)
        assert isinstance(told, list)
        after += [str(answer["text"]).strip() for answer in told]
        expected, windows = listen(waves)
        before += expected
        long += windows
        counted.tell(f"Heard {len(after):,} of {len(samples):,} sounds", len(after))
    if long:
        told = "1 sound is" if long == 1 else f"{long:,} sounds are"
        notes.append(f"{told} longer than a window, and heard in several.")
    return written(before, after)


def heard(samples: Samples, rate: int) -> Iterator[list[Wave]]:
    """The waves of DATA, some at a time. Raises ConfigError, naming the row."""
    for start in range(0, len(samples), SOUNDS):
        waves: list[Wave] = []
        for index in range(start, min(start + SOUNDS, len(samples))):
            item = samples.inputs[index]["audio"]
            # Arrays of an .npz tell no rate: they are at the model's.
            sound = item if isinstance(item, Path) else (item, rate)
            try:
                waves.append(read_sound(sound, rate, most=_MOST))
            except InputMismatch as error:
                raise ConfigError(
                    f"Row {samples.row(index)} of DATA cannot be read: {error.message}",
                    hint=error.hint,
                ) from error
        yield waves


def _listener(
    source: LoadedSource, rules: GenerationRules
) -> Callable[[Sequence[Array]], tuple[list[str], int]]:
    """PyTorch's texts of some sounds, and how many of these are longer than a window."""
    import torch

    model = whole_model(source)
    extractor: Any = source.feature_extractor
    tokenizer: Any = source.tokenizer
    options: dict[str, object] = dict(OPTIONS)
    if not {"max_new_tokens", "max_length"} & rules.defaults.keys():
        # What the runtime takes where nobody says how long an answer is.
        options["max_new_tokens"] = min(MAX_NEW_TOKENS, (rules.context or 1 << 31) - _PROMPT)
    settled = False

    def generate(waves: Sequence[Array], more: Mapping[str, object]) -> list[str]:
        padding = {"truncation": False, "padding": "longest"} if "return_timestamps" in more else {}
        with refusals(source, f"{len(waves)} sounds"), torch.inference_mode(), quiet():
            made = extractor(
                list(waves), sampling_rate=extractor.sampling_rate, return_tensors="pt",
                return_attention_mask=True, **padding,
            )  # fmt: skip
            found = model.generate(
                made.input_features.to(model.dtype), attention_mask=made.attention_mask,
                **{**options, **more},
            )  # fmt: skip
            return [
                str(tokenizer.decode(row, skip_special_tokens=True)).strip()
                for row in found.tolist()
            ]

    def listen(waves: Sequence[Array]) -> tuple[list[str], int]:
        nonlocal settled
        texts = [""] * len(waves)
        short = [at for at, wave in enumerate(waves) if len(wave) <= extractor.n_samples]
        if short and not settled:
            first = [waves[short[0]]]
            torch.set_num_threads(better_threads(lambda: generate(first, {})))
            settled = True
        groups = [short] if short else []
        # A longer one is heard by itself, cut where its own marks of time say.
        groups += [[at] for at in range(len(waves)) if at not in short]
        for group in groups:
            more = {} if group is short else {"return_timestamps": True}
            for at, text in zip(group, generate([waves[at] for at in group], more), strict=True):
                texts[at] = text
        return texts, len(waves) - len(short)

    return listen
