"""``edgekit prune`` as a command: its exit codes, its JSON, what a person reads."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from edgekit.cli.commands.pruning import describe
from edgekit.core.measurements import Accuracy, Interval, Latency, Noise
from edgekit.core.pruned import (
    Change,
    Cut,
    PrunedLayer,
    PruneResult,
    RecoveryFacts,
    SensitivityRow,
    TablePoint,
)
from edgekit.core.results import to_json
from tests.cli.test_main import edgekit
from tests.schemas import check_schema_of

RESULT = PruneResult(
    output=Path("p"),
    structures=("ffn", "layers"),
    parameters=Change(22_000_000, 17_000_000),
    flops=Change(2_900_000_000, 1_800_000_000),
    accuracy=Accuracy("accuracy", 0.85, 0.845, 0.005, -0.001, 0.009, 4245, None, "points"),
    latency=Latency(20.0, 13.0, Interval(1.54, 1.5, 1.58)),
    verdict="pass",
    method="fisher",
    target="host",
    engine="onnxruntime",
    goal={"ratio": None, "speedup": 1.5, "max_drop": "1pt"},
    predicted_speedup=1.52,
    layers=(
        PrunedLayer("encoder.layer.0", True, Change(12, 12), Change(1536, 1024)),
        PrunedLayer("encoder.layer.1", False, Change(12, 0), Change(1536, 0)),
    ),
    table=(TablePoint("layer", 0, 3.1), TablePoint("ffn", 768, 0.9)),
    repair={"solved": 2, "missing_before": 0.2, "missing_after": 0.04, "seconds": 12.0},
    recovery=RecoveryFacts(1200, 1000, 0.08, 0.02, 0.93, 0.97, "nothing more", 200.0),
    sensitivity=(SensitivityRow("ffn", 0.25, 20_000_000, 0.01, 0.98, 0.84, 1.1, 0.85),),
    tried=(Cut("5 of 6 layers", 1.53, 1.55, 0.08, True, "fast enough"),),
    workload={"batch": 1, "length": 128, "threads": 2},
    noise=Noise(1.01, 0.98, 1.04, "quiet", ()),
    notes=("Something to know.",),
    seconds=600.0,
)


def test_what_a_person_reads() -> None:
    """The verdict first, then what went, what it cost, what it gained and what was foretold."""
    text = describe(RESULT)
    assert text.startswith("verdict: pass\n")
    for line in (
        "cut: ffn, layers, rated by fisher",
        "parameters: 22,000,000 → 17,000,000 (22.73 % less)",
        "1.54× (1.50× to 1.58×)",
        "foretold by the latency table: 1.52×, 1.30 % below what was measured",
        "least squares: 20.00 % of the layers' sums were missing, 4.00 % are now",
        "recovery: step 1,000 of 1,200 kept, loss 0.0800 → 0.0200",
        "note: Something to know.",
        "next: edgekit export p -o p-bundle",
    ):
        assert line in text, text
    assert "gone" in text
    assert "cut alone" in text
    assert "Of the original 85.00 % are right." in text


def test_what_was_not_measured_is_told() -> None:
    """Elsewhere there is no speed, without data no accuracy."""
    text = describe(
        replace(RESULT, latency=None, accuracy=None, not_run="this machine is x86_64", noise=None)
    )
    assert "accuracy: not judged" in text
    assert "latency: not measured for host" in text


@pytest.mark.parametrize(
    ("missing", "told"),
    [
        ({"accuracy": None}, "verdict: pass for its speed alone; without --data"),
        (
            {"latency": None},
            "verdict: pass for its accuracy; its speed was not measured: not run on",
        ),
        ({"accuracy": None, "latency": None}, "verdict: cut as asked for; nothing was judged"),
        ({"accuracy": None, "verdict": "inconclusive"}, "verdict: inconclusive\n"),
    ],
)
def test_the_verdict_says_what_it_rests_on(missing: dict[str, object], told: str) -> None:
    """Nothing passes for what was not looked at."""
    assert describe(replace(RESULT, **missing)).startswith(told)  # type: ignore[arg-type]


def test_the_next_step_opens_what_was_written() -> None:
    """Code of one's own and how pictures are prepared are told to export as well."""
    text = describe(RESULT, ["--trust-remote-code", "--processor", "my file.toml"])
    assert (
        "next: edgekit export p -o p-bundle --trust-remote-code --processor 'my file.toml'" in text
    )


def test_the_record_fits_the_schema() -> None:
    """All of it, with and without what may be missing."""
    check_schema_of("prune", to_json(RESULT))
    check_schema_of(
        "prune",
        to_json(
            replace(RESULT, output=None, latency=None, accuracy=None, recovery=None, noise=None)
        ),
    )


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (("-o", "p"), 2, "Nothing says how much to cut"),
        (("-o", "p", "--ratio", "0"), 2, "--ratio is a share between 0 and 1"),
        (("-o", "p", "--ratio", "1"), 2, "--ratio is a share between 0 and 1"),
        (("-o", "p", "--ratio", "-1"), 2, "--ratio is a share between 0 and 1"),
        (("-o", "p", "--ratio", ".5", "--speedup", "2"), 2, "both say how much is cut"),
        (("-o", "p", "--max-drop", "1%"), 2, "needs --data"),
        (("-o", "p", "--ratio", ".5", "--recover-steps", "9"), 2, "needs --data to learn from"),
        (("--ratio", ".5"), 2, "no output"),
        (("-o", "p", "--speedup", "2", "--target", "cpu-arm64"), 7, "cannot be measured here"),
        (("-o", ".", "--ratio", ".5"), 2, "is the current folder"),
        (("-o", "p", "--ratio", ".5", "--html", "no/r.html"), 2, "There is no folder no"),
    ],
)
def test_bad_goals_have_their_exit_codes(
    tmp_path: Path, words: tuple[str, ...], code: int, message: str
) -> None:
    """They are told before the model is looked for, and nothing is left."""
    done = edgekit("prune", "some/model", *words, "--json", cwd=tmp_path)
    assert done.returncode == code, done.stderr
    error = json.loads(done.stdout)["error"]
    assert error["exit_code"] == code
    assert message in error["message"]
    assert list(tmp_path.iterdir()) == []


def test_a_structure_that_the_model_has_not(tmp_path: Path, classifier_source: Path) -> None:
    """A BERT has no channels; what it has is told."""
    done = edgekit(
        "prune", classifier_source, "-o", "p", "--ratio", ".5", "--structure", "channels", "--json",
        cwd=tmp_path,
    )  # fmt: skip
    assert done.returncode == 2, done.stderr
    error = json.loads(done.stdout)["error"]
    assert "has no channels" in error["message"]
    assert "heads, ffn, layers" in error["hint"]
    assert list(tmp_path.iterdir()) == []
