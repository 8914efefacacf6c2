"""Every family of models that generate, from PyTorch to a bundle, on both engines."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeAlias

import onnx
import pytest
import torch

import edgekit
from edgekit.core.bundle import open_bundle
from edgekit.runtime import caches
from edgekit.sources.families import ENGINES
from tests.text_models import FAMILIES, PROMPTS, save_generator

pytestmark = pytest.mark.slow

NEW = 64
ROWS = tuple(FAMILIES)
_ANSWERS = {"marian": "translation_text"}
# Decoders keep their cache in buffers, once they are compiled.
_SEQ2SEQ = ("t5", "bart", "marian")
# The new tokens of each prompt, and their text.
Answers: TypeAlias = list[tuple[list[int], str]]


@pytest.mark.parametrize("family", ROWS)
def test_greedy_answers_are_those_of_generate(family: str, tmp_path: Path) -> None:
    """Token for token, for one prompt and for four of different lengths, on both engines.

    A decoder on ONNX Runtime also with its cache in buffers, as compiling leaves it.
    """
    source = save_generator(family, tmp_path / "source", varied=True)
    wanted_one = expected(family, source, PROMPTS[:1])
    wanted_four = expected(family, source, PROMPTS)
    made = edgekit.export(str(source), tmp_path / "bundle")
    assert made.task == FAMILIES[family].task
    ways = [(tmp_path / "bundle", engine) for engine in ENGINES]
    if family not in _SEQ2SEQ:
        ways.append((buffered(tmp_path / "bundle", tmp_path / "compiled"), "onnxruntime"))
    for path, engine in ways:
        check_answers(family, path, engine, wanted_one, wanted_four)


@pytest.mark.parametrize("family", ["llama", "mistral", "qwen3", "gemma3"])
def test_heads_that_the_operator_turns(family: str, tmp_path: Path) -> None:
    """Heads of 16 numbers, as those of real models, are turned by tables, and say the same."""
    source = save_generator(family, tmp_path / "source", varied=True, head_dim=16)
    wanted_one = expected(family, source, PROMPTS[:1])
    wanted_four = expected(family, source, PROMPTS)
    edgekit.export(str(source), tmp_path / "bundle")
    path = buffered(tmp_path / "bundle", tmp_path / "compiled")
    graph = onnx.load(path / "model.onnx").graph
    assert "RotaryEmbedding" not in {node.op_type for node in graph.node}
    check_answers(family, path, "onnxruntime", wanted_one, wanted_four)


def check_answers(family: str, path: Path, engine: str, one: Answers, four: Answers) -> None:
    """Whether a bundle says what generate says, to one prompt and to four of different lengths."""
    options: Mapping[str, Any] = {
        "max_new_tokens": NEW, "min_new_tokens": NEW, "do_sample": False, "num_beams": 1,
    }  # fmt: skip
    with edgekit.load(path, engine=engine, threads=2) as model:
        assert all(row.passed for row in model.selftest())
        predictor: Any = model.predictor
        assert predictor.tokens(PROMPTS[0], **options) == one[0][0], engine
        more = {} if family in _SEQ2SEQ else {"return_full_text": False}
        answers: Any = model(list(PROMPTS), batch_size=4, **options, **more)
    key = _ANSWERS.get(family, "generated_text")
    told = [(answer[0] if isinstance(answer, list) else answer)[key] for answer in answers]
    assert told == [text for _, text in four], engine


def buffered(bundle: Path, output: Path) -> Path:
    """The bundle compiled for this machine, whose cache must be in buffers then."""
    # A choice that need not be measured.
    asked = ["options.onnxruntime.allow_spinning=false"]
    edgekit.compile(bundle, output, target="host", engine="onnxruntime", overrides=asked)
    component = open_bundle(output).manifest.components["model"]
    assert caches.buffered(component.inputs, component.outputs) is not None
    return output


def expected(family: str, source: Path, prompts: tuple[str, ...]) -> Answers:
    """(the new tokens, their text) of transformers' generate for one batch of prompts."""
    import transformers

    seq2seq = FAMILIES[family].task == "text2text-generation"
    auto: Any = transformers.AutoModelForSeq2SeqLM if seq2seq else transformers.AutoModelForCausalLM
    model = auto.from_pretrained(source).eval()
    tokenizer = transformers.AutoTokenizer.from_pretrained(
        source, padding_side="right" if seq2seq else "left"
    )
    batch = tokenizer(list(prompts), padding=True, return_tensors="pt")
    with torch.inference_mode():
        found = model.generate(
            input_ids=batch["input_ids"],
            attention_mask=batch["attention_mask"],
            max_new_tokens=NEW,
            min_new_tokens=NEW,
            do_sample=False,
            num_beams=1,
        )
    given = 1 if seq2seq else batch["input_ids"].shape[1]
    # One word again and again would be right whatever the cache holds.
    assert min(len(row[given:].unique()) for row in found) > 5
    return [
        (row[given:].tolist(), tokenizer.decode(row[given:], skip_special_tokens=True))
        for row in found
    ]
