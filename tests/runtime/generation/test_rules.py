"""The manifest's ``generation``, written and read back."""

from __future__ import annotations

from dataclasses import replace

import pytest

from edgekit.core.errors import BundleCorrupt, BundleVersion
from edgekit.runtime.generation.rules import Chat, GenerationRules

FULL = GenerationRules(
    mode="seq2seq", layers=3, context=None, eos=(1, 2), pad=0, encoder_context=512, bos=4,
    start=(5,), forced_bos=6, forced_eos=7, suppress=(8,), begin_suppress=(9, 10),
    bad_words=((11,), (12, 13)), defaults={"num_beams": 4, "early_stopping": "never"},
    chat=Chat("{{ messages }}", {"eos_token": "</s>"}), task="translation", prefix="to German: ",
    cleanup=True,
)  # fmt: skip
SMALL = {"mode": "decoder", "layers": 2, "context": 64, "eos": [1], "pad": 0}


@pytest.mark.parametrize(
    "rules",
    [
        FULL,
        GenerationRules("decoder", 1, 8, (), 0),
        GenerationRules("speech", 1, 8, (), 0, speech={"a": 1}),
    ],
)
def test_rules_come_back_as_they_were_written(rules: GenerationRules) -> None:
    """Reading a document gives the rules that it was made of."""
    assert GenerationRules.read(rules.document()) == rules


@pytest.mark.parametrize(
    "changes",
    [
        {"fancy": 1},
        {"mode": "diffusion"},
        {"task": "poetry", "mode": "seq2seq", "start": [1]},
        {"defaults": {"penalty_alpha": 0.5}},
        {"defaults": {"early_stopping": "soon"}},
        {"chat": {"template": "", "tools": []}},
    ],
)
def test_what_is_not_known_is_of_another_version(changes: dict[str, object]) -> None:
    """A key or a word that may change answers is refused, not ignored."""
    with pytest.raises(BundleVersion):
        GenerationRules.read({**SMALL, **changes})


@pytest.mark.parametrize(
    "changes",
    [
        {"layers": 0},
        {"layers": True},
        {"context": -1},
        {"eos": 1},
        {"eos": ["a"]},
        {"pad": None},
        {"bad_words": [[]]},
        {"defaults": {"do_sample": "yes"}},
        {"defaults": {"temperature": float("inf")}},
        {"defaults": []},
        {"chat": {"template": 1}},
        {"prefix": 3},
        {"cleanup": 1},
        {"mode": "seq2seq"},
        {"mode": "speech"},
        {"speech": {}},
    ],
)
def test_wrong_values_are_corrupt(changes: dict[str, object]) -> None:
    """A value of another kind is refused with its name."""
    with pytest.raises(BundleCorrupt, match="generation"):
        GenerationRules.read({**SMALL, **changes})


def test_token_0_is_one_like_any_other() -> None:
    """It begins and ends texts of some vocabularies, and is no answer to "none"."""
    rules = replace(FULL, bos=0, forced_bos=0, forced_eos=0, start=(0,))
    written = rules.document()
    assert (written["bos"], written["forced_bos"], written["forced_eos"]) == (0, 0, 0)
    assert GenerationRules.read(written) == rules


def test_what_is_as_usual_is_not_written() -> None:
    """A decoder's document says what must be said."""
    assert GenerationRules.read(SMALL).document() == SMALL
