"""What the benchmarks of generation make of answers, and of our files for other runtimes."""

from __future__ import annotations

import math

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from benchmarks import generation, generation_accuracy, rivals, transcription
from benchmarks.generation import EAGER
from edgekit.core.manifest import Component, TensorSpec
from edgekit.runtime.engines.onnxruntime import import_onnxruntime
from edgekit.runtime.engines.openvino import import_openvino
from edgekit.runtime.generation.rules import GenerationRules

CACHE = [f"0.{kind}" for kind in ("key", "value")]
DECODER = Component(
    format="onnx",
    files=("model.onnx",),
    inputs=(
        *(TensorSpec(name, "int64", ("batch", "sequence")) for name in
          ("input_ids", "attention_mask", "position_ids")),
        TensorSpec("logits_to_keep", "int64", ("kept",)),
        *(TensorSpec(f"past_key_values.{name}", "float32", ("batch", 3, "past", 64))
          for name in CACHE),
    ),
    outputs=(
        TensorSpec("logits", "float32", ("batch", "kept", 49152)),
        *(TensorSpec(f"present.{name}", "float32", ("batch", 3, "total", 64)) for name in CACHE),
    ),
)  # fmt: skip
RULES = GenerationRules("decoder", layers=1, context=8192, eos=(2,), pad=2)
CONFIG = {
    "model_type": "llama", "hidden_size": 576, "num_attention_heads": 9, "bos_token_id": 1,
    "max_position_embeddings": 8192,
}  # fmt: skip


def figure(speed: float, whose: str, **more: object) -> dict[str, object]:
    return {
        "tokens_per_second": 20 * speed, "first_ms": 200.0, "speed": [speed, 0.9, 1.2],
        "first": [1.0, 0.9, 1.1], "same": [63, 64, whose], "outside": None,
        "grown_bytes": None, "answers": None, **more,
    }  # fmt: skip


def test_tokens_agree_up_to_the_first_that_does_not() -> None:
    """What comes behind the first difference does not count, nor does what only one has said."""
    assert generation.agreeing([1, 2, 3, 4], [1, 2, 9, 4]) == 2
    assert generation.agreeing([1, 2, 3], [1, 2, 3, 4]) == 3
    assert generation.agreeing([], [1]) == 0


def test_a_row_for_each_contender() -> None:
    """The reference has no ratios; of a rival with our file it is said that its tokens are ours."""
    found = {
        EAGER: figure(1.0, EAGER),
        "OpenVINO int8": figure(1.5, EAGER, outside=0.021, grown_bytes=-2e5, answers=1000),
        "OpenVINO GenAI int8, our file": figure(1.4, "OpenVINO int8"),
    }
    eager, ours, theirs = generation.rows(found)
    assert eager == (EAGER, "20.0", "", "200 ms", "", "", "")
    assert ours[1:3] == ("30.0", "1.50× (0.90–1.20)")
    assert ours[5:] == ("63 of 64", "2.1 %")
    assert theirs[5:] == ("63 of 64, as ours", "")
    assert generation.note(found).endswith(
        "Memory between the answers 100 and 1,000: OpenVINO int8 -0.2 MB."
    )


def test_memory_is_that_of_the_fewest_bits() -> None:
    """One contender of each engine: the last one made of it."""
    made = ["ONNX Runtime f32", "ONNX Runtime int4", "OpenVINO f32", "OpenVINO int8"]
    wanted = ["ONNX Runtime int4", "OpenVINO int8"]
    assert generation.remembering(dict.fromkeys(made)) == wanted  # type: ignore[arg-type]


def test_rows_of_transcripts() -> None:
    """Medians, ratios to the pipeline, and the texts that are the same."""
    found = {
        transcription.PIPELINE: {"ms": 700.4, "ratio": [1.0, 1.0, 1.0], "same": [60, 60]},
        "OpenVINO f32": {"ms": 200.2, "ratio": [3.5, 3.4, 3.6], "same": [59, 60]},
    }
    assert transcription.rows(found) == [
        (transcription.PIPELINE, "700 ms", "", ""),
        ("OpenVINO f32", "200 ms", "3.50× (3.40–3.60)", "59 of 60"),
    ]


def test_what_onnxruntime_genai_is_told_of_our_file() -> None:
    """Sizes from the cache's shapes, ends from the rules, and no input that it does not feed."""
    model = rivals.genai_config(DECODER, RULES, CONFIG, "model.onnx")["model"]
    decoder = model["decoder"]
    assert (decoder["num_key_value_heads"], decoder["head_size"]) == (3, 64)
    assert (decoder["num_hidden_layers"], model["vocab_size"]) == (1, 49152)
    assert (model["eos_token_id"], model["context_length"]) == ([2], 8192)
    assert set(decoder["inputs"]) == {
        "input_ids", "attention_mask", "position_ids", "past_key_names", "past_value_names",
    }  # fmt: skip
    assert decoder["inputs"]["past_key_names"] % 0 in {spec.name for spec in DECODER.inputs}


def picking() -> onnx.ModelProto:
    """A graph of logits that are the tokens themselves, of the places that are asked for."""
    ids = helper.make_tensor_value_info("input_ids", TensorProto.INT64, ["batch", "sequence"])
    kept = helper.make_tensor_value_info("logits_to_keep", TensorProto.INT64, ["kept"])
    logits = helper.make_tensor_value_info("logits", TensorProto.INT64, ["batch", "kept"])
    node = helper.make_node("Gather", ["input_ids", "logits_to_keep"], ["logits"], axis=1)
    graph = helper.make_graph([node], "picking", [ids, kept], [logits])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)


IDS = np.array([[5, 6, 7], [8, 9, 4]])


def test_onnx_finds_the_last_place_itself() -> None:
    """The input is gone, and the logits are those of the last token, with a fixed size."""
    model = picking()
    rivals.last_place_in_onnx(model)
    session = import_onnxruntime().InferenceSession(model.SerializeToString())
    assert [value.name for value in session.get_inputs()] == ["input_ids"]
    assert session.get_outputs()[0].shape == ["batch", 1]
    assert session.run(None, {"input_ids": IDS})[0].tolist() == [[7], [4]]


def test_openvino_finds_the_last_place_itself() -> None:
    """The same in OpenVINO's graph."""
    ov = import_openvino()
    model = ov.Core().read_model(picking().SerializeToString())
    rivals.last_place_in_openvino(ov, model)
    assert [port.get_any_name() for port in model.inputs] == ["input_ids"]
    compiled = ov.Core().compile_model(model, "CPU")
    assert compiled({"input_ids": IDS})[0].tolist() == [[7], [4]]


def test_openvino_genai_is_asked_for_what_our_runtime_asks() -> None:
    """The precision of the bundle for numbers and cache, its streams and its own properties."""
    told = rivals.openvino_properties(
        {"precision_hint": "bf16", "streams": 1, "properties": {"ENABLE_CPU_PINNING": False}}
    )
    assert told["INFERENCE_PRECISION_HINT"] == told["KV_CACHE_PRECISION"] == "bf16"
    assert (told["NUM_STREAMS"], told["ENABLE_CPU_PINNING"]) == ("1", False)
    assert "INFERENCE_PRECISION_HINT" not in rivals.openvino_properties({})


def test_a_rival_that_is_not_installed_is_named(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The benchmark says on stderr what is left out and how to get it."""
    monkeypatch.setattr(rivals, "PACKAGES", {"ort-genai": "no_such_package"})
    assert not rivals.installed("ort-genai")
    assert ".[rivals]" in capsys.readouterr().err


def test_an_answer_as_it_is_told() -> None:
    """Milliseconds to the first token, and between those after it."""
    told = rivals.measured(1.0, [1.5, 1.75, 2.25], [np.int64(4), 5, 6])
    assert math.isclose(told["first"], 500.0)
    assert told["steps"] == [250.0, 500.0]
    assert told["tokens"] == [4, 5, 6]


def test_rows_of_accuracy() -> None:
    """Drops in percent of PyTorch's value or in points, and no sign where there is nothing."""
    same = {"metric": "perplexity", "rows": 150, "reference": 57.5141, "candidate": 57.51408}
    words = {"metric": "wer", "rows": 60, "reference": 0.045, "candidate": 0.046}
    found = {
        "smollm2, OpenVINO f32": {**same, "unit": "relative", "drop": [-1e-6, -2e-6, 1e-6]},
        "whisper-tiny-en, OpenVINO f32": {**words, "unit": "points", "drop": [0.001, -0.01, 0.02]},
    }
    rows = generation_accuracy.rows(found)
    assert rows[0][2:] == ("57.5141", "57.5141", "0.00 % (0.00 to 0.00)")
    assert rows[1][1:] == ("wer, 60 rows", "0.0450", "0.0460", "0.10 pt (-1.00 to 2.00)")
