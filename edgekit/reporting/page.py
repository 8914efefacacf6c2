"""The page: a result's sections in the order of a reader's questions, put into one HTML file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from importlib import resources

from edgekit.core.lazy import require, require_installed
from edgekit.core.measurements import BenchResult, ValidateResult, WorstSample
from edgekit.core.pruned import PruneResult
from edgekit.core.version import __version__
from edgekit.reporting import quality_charts, speed_charts, tables, trade_charts, words
from edgekit.reporting.deciding import noisy
from edgekit.reporting.drawing import Chart
from edgekit.reporting.headline import allowed_drop, headline
from edgekit.reporting.pruned import charts as pruned_charts
from edgekit.reporting.pruned import tables as pruned_tables
from edgekit.reporting.pruned.headline import allowed_drop as pruned_drop
from edgekit.reporting.reading import Result, all_notes, read_result
from edgekit.reporting.tables import Table

_TEMPLATE = "page.html.jinja"
_MACHINE = "How and where it was measured"
_KINDS: Mapping[type, str] = {
    BenchResult: "comparison", PruneResult: "pruning", ValidateResult: "validation",
}  # fmt: skip


@dataclass(frozen=True)
class Section:
    """A heading with what stands under it; a section without content is not made."""

    name: str
    title: str
    charts: Sequence[Chart] = ()
    tables: Sequence[Table] = ()
    cards: Sequence[Table] = ()
    samples: Sequence[WorstSample] = ()
    #: What is to be known before the samples are looked at, or instead of them.
    remark: str | None = None
    lines: Sequence[str] = ()
    #: In a wide window it takes half, and leaves the other half to a neighbour of its kind.
    half: bool = False
    #: Its tables are narrow enough to stand beside its one picture.
    beside: bool = False

    @property
    def filled(self) -> bool:
        """Whether there is anything to show."""
        return any((self.charts, self.tables, self.cards, self.samples, self.remark, self.lines))


def render_html(result: Mapping[str, object]) -> str:
    """The report of a result, given as the JSON that ``--json`` prints, as one HTML page.

    The page needs no network and no scripts, and is the same text for the same result.

    Raises:
        MissingDependency: the ``report`` extra is not installed.
        ConfigError: `result` is no result that a report tells of.
    """
    require_installed(("matplotlib", "jinja2"), "report")
    jinja2 = require("jinja2", "report")
    read = read_result(result)
    # Names and samples come from strangers' data: everything is escaped but our own pictures.
    environment = jinja2.Environment(
        autoescape=True, trim_blocks=True, lstrip_blocks=True, undefined=jinja2.StrictUndefined
    )
    text = resources.files("edgekit.reporting").joinpath(_TEMPLATE).read_text(encoding="utf-8")
    shown = _paired([section for section in sections(read) if section.filled])
    page: str = environment.from_string(text).render(
        head=headline(read),
        sections=shown,
        command=read.command,
        kind=_KINDS[type(read)],
        version=__version__,
        general=words.general,
        picture=require("markupsafe", "report").Markup,
    )
    return page


def sections(result: Result) -> list[Section]:
    """All sections of a report, in order; those that the result has nothing for are empty."""
    if isinstance(result, PruneResult):
        return _pruned(result)
    if isinstance(result, BenchResult):
        cards = [
            *tables.noise(result.noise),
            *tables.device(result.device),
            *tables.protocol(result.protocol),
            *tables.versions(result.versions),
        ]
        machine = Section("machine", _MACHINE, cards=cards)
        return [*_speed(result, []), *_notes(all_notes(result)), machine]
    accuracy = result.accuracy
    where = words.original(result.reference)
    found = [
        Section(
            "accuracy",
            "Accuracy",
            []
            if accuracy is None
            else [quality_charts.drop(accuracy, allowed_drop(result), where)],
            [*tables.gates(result), *tables.numerics(result.numerics)],
            beside=accuracy is not None,
        )
    ]
    metric = None if accuracy is None else accuracy.metric
    trade = trade_charts.trade_off(
        trade_charts.judged_points(result),
        metric,
        "the bundle beside the original",
        speeds=trade_charts.judged_speeds(result),
    )
    if result.timing is None:
        found.append(Section("trade-off", "Speed and quality", [] if trade is None else [trade]))
    else:
        found += _speed(result.timing, [] if trade is None else [trade])
    layers = quality_charts.layers(result.layers)
    found += [
        Section(
            "worst",
            "Samples that differ most",
            samples=result.worst,
            remark=tables.undisturbed(result),
        ),
        Section("layers", "Layers", [] if layers is None else [layers]),
        *_notes(all_notes(result)),
    ]
    timing = result.timing
    cards = [
        *([] if timing is None else tables.noise(timing.noise)),
        *tables.device(result.device if timing is None else timing.device),
        *tables.judged(result),
        *([] if timing is None else tables.protocol(timing.protocol)),
        *tables.versions(result.versions),
    ]
    return [*found, Section("machine", _MACHINE, cards=cards)]


def _pruned(result: PruneResult) -> list[Section]:
    """What is left, what it cost and gained, what each structure costs alone, what was tried."""
    accuracy = result.accuracy
    judged = (
        []
        if accuracy is None
        else [
            quality_charts.drop(
                accuracy, pruned_drop(result), "in the original", "in the pruned model"
            )
        ]
    )
    cut = [*_present(pruned_charts.left(result)), *_present(pruned_charts.layers(result))]
    return [
        Section("cut", "What was cut", cut),
        Section(
            "accuracy",
            "Accuracy and speed",
            [*judged, *_present(pruned_charts.foretold(result))],
        ),
        Section(
            "sensitivity",
            "What each structure costs by itself",
            pruned_charts.sensitivity(result),
            pruned_tables.sensitivity(result),
        ),
        Section("tried", "What was tried", tables=pruned_tables.tried(result)),
        *_notes(all_notes(result)),
        Section("machine", _MACHINE, cards=pruned_tables.cards(result)),
    ]


def _speed(result: BenchResult, trade: Sequence[Chart]) -> list[Section]:
    """The sections that a comparison fills; `trade` is a validation's own picture."""
    series = speed_charts.series_of(result.contenders)
    offline = result.protocol.get("scenario") == "offline"
    counts = words.time_of(result.protocol)
    disturbed = noisy(result.noise)
    latency = [
        *speed_charts.distributions(result.contenders, series, counts=counts),
        *speed_charts.ratios(result.ratios, offline=offline, noisy=disturbed),
    ]
    trades = list(trade)
    if not trades and result.contenders:
        last = words.of(result.contenders[-1])
        points = trade_charts.timed_points(result, last, series)
        speeds = trade_charts.timed_speeds(result, last)
        trades = _present(
            trade_charts.trade_off(points, None, f"at {last}", speeds=speeds, counts=counts)
        )
    stages = [
        *_present(speed_charts.start_up(result.contenders, series)),
        *_present(speed_charts.parts(result.contenders)),
    ]
    memory = _present(speed_charts.memory(result.contenders, series))
    return [
        Section("speed", "Latency", latency, tables.contenders(result)),
        Section("tokens", "Tokens", tables=[*tables.tokens(result), *tables.token_ratios(result)]),
        Section("trade-off", "Speed, quality and size", trades),
        Section("stages", "Stages", stages),
        Section("memory", "Memory", memory),
        Section("probes", "Options tried", tables=tables.probes(result.probes, noisy=disturbed)),
        Section("attached", "Measured elsewhere", tables=tables.attached(result.attached)),
    ]


def _paired(shown: list[Section]) -> list[Section]:
    """The sections, with the two that hold one picture each side by side when both are there."""
    single = [one for one in shown if one.name in ("trade-off", "memory") and len(one.charts) == 1]
    return [replace(one, half=True) if one in single and len(single) == 2 else one
            for one in shown]  # fmt: skip


def _notes(notes: Sequence[str]) -> list[Section]:
    return [Section("notes", "Notes", lines=tuple(notes))]


def _present(chart: Chart | None) -> list[Chart]:
    return [] if chart is None else [chart]
