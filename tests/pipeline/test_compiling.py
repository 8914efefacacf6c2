"""Compiling: what the new bundle says of itself, where it was and was not run."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import edgekit
from edgekit.core.bundle import open_bundle
from edgekit.core.errors import BundleCorrupt, CompileError, ConfigError, EngineUnavailable
from edgekit.core.manifest import Component, Manifest, Requires, TensorSpec
from edgekit.pipeline import compiling
from edgekit.runtime.golden import GoldenValues
from tests.conftest import make_once

pytestmark = pytest.mark.slow

TEXTS = ["A film.", "The plot was slow, and then it was over."]


@pytest.mark.parametrize("target", ["host", "cpu-x86", "openvino-cpu"])
def test_answers_as_the_exported_bundle(classifier: Path, tmp_path: Path, target: str) -> None:
    """The compiled bundle gives the labels and scores of the one it was made from."""
    if not edgekit_runs(target):
        pytest.skip(f"this CPU is not a {target}")
    result = edgekit.compile(classifier, tmp_path / "c", target=target)
    with edgekit.load(classifier) as before, edgekit.load(tmp_path / "c") as after:
        expected, found = before(TEXTS), after(TEXTS)
        assert all(row.passed for row in after.selftest())
    for left, right in zip(expected, found, strict=True):  # type: ignore[call-overload]
        assert left["label"] == right["label"]
        assert right["score"] == pytest.approx(left["score"], abs=1e-4)
    assert result.run_on is not None
    manifest = open_bundle(tmp_path / "c").manifest
    assert manifest.stage == "compiled"
    assert [step.step for step in manifest.steps] == ["export", "compile"]
    assert manifest.steps[1].input_id == open_bundle(classifier).id


def edgekit_runs(target: str) -> bool:
    """Whether this machine's CPU satisfies the target."""
    from edgekit.core.profiles import load_profile

    return load_profile(target).runs_here()


def test_input_is_left_as_it_was(classifier: Path, tmp_path: Path) -> None:
    """A step never changes its input."""
    before = {path.name: path.read_bytes() for path in classifier.iterdir()}
    edgekit.compile(classifier, tmp_path / "c", target="openvino-cpu")
    assert {path.name: path.read_bytes() for path in classifier.iterdir()} == before


def test_same_bytes_every_time(classifier: Path, tmp_path: Path) -> None:
    """Two compilations of one bundle for one target have the same model files."""
    first, second = tmp_path / "1", tmp_path / "2"
    for output in (first, second):
        edgekit.compile(classifier, output, target="openvino-cpu")
    for name in ("model.xml", "model.bin"):
        assert (first / name).read_bytes() == (second / name).read_bytes()


def test_without_the_device_it_is_built_only(classifier: Path, tmp_path: Path) -> None:
    """For a GPU that is not here the bundle is made, says so, and is refused by load."""
    result = edgekit.compile(classifier, tmp_path / "c", target="cuda")
    assert result.run_on is None
    assert open_bundle(tmp_path / "c").manifest.evidence == {"run_on": None}
    with pytest.raises(EngineUnavailable, match="CUDAExecutionProvider"):
        edgekit.load(tmp_path / "c")


def test_static_shapes(classifier: Path, tmp_path: Path) -> None:
    """Fixed dimensions stand in the manifest, and shorter texts are padded to them."""
    edgekit.compile(
        classifier, tmp_path / "c", target="openvino-cpu", static={"batch": 1, "sequence": 32}
    )
    manifest = open_bundle(tmp_path / "c").manifest
    assert manifest.components["model"].inputs[0].shape == (1, 32)
    assert manifest.steps[-1].facts["compared"] == "PyTorch"
    with edgekit.load(classifier) as before, edgekit.load(tmp_path / "c") as after:
        for left, right in zip(before(TEXTS), after(TEXTS), strict=True):  # type: ignore[call-overload]
            assert right["score"] == pytest.approx(left["score"], abs=1e-4)


def test_unknown_dimension(classifier: Path, tmp_path: Path) -> None:
    """A dimension that the model does not have is named, and nothing is written."""
    with pytest.raises(ConfigError, match="sequense"):
        edgekit.compile(classifier, tmp_path / "c", static={"sequense": 32})
    assert list(tmp_path.iterdir()) == []


def test_compiled_for_another_engine(classifier: Path, tmp_path: Path) -> None:
    """What OpenVINO's compiler wrote cannot be compiled for ONNX Runtime."""
    edgekit.compile(classifier, tmp_path / "c", target="openvino-cpu")
    with pytest.raises(CompileError, match="openvino"):
        edgekit.compile(tmp_path / "c", tmp_path / "d", target="cpu-x86")
    assert not (tmp_path / "d").exists()


def test_engine_outside_the_target(classifier: Path, tmp_path: Path) -> None:
    """An engine that the target does not run is a configuration error."""
    with pytest.raises(ConfigError, match="does not run"):
        edgekit.compile(classifier, tmp_path / "c", target="openvino-cpu", engine="onnxruntime")


def test_both_engines_of_the_host(classifier: Path, tmp_path: Path) -> None:
    """--engine chooses among the target's engines; both answer alike."""
    answers = []
    for engine in ("onnxruntime", "openvino"):
        edgekit.compile(classifier, tmp_path / engine, engine=engine)
        with edgekit.load(tmp_path / engine) as model:
            ids = np.array([[2, 7, 9, 3]], np.int64)
            feeds = {
                spec.name: np.ones_like(ids) for spec in model.manifest.components["model"].inputs
            }
            answers.append(model.run({**feeds, "input_ids": ids})["logits"])
    np.testing.assert_allclose(answers[0], answers[1], rtol=1e-3, atol=1e-4)


def test_output_that_is_the_input(classifier: Path) -> None:
    """--force never replaces the bundle that is being compiled."""
    before = open_bundle(classifier).id
    with pytest.raises(ConfigError, match="is the input"):
        edgekit.compile(classifier, classifier, force=True)
    assert open_bundle(classifier).id == before


@pytest.fixture
def towers(shared: Path) -> Path:
    """A tiny CLIP, exported once."""
    from tests.picture_models import save_picture_model

    source = make_once(
        shared / "picture-clip-source", lambda folder: save_picture_model("clip", folder)
    )
    return make_once(shared / "picture-clip", lambda folder: edgekit.export(str(source), folder))


@pytest.mark.parametrize("engine", ["onnxruntime", "openvino"])
def test_both_towers_are_run(towers: Path, engine: str, tmp_path: Path) -> None:
    """Every component answers as PyTorch did, and the golden values stay to be verified."""
    result = edgekit.compile(towers, tmp_path / "c", engine=engine)
    assert result.run_on is not None
    manifest = open_bundle(tmp_path / "c").manifest
    assert manifest.steps[-1].facts["compared"] == "PyTorch"
    assert manifest.golden is not None
    verified = edgekit.verify(tmp_path / "c")
    assert verified.passed
    assert {row.output for row in verified.golden} == {"image.image_embeds", "text.text_embeds"}
    with edgekit.load(towers) as before, edgekit.load(tmp_path / "c") as after:
        for item in (np.full((40, 60, 3), 90, np.uint8), "a bee"):
            np.testing.assert_allclose(before(item), after(item), atol=1e-4)  # type: ignore[arg-type]


def test_towers_with_fixed_shapes(towers: Path, tmp_path: Path) -> None:
    """Of the texts the padding is masked; PyTorch's answers are still good for them."""
    edgekit.compile(towers, tmp_path / "c", target="openvino-cpu", static={"sequence": 32})
    manifest = open_bundle(tmp_path / "c").manifest
    assert manifest.components["text"].inputs[0].shape == ("batch", 32)
    assert manifest.steps[-1].facts["compared"] == "PyTorch"
    assert edgekit.verify(tmp_path / "c").passed


def test_wrong_second_tower_is_found_out(
    towers: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first one alone proves nothing of it."""
    stored = compiling.read

    def other(path: Path) -> GoldenValues:
        values = stored(path)
        values.reference["text.text_embeds"][:] *= -1
        return values

    monkeypatch.setattr(compiling, "read", other)
    with pytest.raises(CompileError, match=r"text\.text_embeds is off"):
        edgekit.compile(towers, tmp_path / "c", engine="openvino")


def test_towers_without_the_device(towers: Path, tmp_path: Path) -> None:
    """Built for a GPU that is not here, both are compared on this CPU."""
    result = edgekit.compile(towers, tmp_path / "c", target="cuda")
    assert result.run_on is None
    facts = open_bundle(tmp_path / "c").manifest.steps[-1].facts
    assert (facts["compared_on_cpu"], facts["compared"]) == ("yes", "PyTorch")


def test_sizes_that_would_shift_masks_are_refused() -> None:
    """Where the processor keeps proportions, pictures would be filled up to a fixed size."""
    spec = TensorSpec("x", "float32", ("batch", 3, 8, 8))
    logits = TensorSpec("logits", "float32", ("batch", 3, 8, 8))
    part = Component("onnx", ("model.onnx",), (spec,), (logits,))
    made = Manifest(
        name="masks", created_by="edgekit test", stage="compiled", task="image-segmentation",
        source=None, components={"model": part}, requires=Requires(engine="onnxruntime"),
        processor={"kind": "image", "inputs": ["x"], "post": {"kind": "segmentation"},
                   "ops": [{"op": "resize", "size": {"shortest_edge": 8}}]},
    )  # fmt: skip
    with pytest.raises(BundleCorrupt, match="no resize to it"):
        compiling._check_media(made)
