"""The rivals of `benchmarks.generation` on the same weights: onnxruntime-genai, OpenVINO GenAI.

The extra ``rivals`` brings them. onnxruntime-genai runs what its own builder makes of a checkpoint,
and our ONNX files; OpenVINO GenAI runs our IR: the exporter made for it (optimum-intel) does not
take the transformers that edgekit needs.

What it takes to run our files elsewhere is `for_onnxruntime_genai` and `for_openvino_genai`: the
place of the last token computed in the graph, which our runtime feeds as ``logits_to_keep``, and
each library's description of the model beside it.
"""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.processes import THREADS, told
from edgekit.core.bundle import Bundle, open_bundle
from edgekit.core.manifest import Component
from edgekit.runtime.caches import CAPACITY
from edgekit.runtime.engines._stateful import States
from edgekit.runtime.engines.openvino import import_openvino
from edgekit.runtime.generation.rules import GenerationRules

#: What each package is called when it is imported, by the kind of a contender.
PACKAGES = {"ort-genai": "onnxruntime_genai", "openvino-genai": "openvino_genai"}
_BUILDER = {"f32": "fp32", "int8": "int8", "int4": "int4"}
# Our 4 bits leave a table that embeddings and head share 8 bits; the builder's leave it 4, unless
# it is asked for the same.
_SAME = {"int4": ("8-bit head", ("algo_config=rtn", "matmul_mixed_precision=last_matmul:int8"))}
_KEPT, _IDS, _LAST = "logits_to_keep", "input_ids", "last_place"
# What tokenizers, and chats, are described by beside a checkpoint.
_BESIDE = (
    "config.json", "generation_config.json", "tokenizer.json", "tokenizer_config.json",
    "chat_template.jinja",
)  # fmt: skip

#: Milliseconds and tokens of an answer to a prompt, of so many tokens.
Answer = Callable[[Sequence[int], int], dict[str, Any]]


def measured(begin: float, marks: Sequence[float], tokens: Sequence[int]) -> dict[str, Any]:
    """An answer as contenders tell it: milliseconds to the first token, and of each after it."""
    return {
        "first": (marks[0] - begin) * 1e3,
        "steps": (np.diff(np.array(marks)) * 1e3).tolist(),
        "tokens": [int(token) for token in tokens],
    }


def installed(kind: str) -> bool:
    """Whether a kind of rival can be asked here; if not, stderr says how to get it."""
    package = PACKAGES[kind]
    if importlib.util.find_spec(package) is not None:
        return True
    told(f"{package} is not installed and left out: pip install -c constraints.txt -e '.[rivals]'")
    return False


def make_rivals(
    source: Path, made: Mapping[str, Path], folder: Path, precisions: Sequence[str]
) -> tuple[dict[str, tuple[str, Path]], dict[str, str]]:
    """The rivals' files: (kind, folder) of each by name, and whose tokens it should say.

    `made` are our bundles by name, as "ONNX Runtime f32". What cannot be made is named on stderr.
    """
    found: dict[str, tuple[str, Path]] = {}
    like: dict[str, str] = {}
    for name, kind, make, same in _entries(source, made, precisions):
        output = folder / "-".join(["rival", *name.lower().replace(",", "").split()])
        if not output.is_dir():
            told(f"{name}: making its files")
            output.mkdir(parents=True)
            try:
                make(output)
            except Exception as error:  # other people's converters raise anything
                shutil.rmtree(output)
                told(f"{name} is left out: {type(error).__name__}: {error}")
                continue
        found[name] = (kind, output)
        if same is not None:
            like[name] = same
    return found, like


def _entries(
    source: Path, made: Mapping[str, Path], precisions: Sequence[str]
) -> Iterator[tuple[str, str, Callable[[Path], None], str | None]]:
    """(name, kind, what makes its folder, whose file it is) of each rival that is installed."""
    if installed("ort-genai"):
        for precision in filter(_BUILDER.__contains__, precisions):
            name = f"onnxruntime-genai {precision}"
            yield name, "ort-genai", partial(build, source, _BUILDER[precision]), None
            if precision in _SAME:
                like, options = _SAME[precision]
                make = partial(build, source, _BUILDER[precision], options=options)
                yield f"{name}, {like}", "ort-genai", make, None
            own = f"ONNX Runtime {precision}"
            if own in made:
                make = partial(for_onnxruntime_genai, open_bundle(made[own]), source)
                yield f"{name}, our file", "ort-genai", make, own
    if installed("openvino-genai"):
        for precision in precisions:
            own = f"OpenVINO {precision}"
            if own in made:
                make = partial(for_openvino_genai, open_bundle(made[own]), source)
                yield f"OpenVINO GenAI {precision}, our file", "openvino-genai", make, own


def build(source: Path, precision: str, output: Path, options: Sequence[str] = ()) -> None:
    """onnxruntime-genai's own files of a checkpoint. Raises RuntimeError with what it said."""
    cache = output / "cache"
    done = subprocess.run(
        [
            sys.executable, "-m", "onnxruntime_genai.models.builder", "-i", str(source),
            "-o", str(output), "-p", precision, "-e", "cpu", "-c", str(cache),
            "--extra_options", "hf_token=false", *options,
        ],
        env={**os.environ, "ORT_DISABLE_TELEMETRY": "1", "HF_HUB_OFFLINE": "1"},
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False,
    )  # fmt: skip
    shutil.rmtree(cache, ignore_errors=True)
    if done.returncode:
        raise RuntimeError("; ".join(done.stdout.strip().splitlines()[-3:]))
    path = output / "genai_config.json"
    settings = json.loads(path.read_text())
    settings["model"]["decoder"]["session_options"]["intra_op_num_threads"] = THREADS
    path.write_text(json.dumps(settings, indent=2))


def genai_config(
    component: Component, rules: GenerationRules, config: Mapping[str, Any], filename: str
) -> dict[str, Any]:
    """``genai_config.json`` of a decoder of ours; `config` is the checkpoint's."""
    names = {spec.name for spec in component.inputs}
    key = next(spec for spec in component.inputs if spec.name == "past_key_values.0.key")
    (logits,) = (spec for spec in component.outputs if spec.name == "logits")
    fed = [name for name in (_IDS, "attention_mask", "position_ids") if name in names]
    return {
        "model": {
            "type": config["model_type"],
            "vocab_size": logits.shape[-1],
            "context_length": rules.context or config["max_position_embeddings"],
            "bos_token_id": config.get("bos_token_id"),
            "eos_token_id": list(rules.eos),
            "pad_token_id": rules.pad,
            "decoder": {
                "session_options": {"intra_op_num_threads": THREADS, "provider_options": []},
                "filename": filename,
                "head_size": key.shape[3],
                "hidden_size": config["hidden_size"],
                "num_attention_heads": config["num_attention_heads"],
                "num_hidden_layers": rules.layers,
                "num_key_value_heads": key.shape[1],
                "inputs": {
                    **{name: name for name in fed},
                    "past_key_names": "past_key_values.%d.key",
                    "past_value_names": "past_key_values.%d.value",
                },
                "outputs": {
                    "logits": "logits",
                    "present_key_names": "present.%d.key",
                    "present_value_names": "present.%d.value",
                },
            },
        },
        "search": {"do_sample": False, "past_present_share_buffer": CAPACITY in key.shape},
    }


def for_onnxruntime_genai(bundle: Bundle, source: Path, output: Path) -> None:
    """A folder that onnxruntime-genai opens, of a bundle of one ONNX decoder."""
    import onnx

    component = bundle.manifest.components["model"]
    rules = GenerationRules.read(bundle.manifest.generation or {})
    graph, *weights = component.files
    model = onnx.load(bundle.file(graph), load_external_data=False)
    last_place_in_onnx(model)
    onnx.save(model, output / "model.onnx")
    for name in weights:
        # Not a link: onnx and ONNX Runtime read no weights that are one, of the bundle neither.
        shutil.copyfile(bundle.file(name), output / Path(name).name)
    _copy_beside(source, output)
    config = json.loads((source / "config.json").read_text())
    described = genai_config(component, rules, config, "model.onnx")
    (output / "genai_config.json").write_text(json.dumps(described, indent=2))


def last_place_in_onnx(model: Any) -> None:
    """Compute in an ONNX graph what it is fed as ``logits_to_keep``: the place of the last token.

    The logits have one place then, which is how onnxruntime-genai knows that they are cut.
    """
    from onnx import helper, numpy_helper

    graph = model.graph
    (fed,) = (value for value in graph.input if value.name == _KEPT)
    graph.input.remove(fed)
    one = f"{_LAST}.one"
    graph.initializer.append(numpy_helper.from_array(np.array([1], dtype=np.int64), one))
    shape, count = f"{_LAST}.shape", f"{_LAST}.count"
    nodes = [
        helper.make_node("Shape", [_IDS], [shape], name=f"{_LAST}/Shape"),
        helper.make_node("Gather", [shape, one], [count], name=f"{_LAST}/Gather"),
        helper.make_node("Sub", [count, one], [_KEPT], name=f"{_LAST}/Sub"),
    ]
    for place, node in enumerate(nodes):
        graph.node.insert(place, node)
    (logits,) = (value for value in graph.output if value.name == "logits")
    size = logits.type.tensor_type.shape.dim[1]
    size.Clear()
    size.dim_value = 1


def for_openvino_genai(bundle: Bundle, source: Path, output: Path) -> None:
    """A folder that OpenVINO GenAI opens, of a bundle of one decoder as OpenVINO's IR."""
    ov = import_openvino()
    component = bundle.manifest.components["model"]
    model = ov.Core().read_model(str(bundle.file(component.files[0])))
    States(ov, component).prepare(model)
    last_place_in_openvino(ov, model)
    ov.save_model(model, str(output / "openvino_model.xml"), compress_to_fp16=False)
    _copy_beside(source, output)
    _convert_tokenizer(ov, source, output)
    told_of = openvino_properties(bundle.manifest.runtime.options)
    (output / "properties.json").write_text(json.dumps(told_of, indent=2))


def last_place_in_openvino(ov: Any, model: Any) -> None:
    """The same in OpenVINO's graph, whose inputs are then those that OpenVINO GenAI knows."""
    opset = ov.opset13
    ids = model.input(_IDS).get_node()
    one = opset.constant(np.array([1], dtype=np.int64))
    axis = opset.constant(np.array(0, dtype=np.int64))
    count = opset.gather(opset.shape_of(ids, "i64"), one, axis)
    last = opset.subtract(count, one)
    fed = model.input(_KEPT).get_node()
    for target in fed.output(0).get_target_inputs():
        target.replace_source_output(last.output(0))
    model.remove_parameter(fed)
    model.validate_nodes_and_infer_types()


def openvino_properties(options: Mapping[str, object]) -> dict[str, object]:
    """What our runtime asks OpenVINO's CPU for, of the options that a bundle was measured with."""
    precision = str(options.get("precision_hint") or "")
    found: dict[str, object] = {
        "PERFORMANCE_HINT": "LATENCY",
        "INFERENCE_NUM_THREADS": THREADS,
        "KV_CACHE_PRECISION": precision or "f32",
    }
    if precision:
        found["INFERENCE_PRECISION_HINT"] = precision
    if options.get("streams") is not None:
        found["NUM_STREAMS"] = str(options["streams"])
    own = options.get("properties")
    return found | (dict(own) if isinstance(own, Mapping) else {})


def _copy_beside(source: Path, output: Path) -> None:
    for name in _BESIDE:
        if (source / name).is_file():
            shutil.copyfile(source / name, output / name)


def _convert_tokenizer(ov: Any, source: Path, output: Path) -> None:
    from openvino_tokenizers import convert_tokenizer
    from transformers import AutoTokenizer

    made = convert_tokenizer(AutoTokenizer.from_pretrained(source), with_detokenizer=True)
    for name, model in zip(("openvino_tokenizer", "openvino_detokenizer"), made, strict=True):
        ov.save_model(model, str(output / f"{name}.xml"))


def onnxruntime_genai(path: Path) -> Answer:
    """Answers of onnxruntime-genai, whatever made its files."""
    import onnxruntime_genai as genai

    model = genai.Model(str(path))

    def answer(prompt: Sequence[int], count: int) -> dict[str, Any]:
        begin = time.perf_counter()
        size = len(prompt) + count
        asked = genai.GeneratorParams(model)
        # Never the end: every contender makes as many tokens.
        asked.set_search_options(do_sample=False, max_length=size, min_length=size)
        run = genai.Generator(model, asked)
        run.append_tokens(np.array([list(prompt)], dtype=np.int32))
        marks: list[float] = []
        tokens: list[int] = []
        for _ in range(count):
            run.generate_next_token()
            tokens.append(run.get_next_tokens()[0])
            marks.append(time.perf_counter())
        return measured(begin, marks, tokens)

    return answer


def openvino_genai(path: Path) -> Answer:
    """Answers of OpenVINO GenAI, with the properties that lie beside its files."""
    ov = import_openvino()
    import openvino_genai as genai

    properties = json.loads((path / "properties.json").read_text())
    pipeline = genai.LLMPipeline(str(path), "CPU", **properties)

    class Marks(genai.StreamerBase):  # type: ignore[misc]
        """When each token came."""

        def __init__(self) -> None:
            super().__init__()
            self.marks: list[float] = []
            self.tokens: list[int] = []

        def write(self, token: Any) -> Any:
            some = list(token) if isinstance(token, Sequence) else [token]
            self.marks += [time.perf_counter()] * len(some)
            self.tokens += some
            return genai.StreamingStatus.RUNNING

        def end(self) -> None:
            pass

    def answer(prompt: Sequence[int], count: int) -> dict[str, Any]:
        marks = Marks()
        begin = time.perf_counter()
        ids = ov.Tensor(np.array([list(prompt)], dtype=np.int64))
        pipeline.generate(
            ids, streamer=marks, do_sample=False, max_new_tokens=count, ignore_eos=True
        )
        return measured(begin, marks.marks, marks.tokens)

    return answer
