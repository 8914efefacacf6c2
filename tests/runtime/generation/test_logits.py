"""The rules on scores, beside transformers' own processors."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from transformers.generation import logits_process as theirs

from edgekit.core.errors import BundleCorrupt
from edgekit.runtime.generation.logits import (
    Place,
    apply,
    candidates,
    draw,
    log_chances,
    make_rules,
)
from edgekit.runtime.generation.options import Options
from tests.runtime.generation.conftest import RULES

SIZE = 40
EOS = (3, 7)
BASE = replace(RULES, eos=EOS)


def scores(seed: int = 0) -> np.ndarray:
    """Random scores of a small vocabulary."""
    return (np.random.default_rng(seed).standard_normal(SIZE) * 3).astype(np.float32)


def told(processors: list[object], tokens: list[int], found: np.ndarray) -> np.ndarray:
    """What transformers' processors make of the scores."""
    ids, made = torch.tensor([tokens]), torch.tensor(found)[None]
    for processor in processors:
        made = processor(ids, made)  # type: ignore[operator]
    return made[0].numpy()


CASES = {
    "repetition": (
        Options(repetition_penalty=1.3), {}, [theirs.RepetitionPenaltyLogitsProcessor(1.3)]
    ),
    "no_repeat": (Options(no_repeat_ngram_size=2), {}, [theirs.NoRepeatNGramLogitsProcessor(2)]),
    "min_length": (
        Options(min_length=9), {}, [theirs.MinLengthLogitsProcessor(9, list(EOS))]
    ),
    "min_new": (
        Options(min_new_tokens=4), {},
        [theirs.MinNewTokensLengthLogitsProcessor(4, 4, list(EOS))],
    ),
    "bad_words": (
        Options(), {"bad_words": ((5,), (1, 2), (9, 1, 30), (3,))},
        [theirs.NoBadWordsLogitsProcessor([[5], [1, 2], [9, 1, 30], [3]], list(EOS))],
    ),
    "forced_eos": (Options(), {"forced_eos": 7}, [theirs.ForcedEOSTokenLogitsProcessor(10, 7)]),
    "suppress": (
        Options(), {"suppress": (1, 2)}, [theirs.SuppressTokensLogitsProcessor([1, 2])]
    ),
    "begin_suppress": (
        Options(), {"begin_suppress": (1, 4)},
        [theirs.SuppressTokensAtBeginLogitsProcessor([1, 4], 4)],
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("new", [0, 1, 3, 5])
def test_rules_are_those_of_transformers(name: str, new: int) -> None:
    """At the beginning, in the middle and at the end of an answer."""
    options, changes, processors = CASES[name]
    tokens = [1, 9, 1, 2, 9, 1, 2, 1, 1][: 4 + new]
    rules = make_rules(options, replace(BASE, **changes), Place(4, 10))  # type: ignore[arg-type]
    found = scores()
    expected = told(processors, tokens, found)
    apply(rules, tokens, found)
    np.testing.assert_array_equal(found, expected)


def test_first_token_of_a_translation_is_forced() -> None:
    """Behind the start token, and nowhere else."""
    rules = make_rules(Options(), replace(BASE, forced_bos=11), Place(1, 10))
    for tokens in ([2], [2, 11]):
        found = scores()
        expected = told([theirs.ForcedBOSTokenLogitsProcessor(11)], tokens, found)
        apply(rules, tokens, found)
        np.testing.assert_array_equal(found, expected)


def test_no_run_of_the_encoders_tokens() -> None:
    """encoder_no_repeat_ngram_size looks at what was read, not at what was answered."""
    rules = make_rules(
        Options(encoder_no_repeat_ngram_size=2), BASE, Place(1, 10), source=[8, 5, 8, 6]
    )
    found = scores()
    processor = theirs.EncoderNoRepeatNGramLogitsProcessor(2, torch.tensor([[8, 5, 8, 6]]))
    expected = told([processor], [1, 8], found)
    apply(rules, [1, 8], found)
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize(
    "options",
    [
        Options(temperature=0.6),
        Options(top_k=5),
        Options(top_p=0.8),
        Options(top_p=0.01),
        Options(min_p=0.1),
        Options(temperature=1.7, top_k=20, top_p=0.9, min_p=0.05),
    ],
)
def test_what_may_be_drawn_is_what_transformers_draws_from(options: Options) -> None:
    """The chances of every token, with any of the limits and all of them."""
    warpers: list[object] = []
    if options.temperature != 1.0:
        warpers.append(theirs.TemperatureLogitsWarper(options.temperature))
    if options.top_k:
        warpers.append(theirs.TopKLogitsWarper(options.top_k))
    if options.top_p < 1.0:
        warpers.append(theirs.TopPLogitsWarper(options.top_p))
    if options.min_p:
        warpers.append(theirs.MinPLogitsWarper(options.min_p))
    for seed in range(20):
        found = scores(seed)
        expected = torch.softmax(torch.tensor(told(warpers, [1], found)), -1).numpy()
        ids, chances = candidates(found, options)
        made = np.zeros(SIZE)
        made[ids] = chances
        np.testing.assert_allclose(made, expected, atol=1e-6)


def test_draws_follow_the_chances() -> None:
    """Of 20,000 draws every token comes as often as it should, within four standard errors."""
    options = Options(do_sample=True, temperature=1.5, top_k=10)
    found, count = scores(), 20_000
    random = np.random.default_rng(1)
    drawn = np.bincount([draw(found, options, random) for _ in range(count)], minlength=SIZE)
    ids, chances = candidates(found, options)
    assert not drawn[np.setdiff1d(np.arange(SIZE), ids)].any()
    error = np.sqrt(chances * (1 - chances) / count)
    assert (np.abs(drawn[ids] / count - chances) < 4 * error).all()


def test_log_chances() -> None:
    """They are torch's log_softmax, also with impossible tokens."""
    found = scores().reshape(2, -1)
    found[0, 3] = -np.inf
    expected = torch.log_softmax(torch.tensor(found), -1).numpy()
    np.testing.assert_allclose(log_chances(found), expected, atol=1e-5)


def test_token_beyond_the_vocabulary() -> None:
    """A manifest whose tokens are not the decoder's is corrupt."""
    rules = make_rules(Options(), replace(BASE, suppress=(SIZE,)), Place(1, 10))
    with pytest.raises(BundleCorrupt, match="40"):
        apply(rules, [1], scores())
