"""The shapes at which an export is compared with PyTorch, none of them the traced one."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from edgekit.core.errors import ConfigError, ExportError
from edgekit.sources.loaded import LoadedSource
from edgekit.sources.pictures import TRACED_SIZE, picture_batch
from edgekit.sources.samples import SAMPLE_TEXTS, sample_batch
from edgekit.sources.sounds import TRACED_SAMPLES, shortest, sound_batch

Inputs = dict[str, Tensor]

# Attention of twelve heads over this many tokens takes 200 MB; more proves nothing new.
_LONGEST = 2048
# The reference of the golden batch; the bundle's own answer of the same size stands beside it
# in a file of at most 8 MiB.
_GOLDEN_BYTES = 4_100_000
_GOLDEN_TOKENS = (16, 4)
_SAMPLE_TOKENS = 24
# What a bench measures as well: as long as something that somebody says.
_GOLDEN_SECONDS = (5, 1)


@dataclass(frozen=True, eq=False)
class Case:
    """One batch to compare, with the sizes of its symbols."""

    name: str
    inputs: Inputs
    sizes: Mapping[str, int]


def check_static(static: Mapping[str, int], known: Sequence[str], id: str) -> None:
    """Raise ConfigError for a fixed dimension that is none of the source's, or has no size."""
    for symbol, size in static.items():
        if symbol not in known:
            raise ConfigError(
                f"--static names the dimension {symbol!r}, which {id} does not have.",
                hint=f"Its varying dimensions: {', '.join(known) or 'none'}.",
            )
        if size < 1:
            raise ConfigError(f"--static {symbol}={size} is not a size.", hint="Give 1 or more.")


def traced_sample(source: LoadedSource, static: Mapping[str, int]) -> Inputs:
    """The sample to trace with: the source's own, or one at the sizes of `--static`.

    Raises ConfigError for a dimension that the source does not have or a size it cannot take.
    """
    known = tuple(dict.fromkeys(s for axes in source.dynamic_axes.values() for s in axes.values()))
    check_static(static, known, source.id)
    if not static:
        return dict(source.sample_inputs)
    if source.tokenizer is not None and source.max_length is not None:
        batch = static.get("batch", 3)
        length = static.get("sequence", min(source.max_length, _SAMPLE_TOKENS))
        # A single row has to show padding by itself: torch.export drops an all-ones mask.
        return _text(source, batch, length, filled=batch > 1)
    if source.image_processor is not None:
        return _pictures(source, static, 2, TRACED_SIZE)
    if source.feature_extractor is not None:
        batch = static.get("batch", 2)
        return _sounds(source, static, batch, TRACED_SAMPLES, filled=batch > 1)
    sizes = {**sizes_of(source, source.sample_inputs), **static}
    return _resized(source, sizes, seed=1)


def parity_cases(source: LoadedSource, sample: Inputs, static: Mapping[str, int]) -> list[Case]:
    """At least four batches of other shapes than `sample`, where a dimension varies at all.

    With every dimension fixed, other values at the one shape are all there is: one batch of
    tensors, or texts that fill the shape and texts that are mostly padding.
    """
    if source.tokenizer is None and not sizes_of(source, sample).keys() - static.keys():
        return [Case("other values", _other_values(sample), {})]
    make = _tensor_cases
    if source.tokenizer is not None:
        make = _text_cases
    elif source.image_processor is not None:
        make = _picture_cases
    elif source.feature_extractor is not None:
        make = _sound_cases
    cases = make(source, sample, static)
    traced = {name: value.shape for name, value in sample.items()}
    fresh = [c for c in cases if {n: v.shape for n, v in c.inputs.items()} != traced]
    return fresh or _distinct(cases)


def _distinct(cases: Sequence[Case]) -> list[Case]:
    kept: list[Case] = []
    for case in cases:
        if not any(_same(case.inputs, other.inputs) for other in kept):
            kept.append(case)
    return kept


def _same(first: Mapping[str, Tensor], second: Mapping[str, Tensor]) -> bool:
    return all(torch.equal(value, second[name]) for name, value in first.items())


def _other_values(sample: Mapping[str, Tensor]) -> Inputs:
    """The sample's shapes with other numbers in them: noise on floats, integers only if need be.

    Integers may be lengths or indices that must fit each other: they are shuffled, each input's
    own, only where there is no float to vary.
    """
    generator = torch.Generator().manual_seed(3)
    floats = any(value.is_floating_point() for value in sample.values())
    made: Inputs = {}
    for name, value in sample.items():
        if value.is_floating_point():
            made[name] = _noisy(value, generator)
        elif floats:
            made[name] = value
        else:
            order = torch.randperm(value.numel(), generator=generator)
            made[name] = value.flatten()[order].reshape(value.shape)
    return made


def sizes_of(source: LoadedSource, inputs: Mapping[str, Tensor]) -> dict[str, int]:
    """The size of each symbol in a batch. Raises ExportError where two axes of one disagree."""
    sizes: dict[str, int] = {}
    for name, axes in source.dynamic_axes.items():
        for axis, symbol in axes.items():
            size = inputs[name].shape[axis]
            if sizes.setdefault(symbol, size) != size:
                raise ExportError(
                    f"The dimension {symbol!r} is {sizes[symbol]} in one sample input and {size}"
                    f" in {name}.",
                    hint="Give dimensions that differ different names with --input.",
                )
    return sizes


def golden_inputs(source: LoadedSource, static: Mapping[str, int], per_row: int) -> Inputs | None:
    """A small padded batch for the golden file, or None where none is small enough.

    `per_row` are the bytes of output for one row (with tokens: for one token; with samples: for
    one sample).
    """
    if source.feature_extractor is not None:
        return _golden_sounds(source, static, per_row)
    if source.image_processor is not None:
        for rows in (static["batch"],) if "batch" in static else (2, 1):
            pictures = _pictures(source, static, rows, TRACED_SIZE, start=3)
            given = sum(value.nbytes for value in pictures.values())
            # The bundle's own answer stands in the same file, as do the inputs.
            if 2 * per_row * rows + given <= 2 * _GOLDEN_BYTES:
                return pictures
        return None
    if source.tokenizer is None:
        rows = static.get("batch", 2)
        if per_row * rows > _GOLDEN_BYTES:
            rows = 1
        if per_row * rows > _GOLDEN_BYTES:
            return None
        sizes = {**sizes_of(source, source.sample_inputs), **static}
        if "batch" in sizes:
            sizes["batch"] = static.get("batch", rows)
        return _resized(source, sizes, seed=2)
    length = static.get("sequence")
    batch = static.get("batch")
    for rows in (batch,) if batch else (2, 1):
        for tokens in (length,) if length else _GOLDEN_TOKENS:
            if per_row * rows * tokens <= _GOLDEN_BYTES:
                return _text(source, rows, tokens)
    return None


def _text_cases(source: LoadedSource, sample: Inputs, static: Mapping[str, int]) -> list[Case]:
    assert source.max_length is not None
    longest = min(source.max_length, _LONGEST)
    traced = sample["input_ids"].shape[1]
    odd = min(17 if traced != 17 else 19, longest)
    wanted: tuple[tuple[str, int, int | None, bool], ...] = (
        ("batch 1", 1, None, True),
        ("padded rows", 4, None, True),
        ("longest", 2 if longest <= 512 else 1, longest, True),
        ("odd", 5, odd, True),
        ("mostly padding", 1, min(12, longest), False),
    )
    cases = []
    for name, batch, length, filled in wanted:
        batch = static.get("batch", batch)
        inputs = _text(source, batch, static.get("sequence", length), filled=filled)
        cases.append(Case(name, inputs, sizes_of(source, inputs)))
    return cases


def _text(source: LoadedSource, batch: int, length: int | None, *, filled: bool = True) -> Inputs:
    assert source.tokenizer is not None
    assert source.max_length is not None
    limit = source.max_length
    if length is not None and length > limit:
        raise ConfigError(
            f"--static sequence={length} is longer than the {limit} tokens that {source.id} takes.",
            hint=f"Give {limit} or less.",
        )
    # Starting at another row each time: neighbours of very different length are always together.
    start = 0 if batch > 1 else 1
    rows = [(start + index) % len(SAMPLE_TEXTS) for index in range(batch)]
    return sample_batch(
        source.tokenizer,
        tuple(source.sample_inputs),
        task=source.task,
        max_length=limit,
        rows=rows,
        length=length,
        filled=filled,
    )


def _picture_cases(source: LoadedSource, sample: Inputs, static: Mapping[str, int]) -> list[Case]:
    """Few pictures at a time: one costs as much as hundreds of tokens."""
    wanted = (
        ("batch 1", 1, (64, 160)),
        ("batch of 4", 4, (131, 97)),
        ("another", 3, (160, 224)),
    )
    cases = []
    for index, (name, batch, size) in enumerate(wanted):
        inputs = _pictures(source, static, batch, size, start=4 * index + 2)
        cases.append(Case(name, inputs, sizes_of(source, inputs)))
    return cases


def _pictures(
    source: LoadedSource,
    static: Mapping[str, int],
    batch: int,
    size: tuple[int, int],
    *,
    start: int = 0,
) -> Inputs:
    """Prepared pictures at the sizes of `static`, else at the given ones where they may vary."""
    assert source.image_processor is not None
    varying = {symbol for axes in source.dynamic_axes.values() for symbol in axes.values()}
    chosen = None
    if "height" in varying:
        chosen = (static.get("height", size[0]), static.get("width", size[1]))
    return picture_batch(
        source.image_processor,
        tuple(source.sample_inputs),
        count=static.get("batch", batch),
        start=start,
        size=chosen,
    )


def _sound_cases(source: LoadedSource, sample: Inputs, static: Mapping[str, int]) -> list[Case]:
    """Few sounds at a time, and short ones: a second costs as much as fifty tokens."""
    wanted = (
        ("batch 1", 1, 9_731, True),
        ("batch of 4", 4, 3_203, True),
        ("a second and more", 3, 17_389, True),
        ("mostly padding", 1, 7_919, False),
    )
    cases = []
    for index, (name, batch, samples, filled) in enumerate(wanted):
        rows = static.get("batch", batch)
        inputs = _sounds(source, static, rows, samples, start=4 * index + 2, filled=filled)
        cases.append(Case(name, inputs, sizes_of(source, inputs)))
    return cases


def _golden_sounds(source: LoadedSource, static: Mapping[str, int], per_row: int) -> Inputs | None:
    """Some seconds, fewer where the answers to them would be too large."""
    assert source.feature_extractor is not None
    for seconds in _GOLDEN_SECONDS:
        samples = seconds * int(source.feature_extractor.sampling_rate)
        for rows in (static["batch"],) if "batch" in static else (2, 1):
            sounds = _sounds(source, static, rows, samples, start=3)
            given = sum(value.nbytes for value in sounds.values())
            waves = "samples" in sizes_of(source, sounds)
            answer = per_row * rows * (next(iter(sounds.values())).shape[1] if waves else 1)
            # The bundle's own answer stands in the same file, as do the inputs.
            if 2 * answer + given <= 2 * _GOLDEN_BYTES:
                return sounds
    return None


def _sounds(
    source: LoadedSource,
    static: Mapping[str, int],
    batch: int,
    samples: int,
    *,
    start: int = 0,
    filled: bool = True,
) -> Inputs:
    """Prepared sounds of so many samples, or as many as `static` fixes.

    Raises ConfigError for fewer than the model makes a frame of.
    """
    assert source.feature_extractor is not None
    assert source.config is not None
    least = shortest(source.config)
    length = static.get("samples", samples)
    if length < least:
        raise ConfigError(
            f"--static samples={length} is less than the {least} samples that {source.id} takes.",
            hint=f"Give {least} or more.",
        )
    return sound_batch(
        source.feature_extractor,
        tuple(source.sample_inputs),
        count=static.get("batch", batch),
        samples=length,
        least=least,
        start=start,
        filled=filled,
    )


def _tensor_cases(source: LoadedSource, sample: Inputs, static: Mapping[str, int]) -> list[Case]:
    traced = sizes_of(source, sample)
    variants: tuple[tuple[str, Callable[[int], int], int], ...] = (
        ("batch 1", lambda size: size + 2, 1),
        ("long", lambda size: min(3 * size, size + 64), 2),
        ("odd", lambda size: 2 * size + 1, 5),
        ("large batch", lambda size: size + 1, 16),
        ("another", lambda size: size + 3, 3),
    )
    cases = []
    for index, (name, other, batch) in enumerate(variants):
        sizes = {symbol: other(size) for symbol, size in traced.items()}
        if "batch" in sizes:
            sizes["batch"] = batch
        sizes |= static
        inputs = _resized(source, sizes, seed=index + 3)
        cases.append(Case(name, inputs, sizes))
    return cases


def _resized(source: LoadedSource, sizes: Mapping[str, int], *, seed: int) -> Inputs:
    """The sample at other sizes: its own slices drawn at random, floats with a little noise.

    Drawing keeps ids and masks valid; the noise tells rows apart that come from the same one.
    """
    generator = torch.Generator().manual_seed(seed)
    resized: Inputs = {}
    for name, value in source.sample_inputs.items():
        for axis, symbol in source.dynamic_axes[name].items():
            choice = torch.randint(value.shape[axis], (sizes[symbol],), generator=generator)
            value = value.index_select(axis, choice)
        resized[name] = _noisy(value, generator) if value.is_floating_point() else value
    return resized


def _noisy(value: Tensor, generator: torch.Generator) -> Tensor:
    """The values with a tenth of their spread as noise."""
    noise = torch.randn(value.shape, generator=generator).to(value.dtype)
    spread = value.float().std().nan_to_num().to(value.dtype) if value.numel() > 1 else 0
    if not spread:
        # All alike, as the zeros of an initial state. Only upwards: it may be a root's argument.
        return value + 0.1 * noise.abs()
    return value + 0.1 * spread * noise
