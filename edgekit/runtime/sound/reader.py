"""`SoundReader`: how one graph reads sounds: whole or in pieces, and what is kept of its answer."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from edgekit.core.errors import BundleCorrupt, ConfigError
from edgekit.core.manifest import TensorSpec
from edgekit.runtime.batching import fixed_batch
from edgekit.runtime.session import Array
from edgekit.runtime.sound.processor import Encoded, Piece, SoundProcessor
from edgekit.runtime.sound.rules import MOST_NUMBERS, SoundRules, read_sound_rules
from edgekit.runtime.sound.tasks import SoundContext, make_sound_task

# What transformers' pipeline takes for the stride on either side: a sixth of a piece.
_STRIDE_PART = 6


class SoundReader:
    """The processor and the task of a graph. Safe to use from many threads at once.

    Raises MissingDependency, BundleCorrupt, BundleVersion.
    """

    def __init__(
        self,
        processor: Mapping[str, object],
        inputs: Sequence[TensorSpec],
        outputs: tuple[TensorSpec, ...],
        labels: tuple[str, ...] | None,
    ) -> None:
        rules, size = check_graph(processor, inputs)
        self.processor = SoundProcessor(processor, size=size)
        self.batch = fixed_batch(inputs, rules.inputs[0])
        self.task = make_sound_task(SoundContext(self.processor.rules, labels, outputs))
        self._dtypes = {spec.name: np.dtype(spec.dtype) for spec in inputs}

    def hear(self, item: object, options: Mapping[str, object] | None = None) -> Iterator[Piece]:
        """A sound as the task reads it: in pieces, or whole.

        Raises InputMismatch for what is no sound, ConfigError for seconds that do not fit.
        """
        if self.task.stride is None:
            yield self.processor.hear(item)
        else:
            most, stride = self._cut(options or {}, self.task.stride)
            yield from self.processor.hear_pieces(item, most, stride)

    def encode(
        self, item: object, options: Mapping[str, object] | None = None
    ) -> Iterator[Encoded]:
        """What `hear` gives, prepared."""
        for piece in self.hear(item, options):
            yield self.processor.prepare(piece)

    def feeds(self, pieces: Sequence[Encoded]) -> dict[str, Array]:
        """The graph's inputs for prepared sounds, in its types.

        A graph that takes a fixed number of them gets the last one several times.
        """
        missing = (self.batch or len(pieces)) - len(pieces)
        made = self.processor.collate([*pieces, *[pieces[-1]] * missing])
        return {name: array.astype(self._dtypes[name], copy=False) for name, array in made.items()}

    def _cut(self, options: Mapping[str, object], stride: int) -> tuple[int, int]:
        """The samples of a piece, and of what two of them share on a side."""
        rules = self.processor.rules
        most = rules.longest - rules.longest % rules.ratio
        if most < rules.shortest:
            most = rules.longest
        chunk, side = (options.get(key) for key in ("chunk_length_s", "stride_length_s"))
        if chunk is None and side is None:
            # What a graph of few samples cannot keep, or would hear for the sake of the rest alone.
            own = most // _STRIDE_PART // rules.ratio * rules.ratio
            shared = stride - stride % rules.ratio
            return most, shared if 3 * shared <= most else own
        if chunk is not None:
            most = self._aligned("chunk_length_s", chunk, most)
            assert isinstance(chunk, int | float)
            stride = self._aligned("stride_length_s", chunk / _STRIDE_PART, most)
        if side is not None:
            stride = self._aligned("stride_length_s", side, most)
        if most < rules.shortest or 2 * stride >= most:
            raise ConfigError(
                f"Two strides of {stride / rules.sampling_rate:g} seconds leave too little of a"
                f" piece of {most / rules.sampling_rate:g}.",
                hint="Give a longer chunk_length_s or a shorter stride_length_s.",
            )
        return most, stride

    def _aligned(self, key: str, seconds: object, most: int) -> int:
        """Seconds of an option as samples, a whole number of frames. Raises ConfigError."""
        rules = self.processor.rules
        longest = most / rules.sampling_rate
        if (
            isinstance(seconds, bool)
            or not isinstance(seconds, int | float)
            or not 0 <= seconds <= longest
        ):
            raise ConfigError(
                f"{key} is a number of seconds, at most {longest:g} for this bundle, got"
                f" {seconds!r}."
            )
        frames = round(seconds * rules.sampling_rate / rules.ratio)
        return min(frames * rules.ratio, most)


def check_graph(
    processor: Mapping[str, object], inputs: Sequence[TensorSpec]
) -> tuple[SoundRules, int | None]:
    """A processor's rules and the samples that the graph fixes, if they fit each other.

    Raises BundleCorrupt, BundleVersion.
    """
    rules = read_sound_rules(processor)
    taken = {spec.name: spec for spec in inputs}
    # What the processor makes of every sound alike; None of waves, which are as long as they are.
    made = rules.shape(rules.window) if rules.window is not None else None
    rank = 1 + (2 if rules.log_mel is not None else 1)
    if set(taken) != set(rules.inputs) or len(taken[rules.inputs[0]].shape) != rank:
        raise BundleCorrupt(
            f"The graph takes {', '.join(map(str, inputs))}; the processor makes"
            f" {', '.join(rules.inputs)}, the first of {rank} dimensions.",
            hint="Export the bundle again.",
        )
    sizes = taken[rules.inputs[0]].shape[1:]
    fixed = [size for size in sizes if isinstance(size, int)]
    if made is not None and len(fixed) == len(sizes) and tuple(fixed) != made:
        raise BundleCorrupt(
            f"The processor makes {list(made)} of a sound, the graph takes {list(sizes)}.",
            hint="Export the bundle again.",
        )
    one = 1
    for number in made or fixed:
        one *= number
    batch = fixed_batch(inputs, rules.inputs[0]) or 1
    if batch * one > MOST_NUMBERS:
        raise BundleCorrupt(
            f"The graph takes {batch} sounds of {one:,} numbers at once; the limit is"
            f" {MOST_NUMBERS // 10**6} million.",
            hint="Export with a smaller --static batch or samples.",
        )
    wave = made is None and rules.log_mel is None
    return rules, fixed[0] if wave and fixed else None
