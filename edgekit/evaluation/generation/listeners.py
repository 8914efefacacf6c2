"""Who writes down what is said: the bundle as an app asks it, and its original in PyTorch."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeAlias, cast

import numpy as np
from numpy.typing import NDArray

from edgekit.evaluation.counting import Counted
from edgekit.evaluation.generation.original import Original
from edgekit.evaluation.generation.writers import OPTIONS, written
from edgekit.evaluation.naming import answered, reading
from edgekit.evaluation.pairs import Pairs
from edgekit.evaluation.sounds import sound_of
from edgekit.runtime.generation.options import MAX_NEW_TOKENS
from edgekit.runtime.generation.rules import GenerationRules
from edgekit.runtime.model import Model
from edgekit.runtime.session import Array
from edgekit.runtime.sound.decoding import read_sound
from edgekit.runtime.sound.predicting import SOUNDS
from edgekit.sources.data import Samples

Wave: TypeAlias = NDArray[np.float32]
# Samples of a sound at most: a day of it.
_MOST = 24 * 3600 * 16_000
# Whisper's prompt, which counts against its context.
_PROMPT = 4


def run_speech(
    model: Model,
    original: Original,
    samples: Samples,
    *,
    notes: list[str],
    progress: Callable[[str], None] = lambda text: None,
) -> Pairs:
    """What both write down of each sound, by the checkpoint's own options; nothing is drawn.

    Decoding and resampling are the bundle's for both; features, generating and spelling are those
    of each. Raises ConfigError for a sound that cannot be read, InputMismatch for one that a model
    refuses.
    """
    listen = _listener(original, GenerationRules.read(model.manifest.generation or {}))
    extractor = cast("Any", original.source.feature_extractor)
    rate = int(extractor.sampling_rate)
    waves: dict[int, Wave] = {}

    def told(part: Sequence[int]) -> object:
        sounds = [(waves[index], rate) for index in part]
        return model(sounds, batch_size=SOUNDS, **OPTIONS)

    def wanted(part: Sequence[int]) -> list[str]:
        some = [waves[index] for index in part]
        return original.each([samples.hashes[index] for index in part], some, listen)

    before: list[str] = []
    after: list[str] = []
    long = 0
    counted = Counted(progress, len(samples))
    for some in heard(samples, rate):
        part = range(len(after), len(after) + len(some))
        waves.clear()
        waves.update(zip(part, some, strict=True))
        found = answered(samples, part, told)
        assert isinstance(found, list)
        after += [str(answer["text"]).strip() for answer in found]
        before += answered(samples, part, wanted)
        long += sum(len(wave) > extractor.n_samples for wave in some)
        counted.tell(f"Heard {len(after):,} of {len(samples):,} sounds", len(after))
    if long:
        are = "1 sound is" if long == 1 else f"{long:,} sounds are"
        notes.append(f"{are} longer than a window, and heard in several.")
    return written(before, after)


def heard(samples: Samples, rate: int) -> Iterator[list[Wave]]:
    """The waves of DATA, some at a time. Raises ConfigError, naming the row."""
    for start in range(0, len(samples), SOUNDS):
        waves: list[Wave] = []
        for index in range(start, min(start + SOUNDS, len(samples))):
            with reading(samples, index):
                item = sound_of(samples.inputs[index]["audio"], rate)
                waves.append(read_sound(item, rate, most=_MOST))
        yield waves


def _listener(original: Original, rules: GenerationRules) -> Callable[[Sequence[Array]], list[str]]:
    """PyTorch's texts of some sounds."""
    extractor: Any = original.source.feature_extractor
    tokenizer: Any = original.source.tokenizer
    options: dict[str, object] = dict(OPTIONS)
    if not {"max_new_tokens", "max_length"} & rules.defaults.keys():
        # What the runtime takes where nobody says how long an answer is.
        options["max_new_tokens"] = min(MAX_NEW_TOKENS, (rules.context or 1 << 31) - _PROMPT)

    def generate(model: Any, waves: Sequence[Array], *, long: bool) -> list[str]:
        padding = {"truncation": False, "padding": "longest"} if long else {}
        more = {"return_timestamps": True} if long else {}
        made = extractor(
            list(waves), sampling_rate=extractor.sampling_rate, return_tensors="pt",
            return_attention_mask=True, **padding,
        )  # fmt: skip
        found = model.generate(
            made.input_features.to(model.dtype), attention_mask=made.attention_mask,
            **options, **more,
        )  # fmt: skip
        return [
            str(tokenizer.decode(row, skip_special_tokens=True)).strip() for row in found.tolist()
        ]

    def listen(waves: Sequence[Array]) -> list[str]:
        texts = [""] * len(waves)
        short = [at for at, wave in enumerate(waves) if len(wave) <= extractor.n_samples]
        groups = [short] if short else []
        # A longer one is heard by itself, cut where its own marks of time say.
        groups += [[at] for at in range(len(waves)) if at not in short]
        first = [waves[0][: extractor.n_samples]]
        with original.asked(
            "a sound" if len(waves) == 1 else f"{len(waves)} sounds",
            lambda model: generate(model, first, long=False),
        ) as model:
            for group in groups:
                some = [waves[at] for at in group]
                told = generate(model, some, long=group is not short)
                for at, text in zip(group, told, strict=True):
                    texts[at] = text
        return texts

    return listen
