"""Which candidate of a build comes first."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from edgekit.core.bundle import Bundle
from edgekit.core.manifest import FileEntry
from edgekit.core.measurements import BenchResult, Contender, Noise, Ratio
from edgekit.core.profiles import Profile, load_profile
from edgekit.evaluation.measuring import Measuring
from edgekit.pipeline.builds import ranking
from edgekit.pipeline.builds.jobs import Goal, Options
from edgekit.pipeline.builds.ranking import Rung, Speeds, rank
from edgekit.pipeline.progress import silent
from edgekit.reporting import words
from tests.runtime.conftest import linear_graph, write_bundle

ORT, OV = "onnxruntime", "openvino"
OPTIONS = Options(
    source="m:f", target="host", overrides=(), task=None, data=None, columns=None, metric=None,
    max_drop=None, calibration=None, batch=None, length=None, threads=2, revision=None,
    trust_remote_code=False, inputs=(), seed=3,
)  # fmt: skip
HERE = replace(load_profile("host"), engines=(ORT, OV), precisions=("int8", "fp32"))
# Nothing runs here that needs such a feature.
FAR = replace(HERE, name="far", features=("no-such-feature",))


class Bench:
    """What is measured: the speed of each candidate, by the name of its folder."""

    def __init__(self, speeds: Mapping[str, float | None]) -> None:
        self.speeds = speeds
        self.asked: list[tuple[list[str], Measuring]] = []

    def __call__(
        self, paths: Sequence[Path], _: None, measuring: Measuring, **__: object
    ) -> BenchResult:
        """In place of `edgekit.evaluation.latency.bench`."""
        names = [path.name for path in paths]
        self.asked.append((names, measuring))
        contenders = tuple(
            Contender(
                name, ORT, 1, None, 1.0, None, None, None, None, None, None, None, None, None, 60,
                6, error="It crashed." if self.speeds[name] is None else None,
            )
            for name in names
        )  # fmt: skip
        base = self.speeds[names[0]]
        ratios = tuple(
            Ratio(names[0], name, 1, None, value / base, 0.9 * value / base, 1.1 * value / base,
                  1.01, "faster")
            for name in names[1:]
            if base is not None and (value := self.speeds[name]) is not None
        )  # fmt: skip
        return BenchResult({}, {}, {}, contenders, ratios, Noise(1.0, 0.99, 1.01, "quiet", ()))


@pytest.fixture
def bundle(tmp_path: Path) -> Bundle:
    """What the candidates are made of."""
    return write_bundle(tmp_path / "b", linear_graph(), task="custom")


def rungs(bundle: Bundle, sizes: Mapping[str, int]) -> list[Rung]:
    """Candidates with these names, "engine precision", of so many bytes."""
    found = []
    for name, size in sizes.items():
        engine, precision = name.split()
        files = (FileEntry("model.onnx", size, "", "component"),)
        one = Bundle(bundle.path.with_name(name), replace(bundle.manifest, files=files))
        found.append(Rung(name, engine, precision, one))
    return found


def ranked(
    patch: pytest.MonkeyPatch,
    bundle: Bundle,
    speeds: Mapping[str, float | None],
    goal: Goal = "latency",
    profile: Profile = HERE,
) -> tuple[Speeds, Bench]:
    """The order of candidates that would be so fast, and what was measured for it."""
    bench = Bench(speeds)
    patch.setattr(ranking, "bench", bench)
    sizes = {name: 100 - place for place, name in enumerate(speeds)}
    return rank(rungs(bundle, sizes), profile, goal, OPTIONS, silent), bench


def names(speeds: Speeds) -> list[str]:
    """The order by name."""
    return [rung.name for rung in speeds.order]


def test_fastest_first(bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    """All engines together, each with its speed against the first and the interval of it."""
    found, _ = ranked(
        monkeypatch, bundle,
        {f"{ORT} fp32": 1.0, f"{ORT} int8": 2.0, f"{OV} fp32": 1.5, f"{OV} int8": 3.0},
    )  # fmt: skip
    assert names(found) == [f"{OV} int8", f"{ORT} int8", f"{OV} fp32", f"{ORT} fp32"]
    assert (found.measured, found.rejected) == (True, {})
    assert found.reasons[f"{OV} int8"] == f"3.00× {ORT} fp32 (2.70× to 3.30×)"
    assert found.reasons[f"{ORT} fp32"] == "what the speed of the others is measured by"


def test_less_exact_has_to_be_faster(bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    """Than what is more exact on its own engine; what is not is out, with the reason."""
    found, _ = ranked(
        monkeypatch, bundle,
        {f"{ORT} fp32": 1.0, f"{ORT} int8": 1.2, f"{OV} fp32": 1.5, f"{OV} bf16": 2.0,
         f"{OV} int8": 1.8, f"{OV} int4": 2.0},
    )  # fmt: skip
    assert names(found) == [f"{OV} bf16", f"{OV} fp32", f"{ORT} int8", f"{ORT} fp32"]
    assert set(found.rejected) == {f"{OV} int8", f"{OV} int4"}
    assert found.rejected[f"{OV} int8"] == (
        f"not faster than {OV} bf16, which is more exact: 1.80× {ORT} fp32 (1.62× to 1.98×)"
    )


def test_what_cannot_be_measured(bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is out with its error, and nothing has to be faster than it."""
    found, _ = ranked(
        monkeypatch, bundle, {f"{ORT} fp32": 1.0, f"{OV} fp32": None, f"{OV} int8": 0.5}
    )
    assert names(found) == [f"{ORT} fp32", f"{OV} int8"]
    assert found.rejected == {f"{OV} fp32": "could not be measured: It crashed"}


def test_the_first_cannot_be_measured(bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    """The others are measured again, against the next one."""
    found, bench = ranked(
        monkeypatch, bundle, {f"{ORT} fp32": None, f"{ORT} int8": 1.0, f"{OV} fp32": 2.0}
    )
    assert names(found) == [f"{OV} fp32", f"{ORT} int8"]
    assert found.rejected == {f"{ORT} fp32": "could not be measured: It crashed"}
    assert found.reasons[f"{OV} fp32"].startswith(f"2.00× {ORT} int8")
    assert len(bench.asked) == 2


@pytest.mark.parametrize(("goal", "scenario"), [("latency", "single-stream"),
                                                ("throughput", "offline")])  # fmt: skip
def test_scenario_of_a_goal(
    bundle: Bundle, monkeypatch: pytest.MonkeyPatch, goal: Goal, scenario: str
) -> None:
    """One request at a time, or as many as go through, with the build's threads and seed."""
    _, bench = ranked(monkeypatch, bundle, {f"{ORT} fp32": 1.0, f"{ORT} int8": 2.0}, goal)
    ((_, measuring),) = bench.asked
    measuring.check()
    assert measuring.scenario.name == scenario
    assert (measuring.threads, measuring.seed, measuring.batches) == (2, 3, (1,))


def test_smallest_first(bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    """For size nothing is measured."""
    found, bench = ranked(
        monkeypatch, bundle, {f"{ORT} fp32": 1.0, f"{ORT} int8": 0.5, f"{OV} fp32": 9.0}, "size"
    )
    assert names(found) == [f"{OV} fp32", f"{ORT} int8", f"{ORT} fp32"]
    assert (found.measured, bench.asked) == (True, [])
    assert found.reasons[f"{OV} fp32"] == words.size(98)


@pytest.mark.parametrize("goal", ["latency", "throughput"])
def test_another_machine(bundle: Bundle, monkeypatch: pytest.MonkeyPatch, goal: Goal) -> None:
    """The profile's order of precisions, then of engines; what it does not list comes last."""
    found, bench = ranked(
        monkeypatch, bundle,
        {f"{ORT} fp32": 1.0, f"{ORT} int8": 2.0, f"{OV} fp32": 3.0, f"{OV} bf16": 9.0,
         f"{OV} int8": 4.0},
        goal, FAR,
    )  # fmt: skip
    assert names(found) == [
        f"{ORT} int8", f"{OV} int8", f"{ORT} fp32", f"{OV} fp32", f"{OV} bf16"
    ]  # fmt: skip
    assert (found.measured, bench.asked, found.rejected) == (False, [], {})
    assert all("not measured: this machine" in reason for reason in found.reasons.values())


def test_size_on_another_machine(bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    """The smallest comes first, and its speed is said to be unmeasured."""
    found, _ = ranked(monkeypatch, bundle, {f"{ORT} fp32": 1.0, f"{ORT} int8": 2.0}, "size", FAR)
    assert names(found) == [f"{ORT} int8", f"{ORT} fp32"]
    assert not found.measured
    assert "speed not measured: this machine" in found.reasons[f"{ORT} int8"]


@pytest.mark.parametrize("count", [0, 1])
def test_no_choice(bundle: Bundle, monkeypatch: pytest.MonkeyPatch, count: int) -> None:
    """One candidate, or none, needs no measurement."""
    found, bench = ranked(monkeypatch, bundle, dict.fromkeys([f"{ORT} fp32"][:count], 1.0))
    assert (len(found.order), found.measured, bench.asked) == (count, True, [])


def test_a_noisy_comparison_is_told(bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    """With its causes, in which candidates have the names that people know."""
    bench = Bench({f"{ORT} fp32": 1.0, f"{ORT} int8": 2.0})
    noisy = Noise(1.1, 1.05, 1.2, "noisy", (f"{ORT} fp32 came out faster than itself",))

    def measure(*given: object, **options: object) -> BenchResult:
        return replace(bench(*given, **options), noise=noisy)  # type: ignore[arg-type]

    monkeypatch.setattr(ranking, "bench", measure)
    two = rungs(bundle, {f"{ORT} fp32": 2, f"{ORT} int8": 1})
    found = rank(two, HERE, "latency", OPTIONS, silent)
    (note,) = found.notes
    assert "the machine was noisy; onnxruntime fp32 came out faster than itself" in note


@pytest.mark.parametrize("run", [True, False])
def test_an_accelerator_is_here_where_it_has_run(
    bundle: Bundle, monkeypatch: pytest.MonkeyPatch, run: bool
) -> None:
    """What was compiled on it is timed on it; its name alone says nothing."""
    evidence = {"run_on": {"provider": "CUDA"} if run else None}
    manifest = replace(bundle.manifest, evidence=evidence)
    found, bench = ranked(
        monkeypatch, replace(bundle, manifest=manifest), {f"{ORT} fp32": 1.0, f"{ORT} fp16": 2.0},
        profile=replace(HERE, name="cuda", device="cuda", precisions=("fp16", "fp32")),
    )  # fmt: skip
    assert (found.measured, len(bench.asked)) == (run, int(run))
    assert names(found) == [f"{ORT} fp16", f"{ORT} fp32"]
    told = "2.00×" if run else "not measured: its device is not here"
    assert told in found.reasons[f"{ORT} fp16"]
