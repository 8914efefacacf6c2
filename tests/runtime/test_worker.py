"""The child's side of a bench: one answer per command, nothing else on stdout."""

from __future__ import annotations

import io
import json
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pytest

from edgekit.core.errors import EngineUnavailable
from edgekit.runtime import timing
from edgekit.runtime.tokens import Request
from edgekit.runtime.worker import not_finite, serve
from edgekit.runtime.workloads import Workload, load_outputs, save_workloads

Outputs = Mapping[str, np.ndarray]


class Fixed:
    """A contender that answers at once; `refuse` makes it fail to open."""

    def __init__(self, *, refuse: bool = False) -> None:
        self.refuse = refuse
        self.prepared: list[int | str | None] = []
        self.ran: list[int] = []

    def imports(self) -> None:
        """Nothing to import."""

    def open(self) -> Fixed:
        """Itself."""
        if self.refuse:
            raise EngineUnavailable("Not here.", hint="Install it.")
        return self

    def facts(self) -> Mapping[str, object]:
        """What it runs on."""
        return {"engine": "fixed", "prepared": len(self.prepared)}

    def start(self, workload: Workload) -> Callable[[], Outputs]:
        """An inference that notes the size of its input and returns it."""

        def call() -> Outputs:
            self.ran.append(sum(array.size for array in workload.feeds.values()))
            return dict(workload.feeds)

        return call

    def prepare(self, workload: Workload) -> Callable[[], Outputs]:
        """Remembers for what it was prepared."""
        self.prepared.append(workload.length)
        return self.start(workload)


@pytest.fixture
def inputs(tmp_path: Path) -> Path:
    """Two workloads, the second with infinities in it."""
    path = tmp_path / "w.safetensors"
    good = {"x": np.ones(2, dtype=np.float32), "n": np.ones(2, dtype=np.int64)}
    bad = {"x": np.array([1, np.inf], dtype=np.float32)}
    save_workloads([Workload(1, 16, good), Workload(1, 32, bad)], path)
    return path


def talk(
    contender: Fixed, inputs: Path, *commands: Mapping[str, object]
) -> tuple[int, list[dict[str, object]]]:
    """The exit code, and the answers to some commands."""
    replies = io.StringIO()
    lines = io.StringIO("".join(json.dumps(command) + "\n" for command in commands))
    code = serve(contender, inputs, lines, replies)
    return code, [json.loads(line) for line in replies.getvalue().splitlines()]


OPEN = {"do": "open", "workload": 0, "spawned": time.monotonic()}
WARM = {"do": "warm", "workload": 0, "seconds": 0.0}
MEASURE = {"do": "measure", "workload": 0, "seconds": 0.0, "least": 4}


def test_every_command_has_one_answer(inputs: Path) -> None:
    """Load figures, warm-up, times, the peak of memory."""
    contender = Fixed()
    code, answers = talk(contender, inputs, OPEN, WARM, MEASURE, {"do": "stop"})
    assert code == 0
    opened, warm, measured, stopped = answers
    assert [answer["event"] for answer in answers] == ["open", "warm", "measure", "stopped"]
    assert {"import_ms", "load_ms", "first_ms", "facts"} <= set(opened)
    assert opened["wrong"] is None
    assert warm["facts"] == {"engine": "fixed", "prepared": 1}
    assert len(measured["nanoseconds"]) == 4  # type: ignore[arg-type]
    assert isinstance(opened["peak_reset"], bool)
    assert "peak_rss_bytes" in stopped
    assert contender.prepared == [16]


def test_the_first_inference_needs_no_preparation(inputs: Path) -> None:
    """What is tried out in `prepare` would warm the first call up."""
    contender = Fixed()
    talk(contender, inputs, OPEN)
    assert contender.prepared == []


def test_infinities_are_told_by_output(inputs: Path) -> None:
    """The parent drops the contender and names the output."""
    answers = talk(Fixed(), inputs, {**OPEN, "workload": 1}, {**WARM, "workload": 1})[1]
    assert [answer["wrong"] for answer in answers] == ["x", "x"]


def test_an_expected_failure_is_an_answer(inputs: Path) -> None:
    """With kind, message and remedy, and the error's exit code."""
    code, (answer,) = talk(Fixed(refuse=True), inputs, OPEN)
    assert code == 7
    assert answer.pop("event") == "error"
    assert answer == {"kind": "EngineUnavailable", "message": "Not here.", "hint": "Install it."}


def test_the_end_of_input_means_stop(inputs: Path) -> None:
    """A child whose parent is gone ends quietly."""
    assert talk(Fixed(), inputs, OPEN)[0] == 0


class Shifting(Fixed):
    """Its answers grow by one from call to call."""

    def start(self, workload: Workload) -> Callable[[], Outputs]:
        """An inference."""

        def call() -> Outputs:
            self.ran.append(1)
            return {"same": np.ones(2), "y": np.full(3, float(len(self.ran)))}

        return call


class Staged(Fixed):
    """Tells stages."""

    def stages(self, workload: Workload, *, seconds: float) -> Mapping[str, float]:
        """Made-up ones."""
        return {"preprocess_ms": seconds, "engine_ms": 2.0, "postprocess_ms": 3.0}


def saved(path: Path, *workloads: Workload) -> Path:
    """The file of some workloads."""
    save_workloads(workloads, path)
    return path


def sized(*sizes: int) -> tuple[dict[str, np.ndarray], ...]:
    """One array of each size."""
    return tuple({"x": np.ones(size, dtype=np.float32)} for size in sizes)


def test_outputs_of_all_workloads_are_written(tmp_path: Path) -> None:
    """The cold workload runs once, timed; the others after it."""
    small, large = (
        Workload(1, size, feeds) for size, feeds in zip((2, 9), sized(2, 9), strict=True)
    )
    path = saved(tmp_path / "w", small, large)
    contender = Fixed()
    talk(contender, path, {**OPEN, "workload": 1, "outputs": str(tmp_path / "o")})
    assert contender.ran == [9, 2]
    first, second = load_outputs(tmp_path / "o")
    assert (first["x"].size, second["x"].size) == (2, 9)


def test_infinities_of_any_workload_are_told(inputs: Path, tmp_path: Path) -> None:
    """Also of one that was run only to write its outputs."""
    (answer,) = talk(Fixed(), inputs, {**OPEN, "outputs": str(tmp_path / "o")})[1]
    assert answer["wrong"] == "x"


def test_answers_that_change_are_told(inputs: Path) -> None:
    """The last answers of a turn against the process's first."""
    (_, _, measured) = talk(Shifting(), inputs, OPEN, WARM, MEASURE)[1]
    drift = measured["drift"]
    assert isinstance(drift, dict)
    assert (drift["output"], drift["max_ref"]) == ("y", 1.0)
    assert drift["max_abs"] > 4
    (_, _, steady) = talk(Fixed(), inputs, OPEN, WARM, MEASURE)[1]
    assert steady["drift"]["max_abs"] == 0.0  # type: ignore[index]
    assert steady["wrong"] is None


def test_variants_take_turns(tmp_path: Path) -> None:
    """Inferences go round all arrays; the settings are found on those of middle size."""
    feeds = sized(5, 1, 9)
    contender = Fixed()
    path = saved(tmp_path / "w", Workload(1, "data", feeds[0], feeds))
    talk(contender, path, OPEN, WARM)
    assert contender.ran[2:7] == [5, 1, 9, 5, 1]
    assert contender.prepared == ["data"]
    (_, _, measured) = talk(Fixed(), path, OPEN, WARM, MEASURE)[1]
    # The last call ran other arrays than the first one: the first ones are run again.
    assert measured["drift"]["max_abs"] == 0.0  # type: ignore[index]


class Answering(Fixed):
    """Answers requests of one token each."""

    def start(self, workload: Workload) -> Callable[[], Outputs]:
        """See `Fixed`."""
        call = super().start(workload)

        def answer(came: Callable[[], None]) -> Outputs:
            came()
            return call()

        return Request(answer)


def test_contenders_answer_the_same_requests_in_a_turn(tmp_path: Path) -> None:
    """However many their warm-up took; the next turn has others."""
    feeds = sized(*range(1, 8))
    path = saved(tmp_path / "w", Workload(1, "data", feeds[0], feeds))
    timed = []
    for warm in (WARM, {**WARM, "seconds": 0.05}):
        contender = Answering()
        turns = [{**MEASURE, "least": 2, "turn": [1, at]} for at in (0, 1)]
        talk(contender, path, OPEN, warm, *turns)
        timed.append(contender.ran[-10:])
    # Two that do not count, two that do, and the first one, which has to answer as it did before.
    assert timed[0] == timed[1]
    assert timed[0][2:4] != timed[0][7:9]
    assert timed[0][4] == timed[0][9] == 1


class Settling(Fixed):
    """Notes the order in which its calls are made."""

    def __init__(self) -> None:
        super().__init__()
        self.made: list[tuple[str, int]] = []

    def start(self, workload: Workload) -> Callable[[], Outputs]:
        """See `Fixed`."""
        self.made.append(("start", workload.feeds["x"].size))
        return super().start(workload)

    def prepare(self, workload: Workload) -> Callable[[], Outputs]:
        """See `Fixed`."""
        self.made.append(("prepare", workload.feeds["x"].size))
        return super().start(workload)


def test_settings_are_found_before_the_variants_are_made(tmp_path: Path) -> None:
    """Inputs that are laid out for other settings would be converted in every call."""
    feeds = sized(5, 1, 9)
    contender = Settling()
    talk(contender, saved(tmp_path / "w", Workload(1, "data", feeds[0], feeds)), OPEN, WARM)
    assert contender.made[1:] == [("prepare", 5), ("start", 1), ("start", 9)]


@pytest.mark.parametrize(
    ("scenario", "keys"),
    [
        ({"name": "single-stream"}, set()),
        ({"name": "server", "qps": 2000.0, "seed": 1}, set()),
        ({"name": "sparse", "interval": 0.001}, set()),
        ({"name": "offline", "streams": None}, {"streams"}),
    ],
)
def test_every_scenario_is_answered(
    inputs: Path, scenario: Mapping[str, object], keys: set[str]
) -> None:
    """With the same numbers, and what is the scenario's own."""
    (_, _, measured) = talk(Fixed(), inputs, OPEN, WARM, {**MEASURE, "scenario": scenario})[1]
    always = {
        "event", "nanoseconds", "wall_seconds", "cpu_seconds", "busy_seconds", "inferences",
        "drift", "wrong", "given_up", "at_rest",
    }  # fmt: skip
    assert set(measured) == always | keys
    assert measured["inferences"] >= 4  # type: ignore[operator]


def test_stages_are_told_by_those_who_know(inputs: Path) -> None:
    """Others answer with nothing."""
    command = {"do": "stages", "workload": 0, "seconds": 0.5}
    assert talk(Fixed(), inputs, OPEN, command)[1][1] == {"event": "stages", "at_rest": True}
    (_, stages) = talk(Staged(), inputs, OPEN, command)[1]
    assert (stages["preprocess_ms"], stages["engine_ms"]) == (0.5, 2.0)


def test_peaks_are_those_before_the_stages(inputs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What decoding takes is no part of a model's peak, on whatever contender it is run."""
    contender = Staged()
    peaks = iter([1 << 40, 1 << 50])
    monkeypatch.setattr(timing, "peak_bytes", lambda: next(peaks))
    command = {"do": "stages", "workload": 0, "seconds": 0.5}
    answers = talk(contender, inputs, OPEN, command, {"do": "largest"}, {"do": "stop"})[1]
    stopped = answers[-1]["peak_rss_bytes"]
    assert isinstance(stopped, int)
    assert stopped < 1 << 40
    # What is largest was run before the peak was read, and not again.
    assert len(contender.ran) == 3


def test_the_largest_arrays_are_run_at_the_end(tmp_path: Path) -> None:
    """Twice, whichever workload and variant they belong to."""
    feeds = sized(3, 7)
    path = saved(tmp_path / "w", Workload(1, 5, sized(5)[0]), Workload(1, "data", feeds[0], feeds))
    contender = Fixed()
    answers = talk(contender, path, OPEN, {"do": "largest"}, {"do": "stop"})[1]
    assert contender.ran == [5, 7, 7]
    assert answers[1] == {"event": "largest", "at_rest": True}
    assert {"peak_rss_bytes", "peak_pss_bytes"} <= set(answers[2])


def test_an_answer_comes_when_nothing_computes_any_more(
    inputs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another contender's turn begins with it; a pool that will not rest is told."""
    calls: list[str] = []

    def come_to_rest() -> bool:
        calls.append("rest")
        return len(calls) < 3

    monkeypatch.setattr(timing, "come_to_rest", come_to_rest)
    answers = talk(Fixed(), inputs, OPEN, WARM, MEASURE)[1]
    assert [answer["at_rest"] for answer in answers] == [True, True, False]


@pytest.mark.parametrize("wrong", [WARM, MEASURE, {"do": "largest"}, {"do": "dance"}])
def test_commands_out_of_order_are_bugs(inputs: Path, wrong: Mapping[str, object]) -> None:
    """The parent is ours: it gets a traceback."""
    with pytest.raises(ValueError, match=r"before|unknown"):
        talk(Fixed(), inputs, wrong)


def test_integers_are_always_finite() -> None:
    """Only floating-point outputs can hold NaN."""
    assert not_finite({"ids": np.array([1, 2])}) is None
    assert not_finite({"ids": np.array([1]), "y": np.array([np.nan])}) == "y"
