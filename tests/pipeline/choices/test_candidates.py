"""Recipes written down as bundles, and how their golden answers are judged."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from edgekit.core.bundle import open_bundle
from edgekit.core.errors import QuantizeError
from edgekit.core.profiles import Profile, load_profile
from edgekit.core.tolerance import Tolerance
from edgekit.pipeline.choices import candidates
from edgekit.pipeline.choices.candidates import Workshop, beyond_tolerance, describe
from edgekit.pipeline.progress import silent
from edgekit.quantization import onnxruntime
from edgekit.quantization.recipes import Recipe
from tests.pipeline.quantizable import Small, make_small, rows

PLAIN = Recipe("int8-dynamic")
VNNI = replace(load_profile("cpu-x86"), name="vnni", features=("avx2", "fma", "avx512_vnni"))


@pytest.fixture
def small(tmp_path: Path) -> Small:
    """The small classifier."""
    return make_small(tmp_path)


def make(small: Small, profile: Profile) -> Workshop:
    """A workshop for a profile."""
    source = open_bundle(small.bundle)
    work = small.folder / "work"
    work.mkdir()
    feeds = [{"x": row[None]} for row in rows(20)[0]]
    prepared = onnxruntime.prepare(source, "model", profile, work, feeds)
    return Workshop(
        source, profile, {"model": prepared}, small.folder, rows={"search": ["00" * 8]},
        options={"method": "dynamic"}, began=0.0,
    )  # fmt: skip


def test_a_candidate_is_a_bundle(small: Small) -> None:
    """It opens, answers, and its manifest says from what, how and by which rows it came to be."""
    workshop = make(small, VNNI)
    candidate = workshop.write(PLAIN)
    manifest = open_bundle(candidate.bundle.path).manifest
    assert manifest.stage == "quantized"
    step = manifest.steps[-1]
    assert (step.step, step.input_id) == ("quantize", workshop.source.id)
    assert step.facts["recipe"] == {"scheme": "int8-dynamic"}
    assert dict(step.data) == {"search": ["00" * 8]}
    assert {"numpy", "onnxruntime"} <= set(step.versions)
    assert candidate.bytes < workshop.source.bytes()
    workshop.forget(candidate)
    assert not candidate.bundle.path.exists()


def test_the_processor_is_asked_for_at_the_end(small: Small) -> None:
    """Candidates run on any machine; what is handed over names the kernels it was made for."""
    workshop = make(small, VNNI)
    candidate = workshop.write(PLAIN)
    assert candidate.bundle.manifest.requires.cpu_features == ()
    finished = workshop.finish(candidate, small.output, facts={"more": 1}, force=False)
    assert finished.manifest.requires.cpu_features == ("avx512_vnni",)
    assert finished.manifest.name == "q"
    assert finished.manifest.steps[-1].facts["more"] == 1
    assert finished.manifest.steps[-1].seconds > 0
    files = {entry.path for entry in finished.manifest.files}
    assert files == {path.name for path in small.output.iterdir()} - {"edgekit.json"}


def test_input_is_left_alone(small: Small) -> None:
    """Not a byte of the bundle that is quantized changes."""
    before = {path.name: path.read_bytes() for path in small.bundle.iterdir()}
    make(small, VNNI).write(PLAIN)
    assert before == {path.name: path.read_bytes() for path in small.bundle.iterdir()}


def test_raised_groups_are_told_with_reasons(small: Small) -> None:
    """What stays in float is a fact of the step, by operator."""
    workshop = make(small, VNNI)
    candidate = workshop.write(replace(PLAIN, levels={"second": "float32"}))
    facts = candidate.bundle.manifest.steps[-1].facts
    kept = facts["components"]["model"]["kept_float"]  # type: ignore[index]
    assert [one["node"] for one in kept] == ["/second/MatMul"]
    assert "float32" in kept[0]["reason"]
    assert json.loads(json.dumps(facts["recipe"]))["levels"] == {"second": "float32"}


def test_answers_that_are_no_numbers(small: Small, monkeypatch: pytest.MonkeyPatch) -> None:
    """A candidate that answers with NaN is refused by the name of the output, and not left."""
    monkeypatch.setattr(candidates, "not_finite", lambda answers: "logits")
    with pytest.raises(QuantizeError, match="NaN or infinity in logits"):
        make(small, VNNI).write(PLAIN)
    assert not [path for path in small.folder.iterdir() if "candidate" in path.name]


def test_tolerance_of_the_precision(small: Small) -> None:
    """Golden answers are near enough for 8 bits, and too far for a tolerance that is too tight."""
    candidate = make(small, VNNI).write(PLAIN)
    assert beyond_tolerance(candidate, {}) is None
    tight = {"int8": Tolerance("cosine", minimum=1 - 1e-12)}
    told = beyond_tolerance(candidate, tight)
    assert told is not None
    assert told.startswith("logits is off by")
    assert "allowed for int8" in told


def test_recipe_in_json() -> None:
    """What is as by default goes without saying."""
    assert describe(Recipe("int8-static")) == {"scheme": "int8-static"}
    told = describe(Recipe("int8-static", smooth=0.5, levels={"a": "float16"}))
    assert told == {"scheme": "int8-static", "smooth": 0.5, "levels": {"a": "float16"}}


def test_what_will_be_asked_for_again_stays(small: Small) -> None:
    """A recipe that is kept is written once, forgetting it or not; others are written anew."""
    workshop = make(small, VNNI)
    workshop.keep([PLAIN])
    first = workshop.write(PLAIN)
    workshop.forget(first)
    assert first.bundle.path.exists()
    assert workshop.write(replace(PLAIN)) is first
    other = replace(PLAIN, levels={"second": "float32"})
    second = workshop.write(other)
    workshop.forget(second)
    assert workshop.write(other) is not second


@pytest.fixture
def emulator(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Puts a shell's words in the place of QEMU."""

    def install(does: str) -> None:
        script = tmp_path / "qemu"
        script.write_text(f"#!/bin/sh\n{does}\n")
        script.chmod(0o755)
        monkeypatch.setattr(candidates, "find_emulator", lambda: (str(script), "-cpu", "any"))

    return install


def test_answers_without_vnni_are_a_fact(small: Small, emulator: Callable[[str], None]) -> None:
    """They are held to this machine's, whatever PyTorch's are; the manifest keeps how far off."""
    emulator('shift 2; exec "$@"')
    workshop = make(small, VNNI)
    candidate = workshop.write(PLAIN)
    seen = workshop.look_without_vnni(candidate, silent)
    assert seen is not None
    assert "within its tolerance" in seen[0]
    assert seen[1]
    finished = workshop.finish(candidate, small.output, facts={}, force=False)
    fact = finished.manifest.steps[-1].facts["without_vnni"]
    assert isinstance(fact, dict)
    assert fact["passed"] is True
    assert fact["max_abs"] == pytest.approx(0, abs=1e-5)


def test_answers_without_vnni_that_are_far_off(
    small: Small, monkeypatch: pytest.MonkeyPatch, emulator: Callable[[str], None]
) -> None:
    """Sums that saturate there are told with how far off they are."""
    emulator("exit 0")
    monkeypatch.setattr(
        candidates, "emulated_answers", lambda *_: {"logits": np.full((4, 4), 9.0, np.float32)}
    )
    workshop = make(small, VNNI)
    candidate = workshop.write(PLAIN)
    seen = workshop.look_without_vnni(candidate, silent)
    assert seen is not None
    assert "beyond its tolerance" in seen[0]
    assert not seen[1]
    finished = workshop.finish(candidate, small.output, facts={}, force=False)
    assert finished.manifest.steps[-1].facts["without_vnni"]["passed"] is False  # type: ignore[index]


def test_an_emulator_that_fails_is_told(small: Small, emulator: Callable[[str], None]) -> None:
    """It costs the quantization nothing but the answer."""
    emulator("echo no such CPU >&2; exit 1")
    workshop = make(small, VNNI)
    seen = workshop.look_without_vnni(workshop.write(PLAIN), silent)
    assert seen is not None
    assert "were not answered: it ended without an answer: no such CPU" in seen[0]


def test_without_an_emulator_nothing_is_said(
    small: Small, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Only the log, which --verbose shows, tells what could have been looked at."""
    monkeypatch.setattr(candidates, "find_emulator", lambda: None)
    workshop = make(small, VNNI)
    with caplog.at_level("INFO", logger="edgekit"):
        assert workshop.look_without_vnni(workshop.write(PLAIN), silent) is None
    assert "qemu-x86_64 is not installed" in caplog.text


@pytest.mark.parametrize("here", [True, False])
def test_a_bundle_is_run_where_the_processor_fits(
    small: Small, monkeypatch: pytest.MonkeyPatch, here: bool
) -> None:
    """Also on one that can more than the target promises: what it says of speed is another thing.

    Whether the processor fits is the profile's to say.
    """
    monkeypatch.setattr(Profile, "runs_here", lambda profile: here)
    monkeypatch.setattr(candidates, "elsewhere", lambda profile: "it can more")
    workshop = make(small, load_profile("cpu-x86"))
    bundle = workshop.finish(workshop.write(PLAIN), small.output, facts={}, force=False)
    assert (bundle.manifest.evidence["run_on"] is not None) == here
