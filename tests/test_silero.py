"""Voice activity on real speech: six files with state, branches and opsets from 15 to 18."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

import edgekit
from benchmarks.zoo import fetch
from benchmarks.zoo.converters.silero_vad import FILES, RATE, chunks, read_wav
from edgekit.core.bundle import open_bundle
from edgekit.core.errors import BundleError, CompileError
from tests.conftest import make_once

pytestmark = pytest.mark.slow

# The name of the family in edgekit.sources.families, and of the zoo's entry.
ENTRY = "silero-vad"
OPSETS = {"silero_vad_16k_op15.onnx": 15, "silero_vad_op18_ifless.onnx": 18}
# OpenVINO 2026.4 gives a branch of two ranks no shape, and the convolution behind it fails.
UNCONVERTED = {"silero_vad.onnx", "silero_vad_16k_op15.onnx", "silero_vad_half.onnx"}

Sound = NDArray[np.float32]


@pytest.fixture(scope="module")
def speech() -> Sound:
    """A minute of somebody speaking, with pauses."""
    return read_wav((fetch(ENTRY) / "speech.wav").read_bytes())


@pytest.fixture(scope="module")
def noise() -> Sound:
    """Five seconds of a fan."""
    random = np.random.default_rng(0)
    return (random.standard_normal(5 * RATE) * 0.01).astype(np.float32)


def bundle_of(name: str, shared: Path) -> Path:
    """The imported bundle of a file, made once."""
    folder = fetch(ENTRY)
    return make_once(
        shared / f"imported-{Path(name).stem}",
        lambda target: edgekit.import_onnx(
            folder / name, target, samples=folder / name.replace(".onnx", ".npz")
        ),
    )


def listen(model: edgekit.runtime.Model, sound: Sound) -> Sound:
    """The probability of speech for every 32 ms, the state carried from call to call."""
    frames = chunks(sound)
    taken = {spec.name for spec in model.manifest.components["model"].inputs}
    if "h" in taken:
        empty = np.zeros((1, 1, 128), np.float32)
        return np.asarray(model.run({"input": frames, "h": empty, "c": empty})["speech_probs"])
    state = np.zeros((2, 1, 128), np.float32)
    found = []
    for frame in frames:
        feeds = {"input": frame[None], "state": state}
        if "sr" in taken:
            feeds["sr"] = np.array(RATE, np.int64)
        answer = model.run(feeds)
        state = answer["stateN"]
        found.append(answer["output"].item())
    return np.array(found, np.float32)


@pytest.mark.parametrize("name", FILES)
def test_speech_is_told_from_noise(name: str, shared: Path, speech: Sound, noise: Sound) -> None:
    """On ONNX Runtime all files agree on when somebody speaks."""
    bundle = bundle_of(name, shared)
    assert open_bundle(bundle).manifest.steps[0].facts["opset"] == OPSETS.get(name, 16)
    with edgekit.load(bundle) as model:
        assert all(row.passed for row in model.selftest())
        heard, nothing = listen(model, speech), listen(model, noise)
    assert np.median(heard) > 0.9
    assert 0.7 < np.mean(heard > 0.5) < 0.85
    assert np.median(nothing) < 0.02
    assert not (nothing > 0.5).any()


@pytest.mark.parametrize("name", FILES)
def test_openvino_hears_the_same_or_says_why_not(
    name: str, shared: Path, tmp_path: Path, speech: Sound
) -> None:
    """Compiled for it; what it cannot convert is one clear error."""
    bundle = bundle_of(name, shared)
    part = speech[: 10 * RATE]
    if name in UNCONVERTED:
        with pytest.raises(CompileError, match="OpenVINO does not take model") as caught:
            edgekit.compile(bundle, tmp_path / "c", target="openvino-cpu")
        assert "onnxruntime target" in (caught.value.hint or "")
        with pytest.raises(BundleError, match="does not load"):
            edgekit.load(bundle, engine="openvino")
        return
    edgekit.compile(
        bundle, tmp_path / "c", target="openvino-cpu",
        overrides=["options.openvino.precision_hint=f32"],
    )  # fmt: skip
    with edgekit.load(bundle) as before, edgekit.load(tmp_path / "c") as after:
        np.testing.assert_allclose(listen(after, part), listen(before, part), atol=2e-3)


@pytest.mark.parametrize("name", FILES)
def test_compiled_for_onnxruntime(name: str, shared: Path, tmp_path: Path, speech: Sound) -> None:
    """It answers as the file did, and is judged by that."""
    bundle = bundle_of(name, shared)
    edgekit.compile(bundle, tmp_path / "c")
    result = edgekit.validate(tmp_path / "c", reference=str(fetch(ENTRY) / name), latency=False)
    assert result.verdict == "pass"
    part = speech[: 5 * RATE]
    with edgekit.load(bundle) as before, edgekit.load(tmp_path / "c") as after:
        np.testing.assert_allclose(listen(after, part), listen(before, part), atol=1e-3)


@pytest.mark.usefixtures("brief")
def test_fewer_bits(shared: Path, tmp_path: Path, speech: Sound) -> None:
    """Quantized without a word of PyTorch, it still hears who speaks."""
    bundle = bundle_of("silero_vad_16k_sequence.onnx", shared)
    edgekit.quantize(bundle, tmp_path / "q", method="weight-only", allow_slower=True)
    with edgekit.load(bundle) as before, edgekit.load(tmp_path / "q") as after:
        agree = (listen(after, speech) > 0.5) == (listen(before, speech) > 0.5)
    assert agree.mean() > 0.97


def test_axes_that_belong_together_can_be_named(shared: Path, tmp_path: Path) -> None:
    """They are found to be one as well, which a name says more plainly."""
    found = open_bundle(bundle_of("silero_vad.onnx", shared)).manifest.components["model"]
    assert [spec.shape for spec in found.inputs[:2]] == [("batch", "input_1"), (2, "batch", 128)]
    folder = fetch(ENTRY)
    edgekit.import_onnx(
        folder / "silero_vad.onnx", tmp_path / "b", samples=folder / "silero_vad.npz",
        inputs=["input=float32:batch,samples", "state=float32:2,batch,128"],
    )  # fmt: skip
    with edgekit.load(tmp_path / "b") as model:
        answer = model.run({
            "input": np.zeros((3, 576), np.float32), "state": np.zeros((2, 3, 128), np.float32),
            "sr": np.array(RATE, np.int64),
        })  # fmt: skip
    assert answer["output"].shape == (3, 1)
