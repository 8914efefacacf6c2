"""Sounds to trace and compare with, made here and prepared by transformers' own extractor."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from edgekit.core.errors import SourceError
from edgekit.core.lazy import require
from edgekit.sources.checks import read_json
from edgekit.sources.inputs import PROCESSOR_FILES

if TYPE_CHECKING:
    from transformers import PreTrainedConfig, PreTrainedTokenizerBase, SequenceFeatureExtractor

# The axes of waves whose size follows from the sound.
SOUND_AXES = {0: "batch", 1: "samples"}
MASK = "attention_mask"
# What is traced: short, and neither a number of frames nor of seconds.
TRACED_SAMPLES = 6_011


def compose(samples: int, seed: int = 0, rate: int = 16_000) -> NDArray[np.float32]:
    """A sound like speech, another one for each seed: a voiced hum in syllables, and a hiss."""
    random = np.random.default_rng(seed)
    time = np.arange(samples) / rate
    pitch = random.uniform(90, 220) * (1 + 0.05 * np.sin(2 * np.pi * 4 * time))
    phase = 2 * np.pi * np.cumsum(pitch) / rate
    harmonics = np.arange(1, 12)
    weights = random.uniform(0.2, 1, len(harmonics)) / harmonics
    voice = sum(w * np.sin(n * phase) for w, n in zip(weights, harmonics, strict=True))
    syllables = 0.5 + 0.5 * np.sin(2 * np.pi * random.uniform(2, 5) * time + seed)
    hiss = random.normal(0, 0.02, samples)
    return np.asarray(0.2 * syllables * voice + hiss, dtype=np.float32)


def load_feature_extractor(folder: Path, *, trusted: bool) -> SequenceFeatureExtractor:
    """transformers' extractor of a checkpoint of sounds.

    Raises SourceError where the folder has none, or one that brings code of its own.
    """
    require("soundfile", "audio")
    from transformers import AutoFeatureExtractor

    held = [name for name in PROCESSOR_FILES if (folder / name).is_file()]
    if not held:
        raise SourceError(
            f"{folder} does not say how sounds are prepared: it holds none of"
            f" {', '.join(PROCESSOR_FILES)}.",
            hint="Save the feature extractor that the model was trained with into the folder"
            " (feature_extractor.save_pretrained).",
        )
    own = next((name for name in held if "auto_map" in read_json(folder / name)), None)
    if own is not None and not trusted:
        raise SourceError(
            f"{folder / own} names code of its own to prepare sounds with.",
            hint="Read that code, and pass --trust-remote-code if you trust it.",
        )
    return cast(
        "SequenceFeatureExtractor",
        AutoFeatureExtractor.from_pretrained(
            folder, local_files_only=True, trust_remote_code=trusted
        ),
    )


def takes_waves(extractor: SequenceFeatureExtractor) -> bool:
    """Whether a model gets samples themselves, of any number, and no picture of frequencies."""
    main = extractor.model_input_names[0]
    return np.ndim(extract(extractor, [compose(2_000, rate=extractor.sampling_rate)])[main]) == 2


def extract(
    extractor: SequenceFeatureExtractor, waves: Sequence[NDArray[np.float32]], **options: Any
) -> dict[str, NDArray[np.generic]]:
    """What transformers makes of waves at the extractor's rate."""
    made = extractor(
        list(waves), sampling_rate=extractor.sampling_rate, return_tensors="np", **options
    )
    return {name: np.asarray(value) for name, value in made.items()}


def sound_batch(
    extractor: SequenceFeatureExtractor,
    names: Sequence[str],
    *,
    count: int,
    samples: int,
    least: int = 1,
    start: int = 0,
    filled: bool = True,
) -> dict[str, Tensor]:
    """Sounds as transformers prepares them, by input name, `[count, …]`.

    Where the model takes a mask, every row but the first is shorter than `samples`, `least` of
    them at least, so that it has something to hide; so is the first where it is not `filled`.
    """
    masked = MASK in names
    rate = extractor.sampling_rate
    lengths = [
        samples if not masked or (filled and row == 0) else max(least, samples * (row % 2 + 1) // 3)
        for row in range(count)
    ]
    waves = [compose(length, start + row, rate) for row, length in enumerate(lengths)]
    if masked:
        made = extract(
            extractor, waves, padding="max_length", max_length=samples, return_attention_mask=True
        )
    else:
        made = extract(extractor, waves)
    return {name: _tensor(made[name]) for name in names}


def _tensor(array: NDArray[np.generic]) -> Tensor:
    tensor = torch.from_numpy(np.ascontiguousarray(array))
    # Masks are int32 in transformers' arrays and int64 in its tensors.
    return tensor if tensor.is_floating_point() else tensor.to(torch.int64)


def convolutions(config: PreTrainedConfig) -> list[tuple[int, int]]:
    """(kernel, stride) of the convolutions by which a model makes frames of samples; [] of none."""
    kernels = getattr(config, "conv_kernel", None)
    strides = getattr(config, "conv_stride", None)
    if not isinstance(kernels, list | tuple) or not isinstance(strides, list | tuple):
        return []
    found = [(int(one), int(other)) for one, other in zip(kernels, strides, strict=True)]
    if getattr(config, "add_adapter", False):
        # Padded by one on either side, a kernel of three makes as many frames as one of one.
        found += [(1, int(config.adapter_stride))] * int(config.num_adapter_layers)
    return found


def shortest(config: PreTrainedConfig) -> int:
    """The fewest samples of which a model makes a frame."""
    needed = 1
    for kernel, stride in reversed(convolutions(config)):
        needed = (needed - 1) * stride + kernel
    return needed


def vocabulary(tokenizer: PreTrainedTokenizerBase, size: int) -> tuple[str, ...]:
    """The token that each of a model's classes stands for."""
    return tuple(str(token) for token in tokenizer.convert_ids_to_tokens(list(range(size))))
