"""The search of a quantization: what it refuses before it has tried anything."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import edgekit
from edgekit.core.errors import BudgetNotMet
from edgekit.pipeline.choices.candidates import Workshop
from tests.pipeline.quantizable import make_small, rows, speed


def test_a_pruned_input_that_has_lost_the_whole_budget_is_refused_early(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What pruning has lost is allowed for, up to all of the budget and no further."""
    speed(monkeypatch)
    small = make_small(tmp_path)
    monkeypatch.setattr(Workshop, "pruned", True)
    x, label = rows(1000)
    np.savez(small.data, x=x, label=(label + 1) % 4)
    other = small.folder / "other.py"
    module = (small.folder / "module.py").read_text()
    other.write_text(module.replace("@ self.second", "@ self.second.roll(1, 1)"))
    with pytest.raises(BudgetNotMet, match=r"by more than the budget of 5%") as missed:
        edgekit.quantize(
            small.bundle, small.output, data=small.data, reference=f"{other}:make", max_drop="5%"
        )
    assert missed.value.result.tried == ()  # type: ignore[union-attr]
