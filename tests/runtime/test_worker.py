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
from edgekit.runtime.worker import not_finite, serve
from edgekit.runtime.workloads import Workload, save_workloads

Outputs = Mapping[str, np.ndarray]


class Fixed:
    """A contender that answers at once; `refuse` makes it fail to open."""

    def __init__(self, *, refuse: bool = False) -> None:
        self.refuse = refuse
        self.prepared: list[int | None] = []

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
        """An inference that returns its input."""
        return lambda: dict(workload.feeds)

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


@pytest.mark.parametrize("wrong", [WARM, MEASURE, {"do": "dance", "workload": 0}])
def test_commands_out_of_order_are_bugs(inputs: Path, wrong: Mapping[str, object]) -> None:
    """The parent is ours: it gets a traceback."""
    with pytest.raises(ValueError, match=r"before|unknown"):
        talk(Fixed(), inputs, wrong)


def test_integers_are_always_finite() -> None:
    """Only floating-point outputs can hold NaN."""
    assert not_finite({"ids": np.array([1, 2])}) is None
    assert not_finite({"ids": np.array([1]), "y": np.array([np.nan])}) == "y"
