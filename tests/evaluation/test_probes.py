"""Runtime options that are tried: which, and what is said of those that pay."""

from __future__ import annotations

import shlex
from collections.abc import Callable
from dataclasses import replace

import pytest

from edgekit.core.bundle import Bundle
from edgekit.core.manifest import RuntimeChoice
from edgekit.core.profiles import load_profile
from edgekit.evaluation.probes import Flip, flips, probe, proposals
from edgekit.evaluation.ratios import RatioEstimate
from edgekit.runtime.workloads import Workload

Make = Callable[..., Bundle]

FASTER = RatioEstimate(1.3, 1.2, 1.4)
EQUAL = RatioEstimate(1.0, 0.9, 1.1)
SLOWER = RatioEstimate(0.8, 0.7, 0.9)


def changed(bundle: Bundle, engine: str = "onnxruntime", **options: object) -> Bundle:
    """A bundle with runtime options."""
    manifest = replace(
        bundle.manifest,
        requires=replace(bundle.manifest.requires, engine=engine),
        runtime=RuntimeChoice(options, None),
    )
    return Bundle(bundle.path, manifest)


@pytest.mark.parametrize(
    ("engine", "options", "threads", "expected"),
    [
        ("onnxruntime", {}, 2, ["allow_spinning=false", "session.set_denormal_as_zero=0"]),
        ("onnxruntime", {"allow_spinning": False}, 2,
         ["allow_spinning=true", "session.set_denormal_as_zero=0"]),
        ("onnxruntime", {"session": {"session.set_denormal_as_zero": "0"}}, 1,
         ["session.set_denormal_as_zero=1"]),
        ("openvino", {}, 2, ["performance_hint=throughput"]),
        ("openvino", {"performance_hint": "throughput"}, 2, ["performance_hint=latency"]),
        ("somebody-else", {}, 2, []),
    ],
)  # fmt: skip
def test_options_are_flipped(
    bundle_of: Make, engine: str, options: dict[str, object], threads: int, expected: list[str]
) -> None:
    """From what the bundle sets, or else from what the engine does; one thread does not spin."""
    found = flips("m", changed(bundle_of("linear"), engine, **options), threads=threads)
    assert [flip.option for flip in found] == expected


def test_the_setting_is_one_that_compile_takes(bundle_of: Make) -> None:
    """Pasted into the command it gives a profile with these options."""
    bundle = bundle_of("linear")
    for engine in ("onnxruntime", "openvino"):
        for flip in flips("m", changed(bundle, engine), threads=2):
            profile = load_profile("host", overrides=[flip.setting])
            options = profile.options[engine]
            for key, value in flip.options.items():
                assert options[key] == value


@pytest.mark.parametrize(
    ("gains", "told"),
    [([FASTER, EQUAL], True), ([EQUAL], False), ([FASTER, SLOWER], False), ([], False)],
)
def test_what_pays_is_proposed(bundle_of: Make, gains: list[RatioEstimate], told: bool) -> None:
    """When it is resolved faster somewhere and slower nowhere, with the command to keep it."""
    bundle = bundle_of("linear")
    flip = flips("m", bundle, threads=1)[0]
    probes = [
        probe(flip, Workload(1, 16 * (index + 1), {}), gain) for index, gain in enumerate(gains)
    ]
    notes = proposals([flip], probes, {"m": bundle})
    assert bool(notes) == told
    if told:
        assert "1.30× (1.20–1.40) at 1×16" in notes[0]
        command = shlex.split(notes[0].partition("To keep it: ")[2])
        assert command[:3] == ["edgekit", "compile", str(bundle.path)]
        assert command[-2:] == ["--set", flip.setting]


def test_probes_run_under_their_own_name() -> None:
    """Nobody takes one for the bundle."""
    assert Flip("m", "x=1", {}, "").name == "m [x=1]"
