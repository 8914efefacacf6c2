"""The perplexity of a decoder and of its original, on both engines."""

from __future__ import annotations

import math
import random
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import special

from edgekit.core.errors import ConfigError, InputMismatch
from edgekit.evaluation.accuracy import Evaluation, evaluate
from edgekit.evaluation.generation.likelihoods import run_likelihoods
from edgekit.evaluation.generation.original import Original
from edgekit.evaluation.generation.readers import BundleReader
from edgekit.runtime import load
from edgekit.runtime.caches import cache_pairs, empty_cache
from edgekit.runtime.model import Model
from edgekit.sources.data import Samples
from tests.evaluation.generation.conftest import samples_of, twin_source
from tests.runtime.generation.conftest import CONTEXT

ENGINES = ("onnxruntime", "openvino")
WORDS = [
    "the",
    "ferry",
    "leaves",
    "at",
    "seven",
    "and",
    "the",
    "river",
    "is",
    "wide;",
    "Grüße",
    "東京",
]


def texts(count: int = 24, longest: int = 14, seed: int = 0) -> Samples:
    """Sentences of a few words and of many, none beyond the context."""
    draw = random.Random(seed)
    made = [" ".join(draw.choices(WORDS, k=draw.randint(1, longest))) for _ in range(count)]
    return samples_of("text-generation", "text", [_cut(text) for text in made])


def _cut(text: str) -> str:
    """Bytes are tokens here."""
    return text.encode()[: CONTEXT - 6].decode(errors="ignore")


def by_hand(model: Model, tokens: list[int]) -> float:
    """The negative log-likelihood of a whole row by one run of the graph, without any cache."""
    component = model.manifest.components["model"]
    feeds: dict[str, Any] = {
        "input_ids": np.array([tokens], np.int64),
        "attention_mask": np.ones((1, len(tokens)), np.int64),
        "position_ids": np.arange(len(tokens), dtype=np.int64)[None],
    }
    for spec, _ in cache_pairs(component.inputs, component.outputs):
        feeds[spec.name] = empty_cache(spec, 1)
    chances = special.log_softmax(model.run(feeds)["logits"][0].astype(np.float64), axis=-1)
    return -float(sum(chances[place, token] for place, token in enumerate(tokens[1:])))


@pytest.mark.parametrize("engine", ENGINES)
def test_the_perplexity_is_that_of_whole_texts(
    engine: str, decoder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In padded batches, some places at a time: what one run of each text says, to 5 digits."""
    # Smaller parts than the texts are long, so that the cache goes on.
    monkeypatch.setattr(BundleReader, "places", lambda self, rows: 7)
    samples = texts()
    with load(decoder, engine=engine, threads=1) as model:
        tokenizer = model.predictor.tokenizer  # type: ignore[attr-defined]
        rows = [tokenizer.encode(str(row["text"])).ids for row in samples.inputs]
        expected = [by_hand(model, row) for row in rows]
        pairs = run_likelihoods(model, Original(twin_source(decoder)), samples, notes=[])
        # A twin whose numbers are the very same would leave nothing to draw from.
        found = evaluate(model, twin_source(decoder, heat=1 + 1e-6), samples)
    for side in (pairs.reference, pairs.candidate):
        for prediction, surprise, row in zip(side, expected, rows, strict=True):
            ours = np.asarray(prediction, dtype=np.float64)
            assert -ours[0] == pytest.approx(surprise, rel=1e-5)
            assert ours[1] == len(row) - 1
    perplexity = math.exp(sum(expected) / sum(len(row) - 1 for row in rows))
    assert found.accuracy.metric == "perplexity"
    assert found.accuracy.candidate == pytest.approx(perplexity, rel=1e-5)
    assert found.accuracy.reference == pytest.approx(perplexity, rel=1e-3)
    assert found.verdict == "pass"
    logits = found.numerics["logits"]
    assert logits.argmax_agreement == 1
    assert logits.kl == pytest.approx(0, abs=1e-6)
    assert not found.notes


def judged(decoder: Path, samples: Samples, **changes: Any) -> Evaluation:
    """The bundle against a twin that may differ."""
    with load(decoder, threads=1) as model:
        return evaluate(model, twin_source(decoder, **changes), samples)


def test_a_rise_of_the_perplexity_is_a_drop(decoder: Path) -> None:
    """Against an original that foretells better; and the other way round it is a gain."""
    samples = texts(60)
    worse = judged(decoder, samples, heat=1.5)
    assert worse.accuracy.candidate > worse.accuracy.reference
    assert worse.verdict == "fail"
    expected = worse.accuracy.candidate / worse.accuracy.reference - 1
    assert worse.accuracy.drop == pytest.approx(expected)
    better = judged(decoder, samples, heat=0.8)
    assert better.accuracy.drop < 0
    assert better.verdict == "pass"


def test_the_worst_texts_are_those_whose_likelihood_moves_most(decoder: Path) -> None:
    """Per token, with what both come to in words."""
    samples = texts(30)
    found = judged(decoder, samples, heat=1.5)
    distances = [sample.distance for sample in found.worst]
    assert distances == sorted(distances, reverse=True)
    first = found.worst[0]
    assert first.input == samples.inputs[first.row - 1]["text"]
    assert first.reference.startswith("perplexity ")
    assert first.reference.endswith(f"{len(first.input.encode()) - 1} tokens")
    assert not first.changed


def test_texts_beyond_the_context_are_read_in_windows(decoder: Path) -> None:
    """Every token but the first counts once, with half a context before it."""
    long = "the river is wide and deep, and the ferry is late again. " * 5
    samples = samples_of("text-generation", "text", [long, "a short one", long[:CONTEXT]])
    notes: list[str] = []
    with load(decoder, threads=1) as model:
        pairs = run_likelihoods(model, Original(twin_source(decoder)), samples, notes=notes)
        ids = list(long.encode())
        tokenizer = model.predictor.tokenizer  # type: ignore[attr-defined]
        ids = tokenizer.encode(long).ids
        half = CONTEXT // 2
        expected = by_hand(model, ids[:CONTEXT])
        for start in range(half, len(ids), half):
            if start + half >= len(ids):
                break
            window = ids[start : start + CONTEXT]
            expected += by_hand(model, window) - by_hand(model, window[:half])
            # Of the half that was scored before, the last token foretells the first new one.
    found = np.asarray(pairs.candidate[0], dtype=np.float64)
    assert found[1] == len(ids) - 1
    assert -found[0] == pytest.approx(expected, rel=1e-5)
    assert np.asarray(pairs.candidate[2])[1] == CONTEXT - 1
    assert notes == [
        f"1 text is read in windows of {CONTEXT} tokens, each half a window behind the one before."
    ]


def test_texts_without_a_second_token_count_for_nothing(decoder: Path) -> None:
    """They are told, and change no figure; where all are such there is nothing to judge."""
    some = texts(20)
    more = samples_of(
        "text-generation", "text", [*(str(row["text"]) for row in some.inputs), "", "x"]
    )
    with_empty, without = judged(decoder, more), judged(decoder, some)
    assert with_empty.accuracy.candidate == pytest.approx(without.accuracy.candidate)
    assert with_empty.notes == (
        "Of 22 texts 2 have no second token that could be foretold: nothing of them counts.",
    )
    with pytest.raises(ConfigError, match="Of 2 texts 0 have two tokens"):
        judged(decoder, samples_of("text-generation", "text", ["", "y"]))


def test_both_read_the_bundles_tokens(decoder: Path) -> None:
    """Where transformers would make others of a text it is told."""

    class Shouting:
        """A tokenizer that knows capitals alone."""

        def __call__(self, text: str) -> dict[str, list[int]]:
            return {"input_ids": [*text.upper().encode()]}

    found = judged(decoder, texts(12), tokenizer=Shouting())
    assert found.accuracy.drop == 0
    assert found.notes[0].startswith("12 of 12 texts have other tokens in transformers")


def test_nan_is_a_failure(decoder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever the metric makes of it."""
    whole = BundleReader.every

    def broken(self: BundleReader, rows: Any, most: int) -> Any:
        for places, logits in whole(self, rows, most):
            yield places, np.full_like(logits, np.nan)

    monkeypatch.setattr(BundleReader, "every", broken)
    found = judged(decoder, texts(30))
    assert found.verdict == "fail"
    assert "NaN or infinities on 30 of 30" in str(found.problem)


def test_a_reference_that_does_not_generate_is_refused(decoder: Path) -> None:
    """A module of one's own has no checkpoint inside."""
    with pytest.raises(ConfigError, match="no checkpoint that generates"):
        judged(decoder, texts(3), feeder=None)


def test_texts_that_a_model_refuses_are_named(decoder: Path) -> None:
    """By their rows of DATA, which are read together."""
    samples = samples_of("text-generation", "text", ["the river", "the ferry"])
    samples = replace(samples, rows=(4, 9))
    source = twin_source(decoder)
    source.module.model.forward = _refuse
    told = "One of the rows 4, 9 of DATA cannot be judged: The reference twin does not read 2 rows"
    with load(decoder, threads=1) as model, pytest.raises(InputMismatch, match=told):
        evaluate(model, source, samples)


def _refuse(**tensors: Any) -> Any:
    raise RuntimeError("index out of range")
