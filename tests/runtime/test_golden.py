"""Golden values: judged with the tolerance of what really computed them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from edgekit.core import cpu
from edgekit.core.bundle import Bundle, BundleWriter
from edgekit.core.errors import BundleCorrupt, ConfigError
from edgekit.core.manifest import Component, Golden, Step, TensorSpec
from edgekit.core.tolerance import Tolerance
from edgekit.runtime import golden, load
from tests.runtime.generation.conftest import write_generator

Make = Callable[..., Bundle]
INPUTS = {
    "a": np.array([[1, 2, 3], [4, 5, 6]], np.float32),
    "b": np.array([[0, 0, 1], [1, 0, 0]], np.float32),
}
ANSWER = {"y": 2 * INPUTS["a"] + INPUTS["b"]}


def rewrite(
    bundle: Bundle,
    output: Path,
    expected: Mapping[str, np.ndarray],
    reference: Mapping[str, np.ndarray] | None = None,
    *,
    steps: tuple[Step, ...] = (),
    tolerance: Mapping[str, Tolerance] | None = None,
    inputs: Mapping[str, np.ndarray] = INPUTS,
) -> Bundle:
    """The bundle with other golden values and steps."""
    with BundleWriter(output) as writer:
        writer.copy(bundle.file("model.onnx"), "model.onnx", "component")
        golden.write(writer.add(golden.GOLDEN_NAME, "golden"), inputs, reference or {}, expected)
        recorded = Golden(golden.GOLDEN_NAME, tolerance or {})
        writer.stage(replace(bundle.manifest, golden=recorded, steps=steps, files=()))
        return writer.commit()


def test_round_trip(tmp_path: Path) -> None:
    """What is written is what is read, with the machine it was written on."""
    path = tmp_path / "golden.safetensors"
    golden.write(path, {"x.y": INPUTS["a"].T}, {"out": INPUTS["b"]}, ANSWER)
    values = golden.read(path)
    np.testing.assert_array_equal(values.inputs["x.y"], INPUTS["a"].T)
    np.testing.assert_array_equal(values.reference["out"], INPUTS["b"])
    np.testing.assert_array_equal(values.expected["y"], ANSWER["y"])
    assert values.arch == cpu.arch()
    assert values.same_isa


def test_same_bytes(tmp_path: Path) -> None:
    """The same values make the same file, or equal bundles would have different ids."""
    values = {"ä": np.arange(6, dtype=np.float32)}
    for number in range(20):
        golden.write(tmp_path / str(number), values, values, values)
    assert len({path.read_bytes() for path in tmp_path.iterdir()}) == 1
    assert golden.read(tmp_path / "0").inputs["ä"].tolist() == list(range(6))


def test_too_big(tmp_path: Path) -> None:
    """Values over 8 MiB are refused before they are written."""
    with pytest.raises(ConfigError, match="8388608"):
        golden.write(tmp_path / "g", {"x": np.zeros(2**21, np.float32)}, {}, {})
    assert not (tmp_path / "g").exists()


@pytest.mark.parametrize("engine", ["onnxruntime", "openvino"])
def test_selftest_passes(linear_bundle: Make, engine: str) -> None:
    """A bundle repeats its own answers, on the other engine too."""
    with load(linear_bundle(golden_inputs=INPUTS).path, engine=engine) as model:
        (row,) = model.selftest()
    assert row.output == "y"
    assert row.passed
    assert row.max_abs == 0
    assert row.to_reference == 0


def test_selftest_fails(linear_bundle: Make, tmp_path: Path) -> None:
    """An answer beyond the tolerance fails; the distance to PyTorch is told, not judged."""
    bundle = rewrite(linear_bundle(), tmp_path / "other", {"y": ANSWER["y"] + 0.01},
                     {"y": ANSWER["y"] + 5})  # fmt: skip
    with load(bundle.path) as model:
        (row,) = model.selftest()
    assert not row.passed
    assert row.max_abs == pytest.approx(0.01, rel=1e-3)
    assert row.to_reference == pytest.approx(5)
    assert row.tolerance.startswith("fp32: max")


def test_no_golden(linear_bundle: Make) -> None:
    """A bundle without golden values has nothing to test."""
    with load(linear_bundle().path) as model:
        assert model.selftest() == ()


def test_tolerance_of_the_bundles_precision(linear_bundle: Make, tmp_path: Path) -> None:
    """A quantized bundle is judged as such, by the last step that records its precision."""
    steps = (
        Step("quantize", facts={"precision": "int8"}),
        Step("compile", facts={"nodes": 3}),
    )
    bundle = rewrite(linear_bundle(), tmp_path / "other", {"y": ANSWER["y"] + 0.01}, steps=steps)
    with load(bundle.path) as model:
        (row,) = model.selftest()
    assert row.passed
    assert row.tolerance.startswith("int8: cosine")


def test_tolerance_of_the_engines_precision(linear_bundle: Make, tmp_path: Path) -> None:
    """A float bundle that the engine runs in bf16 is judged as bf16."""
    bundle = rewrite(linear_bundle(), tmp_path / "other", {"y": ANSWER["y"] + 0.01})
    with load(bundle.path, engine="openvino") as model:
        precision = model.facts()["precision"]
        (row,) = model.selftest()
    assert row.tolerance.startswith(str(precision))
    assert row.passed == (precision == "bf16")


def test_tolerance_that_the_bundle_brings(linear_bundle: Make, tmp_path: Path) -> None:
    """The manifest's own tolerance goes before the table's."""
    bundle = rewrite(
        linear_bundle(),
        tmp_path / "other",
        {"y": ANSWER["y"] + 0.01},
        tolerance={"fp32": Tolerance("max_abs", absolute=0.1)},
    )
    with load(bundle.path) as model:
        assert model.selftest()[0].passed


def test_another_instruction_set(
    linear_bundle: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Written on another kind of CPU, the same difference is within the wider tolerance."""
    values = {"y": ANSWER["y"] + 0.004}
    here = rewrite(linear_bundle(), tmp_path / "here", values)
    with monkeypatch.context() as patch:
        patch.setattr(cpu, "cpu_features", lambda: frozenset({"neon"}))
        elsewhere = rewrite(linear_bundle("second"), tmp_path / "elsewhere", values)
    passed = []
    for bundle in (here, elsewhere):
        with load(bundle.path) as model:
            passed.append(model.selftest()[0].passed)
    assert passed == [False, True]


def test_nan_never_passes(linear_bundle: Make, tmp_path: Path) -> None:
    """An answer of NaN fails, whatever was expected."""
    steps = (Step("quantize", facts={"precision": "int8"}),)
    inputs = {**INPUTS, "a": np.full((2, 3), np.nan, np.float32)}
    bundle = rewrite(linear_bundle(), tmp_path / "other", ANSWER, steps=steps, inputs=inputs)
    with load(bundle.path) as model:
        assert not model.selftest()[0].passed


@pytest.mark.parametrize("name", ["other", "expected.", "wrong.y"])
def test_names_outside_the_format(tmp_path: Path, name: str) -> None:
    """A tensor that is neither input, reference nor expected is refused."""
    save_file({name: INPUTS["a"]}, tmp_path / "g.safetensors")
    with pytest.raises(BundleCorrupt, match="no golden value"):
        golden.read(tmp_path / "g.safetensors")


def test_not_safetensors(tmp_path: Path) -> None:
    """A file of another kind is BundleCorrupt."""
    (tmp_path / "g.safetensors").write_bytes(b"\xff" * 100)
    with pytest.raises(BundleCorrupt, match="cannot be read"):
        golden.read(tmp_path / "g.safetensors")


@pytest.mark.parametrize("expected", [{"z": ANSWER["y"]}, {"y": ANSWER["y"][:1]}, {}])
def test_values_of_another_graph(
    linear_bundle: Make, tmp_path: Path, expected: dict[str, np.ndarray]
) -> None:
    """Outputs or shapes that the graph does not have, or none at all, are BundleCorrupt."""
    bundle = rewrite(linear_bundle(), tmp_path / "other", expected)
    with load(bundle.path) as model, pytest.raises(BundleCorrupt):
        model.selftest()


def test_distance() -> None:
    """The largest difference and the cosine; opposite vectors have cosine -1."""
    one = np.array([1, 0, 2], np.float32)
    assert golden.distance(one, one) == (0.0, pytest.approx(1.0))
    assert golden.distance(one, -one) == (4.0, pytest.approx(-1.0))
    assert golden.distance(one.reshape(1, 3, 1), one.reshape(1, 3, 1))[0] == 0.0


def test_distance_of_zeros() -> None:
    """Nothing and two zero vectors are the same; one zero vector is like nothing else."""
    one = np.array([1, 0, 2], np.float32)
    assert golden.distance(np.zeros(0), np.zeros(0)) == (0.0, 1.0)
    assert golden.distance(np.zeros(3), np.zeros(3)) == (0.0, 1.0)
    assert golden.distance(np.zeros(3), one) == (2.0, 0.0)
    assert golden.distance(one, np.zeros(3)) == (2.0, 0.0)


def test_cosine_never_passes_one() -> None:
    """Rounding alone would tell 1.0000000000000002 of some vectors and themselves."""
    rows = np.random.default_rng(0).normal(size=(200, 7))
    assert max(golden.distance(row, row)[1] for row in rows) == 1.0


@pytest.mark.parametrize("other", [np.nan, np.inf])
def test_distance_of_nan(other: float) -> None:
    """NaN is at no distance of anything, not even of zeros; nor is infinity of itself."""
    bad = np.array([1.0, other])
    against = [bad] if np.isinf(other) else [bad, np.ones(2), np.zeros(2)]
    for values in against:
        assert np.isnan(golden.distance(bad, values)).all()
        assert np.isnan(golden.distance(values, bad)).all()


_IDS = TensorSpec("input_ids", "int64", ("batch", "sequence"))
_PAST = TensorSpec("past_key_values.0.key", "float32", ("batch", 1, "past", 2))
_PRESENT = replace(_PAST, name="present.0.key")
_LOGITS = TensorSpec("logits", "float32", ("batch", 4))
DECODER = Component("onnx", ("d.onnx",), (_PAST,), (_LOGITS, _PRESENT))
ENCODER = Component("onnx", ("e.onnx",), (_IDS,), (replace(_PRESENT, name="present.0.e.key"),))


@pytest.mark.parametrize("precision", ["int4", "int8", "bf16", "fp16"])
def test_cache_of_a_rounded_decoder_is_told(precision: str) -> None:
    """It is a state between two answers; those are judged, and so is what an encoder hands on."""
    assert golden.bar_for({"model": DECODER}, precision).told == {"present.0.key"}
    both = golden.bar_for({"encoder": ENCODER, "decoder": DECODER}, precision)
    assert both.told == {"decoder.present.0.key"}


def test_cache_of_an_exact_decoder_is_judged() -> None:
    """In float32 a wrong cache is a wrong graph."""
    assert not golden.bar_for({"model": DECODER}, "fp32").told


def test_what_is_told_is_finite() -> None:
    """However far off it is; NaN in it would be NaN in the next token."""
    bar = golden.bar_for({"model": DECODER}, "int4")
    wanted = np.ones((1, 1, 3, 2), np.float32)
    far = bar.compare("present.0.key", -wanted, wanted)
    assert (far.passed, far.judged, far.cosine) == (True, False, pytest.approx(-1))
    assert not bar.compare("present.0.key", wanted * np.nan, wanted).passed
    logits = bar.compare("logits", -wanted, wanted)
    assert (logits.passed, logits.judged) == (False, True)


@pytest.mark.parametrize("precision", ["fp32", "int4"])
def test_verify_judges_a_rounded_decoder_by_its_logits(tmp_path: Path, precision: str) -> None:
    """All rows are told, and those of the cache fail in float32 alone."""
    bundle = write_generator(tmp_path / "plain")
    ids = np.arange(3)[None]
    inputs: dict[str, np.ndarray] = {
        "input_ids": ids, "attention_mask": np.ones_like(ids), "position_ids": ids,
    }  # fmt: skip
    specs = bundle.manifest.components["model"].inputs
    inputs |= {
        spec.name: np.zeros((1, 1, 0, 8), np.float32) for spec in specs if spec.name not in inputs
    }
    with load(bundle.path) as model:
        answers = model.run(inputs)
    expected = {name: one if name == "logits" else one + 9 for name, one in answers.items()}
    with BundleWriter(tmp_path / "other") as writer:
        writer.copy_from(bundle)
        golden.write(writer.add(golden.GOLDEN_NAME, "golden"), inputs, {}, expected)
        steps = (Step("quantize", facts={"precision": precision}),)
        writer.stage(replace(bundle.manifest, golden=Golden(golden.GOLDEN_NAME), steps=steps))
        writer.commit()
    with load(tmp_path / "other") as model:
        rows = {row.output: row for row in model.selftest()}
    assert rows.keys() == expected.keys()
    assert rows["logits"].passed
    assert rows["logits"].judged
    cached = [row for name, row in rows.items() if name != "logits"]
    rounded = precision == "int4"
    assert {(row.passed, row.judged) for row in cached} == {(rounded, not rounded)}


def sampled_bundle(bundle: Bundle, output: Path, shift: float = 0.0) -> Bundle:
    """The bundle with every second number of its answer, the last of them shifted."""
    held = golden.sampled(ANSWER, {"y": 2})
    moved = {"y": held["y"] + np.array([0, 0, shift], np.float32)}
    with BundleWriter(output) as writer:
        writer.copy(bundle.file("model.onnx"), "model.onnx", "component")
        path = writer.add(golden.GOLDEN_NAME, "golden")
        golden.write(path, INPUTS, held, moved, strides={"y": 2})
        writer.stage(replace(bundle.manifest, golden=Golden(golden.GOLDEN_NAME), files=()))
        return writer.commit()


def test_large_answers_are_sampled(linear_bundle: Make, tmp_path: Path) -> None:
    """One number out of so many stands in the file; those are judged, at their places."""
    bundle = sampled_bundle(linear_bundle(), tmp_path / "b")
    values = golden.read(bundle.file(golden.GOLDEN_NAME))
    assert values.strides == {"y": 2}
    np.testing.assert_array_equal(values.expected["y"], ANSWER["y"].ravel()[::2])
    with load(bundle.path) as model:
        (row,) = model.selftest()
    assert (row.passed, row.max_abs, row.to_reference) == (True, 0, 0)
    with load(sampled_bundle(linear_bundle("c"), tmp_path / "d", 1.0).path) as model:
        (row,) = model.selftest()
    assert (row.passed, row.max_abs) == (False, pytest.approx(1))


def test_a_reference_of_another_shape(linear_bundle: Make, tmp_path: Path) -> None:
    """Nothing can be told of its distance."""
    bundle = rewrite(linear_bundle(), tmp_path / "other", ANSWER, {"y": ANSWER["y"][:1]})
    with load(bundle.path) as model, pytest.raises(BundleCorrupt, match="the reference in"):
        model.selftest()


@pytest.mark.parametrize(
    "told", ["no", "[1]", '{"y": 1}', '{"y": true}', '{"y": "2"}', '{"y": 4294967296}', '{"z": 2}']
)
def test_sample_that_is_none(tmp_path: Path, told: str) -> None:
    """Strides that say nothing, or are of an answer that stands there whole, are BundleCorrupt."""
    arrays = {"expected.y": np.zeros(3, np.float32), "expected.z": np.zeros((1, 3), np.float32)}
    save_file(arrays, tmp_path / "g.safetensors", metadata={"sampled": told})
    with pytest.raises(BundleCorrupt, match=r"sample"):
        golden.read(tmp_path / "g.safetensors")
