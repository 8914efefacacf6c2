"""How much each structure may lose: distance from the original against the share that is cut."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from edgekit.evaluation.counting import Counted
from edgekit.pruning.cutters import ChannelCutter, LayerCutter
from edgekit.pruning.distances import Answers, Quality
from edgekit.pruning.structures import cut
from edgekit.sources.pruned.plan import Plan, Structure

if TYPE_CHECKING:
    from edgekit.sources.loaded import LoadedSource

_SHARES = (0.125, 0.25, 0.5, 0.75)


@dataclass(frozen=True)
class Sensitive:
    """One structure cut by a share of its parameters, and what it costs."""

    structure: Structure
    ratio: float
    parameters: int
    quality: Quality
    speedup: float | None


def measure_sensitivity(
    source: LoadedSource,
    cutter: LayerCutter | ChannelCutter,
    structures: Sequence[Structure],
    held: Answers,
    repair: Callable[[LoadedSource, Plan], object],
    *,
    progress: Callable[[str], None] = lambda text: None,
) -> list[Sensitive]:
    """Cut each structure alone by rising shares, repair it, and hold it to the original.

    `repair` mends a cut source in place.
    """
    cuts = [
        (structure, share, plan)
        for structure in structures
        for share, plan in _plans(source, cutter, structure)
    ]
    found: list[Sensitive] = []
    with Counted(progress, len(cuts), lines=len(cuts), first=True) as counted:
        for done, (structure, share, plan) in enumerate(cuts):
            told = f"Sensitivity, {done + 1} of {len(cuts)}: {structure} cut by {share:.0%}"
            counted.tell(told, done)
            made = cut(source, plan)
            repair(made, plan)
            found.append(
                Sensitive(structure, share, made.parameters, held.judge(made), cutter.speedup(plan))
            )
    return found


def _plans(
    source: LoadedSource, cutter: LayerCutter | ChannelCutter, structure: Structure
) -> Iterator[tuple[float, Plan]]:
    """Plans of one structure alone, with the share of its parameters that each takes away."""
    if not isinstance(cutter, LayerCutter):
        channels, before = cutter.by_parameters(), None
        for share in _SHARES:
            plan = channels.plan(share, ())
            # Narrow networks have few widths: a step may be several shares deep.
            if plan is not None and plan != before:
                yield round(channels.saved(plan), 4), plan
                before = plan
        return
    alone = cutter.by_parameters(source, structure)
    if structure == "layers":
        tried: list[tuple[float, float, tuple[int, ...]]] = [
            (len(one) / len(cutter.whole.layers), 0.0, one) for one in alone.sets(1.0)[1:]
        ]
    else:
        tried = [(share, share, ()) for share in _SHARES]
    for share, needed, without in tried:
        plan = alone.plan(needed, without)
        if plan is not None:
            yield share, plan
