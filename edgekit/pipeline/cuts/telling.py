"""What a pruning has left and regained, as its result tells it."""

from __future__ import annotations

from edgekit.core.pruned import Change, PrunedLayer, RecoveryFacts
from edgekit.pruning.recovery import Recovered
from edgekit.sources.pruned.plan import Plan


def layers_left(plan: Plan) -> tuple[PrunedLayer, ...]:
    """Every layer of the original, with what is left of it."""
    kept = set(plan.kept_layers)
    return tuple(
        PrunedLayer(
            row.name,
            at in kept,
            Change(row.heads, row.heads_left if at in kept else 0),
            Change(row.ffn, row.ffn_left if at in kept else 0),
        )
        for at, row in enumerate(plan.layers)
    )


def recovery_facts(found: Recovered) -> RecoveryFacts:
    """A recovery without the model."""
    return RecoveryFacts(
        found.steps, found.best_step, found.before.loss, found.after.loss,
        found.before.agreement, found.after.agreement, found.stopped, found.seconds,
    )  # fmt: skip
