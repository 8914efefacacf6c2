"""A recovery under way, in a folder from which the same command goes on after an interruption."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from edgekit.core.errors import EdgekitError
from edgekit.sources.pruned.plan import Plan, read_plan, write_plan

if TYPE_CHECKING:
    from torch import Tensor

_STATE = "state.pt"
_FACTS = "facts.json"


@dataclass(frozen=True, eq=False)
class State:
    """All that a training loop needs to go on as if it had never stopped."""

    module: Mapping[str, Tensor]
    best: Mapping[str, Tensor]
    average: Mapping[str, Tensor]
    optimizer: Mapping[str, object]
    generator: Tensor
    order: tuple[int, ...]
    step: int
    best_step: int
    fruitless: int


class Checkpoint:
    """A folder with the plan of a recovery, what was found before it, and its latest state.

    A disk that is full or read-only costs the resuming, not the run.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def begin(self, plan: Plan, facts: Mapping[str, object]) -> None:
        """Note what is about to be recovered, in the place of what was there."""
        self.forget()
        with suppress(OSError, EdgekitError):
            self.folder.mkdir(parents=True)
            (self.folder / _FACTS).write_text(json.dumps(facts), encoding="utf-8")
            write_plan(plan, self.folder)

    def begun(self) -> tuple[Plan, Mapping[str, object]] | None:
        """What an interrupted run was recovering; None where there is none, or it is damaged."""
        if not (self.folder / _STATE).is_file():
            return None
        try:
            facts = json.loads((self.folder / _FACTS).read_text(encoding="utf-8"))
            return (read_plan(self.folder), facts) if isinstance(facts, dict) else None
        except (OSError, ValueError, EdgekitError):
            return None

    def state(self) -> State | None:
        """The latest state; None where there is none, or it is damaged."""
        try:
            found = torch.load(self.folder / _STATE, weights_only=True)
            return State(**{**found, "order": tuple(found["order"])})
        # A cut file is told in whatever words the reader has.
        except Exception:
            return None

    def save(self, state: State) -> None:
        """Keep a state in the place of the one before, whole or not at all."""
        if not self.folder.is_dir():
            return
        temporary = self.folder / f"{_STATE}.{os.getpid()}"
        with suppress(OSError, RuntimeError):
            torch.save({**_shallow(state), "order": list(state.order)}, temporary)
            temporary.replace(self.folder / _STATE)
        with suppress(OSError):
            temporary.unlink(missing_ok=True)

    def forget(self) -> None:
        """Remove the folder: the run has ended."""
        shutil.rmtree(self.folder, ignore_errors=True)


def _shallow(state: State) -> dict[str, object]:
    # dataclasses.asdict would copy every tensor.
    return {name: getattr(state, name) for name in State.__dataclass_fields__}
