"""Results of other devices: read back as they were, refused when they are none."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from edgekit.core.errors import ConfigError
from edgekit.core.measurements import BenchResult, Contender, Ecdf, Noise, Stages
from edgekit.core.results import to_json
from edgekit.evaluation.attached import read_attached

ROW = Contender(
    "m", "onnxruntime", 1, 16, 5.0, None, None, None, 200.0, 100.0, 50.0, 9.0, 1000, 2000, 7, 2,
    stages=Stages(0.1, 5.0, 0.2), ecdf=Ecdf((4.0, 6.0), (0.5, 1.0)),
)  # fmt: skip
RESULT = BenchResult(
    {"scenario": "single-stream"}, {"cpu": "small"}, {"numpy": "2"}, (ROW,), (),
    Noise(None, None, None, "quiet", ()),
)  # fmt: skip


def written(path: Path, value: object) -> Path:
    """The value as a JSON file."""
    path.write_text(json.dumps(value))
    return path


def changed(**changes: object) -> dict[str, object]:
    """The result's JSON with other values."""
    plain = to_json(RESULT)
    assert isinstance(plain, dict)
    return {**plain, **changes}


def test_a_result_comes_back_as_it_was(tmp_path: Path) -> None:
    """To the last distribution; what a newer edgekit adds is left out."""
    path = written(tmp_path / "r.json", changed(novelty=1))
    found = read_attached(path)
    assert found.contenders == (ROW,)
    assert found.noise == RESULT.noise
    assert found.device == {"cpu": "small"}
    assert found.file == str(path)


@pytest.mark.parametrize(
    ("value", "fact"),
    [
        ([], "no JSON object"),
        ({"verdict": "pass"}, "no 'contenders'"),
        ({"error": {"message": "it broke"}}, "tells of a failure: it broke"),
        (changed(noise=5), "noise is 5, not an object"),
        (changed(contenders=[{"name": "m"}]), r"contenders\[0\] has no 'engine'"),
        (changed(contenders=[{**to_json(ROW), "p50_ms": "fast"}]), "p50_ms is 'fast'"),  # type: ignore[dict-item]
        (changed(contenders=[{**to_json(ROW), "batch": True}]), "batch is True"),  # type: ignore[dict-item]
        (changed(contenders=[{**to_json(ROW), "length": "long"}]), "length is 'long'"),  # type: ignore[dict-item]
        (changed(contenders=[{**to_json(ROW), "p50_ms": 10**400}]), "p50_ms is a number of too"),  # type: ignore[dict-item]
        (changed(contenders=[{**to_json(ROW), "p50_ms": -1.0}]), "p50_ms is -1, not between"),  # type: ignore[dict-item]
    ],
)
def test_anything_else_is_refused(tmp_path: Path, value: object, fact: str) -> None:
    """With the place that is wrong, and how a result is made."""
    with pytest.raises(ConfigError, match=fact) as caught:
        read_attached(written(tmp_path / "r.json", value))
    assert "edgekit.runtime.bench" in str(caught.value.hint)


def test_a_file_that_cannot_be_read_is_said(tmp_path: Path) -> None:
    """Missing, or no JSON."""
    with pytest.raises(ConfigError, match="cannot be read"):
        read_attached(tmp_path / "nothing.json")
    (tmp_path / "text").write_text("{")
    with pytest.raises(ConfigError, match="no JSON"):
        read_attached(tmp_path / "text")
    (tmp_path / "deep").write_text("[" * 200_000)
    with pytest.raises(ConfigError, match="nested too deeply"):
        read_attached(tmp_path / "deep")
