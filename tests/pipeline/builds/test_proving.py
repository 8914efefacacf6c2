"""What stands in for a bundle whose device is not here, and what is said of it."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from edgekit.core.bundle import Bundle
from edgekit.core.errors import EngineUnavailable
from edgekit.core.manifest import RuntimeChoice, Step
from edgekit.pipeline.builds import proving
from edgekit.pipeline.builds.proving import not_run_note, replace_manifest, stand_in
from edgekit.runtime.engines import find_engine
from tests.runtime.conftest import linear_graph, write_bundle

HALF = {"device": "gpu", "precision_hint": "f16", "streams": 4}


@pytest.fixture
def bundle(tmp_path: Path) -> Bundle:
    """A bundle that asks for half precision on an accelerator."""
    made = write_bundle(tmp_path / "b", linear_graph(), task="custom")
    return replace_manifest(
        made,
        requires=replace(made.manifest.requires, engine="openvino"),
        target={"name": "openvino-gpu", "device": "gpu"},
        runtime=RuntimeChoice(HALF),
        evidence={"run_on": None},
    )


def computing(patch: pytest.MonkeyPatch, **precisions: str | None) -> None:
    """Let this CPU compute a hint in such a precision; None for one that it refuses."""

    def computed(one: Bundle) -> str:
        found = precisions[str(one.manifest.runtime.options["precision_hint"])]
        if found is None:
            raise EngineUnavailable("No such precision.")
        return found

    patch.setattr(proving, "_computed", computed)


@pytest.mark.parametrize("half", ["fp32", None])
def test_precision_that_this_cpu_does_not_compute(
    bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, half: str | None
) -> None:
    """It is float32 by name, not what the device would have computed in."""
    computing(monkeypatch, f16=half, f32="fp32")
    found = stand_in(bundle, tmp_path / "s" / "b")
    assert found.precision == "fp32"
    assert found.bundle.manifest.runtime.options == {"precision_hint": "f32"}
    note = not_run_note(bundle, found.precision)
    assert "computed in float32" in note
    assert "What float16 loses, or overflows in, cannot show here." in note


def test_precision_that_this_cpu_computes(
    bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is kept, without what tunes the device, and nothing is missing from the verdict."""
    computing(monkeypatch, f16="fp16")
    found = stand_in(bundle, tmp_path / "s" / "b")
    assert found.precision == "fp16"
    assert found.bundle.manifest.runtime.options == {"precision_hint": "f16"}
    note = not_run_note(bundle, found.precision)
    assert "computed in float16" in note
    assert "overflows" not in note


def test_precision_is_what_the_engine_says(bundle: Bundle, tmp_path: Path) -> None:
    """Of a real session on this machine: what was asked for where it computes that, or float32.

    Asked for float16, a CPU with it for bfloat16 alone computes in bfloat16.
    """
    options: Mapping[str, object] = {"precision_hint": "f16"}
    component = bundle.manifest.components["model"]
    engine = find_engine("openvino")
    with closing(
        engine.open_session(bundle.path, component, options=options, device="cpu", threads=None)
    ) as session:
        computed = session.facts()["precision"]
    expected = "fp16" if computed == "fp16" else "fp32"
    assert stand_in(bundle, tmp_path / "s" / "b").precision == expected


def test_nothing_is_claimed_of_what_was_not_judged(bundle: Bundle) -> None:
    """The note says where it can be."""
    step = Step("compile", facts={"not_run": "There is no GPU."})
    note = not_run_note(replace_manifest(bundle, steps=(step,)), None)
    assert note.startswith("Built, not run on openvino-gpu: There is no GPU. Nothing on this")
    assert "edgekit validate --record" in note
