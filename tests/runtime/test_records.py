"""Records: what the children told, summed up into rows."""

from __future__ import annotations

import pytest

from edgekit.core.measurements import Stages
from edgekit.core.tolerance import TOLERANCES
from edgekit.runtime.conversation import ChildFailed
from edgekit.runtime.drift import Drift
from edgekit.runtime.records import Record
from edgekit.runtime.scenarios import Scenario, make_scenario, plan_turns
from edgekit.runtime.workloads import Workload


@pytest.mark.parametrize(
    ("seconds", "slowest_ms", "expected"),
    [(1.0, 1.0, (20, 0.05, 1)), (10.0, 1.0, (80, 0.125, 1)), (1.0, 100.0, (2, 0.5, 1)),
     (0.3, 500.0, (1, 0.3, 3))],
)  # fmt: skip
def test_turns_are_short_but_hold_five_inferences(
    seconds: float, slowest_ms: float, expected: tuple[int, float, int]
) -> None:
    """At most eighty; a single turn takes at least three samples."""
    assert plan_turns(seconds, slowest_ms) == pytest.approx(expected)


def test_long_answers_take_turns_one_by_one() -> None:
    """A request of many tokens is enough for a turn; two of them where there is one turn only."""
    assert plan_turns(4.0, 1900.0, generating=True) == (2, 2.0, 1)
    assert plan_turns(1.0, 1900.0, generating=True) == (1, 1.0, 2)
    assert plan_turns(1.0, 1.0, generating=True) == pytest.approx((20, 0.05, 1))


def record(error: str | None = None) -> Record:
    """Two processes at one workload: 100 times of 2 ms, 100 of 4 ms."""
    return Record(
        "a", error=error, facts={"engine": "busy"}, imports=[10.0, 30.0], loads=[5.0, 7.0],
        firsts={0: [9.0]}, peaks=[100, 300], times={0: {0: [2.0] * 100, 1: [4.0] * 100}},
    )  # fmt: skip


def test_a_row_sums_up_processes() -> None:
    """Quantiles over all, medians of what each process has once, the largest peak."""
    row = record().row(0, Workload(4, 16, {}), artifact_bytes=7)
    assert (row.p50_ms, row.p90_ms, row.p95_ms, row.p99_ms) == (2.0, 4.0, 4.0, None)
    assert row.throughput == pytest.approx(4 * 1000 / 3)
    assert (row.import_ms, row.load_ms, row.first_ms) == (20.0, 6.0, 9.0)
    assert (row.peak_rss_bytes, row.artifact_bytes) == (300, 7)
    assert (row.samples, row.processes) == (200, 2)


def test_a_failed_contender_has_no_numbers() -> None:
    """What it had measured before it failed is not shown as its result."""
    row = record("it ended").row(0, Workload(4, 16, {}), artifact_bytes=7)
    assert (row.p50_ms, row.load_ms, row.peak_rss_bytes, row.samples) == (None, None, None, 0)
    assert row.error == "it ended"


def test_a_peak_that_held_the_imports_is_said() -> None:
    """Where the system does not let it begin anew."""
    kept = record()
    assert kept.peak_note() is None
    kept.peak_reset = False
    assert "peak RSS" in str(kept.peak_note())


class Told:
    """A child that gives the answers it was made with, and remembers what it was asked."""

    def __init__(self, **answers: object) -> None:
        self.answers = answers
        self.asked: list[tuple[str, dict[str, object]]] = []

    def ask(self, do: str, *, timeout: float, **values: object) -> dict[str, object]:
        """The one answer."""
        self.asked.append((do, {**values, "timeout": timeout}))
        return dict(self.answers)

    def finish(self, *, timeout: float) -> dict[str, object]:
        """The one answer."""
        return self.ask("stop", timeout=timeout)


TURN = {
    "nanoseconds": [2_000_000, 4_000_000], "wall_seconds": 0.004, "cpu_seconds": 0.006,
    "busy_seconds": 0.003, "inferences": 4,
    "drift": {"output": "y", "max_abs": 0.0, "max_ref": 1.0, "cosine": 1.0},
}  # fmt: skip


def measured(scenario: Scenario, **changes: object) -> tuple[Record, Told]:
    """A record of two turns in each of two rounds."""
    found, child = Record("a"), Told(**{**TURN, **changes})
    for round_ in (0, 1):
        for _ in range(2):
            found.measure(
                child,
                0,
                round_,
                seconds=1.0,
                least=1,
                timeout=9.0,
                scenario=scenario,  # type: ignore[arg-type]
            )
    return found, child


def test_turns_add_up() -> None:
    """Times by round; wall, CPU and busy seconds over all."""
    found, _ = measured(make_scenario("single-stream"))
    assert [times.tolist() for times in found.rounds(0)] == [[2.0, 4.0, 2.0, 4.0]] * 2
    turns = [[times.tolist() for times in turns] for turns in found.turn_times(0)]
    assert turns == [[[2.0, 4.0], [2.0, 4.0]]] * 2
    assert found.wall_seconds == pytest.approx(0.016)
    assert found.cpu_share() == pytest.approx(2.0)
    row = found.row(0, Workload(1, None, {}), artifact_bytes=None)
    assert row.cpu_ms == pytest.approx(1.5)
    assert row.throughput == pytest.approx(1000 / 3)
    assert row.ecdf is not None
    assert row.ecdf.ms == (2.0,) * 4 + (4.0,) * 4
    assert (row.offered_qps, row.reached_qps) == (None, None)
    assert Record("b").cpu_share() is None


def test_a_pool_that_goes_on_is_told() -> None:
    """After how many of its turns it took time from the others."""
    assert measured(make_scenario("single-stream"), at_rest=True)[0].restless_note() is None
    found, _ = measured(make_scenario("single-stream"), at_rest=False)
    assert found.restless == 4
    assert "a went on computing after 4 of its turns" in str(found.restless_note())


def test_who_was_given_up_is_in_the_tail() -> None:
    """Twelve of 172 requests that nobody answered: p90 is still a time, p95 none."""
    scenario = make_scenario("server", qps=10.0)
    found, _ = measured(
        scenario, nanoseconds=[2_000_000] * 40, inferences=40, busy_seconds=0.08, given_up=0
    )
    assert found.overload_note(0, Workload(1, 16, {})) is None
    assert found.row(0, Workload(1, 16, {}), artifact_bytes=None).p95_ms == 2.0
    lost, _ = measured(
        scenario, nanoseconds=[2_000_000] * 40, inferences=40, busy_seconds=0.08, given_up=3
    )
    row = lost.row(0, Workload(1, 16, {}), artifact_bytes=None)
    assert (row.p50_ms, row.p90_ms, row.p95_ms) == (2.0, 2.0, None)
    assert "12 requests that waited were given up" in str(
        lost.overload_note(0, Workload(1, 16, {}))
    )


def test_offline_throughput_is_that_of_all_callers() -> None:
    """Answers per second of the whole turn."""
    found, _ = measured(make_scenario("offline"), streams=2)
    row = found.row(0, Workload(8, None, {}), artifact_bytes=None)
    assert row.throughput == pytest.approx(8000.0)
    assert found.streams == {0: [2, 2, 2, 2]}


def test_a_server_reaches_what_answering_takes() -> None:
    """4 answers in 3 ms: 1,333 per second at most."""
    found, child = measured(make_scenario("server", qps=2000.0, seed=5))
    row = found.row(0, Workload(1, 16, {}), artifact_bytes=None)
    assert row.throughput is None
    assert row.offered_qps == 2000.0
    assert row.reached_qps == pytest.approx(4000 / 3)
    assert "the highest rate it reached is 1.33e+03" in str(
        found.overload_note(0, Workload(1, 16, {}))
    )
    seeds = [asked["scenario"]["seed"] for _, asked in child.asked]  # type: ignore[index]
    assert len(set(seeds)) == 4
    _, twin = measured(make_scenario("server", qps=2000.0, seed=5))
    assert [asked["scenario"]["seed"] for _, asked in twin.asked] == seeds  # type: ignore[index]
    assert "p90, p95 and p99 would leave them out" in str(
        found.overload_note(0, Workload(1, 16, {}))
    )
    easy, _ = measured(make_scenario("server", qps=1300.0))
    assert easy.reached_qps(0) == 1300.0
    assert easy.overload_note(0, Workload(1, 16, {})) is None


@pytest.mark.parametrize(("qps", "kept"), [(1300.0, True), (2000.0, False)])
def test_a_queue_that_grew_has_no_tail(qps: float, kept: bool) -> None:
    """The requests that waited longest were given up, and would be missing from it."""
    times = [2_000_000] * 200
    found, _ = measured(make_scenario("server", qps=qps), nanoseconds=times)
    row = found.row(0, Workload(1, 16, {}), artifact_bytes=None)
    assert row.p50_ms == 2.0
    assert found.kept_up(0) is kept
    assert [told is not None for told in (row.p90_ms, row.p95_ms, row.p99_ms)] == [kept] * 3


@pytest.mark.parametrize(
    ("options", "timeout"),
    [({"name": "single-stream"}, 11.0), ({"name": "server", "qps": 0.1}, 111.0),
     ({"name": "sparse", "interval": 30.0}, 41.0)],
)  # fmt: skip
def test_rare_requests_are_waited_for(options: dict[str, object], timeout: float) -> None:
    """A child that sleeps until the next one does not hang."""
    _, child = measured(make_scenario(**options))  # type: ignore[arg-type]
    assert {asked["timeout"] for _, asked in child.asked} == {timeout}


def test_answers_that_left_their_tolerance_are_found() -> None:
    """The first of them, by the rule that is asked for."""
    moved = {"output": "y", "max_abs": 0.1, "max_ref": 1.0, "cosine": 0.995}
    found, _ = measured(make_scenario("single-stream"), drift=moved)
    assert found.drifted(0, TOLERANCES["fp32"]) == Drift("y", 0.1, 1.0, 0.995)
    assert found.drifted(0, TOLERANCES["int8"]) is None
    assert found.drifted(1, TOLERANCES["fp32"]) is None


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"nanoseconds": []}, "no times"),
        ({"nanoseconds": ["x"]}, "'x' where a number"),
        ({"inferences": True}, "True where a number"),
        ({"drift": {"output": "y"}}, "where a drift was expected"),
        ({"drift": {**TURN["drift"], "cosine": "x"}}, "where a drift was expected"),  # type: ignore[dict-item]
    ],
)
def test_nonsense_is_told(changes: dict[str, object], told: str) -> None:
    """A child that answers something else is out."""
    with pytest.raises(ChildFailed, match=told):
        measured(make_scenario("single-stream"), **changes)


def test_stages_are_medians_of_processes() -> None:
    """One entry each; contenders without them have none."""
    found = Record("a", times={0: {0: [1.0]}})
    for engine in (1.0, 5.0, 2.0):
        child = Told(preprocess_ms=0.5, engine_ms=engine, postprocess_ms=0.25)
        found.measure_stages(child, 0, seconds=0.1, timeout=1.0)  # type: ignore[arg-type]
    found.measure_stages(Told(), 1, seconds=0.1, timeout=1.0)  # type: ignore[arg-type]
    row = found.row(0, Workload(1, None, {}), artifact_bytes=None)
    assert row.stages == Stages(0.5, 2.0, 0.25)
    assert set(found.stages) == {0}


def test_pictures_per_second_are_of_the_whole_batch() -> None:
    """From files to answers; of what decodes nothing there is no such number."""
    found = Record("a", times={0: {0: [1.0]}})
    child = Told(preprocess_ms=2.0, engine_ms=5.0, postprocess_ms=1.0, decode_ms=2.0)
    found.measure_stages(child, 0, seconds=0.1, timeout=1.0)  # type: ignore[arg-type]
    row = found.row(0, Workload(3, None, {}), artifact_bytes=None)
    assert row.stages == Stages(2.0, 5.0, 1.0, 2.0, 300.0)


def test_the_largest_is_run_before_the_end() -> None:
    """So that the peaks cover it; what the system does not tell is left out."""
    found = Record("a")
    child = Told(peak_rss_bytes=7, peak_pss_bytes=None)
    found.close(child, timeout=1.0)  # type: ignore[arg-type]
    assert [do for do, _ in child.asked] == ["largest", "stop"]
    assert (found.peaks, found.pss_peaks) == ([7], [])


@pytest.mark.parametrize(
    ("seconds", "options", "expected"),
    [
        (2.0, {"name": "server", "qps": 100.0}, (4, 0.5, 1)),
        (0.3, {"name": "server", "qps": 100.0}, (1, 0.3, 3)),
        (7.0, {"name": "sparse"}, (3, 7 / 3, 1)),
        (1.0, {"name": "sparse"}, (1, 1.0, 1)),
        (1.0, {"name": "offline"}, (20, 0.05, 1)),
    ],
)
def test_turns_are_long_enough_for_their_scenario(
    seconds: float, options: dict[str, object], expected: tuple[int, float, int]
) -> None:
    """Some fifty requests of a server, one that is sparse."""
    scenario = make_scenario(**options)  # type: ignore[arg-type]
    assert plan_turns(seconds, 1.0, scenario) == pytest.approx(expected)
