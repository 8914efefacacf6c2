"""Cuts of a model that generates are judged by their perplexity, and by nothing that it has not."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from edgekit.core.errors import ConfigError
from edgekit.core.profiles import load_profile
from edgekit.evaluation.statistics import Budget
from edgekit.pipeline.cuts.goals import Goal
from edgekit.pipeline.cuts.material import read_material
from edgekit.pipeline.cuts.texts import TextShop, check_asked, judge_texts
from edgekit.pipeline.progress import silent
from edgekit.pruning.counting import count
from edgekit.pruning.structures import cut
from edgekit.sources.generation.answers import whole_answers
from edgekit.sources.generation.whole import ANSWER, whole_texts
from edgekit.sources.loaded import LoadedSource
from tests.pruning.generators import (
    alike,
    answering,
    asked,
    generator,
    questions,
    read,
    stories,
)

BUDGET = Budget(0.05, "relative")


@pytest.fixture
def source(tmp_path: Path) -> LoadedSource:
    """A tiny random model that reads whole texts."""
    torch.set_num_threads(1)
    return whole_texts(generator(tmp_path))


def test_perplexity_is_that_of_all_tokens(source: LoadedSource, tmp_path: Path) -> None:
    """Of a model against itself nothing is lost; of another one as much as a hand count finds."""
    rows = read(stories(tmp_path, 40))
    own = judge_texts(source, source, rows, BUDGET, seed=0)
    assert own.verdict == "pass"
    assert own.accuracy.metric == "perplexity"
    assert (own.accuracy.drop, own.accuracy.drop_lower_95, own.accuracy.drop_upper_95) == (0, 0, 0)
    other = cut(source, alike(source, heads=1, ffn=8, layers=(0,)))
    found = judge_texts(source, other, rows, BUDGET, seed=0)
    sums, tokens = [0.0, 0.0], 0
    for row in rows.inputs:
        ids = torch.tensor([source.tokenizer(row["text"])["input_ids"]])  # type: ignore[misc]
        tokens += ids.shape[1] - 1
        for at, one in enumerate((source, other)):
            with torch.inference_mode():
                loss = one.module.model(input_ids=ids, labels=ids, use_cache=False).loss  # type: ignore[operator]
            sums[at] += float(loss) * (ids.shape[1] - 1)
    assert found.accuracy.reference == pytest.approx(np.exp(sums[0] / tokens), rel=1e-4)
    assert found.accuracy.candidate == pytest.approx(np.exp(sums[1] / tokens), rel=1e-4)
    risen = found.accuracy.candidate / found.accuracy.reference - 1
    assert found.accuracy.drop == pytest.approx(risen, rel=1e-6)
    assert found.accuracy.drop_lower_95 <= risen <= found.accuracy.drop_upper_95
    assert f"over {tokens:,} tokens" in found.notes[0]


def test_what_is_no_number_fails(source: LoadedSource, tmp_path: Path) -> None:
    """However wide the budget is."""
    broken = cut(source, alike(source, heads=2, ffn=48, layers=(0, 1, 2)))
    with torch.no_grad():
        next(broken.module.parameters()).fill_(float("nan"))
    found = judge_texts(source, broken, read(stories(tmp_path)), Budget(9.0, "relative"), seed=0)
    assert found.verdict == "fail"
    assert found.problem is not None
    with pytest.raises(ConfigError, match="Of 2 texts to judge by 0 have a second token"):
        path = tmp_path / "short.csv"
        path.write_text("text\na\nb\n")
        judge_texts(source, source, read(path), BUDGET, seed=0)


@pytest.mark.parametrize("answers", [True, False], ids=["DATA", "its own"])
def test_of_answers_it_is_that_of_what_is_answered(answers: bool, tmp_path: Path) -> None:
    """Of those in DATA, or of what the original writes, which is likelier to nobody else."""
    torch.set_num_threads(1)
    source = whole_answers(answering(tmp_path))
    rows = asked(questions(tmp_path, 32, answers=answers))
    own = judge_texts(source, source, rows, BUDGET, seed=0)
    assert own.verdict == "pass"
    assert own.accuracy.drop == 0
    other = cut(source, alike(source, heads=1, ffn=8, layers=(0,)))
    found = judge_texts(source, other, rows, BUDGET, seed=0)
    assert found.accuracy.samples == 32
    if not answers:
        assert found.accuracy.candidate > found.accuracy.reference
        assert found.verdict == "fail"
    whose = "the answers in DATA" if answers else "the original's own answers"
    assert f"the beginnings of {whose}: validate judges" in found.notes[0]


def test_what_cannot_be_asked_of_it_is_told() -> None:
    """Neither a speed, nor a depth that only the accuracy decides, nor another metric."""
    with pytest.raises(ConfigError, match=r"--speedup 1\.5 cannot be aimed at: m generates"):
        check_asked(Goal(None, 1.5, None), None, "m")
    with pytest.raises(ConfigError, match="--max-drop 5% alone does not say how much of m"):
        check_asked(Goal(None, None, BUDGET), None, "m")
    with pytest.raises(ConfigError, match="judged by its perplexity, got --metric accuracy"):
        check_asked(Goal(0.1, None, None), "accuracy", "m")
    check_asked(Goal(0.1, None, BUDGET), "perplexity", "m")
    check_asked(None, None, "m")


def test_its_workload_is_a_text(source: LoadedSource, tmp_path: Path) -> None:
    """Of 128 tokens, or as many as are asked for and it reads; nothing is exported."""
    profile = load_profile("cpu-x86")

    def shop(length: int | None) -> TextShop:
        return TextShop(
            source, profile, tmp_path, batch=2, length=length, threads=1, seed=0, progress=silent
        )

    assert shop(None).workload == {"batch": 2, "length": 128}
    assert shop(7).workload_tensors()["input_ids"].shape == (2, 7)
    assert shop(7).export(source, "pruned") is None
    with pytest.raises(ConfigError, match="--length 1000 is beyond the 256 tokens"):
        shop(1000)


def test_the_workload_of_an_encoder_is_a_text_and_a_first_token(tmp_path: Path) -> None:
    """What the decoder takes for an answer is no matter of the cut."""
    source = whole_answers(answering(tmp_path))
    shop = TextShop(
        source, load_profile("cpu-x86"), tmp_path, batch=1, length=9, threads=1, seed=0,
        progress=silent,
    )  # fmt: skip
    inputs = shop.workload_tensors()
    assert (inputs["input_ids"].shape, inputs[ANSWER].shape) == ((1, 9), (1, 1))
    assert count(source, inputs).flops < count(source).flops


def test_rows_have_their_roles(source: LoadedSource, tmp_path: Path) -> None:
    """What rates and mends, what decides and what judges are different texts."""
    found = read_material(
        source, None, str(stories(tmp_path, 120)), None, seed=0, threads=1, labels_wanted=False,
        progress=silent,
    )  # fmt: skip
    assert found.calibration is not None
    assert found.verdict is not None
    assert found.deciding is not None
    assert len(found.verdict) >= 30
    assert set(found.roles) == {"calibration", "search"}
    assert not set(found.verdict.row_hashes) & {
        one for rows in found.roles.values() for one in rows
    }
    assert len(found.training) >= len(found.calibration)
    with pytest.raises(ConfigError, match="has no rows for"):
        path = tmp_path / "same.csv"
        verdicts = [row["text"] for row in found.verdict.inputs]
        path.write_text("text\n" + "\n".join(map(str, verdicts)) + "\n")
        read_material(
            source, None, str(path), None, seed=0, threads=1, labels_wanted=False, progress=silent
        )
