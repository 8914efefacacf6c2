"""ONNX files as components: what is tried on them before they are one."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import TensorProto, helper

from edgekit.core.errors import ConfigError, EngineUnavailable, SourceError
from edgekit.core.tolerance import tolerance_for
from edgekit.exporters.declared import read_declared
from edgekit.exporters.imported import Imported, import_model
from edgekit.exporters.imported_calls import second_call
from edgekit.exporters.imported_inputs import Sampled
from edgekit.exporters.imported_parity import compare_runs
from edgekit.runtime.golden import distance
from edgekit.sources.inputs import parse_inputs
from tests.onnx_models import (
    FLOAT,
    HALF,
    INT64,
    PROCESSOR,
    counter,
    findings,
    linear,
    masked,
    model,
    pictures,
    recurrent,
    save,
    save_outside,
    switched,
)


def bring(made: onnx.ModelProto, folder: Path, **options: object) -> Imported:
    """The import of a model that went through a file."""
    path = save(made, folder / "m.onnx")
    target = folder / "bundle"
    target.mkdir()
    return import_model(path, target, **options)  # type: ignore[arg-type]


def test_other_sizes_are_tried(tmp_path: Path) -> None:
    """Two rows are the golden sample; one and three are compared besides."""
    found = bring(linear(), tmp_path).exported
    assert [row.shape["x"] for row in found.parity] == [(2, 4), (1, 4), (3, 4)]
    assert found.component.outputs[0].shape == ("batch", 3)
    assert found.golden is not None
    assert found.golden.inputs["x"].shape == (2, 4)
    assert (tmp_path / "bundle" / "model.onnx").read_bytes() == (tmp_path / "m.onnx").read_bytes()


def test_the_same_seed_makes_the_same_samples(tmp_path: Path) -> None:
    """And another one others."""
    found = []
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        (tmp_path / name).mkdir()
        golden = bring(linear(), tmp_path / name, seed=seed).exported.golden
        assert golden is not None
        found.append(golden.inputs["x"])
    np.testing.assert_array_equal(found[0], found[1])
    assert not np.array_equal(found[0], found[2])


def test_axes_without_a_name(tmp_path: Path) -> None:
    """The first is the batch, another is called after its input."""
    made = model(
        [helper.make_node("Relu", ["x:0"], ["y"])],
        {"x:0": (FLOAT, (None, None))},
        {"y": (FLOAT, (None, None))},
    )
    component = bring(made, tmp_path).exported.component
    assert component.inputs[0].shape == ("batch", "x_0_1")
    assert component.outputs[0].shape[0] == "batch"


def test_output_axes_that_never_move_are_sizes(tmp_path: Path) -> None:
    """An exporter that names every axis of an output hides what is fixed."""
    made = linear()
    del made.graph.output[:]
    made.graph.output.append(helper.make_tensor_value_info("y", FLOAT, ("batch", "MatMuly_dim_1")))
    assert bring(made, tmp_path).exported.component.outputs[0].shape == ("batch", 3)


def test_half_precision_in_and_out(tmp_path: Path) -> None:
    """It is judged by its own precision."""
    found = bring(linear(kind=HALF), tmp_path).exported
    assert found.component.inputs[0].dtype == "float16"
    assert found.component.outputs[0].dtype == "float16"
    assert found.precision == "fp16"


def test_external_data_come_along(tmp_path: Path) -> None:
    """Under the name that the graph has for them."""
    (tmp_path / "w").mkdir()
    path = save_outside(linear(), tmp_path / "m.onnx", "w/all.bin")
    (tmp_path / "bundle").mkdir()
    found = import_model(path, tmp_path / "bundle").exported
    assert found.component.files == ("model.onnx", "w/all.bin")
    assert found.files == (("model.onnx", "component"), ("w/all.bin", "weights"))
    assert (tmp_path / "bundle" / "w" / "all.bin").is_file()


@pytest.mark.parametrize("kind", ["symbolic", "hard"])
def test_external_data_behind_links(kind: str, tmp_path: Path) -> None:
    """Caches of downloads are made of them; the bundle holds the files."""
    path = save_outside(linear(), tmp_path / "m.onnx")
    weights = tmp_path / "weights.data"
    (tmp_path / "blobs").mkdir()
    blob = weights.rename(tmp_path / "blobs" / "0123")
    if kind == "hard":
        weights.hardlink_to(blob)
    else:
        weights.symlink_to(blob)
    (tmp_path / "bundle").mkdir()
    import_model(path, tmp_path / "bundle")
    copy = tmp_path / "bundle" / "weights.data"
    assert not copy.is_symlink()
    assert copy.read_bytes() == blob.read_bytes()


def test_external_data_of_a_model_of_licences(tmp_path: Path) -> None:
    """Plates, not terms."""
    path = save_outside(linear(), tmp_path / "m.onnx", "license_plate.onnx.data")
    (tmp_path / "bundle").mkdir()
    found = import_model(path, tmp_path / "bundle").exported
    assert found.component.files == ("model.onnx", "license_plate.onnx.data")


def test_open_rank_with_external_data(tmp_path: Path) -> None:
    """What --input tells, and weights beside the graph."""
    path = save_outside(linear(None), tmp_path / "m.onnx")
    (tmp_path / "bundle").mkdir()
    specs = parse_inputs(["x=float32:rows,4"])
    assert import_model(path, tmp_path / "bundle", declared=specs).exported.golden is not None
    assert {file.name for file in (tmp_path / "bundle").iterdir()} == {"model.onnx", "weights.data"}


def test_pictures_may_be_the_second_input(tmp_path: Path) -> None:
    """The first may have no axis at all."""
    made = pictures()
    made.graph.input.insert(0, helper.make_tensor_value_info("gain", FLOAT, ()))
    made.graph.node[0].input[0] = "louder"
    made.graph.node.insert(0, helper.make_node("Mul", ["pixels", "gain"], ["louder"]))
    file = tmp_path / "p.toml"
    file.write_text(f'inputs = ["pixels", "gain"]\n{PROCESSOR}')
    found = bring(made, tmp_path, processor=read_declared(file)).exported
    assert found.golden is not None
    # Of noise one half is below zero.
    assert found.golden.inputs["pixels"].min() >= 0


def test_external_data_named_as_a_file_of_the_bundle(tmp_path: Path) -> None:
    """It would take the manifest's place."""
    path = save_outside(linear(), tmp_path / "m.onnx", "edgekit.json")
    (tmp_path / "bundle").mkdir()
    with pytest.raises(SourceError, match="another file for"):
        import_model(path, tmp_path / "bundle")


def test_dynamic_rank_is_refused_with_the_remedy(tmp_path: Path) -> None:
    """And taken where the remedy is followed."""
    made = linear(None)
    with pytest.raises(SourceError, match="no declared shape") as caught:
        bring(made, tmp_path)
    assert "--input x=float32:DIM" in (caught.value.hint or "")
    (tmp_path / "again").mkdir()
    specs = parse_inputs(["x=float32:rows,4"])
    component = bring(made, tmp_path / "again", declared=specs).exported.component
    assert component.inputs[0].shape == ("rows", 4)


def test_declared_inputs_may_fix_what_varies(tmp_path: Path) -> None:
    """A size in the place of a name."""
    specs = parse_inputs(["x=float32:5,4"])
    found = bring(linear(), tmp_path, declared=specs).exported
    assert found.component.inputs[0].shape == (5, 4)
    assert [row.shape["x"] for row in found.parity] == [(5, 4)]


@pytest.mark.parametrize(
    ("declared", "told"),
    [
        ("z=float32:batch,4", "does not take"),
        ("x=float16:batch,4", r"in m\.onnx it is x float32"),
        ("x=float32:batch,5", r"in m\.onnx it is x float32"),
        ("x=float32:batch", r"in m\.onnx it is x float32"),
    ],
)
def test_declared_inputs_that_contradict(declared: str, told: str, tmp_path: Path) -> None:
    """The graph is right."""
    with pytest.raises(ConfigError, match=told):
        bring(linear(), tmp_path, declared=parse_inputs([declared]))


def test_samples_are_the_golden_inputs(tmp_path: Path) -> None:
    """As they were given."""
    sample = np.arange(12, dtype=np.float32).reshape(3, 4)
    found = bring(linear(), tmp_path, samples={"x": sample}).exported
    assert found.golden is not None
    np.testing.assert_array_equal(found.golden.inputs["x"], sample)
    assert found.facts["samples"] == "given"


@pytest.mark.parametrize(
    ("samples", "told"),
    [
        ({"x": np.zeros((2, 4), np.float64)}, "float64"),
        ({"x": np.zeros((2, 5), np.float32)}, "shape"),
        ({"z": np.zeros((2, 4), np.float32)}, "unknown"),
        ({"x": np.full((2, 4), np.inf, np.float32)}, "infinities"),
    ],
)
def test_samples_that_do_not_fit(samples: dict[str, np.ndarray], told: str, tmp_path: Path) -> None:
    """Told before anything runs."""
    with pytest.raises(ConfigError, match=f"--samples.*{told}"):
        bring(linear(), tmp_path, samples=samples)


def test_state_in_and_out(tmp_path: Path) -> None:
    """Two inputs of one batch vary together."""
    found = bring(counter(), tmp_path).exported
    assert {row.shape["state"] for row in found.parity} == {(1, 4), (2, 4), (3, 4)}
    assert [spec.name for spec in found.component.outputs] == ["mean", "next"]


def test_model_that_takes_no_made_up_input(tmp_path: Path) -> None:
    """The engine's reason, and the option that helps."""
    made = model(
        [helper.make_node("Reshape", ["x", "shape"], ["y"])],
        {"x": (FLOAT, ("n",))},
        {"y": (FLOAT, (7, 11))},
        {"shape": np.array([7, 11], np.int64)},
    )
    with pytest.raises(SourceError, match="none of the made-up inputs") as caught:
        bring(made, tmp_path)
    assert "--samples" in (caught.value.hint or "")
    (tmp_path / "again").mkdir()
    found = bring(made, tmp_path / "again", samples={"x": np.ones(77, np.float32)}).exported
    assert any("took no other than n = 77" in note for note in found.notes)
    assert found.component.inputs[0].shape == (77,)


def test_dimensions_that_only_vary_together_are_one(tmp_path: Path) -> None:
    """Two names in the graph of one and the same axis."""
    made = model(
        [helper.make_node("Concat", ["x", "state"], ["y"], axis=1)],
        {"x": (FLOAT, ("batch", 4)), "state": (FLOAT, ("other", 4))},
        {"y": (FLOAT, ("other", 8))},
    )
    found = bring(made, tmp_path).exported
    assert [spec.shape for spec in found.component.inputs] == [("batch", 4), ("batch", 4)]
    assert found.component.outputs[0].shape == ("batch", 8)
    assert any("only vary together are one: other and batch" in note for note in found.notes)


def test_what_somebody_declares_to_vary_stays(tmp_path: Path) -> None:
    """Where no other size was taken here, it is told."""
    made = model(
        [helper.make_node("MatMul", ["x", "w"], ["y"])],
        {"x": (FLOAT, (None,))},
        {"y": (FLOAT, (2,))},
        {"w": np.arange(32, dtype=np.float32).reshape(16, 2)},
    )
    specs = parse_inputs(["x=float32:length"])
    sample = {"x": np.arange(16, dtype=np.float32)}
    found = bring(made, tmp_path, declared=specs, samples=sample).exported
    assert found.component.inputs[0].shape == ("length",)
    assert found.notes == (
        "--input declares sizes that vary, and no other than length = 16 was taken here.",
    )


def test_chance_is_refused(tmp_path: Path) -> None:
    """What answers otherwise each time can be held to nothing."""
    made = model(
        [
            helper.make_node("RandomNormalLike", ["x"], ["noise"]),
            helper.make_node("Add", ["x", "noise"], ["y"]),
        ],
        {"x": (FLOAT, ("batch", 4))},
        {"y": (FLOAT, ("batch", 4))},
    )
    with pytest.raises(SourceError, match="does not repeat its own answer"):
        bring(made, tmp_path)


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"opset": 99}, r"has opset 99 of \S+; ONNX Runtime \S+ reads up to \d\d\."),
        ({"ir_version": 99}, r"has the IR version 99; ONNX Runtime \S+ reads up to \d\d\."),
    ],
)
def test_too_new_for_the_engine(options: dict[str, int], told: str, tmp_path: Path) -> None:
    """Both numbers are told."""
    with pytest.raises(EngineUnavailable, match=told) as caught:
        bring(linear(**options), tmp_path)
    assert "older opset" in (caught.value.hint or "")


def test_operator_that_the_engine_lacks(tmp_path: Path) -> None:
    """The file that was given is named, not its copy."""
    made = model(
        [helper.make_node("NoSuchThing", ["x"], ["y"])],
        {"x": (FLOAT, (2,))},
        {"y": (FLOAT, (2,))},
    )
    with pytest.raises(SourceError, match=r"does not load \S+/m\.onnx.*NoSuchThing"):
        bring(made, tmp_path)


def test_names_of_folders_are_no_reasons(tmp_path: Path) -> None:
    """An operator that is unknown is none that is too new, wherever the file lies."""
    made = model(
        [helper.make_node("NoSuchThing", ["x"], ["y"])],
        {"x": (FLOAT, (2,))},
        {"y": (FLOAT, (2,))},
    )
    folder = tmp_path / "net-opset17-cuda"
    folder.mkdir()
    with pytest.raises(SourceError, match="NoSuchThing"):
        bring(made, folder)


def test_large_answers_have_no_golden(tmp_path: Path) -> None:
    """A bundle holds 8 MiB of them."""
    made = model(
        [helper.make_node("Expand", ["x", "shape"], ["y"])],
        {"x": (FLOAT, (1,))},
        {"y": (FLOAT, (1, 1_200_000))},
        {"shape": np.array([1, 1_200_000], np.int64)},
    )
    found = bring(made, tmp_path).exported
    assert found.golden is None
    assert any("no golden answers" in note for note in found.notes)


def test_whole_numbers_are_zero_or_one(tmp_path: Path) -> None:
    """Every table of embeddings has these rows."""
    made = model(
        [helper.make_node("Gather", ["table", "ids"], ["y"])],
        {"ids": (INT64, ("batch", "tokens"))},
        {"y": (FLOAT, ("batch", "tokens", 3))},
        {"table": np.ones((2, 3), np.float32)},
    )
    golden = bring(made, tmp_path).exported.golden
    assert golden is not None
    assert set(golden.inputs["ids"].ravel().tolist()) == {0, 1}


def test_recurrent_weights_show_in_the_golden_answers(tmp_path: Path) -> None:
    """A first call, whose state is zeros, would be answered without them too."""
    x = np.random.default_rng(3).normal(size=(1, 1, 4)).astype(np.float32)
    first = {"x": x, "state": np.zeros((1, 1, 5), np.float32)}
    found = bring(recurrent(), tmp_path, samples=first).exported
    assert found.golden is not None
    assert found.golden.inputs["state"].any()
    assert "second call" in str(found.facts["golden"])
    forgetful = ort.InferenceSession(recurrent(forgetful=True).SerializeToString())
    whole = ort.InferenceSession(recurrent().SerializeToString())
    np.testing.assert_array_equal(forgetful.run(None, first)[0], whole.run(None, first)[0])
    answer = forgetful.run(None, dict(found.golden.inputs))[0]
    wanted = found.golden.reference["stateN"]
    max_abs, cosine = distance(answer, wanted)
    scale = float(np.abs(wanted).max())
    for precision in ("fp32", "fp16", "int8"):
        rule = tolerance_for(precision)
        assert not rule.accepts(max_abs=max_abs, max_reference=scale, cosine=cosine, row=5)


@pytest.mark.parametrize(
    ("inputs", "outputs", "paired"),
    [
        (["h", "c"], ["cn", "hn"], {"h": "hn", "c": "cn"}),
        (["h0", "c0"], ["y_h", "y_c"], {"h0": "y_h", "c0": "y_c"}),
        (["past_a", "past_b"], ["one", "two"], {"past_a": "one", "past_b": "two"}),
        (["a", "b"], ["only"], {}),
    ],
)
def test_states_are_told_by_name_or_order(
    inputs: list[str], outputs: list[str], paired: dict[str, str]
) -> None:
    """Where neither tells, nothing is fed back."""
    seen: list[dict[str, np.ndarray]] = []

    class Told:
        def run(self, feeds: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
            seen.append(feeds)
            return answers

    answers = {name: np.full((1, 3), at + 1.0) for at, name in enumerate(outputs)}
    feeds = {"x": np.ones((1, 2)), **{name: np.zeros((1, 3)) for name in inputs}}
    later = second_call(Told(), Sampled(feeds, answers, {}))  # type: ignore[arg-type]
    assert (later is None) == (not paired)
    for given, said in paired.items():
        np.testing.assert_array_equal(seen[0][given], answers[said])


def test_samples_of_one_number_are_told(tmp_path: Path) -> None:
    """They reach few weights."""
    found = bring(linear(), tmp_path, samples={"x": np.ones((2, 4), np.float32)}).exported
    assert any("The inputs x are one and the same number" in note for note in found.notes)


def test_optimisations_that_change_a_shape(tmp_path: Path) -> None:
    """Both shapes are named."""

    class Longer:
        def run(self, feeds: object) -> dict[str, np.ndarray]:
            return {"y": np.ones((3, 2), np.float32)}

    case = Sampled({"x": np.ones(1)}, {"y": np.ones((2, 2), np.float32)}, {})
    with pytest.raises(SourceError, match=r"y has the shape \[3, 2\], and \[2, 2\] without"):
        compare_runs(Longer(), [case], "fp32", tmp_path / "m.onnx")  # type: ignore[arg-type]


def test_what_is_not_found_in_noise_has_no_size(tmp_path: Path) -> None:
    """The axis stays open; an empty output is told, and neither compared nor golden."""
    found = bring(findings(), tmp_path).exported
    places = next(spec for spec in found.component.outputs if spec.name == "places")
    assert places.shape == (2, "places_1")
    assert {row.output for row in found.parity} == {"y"}
    assert found.golden is not None
    assert set(found.golden.reference) == {"y"}
    assert any("places came out empty" in note for note in found.notes)


def test_outputs_of_infinities_leave_the_others_golden(tmp_path: Path) -> None:
    """And the reason is theirs, not a size."""
    found = bring(masked(), tmp_path).exported
    assert found.golden is not None
    assert set(found.golden.reference) == {"y"}
    assert any("ruled held NaN or infinities" in note for note in found.notes)
    assert not any("8 MB" in note for note in found.notes)


def test_pictures_of_bytes_are_not_black(tmp_path: Path) -> None:
    """They have all values that a byte has."""
    made = model(
        [helper.make_node("Cast", ["pixels"], ["y"], to=FLOAT)],
        {"pixels": (TensorProto.UINT8, (1, 30, 30, 3))},
        {"y": (FLOAT, (1, 30, 30, 3))},
    )
    golden = bring(made, tmp_path).exported.golden
    assert golden is not None
    assert (golden.inputs["pixels"].min(), golden.inputs["pixels"].max()) == (0, 255)


def test_made_up_numbers_that_decide_on_a_branch(tmp_path: Path) -> None:
    """Samples are asked for; who gives them knows."""
    found = bring(switched(), tmp_path).exported
    assert any("By sr the graph decides" in note for note in found.notes)
    (tmp_path / "again").mkdir()
    call = {
        "x": np.arange(4, dtype=np.float32)[None], "sr": np.array(16_000), "times": np.array(1),
    }  # fmt: skip
    found = bring(switched(), tmp_path / "again", samples=call).exported
    assert not any("decides" in note for note in found.notes)
