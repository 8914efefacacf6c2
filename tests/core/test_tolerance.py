"""core/tolerance.py: which rule holds."""

from __future__ import annotations

import pytest

from edgekit.core.tolerance import CROSS_ISA, FEW, TOLERANCES, Tolerance, tolerance_for


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


@pytest.mark.parametrize("precision", ["bf16", "fp16", "int8", "int4"])
def test_single_numbers_have_no_direction(precision: str) -> None:
    """0.95 and 0.01 have a cosine of 1, and are no one answer; of long rows the cosine tells."""
    rule = tolerance_for(precision)
    assert not rule.accepts(max_abs=0.94, max_reference=0.95, cosine=1.0, row=1)
    assert rule.accepts(max_abs=0.94, max_reference=0.95, cosine=1.0, row=FEW)
    assert "max |Δ|" in rule.describe(1)
    assert "max |Δ|" not in rule.describe()


@pytest.mark.parametrize(
    ("max_abs", "max_reference", "cosine"),
    [
        # Logits of two classes, off by some per cent; a probability next to nothing; zeros.
        (0.35, 3.1, 0.995), (0.02, 0.01, 1.0), (0.0, 0.0, 1.0),
    ],
)  # fmt: skip
def test_sound_answers_of_few_classes_pass(
    max_abs: float, max_reference: float, cosine: float
) -> None:
    """What eight bits cost a classifier."""
    found = tolerance_for("int8")
    assert found.accepts(max_abs=max_abs, max_reference=max_reference, cosine=cosine, row=2)


def test_no_number_is_within_no_rule() -> None:
    """In short rows as in long ones."""
    nan = float("nan")
    for rule in TOLERANCES.values():
        assert not rule.accepts(max_abs=nan, max_reference=1.0, cosine=nan, row=2)
