"""A processor of kind ``audio``, read and checked: how a sound becomes a graph's tensor.

The operations run in the order in which they stand: those on the samples (``fill``,
``standardize``) come first, then ``log_mel``, then those on its numbers (``clamp``, ``frames``,
``normalize``). It is the order of transformers' feature extractors, whose arithmetic they repeat.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import TypeAlias

from edgekit.core._processor_reader import PROCESSOR_KEYS, SOUND_OPS
from edgekit.core.errors import BundleCorrupt, BundleVersion
from edgekit.runtime.fields import UPGRADE, flag, number, only, short, whole, word_of
from edgekit.runtime.sound.decoding import RATES

WINDOWS = ("hann", "hann-symmetric")
SCALES = ("slaney", "kaldi")
LOGS = ("ln", "log10")
LAYOUTS = ("frames-first", "bins-first")

#: The most numbers of one sound's tensor, and of its samples: 256 MB.
MOST_NUMBERS = 1 << 26
_LONGEST_FRAME = 1 << 16
_MOST_BINS = 1024
_MOST_CONVOLUTIONS = 32
# The most weights of filters: a power of two of samples by bins.
_MOST_FILTERS = 1 << 22
# The narrowest band that still has bins, in Hz, and the least that numbers are divided by; what is
# taken from them is at most its inverse.
_NARROWEST = 1.0
_LEAST = 1e-6
# What is added before a root is taken: less is nothing in float32.
_LEAST_EPSILON = 1e-30


@dataclass(frozen=True)
class Fill:
    """Cut, or filled up with zeros, to exactly so many samples."""

    samples: int


@dataclass(frozen=True)
class Standardize:
    """(sample − mean) / √(variance + epsilon), each over the whole sound."""

    epsilon: float


@dataclass(frozen=True)
class LogMel:
    """The logarithm of a mel spectrogram.

    Of every ``hop`` samples a ``frame`` is taken, with ``center`` around them (reflected at the
    ends); less its mean with ``remove_mean``, less the sample before times ``preemphasis``, under a
    ``window``, filled up to ``fft``. Its powers are added up by ``bins`` triangles from ``low`` to
    ``high`` Hz on a mel ``scale``, of the area one with ``unit_area``; at least ``floor``, they
    are logarithms then. ``drop_last`` leaves the last frame out.
    """

    frame: int
    hop: int
    fft: int
    bins: int
    low: float
    high: float
    window: str = "hann"
    center: bool = False
    remove_mean: bool = False
    preemphasis: float = 0.0
    scale: str = "slaney"
    unit_area: bool = False
    floor: float = 1e-10
    log: str = "ln"
    drop_last: bool = False
    layout: str = "frames-first"

    def count(self, samples: int) -> int:
        """The frames of so many samples."""
        held = samples + 2 * (self.frame // 2) if self.center else samples
        return max(0, 1 + (held - self.frame) // self.hop - self.drop_last)

    @property
    def shortest(self) -> int:
        """The fewest samples of which there is a frame, and enough to reflect."""
        needed = self.frame + self.hop * self.drop_last
        if not self.center:
            return needed
        return max(self.frame // 2 + 1, needed - 2 * (self.frame // 2))


@dataclass(frozen=True)
class Clamp:
    """Nothing is further below the largest value than this."""

    below: float


@dataclass(frozen=True)
class Frames:
    """Cut, or filled up with zeros, to exactly so many frames."""

    count: int


@dataclass(frozen=True)
class Normalize:
    """(value − mean) / std."""

    mean: float
    std: float


Op: TypeAlias = Fill | Standardize | LogMel | Clamp | Frames | Normalize
# The order in which they may stand.
_STAGES: Mapping[type[Op], int] = {
    Fill: 0, Standardize: 0, LogMel: 1, Clamp: 2, Frames: 2, Normalize: 2,
}  # fmt: skip


@dataclass(frozen=True)
class SoundRules:
    """A processor of kind ``audio``.

    ``sampling_rate`` is what every sound is brought to. ``longest`` are the most samples that are
    read at once. ``convolutions`` are the (kernel, stride) of those by which a graph makes frames
    of samples, if it does: they tell how many frames there are, and the fewest samples. ``inputs``
    are the graph's: the values, and where it takes one the mask of the samples that are no padding.
    """

    sampling_rate: int
    longest: int
    convolutions: tuple[tuple[int, int], ...]
    ops: tuple[Op, ...]
    inputs: tuple[str, ...]
    post: Mapping[str, object]

    @property
    def log_mel(self) -> LogMel | None:
        """The spectrogram, where the graph takes one."""
        return next((op for op in self.ops if isinstance(op, LogMel)), None)

    @property
    def window(self) -> int | None:
        """The samples from the beginning of a sound that its tensor depends on; None for all."""
        taken: int | None = None
        for op in self.ops:
            if isinstance(op, Fill):
                taken = op.samples
            elif isinstance(op, Frames) and self.log_mel is not None and taken is None:
                mel = self.log_mel
                taken = mel.frame + (op.count - 1 + mel.drop_last) * mel.hop
        return taken

    @property
    def shortest(self) -> int:
        """The fewest samples that a sound may have."""
        if any(isinstance(op, Fill) for op in self.ops):
            return 1
        if self.log_mel is not None:
            return self.log_mel.shortest
        needed = 1
        for kernel, stride in reversed(self.convolutions):
            needed = (needed - 1) * stride + kernel
        return needed

    @property
    def ratio(self) -> int:
        """Samples by which neighbouring frames of the graph lie apart."""
        return math.prod(stride for _, stride in self.convolutions)

    def frames(self, samples: int) -> int:
        """How many frames the graph's convolutions make of so many samples."""
        count = samples
        for kernel, stride in self.convolutions:
            count = (count - kernel) // stride + 1
        return max(0, count)

    def shape(self, samples: int) -> tuple[int, ...]:
        """The shape of the tensor of a sound, without the batch."""
        mel = self.log_mel
        count = samples
        for op in self.ops:
            if isinstance(op, Fill):
                count = op.samples
            elif isinstance(op, LogMel):
                count = op.count(count)
            elif isinstance(op, Frames):
                count = op.count
        if mel is None:
            return (count,)
        return (count, mel.bins) if mel.layout == "frames-first" else (mel.bins, count)


def read_sound_rules(processor: Mapping[str, object]) -> SoundRules:
    """The checked rules of a processor of kind ``audio``.

    Raises:
        BundleVersion: an operation, key or word that this edgekit does not know.
        BundleCorrupt: a value that is not what it should be, or operations out of order.
    """
    if processor.get("kind") != "audio":
        raise BundleVersion(f"The processor is of kind {processor.get('kind')!r}, not 'audio'.")
    only(processor, "processor", tuple(sorted(PROCESSOR_KEYS["audio"])))
    listed = processor.get("ops")
    if not isinstance(listed, list | tuple) or len(listed) > len(_OPS):
        raise BundleCorrupt(
            f"processor.ops should be a list of up to {len(_OPS)} operations, got {short(listed)}."
        )
    ops = tuple(_op(value, f"processor.ops[{place}]") for place, value in enumerate(listed))
    order = "fill and standardize come first, then log_mel, then clamp, frames and normalize."
    for earlier, later in pairwise(ops):
        if _STAGES[type(earlier)] > _STAGES[type(later)]:
            raise BundleCorrupt(
                f"processor.ops has {_name(later)} behind {_name(earlier)}.", hint=order
            )
    twice = next((op for at, op in enumerate(ops) if type(op) in map(type, ops[:at])), None)
    if twice is not None:
        raise BundleCorrupt(f"processor.ops has {_name(twice)} twice.", hint=f"{order} Each once.")
    if ops and _STAGES[type(ops[-1])] == 2 and not any(isinstance(op, LogMel) for op in ops):
        raise BundleCorrupt(f"processor.ops has {_name(ops[-1])} without log_mel.")
    post = processor.get("post", {})
    if not isinstance(post, Mapping):
        raise BundleCorrupt(f"processor.post should be an object, got {short(post)}.")
    rules = SoundRules(
        sampling_rate=whole(processor, "sampling_rate", "processor", RATES.start, RATES.stop - 1),
        longest=whole(processor, "longest", "processor", 1, MOST_NUMBERS),
        convolutions=_convolutions(processor),
        ops=ops,
        inputs=_inputs(processor),
        post=post,
    )
    _check_sizes(rules)
    return rules


def _check_sizes(rules: SoundRules) -> None:
    """Refuse tensors that no memory holds, and frequencies that the rate does not have."""
    mel = rules.log_mel
    if mel is not None:
        band = 0 <= mel.low <= mel.high - _NARROWEST and mel.high <= rules.sampling_rate / 2
        if mel.frame > mel.fft or not band:
            raise BundleCorrupt(
                f"processor.ops has a log_mel of frames of {mel.frame} in {mel.fft} samples, from"
                f" {mel.low:g} to {mel.high:g} Hz at {rules.sampling_rate} Hz.",
                hint="A frame is no longer than its fft, a frequency at most half of the rate, and"
                f" a band at least {_NARROWEST:g} Hz wide.",
            )
        if (mel.fft // 2 + 1) * mel.bins > _MOST_FILTERS:
            raise BundleCorrupt(
                f"processor.ops has a log_mel of {mel.bins} bins of {mel.fft // 2 + 1} frequencies;"
                f" the limit is {_MOST_FILTERS:,} weights."
            )
        if len(rules.inputs) > 1 or rules.convolutions:
            raise BundleCorrupt(
                "processor.ops has log_mel, so there is neither a mask nor are there convolutions"
                " of samples."
            )
    if rules.shortest > rules.longest:
        raise BundleCorrupt(
            f"processor.longest is {rules.longest} samples; the shortest sound that the model"
            f" takes has {rules.shortest}."
        )
    longest = rules.window or rules.longest
    for step in range(len(rules.ops) + 1):
        # Also what is made on the way, and cut later.
        shape = replace(rules, ops=rules.ops[:step]).shape(longest)
        if max(longest, math.prod(shape)) > MOST_NUMBERS:
            raise BundleCorrupt(
                f"The processor makes tensors of {list(shape)} of {longest:,} samples; the limit is"
                f" {MOST_NUMBERS // 10**6} million numbers."
            )
    filled = next((op.samples for op in rules.ops if isinstance(op, Fill)), None)
    if mel is not None and filled is not None and filled < mel.shortest:
        raise BundleCorrupt(
            f"processor.ops fills sounds up to {filled} samples, of which log_mel makes no frame:"
            f" it takes at least {mel.shortest}."
        )


def _convolutions(processor: Mapping[str, object]) -> tuple[tuple[int, int], ...]:
    listed = processor.get("convolutions", [])
    wrong = BundleCorrupt(
        f"processor.convolutions lists up to {_MOST_CONVOLUTIONS} pairs of kernel and stride, got"
        f" {short(listed)}."
    )
    if not isinstance(listed, list | tuple) or len(listed) > _MOST_CONVOLUTIONS:
        raise wrong
    found: list[tuple[int, int]] = []
    for pair in listed:
        if not isinstance(pair, list | tuple) or len(pair) != 2:
            raise wrong
        sizes = {"kernel": pair[0], "stride": pair[1]}
        kernel, stride = (
            whole(sizes, key, "processor.convolutions", 1, _LONGEST_FRAME) for key in sizes
        )
        found.append((kernel, stride))
    if math.prod(stride for _, stride in found) > MOST_NUMBERS:
        raise wrong
    return tuple(found)


def _inputs(processor: Mapping[str, object]) -> tuple[str, ...]:
    names = processor.get("inputs", ["input_values"])
    if (
        not isinstance(names, list | tuple)
        or len(names) not in (1, 2)
        or not all(isinstance(name, str) and name for name in names)
    ):
        raise BundleCorrupt(
            "processor.inputs names the input of the values and that of the mask, got"
            f" {short(names)}.",
            hint='Write ["input_values"] or ["input_values", "attention_mask"].',
        )
    return tuple(names)


def _op(value: object, where: str) -> Op:
    if not isinstance(value, Mapping):
        raise BundleCorrupt(f"{where} should be an object, got {short(value)}.")
    word = value.get("op")
    if not isinstance(word, str) or word not in _OPS:
        raise BundleVersion(
            f"{where}.op is {short(word)}; this edgekit knows {', '.join(_OPS)}.", hint=UPGRADE
        )
    only(value, where, ("op", *SOUND_OPS[word]))
    return _OPS[word][1](value, where)


def _log_mel(value: Mapping[str, object], where: str) -> Op:
    floor = number(value, "floor", where, 1e-10)
    preemphasis = number(value, "preemphasis", where, 0.0)
    if not 0 <= preemphasis <= 1:
        raise BundleCorrupt(f"{where}.preemphasis is from 0 to 1, got {preemphasis:g}.")
    if floor <= 0:
        raise BundleCorrupt(f"{where}.floor should be above 0, got {floor:g}.")
    return LogMel(
        frame=whole(value, "frame", where, 2, _LONGEST_FRAME),
        hop=whole(value, "hop", where, 1, _LONGEST_FRAME),
        fft=whole(value, "fft", where, 2, _LONGEST_FRAME),
        bins=whole(value, "bins", where, 1, _MOST_BINS),
        low=number(value, "low", where),
        high=number(value, "high", where),
        window=word_of(value, "window", WINDOWS, WINDOWS[0], where),
        center=flag(value, "center", where),
        remove_mean=flag(value, "remove_mean", where),
        preemphasis=preemphasis,
        scale=word_of(value, "scale", SCALES, SCALES[0], where),
        unit_area=flag(value, "unit_area", where),
        floor=floor,
        log=word_of(value, "log", LOGS, LOGS[0], where),
        drop_last=flag(value, "drop_last", where),
        layout=word_of(value, "layout", LAYOUTS, LAYOUTS[0], where),
    )


def _standardize(value: Mapping[str, object], where: str) -> Op:
    epsilon = number(value, "epsilon", where, 1e-7)
    if epsilon < _LEAST_EPSILON:
        raise BundleCorrupt(
            f"{where}.epsilon should be at least {_LEAST_EPSILON:g}, got {epsilon:g}."
        )
    return Standardize(epsilon)


def _clamp(value: Mapping[str, object], where: str) -> Op:
    below = number(value, "below", where)
    if below <= 0:
        raise BundleCorrupt(f"{where}.below should be above 0, got {below:g}.")
    return Clamp(below)


def _normalize(value: Mapping[str, object], where: str) -> Op:
    mean, std = number(value, "mean", where), number(value, "std", where)
    if abs(std) < _LEAST or abs(mean) > 1 / _LEAST:
        raise BundleCorrupt(
            f"{where}.std should be at least {_LEAST:g} and mean at most {1 / _LEAST:g}, got"
            f" {std:g} and {mean:g}."
        )
    return Normalize(mean, std)


_OPS: Mapping[str, tuple[type[Op], Callable[[Mapping[str, object], str], Op]]] = {
    "fill": (Fill, lambda value, at: Fill(whole(value, "samples", at, 1, MOST_NUMBERS))),
    "standardize": (Standardize, _standardize),
    "log_mel": (LogMel, _log_mel),
    "clamp": (Clamp, _clamp),
    "frames": (Frames, lambda value, at: Frames(whole(value, "count", at, 1, MOST_NUMBERS))),
    "normalize": (Normalize, _normalize),
}


def _name(op: Op) -> str:
    return next(word for word, (kind, _) in _OPS.items() if kind is type(op))
