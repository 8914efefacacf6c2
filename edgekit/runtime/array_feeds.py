"""Inputs for a model that nobody has texts, pictures or sounds for: golden ones, or random ones."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from edgekit.core.bundle import Bundle
from edgekit.core.errors import ConfigError
from edgekit.core.manifest import TensorSpec
from edgekit.runtime import golden
from edgekit.runtime.batching import batch_symbol
from edgekit.runtime.session import Array, contiguous

# The size of a dimension that nothing says anything about.
_UNKNOWN = 16
# How long a sound is that nothing says anything about: what somebody says in a breath.
_SECONDS = 5


def array_feeds(
    bundle: Bundle,
    specs: Sequence[TensorSpec],
    batch: int,
    seed: int,
    known: Mapping[str, Array] | None,
) -> dict[str, Array]:
    """Golden inputs brought to the batch; random arrays where there are none."""
    stored = bundle.manifest.golden
    if known is None:
        known = golden.read(bundle.file(stored.file)).inputs if stored is not None else {}
    symbol = batch_symbol(specs)
    if symbol is None and batch != 1:
        raise ConfigError(
            f"The bundle {bundle.path} has no axis for a batch, got --batch {batch}.",
            hint="Leave --batch out, or export with a varying first dimension.",
        )
    generator = np.random.default_rng(seed)
    processor = bundle.manifest.processor or {}
    sounds = processor.get("kind") == "audio"
    unknown = _unknown_samples(processor) if sounds else _UNKNOWN
    # Each of two towers has a batch of its own.
    batches = {size for spec in specs for size in spec.shape if str(size).endswith(".batch")}
    if symbol is not None:
        batches.add(symbol)
    feeds: dict[str, Array] = {}
    for spec in specs:
        array = known.get(spec.name)
        if array is None:
            sizes = [
                size if isinstance(size, int) else batch if size in batches else unknown
                for size in spec.shape
            ]
            # A mask of a sound hides what lies behind it, never this and that of it.
            mask = sounds and not np.issubdtype(np.dtype(spec.dtype), np.floating)
            array = np.ones(sizes, spec.dtype) if mask else _random(generator, spec, sizes)
        for axis, size in enumerate(spec.shape):
            if size in batches:
                array = np.take(array, np.arange(batch) % array.shape[axis], axis=axis)
        feeds[spec.name] = contiguous(array)
    return feeds


def _unknown_samples(processor: Mapping[str, object]) -> int:
    from edgekit.runtime.sound.rules import read_sound_rules

    rules = read_sound_rules(processor)
    return min(_SECONDS * rules.sampling_rate, rules.longest)


def _random(generator: np.random.Generator, spec: TensorSpec, sizes: Sequence[int]) -> Array:
    dtype = np.dtype(spec.dtype)
    if np.issubdtype(dtype, np.floating):
        return generator.standard_normal(tuple(sizes)).astype(dtype)
    # 0 and 1 are valid ids of every embedding and valid masks.
    return generator.integers(0, 2, size=tuple(sizes)).astype(dtype)
