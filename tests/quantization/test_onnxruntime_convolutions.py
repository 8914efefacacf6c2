"""quantization/onnxruntime.py: networks of convolutions, and what is remembered of samples."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgekit.core.bundle import open_bundle
from edgekit.quantization import onnxruntime
from edgekit.quantization.calibration import collect
from edgekit.quantization.graphs import finding
from edgekit.quantization.recipes import Correction, Recipe
from edgekit.runtime.engines.onnxruntime import open_session
from tests.quantization.networks import (
    VNNI,
    Feeds,
    bundle_of,
    images,
    leaving,
    pictures,
)
from tests.quantization.small import answers, cosine


class TestConvolutions:
    @pytest.fixture
    def prepared(self, tmp_path: Path) -> onnxruntime.OnnxPrepared:
        self.bundle = bundle_of(pictures(), tmp_path / "exported")
        self.folder = tmp_path
        return onnxruntime.prepare(self.bundle, "model", VNNI, tmp_path / "work", images(32))

    @pytest.mark.parametrize(
        "recipe",
        [
            Recipe("int8-static"),
            Recipe("int8-static", smooth=0.75),
            Recipe("int8-static", correction="fast"),
            Recipe("int8-static", weights="u8"),
            Recipe("int8-static", reduce_range=True),
            Recipe("weight-int8"),
        ],
    )
    def test_close(self, prepared: onnxruntime.OnnxPrepared, recipe: Recipe) -> None:
        """Static ranges keep a small network's answers near."""
        prepared.write(recipe, self.folder / "out")
        samples = images(8, seed=60)
        expected = answers(self.bundle.path, self.bundle, samples)
        assert cosine(answers(self.folder / "out", self.bundle, samples), expected) > 0.99

    def test_codes_from_one_convolution_to_the_next(
        self, prepared: onnxruntime.OnnxPrepared
    ) -> None:
        """The engine computes convolutions, the sum and both Gemm in 8 bits; none is left over."""
        made = prepared.write(Recipe("int8-static"), self.folder / "out")
        assert made.facts["integer_kernels"] == {"QGemm": 2, "QLinearConv": 3}
        assert made.kept_float == ()

    def test_ranges_at_run_time_leave_convolutions(
        self, prepared: onnxruntime.OnnxPrepared
    ) -> None:
        """Dynamic ranges keep convolutions in float, and the graph is known not to suit them."""
        made = prepared.write(Recipe("int8-dynamic"), self.folder / "out")
        assert {one.node for one in made.kept_float} == {f"/c{n}/Conv" for n in (1, 2, 3)}
        assert "convolutions" in str(prepared.unsuited(Recipe("int8-dynamic")))
        assert prepared.unsuited(Recipe("int8-static")) is None

    def test_what_leaves_the_graph_is_not_rounded(self, tmp_path: Path) -> None:
        """Answers of a convolution, moved or not, are as fine as floats; what is inside is not."""
        bundle = bundle_of(leaving(), tmp_path / "leaving")
        prepared = onnxruntime.prepare(bundle, "model", VNNI, tmp_path / "made", images(32))
        made = prepared.write(Recipe("int8-static"), tmp_path / "out")
        part = replace(bundle.manifest.components["model"], files=made.component.files)
        session = open_session(tmp_path / "out", part, options={}, device="cpu", threads=1)
        try:
            found = session.run(images(1, seed=60)[0])
        finally:
            session.close()
        for name in ("middle", "moved", "last"):
            assert len(np.unique(found[name])) > 0.9 * found[name].size, name
        # An average of codes, which is not rounded again.
        assert len(np.unique(found["pooled"])) > 256
        assert {one.node: one.reason for one in made.kept_float} == {
            f"/c{number}/Conv": "its answer leaves the graph, where rounding to 8 bits would show"
            for number in (2, 4)
        }
        assert made.quantized_ops == {"Conv": 2}
        assert made.facts["integer_kernels"] == {"QLinearConv": 2}

    def test_shift_takes_the_mean_error_away(self, prepared: onnxruntime.OnnxPrepared) -> None:
        """Bias correction leaves a smaller mean error where 7-bit weights are coarse.

        The full way, which sees what came before, leaves the least.
        """
        samples = images(32)
        expected = answers(self.bundle.path, self.bundle, samples)
        errors = []
        corrections: tuple[Correction, ...] = ("none", "fast", "full")
        for correction in corrections:
            recipe = Recipe("int8-static", reduce_range=True, correction=correction)
            prepared.write(recipe, self.folder / correction)
            found = answers(self.folder / correction, self.bundle, samples)
            errors.append(np.abs((found - expected).mean(axis=0)).mean())
        assert errors[2] < errors[1] < errors[0]


class TestCache:
    @pytest.fixture
    def runs(self, monkeypatch: pytest.MonkeyPatch) -> list[int]:
        """How many tensors each run over the samples counted."""
        counted: list[int] = []

        def counting(*args: Any, **options: Any) -> Any:
            counted.append(len(args[1]) + len(options["channels"] or ()))
            return collect(*args, **options)

        monkeypatch.setattr(finding, "collect", counting)
        return counted

    def written(self, folder: Path, name: str, samples: Sequence[Feeds]) -> str:
        """The hash of a candidate that a new preparation makes."""
        bundle = folder / "exported"
        source = open_bundle(bundle) if bundle.exists() else bundle_of(pictures(), bundle)
        prepared = onnxruntime.prepare(source, "model", VNNI, folder / f"work-{name}", samples)
        prepared.write(Recipe("int8-static", correction="fast"), folder / name)
        return hashlib.sha256((folder / name / "model.onnx").read_bytes()).hexdigest()

    def test_statistics_are_kept_for_the_next_run(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, runs: list[int]
    ) -> None:
        """They lie in the folder of caches, and give the same bytes as when they are counted."""
        monkeypatch.setenv("EDGEKIT_CACHE", str(tmp_path / "cache"))
        first = self.written(tmp_path, "first", images())
        assert len(runs) == 2
        assert len(list((tmp_path / "cache" / "calibration").glob("*.safetensors"))) == 2
        assert self.written(tmp_path, "second", images()) == first
        assert len(runs) == 2

    def test_other_samples_are_counted_anew(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, runs: list[int]
    ) -> None:
        """Nothing is taken from other data."""
        monkeypatch.setenv("EDGEKIT_CACHE", str(tmp_path / "cache"))
        first = self.written(tmp_path, "first", images())
        assert self.written(tmp_path, "second", images(seed=77)) != first
        assert len(runs) == 4

    def test_a_folder_that_cannot_be_written_keeps_nothing(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, runs: list[int]
    ) -> None:
        """Then everything is as it would be without a cache."""
        (tmp_path / "file").write_text("no folder")
        monkeypatch.setenv("EDGEKIT_CACHE", str(tmp_path / "cache"))
        first = self.written(tmp_path, "first", images())
        monkeypatch.setenv("EDGEKIT_CACHE", str(tmp_path / "file"))
        assert self.written(tmp_path, "second", images()) == first
        assert len(runs) == 4
        assert (tmp_path / "file").read_text() == "no folder"
