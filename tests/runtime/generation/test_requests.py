"""Requests to measure with: prompts of a length, texts of somebody's, and what comes of them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from edgekit.core.bundle import open_bundle
from edgekit.core.errors import ConfigError
from edgekit.runtime.contenders import BundleContender, OpenBundle
from edgekit.runtime.engines import find_engine
from edgekit.runtime.generation.answering import FIRST, GAPS, TOKENS
from edgekit.runtime.generation.requests import (
    TextRequests,
    asked_workloads,
    described,
    request_workloads,
)
from edgekit.runtime.generation.speech.options import plain_prompt
from edgekit.runtime.generation.speech.rules import SpeechRules
from edgekit.runtime.tokens import Request
from edgekit.runtime.worker import Compared
from edgekit.runtime.workloads import load_workloads, save_workloads
from tests.runtime.conftest import linear_graph, write_bundle
from tests.runtime.generation.conftest import CONTEXT, EOS, PAD, RULES, write_generator

NEW = 24


def test_prompts_have_exactly_the_length(generator: Path) -> None:
    """Every batch with every length; each row begins at another word, and none is padded."""
    made = request_workloads(
        open_bundle(generator), batches=(1, 3), lengths=(5, 40, 5), new_tokens=7
    )
    assert [(one.batch, one.length, one.new_tokens) for one in made] == [
        (1, 5, 7), (1, 40, 7), (3, 5, 7), (3, 40, 7),
    ]  # fmt: skip
    ids, mask = (made[3].feeds[name] for name in ("input_ids", "attention_mask"))
    assert ids.shape == mask.shape == (3, 40)
    assert mask.all()
    assert len({row.tobytes() for row in ids}) == 3
    assert described(made[1]) == {"batch": 1, "length": 40, "new_tokens": 7}
    assert made[1].texts is None


def test_defaults_fit_the_context(generator: Path, tmp_path: Path) -> None:
    """Half of a short one is for the prompt; 128 tokens where there is room, then 32 new ones."""
    (short,) = asked_workloads(open_bundle(generator))
    assert (short.length, short.new_tokens) == (CONTEXT - 32, 32)
    endless = write_generator(tmp_path / "endless", replace(RULES, context=None))
    (long,) = asked_workloads(endless)
    assert (long.length, long.new_tokens) == (128, 32)


@pytest.mark.parametrize(
    ("options", "fact"),
    [
        ({"lengths": (90,), "new_tokens": 7}, "97 tokens; the context"),
        ({"lengths": (0,)}, "at least"),
        ({"new_tokens": CONTEXT}, "--max-new-tokens is 96"),
        ({"new_tokens": 0}, "should be at least 1"),
        ({"batches": (0,)}, "--batch"),
    ],
)
def test_what_does_not_fit_is_refused(
    generator: Path, options: dict[str, object], fact: str
) -> None:
    """With the numbers and what would fit."""
    with pytest.raises(ConfigError, match=fact) as caught:
        request_workloads(open_bundle(generator), **options)  # type: ignore[arg-type]
    assert caught.value.hint or "--batch" in fact


def test_models_that_generate_nothing_have_no_new_tokens(tmp_path: Path) -> None:
    """Their inferences are measured as ever."""
    bundle = write_bundle(tmp_path / "linear", linear_graph(), task="custom")
    with pytest.raises(ConfigError, match="generates nothing"):
        asked_workloads(bundle, new_tokens=3)
    (made,) = asked_workloads(bundle)
    assert made.new_tokens is None
    assert described(made) == {"batch": 1, "length": None}


def test_texts_are_padded_on_the_left_and_cut(generator: Path) -> None:
    """To what leaves room for the answer; what does not fill a batch is left out."""
    prompts = TextRequests(open_bundle(generator), NEW)
    made = prompts.of_texts(2, ["ab", "abcd", "x" * 200, "y", "z"])
    assert (made.length, made.new_tokens, len(made.variants)) == ("data", NEW, 2)
    first, second = made.variants
    assert first["attention_mask"].tolist() == [[0, 0, 1, 1], [1, 1, 1, 1]]
    assert first["input_ids"][0, :2].tolist() == [PAD, PAD]
    assert second["input_ids"].shape == (2, CONTEXT - NEW)
    with pytest.raises(ConfigError, match="fewer than a batch"):
        prompts.of_texts(2, ["a", ""])


def test_children_read_how_long_an_answer_is(generator: Path, tmp_path: Path) -> None:
    """It is saved with the prompts."""
    made = request_workloads(open_bundle(generator), lengths=(5,), new_tokens=7)
    save_workloads(made, tmp_path / "w")
    (read,) = load_workloads(tmp_path / "w")
    assert (read.batch, read.length, read.new_tokens) == (1, 5, 7)


@pytest.fixture(scope="module", params=["onnxruntime", "openvino"])
def opened(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[OpenBundle]:
    """The tiny decoder under measurement, on both engines."""
    folder = tmp_path_factory.mktemp("requests") / "tiny"
    exact = find_engine(request.param).EXACT_OPTIONS
    bundle = write_generator(folder, engine=request.param, options=exact)
    made = BundleContender(bundle.path, 1).open()
    assert isinstance(made, OpenBundle)
    yield made
    made.model.close()


def test_a_request_is_answered_as_a_prompt_is(opened: OpenBundle) -> None:
    """By the runtime's own loop, with the end put off; when each token came is noted."""
    predictor = opened.model.predictor
    texts = ["to the ferry", "Grüße", "a"]
    workload = TextRequests(opened.model.bundle, NEW).of_texts(3, texts)
    request = opened.start(workload)
    assert isinstance(request, Request)
    found = request()
    (marks,) = request.taken()
    assert len(marks) == 1 + NEW
    assert marks == sorted(marks)
    expected = [
        predictor.tokens(text, max_new_tokens=NEW, min_new_tokens=NEW)  # type: ignore[attr-defined]
        for text in texts
    ]
    assert found[TOKENS].tolist() == expected
    assert EOS not in found[TOKENS]
    assert found[FIRST].shape == (3, 260)
    assert found[FIRST].dtype == np.float32
    assert opened.facts()["effective_precision"] == "fp32"


def test_what_is_compared_tells_how_sure_each_token_was(opened: OpenBundle) -> None:
    """As many tokens as were asked for, and the gap to the next best."""
    (workload,) = request_workloads(opened.model.bundle, batches=(2,), lengths=(9,), new_tokens=3)
    assert isinstance(opened, Compared)
    found = opened.answer(workload)
    assert found[TOKENS].shape == found[GAPS].shape == (2, 3)
    assert (found[GAPS] > 0).all()
    # The first token is the best but for the end, which may not come yet.
    scores = np.array(found[FIRST])
    scores[:, EOS] = -np.inf
    assert scores.argmax(axis=1).tolist() == found[TOKENS][:, 0].tolist()
    best = np.sort(scores, axis=1)
    assert found[GAPS][:, 0] == pytest.approx(best[:, -1] - best[:, -2])


def test_the_cache_stays_in_the_engine_while_it_is_timed(opened: OpenBundle) -> None:
    """A clock around a session must not hide what the engine keeps by itself."""
    assert opened.watch.decoding is not None


@pytest.mark.parametrize(
    ("given", "prompt"),
    [
        ({"english_only": True, "without_times": 9}, (1, 9)),
        ({"languages": {"de": 3, "en": 4}}, (1, 4, 5)),
        ({"languages": {"de": 3, "fr": 4}}, (1, 3, 5)),
        ({"languages": {"de": 3, "en": 4}, "language": "de"}, (1, 3, 5)),
        ({"languages": {"en": 4}, "forced": (None, 5), "without_times": 9}, (1, 4, 5, 9)),
        ({"tasks": {}}, (1,)),
    ],
)
def test_no_language_is_left_to_be_found(given: dict[str, object], prompt: tuple[int, ...]) -> None:
    """Another step would be part of what is measured; marks of time are not asked for."""
    given = {"tasks": {"transcribe": 5}, **given}
    rules = SpeechRules(start=1, window=100, stride=2, precision=0.02, **given)  # type: ignore[arg-type]
    assert plain_prompt(rules) == prompt
