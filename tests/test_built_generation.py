"""build of a model that generates, from the checkpoint to what answers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import edgekit
from edgekit.core.cachefolder import VARIABLE
from edgekit.sources.families import ENGINES
from tests.text_models import PROMPTS, save_generator

# A machine that this one is not: nothing is timed.
PROFILE = """
name = "far"
engines = ["onnxruntime", "openvino"]
device = "cpu"
arch = "arm64"
features = ["neon"]
precisions = ["int8", "fp32"]
"""


@pytest.mark.slow
def test_a_decoder_is_built(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without data, on both engines: exported once, its weights rounded, compiled and judged."""
    monkeypatch.setenv(VARIABLE, str(tmp_path / "cache"))
    target = tmp_path / "far.toml"
    target.write_text(PROFILE)
    source = save_generator("llama", tmp_path / "source")
    told: list[str] = []
    for engine in ENGINES:
        made = edgekit.build(
            str(source), tmp_path / engine, target=str(target), engine=engine, progress=told.append
        )
        assert made.verdict == "pass"
        assert {one.name for one in made.candidates} == {f"{engine} fp32", f"{engine} int8"}
        with edgekit.load(tmp_path / engine) as model:
            assert all(row.passed for row in model.selftest())
            answer: Any = model(PROMPTS[0], max_new_tokens=4)
        assert answer[0]["generated_text"].startswith(PROMPTS[0])
    assert "export: found in the cache" in told
    assert not any("calibration" in one for one in told)
