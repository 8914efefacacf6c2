"""The model that apps see: calls, batches, threads, and the end of its life."""

from __future__ import annotations

import asyncio
import gc
import random
import weakref
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import cast

import numpy as np
import pytest

from edgekit.core.bundle import Bundle
from edgekit.core.errors import (
    BundleCorrupt,
    BundleVersion,
    ConfigError,
    InputMismatch,
    SessionError,
)
from edgekit.runtime import load, predictor
from tests.runtime.conftest import LABELS, TOKENIZER, VOCABULARY

ENGINES = ("onnxruntime", "openvino")
TEXTS = ["the lazy dog", "a great film", "the sea", "the quick brown fox jumps over the lazy dog"]
EXACT = {"onnxruntime": 1e-6, "openvino": 2e-2}

Make = Callable[..., Bundle]
Answers = list[dict[str, object]]


def words(entities: Answers) -> list[object]:
    """The words of some entities."""
    return [entity["word"] for entity in entities]


@pytest.mark.parametrize("engine", ENGINES)
def test_classification(text_bundle: Make, engine: str) -> None:
    """A text gives a list with its best label; a list of texts, one dict each."""
    with load(text_bundle("classification").path, engine=engine) as model:
        (alone,) = cast(Answers, model(TEXTS[0]))
        assert set(alone) == {"label", "score"}
        assert alone["label"] in LABELS
        several = cast(Answers, model(TEXTS))
        assert several[0] == pytest.approx(alone, abs=EXACT[engine])
        assert (model.engine, model.device, model.task) == (engine, "cpu", "text-classification")
        assert model.labels == LABELS


def test_top_k(text_bundle: Make) -> None:
    """With top_k every text has a list, best first, and all of them with None."""
    with load(text_bundle("classification").path) as model:
        ranked = cast(Answers, model(TEXTS[0], top_k=None))
        assert [answer["label"] for answer in ranked] != sorted(LABELS, reverse=True)
        assert sum(cast(float, answer["score"]) for answer in ranked) == pytest.approx(1)
        assert model(TEXTS[:2], top_k=2) == [model(text, top_k=2) for text in TEXTS[:2]]
        assert model(TEXTS[0], top_k=2) == ranked[:2]


def test_bundle_that_gives_all_labels(text_bundle: Make) -> None:
    """The bundle's own top_k is the default."""
    with load(text_bundle("classification", post={"top_k": None}).path) as model:
        assert len(cast(Answers, model(TEXTS[0]))) == len(LABELS)


def test_activation(text_bundle: Make) -> None:
    """sigmoid scores each label by itself; none gives the value (regression)."""
    with load(text_bundle("classification", post={"activation": "none"}).path) as model:
        raw = {a["label"]: a["score"] for a in cast(Answers, model(TEXTS[0], top_k=None))}
        each = cast(Answers, model(TEXTS[0], top_k=None, function_to_apply="sigmoid"))
    for answer in each:
        value = cast(float, raw[answer["label"]])
        assert answer["score"] == pytest.approx(1 / (1 + np.exp(-value)), abs=1e-6)


def test_pairs(text_bundle: Make) -> None:
    """A tuple is a pair, a list of two is two texts, and transformers' dict is understood."""
    with load(text_bundle("classification").path) as model:
        pair = cast(Answers, model((TEXTS[0], TEXTS[1])))
        assert pair != model(TEXTS[0])
        assert len(cast(Answers, model(TEXTS[:2]))) == 2
        assert model({"text": TEXTS[0], "text_pair": TEXTS[1]}) == pair[0]
        assert cast(Answers, model([(TEXTS[0], TEXTS[1]), TEXTS[2]]))[0] == pytest.approx(pair[0])


def test_embedding_is_an_array_of_its_own(text_bundle: Make) -> None:
    """An embedding is float32 [hidden] and does not hold its batch."""
    with load(text_bundle("embedding").path) as model:
        one, *_ = cast(list[np.ndarray], model(TEXTS))
        alone = cast(np.ndarray, model(TEXTS[0]))
    assert one.shape == alone.shape == (8,)
    assert one.dtype == np.float32
    assert one.base is None
    np.testing.assert_allclose(one, alone, atol=1e-6)


@pytest.mark.parametrize("kind", ["embedding", "hidden-states"])
@pytest.mark.parametrize("side", ["left", "right"])
def test_batches_do_not_change_answers(text_bundle: Make, kind: str, side: str) -> None:
    """However many texts run together, padded on either side: each gets its own answer."""
    random.seed(0)
    vocabulary = " ".join(TEXTS).split()
    texts = [" ".join(random.choices(vocabulary, k=random.randint(0, 20))) for _ in range(50)]
    with load(text_bundle(kind, change={"padding": {"side": side, "id": 0}}).path) as model:
        alone = [model(text) for text in texts]
        for size in (1, 7, None):
            together = cast(list[np.ndarray], model(texts, batch_size=size))
            for mine, expected in zip(together, alone, strict=True):
                np.testing.assert_allclose(mine, cast(np.ndarray, expected), atol=1e-6)


def test_long_and_short_texts_run_apart(text_bundle: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    """A list is not padded to its longest text."""
    with load(text_bundle("embedding", change={"max_length": 200}).path) as model:
        widths: list[tuple[int, ...]] = []
        run = model._session.run
        monkeypatch.setattr(
            model._session,
            "run",
            lambda feeds: widths.append(feeds["input_ids"].shape) or run(feeds),
        )
        model(["the", "the dog", "the lazy dog " * 40])
    assert widths == [(1, 122), (2, 4)]


def test_a_list_longer_than_is_sorted_at_once(
    text_bundle: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A long list is worked off in parts, in order, without holding all outputs at once."""
    monkeypatch.setattr(predictor, "_SORTED_TOGETHER", 3)
    with load(text_bundle("token-classification").path) as model:
        assert [words(each) for each in cast(list[Answers], model(TEXTS * 2))] == [
            words(cast(Answers, model(text))) for text in TEXTS * 2
        ]


def test_empty_list(text_bundle: Make) -> None:
    """Nothing in, nothing out."""
    with load(text_bundle("embedding").path) as model:
        assert model([]) == []


@pytest.mark.parametrize("engine", ENGINES)
def test_static_shape(text_bundle: Make, engine: str) -> None:
    """A graph of fixed batch and length is fed exactly that, and answers the same."""
    free = text_bundle("token-classification", name="free")
    fixed = text_bundle("token-classification", name="fixed", batch=2, sequence=12)
    with load(free.path, engine=engine) as one, load(fixed.path, engine=engine) as other:
        expected = cast(list[Answers], one(TEXTS[:3]))
        for mine, its in zip(cast(list[Answers], other(TEXTS[:3])), expected, strict=True):
            assert words(mine) == words(its)
        assert len(cast(Answers, other(TEXTS[0]))) == len(expected[0])


@pytest.mark.parametrize("engine", ENGINES)
def test_other_integer_types(text_bundle: Make, engine: str) -> None:
    """A graph that takes int32 gets int32."""
    with load(text_bundle("classification", dtype="int32").path, engine=engine) as model:
        assert cast(Answers, model(TEXTS[0]))[0]["label"] in LABELS


@pytest.mark.parametrize("engine", ENGINES)
def test_run(linear_bundle: Make, engine: str) -> None:
    """Raw tensors give the graph's outputs by name, in any memory order."""
    a = np.arange(6, dtype=np.float32).reshape(3, 2).T
    b = np.ones((2, 3), np.float32)
    with load(linear_bundle().path, engine=engine) as model:
        answers = model.run({"b": b, "a": a})
        assert list(answers) == ["y"]
        np.testing.assert_allclose(answers["y"], 2 * a + b, atol=1e-6)
        again = model.run({"a": b, "b": b})["y"]
        np.testing.assert_allclose(answers["y"], 2 * a + b, atol=1e-6)
        np.testing.assert_allclose(again, 3 * b, atol=1e-6)


def test_custom_model_is_called_with_arrays(linear_bundle: Make) -> None:
    """A custom model maps a dict of arrays, or a list of them, to the same."""
    feeds = {"a": np.ones((1, 3), np.float32), "b": np.zeros((1, 3), np.float32)}
    with load(linear_bundle().path) as model:
        one = cast(dict[str, np.ndarray], model(feeds))
        assert one["y"].tolist() == [[2, 2, 2]]
        assert [
            list(each) for each in cast(list[dict[str, np.ndarray]], model([feeds, feeds]))
        ] == [
            ["y"],
            ["y"],
        ]
        for bad in ("a text", [[1.0, 2.0, 3.0]], np.zeros((1, 3), np.float32)):
            with pytest.raises(InputMismatch, match="dict of arrays") as caught:
                model(bad)
            assert "Give {'a': array, 'b': array}. Declared" in str(caught.value.hint)
        with pytest.raises(InputMismatch, match="'a' should be a numpy array") as caught:
            model({"a": [1.0, 2.0, 3.0], "b": feeds["b"]})
        assert caught.value.hint == "Convert it with numpy.asarray(…, dtype='float32')."
        assert model([]) == []
        with pytest.raises(ConfigError, match="top_k"):
            model(feeds, top_k=1)


@pytest.mark.parametrize("engine", ENGINES)
def test_many_threads_at_once(text_bundle: Make, engine: str) -> None:
    """Calls from eight threads get the answers they get alone."""
    with load(text_bundle("embedding").path, engine=engine) as model:
        expected = {text: cast(np.ndarray, model(text)) for text in TEXTS}
        work = TEXTS * 50
        random.Random(0).shuffle(work)
        with ThreadPoolExecutor(8) as pool:
            for text, answer in zip(work, pool.map(model, work), strict=True):
                np.testing.assert_allclose(cast(np.ndarray, answer), expected[text], atol=1e-6)


def test_acall(text_bundle: Make) -> None:
    """Awaited calls run side by side and take the same options."""

    async def ask() -> list[object]:
        with load(text_bundle("classification").path) as model:
            calls = [model.acall(text, top_k=2) for text in TEXTS]
            answers = await asyncio.gather(*calls)
            assert answers == [model(text, top_k=2) for text in TEXTS]
            return list(answers)

    assert len(asyncio.run(ask())) == len(TEXTS)


def test_stream_of_a_task_that_generates_nothing(text_bundle: Make) -> None:
    """Streaming a classifier is a ConfigError that names the task."""
    with (
        load(text_bundle("classification").path) as model,
        pytest.raises(ConfigError, match="text-classification"),
    ):
        model.stream("the dog")


@pytest.mark.parametrize("engine", ENGINES)
def test_closed(linear_bundle: Make, engine: str) -> None:
    """After close, twice if need be, every call is a SessionError."""
    model = load(linear_bundle().path, engine=engine)
    model.close()
    model.close()
    feeds = {"a": np.ones((1, 3), np.float32), "b": np.ones((1, 3), np.float32)}
    for call in (
        lambda: model(feeds),
        lambda: model.run(feeds),
        model.selftest,
        lambda: model.stream("x"),
    ):
        with pytest.raises(SessionError, match="closed"):
            call()
    assert "closed" in repr(model)


@pytest.mark.parametrize("engine", ENGINES)
def test_close_frees_the_engine(linear_bundle: Make, engine: str) -> None:
    """The engine's session is gone when close returns, though the model is still held."""
    model = load(linear_bundle().path, engine=engine)
    held = {"onnxruntime": "_session", "openvino": "_compiled"}[engine]
    gone = weakref.ref(getattr(model._session, held))
    gc.disable()
    try:
        model.close()
        assert gone() is None
    finally:
        gc.enable()


@pytest.mark.parametrize(
    ("kind", "bad"),
    [
        ("classification", 5),
        ("classification", None),
        ("classification", ("a", "b", "c")),
        ("classification", ["fine", 3]),
        ("classification", {"input_ids": np.zeros((1, 2), np.int64)}),
        ("classification", np.zeros((1, 2), np.int64)),
        ("token-classification", ("a", "b")),
        ("question-answering", "a question alone"),
        ("question-answering", {"question": "what?"}),
        ("question-answering", {"question": "", "context": "the sea"}),
        ("question-answering", ("what?", None)),
    ],
)
def test_inputs_of_another_kind(text_bundle: Make, kind: str, bad: object) -> None:
    """What the task does not take is InputMismatch with the forms that it takes."""
    with load(text_bundle(kind).path) as model, pytest.raises(InputMismatch):
        model(bad)


@pytest.mark.parametrize(
    ("kind", "bad", "hint"),
    [
        ("classification", [["a fine film", "awful"]], "Write a pair as a tuple: ('…', '…')."),
        ("question-answering", [["what?", "the sea"]], "Write a pair as a tuple"),
        ("token-classification", [["a", "b"]], "one flat list"),
        ("classification", [["a", "b", "c"]], "one flat list"),
        ("classification", [[["a", "b"]]], "one flat list of str"),
        ("classification", {"question": "what?"}, "Write a pair as a tuple"),
        ("classification", {"input_ids": [[1]]}, "Raw tensors go through model.run"),
        ("classification", np.zeros((1, 2), np.int64), "Raw tensors go through model.run"),
        ("classification", np.array(["a", "b"]), "array.tolist()"),
        ("classification", b"a fine film", "Decode it"),
        ("classification", None, "Give texts."),
        ("classification", 3, "Give texts."),
    ],
    ids=lambda value: None if isinstance(value, str) else type(value).__name__,
)
def test_remedy_for_inputs_of_another_kind(
    text_bundle: Make, kind: str, bad: object, hint: str
) -> None:
    """The remedy is for what was probably meant; raw tensors only where arrays were given."""
    with load(text_bundle(kind).path) as model, pytest.raises(InputMismatch) as caught:
        model(bad)
    assert hint in str(caught.value.hint)


@pytest.mark.parametrize(
    ("kind", "options", "word"),
    [
        ("classification", {"topk": 1}, "topk"),
        ("classification", {"top_k": 0}, "top_k"),
        ("classification", {"top_k": True}, "top_k"),
        ("classification", {"function_to_apply": "relu"}, "softmax"),
        ("classification", {"batch_size": 0}, "batch_size"),
        ("embedding", {"top_k": 1}, "none"),
        ("token-classification", {"aggregation_strategy": "best"}, "simple"),
        ("token-classification", {"ignore_labels": "O"}, "ignore_labels"),
        ("fill-mask", {"top_k": "five"}, "top_k"),
        ("question-answering", {"align_to_words": 1}, "align_to_words"),
    ],
)
def test_options_that_do_not_exist(
    text_bundle: Make, kind: str, options: dict[str, object], word: str
) -> None:
    """An unknown option or value is a ConfigError that tells the known ones."""
    item = ("the sea", "the dog") if kind == "question-answering" else "the [MASK] dog"
    with load(text_bundle(kind).path) as model, pytest.raises(ConfigError, match=word):
        model(item, **options)  # type: ignore[arg-type]


def test_fill_mask(text_bundle: Make) -> None:
    """One mask gives its candidates, several a list each, none is refused."""
    with load(text_bundle("fill-mask").path) as model:
        answers = cast(Answers, model("the [MASK] dog"))
        assert [set(answer) for answer in answers] == [
            {"score", "token", "token_str", "sequence"}
        ] * 5
        assert answers == sorted(answers, key=lambda answer: -cast(float, answer["score"]))
        assert len(cast(Answers, model("the [MASK] dog", top_k=10**6))) == VOCABULARY
        two = cast(list[Answers], model("[MASK] [MASK] dog"))
        assert len(two) == 2
        assert "[MASK]" in cast(str, two[0][0]["sequence"])
        with pytest.raises(InputMismatch, match=r"no \[MASK\]"):
            model("the lazy dog")


def test_answer_of_a_question(text_bundle: Make) -> None:
    """An answer is a stretch of the context, also where the context is read in windows."""
    context = "the river flows to the sea and " * 9 + "the fox jumps"
    with load(text_bundle("question-answering").path) as model:
        answer = cast(dict[str, object], model({"question": "the sea", "context": context}))
        start, end = cast(int, answer["start"]), cast(int, answer["end"])
        assert context[start:end] == answer["answer"] != ""
        assert model(("the sea", context)) == answer
        several = cast(Answers, model(("the sea", context), top_k=3))
        assert several[0] == answer
        assert len(several) == 3


def test_question_after_its_context(text_bundle: Make) -> None:
    """Models that pad on the left read the context first, as transformers feeds them."""
    change = {"padding": {"side": "left", "id": 0}}
    with load(text_bundle("question-answering", change=change).path) as model:
        seen: list[str] = []
        run = model._session.run

        def spy(feeds: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
            seen.append(TOKENIZER.decode(feeds["input_ids"][0].tolist()))
            return run(feeds)

        model._session.run = spy  # type: ignore[method-assign]
        answer = cast(dict[str, object], model(("the dog", "the river and the sea")))
    assert seen == ["the river and the sea the dog"]
    assert str(answer["answer"]) in "the river and the sea"


@pytest.mark.parametrize(
    ("kind", "post", "word"),
    [
        ("fill-mask", {"mask_token_id": None}, "mask_token_id"),
        ("classification", {"activation": "relu"}, "activation"),
        ("token-classification", {"ignore_labels": "O"}, "ignore_labels"),
        ("question-answering", {"top_k": 0}, "top_k"),
    ],
)
def test_parameters_out_of_range(
    text_bundle: Make, kind: str, post: dict[str, object], word: str
) -> None:
    """Wrong parameters of the post-processing are the bundle's fault."""
    bundle = text_bundle(kind, post=post)
    with pytest.raises(BundleCorrupt, match=word):
        load(bundle.path)


@pytest.mark.parametrize(
    ("post", "word"), [({"kind": "poetry"}, "poetry"), ({"temperature": 2}, "temperature")]
)
def test_post_processing_of_a_later_version(
    text_bundle: Make, post: dict[str, object], word: str
) -> None:
    """Post-processing that is not understood is refused, for it changes answers."""
    with pytest.raises(BundleVersion, match=word):
        load(text_bundle("classification", post=post).path)


def test_processor_and_graph_disagree(text_bundle: Make) -> None:
    """A graph input that the processor does not make is found at load."""
    bundle = text_bundle("classification", change={"inputs": ["input_ids"]})
    with pytest.raises(BundleCorrupt, match=r"takes attention_mask, input_ids.*makes input_ids"):
        load(bundle.path)


def test_segments(text_bundle: Make) -> None:
    """A graph that takes token types tells the two texts of a pair apart."""
    names = ("input_ids", "attention_mask", "token_type_ids")
    with load(text_bundle("hidden-states", inputs=names).path) as model:
        pair = cast(np.ndarray, model(("the dog", "the sea")))
        assert pair.shape == (1, 7, 8)
        assert not np.allclose(pair[0, 1], pair[0, 4])


def test_labels_that_do_not_fit(text_bundle: Make) -> None:
    """Fewer labels than classes are found at load, not at the first rare class."""
    bundle = text_bundle("classification", labels=("bad", "good"))
    with pytest.raises(BundleCorrupt, match="2 labels for 3 classes"):
        load(bundle.path)


def test_engine_failure_is_a_session_error(text_bundle: Make) -> None:
    """What only the engine can find, an id outside the vocabulary, is SessionError in its words."""
    feeds = {
        "input_ids": np.full((1, 4), 10**6, np.int64),
        "attention_mask": np.ones((1, 4), np.int64),
    }
    with (
        load(text_bundle("embedding").path) as model,
        pytest.raises(SessionError, match="could not run the graph"),
    ):
        model.run(feeds)
