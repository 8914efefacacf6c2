"""Answers of a whole bundle, token by token, on both engines."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import edgekit
from edgekit.core.errors import ConfigError, EdgekitError, InputMismatch, SessionError
from edgekit.runtime.caches import cache_pairs, empty_cache, start_decoding
from edgekit.runtime.model import Model
from tests.runtime.generation.conftest import BOS, CONTEXT, EOS, RULES, write_generator

PROMPTS = ("to the ferry", "a", "Grüße aus 東京", "")
NEW = 24


@pytest.fixture(scope="module", params=["onnxruntime", "openvino"])
def model(generator: Path, request: pytest.FixtureRequest) -> Iterator[Model]:
    """The tiny decoder, opened."""
    with edgekit.load(generator, engine=request.param, threads=1) as opened:
        yield opened


def tokens(model: Model, text: str, **options: object) -> list[int]:
    """The new tokens of one answer."""
    found: list[int] = model.predictor.tokens(text, **options)  # type: ignore[attr-defined]
    return found


def expected(model: Model, text: str, count: int) -> list[int]:
    """Greedy tokens from the graph alone, the whole sequence anew for each of them."""
    ids = model.predictor.tokenizer.encode(text).ids or [BOS]  # type: ignore[attr-defined]
    given = len(ids)
    empty = {
        spec.name: empty_cache(spec, 1)
        for spec, _ in cache_pairs(
            model.manifest.components["model"].inputs, model.manifest.components["model"].outputs
        )
    }
    while len(ids) < given + count and ids[-1] != EOS:
        feeds = {
            "input_ids": np.array([ids], np.int64),
            "attention_mask": np.ones((1, len(ids)), np.int64),
            "position_ids": np.arange(len(ids), dtype=np.int64)[None],
            **empty,
        }
        ids.append(int(model.run(feeds)["logits"][0, -1].argmax()))
    return ids[given:]


@pytest.mark.parametrize("text", PROMPTS)
def test_with_a_cache_as_without(model: Model, text: str) -> None:
    """The cache changes the work, not the answer; an empty prompt begins with bos."""
    assert tokens(model, text, max_new_tokens=NEW) == expected(model, text, NEW)


def test_a_batch_is_answered_as_one_by_one(model: Model) -> None:
    """Prompts of all lengths padded together, however many at a time, in their order."""
    alone = [model(text, max_new_tokens=NEW) for text in PROMPTS]
    for size in (1, 3, 8):
        assert model(list(PROMPTS), max_new_tokens=NEW, batch_size=size) == alone


def test_streams_tell_what_calls_answer(model: Model) -> None:
    """The pieces joined are the new text."""
    for text in PROMPTS:
        answer = model(text, max_new_tokens=NEW, return_full_text=False)
        assert [{"generated_text": "".join(model.stream(text, max_new_tokens=NEW))}] == answer


def test_full_text_holds_the_prompt(model: Model) -> None:
    """As transformers' pipeline gives it."""
    (new,) = model("to the", max_new_tokens=4, return_full_text=False)  # type: ignore[misc]
    (full,) = model("to the", max_new_tokens=4)  # type: ignore[misc]
    assert full["generated_text"] == "to the" + new["generated_text"]


def test_seeds_decide_what_is_drawn(model: Model) -> None:
    """The same answers for a seed, whatever runs beside them; others for another, or place."""
    options = {"do_sample": True, "temperature": 3.0, "max_new_tokens": NEW}
    several = ["to the ferry", "to the ferry", "a"]
    first = model(several, seed=1, **options)  # type: ignore[arg-type]
    assert model(several, seed=1, batch_size=1, **options) == first  # type: ignore[arg-type]
    assert model(several, seed=2, **options) != first  # type: ignore[arg-type]
    assert isinstance(first, list)
    assert first[0] != first[1]
    assert model(several[0], seed=1, **options) == first[0]  # type: ignore[arg-type]


def test_many_threads_at_once(model: Model) -> None:
    """Each has a cache of its own."""
    alone = [tokens(model, text, max_new_tokens=NEW) for text in PROMPTS]
    with ThreadPoolExecutor(4) as pool:
        jobs = [pool.submit(tokens, model, text, max_new_tokens=NEW) for text in PROMPTS * 4]
        assert [job.result() for job in jobs] == alone * 4


def test_two_streams_side_by_side(model: Model) -> None:
    """Streams of one thread take turns and keep their own places."""
    whole = ["".join(model.stream(text, max_new_tokens=NEW)) for text in PROMPTS[:2]]
    streams = [model.stream(text, max_new_tokens=NEW) for text in PROMPTS[:2]]
    told = ["", ""]
    for _ in range(NEW + 1):
        for index, stream in enumerate(streams):
            told[index] += next(stream, "")
    assert told == whole


def test_cancelling_lets_the_cache_go(model: Model) -> None:
    """A stream that is closed between tokens leaves nothing behind, and the model answers on."""
    before = tokens(model, "a", max_new_tokens=NEW)
    for _ in range(3):
        stream = model.stream("to the ferry", max_new_tokens=NEW)
        next(stream)
        stream.close()  # type: ignore[attr-defined]
    idle = getattr(model._session, "_idle", None)
    if idle is not None:
        gc.collect()
        assert len(idle) <= 5
    assert tokens(model, "a", max_new_tokens=NEW) == before


def test_the_end_is_the_context(model: Model) -> None:
    """Without a number an answer goes on to the context's end at most."""
    found = tokens(model, "to the ferry", min_new_tokens=CONTEXT - 12)
    assert len(found) == CONTEXT - 12


def test_a_batch_is_answered_to_the_context(model: Model) -> None:
    """A prompt that fills it first waits for a shorter one, and changes nothing of it."""
    several = ["x" * (CONTEXT - 16), "y" * (CONTEXT - 28)]
    options = {"min_new_tokens": 28, "return_full_text": False}
    alone = [model(text, **options) for text in several]  # type: ignore[arg-type]
    assert model(several, **options) == alone  # type: ignore[arg-type]


def test_stop_strings_end_an_answer(model: Model) -> None:
    """The text stops behind the first of them, which stays in it."""
    whole = model("to the ferry", max_new_tokens=NEW, return_full_text=False)
    assert isinstance(whole, list)
    text = str(whole[0]["generated_text"])
    stop = text[3:5]
    told = "".join(model.stream("to the ferry", max_new_tokens=NEW, stop_strings=[stop]))
    assert told == text[: text.index(stop) + len(stop)]


def test_chats_are_answered_with_a_message(model: Model) -> None:
    """The conversation comes back with the assistant's turn; a last one of its own goes on."""
    talk = [{"role": "user", "content": "the ferry?"}]
    (answer,) = model(talk, max_new_tokens=5)  # type: ignore[misc]
    *before, last = answer["generated_text"]
    assert before == talk
    assert last["role"] == "assistant"
    assert last["content"] == "".join(model.stream(talk, max_new_tokens=5))
    begun = [*talk, {"role": "assistant", "content": "It left"}]
    (answer,) = model(begun, max_new_tokens=5)  # type: ignore[misc]
    assert len(answer["generated_text"]) == 2
    assert answer["generated_text"][-1]["content"].startswith("It left")
    assert model([talk, begun], max_new_tokens=5)[1] == [answer]  # type: ignore[index]


@pytest.mark.parametrize(
    ("item", "options", "error"),
    [
        ("x" * CONTEXT, {}, InputMismatch),
        ("a", {"max_new_tokens": CONTEXT}, InputMismatch),
        ("a", {"max_new_tokens": 0}, ConfigError),
        ("a", {"temperature": -0.5}, ConfigError),
        ("a", {"tempreature": 1}, ConfigError),
        ("a", {"return_full_text": 1}, ConfigError),
        (3, {}, InputMismatch),
        (["a", 3], {}, InputMismatch),
        ("\ud800", {}, InputMismatch),
        ([{"role": "user"}, 3], {}, InputMismatch),
    ],
)
def test_wrong_inputs_and_options(
    model: Model, item: object, options: dict[str, object], error: type[EdgekitError]
) -> None:
    """Each is told before anything runs, also by a stream."""
    with pytest.raises(error):
        model(item, **options)  # type: ignore[arg-type]
    with pytest.raises(error):
        model.stream(item, **options)


def test_streams_answer_one(model: Model) -> None:
    """A list of prompts is for a call."""
    with pytest.raises(InputMismatch, match="one input at a time"):
        model.stream(["a", "b"])


def test_model_without_template_or_bos(tmp_path: Path) -> None:
    """Conversations and empty prompts are refused with what to do instead."""
    rules = replace(RULES, chat=None, bos=None)
    with edgekit.load(write_generator(tmp_path / "plain", rules).path) as model:
        with pytest.raises(InputMismatch, match="chat template"):
            model([{"role": "user", "content": "hi"}])
        with pytest.raises(InputMismatch, match="no tokens"):
            model(["a", ""])


def test_closed_model(generator: Path) -> None:
    """Neither a call nor a stream begins on a model that was closed."""
    model = edgekit.load(generator)
    model.close()
    for begin in (model, model.stream):
        with pytest.raises(SessionError, match="closed"):
            begin("a")


@pytest.mark.parametrize("engine", ["onnxruntime", "openvino"])
def test_closing_ends_what_streams(generator: Path, engine: str) -> None:
    """A stream gets no token more, and nothing of the engine is left behind it."""
    model = edgekit.load(generator, engine=engine, threads=1)
    stream = model.stream("to the ferry", max_new_tokens=NEW)
    next(stream)
    decoding = start_decoding(model._session, 1, {})
    model.close()
    with pytest.raises(SessionError, match="closed"):
        next(stream)
    assert list(stream) == []
    with pytest.raises(SessionError, match="closed"):
        decoding.step({})
    # ONNX Runtime's values, and OpenVINO's request.
    assert not getattr(decoding, "_kept", None)
    assert getattr(decoding, "_request", None) is None


def test_more_words_than_one_for_the_end(tmp_path: Path) -> None:
    """Any of several eos tokens ends an answer, and is not told."""
    with edgekit.load(write_generator(tmp_path / "a").path) as model:
        first = tokens(model, "to the ferry", max_new_tokens=NEW)
    rules = replace(RULES, eos=(EOS, first[4]))
    with edgekit.load(write_generator(tmp_path / "b", rules).path) as model:
        assert tokens(model, "to the ferry") == first[: first.index(first[4]) + 1]
