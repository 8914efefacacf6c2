"""Decoders that are compiled for ONNX Runtime with a cache in buffers, and those without."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest

import edgekit
from edgekit.compilers import CompiledComponent
from edgekit.compilers import onnxruntime as compiler
from edgekit.compilers.onnxruntime_levels import grown
from edgekit.core.bundle import Bundle, BundleWriter, open_bundle
from edgekit.core.errors import CompileError
from edgekit.core.manifest import Component, Golden, Manifest, Requires
from edgekit.core.profiles import load_profile
from edgekit.runtime import golden
from edgekit.runtime.caches import cache_pairs
from edgekit.runtime.engines import find_engine
from edgekit.runtime.engines.onnxruntime import graph_specs
from tests.generation_models import decoder, exported_decoder
from tests.runtime.generation.conftest import CONTEXT, RULES, VOCABULARY, write_generator

SEEN = np.array([[0, 0, 1, 1, 1], [1, 1, 1, 1, 1]])


def golden_inputs(component: Component) -> dict[str, np.ndarray]:
    """Two tokens of two rows behind three, of which the first row's are padding in part."""
    random = np.random.default_rng(0)
    feeds = {
        "input_ids": np.array([[3, 5], [4, 6]]),
        "attention_mask": SEEN,
        "position_ids": np.array([[1, 2], [3, 4]]),
    }
    for spec, _ in cache_pairs(component.inputs, component.outputs):
        heads, size = int(spec.shape[1]), int(spec.shape[3])
        feeds[spec.name] = random.standard_normal((2, heads, 3, size)).astype(np.float32)
    return feeds


def write(folder: Path, graph: onnx.ModelProto, *, generates: bool = True) -> Bundle:
    """A bundle of a decoder with its golden answers, which edgekit generates with or not."""
    with BundleWriter(folder) as writer:
        path = writer.add("model.onnx", "component")
        path.write_bytes(graph.SerializeToString())
        component = Component("onnx", ("model.onnx",), *graph_specs(path))
        inputs = golden_inputs(component)
        answers = run(path.parent, component, inputs)
        golden.write(writer.add(golden.GOLDEN_NAME, "golden"), inputs, answers, answers)
        writer.stage(
            Manifest(
                name=folder.name,
                created_by="edgekit tests",
                stage="exported",
                task="custom",
                source=None,
                components={"model": component},
                requires=Requires("onnxruntime", extras=("ort",)),
                generation=replace(RULES, context=64).document() if generates else None,
                golden=Golden(golden.GOLDEN_NAME),
            )
        )
        return writer.commit()


def run(
    folder: Path, component: Component, inputs: Mapping[str, np.ndarray]
) -> dict[str, np.ndarray]:
    """What a component answers on the CPU."""
    session = find_engine("onnxruntime").open_session(
        folder, component, options={}, device="cpu", threads=1
    )
    answers = session.run(inputs)
    session.close()
    return answers


def compile_for(
    bundle: Bundle, folder: Path, target: str, *overrides: str, static: Mapping[str, int] = {}
) -> CompiledComponent:
    """The bundle's only component, compiled for a target."""
    folder.mkdir()
    profile = load_profile(target, overrides=overrides)
    compiler.check(bundle, profile, static)
    return compiler.compile_component(bundle, "model", profile, folder, static=static)


FORMS = {
    "appending": decoder(),
    "exported": exported_decoder(shared=2, rotated=True),
    "turned": exported_decoder(shared=2, rotated=True, size=16),
}


@pytest.mark.parametrize("form", FORMS)
def test_a_decoder_keeps_its_cache_in_buffers(tmp_path: Path, form: str) -> None:
    """Compiled for this machine it says so, answers as before, and passes its own test."""
    write(tmp_path / "exported", FORMS[form])
    edgekit.compile(tmp_path / "exported", tmp_path / "compiled", target="host",
                    engine="onnxruntime", threads=1)  # fmt: skip
    bundle = open_bundle(tmp_path / "compiled")
    component = bundle.manifest.components["model"]
    for spec in (*component.inputs, *component.outputs):
        assert ("capacity" in spec.shape) is spec.name.startswith(("past_", "present."))
    facts = bundle.manifest.steps[-1].facts
    assert facts["components"]["model"]["grouped_attention"] == 2
    assert facts["components"]["model"]["turning_attention"] == (2 if form == "turned" else 0)
    assert facts["components"]["model"]["attention_operators"] == 2
    assert "com.microsoft:GroupQueryAttention" in facts["components"]["model"]["engine_operators"]
    assert facts["compared"] == "PyTorch"
    release = ".".join(find_engine("onnxruntime").version().split(".")[:2])
    assert bundle.manifest.requires.engine_min_version == release
    with edgekit.load(bundle.path) as model:
        rows = model.selftest()
    assert len(rows) == 5
    assert all(row.passed for row in rows)


@pytest.mark.parametrize(
    "options",
    [{}, {"num_beams": 3}, {"temperature": 2.0, "seed": 7}],
    ids=["greedy", "beams", "drawn"],
)
def test_answers_are_those_of_before(
    generators: tuple[Path, Path], options: Mapping[str, object]
) -> None:
    """Prompts of several lengths in a batch, beams that change places, longer than a buffer."""
    prompts = ["to the ferry", "a", "of the harbour "]
    answers = []
    for folder in generators:
        with edgekit.load(folder, threads=1) as model:
            answers.append(model(prompts, max_new_tokens=70, **options))
            specs = model.manifest.components["model"].inputs
        assert any("capacity" in spec.shape for spec in specs) is (folder is generators[1])
    assert answers[0] == answers[1]


def test_a_full_row_waits_for_the_others(generators: tuple[Path, Path]) -> None:
    """A prompt that leaves little of the context, and a short one that fills all of it."""
    prompts = ["the ferry to the harbour " * 3, "a"]
    answers = []
    for folder in generators:
        with edgekit.load(folder, threads=1) as model:
            answers.append(model(prompts))
    assert answers[0] == answers[1]


@pytest.fixture(scope="module", params=["placed", "turned"])
def generators(
    tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest
) -> tuple[Path, Path]:
    """A tiny generator's bundle, and the same compiled for this machine."""
    folder = tmp_path_factory.mktemp("generators")
    turned = exported_decoder(
        shared=2, rotated=True, size=16, vocabulary=VOCABULARY, context=CONTEXT
    )
    graph = turned if request.param == "turned" else None
    exported = write_generator(folder / "exported", graph=graph).path
    edgekit.compile(exported, folder / "compiled", target="host", engine="onnxruntime", threads=1)
    return exported, folder / "compiled"


def test_another_architecture_gets_buffers_too(tmp_path: Path) -> None:
    """Every CPU has the operator; the rest is optimised on the device, by this release."""
    made = compile_for(write(tmp_path / "exported", decoder()), tmp_path / "out", "raspberry-pi-5")
    assert made.facts["grouped_attention"] == 2
    release = ".".join(find_engine("onnxruntime").version().split(".")[:2])
    assert made.requires.engine_min_version == release


@pytest.mark.parametrize(
    ("target", "override", "static"),
    [
        ("cpu-x86", 'engine_min_version="1.24"', {}),
        ("cpu-x86", "options.onnxruntime.precision=fp16", {}),
        ("cpu-x86", "threads=1", {"batch": 1}),
        ("cuda", "threads=1", {}),
    ],
    ids=["an older release", "half precision", "fixed sizes", "cuda"],
)
def test_other_targets_keep_the_standard_form(
    tmp_path: Path, target: str, override: str, static: Mapping[str, int]
) -> None:
    """Where the operator may lack what is needed, the cache grows as it did."""
    bundle = write(tmp_path / "exported", decoder())
    made = compile_for(bundle, tmp_path / "out", target, override, static=static)
    assert "grouped_attention" not in made.facts
    assert not any("capacity" in spec.shape for spec in made.component.inputs)
    kinds = [node.op_type for node in onnx.load(tmp_path / "out" / "model.onnx").graph.node]
    assert "GroupQueryAttention" not in kinds


def test_an_unknown_decoder_keeps_its_bytes(tmp_path: Path) -> None:
    """A form of attention that is not known is written down as it was."""
    graph = decoder()
    for node in graph.graph.node:
        if node.op_type == "Attention":
            node.attribute.append(onnx.helper.make_attribute("softcap", 30.0))
    bundle = write(tmp_path / "exported", graph)
    override = "options.onnxruntime.offline_optimization=none"
    made = compile_for(bundle, tmp_path / "out", "cpu-x86", override)
    assert "grouped_attention" not in made.facts
    assert made.component == bundle.manifest.components["model"]
    written = (tmp_path / "out" / "model.onnx").read_bytes()
    assert written == bundle.file("model.onnx").read_bytes()


def test_a_decoder_for_another_loop_keeps_its_form(tmp_path: Path) -> None:
    """Who feeds it may put padding, and count positions, as nobody here knows."""
    bundle = write(tmp_path / "exported", decoder(), generates=False)
    made = compile_for(bundle, tmp_path / "out", "cpu-x86")
    assert "grouped_attention" not in made.facts
    assert not any("capacity" in spec.shape for spec in made.component.inputs)


def test_buffers_are_for_a_cpu(tmp_path: Path) -> None:
    """The form is that of the CPU's operator: for a GPU one begins with what was exported."""
    bundle = write(tmp_path / "exported", decoder())
    made = compile_for(bundle, tmp_path / "out", "cpu-x86")
    with BundleWriter(tmp_path / "compiled") as writer:
        data = (tmp_path / "out" / "model.onnx").read_bytes()
        writer.add("model.onnx", "component").write_bytes(data)
        components = {"model": made.component}
        manifest = replace(bundle.manifest, components=components, stage="compiled", golden=None)
        writer.stage(manifest)
        compiled = writer.commit()
    with pytest.raises(CompileError, match="cache in buffers"):
        compile_for(compiled, tmp_path / "again", "cuda")
    assert compile_for(compiled, tmp_path / "cpu", "cpu-x86").component == made.component


def test_a_file_that_grew_is_not_kept(tmp_path: Path) -> None:
    """Of what folding constants has stored twice, nothing is left, and the reason is told."""
    before, after = tmp_path / "before.onnx", tmp_path / "after.onnx"
    before.write_bytes(bytes(10_000_000))
    after.write_bytes(bytes(14_000_000))
    reason = grown([before], [after])
    assert reason is not None
    assert "14 MB instead of 10 MB" in reason
    assert before.exists()
    assert not after.exists()


@pytest.mark.parametrize(("size", "other"), [(10_000_000, 11_400_000), (1_000, 900_000)])
def test_a_little_more_is_kept(tmp_path: Path, size: int, other: int) -> None:
    """Fused operators take some bytes, and small files may grow by any share."""
    before, after = tmp_path / "before.onnx", tmp_path / "after.onnx"
    before.write_bytes(bytes(size))
    after.write_bytes(bytes(other))
    assert grown([before], [after]) is None
    assert after.stat().st_size == other
