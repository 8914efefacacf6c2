"""Answers equal those of transformers' own pipelines, for every architecture's tokenizer.

The network is the same torch module on both sides: what is compared is everything around it.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import cast

import numpy as np
import pytest

from edgekit.core.manifest import Component, Manifest, Requires, TensorSpec
from edgekit.runtime.predictor import TextPredictor
from edgekit.runtime.session import Array, Fact

pytestmark = pytest.mark.slow

ARCHITECTURES = ("bert", "distilbert", "roberta", "deberta-v2", "modernbert", "albert", "mpnet")
TEXTS = [
    "A great film: funny, warm and far too short!",
    "  spaces   and\ttabs\nand lines  ",
    "Быстрая лиса, 敏捷的棕色狐狸, café déjà-vu 😀 👩‍👩‍👧",
    "don't can't won't it's state-of-the-art (e.g. 3.14%)",
    "x",
    "[SEP] <s> special words </s> [CLS]",
    "The quick brown fox jumps over the lazy dog, again and again. " * 6,
]
OUTPUTS: Mapping[str, Mapping[str, tuple[int | str, ...]]] = {
    "feature-extraction": {"last_hidden_state": ("batch", "sequence", "hidden")},
    "text-classification": {"logits": ("batch", 3)},
    "token-classification": {"logits": ("batch", "sequence", 5)},
    "question-answering": {
        "start_logits": ("batch", "sequence"),
        "end_logits": ("batch", "sequence"),
    },
    "fill-mask": {"logits": ("batch", "sequence", "vocabulary")},
}
TAGS = ("O", "B-PER", "I-PER", "B-LOC", "I-LOC")


class TorchSession:
    """A session whose engine is the torch module itself."""

    engine = "torch"
    device = "cpu"

    def __init__(self, module: object, inputs: list[str], task: str) -> None:
        self.module = module
        self.inputs = tuple(TensorSpec(name, "int64", ("batch", "sequence")) for name in inputs)
        self.outputs = tuple(
            TensorSpec(name, "float32", shape) for name, shape in OUTPUTS[task].items()
        )

    def run(self, feeds: Mapping[str, Array]) -> dict[str, Array]:
        import torch

        with torch.inference_mode():
            answer = self.module(**{name: torch.from_numpy(a) for name, a in feeds.items()})  # type: ignore[operator]
        return {spec.name: answer[spec.name].numpy() for spec in self.outputs}

    def facts(self) -> dict[str, Fact]:
        return {}

    def close(self) -> None:
        return None


class Pair:
    """One tiny model: our predictor and the parts of transformers' pipeline."""

    def __init__(self, architecture: str, task: str, folder: Path, post: Mapping[str, object]):
        import torch
        import transformers

        from tests.models import save_model

        torch.manual_seed(0)
        labels = TAGS if task == "token-classification" else ("bad", "fair", "good")
        save_model(architecture, task, folder, labels=labels)
        names = {
            "feature-extraction": "AutoModel",
            "text-classification": "AutoModelForSequenceClassification",
            "token-classification": "AutoModelForTokenClassification",
            "question-answering": "AutoModelForQuestionAnswering",
            "fill-mask": "AutoModelForMaskedLM",
        }
        self.module = getattr(transformers, names[task]).from_pretrained(folder).eval()
        self.tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
        tokenizer = self.tokenizer
        inputs = [
            name for name in tokenizer.model_input_names if name in _taken(self.module.forward)
        ]
        session = TorchSession(self.module, inputs, task)
        processor = {
            "kind": "text",
            "tokenizer": "tokenizer.json",
            "max_length": tokenizer.model_max_length,
            "truncation": {"strategy": "longest_first", "side": tokenizer.truncation_side},
            "padding": {
                "side": tokenizer.padding_side,
                "token": tokenizer.pad_token,
                "id": tokenizer.pad_token_id,
                "type_id": tokenizer.pad_token_type_id,
            },
            "inputs": inputs,
            "post": post,
        }
        manifest = Manifest(
            name="tiny",
            created_by="test",
            stage="exported",
            task=task,
            source=None,
            components={"model": Component("onnx", ("x",), session.inputs, session.outputs)},
            requires=Requires("onnxruntime"),
            processor=processor,
            labels=labels,
        )
        self.predictor = TextPredictor(session, manifest, folder)
        if task != "question-answering":
            self.pipeline = transformers.pipeline(
                task, model=self.module, tokenizer=tokenizer, device="cpu"
            )

    def ours(self, inputs: object, **options: object) -> object:
        """Our answer."""
        return self.predictor(inputs, batch_size=None, options=options)


def _taken(forward: object) -> set[str]:
    import inspect

    return set(inspect.signature(forward).parameters)  # type: ignore[arg-type]


def _same(ours: object, theirs: object) -> None:
    """Equal structure and words; numbers within what another batch shape changes."""
    if isinstance(theirs, dict):
        assert isinstance(ours, dict)
        assert set(ours) == set(theirs)
        for key, value in theirs.items():
            _same(ours[key], value)
    elif isinstance(theirs, list):
        assert isinstance(ours, list)
        assert len(ours) == len(theirs)
        for mine, its in zip(ours, theirs, strict=True):
            _same(mine, its)
    elif isinstance(theirs, float | np.floating):
        assert ours == pytest.approx(float(theirs), abs=2e-5, rel=1e-4)
    else:
        assert ours == theirs


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_text_classification(architecture: str, tmp_path: Path) -> None:
    """One text, a list, all scores, other activations, and a pair."""
    post = {"kind": "classification", "activation": "softmax"}
    pair = Pair(architecture, "text-classification", tmp_path, post)
    pipe = pair.pipeline
    for text in TEXTS:
        _same(pair.ours(text), pipe(text, truncation=True))
        _same(pair.ours(text, top_k=None), pipe(text, truncation=True, top_k=None))
    _same(pair.ours(TEXTS), pipe(TEXTS, truncation=True))
    _same(pair.ours(TEXTS, top_k=2), pipe(TEXTS, truncation=True, top_k=2))
    _same(
        pair.ours(TEXTS[0], function_to_apply="sigmoid"),
        pipe(TEXTS[0], function_to_apply="sigmoid"),
    )
    _same(pair.ours(TEXTS[0], function_to_apply="none"), pipe(TEXTS[0], function_to_apply="none"))
    item = {"text": TEXTS[0], "text_pair": TEXTS[2]}
    _same(pair.ours(item), pipe(item, truncation=True))
    _same(pair.ours([(TEXTS[0], TEXTS[6])]), [pipe({"text": TEXTS[0], "text_pair": TEXTS[6]},
                                                   truncation=True)])  # fmt: skip


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_token_classification(architecture: str, tmp_path: Path) -> None:
    """Tokens by themselves and every way to put them together."""
    pair = Pair(architecture, "token-classification", tmp_path, {"kind": "token-classification"})
    unknown = pair.tokenizer.unk_token_id
    pair.predictor.task._unknown = unknown  # type: ignore[attr-defined]
    for strategy in ("none", "simple", "first", "average", "max"):
        for text in TEXTS:
            with pytest.warns() if _warns(pair, strategy) else _quiet():
                theirs = pair.pipeline(text, aggregation_strategy=strategy)
            _same(pair.ours(text, aggregation_strategy=strategy), theirs)
    theirs = pair.pipeline(TEXTS[:3], ignore_labels=["B-PER", "I-LOC"])
    _same(pair.ours(TEXTS[:3], ignore_labels=["B-PER", "I-LOC"]), theirs)


def _warns(pair: Pair, strategy: str) -> bool:
    marks = getattr(pair.tokenizer._tokenizer.model, "continuing_subword_prefix", None)
    return strategy in ("first", "average", "max") and not marks


def _quiet() -> object:
    import contextlib

    return contextlib.nullcontext()


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_fill_mask(architecture: str, tmp_path: Path) -> None:
    """One mask, several masks, another number of candidates."""
    from tests.models import tokenizer_for

    tokenizer = tokenizer_for(architecture)
    post = {
        "kind": "fill-mask",
        "mask_token_id": tokenizer.mask_token_id,  # type: ignore[attr-defined]
        "pad_token_id": tokenizer.pad_token_id,  # type: ignore[attr-defined]
    }
    pair = Pair(architecture, "fill-mask", tmp_path, post)
    mask = pair.tokenizer.mask_token
    texts = [f"The {mask} brown fox, isn't it?", f"{mask} and {mask}", f"café {mask}"]
    for text in texts:
        _same(pair.ours(text), pair.pipeline(text))
    _same(pair.ours(texts), pair.pipeline(texts))
    _same(pair.ours(texts[0], top_k=2), pair.pipeline(texts[0], top_k=2))


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_feature_extraction(architecture: str, tmp_path: Path) -> None:
    """The hidden states of every token, indexed as transformers' nested lists."""
    pair = Pair(architecture, "feature-extraction", tmp_path, {"kind": "hidden-states"})
    for text in TEXTS:
        theirs = np.asarray(pair.pipeline(text, truncation=True))
        np.testing.assert_allclose(cast(np.ndarray, pair.ours(text)), theirs, atol=2e-5)
    batch = cast(list[np.ndarray], pair.ours(TEXTS))
    for mine, theirs in zip(batch, pair.pipeline(TEXTS, truncation=True), strict=True):
        np.testing.assert_allclose(mine, np.asarray(theirs), atol=2e-5)


QUESTIONS = [
    ("Who jumps?", "The quick brown fox jumps over the lazy dog, again and again."),
    ("Where?", "Das Café in Köln ist déjà fermé. 敏捷的棕色狐狸跳过懒狗。"),
    ("What flows to the sea?", "Where does the river flow? It flows to the sea. " * 8),
    ("x?", "y"),
]


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_question_answering(architecture: str, tmp_path: Path) -> None:
    """What 4.57 answered, derived here span by span; 5.x has no such pipeline."""
    post: dict[str, object] = {"kind": "question-answering", "doc_stride": 16}
    from tests.models import tokenizer_for

    post["cls_token_id"] = tokenizer_for(architecture).cls_token_id  # type: ignore[attr-defined]
    pair = Pair(architecture, "question-answering", tmp_path, post)
    for question, context in QUESTIONS:
        for options in (
            {},
            {"top_k": 3},
            {"max_answer_len": 2, "top_k": 2},
            {"align_to_words": False},
            {"handle_impossible_answer": True, "top_k": 4},
        ):
            ours = pair.ours({"question": question, "context": context}, **options)
            _same(ours, _answers_of_457(pair, question, context, **options))
    batch = pair.ours([{"question": q, "context": c} for q, c in QUESTIONS])
    _same(batch, [_answers_of_457(pair, q, c) for q, c in QUESTIONS])


def _answers_of_457(
    pair: Pair,
    question: str,
    context: str,
    *,
    top_k: int = 1,
    max_answer_len: int = 15,
    handle_impossible_answer: bool = False,
    align_to_words: bool = True,
) -> object:
    """The pipeline's answers by exhaustive search over every span of every window."""
    import torch

    encoded = pair.tokenizer(
        question,
        context,
        truncation="only_second",
        max_length=64,
        stride=16,
        return_overflowing_tokens=True,
        return_offsets_mapping=True,
    )
    null = 1000000.0
    merged: dict[str, dict[str, object]] = {}
    for window in range(len(encoded["input_ids"])):
        one = encoded[window]
        feeds = {
            spec.name: torch.tensor([encoded[spec.name][window]])
            for spec in pair.predictor._session.inputs
        }
        with torch.inference_mode():
            output = pair.module(**feeds)
        able = [
            part == 1 or token == pair.tokenizer.cls_token_id
            for part, token in zip(encoded.sequence_ids(window), one.ids, strict=True)
        ]
        chances = []
        for logits in (output.start_logits[0], output.end_logits[0]):
            kept = torch.where(torch.tensor(able), logits, torch.tensor(-10000.0))
            chances.append(torch.softmax(kept, dim=0).tolist())
        null = min(null, chances[0][0] * chances[1][0])
        chances[0][0] = chances[1][0] = 0.0
        spans = [
            (chances[0][i] * chances[1][j] if i <= j < i + max_answer_len else 0.0, i, j)
            for i in range(len(able))
            for j in range(len(able))
        ]
        spans.sort(key=lambda span: -span[0])
        for score, i, j in spans[: top_k * 2 + 10 if align_to_words else top_k]:
            if not (able[i] and able[j]):
                continue
            start, end = one.offsets[i][0], one.offsets[j][1]
            first, last = one.token_to_word(i), one.token_to_word(j)
            if align_to_words and first is not None and last is not None:
                left, right = one.word_to_chars(first, 1), one.word_to_chars(last, 1)
                if left and right:
                    start, end = left[0], right[1]
            found = context[start:end]
            if found.lower() in merged:
                merged[found.lower()]["score"] += score  # type: ignore[operator]
            else:
                merged[found.lower()] = {"score": score, "start": start, "end": end,
                                         "answer": found}  # fmt: skip
    answers = list(merged.values())
    if handle_impossible_answer:
        answers.append({"score": null, "start": 0, "end": 0, "answer": ""})
    answers.sort(key=lambda answer: -cast(float, answer["score"]))
    return answers[0] if len(answers[:top_k]) == 1 else answers[:top_k]
