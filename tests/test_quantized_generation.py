"""Models that generate with fewer bits, each of their components, on both engines."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import edgekit
from edgekit.core.bundle import Bundle, open_bundle
from edgekit.sources.families import ENGINES
from edgekit.sources.sounds import compose
from tests.conftest import make_once
from tests.test_speech import exported
from tests.text_models import PROMPTS, save_generator

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("brief")]


@pytest.fixture(scope="module")
def translator(shared: Path) -> Path:
    """A tiny T5, exported once."""
    source = make_once(shared / "t5-source", lambda folder: save_generator("t5", folder))
    return make_once(shared / "t5", lambda folder: edgekit.export(str(source), folder))


def hashes(bundle: Bundle, name: str) -> list[str]:
    """The hashes of a component's files."""
    known = {entry.path: entry.sha256 for entry in bundle.manifest.files}
    return [known[file] for file in bundle.manifest.components[name].files]


def counts(bundle: Bundle) -> dict[str, int]:
    """How many operators of each component were quantized."""
    parts: Any = bundle.manifest.steps[-1].facts["components"]
    return {name: sum(part["quantized_ops"].values()) for name, part in parts.items()}


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize(
    ("method", "bits", "precision"),
    [("auto", None, "int8"), ("weight-only", 4, "int4"), ("float16", None, "fp16")],
)
def test_encoder_and_decoder_are_quantized(
    translator: Path, tmp_path: Path, engine: str, method: str, bits: int | None, precision: str
) -> None:
    """Both are rounded, the bundle answers as its precision allows, and still when compiled."""
    made = edgekit.quantize(
        translator, tmp_path / "q", engine=engine, method=method, bits=bits, allow_slower=True
    )
    assert made.verdict == "pass"
    # Whole answers are timed, of both together.
    assert made.latency is not None
    after = open_bundle(tmp_path / "q")
    assert after.manifest.steps[-1].facts["precision"] == precision
    rounded = counts(after)
    assert set(rounded) == {"encoder", "decoder"}
    assert all(rounded.values())
    edgekit.compile(tmp_path / "q", tmp_path / "c", engine=engine, threads=1)
    for path in (tmp_path / "q", tmp_path / "c"):
        with edgekit.load(path) as model:
            rows = model.selftest()
            assert all(row.passed for row in rows)
            told = {row.output for row in rows if not row.judged}
            assert told
            assert all(name.startswith("decoder.present.") for name in told)
            answers: Any = model(list(PROMPTS[:2]), max_new_tokens=8)
            assert all(isinstance(one["generated_text"], str) for one in answers)


@pytest.mark.parametrize("engine", ENGINES)
def test_one_component_is_quantized(translator: Path, tmp_path: Path, engine: str) -> None:
    """The other one stays as it is, byte for byte."""
    made = edgekit.quantize(
        translator, tmp_path / "q", engine=engine, component="decoder", allow_slower=True
    )
    assert made.verdict == "pass"
    before, after = open_bundle(translator), open_bundle(tmp_path / "q")
    assert hashes(after, "encoder") == hashes(before, "encoder")
    assert hashes(after, "decoder") != hashes(before, "decoder")
    assert set(counts(after)) == {"decoder"}
    with edgekit.load(tmp_path / "q") as model:
        assert all(row.passed for row in model.selftest())
        model(PROMPTS[0], max_new_tokens=4)


@pytest.mark.parametrize("engine", ENGINES)
def test_whisper_is_quantized(shared: Path, tmp_path: Path, engine: str) -> None:
    """Its encoder of sounds and its decoder."""
    _, bundle = exported(shared, "english")
    edgekit.quantize(bundle, tmp_path / "q", engine=engine, bits=8, allow_slower=True)
    with edgekit.load(tmp_path / "q") as model:
        assert all(row.passed for row in model.selftest())
        answer: Any = model((compose(16_000, 1, 16_000), 16_000), max_new_tokens=6)
    assert isinstance(answer["text"], str)
