"""The candidates of a build, as they are asked for."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from edgekit.core.errors import CompileError
from edgekit.pipeline.builds import rungs
from edgekit.pipeline.builds.jobs import Job
from edgekit.pipeline.builds.store import Store
from edgekit.pipeline.progress import silent
from tests.pipeline.builds.test_ranking import HERE, OPTIONS
from tests.runtime.conftest import linear_graph, write_bundle
from tests.runtime.generation.conftest import write_generator


def test_prompts_have_a_length_and_calls_of_a_decoder_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What generates is ranked and judged at the length, but compiled without it."""
    asked: list[object] = []

    def refuse(*_: object, **options: object) -> None:
        asked.append(options["length"])
        raise CompileError("Not here.")

    monkeypatch.setattr(rungs, "compile", refuse)
    generating = write_generator(tmp_path / "generating")
    other = write_bundle(tmp_path / "other", linear_graph(), task="custom")
    for exported in (generating, other):
        job = Job(replace(OPTIONS, length=16), Store(None, tmp_path), silent, tmp_path)
        profile = replace(HERE, engines=("onnxruntime",), precisions=("fp32",))
        assert rungs.rungs_of(job, exported, profile, None, only=True) == []
        assert [error.message for error in job.errors] == ["Not here."]
    assert asked == [None, 16]
