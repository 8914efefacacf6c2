"""What an interrupted pruning leaves behind for the same command."""

from __future__ import annotations

from pathlib import Path

import torch

from edgekit.core.pruned import Cut, SensitivityRow, TablePoint
from edgekit.pipeline.cuts.begun import Begun, read_begun
from edgekit.pruning.checkpoints import Checkpoint, State
from tests.pipeline.cuts.plans import PLAN

BEGUN = Begun(
    PLAN,
    1.6,
    {"solved": 2},
    (Cut("4 layers", 1.6, 1.5, 0.1, True, "fast enough"),),
    (TablePoint("ffn", 4, 0.5),),
    (SensitivityRow("ffn", 0.25, 100, 0.1, 0.9, None, 1.1),),
)


def kept(folder: Path) -> Checkpoint:
    """A recovery that was interrupted after a look."""
    checkpoint = Checkpoint(folder / "recovery")
    BEGUN.write(checkpoint)
    generator = torch.Generator().get_state()
    checkpoint.save(State({}, {}, {}, {}, generator, (), 10, 10, 0))
    return checkpoint


def test_what_was_found_before_the_recovery_comes_back(tmp_path: Path) -> None:
    """Also the sensitivity, which took its time."""
    assert read_begun(kept(tmp_path)) == BEGUN


def test_without_a_state_there_is_nothing_to_go_on_with(tmp_path: Path) -> None:
    """Interrupted before the first look, or damaged: the search begins anew."""
    checkpoint = Checkpoint(tmp_path / "recovery")
    assert read_begun(checkpoint) is None
    BEGUN.write(checkpoint)
    assert read_begun(checkpoint) is None
    checkpoint = kept(tmp_path)
    (checkpoint.folder / "state.pt").write_bytes(b"cut off")
    assert read_begun(checkpoint) is None


def test_facts_of_another_form_are_left_alone(tmp_path: Path) -> None:
    """A field that is not known is damage too."""
    checkpoint = kept(tmp_path)
    facts = checkpoint.folder / "facts.json"
    facts.write_text('{"tried": [{"unknown": 1}]}', encoding="utf-8")
    assert read_begun(checkpoint) is None
