"""The first ten seconds of a comparison: who is the quickest, by how much, and if that is so.

Neither a noisy run nor an interval that touches 1 makes anybody the quickest.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from edgekit.core.measurements import BenchResult, Contender, Ratio
from edgekit.reporting import words
from edgekit.reporting.deciding import noisy, rivals
from edgekit.reporting.figures import Headline, KeyFigure, Tone


def compared(result: BenchResult) -> Headline:
    """What stands on top of the report of a comparison."""
    timed = [row for row in result.contenders if row.p50_ms is not None]
    failed = [row for row in result.contenders if row.error is not None]
    reasons = [f"{row.name} at {words.of(row)}: {row.error}" for row in failed]
    disturbed = noisy(result.noise)
    if disturbed:
        causes = "; ".join(result.noise.causes) or "unknown why"
        reasons.append(f"The machine was noisy: {causes}. No speed is decided.")
    where = words.processor(result.device.get("cpu"))
    asked = words.scenario(result.protocol)
    beside = f" · {asked}" if asked else ""
    if not timed:
        title = f"Comparison{beside}"
        return Headline("Nothing measured", "bad", title, f"On {where}.", tuple(reasons), ())
    offline = result.protocol.get("scenario") == "offline"
    places = [
        _Place.of(rows, result.ratios, noisy=disturbed, offline=offline)
        for rows in workloads(timed).values()
    ]
    figures = tuple(place.figure() for place in places[:4])
    if len({row.name for row in timed}) == 1:
        told = [f"{place.measured()} at {words.of(place.best)}" for place in places]
        verb = "answers" if offline else "takes"
        sentence, title = f"{timed[0].name} {verb} {words.listed(told)}", timed[0].name
    else:
        sentence = "; ".join([*_decided(places), *_open(places, noisy=disturbed)])
        sentence = sentence[:1].upper() + sentence[1:] if not places[0].sure else sentence
        winners = {place.best.name for place in places if place.sure}
        whole = len(winners) == 1 and all(place.sure for place in places)
        title = next(iter(winners)) if whole else "Comparison"
    if asked:
        sentence += f"; scenario {asked}"
        if result.protocol.get("scenario") == "server":
            sentence += f", latency is {words.time_of(result.protocol)}"
    sentence += f"; {where}, {'a noisy' if disturbed else 'a quiet'} machine."
    word: tuple[str, Tone] = ("Noisy", "open") if disturbed else ("Measured", "good")
    if failed:
        word = ("Incomplete", "bad")
    return Headline(word[0], word[1], f"{title}{beside}", sentence, tuple(reasons), figures)


@dataclass(frozen=True)
class _Place:
    """A workload: who came out best, against the first, and who is not decidedly behind."""

    best: Contender
    ratio: Ratio | None
    rivals: tuple[str, ...]
    noisy: bool
    offline: bool

    @classmethod
    def of(
        cls, rows: Sequence[Contender], ratios: Sequence[Ratio], *, noisy: bool, offline: bool
    ) -> _Place:
        """The place of the rows of one workload; offline the throughput counts, else the median."""
        best = min(rows, key=lambda row: _typical(row, offline=offline))
        ratio = _ratio_to(ratios, best)
        return cls(best, ratio, tuple(rivals(ratios, best, rows, noisy=noisy)), noisy, offline)

    @property
    def sure(self) -> bool:
        """Whether it is decidedly faster than all others."""
        return not self.rivals

    def measured(self) -> str:
        """What it took, or how much it did."""
        if self.offline and self.best.throughput is not None:
            return f"{words.digits(self.best.throughput)} per second"
        return words.milliseconds(self.best.p50_ms)

    def fact(self) -> str:
        """How fast it is, for a sentence."""
        at = words.of(self.best)
        if self.ratio is None:
            return f"{self.measured()} at {at}"
        return (
            f"{words.times(self.ratio.value)} as fast as {self.ratio.a} at {at}"
            f" ({words.bracketed(self.ratio, noisy=self.noisy)})"
        )

    def figure(self) -> KeyFigure:
        """The same as a key figure; in colour only what is decided."""
        lead = "Quickest" if self.sure else "Highest throughput" if self.offline else (
            "Lowest median"
        )  # fmt: skip
        label = f"{lead} at {words.of(self.best)}"
        if self.ratio is None:
            return KeyFigure(label, self.measured(), self.best.name + self._doubt())
        told = words.comparison(words.resolved(self.ratio), noisy=self.noisy)
        detail = (
            f"{self.best.name}: {words.times(self.ratio.value)} as fast as {self.ratio.a}"
            f" ({words.interval(self.ratio)}){self._doubt()}"
        )
        return KeyFigure(label, self.measured(), detail, "good" if told == "faster" else "plain")

    def _doubt(self) -> str:
        """What keeps it from being the quickest, after a comma; nothing where nothing does."""
        if self.sure:
            return ""
        return f", {words.UNDECIDED if self.noisy else self.unresolved()}"

    def unresolved(self) -> str:
        """From whom it is not told apart."""
        return f"not resolved from {words.listed(self.rivals)}"


def _decided(places: Sequence[_Place]) -> list[str]:
    """Who is the quickest, where that is decided."""
    sure = [place for place in places if place.sure]
    winners = {place.best.name for place in sure}
    if len(winners) < 2:
        return [f"{name} is the quickest: {words.listed([place.fact() for place in sure])}"
                for name in winners]  # fmt: skip
    told = words.listed([f"{place.best.name} {place.fact()}" for place in sure])
    return [f"The fastest differs by workload: {told}"]


def _open(places: Sequence[_Place], *, noisy: bool) -> list[str]:
    """Who came out best where nothing is decided, and that it is not."""
    unsure = [place for place in places if not place.sure]
    if not unsure:
        return []
    most = "highest throughput" if unsure[0].offline else "lowest median"
    told = words.listed([f"{place.best.name}, {place.fact()}" for place in unsure])
    if noisy:
        return [f"which is the quickest is {words.UNDECIDED}; measured with the {most}: {told}"]
    parts = [
        f"at {words.of(place.best)} {place.best.name} has the {most}, {place.fact()},"
        f" {place.unresolved()}"
        for place in unsure
    ]
    return [f"which is the quickest is not resolved: {words.listed(parts)}"]


def workloads(rows: list[Contender]) -> dict[str, list[Contender]]:
    """The rows by workload, in their order."""
    groups: dict[str, list[Contender]] = {}
    for row in rows:
        groups.setdefault(words.of(row), []).append(row)
    return groups


def _typical(row: Contender, *, offline: bool) -> float:
    if offline and row.throughput is not None:
        return -row.throughput
    return float("inf") if row.p50_ms is None else row.p50_ms


def _ratio_to(ratios: Sequence[Ratio], row: Contender) -> Ratio | None:
    """The ratio of a row to what stands first at its workload, which is the reference if any."""
    at = [one for one in ratios if words.of(one) == words.of(row)]
    return next((one for one in at if one.b == row.name), None)
