"""Whether contenders answer alike, checked while they are measured: a fast wrong answer is none.

In the first round every contender's first outputs are compared with those of the base, which is
the reference, or else the first contender; of models that generate the scores of the first token
and, in float32, all tokens. From then on each of them must keep answering what it answered at
first.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from edgekit.core.manifest import Component
from edgekit.core.tolerance import Tolerance, tolerance_for
from edgekit.evaluation.numerics import Distance, add_outputs
from edgekit.evaluation.said import Said, compare_said, without_tokens
from edgekit.runtime.golden import bar_for, coarsest
from edgekit.runtime.records import Record
from edgekit.runtime.session import Array
from edgekit.runtime.workloads import load_outputs


@dataclass(frozen=True)
class Known:
    """What is known of a contender before it runs.

    ``weights`` is the hash of the PyTorch weights that it answers for, None where nothing tells;
    ``tolerances`` are the bundle's own, by precision. ``on_data``: its answers were judged on real
    samples, and are not held to a tolerance on made-up ones. ``components`` are the bundle's.
    """

    weights: str | None = None
    on_data: bool = False
    tolerances: Mapping[str, Tolerance] = field(default_factory=dict)
    components: Mapping[str, Component] = field(default_factory=dict)


class OutputCheck:
    """The check of a whole bench; ``notes`` tell what could not be compared.

    Args:
        known: the contenders by name, the base first; another takes its place when it fails.
    """

    def __init__(self, task: str, known: Mapping[str, Known]) -> None:
        self._task = task
        self._known = known
        self.notes: list[str] = []

    def compare(self, records: Mapping[str, Record], outputs: Mapping[str, Path]) -> dict[str, str]:
        """Why contenders are disqualified, by name; `outputs` are those of the first round."""
        present = [name for name in self._known if name in outputs]
        if len(present) < 2:
            return {}
        base, *others = present
        expected = load_outputs(outputs[base])
        reasons: dict[str, str] = {}
        for name in others:
            if not self._same_weights(records, base, name):
                self.notes.append(
                    f"{name} was made from other weights than {base}, so their outputs were not"
                    " compared."
                )
                continue
            given = load_outputs(outputs[name])
            found = self._distances(without_tokens(expected), without_tokens(given))
            if not found:
                self.notes.append(
                    f"{name} and {base} have no output of one name: they were not compared."
                )
                continue
            precision = self._precision(records[base], records[name])
            rule = self._rule(precision, name, base)
            said = compare_said(expected, given, rule)
            if said is not None and (told := self._told_tokens(said, base, name, precision)):
                reasons[name] = told
            for output, distance in found.items():
                if output in self._only_told(precision, name, base) or distance.within(rule):
                    continue
                reason = _reason(output, distance, base, precision, rule)
                judged = self._known[name].on_data or self._known[base].on_data
                if judged and distance.mismatch is None and math.isfinite(distance.max_abs):
                    self.notes.append(
                        f"{name} differs from {base} on these inputs by more than {precision}"
                        f" allows (cosine {distance.numerics().cosine:.4f}); it is measured, for"
                        " its accuracy was judged on data when it was quantized."
                    )
                else:
                    reasons[name] = f"disqualified, for {reason}"
                break
        return reasons

    def _told_tokens(self, said: Said, base: str, name: str, precision: str) -> str | None:
        """Why a contender is disqualified for its tokens; what is no fault of it is a note."""
        worst = said.worst
        if worst is not None and not worst.excused:
            return (
                f"disqualified, for token {worst.place} of its answer is {worst.token} where {base}"
                f" says {worst.wanted}: the two best scores lie {worst.gap:.3g} apart there, and"
                f" {precision} lets none go further than {worst.allowed:.3g}"
            )
        if said.same < said.count:
            why = (
                "two scores were as good as equal where they part"
                if worst is not None
                else f"{precision} is held to the scores of the first token alone"
            )
            self.notes.append(
                f"{name} says {said.same:,} of {said.count:,} tokens as {base} does, up to the"
                f" first other one: {why}."
            )
        return None

    def moved(self, record: Record, workload: int) -> str | None:
        """Why a contender that answers otherwise than at first is disqualified, else None."""
        precision = self._precision(record)
        rule = self._rule(precision, record.name)
        drift = record.drifted(workload, rule, last=True)
        if drift is None:
            return None
        return (
            f"disqualified, for its answers changed while it was timed: {drift.describe()};"
            f" {precision} allows {rule.describe(drift.values)}"
        )

    def _distances(
        self, expected: tuple[dict[str, Array], ...], given: tuple[dict[str, Array], ...]
    ) -> dict[str, Distance]:
        """Over all workloads together: one of a few values alone has no meaningful cosine."""
        found: dict[str, Distance] = {}
        for ours, theirs in zip(expected, given, strict=True):
            add_outputs(found, self._task, ours, theirs)
        return found

    def _same_weights(self, records: Mapping[str, Record], a: str, b: str) -> bool:
        weights = {self._weights(records[a]), self._weights(records[b])}
        return None in weights or len(weights) == 1

    def _weights(self, record: Record) -> str | None:
        told = record.facts.get("sha256")
        return told if isinstance(told, str) else self._known[record.name].weights

    def _precision(self, *records: Record) -> str:
        """The lowest that the contenders compute in or were converted to."""
        used = [str(record.facts.get("effective_precision")) for record in records]
        # Of those that are equally coarse the first counts: fp32 before names that nobody knows.
        return coarsest("fp32", *used)

    def _rule(self, precision: str, *names: str) -> Tolerance:
        """The first contender's own tolerance where it has one for the precision, else core's."""
        own = (self._known[name].tolerances for name in names if name in self._known)
        rules = next((rules for rules in own if precision in rules), {})
        return tolerance_for(precision, rules)

    def _only_told(self, precision: str, *names: str) -> frozenset[str]:
        """The outputs that are held to nothing: see `edgekit.runtime.golden.bar_for`."""
        own = (self._known[name].components for name in names if name in self._known)
        return bar_for(next(filter(None, own), {}), precision).told


def _reason(output: str, distance: Distance, base: str, precision: str, rule: Tolerance) -> str:
    if distance.mismatch is not None:
        return f"its output {output} has another shape than that of {base}"
    found = distance.numerics()
    if distance.exact:
        agreement = found.argmax_agreement or 0.0
        return f"only {agreement:.2%} of its output {output} are the whole numbers of {base}"
    return (
        f"its output {output} is off from that of {base} by up to"
        f" {found.max_abs:.3g} (cosine {found.cosine:.6f}); {precision} allows"
        f" {rule.describe(distance.row)}"
    )
