"""What a quantization ends with: the candidate, what it was judged by, and what was tried."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from edgekit.core.bundle import Bundle
from edgekit.core.measurements import Accuracy, Latency, Noise, QuantizeResult, Tried, Verdict
from edgekit.core.profiles import Profile
from edgekit.core.results import to_json
from edgekit.pipeline.choices.candidates import Candidate, describe
from edgekit.quantization.sensitivity import Sensitivity


@dataclass
class Chosen:
    """What was found: ``missed`` says why it is not good enough, None where it is.

    ``candidate`` is the one chosen, or the closest; ``slower``: that it is so than its input.
    """

    candidate: Candidate | None = None
    missed: str | None = None
    slower: bool = False
    verdict: Verdict = "pass"
    accuracy: Accuracy | None = None
    latency: Latency | None = None
    tried: tuple[Tried, ...] = ()
    evaluations: int = 0
    sensitivity: Sensitivity | None = None
    workload: Mapping[str, object] = field(default_factory=dict)
    noise: Noise | None = None
    samples_needed: int | None = None
    notes: list[str] = field(default_factory=list)

    @property
    def facts(self) -> dict[str, object]:
        """What the manifest's step keeps of the search."""
        told = {
            "tried": to_json(self.tried),
            "evaluations": self.evaluations,
            "verdict": self.verdict,
            "accuracy": to_json(self.accuracy),
            "latency": to_json(self.latency),
            "workload": to_json(self.workload),
            "noise": to_json(self.noise),
            "sensitivity": to_json(self.sensitivity),
            "notes": list(self.notes),
        }
        return {key: value for key, value in told.items() if value}

    def result(
        self,
        profile: Profile,
        source: Bundle,
        output: Path | None,
        written: Bundle | None,
        seconds: float,
    ) -> QuantizeResult:
        """The same as `quantize` gives it."""
        candidate = self.candidate
        parts = {} if candidate is None else candidate.parts
        counts: dict[str, int] = {}
        for part in parts.values():
            for kind, count in part.quantized_ops.items():
                counts[kind] = counts.get(kind, 0) + count
        bundle = written or (None if candidate is None else candidate.bundle)
        size = None if bundle is None else bundle.bytes()
        requires = None if written is None else written.manifest.requires
        recipe = None if candidate is None else candidate.recipe
        return QuantizeResult(
            output=output,
            bundle_id=None if bundle is None else bundle.id,
            method=None if recipe is None else recipe.scheme,
            bits=None if recipe is None else recipe.bits,
            target=profile.name,
            engine=profile.engine,
            quantized_ops=counts,
            kept_float=tuple(kept for part in parts.values() for kept in part.kept_float),
            bytes=size,
            ratio_to_input=None if size is None else size / max(1, source.bytes()),
            latency=self.latency,
            accuracy=self.accuracy,
            verdict=self.verdict,
            recipe={} if recipe is None else describe(recipe),
            cpu_features=() if requires is None else requires.cpu_features,
            run_on=None if written is None else _mapping(written.manifest.evidence.get("run_on")),
            tried=self.tried,
            evaluations=self.evaluations,
            sensitivity=_mapping(to_json(self.sensitivity)),
            notes=(*self.notes, *(note for part in parts.values() for note in part.notes)),
            seconds=round(seconds, 3),
            workload=self.workload,
            noise=self.noise,
            samples_needed=self.needed,
        )

    @property
    def needed(self) -> int | None:
        """The rows for verdicts that would settle it, where it is inconclusive for want of them."""
        if self.verdict != "inconclusive" or self.samples_needed is not None:
            return self.samples_needed
        return None if self.accuracy is None else self.accuracy.samples_needed


def _mapping(value: object) -> Mapping[str, object] | None:
    return value if isinstance(value, Mapping) else None
