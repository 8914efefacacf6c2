"""How far an output may lie from the output it is compared with, by the precision that made it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Literal

from edgekit.core.errors import ConfigError

Precision = Literal["fp32", "bf16", "fp16", "int8", "int4"]

# Of rows with fewer numbers a cosine alone says little: of a single one no more than its sign.
FEW = 16


@dataclass(frozen=True)
class Tolerance:
    """A rule for one pair of arrays.

    ``max_abs``: the largest difference is at most ``relative * max|reference| + absolute``.
    ``cosine``: the cosine of the flattened arrays, all rows and samples as one vector, is at least
    ``minimum``. Where a row has fewer than `FEW` numbers (probabilities, the logits of a few
    classes) the largest difference is bounded besides, by `most`: 0.95 and 0.01 have a cosine of 1.
    """

    kind: Literal["max_abs", "cosine"]
    relative: float = 0.0
    absolute: float = 0.0
    minimum: float = 0.0

    def accepts(self, *, max_abs: float, max_reference: float, cosine: float, row: int) -> bool:
        """Whether a measured difference is within the rule; NaN is never.

        `row` is how many numbers one row (sample) of the output has.
        """
        if self.kind == "max_abs":
            return max_abs <= self.most(max_reference)
        # A constant-zero pair has no direction: its cosine is reported as NaN and both agree.
        if max_abs == 0.0:
            return True
        return cosine >= self.minimum and (row >= FEW or max_abs <= self.most(max_reference))

    def most(self, max_reference: float) -> float:
        """The largest difference from a reference that is allowed; of a cosine, in short rows.

        There it is twice as far as two vectors of one length and that cosine lie apart, for the
        length may differ too: of int8 28 % of the largest value that the reference has in all
        rows, and 0.028 for references next to nothing, where no proportion tells anything.
        """
        if self.kind == "max_abs":
            return self.relative * max_reference + self.absolute
        spread = self._spread()
        return spread * max_reference + spread / 10

    def describe(self, row: int = FEW) -> str:
        """The rule for rows of so many numbers in a few characters, for tables and messages."""
        if self.kind == "max_abs":
            return f"max |Δ| ≤ {self.relative:g}·max|ref| + {self.absolute:g}"
        told = f"cosine ≥ {self.minimum:g}"
        if row >= FEW:
            return told
        spread = self._spread()
        return f"{told}, max |Δ| ≤ {spread:.2g}·max|ref| + {spread / 10:.2g}"

    def _spread(self) -> float:
        return 2 * math.sqrt(2 * max(0.0, 1 - self.minimum))

    def to_json(self) -> dict[str, object]:
        """The rule as the manifest holds it."""
        if self.kind == "max_abs":
            return {"kind": "max_abs", "relative": self.relative, "absolute": self.absolute}
        return {"kind": "cosine", "minimum": self.minimum}


TOLERANCES: Mapping[Precision, Tolerance] = {
    "fp32": Tolerance("max_abs", relative=1e-4, absolute=1e-5),
    "bf16": Tolerance("cosine", minimum=0.999),
    "fp16": Tolerance("cosine", minimum=0.999),
    "int8": Tolerance("cosine", minimum=0.99),
    "int4": Tolerance("cosine", minimum=0.96),
}

# Another instruction set sums in another order: the same fp32 bundle answers a little differently.
CROSS_ISA: Mapping[Precision, Tolerance] = {
    **TOLERANCES,
    "fp32": Tolerance("max_abs", relative=1e-3, absolute=1e-4),
    "int8": Tolerance("cosine", minimum=0.98),
}


def tolerance_for(
    precision: str,
    overrides: Mapping[str, Tolerance] | None = None,
    *,
    cross_isa: bool = False,
    atol: float | None = None,
    rtol: float | None = None,
) -> Tolerance:
    """The rule for a precision: the table's, a profile's override, then the command's options.

    With ``cross_isa`` an override does not narrow what another instruction set is allowed.

    Raises ConfigError for a precision that has no row.
    """
    table = CROSS_ISA if cross_isa else TOLERANCES
    if precision not in table:
        raise ConfigError(
            f"No tolerance is known for the precision {precision!r}.",
            hint=f"Known precisions: {', '.join(table)}.",
        )
    rule = (overrides or {}).get(precision, table[precision])  # type: ignore[index]
    if cross_isa:
        rule = _wider(rule, table[precision])  # type: ignore[index]
    if atol is None and rtol is None:
        return rule
    base = rule if rule.kind == "max_abs" else Tolerance("max_abs")
    return replace(
        base,
        absolute=base.absolute if atol is None else atol,
        relative=base.relative if rtol is None else rtol,
    )


def _wider(rule: Tolerance, other: Tolerance) -> Tolerance:
    """What allows as much as either; rules of two kinds cannot be compared, and `rule` stays."""
    if rule.kind != other.kind:
        return rule
    return replace(
        rule,
        relative=max(rule.relative, other.relative),
        absolute=max(rule.absolute, other.absolute),
        minimum=min(rule.minimum, other.minimum),
    )


def tolerance_from_json(value: Mapping[str, object]) -> Tolerance:
    """The rule a manifest or profile spells out; ConfigError when it is not one."""
    kind = value.get("kind")
    known = {"max_abs": ("relative", "absolute"), "cosine": ("minimum",)}
    if kind not in known:
        raise ConfigError(f"A tolerance has the kind max_abs or cosine, got {kind!r}.")
    unknown = set(value) - {"kind", *known[str(kind)]}
    if unknown:
        raise ConfigError(f"A {kind} tolerance has no key {sorted(unknown)[0]!r}.")
    numbers: dict[str, float] = {}
    for key in known[str(kind)]:
        number = value.get(key, 0.0)
        if isinstance(number, bool) or not isinstance(number, (int, float)) or number < 0:
            raise ConfigError(f"The tolerance's {key} is a number of at least 0, got {number!r}.")
        numbers[key] = float(number)
    if kind == "max_abs":
        return Tolerance("max_abs", **numbers)
    return Tolerance("cosine", **numbers)
