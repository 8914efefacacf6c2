"""Whether a contender still answers what it answered at first, while it is being timed.

Only a sample of each output is kept and compared: the check must not show in the peak of memory.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import cast

import numpy as np

from edgekit.core.tolerance import FEW, Tolerance
from edgekit.runtime.golden import distance
from edgekit.runtime.session import Array

_MOST_VALUES = 1 << 16


@dataclass(frozen=True)
class Drift:
    """The output that moved most, as `edgekit.core.tolerance.Tolerance.accepts` takes it."""

    output: str
    max_abs: float
    max_ref: float
    cosine: float
    # A sample is flat: an output of few numbers altogether is known to have short rows.
    values: int = FEW

    def within(self, rule: Tolerance) -> bool:
        """Whether a tolerance allows it."""
        return rule.accepts(
            max_abs=self.max_abs,
            max_reference=self.max_ref,
            cosine=self.cosine,
            row=self.values,
        )

    def describe(self) -> str:
        """What moved, in a few words."""
        return f"output {self.output}: max |Δ| {self.max_abs:.3g}, cosine {self.cosine:.6g}"

    def to_json(self) -> dict[str, object]:
        """The record as the child tells it."""
        return asdict(self)

    @classmethod
    def from_json(cls, value: Mapping[str, object]) -> Drift:
        """The drift of a record. Raises KeyError, TypeError or ValueError when it is none."""
        max_abs, max_ref, cosine = (
            float(cast(float, value[key])) for key in ("max_abs", "max_ref", "cosine")
        )
        values = int(cast(int, value.get("values", FEW)))
        return cls(str(value["output"]), max_abs, max_ref, cosine, values)


def sampled(outputs: Mapping[str, Array]) -> dict[str, Array]:
    """An even selection of at most 65,536 values of each output that holds numbers."""
    found: dict[str, Array] = {}
    for name, array in outputs.items():
        if np.issubdtype(array.dtype, np.number) or array.dtype == np.bool_:
            flat = array.ravel()
            found[name] = flat[:: -(-flat.size // _MOST_VALUES) or 1].copy()
    return found


def drift(first: Mapping[str, Array], outputs: Mapping[str, Array]) -> Drift | None:
    """The largest change, in proportion, from the samples `first`; None where nothing is compared.

    An output that is gone or has another size has changed beyond every tolerance.
    """
    worst: Drift | None = None
    now = sampled(outputs)
    for name, reference in first.items():
        scale = float(np.abs(reference.astype(np.float64)).max()) if reference.size else 0.0
        array = now.get(name)
        if array is None or array.size != reference.size:
            return Drift(name, float("inf"), scale, -1.0)
        max_abs, cosine = distance(array, reference)
        found = Drift(name, max_abs, scale, cosine, reference.size)
        if worst is None or _relative(found) > _relative(worst):
            worst = found
    return worst


def _relative(found: Drift) -> float:
    return found.max_abs / found.max_ref if found.max_ref else found.max_abs
