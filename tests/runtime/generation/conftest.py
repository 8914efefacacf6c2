"""A decoder with a byte for a token, and its bundle: made in code, without torch."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import onnx
import pytest
from tokenizers import Tokenizer, decoders, models, pre_tokenizers

from edgekit.core.bundle import Bundle, BundleWriter
from edgekit.core.manifest import Component, Manifest, Requires, RuntimeChoice
from edgekit.runtime.engines.onnxruntime import graph_specs
from edgekit.runtime.generation.rules import Chat, GenerationRules
from tests.generation_models import decoder

PAD, BOS, EOS = 256, 257, 258
VOCABULARY = 260
CONTEXT = 96
TEMPLATE = (
    "{% for message in messages %}{{ message['role'] }}: {{ message['content'] | trim }}\n"
    "{% endfor %}{% if add_generation_prompt %}assistant: {% endif %}"
)
RULES = GenerationRules(
    mode="decoder", layers=2, context=CONTEXT, eos=(EOS,), pad=PAD, bos=BOS,
    chat=Chat(TEMPLATE, {"bos_token": "<s>"}),
)  # fmt: skip


def byte_tokenizer() -> Tokenizer:
    """Every byte is a token, so that a character of four bytes takes four of them."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE({mark: at for at, mark in enumerate(alphabet)}, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens(["<pad>", "<s>", "</s>", "<x>"])
    return tokenizer


def write_generator(
    folder: Path,
    rules: GenerationRules = RULES,
    *,
    options: Mapping[str, object] | None = None,
    engine: str = "onnxruntime",
    graph: onnx.ModelProto | None = None,
) -> Bundle:
    """A bundle of the tiny decoder, or of another graph, that answers as the rules say."""
    if graph is None:
        graph = decoder(vocabulary=VOCABULARY, context=rules.context or CONTEXT)
    with BundleWriter(folder) as writer:
        path = writer.add("model.onnx", "component")
        path.write_bytes(graph.SerializeToString())
        byte_tokenizer().save(str(writer.add("tokenizer.json", "processor")))
        inputs, outputs = graph_specs(path)
        manifest = Manifest(
            name=folder.name,
            created_by="edgekit test",
            stage="exported",
            task="text-generation",
            source=None,
            components={"model": Component("onnx", ("model.onnx",), inputs, outputs)},
            requires=Requires(engine),
            processor={"kind": "generation", "input": "text", "tokenizer": "tokenizer.json"},
            generation=rules.document(),
            runtime=RuntimeChoice(options or {}),
        )
        writer.stage(manifest)
        return writer.commit()


@pytest.fixture(scope="session")
def generator(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The bundle of the tiny decoder."""
    return write_generator(tmp_path_factory.mktemp("generation") / "tiny").path
