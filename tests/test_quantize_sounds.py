"""`quantize` and `build` on sounds: prepared alike for calibration, search and verdict."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import soundfile

import edgekit
from edgekit.core.built import BuildResult
from edgekit.core.bundle import open_bundle
from edgekit.core.cachefolder import VARIABLE
from edgekit.core.errors import BudgetNotMet
from edgekit.core.measurements import QuantizeResult
from edgekit.pipeline.building import build
from edgekit.pipeline.quantizing import quantize
from edgekit.sources.sounds import compose
from tests.pipeline.quantizable import speed
from tests.test_sounds import RATE, exported
from tests.test_validate_sounds import recordings

pytestmark = pytest.mark.slow

# One that this machine is not, without limits: they would ask for a measurement.
FAR = """
name = "far"
engines = ["onnxruntime"]
device = "cpu"
arch = "arm64"
features = ["neon"]
precisions = ["int8", "fp32"]
"""


def transcribed(bundle: Path, folder: Path) -> Path:
    """A table of recordings and of what a bundle hears in them."""
    rows = []
    with edgekit.load(bundle) as model:
        for path in recordings(folder / "calls"):
            said: Any = model(path)
            text = said["text"] or "none"
            rows.append({"audio": str(path.relative_to(folder)), "transcription": text})
    data = folder / "calls.jsonl"
    data.write_text("\n".join(map(json.dumps, rows)))
    return data


@pytest.mark.parametrize("engine", ["onnxruntime", "openvino"])
@pytest.mark.parametrize(("family", "metric"), [("wav2vec2-ctc-masked", "cer"), ("ast", None)])
def test_fewer_bits(
    family: str,
    metric: str | None,
    engine: str,
    shared: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Calibrated on some sounds and judged on others; what is left answers, and is compiled."""
    speed(monkeypatch)
    source, bundle = exported(shared, family)
    if metric is None:
        recordings(tmp_path / "calls")
        data = tmp_path / "calls"
    else:
        data = transcribed(bundle, tmp_path)
    recordings(tmp_path / "others", 10, start=100)
    result = quantize(
        bundle, tmp_path / "q", engine=engine, calibration=calibrating(tmp_path, metric),
        data=str(data), metric=metric, reference=str(source), max_drop="90pt",
    )  # fmt: skip
    assert isinstance(result, QuantizeResult)
    assert result.verdict == "pass"
    assert result.accuracy is not None
    assert result.accuracy.samples >= 30
    used: Any = open_bundle(tmp_path / "q").manifest.steps[-1].data
    assert len(used["calibration"]) == 10
    compiled = edgekit.compile(tmp_path / "q", tmp_path / "c", target="host", engine=engine)
    wave = compose(RATE, 3)
    with edgekit.load(tmp_path / "q") as one, edgekit.load(compiled.output) as other:
        assert one((wave, RATE))
        assert other((wave, RATE))


def calibrating(folder: Path, metric: str | None) -> str:
    """Ten other sounds, in folders or in a table."""
    if metric is None:
        return str(folder / "others")
    table = folder / "others.csv"
    names = sorted(str(path.relative_to(folder)) for path in (folder / "others").rglob("*.*"))
    table.write_text("\n".join(["audio", *names]))
    return str(table)


def built(source: Path, folder: Path) -> BuildResult:
    """A build on recordings, whatever its verdict."""
    try:
        return build(
            str(source), folder / "out", target=str(folder / "far.toml"),
            data=str(folder / "calls"), max_drop="90pt", force=True,
        )  # fmt: skip
    except BudgetNotMet as error:
        result = error.result
    assert isinstance(result, BuildResult)
    return result


def made(result: BuildResult) -> set[str]:
    """The steps that were not found in the cache."""
    return {one.step for one in result.steps if not one.cached}


def test_builds_find_what_depends_on_the_sounds(
    shared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same sounds make nothing again, another sound what was chosen by them."""
    speed(monkeypatch)
    monkeypatch.setenv(VARIABLE, str(tmp_path / "cache"))
    (tmp_path / "far.toml").write_text(FAR)
    source, _ = exported(shared, "ast")
    paths = recordings(tmp_path / "calls")
    assert {"export", "quantize"} <= made(built(source, tmp_path))
    # A cover beside the songs is no sound of them.
    (paths[0].parent / "cover.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    assert not {"export", "quantize"} & made(built(source, tmp_path))
    soundfile.write(paths[0], compose(RATE, 999), RATE)
    again = made(built(source, tmp_path))
    assert "quantize" in again
    assert "export" not in again
