"""core/tolerance.py: which rule holds."""

from __future__ import annotations

from edgekit.core.tolerance import CROSS_ISA, TOLERANCES, Tolerance, tolerance_for


def test_an_override_takes_the_place_of_the_table() -> None:
    """A profile may be stricter than the table where the same machine answers."""
    strict = Tolerance("max_abs", relative=1e-6, absolute=1e-7)
    assert tolerance_for("fp32", {"fp32": strict}) == strict
    assert tolerance_for("int8", {"fp32": strict}) == TOLERANCES["int8"]


def test_an_override_does_not_narrow_another_instruction_set() -> None:
    """Across instruction sets the wider of both holds, bound by bound."""
    mixed = Tolerance("max_abs", relative=1e-6, absolute=1e-2)
    wide = tolerance_for("fp32", {"fp32": mixed}, cross_isa=True)
    assert wide == Tolerance("max_abs", relative=CROSS_ISA["fp32"].relative, absolute=1e-2)
    cosine = tolerance_for("int8", {"int8": Tolerance("cosine", minimum=0.999)}, cross_isa=True)
    assert cosine == CROSS_ISA["int8"]


def test_rules_of_two_kinds_are_not_mixed() -> None:
    """An override of another kind than the table's stays as it is."""
    cosine = Tolerance("cosine", minimum=0.9)
    assert tolerance_for("fp32", {"fp32": cosine}, cross_isa=True) == cosine
