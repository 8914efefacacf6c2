"""Numbers of samples, in numpy: standardized waves and logarithms of mel spectrograms.

The steps and their order are those of transformers' feature extractors.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from edgekit.runtime.sound.decoding import Samples
from edgekit.runtime.sound.rules import (
    Clamp,
    Fill,
    Frames,
    LogMel,
    Normalize,
    SoundRules,
    Standardize,
)

Floats = NDArray[np.float64]

# Frames that are transformed at a time: 4 MB of them.
_STRIPE = 1 << 19


class Features:
    """What the operations of some rules make of samples; holds the filters, computed once."""

    def __init__(self, rules: SoundRules) -> None:
        self._rules = rules
        mel = rules.log_mel
        self._filters = None if mel is None else mel_filters(mel, rules.sampling_rate)
        self._window = None if mel is None else hann_window(mel)

    def __call__(self, samples: Samples) -> NDArray[np.float32]:
        """The tensor of one sound, without a batch axis."""
        values: NDArray[np.float32] | Floats = samples
        for op in self._rules.ops:
            if isinstance(op, Fill):
                values = _filled(values, op.samples, 0)
            elif isinstance(op, Standardize):
                values = _standardized(values, op)
            elif isinstance(op, LogMel):
                assert self._filters is not None
                assert self._window is not None
                values = log_mel(values, op, self._filters, self._window)
            elif isinstance(op, Clamp):
                values = np.maximum(values, values.max() - op.below)
            elif isinstance(op, Frames):
                mel = self._rules.log_mel
                first = mel is None or mel.layout == "frames-first"
                values = _filled(values, op.count, 0 if first else 1)
            elif isinstance(op, Normalize):
                values = (values - op.mean) / op.std
        return np.ascontiguousarray(values, dtype=np.float32)


def _filled(values: NDArray[np.generic], size: int, axis: int) -> NDArray[np.float32] | Floats:
    """Cut or filled up with zeros to a size along an axis."""
    kept = np.take(values, np.arange(min(size, values.shape[axis])), axis=axis)
    missing = size - kept.shape[axis]
    widths = [(0, missing if place == axis else 0) for place in range(kept.ndim)]
    return np.pad(kept, widths) if missing else kept


def _standardized(values: NDArray[np.generic], op: Standardize) -> NDArray[np.float32]:
    # In float32, as transformers does it: the mean of a wave that is far from zero rounds alike.
    wave = np.asarray(values, dtype=np.float32)
    return np.asarray((wave - wave.mean()) / np.sqrt(wave.var() + op.epsilon))


def log_mel(samples: NDArray[np.generic], op: LogMel, filters: Floats, window: Floats) -> Floats:
    """The logarithmic mel spectrogram ``[frames, bins]``, or transposed, as the op's layout says.

    Frames are transformed some at a time, so that no more than those are held.
    """
    wave = np.asarray(samples)
    if op.center:
        wave = np.pad(wave, op.frame // 2, mode="reflect")
    made = np.empty((op.count(len(samples)), op.bins))
    every = np.lib.stride_tricks.sliding_window_view(wave, op.frame)[:: op.hop]
    step = max(1, _STRIPE // op.fft)
    for start in range(0, len(made), step):
        stop = min(start + step, len(made))
        frames = every[start:stop].astype(np.float64)
        if op.remove_mean:
            frames -= frames.mean(axis=1, keepdims=True)
        if op.preemphasis:
            frames[:, 1:] -= op.preemphasis * frames[:, :-1]
            frames[:, 0] *= 1 - op.preemphasis
        frames *= window
        found = np.fft.rfft(frames, n=op.fft, axis=1)
        powers = np.square(found.real) + np.square(found.imag)
        made[start:stop] = powers @ filters
    np.maximum(made, op.floor, out=made)
    (np.log10 if op.log == "log10" else np.log)(made, out=made)
    return made if op.layout == "frames-first" else made.T


def hann_window(op: LogMel) -> Floats:
    """Hann's window, of which the periodic form lacks the last value of the symmetric one."""
    if op.window == "hann-symmetric":
        return np.hanning(op.frame)
    return np.hanning(op.frame + 1)[:-1]


def mel_filters(op: LogMel, rate: int) -> Floats:
    """The weights of each frequency in each bin, ``[fft // 2 + 1, bins]``.

    Triangles from one neighbour's peak to the other's. Those of ``slaney`` (M. Slaney: Auditory
    Toolbox, 1998) are straight over Hz, those of ``kaldi`` over mel (S. Stevens, J. Volkmann, E.
    Newman, 1937, in the form of D. O'Shaughnessy).
    """
    to_mel = _slaney if op.scale == "slaney" else _kaldi
    low, high = to_mel(np.array([op.low, op.high])).tolist()
    peaks: Floats = np.linspace(low, high, op.bins + 2)
    if op.scale == "slaney":
        places: Floats = np.linspace(0, rate // 2, op.fft // 2 + 1)
        peaks = _slaney_hertz(peaks)
    else:
        step = rate / (op.fft // 2 * 2)
        places = to_mel(np.arange(op.fft // 2 + 1, dtype=np.float64) * step)
    gaps = np.diff(peaks)
    rising = (places[:, None] - peaks[None, :-2]) / gaps[:-1]
    falling = (peaks[None, 2:] - places[:, None]) / gaps[1:]
    filters = np.maximum(0.0, np.minimum(rising, falling))
    if op.unit_area:
        filters *= 2.0 / (peaks[2:] - peaks[:-2])
    return np.asarray(filters)


# Up to 1 kHz three mels are 200 Hz; above, 27 of them are a factor of 6.4.
_BEND_HERTZ = 1000.0
_BEND_MEL = 15.0
_LOG_STEP = np.log(6.4) / 27.0


def _slaney(hertz: Floats) -> Floats:
    above = np.log(np.maximum(hertz, _BEND_HERTZ) / _BEND_HERTZ) / _LOG_STEP
    return np.where(hertz < _BEND_HERTZ, 3.0 * hertz / 200.0, _BEND_MEL + above)


def _slaney_hertz(mel: Floats) -> Floats:
    above = _BEND_HERTZ * np.exp(_LOG_STEP * (mel - _BEND_MEL))
    return np.where(mel < _BEND_MEL, 200.0 * mel / 3.0, above)


def _kaldi(hertz: Floats) -> Floats:
    return np.asarray(1127.0 * np.log1p(hertz / 700.0))
