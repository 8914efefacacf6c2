"""bench as a verb: what fails while others are measured, and what ends it."""

from __future__ import annotations

from pathlib import Path

import pytest

from edgekit.core.errors import EngineUnavailable, MeasurementError
from edgekit.core.measurements import BenchResult, Contender, Noise
from edgekit.evaluation import latency
from edgekit.pipeline.benching import bench


def _contender(name: str, kind: str | None = None) -> Contender:
    return Contender(
        name, "onnxruntime", 1, 16, None, None, None, None, None, None, None, None, None, None, 0,
        0, error=None if kind is None else f"{kind}: not here", error_kind=kind,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("bundles", "kind", "expected"),
    [
        (["a"], "EngineUnavailable", EngineUnavailable),
        (["a", "b"], "EngineUnavailable", MeasurementError),
        (["a"], "MeasurementError", MeasurementError),
    ],
)
def test_the_only_bundles_own_error_is_kept(
    monkeypatch: pytest.MonkeyPatch, bundles: list[str], kind: str, expected: type[Exception]
) -> None:
    """A missing engine is told as such; where others were measured, the measurement failed."""
    rows = [_contender("pytorch"), *(_contender(name) for name in bundles[1:])]
    rows.append(_contender(bundles[0], kind))
    quiet = Noise(None, None, None, "quiet", ())
    result = BenchResult({}, {}, {}, tuple(rows), (), quiet)
    monkeypatch.setattr(latency, "bench", lambda *given, **options: result)
    with pytest.raises(expected, match="not here") as caught:
        bench([Path(name) for name in bundles])
    assert type(caught.value) is expected
    assert isinstance(caught.value.result, BenchResult)  # type: ignore[attr-defined]
