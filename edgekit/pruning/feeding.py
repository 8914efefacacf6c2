"""Samples of DATA as the tensors that the source's own module takes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import torch
from torch import Tensor

from edgekit.core.errors import ConfigError, EdgekitError, PruneError
from edgekit.evaluation.generation.listeners import heard
from edgekit.evaluation.naming import reading
from edgekit.sources.data import Samples
from edgekit.sources.data_roles import Inputs
from edgekit.sources.generation.answers import read_sounds, read_texts, with_answers
from edgekit.sources.generation.whole import ANSWER, GENERATION, encode_texts
from edgekit.sources.samples import encode

if TYPE_CHECKING:
    from edgekit.sources.loaded import LoadedSource

BATCH = 16
# Longer texts take long, and what matters in a layer shows in fewer tokens.
LONGEST = 256
# Scores of a vocabulary for every token take the most of what a batch takes: they, what they are
# made into and their gradients should stay within so many bytes.
_LONGEST_SAID = 128
_LONGEST_ANSWER = 64
# A window of sound is a thousand frames or more, of which a gradient keeps all layers.
_SOUNDS = 4
_MOST_BYTES = 512 << 20
_COPIES = 4
# As BERT was trained (Devlin et al. 2018, arXiv 1810.04805).
_MASKED_SHARE = 0.15


@dataclass(frozen=True, eq=False)
class Batch:
    """Inputs by name, and labels where the samples have them and a loss can use them.

    Labels are classes `[batch]` (int64), numbers `[batch]` or several classes `[batch, classes]`
    (float32).
    """

    inputs: dict[str, Tensor]
    labels: Tensor | None = None

    def __len__(self) -> int:
        return len(next(iter(self.inputs.values())))


def batches(
    source: LoadedSource, samples: Samples, size: int = BATCH, *, longest: int = LONGEST
) -> list[Batch]:
    """The samples as batches, texts of like length together and cut to `longest` tokens.

    For a model that generates texts or answers both are smaller, because of what its scores take.

    The module runs on the first of them. Raises ConfigError for a sample that cannot be read, or
    that the module does not take; PruneError for samples of sounds.
    """
    if ANSWER in source.sample_inputs and source.feature_extractor is not None:
        made = _heard_batches(source, samples, size)
    elif ANSWER in source.sample_inputs:
        made = _answered_batches(source, samples, size, longest)
    elif source.tokenizer is not None:
        made = _text_batches(source, samples, size, longest)
    elif source.feature_extractor is not None:
        raise PruneError(
            f"{source.id} reads sounds, which pruning has not been shown on.",
            hint="Quantize it instead.",
        )
    else:
        made = []
        reader = _pictures if source.image_processor is not None else _arrays
        for start in range(0, len(samples), size):
            places = range(start, min(start + size, len(samples)))
            rows = [samples.inputs[place] for place in places]
            feeds = reader(source, samples, start, rows)
            made.append(Batch(feeds, _labels(source, samples, places)))
    check_runs(source, made)
    return made


def own_batches(source: LoadedSource) -> list[Batch]:
    """The source's own sample inputs, for want of data."""
    return [Batch(dict(source.sample_inputs))]


def _text_batches(source: LoadedSource, samples: Samples, size: int, longest: int) -> list[Batch]:
    generates = source.task == GENERATION
    limit = min(source.max_length or longest, longest, *([_LONGEST_SAID] if generates else []))
    if generates:
        size = _fitting(source, size, limit)
    rows = [(place, text) for place in range(len(samples)) for text in _texts(samples, place)]
    rows.sort(key=lambda row: (sum(map(len, row[1])), row[0]))
    made = []
    paired = any(len(text) > 1 for _, text in rows)
    # A row without a second text is a pair with an empty one only where all others are pairs.
    generator = torch.Generator().manual_seed(0)
    for start in range(0, len(rows), size):
        part = rows[start : start + size]
        firsts = [text[0] for _, text in part]
        if generates:
            made.append(Batch(encode_texts(source.tokenizer, firsts, max_length=limit)))
            continue
        seconds = [text[1] if len(text) > 1 else "" for _, text in part] if paired else None
        inputs = encode(
            source.tokenizer, tuple(source.sample_inputs), firsts, seconds, max_length=limit
        )
        if source.task == "fill-mask":
            inputs["input_ids"] = _hidden(source, inputs, generator)
        one_each = samples.task != "feature-extraction"
        labels = _labels(source, samples, [place for place, _ in part]) if one_each else None
        made.append(Batch(inputs, labels))
    return made


def _answered_batches(
    source: LoadedSource, samples: Samples, size: int, longest: int
) -> list[Batch]:
    """Texts with what should be answered to them; without labels, what the model itself answers."""
    limit = min(source.max_length or longest, longest)
    # What an answer begins with takes a position as well.
    most = max(1, min(limit - 1, _LONGEST_ANSWER))
    size = _fitting(source, size, most)
    texts = [str(row["source"]) for row in samples.inputs]
    wanted = None if samples.labels is None else [_first(label) for label in samples.labels]
    order = sorted(range(len(texts)), key=lambda place: (len(texts[place]), place))
    made = []
    for start in range(0, len(order), size):
        part = order[start : start + size]
        read = read_texts(source, [texts[place] for place in part], most=limit)
        answers = None if wanted is None else [wanted[place] for place in part]
        made.append(Batch(with_answers(source, read, answers, most=most)))
    return made


def _heard_batches(source: LoadedSource, samples: Samples, size: int) -> list[Batch]:
    """Sounds with what the model itself writes down of them.

    Transcripts are no such answers: neither the language nor the task is said in them.
    """
    rate = int(cast("Any", source.feature_extractor).sampling_rate)
    waves = (wave for some in heard(samples, rate) for wave in some)
    made = []
    while some := list(islice(waves, min(size, _SOUNDS))):
        read = read_sounds(source, some)
        made.append(Batch(with_answers(source, read, None, most=_LONGEST_ANSWER)))
    return made


def _first(label: object) -> str:
    """One of several texts that would all be right."""
    return str(label[0] if isinstance(label, tuple) else label)


def _fitting(source: LoadedSource, size: int, tokens: int) -> int:
    """At most so many rows, as the scores of a vocabulary for so many tokens of each fit."""
    vocabulary = int(getattr(source.config, "vocab_size", 1))
    return max(1, min(size, _MOST_BYTES // (_COPIES * 4 * tokens * vocabulary)))


def _texts(samples: Samples, place: int) -> list[tuple[str, ...]]:
    row = samples.inputs[place]
    if "tokens" in row:
        return [(" ".join(str(token) for token in cast("tuple[str, ...]", row["tokens"])),)]
    if "question" in row:
        return [(str(row["question"]), str(row["context"]))]
    text, pair = str(row["text"]), row.get("text_pair")
    if pair is None:
        return [(text,)]
    # Of two texts to compare each is embedded by itself.
    if samples.task == "feature-extraction":
        return [(text,), (str(pair),)]
    return [(text, str(pair))]


def _hidden(source: LoadedSource, inputs: dict[str, Tensor], generator: torch.Generator) -> Tensor:
    """The token ids with some of the words masked, in every row at least one."""
    ids = inputs["input_ids"].clone()
    tokenizer = source.tokenizer
    special = torch.tensor(sorted(getattr(tokenizer, "all_special_ids", [])), dtype=ids.dtype)
    plain = ~torch.isin(ids, special) & inputs["attention_mask"].bool()
    drawn = torch.rand(ids.shape, generator=generator).masked_fill(~plain, 2.0)
    chosen = (drawn < _MASKED_SHARE) | (drawn == drawn.amin(1, keepdim=True))
    ids[chosen & plain] = int(getattr(tokenizer, "mask_token_id", 0))
    return ids


def _pictures(
    source: LoadedSource, samples: Samples, start: int, rows: Sequence[Inputs]
) -> dict[str, Tensor]:
    from edgekit.runtime.pictures import open_picture

    opened = []
    for at, row in enumerate(rows):
        with reading(samples, start + at):
            opened.append(open_picture(row["image"]))
    processor = cast("Callable[..., dict[str, np.ndarray]]", source.image_processor)
    made = processor(images=opened, return_tensors="np")
    return {
        name: torch.from_numpy(np.ascontiguousarray(made[name])) for name in source.sample_inputs
    }


def _arrays(
    source: LoadedSource, samples: Samples, start: int, rows: Sequence[Inputs]
) -> dict[str, Tensor]:
    made: dict[str, Tensor] = {}
    for name, sample in source.sample_inputs.items():
        try:
            stacked = np.stack([np.asarray(row[name]) for row in rows])
        except (KeyError, ValueError) as error:
            raise ConfigError(
                f"The rows of DATA from {samples.row(start)} on do not stack into one input"
                f" {name!r}: {error}.",
                hint="Give an array for each input, of one shape for all samples.",
            ) from error
        made[name] = torch.from_numpy(stacked).to(sample.dtype)
    return made


def _labels(source: LoadedSource, samples: Samples, places: Sequence[int]) -> Tensor | None:
    if samples.labels is None:
        return None
    found = [samples.labels[place] for place in places]
    if all(isinstance(label, int) for label in found):
        return torch.tensor(cast("list[int]", found), dtype=torch.int64)
    if all(isinstance(label, (int, float)) for label in found):
        return torch.tensor(cast("list[float]", found), dtype=torch.float32)
    several = source.problem_type == "multi_label_classification" and source.labels is not None
    if several and all(isinstance(label, tuple) for label in found):
        hot = torch.zeros(len(found), len(source.labels or ()))
        for row, label in enumerate(found):
            hot[row, list(cast("tuple[int, ...]", label))] = 1
        return hot
    return None


def check_runs(source: LoadedSource, given: Sequence[Batch]) -> None:
    """Raise ConfigError where the module does not take the samples of DATA."""
    if not given:
        return
    try:
        with torch.inference_mode():
            source.module(**given[0].inputs)
    except EdgekitError:
        raise
    except (RuntimeError, TypeError, ValueError, IndexError) as error:
        shapes = ", ".join(f"{name} {list(one.shape)}" for name, one in given[0].inputs.items())
        raise ConfigError(
            f"{source.id} does not run on the samples of DATA ({shapes}): {error}.",
            hint="Check that DATA is for this model.",
        ) from error
