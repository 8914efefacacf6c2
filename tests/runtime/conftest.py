"""Tiny bundles without torch: graphs put together node by node, a tokenizer word by word."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
from tokenizers.decoders import WordPiece as WordPieceDecoder

from edgekit.core.bundle import Bundle, BundleWriter
from edgekit.core.manifest import Component, Golden, Manifest, Requires, RuntimeChoice, TensorSpec
from edgekit.runtime import golden, load

CORPUS = (
    "the quick brown fox jumps over the lazy dog",
    "a great film with a great plot and a very lazy dog",
    "the river flows to the sea and the sea is far away",
    "café naïve 東京 москва hello world",
)
SPECIALS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
HIDDEN = 8
MAX_LENGTH = 24
LABELS = ("bad", "fair", "good")
TAGS = ("O", "B-PER", "I-PER", "B-LOC", "I-LOC")

_TYPES = {
    "float32": TensorProto.FLOAT,
    "float64": TensorProto.DOUBLE,
    "int64": TensorProto.INT64,
    "int32": TensorProto.INT32,
}


def make_tokenizer() -> Tokenizer:
    """A WordPiece tokenizer as BERT has it: some whole words, and every character as a last resort.

    Put together rather than trained: training breaks ties differently from run to run.
    """
    words = sorted({word for line in CORPUS for word in line.split() if len(word) != 5})
    characters = sorted({character for line in CORPUS for character in line if character != " "})
    pieces = [*SPECIALS, *words, *characters, *("##" + character for character in characters)]
    vocabulary = {piece: index for index, piece in enumerate(dict.fromkeys(pieces))}
    tokenizer = Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer()
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = WordPieceDecoder()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[("[CLS]", 2), ("[SEP]", 3)],
    )
    tokenizer.add_special_tokens(list(SPECIALS))
    return tokenizer


TOKENIZER = make_tokenizer()
VOCABULARY = TOKENIZER.get_vocab_size()


def processor(post: Mapping[str, object], **changes: object) -> dict[str, object]:
    """A processor of kind ``text`` for TOKENIZER."""
    return {
        "kind": "text",
        "tokenizer": "tokenizer.json",
        "max_length": MAX_LENGTH,
        "truncation": {"strategy": "longest_first", "side": "right", "stride": 0},
        "padding": {"side": "right", "token": "[PAD]", "id": 0, "type_id": 0},
        "inputs": ["input_ids", "attention_mask"],
        "post": dict(post),
        **changes,
    }


POSTS: Mapping[str, Mapping[str, object]] = {
    "embedding": {"kind": "embedding"},
    "hidden-states": {"kind": "hidden-states"},
    "classification": {"kind": "classification", "activation": "softmax"},
    "token-classification": {"kind": "token-classification", "unk_token_id": 1},
    "question-answering": {"kind": "question-answering", "cls_token_id": 2, "doc_stride": 4},
    "fill-mask": {"kind": "fill-mask", "mask_token_id": 4, "pad_token_id": 0},
}
_TASKS = {
    "embedding": "feature-extraction",
    "hidden-states": "feature-extraction",
    "classification": "text-classification",
}
_OUTPUTS: Mapping[str, Mapping[str, tuple[int | str, ...]]] = {
    "embedding": {"sentence_embedding": ("batch", HIDDEN)},
    "hidden-states": {"last_hidden_state": ("batch", "sequence", HIDDEN)},
    "classification": {"logits": ("batch", len(LABELS))},
    "token-classification": {"logits": ("batch", "sequence", len(TAGS))},
    "question-answering": {
        "start_logits": ("batch", "sequence"),
        "end_logits": ("batch", "sequence"),
    },
    "fill-mask": {"logits": ("batch", "sequence", VOCABULARY)},
}


@dataclass
class Graph:
    """An ONNX graph in the making, with the specs that a manifest declares for it."""

    inputs: list[TensorSpec]
    outputs: list[TensorSpec] = field(default_factory=list)
    nodes: list[onnx.NodeProto] = field(default_factory=list)
    weights: list[onnx.TensorProto] = field(default_factory=list)

    def weight(self, name: str, value: np.ndarray) -> str:
        """Add a constant."""
        self.weights.append(numpy_helper.from_array(value, name))
        return name

    def op(self, kind: str, *inputs: str, to: str, **attributes: object) -> str:
        """Add a node with one output."""
        self.nodes.append(helper.make_node(kind, list(inputs), [to], **attributes))
        return to

    def model(self) -> onnx.ModelProto:
        """The finished model, checked."""

        def info(spec: TensorSpec) -> onnx.ValueInfoProto:
            return helper.make_tensor_value_info(spec.name, _TYPES[spec.dtype], list(spec.shape))

        graph = helper.make_graph(
            self.nodes,
            "tiny",
            [info(spec) for spec in self.inputs],
            [info(spec) for spec in self.outputs],
            self.weights,
        )
        opsets = [helper.make_opsetid("", 21)]
        # onnx writes a newer IR version than the engines read.
        model = helper.make_model(graph, opset_imports=opsets, ir_version=10)
        onnx.checker.check_model(model)
        return model


def text_graph(
    kind: str,
    *,
    batch: int | str = "batch",
    sequence: int | str = "sequence",
    dtype: str = "int64",
    inputs: Sequence[str] = ("input_ids", "attention_mask"),
) -> Graph:
    """Embeddings plus their masked mean, then the head of `kind`: padding must not show."""
    random = np.random.default_rng(7)
    graph = Graph([TensorSpec(name, dtype, (batch, sequence)) for name in inputs])
    table = random.normal(size=(VOCABULARY, HIDDEN)).astype(np.float32)
    graph.weight("table", table)
    graph.weight("last", np.array([-1], dtype=np.int64))
    graph.weight("middle", np.array([1], dtype=np.int64))
    graph.op("Gather", "table", "input_ids", to="tokens")
    graph.nodes.append(helper.make_node("Cast", ["attention_mask"], ["mask"], to=1))
    graph.op("Unsqueeze", "mask", "last", to="mask3")
    graph.op("Mul", "tokens", "mask3", to="kept")
    graph.op("ReduceSum", "kept", "middle", to="sum", keepdims=1)
    graph.op("ReduceSum", "mask3", "middle", to="count", keepdims=1)
    graph.op("Div", "sum", "count", to="mean")
    graph.op("Add", "tokens", "mean", to="states")
    if "token_type_ids" in inputs:
        graph.weight("types", random.normal(size=(2, HIDDEN)).astype(np.float32))
        graph.op("Gather", "types", "token_type_ids", to="typed")
        graph.op("Add", "states", "typed", to="states2")
    states = "states2" if "token_type_ids" in inputs else "states"
    if kind == "embedding":
        graph.op("Squeeze", "mean", "middle", to="sentence_embedding")
    elif kind == "hidden-states":
        graph.op("Identity", states, to="last_hidden_state")
    elif kind == "classification":
        graph.weight("head", random.normal(size=(HIDDEN, len(LABELS))).astype(np.float32))
        graph.weight("zero", np.array(0, dtype=np.int64))
        graph.op("Gather", states, "zero", to="first", axis=1)
        graph.op("MatMul", "first", "head", to="logits")
    elif kind == "token-classification":
        graph.weight("head", 2 * random.normal(size=(HIDDEN, len(TAGS))).astype(np.float32))
        graph.op("MatMul", states, "head", to="logits")
    elif kind == "fill-mask":
        graph.weight("head", np.ascontiguousarray(table.T))
        graph.op("MatMul", states, "head", to="logits")
    else:
        for name in ("start_logits", "end_logits"):
            graph.weight(name + "_head", random.normal(size=(HIDDEN, 1)).astype(np.float32))
            graph.op("MatMul", states, name + "_head", to=name + "_wide")
            graph.op("Squeeze", name + "_wide", "last", to=name)
    sizes = {"batch": batch, "sequence": sequence}
    for name, shape in _OUTPUTS[kind].items():
        dims = tuple(sizes.get(dim, dim) if isinstance(dim, str) else dim for dim in shape)
        graph.outputs.append(TensorSpec(name, "float32", dims))
    return graph


def linear_graph() -> Graph:
    """y = 2a + b for ``a`` and ``b`` of shape [batch, 3]."""
    specs = [TensorSpec(name, "float32", ("batch", 3)) for name in ("a", "b")]
    graph = Graph(specs, [TensorSpec("y", "float32", ("batch", 3))])
    graph.weight("two", np.array(2, dtype=np.float32))
    graph.op("Mul", "a", "two", to="doubled")
    graph.op("Add", "doubled", "b", to="y")
    return graph


def write_bundle(
    output: Path,
    graph: Graph,
    *,
    task: str,
    processor: Mapping[str, object] | None = None,
    labels: tuple[str, ...] | None = None,
    requires: Requires | None = None,
    options: Mapping[str, object] | None = None,
    golden_inputs: Mapping[str, np.ndarray] | None = None,
    stage: str = "exported",
) -> Bundle:
    """Write a bundle of one ONNX component, with golden values when inputs for them are given."""
    manifest = Manifest(
        name=output.name,
        created_by="edgekit test",
        stage=stage,
        task=task,
        source=None,
        components={
            "model": Component("onnx", ("model.onnx",), tuple(graph.inputs), tuple(graph.outputs))
        },
        requires=requires or Requires("onnxruntime"),
        processor=processor,
        labels=labels,
        runtime=RuntimeChoice(options or {}),
    )
    with BundleWriter(output) as writer:
        writer.add("model.onnx", "component").write_bytes(graph.model().SerializeToString())
        if processor is not None:
            TOKENIZER.save(str(writer.add("tokenizer.json", "processor")))
        if golden_inputs is not None:
            staged = writer.stage(manifest)
            with load(staged.path) as model:
                answers = model.run(golden_inputs)
            path = writer.add(golden.GOLDEN_NAME, "golden")
            golden.write(path, golden_inputs, answers, answers)
            manifest = Manifest(
                **{**vars(manifest), "golden": Golden(golden.GOLDEN_NAME), "files": ()}
            )
        writer.stage(manifest)
        return writer.commit()


@pytest.fixture
def text_bundle(tmp_path: Path) -> Callable[..., Bundle]:
    """Makes the bundle of a kind of post-processing; keywords go to graph and processor."""

    def make(
        kind: str,
        *,
        name: str = "bundle",
        post: Mapping[str, object] | None = None,
        change: Mapping[str, object] | None = None,
        requires: Requires | None = None,
        options: Mapping[str, object] | None = None,
        labels: tuple[str, ...] | None = None,
        **graph: object,
    ) -> Bundle:
        made = text_graph(kind, **graph)  # type: ignore[arg-type]
        inputs = [spec.name for spec in made.inputs]
        rules = processor({**POSTS[kind], **(post or {})}, **{"inputs": inputs, **(change or {})})
        classes = {"classification": LABELS, "token-classification": TAGS}
        return write_bundle(
            tmp_path / name,
            made,
            task=_TASKS.get(kind, kind),
            processor=rules,
            labels=labels or classes.get(kind),
            requires=requires,
            options=options,
        )

    return make


@pytest.fixture
def linear_bundle(tmp_path: Path) -> Callable[..., Bundle]:
    """Makes a custom bundle of `linear_graph`; keywords go to `write_bundle`."""

    def make(name: str = "linear", **keywords: object) -> Bundle:
        return write_bundle(tmp_path / name, linear_graph(), task="custom", **keywords)  # type: ignore[arg-type]

    return make
