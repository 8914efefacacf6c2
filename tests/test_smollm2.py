"""SmolLM2 as it is: what transformers' generate says, from a prompt and in a chat."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers

import edgekit
from benchmarks.zoo import fetch
from edgekit.sources.families import ENGINES
from tests.conftest import make_once

pytestmark = pytest.mark.slow

NEW = 64
PROMPTS = (
    "The capital of France is",
    "def fibonacci(n):",
    "Once upon a time, in a village by the sea, there lived an old man who",
)
QUESTION = "Name three fruits."


def test_it_says_what_generate_says(shared: Path) -> None:
    """64 tokens greedily: alone, streamed, in a chat and as a padded batch, on both engines.

    On ONNX Runtime also compiled, with its cache in buffers.
    """
    source = fetch("smollm2")
    bundle = make_once(shared / "smollm2", lambda folder: edgekit.export(str(source), folder))
    tokenizer: Any = transformers.AutoTokenizer.from_pretrained(source)
    reference: Any = transformers.AutoModelForCausalLM.from_pretrained(source).eval()
    chat = [{"role": "user", "content": QUESTION}]
    asked = tokenizer.apply_chat_template(chat, tokenize=False, add_generation_prompt=True)
    expected = [goes_on(reference, tokenizer, text) for text in (*PROMPTS, asked)]
    del reference
    options: dict[str, Any] = {"max_new_tokens": NEW, "do_sample": False}
    compiled = make_once(shared / "smollm2-host", partial(compile_here, bundle))
    for path, engine in [*((bundle, engine) for engine in ENGINES), (compiled, ENGINES[0])]:
        with edgekit.load(path, engine=engine, threads=2) as model:
            alone: Any = model(PROMPTS[2], return_full_text=False, **options)
            assert alone == [{"generated_text": expected[2]}], engine
            together: Any = model(list(PROMPTS), return_full_text=False, batch_size=3, **options)
            assert [one[0]["generated_text"] for one in together] == expected[:3], engine
            assert "".join(model.stream(chat, **options)) == expected[3], engine


def compile_here(bundle: Path, output: Path) -> object:
    """The bundle compiled for this machine; its session options need not be measured."""
    asked = ["options.onnxruntime.allow_spinning=true"]
    return edgekit.compile(bundle, output, target="host", engine="onnxruntime", overrides=asked)


def goes_on(model: Any, tokenizer: Any, text: str) -> str:
    """What transformers' generate puts behind a text."""
    read = tokenizer(text, return_tensors="pt")
    with torch.inference_mode():
        found = model.generate(**read, max_new_tokens=NEW, do_sample=False)
    said: str = tokenizer.decode(found[0, read["input_ids"].shape[1] :], skip_special_tokens=True)
    return said
