"""import, and what the other verbs make of its bundles."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx import helper

import edgekit
from edgekit.cli.commands.inspecting import describe
from edgekit.core.bundle import open_bundle
from edgekit.core.errors import ConfigError, QuantizeError, SourceError
from edgekit.core.measurements import ValidateResult
from edgekit.core.onnx_file import model_hash
from edgekit.core.results import to_json
from edgekit.pipeline.builds import proving
from edgekit.reporting.reading import evidence_result
from edgekit.runtime.golden import read
from edgekit.runtime.raw import raw_inputs
from tests.conftest import make_once
from tests.onnx_models import (
    FLOAT,
    HALF,
    PROCESSOR,
    counter,
    linear,
    masked,
    model,
    pictures,
    save,
    save_outside,
)
from tests.schemas import check_schema_of


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """A model that was never PyTorch."""
    return save(linear(), tmp_path / "net.onnx")


@pytest.fixture(scope="module")
def imported(shared: Path) -> Path:
    """The bundle of the same model."""

    def make(folder: Path) -> None:
        path = save(linear(), folder.with_name("imported-net.onnx"))
        edgekit.import_onnx(path, folder)

    return make_once(shared / "imported", make)


def rows(path: Path, count: int) -> str:
    """Rows with the classes that the model itself gives them."""
    x = np.random.default_rng(5).normal(size=(count, 4)).astype(np.float32)
    made = {one.name: one for one in linear().graph.initializer}
    w, v = (np.frombuffer(made[n].raw_data, np.float32).reshape(made[n].dims) for n in "wv")
    np.savez(path, x=x, label=(np.maximum(x @ w, 0) @ v).argmax(-1))
    return str(path)


def test_manifest_tells_what_it_is(file: Path, tmp_path: Path) -> None:
    """A model by its own hash, whose reference is itself."""
    told: list[str] = []
    result = edgekit.import_onnx(file, tmp_path / "b", progress=told.append)
    manifest = open_bundle(tmp_path / "b").manifest
    assert (manifest.stage, manifest.task) == ("imported", "custom")
    assert manifest.source is not None
    assert (manifest.source.kind, manifest.source.id) == ("onnx", "net.onnx")
    assert manifest.source.sha256 == manifest.source.origin.sha256 == model_hash(file)
    assert manifest.steps[0].step == "import"
    assert "imported model itself" in str(manifest.steps[0].facts["reference"])
    assert str(tmp_path) not in (tmp_path / "b" / "edgekit.json").read_text()
    assert (result.opset, result.architecture) == (17, "small")
    with edgekit.load(tmp_path / "b") as opened:
        assert [row.passed for row in opened.selftest()] == [True]


def test_licence_comes_along(file: Path, tmp_path: Path) -> None:
    """As it lies beside the model."""
    (tmp_path / "LICENSE").write_text("Do what you like.")
    edgekit.import_onnx(file, tmp_path / "b")
    assert (tmp_path / "b" / "LICENSE").read_text() == "Do what you like."


def test_models_of_licence_plates(tmp_path: Path) -> None:
    """A licence is what is called exactly so, is short, and is no file of the model."""
    path = save_outside(linear(), tmp_path / "license_plate.onnx", "license_plate.onnx.data")
    np.savez(tmp_path / "license_plate.npz", x=np.ones((2, 4), np.float32))
    for name in ("LICENSE-APACHE-2.0", "Copying.lesser", "NOTICE.txt", "license.csv"):
        (tmp_path / name).write_text("Do what you like.")
    (tmp_path / "licence_long.txt").write_bytes(bytes(2 << 20))
    samples = (tmp_path / "license_plate.npz").rename(tmp_path / "license_call")
    edgekit.import_onnx(path, tmp_path / "b", samples=samples)
    entries = open_bundle(tmp_path / "b").manifest.files
    assert {entry.path for entry in entries if entry.role == "license"} == {
        "LICENSE-APACHE-2.0", "Copying.lesser", "NOTICE.txt",
    }  # fmt: skip
    assert {entry.path for entry in entries if entry.role == "weights"} == {
        "license_plate.onnx.data"
    }


def test_output_that_holds_what_is_read(file: Path, tmp_path: Path) -> None:
    """--force would remove it, however it is named."""
    edgekit.import_onnx(file, tmp_path / "b")
    bundle = tmp_path / "b"
    (tmp_path / "link.onnx").symlink_to(bundle / "model.onnx")
    (tmp_path / "folder").symlink_to(bundle)
    for name in ("b/../b/model.onnx", "link.onnx", "folder/model.onnx"):
        with pytest.raises(ConfigError, match="holds the model"):
            edgekit.import_onnx(tmp_path / name, bundle, force=True)
    np.savez(bundle / "call.npz", x=np.ones((2, 4), np.float32))
    with pytest.raises(ConfigError, match="holds the samples"):
        edgekit.import_onnx(file, bundle, samples=bundle / "call.npz", force=True)
    assert (bundle / "model.onnx").is_file()


@pytest.mark.parametrize("engine", ["onnxruntime", "openvino"])
def test_axes_without_a_name_are_fixed(engine: str, tmp_path: Path) -> None:
    """In the graph as well as in the manifest: engines plan for it."""
    edgekit.import_onnx(save(linear((None, 4)), tmp_path / "m.onnx"), tmp_path / "b")
    edgekit.compile(tmp_path / "b", tmp_path / "c", engine=engine, static={"batch": 1})
    with edgekit.load(tmp_path / "c") as opened:
        assert opened.manifest.components["model"].inputs[0].shape == (1, 4)
    graph = tmp_path / "c" / ("model.onnx" if engine == "onnxruntime" else "model.xml")
    assert [spec.shape for spec in raw_inputs(graph)] == [(1, 4)]


def test_state_in_a_loop(tmp_path: Path) -> None:
    """What comes out by name goes in again."""
    edgekit.import_onnx(save(counter(), tmp_path / "c.onnx"), tmp_path / "b")
    with edgekit.load(tmp_path / "b") as opened:
        state = np.zeros((1, 4), np.float32)
        for _ in range(3):
            answer = opened.run({"x": np.ones((1, 4), np.float32), "state": state})
            state = answer["next"]
    assert answer["mean"].item() == 3


def test_processor_makes_pictures_of_tensors(tmp_path: Path) -> None:
    """With the task, labels and answers that it declares."""
    (tmp_path / "p.toml").write_text(PROCESSOR)
    path = save(pictures(), tmp_path / "colours.onnx")
    result = edgekit.import_onnx(path, tmp_path / "b", processor=tmp_path / "p.toml")
    assert result.task == "image-classification"
    green = np.zeros((30, 40, 3), np.uint8)
    green[..., 1] = 255
    with edgekit.load(tmp_path / "b") as opened:
        answer: Any = opened(green)
    assert answer[0]["label"] == "green"
    assert "vision" in open_bundle(tmp_path / "b").manifest.requires.extras
    assert edgekit.validate(tmp_path / "b", latency=False).verdict == "pass"


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"task": "image-classification"}, "needs a processor"),
        ({"task": "painting"}, "no task 'painting'"),
        ({"task": "object-detection", "processor": "p.toml"}, "is for image-classification"),
        ({"processor": "none.toml"}, "cannot be read"),
        ({"samples": "none.npz"}, "There is no file"),
        ({"inputs": ["x"]}, "is not an input declaration"),
    ],
)
def test_wrong_options(
    options: dict[str, Any], told: str, file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before anything is read or written."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "p.toml").write_text(PROCESSOR)
    with pytest.raises(ConfigError, match=told):
        edgekit.import_onnx(file, tmp_path / "b", **options)
    assert not (tmp_path / "b").exists()


def test_processor_that_does_not_fit(file: Path, tmp_path: Path) -> None:
    """Pictures have more axes than rows."""
    (tmp_path / "p.toml").write_text(PROCESSOR)
    with pytest.raises(ConfigError, match="--processor does not fit"):
        edgekit.import_onnx(file, tmp_path / "b", processor=tmp_path / "p.toml")


def test_processor_with_code(file: Path, tmp_path: Path) -> None:
    """transformers' own files may name classes to be imported: no bundle does."""
    (tmp_path / "preprocessor_config.json").write_text(
        '{"auto_map": {"AutoImageProcessor": "code--mine.Processor"}, "do_resize": true}'
    )
    with pytest.raises(edgekit.SourceError, match="code of its own") as caught:
        edgekit.import_onnx(file, tmp_path / "b", processor=tmp_path / "preprocessor_config.json")
    assert caught.value.exit_code == 4


@pytest.mark.parametrize("engine", ["onnxruntime", "openvino"])
def test_compiled_and_judged_by_its_own_answers(
    engine: str, imported: Path, tmp_path: Path
) -> None:
    """No --reference is needed; the model itself may be given."""
    edgekit.compile(
        imported, tmp_path / "c", engine=engine, target="host",
        overrides=["options.openvino.precision_hint=f32"],
    )  # fmt: skip
    facts = open_bundle(tmp_path / "c").manifest.steps[-1].facts
    assert facts["compared"] == "the imported model"
    result = edgekit.validate(tmp_path / "c")
    assert (result.verdict, result.latency) == ("pass", None)
    assert result.reference["kind"] == "onnx"
    assert any("imported model itself, imported-net.onnx" in note for note in result.notes)
    check_schema_of("validate", to_json(result))
    against = edgekit.validate(tmp_path / "c", reference=str(imported), latency=False)
    assert (against.verdict, against.size.reference_bytes) == (
        "pass",
        result.size.reference_bytes,
    )


def test_imported_bundle_is_its_own_reference(imported: Path, tmp_path: Path) -> None:
    """On data as well."""
    data = rows(tmp_path / "d.npz", 400)
    result = edgekit.validate(imported, data=data, max_drop="5%", latency=False)
    assert result.verdict == "pass"
    assert result.accuracy is not None
    assert (result.accuracy.reference, result.accuracy.drop) == (1.0, 0.0)


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"data": "d.npz"}, "--data needs the imported model itself"),
        ({"min_speedup": 1.0}, "needs the imported model itself"),
    ],
)
def test_what_stored_answers_do_not_tell(
    options: dict[str, Any], told: str, imported: Path, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    """Speed and accuracy need the model."""
    monkeypatch.chdir(tmp_path)
    rows(tmp_path / "d.npz", 100)
    edgekit.compile(imported, tmp_path / "c")
    with pytest.raises(ConfigError, match=told):
        edgekit.validate(tmp_path / "c", **options)


def test_another_model_is_no_reference(imported: Path, tmp_path: Path) -> None:
    """Nor is one of another kind."""
    other = save(linear(opset=16), tmp_path / "other.onnx")
    with pytest.raises(ConfigError, match=r"other\.onnx is another file \(SHA-256"):
        edgekit.validate(imported, reference=str(other), latency=False)
    with pytest.raises(ConfigError, match="is made from an ONNX model"):
        edgekit.validate(imported, reference=f"{tmp_path}/net.py:make", latency=False)


@pytest.mark.parametrize("engine", ["onnxruntime", "openvino"])
@pytest.mark.slow
def test_quantized_within_a_budget(engine: str, imported: Path, tmp_path: Path) -> None:
    """Held to the imported model, which nobody has to name."""
    result = edgekit.quantize(
        imported, tmp_path / "q", engine=engine, data=rows(tmp_path / "d.npz", 4000),
        max_drop="5%", allow_slower=True,
    )  # fmt: skip
    assert result.accuracy is not None
    assert result.accuracy.reference == 1.0
    assert result.verdict == "pass"
    # What the import recorded, and no four bytes a parameter.
    size = open_bundle(imported).manifest.steps[0].facts["bytes"]
    assert evidence_result(open_bundle(tmp_path / "q")).size.reference_bytes == size
    assert "PyTorch" not in describe(open_bundle(tmp_path / "q"))
    judged = edgekit.validate(
        tmp_path / "q", reference=str(imported), data=str(tmp_path / "d.npz"), max_drop="5%",
        latency=False,
    )  # fmt: skip
    assert isinstance(judged, ValidateResult)
    assert judged.verdict == "pass"


def test_scalars_and_sizes_of_samples_are_kept(tmp_path: Path) -> None:
    """Options are chosen, and answers compared, on inputs that the model is known to take."""
    made = model(
        [
            helper.make_node("Reshape", ["x", "shape"], ["wide"]),
            helper.make_node("Mul", ["wide", "gain"], ["y"]),
        ],
        {"x": (FLOAT, ("n",)), "gain": (FLOAT, ())},
        {"y": (FLOAT, (7, 11))},
        {"shape": np.array([7, 11], np.int64)},
    )
    np.savez(tmp_path / "call.npz", x=np.ones(77, np.float32), gain=np.array(3, np.float32))
    edgekit.import_onnx(
        save(made, tmp_path / "m.onnx"), tmp_path / "b", samples=tmp_path / "call.npz"
    )
    assert read(tmp_path / "b" / "golden.safetensors").inputs["gain"].shape == ()
    edgekit.compile(tmp_path / "b", tmp_path / "c", threads=2)
    result = edgekit.validate(tmp_path / "c", reference=str(tmp_path / "m.onnx"), latency=False)
    assert result.verdict == "pass"


def test_what_was_quantized_before_is_not_again(imported: Path, tmp_path: Path) -> None:
    """Its ranges are somebody else's."""
    edgekit.quantize(imported, tmp_path / "q", method="dynamic", allow_slower=True)
    edgekit.import_onnx(tmp_path / "q" / "model.onnx", tmp_path / "b")
    with pytest.raises(QuantizeError, match="quantized to int8 before it was imported"):
        edgekit.quantize(tmp_path / "b", tmp_path / "again")


def test_half_precision_runs_and_compiles(tmp_path: Path) -> None:
    """With arrays of float16 in and out."""
    edgekit.import_onnx(save(linear(kind=HALF), tmp_path / "h.onnx"), tmp_path / "b")
    edgekit.compile(tmp_path / "b", tmp_path / "c")
    given = {"x": np.ones((1, 4), np.float16)}
    with edgekit.load(tmp_path / "b") as before, edgekit.load(tmp_path / "c") as after:
        assert before.precision == after.precision == "fp16"
        assert before.run(given)["y"].dtype == np.float16
        np.testing.assert_allclose(after.run(given)["y"], before.run(given)["y"], rtol=1e-2)
    with edgekit.load(tmp_path / "b", engine="openvino") as opened:
        assert opened.run(given)["y"].dtype == np.float16


@pytest.mark.slow
def test_speed_is_against_the_model_itself(imported: Path, tmp_path: Path) -> None:
    """On ONNX Runtime as it opens it, and called so."""
    edgekit.compile(imported, tmp_path / "c")
    result = edgekit.bench(
        [tmp_path / "c"], reference=str(imported), budget=1.0, processes=2, threads=1
    )
    first = result.contenders[0]
    assert (first.name, first.engine, first.error) == ("imported", "onnxruntime", None)
    assert result.ratios[0].a == "imported"
    with pytest.raises(ConfigError, match="--also compile runs a PyTorch model"):
        edgekit.bench([tmp_path / "c"], reference=str(imported), also=["compile"])


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["file", "bundle"])
def test_build_starts_from_what_was_imported(
    kind: str, file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The ONNX file, or the bundle that was made of it."""

    def validate(path: Path, **options: object) -> ValidateResult:
        """As a build does, but for the speed, which of microseconds is chance."""
        return edgekit.validate(path, **{**options, "latency": False})  # type: ignore[arg-type]

    monkeypatch.setattr(proving, "validate", validate)
    source = file
    if kind == "bundle":
        source = tmp_path / "b"
        edgekit.import_onnx(file, source)
    result = edgekit.build(
        str(source), tmp_path / "out", engine="onnxruntime", threads=1, cache=False,
        overrides=['precisions=["fp32"]'], data=rows(tmp_path / "d.npz", 1000), max_drop="5%",
    )  # fmt: skip
    assert result.verdict == "pass"
    assert result.steps[0].step == "import"
    assert result.validation is not None
    assert result.validation.reference["kind"] == "onnx"
    check_schema_of("build", to_json(result))


def test_build_of_a_model_that_needs_samples(tmp_path: Path) -> None:
    """It says how to start: a build makes its inputs up."""
    made = model(
        [helper.make_node("Reshape", ["x", "shape"], ["y"])],
        {"x": (FLOAT, ("n",))},
        {"y": (FLOAT, (7, 11))},
        {"shape": np.array([7, 11], np.int64)},
    )
    path = save(made, tmp_path / "m.onnx")
    with pytest.raises(SourceError, match="none of the made-up inputs") as caught:
        edgekit.build(str(path), tmp_path / "out", cache=False)
    assert f"edgekit import {path} -o BUNDLE --samples" in (caught.value.hint or "")


def test_build_starts_from_no_other_bundle(imported: Path, tmp_path: Path) -> None:
    """What was compiled is no source."""
    edgekit.compile(imported, tmp_path / "c")
    with pytest.raises(ConfigError, match="of the stage compiled"):
        edgekit.build(str(tmp_path / "c"), tmp_path / "out", cache=False)


def test_evidence_says_what_it_rests_on(imported: Path, tmp_path: Path) -> None:
    """On stored answers, where nobody opened the model; and PyTorch is not spoken of."""
    edgekit.compile(imported, tmp_path / "c")
    edgekit.validate(tmp_path / "c", record=True)
    opened = open_bundle(tmp_path / "c")
    assert opened.manifest.evidence["basis"]["reference"] == "stored golden answers"
    told = describe(opened)
    assert "against stored golden answers of the original" in told
    assert "PyTorch" not in told
    assert any("against stored golden answers" in note for note in evidence_result(opened).notes)
    edgekit.validate(tmp_path / "c", reference=str(imported), latency=False, record=True)
    assert "reference" not in open_bundle(tmp_path / "c").manifest.evidence["basis"]


def test_outputs_without_answers_are_told(tmp_path: Path) -> None:
    """Infinities are no golden answers; the rest of the model compiles and is compared."""
    edgekit.import_onnx(save(masked(), tmp_path / "m.onnx"), tmp_path / "b")
    edgekit.compile(tmp_path / "b", tmp_path / "c")
    result = edgekit.validate(tmp_path / "c")
    assert result.verdict == "pass"
    assert any(note.startswith("Not compared") and "ruled" in note for note in result.notes)
    with edgekit.load(tmp_path / "c") as model:
        assert [row.output for row in model.selftest()] == ["y"]
