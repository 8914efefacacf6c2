"""How far a quantized graph's answers lie from those of the graph it was made from."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from edgekit.evaluation.numerics import DIVERGENCES, Likelihood, likelihood_of
from edgekit.runtime.session import Array

Measure = Literal["NMSE", "KL"]


@dataclass
class _Sums:
    """Of one output; ``signal`` is the square sum of the reference, or the number of choices."""

    noise: float = 0.0
    signal: float = 0.0
    likelihood: Likelihood | None = None

    @property
    def value(self) -> float:
        if self.signal:
            return self.noise / self.signal
        return math.inf if self.noise else 0.0


@dataclass
class OutputError:
    """The error of a graph's outputs, added up call by call: small, and additive over its causes.

    Of logits it is the Kullback–Leibler divergence of the probabilities, in nats per choice; of
    other outputs the power of the noise as a share of the signal's, ‖y − x‖² / ‖x‖². Noises of
    several layers that know nothing of each other add up in both. Several outputs give their mean;
    NaN, infinities and outputs of another shape give infinity.

    ``problem`` is the kind of classification, in the words of transformers' ``problem_type``.
    """

    problem: str | None = None
    _outputs: dict[str, _Sums] = field(default_factory=dict)

    def add(self, reference: Mapping[str, Array], candidate: Mapping[str, Array]) -> None:
        """Add the outputs of one call, which both were given the same inputs for."""
        for name, array in reference.items():
            known = self._outputs.get(name)
            if known is None:
                floating = np.issubdtype(array.dtype, np.floating) and array.ndim > 0
                several = floating and array.shape[-1] > 1
                known = _Sums(likelihood=likelihood_of(name, self.problem) if several else None)
                self._outputs[name] = known
            answer = candidate.get(name)
            if answer is None or answer.shape != array.shape:
                known.noise = math.inf
            elif array.size:
                _add(known, array, answer)

    @property
    def value(self) -> float:
        """The error so far; infinite where it is no number. Never NaN."""
        values = [sums.value for sums in self._outputs.values()]
        if not values:
            return 0.0
        mean = math.fsum(values) / len(values) if all(map(math.isfinite, values)) else math.inf
        return max(mean, 0.0)

    @property
    def measure(self) -> Measure:
        """What the value is: "KL" where there are logits, else "NMSE"."""
        logits = any(sums.likelihood is not None for sums in self._outputs.values())
        return "KL" if logits else "NMSE"


def _add(sums: _Sums, reference: Array, candidate: Array) -> None:
    if not (np.issubdtype(reference.dtype, np.floating) or np.iscomplexobj(reference)):
        # Whole numbers: the share of those that are others.
        sums.noise += float(np.count_nonzero(reference != candidate))
        sums.signal += reference.size
        return
    x, y = reference.astype(np.float64), candidate.astype(np.float64)
    if not np.isfinite(y).all():
        sums.noise = math.inf
        return
    if sums.likelihood is not None:
        found = DIVERGENCES[sums.likelihood](x, y)
        sums.noise += float(found.sum())
        sums.signal += found.size
        return
    sums.noise += float(np.square(y - x).sum())
    sums.signal += float(np.square(x).sum())
