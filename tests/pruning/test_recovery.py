"""Recovery: the loss falls, the best stays, an interruption costs nothing."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from edgekit.core import cpu
from edgekit.core.errors import PruneError
from edgekit.pruning import recovery
from edgekit.pruning.checkpoints import Checkpoint
from edgekit.pruning.distances import Answers, Quality, answers_of
from edgekit.pruning.feeding import Batch
from edgekit.pruning.mixing import Mixer
from edgekit.pruning.recovery import recover
from edgekit.pruning.structures import cut, layer_modules
from edgekit.pruning.teaching import Teacher
from edgekit.sources.loaded import LoadedSource
from edgekit.sources.opening import open_source
from edgekit.sources.pruned.cutting import whole_plan
from edgekit.sources.pruned.plan import Plan

STEPS = 40


@pytest.fixture
def source(classifier_source: Path) -> LoadedSource:
    """The small random classifier."""
    torch.set_num_threads(1)
    return open_source(str(classifier_source))


def narrow(source: LoadedSource) -> tuple[Plan, LoadedSource]:
    """The classifier with a part of its neurons gone."""
    whole = whole_plan(source)
    rows = tuple(replace(row, kept_ffn=tuple(range(8))) for row in whole.layers)
    plan = replace(whole, layers=rows, structures=("ffn",))
    return plan, cut(source, plan)


def texts(source: LoadedSource, seed: int, count: int = 6) -> list[Batch]:
    """Batches of random tokens."""
    generator = torch.Generator().manual_seed(seed)
    made: list[Batch] = []
    for _ in range(count):
        ids = torch.randint(5, 400, (8, 12), generator=generator)
        inputs = {name: torch.zeros_like(ids) for name in source.sample_inputs}
        inputs["input_ids"] = ids
        inputs["attention_mask"] = torch.ones_like(ids)
        made.append(Batch(inputs, None))
    return made


def pairs(source: LoadedSource, made: LoadedSource) -> list[tuple[nn.Module, nn.Module]]:
    """The layers of both, side by side."""
    return list(zip(layer_modules(source), layer_modules(made), strict=True))


def state(made: LoadedSource) -> dict[str, Tensor]:
    """A copy of its weights."""
    return {name: value.clone() for name, value in made.module.state_dict().items()}


def held(source: LoadedSource) -> Answers:
    """Answers to rows that nothing is fitted to."""
    return answers_of(source, texts(source, 9, 2))


def test_the_model_comes_nearer_to_the_original(
    source: LoadedSource, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On rows that it has not learnt from; the original stays as it is, and so does eval mode."""
    monkeypatch.setattr(recovery, "_RATES", {"huggingface": 2e-3})
    before = state(source)
    _, made = narrow(source)
    told: list[str] = []
    found = recover(
        source, made, pairs(source, made), texts(source, 1), held(source),
        steps=STEPS, seed=0, progress=told.append,
    )  # fmt: skip
    assert found.after.loss < 0.7 * found.before.loss
    assert held(source).judge(made).loss == pytest.approx(found.after.loss, rel=1e-5)
    assert all(
        torch.equal(value, before[name]) for name, value in source.module.state_dict().items()
    )
    assert not made.module.training
    assert not any(one.requires_grad for one in made.module.parameters())
    assert any("loss" in line and "agreement" in line for line in told)


def test_same_seed_same_weights(source: LoadedSource) -> None:
    """What is learnt follows from the seed."""
    found: list[dict[str, Tensor]] = []
    for _ in range(2):
        _, made = narrow(source)
        recover(source, made, [], texts(source, 1), held(source), steps=6, seed=3)
        found.append(state(made))
    assert all(torch.equal(value, found[1][name]) for name, value in found[0].items())


def test_an_interrupted_run_goes_on_as_if_it_had_not_been(
    source: LoadedSource, tmp_path: Path
) -> None:
    """With the checkpoint the second half ends where an unbroken run does."""
    plan, whole = narrow(source)
    unbroken = recover(source, whole, [], texts(source, 1), held(source), steps=STEPS, seed=0)
    checkpoint = Checkpoint(tmp_path / "recovery-1")
    checkpoint.begin(plan, {"predicted": 1.5})
    assert checkpoint.begun() is None
    _, made = narrow(source)
    with pytest.raises(KeyboardInterrupt):
        recover(
            source, made, [], texts(source, 1), held(source), steps=STEPS, seed=0,
            checkpoint=checkpoint, progress=_stop_at(STEPS // 2),
        )  # fmt: skip
    begun = checkpoint.begun()
    assert begun == (plan, {"predicted": 1.5})
    again = cut(source, begun[0])
    found = recover(
        source, again, [], texts(source, 1), held(source), steps=STEPS, seed=0,
        checkpoint=checkpoint,
    )  # fmt: skip
    assert found.steps == unbroken.steps
    ours, theirs = state(again), state(whole)
    assert all(torch.allclose(value, theirs[name], atol=1e-6) for name, value in ours.items())
    checkpoint.forget()
    assert checkpoint.begun() is None


def test_an_interruption_leaves_the_best_so_far(source: LoadedSource) -> None:
    """The module holds what was best, for whoever keeps it."""
    _, made = narrow(source)
    before = held(source).judge(made).loss
    with pytest.raises(KeyboardInterrupt):
        recover(
            source, made, [], texts(source, 1), held(source), steps=STEPS, seed=0,
            progress=_stop_at(STEPS // 2),
        )  # fmt: skip
    assert held(source).judge(made).loss < before


def test_a_loss_that_is_no_number_ends_it_with_the_last_good_state(
    source: LoadedSource, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A rate that is far too high is told, and what was best before is kept."""
    monkeypatch.setattr(recovery, "_RATES", {"huggingface": 1e30})
    _, made = narrow(source)
    before = state(made)
    found = recover(source, made, [], texts(source, 1), held(source), steps=STEPS, seed=0)
    assert found.stopped is not None
    assert "became" in found.stopped
    assert found.best_step == 0
    assert all(torch.equal(value, before[name]) for name, value in state(made).items())


def test_a_model_that_answers_nan_is_refused(source: LoadedSource) -> None:
    """There is nothing to recover."""
    _, made = narrow(source)
    with torch.no_grad():
        next(made.module.parameters()).fill_(float("nan"))
    with pytest.raises(PruneError, match="nothing to recover"):
        recover(source, made, [], texts(source, 1), held(source), steps=2, seed=0)


def test_it_ends_when_nothing_more_is_gained(source: LoadedSource) -> None:
    """A model that is its original has nothing to learn."""
    made = cut(source, whole_plan(source))
    found = recover(source, made, [], texts(source, 1), held(source), steps=STEPS, seed=0)
    assert found.stopped is not None
    assert found.best_step == 0
    assert found.steps < STEPS


def test_a_damaged_checkpoint_is_as_none(tmp_path: Path, source: LoadedSource) -> None:
    """A file that was cut short costs the resuming, and nothing else."""
    plan, _ = narrow(source)
    checkpoint = Checkpoint(tmp_path / "recovery-1")
    checkpoint.begin(plan, {})
    (checkpoint.folder / "state.pt").write_bytes(b"PK")
    assert checkpoint.state() is None
    (checkpoint.folder / "facts.json").write_text("{")
    assert checkpoint.begun() is None


def _stop_at(step: int) -> Callable[[str], None]:
    """Ctrl-C at the first look from a step on."""

    def progress(text: str) -> None:
        words = text.split()
        if "step" in words and int(words[words.index("step") + 1]) >= step:
            raise KeyboardInterrupt

    return progress


def test_embeddings_stay_as_they_are(source: LoadedSource) -> None:
    """A few texts say nothing of the words that are not in them."""
    _, made = narrow(source)
    before = state(made)
    recover(source, made, [], texts(source, 1), held(source), steps=12, seed=0)
    after = state(made)
    tables = {name for name in before if "embeddings.weight" in name or "_embeddings." in name}
    assert tables
    changed = {name for name, value in after.items() if not torch.equal(value, before[name])}
    assert changed
    assert not changed & tables


def test_a_look_judges_the_average_and_gives_the_weights_back(source: LoadedSource) -> None:
    """What is kept is not where the weights have swung to, and they go on from there."""
    _, made = narrow(source)
    seen: list[dict[str, Tensor]] = []
    answers = held(source)

    class Watching(Answers):
        """Answers that note what they were compared with."""

        def judge(self, pruned: LoadedSource) -> Quality:
            seen.append(state(pruned))
            return answers.judge(pruned)

    watching = Watching(answers.original, answers.batches, answers.outputs)
    trainer = recovery._Trainer(source, made, [], texts(source, 1), watching, 40, 0)
    with recovery._training(made.module, trainer._parameters):
        for _ in range(6):
            trainer._learn()
    weights = state(made)
    with pytest.raises(KeyboardInterrupt), trainer._averaged():
        watching.judge(made)
        raise KeyboardInterrupt
    assert any(not torch.equal(value, weights[name]) for name, value in seen[-1].items())
    assert all(torch.equal(value, weights[name]) for name, value in state(made).items())


def test_three_batches_in_four_are_made(
    source: LoadedSource, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The fourth is as it came, and its answer from the original is kept."""
    made: list[int] = []
    real = Mixer.made

    def counted(self: Mixer, place: int, generator: torch.Generator) -> Batch:
        made.append(place)
        return real(self, place, generator)

    monkeypatch.setattr(Mixer, "made", counted)
    _, narrowed = narrow(source)
    recover(source, narrowed, [], texts(source, 1), held(source), steps=16, seed=0)
    assert len(made) == 12


def test_a_buffer_of_infinities_is_left_alone(source: LoadedSource) -> None:
    """Masks of a module of one's own are no weights, and no part of their average."""
    _, made = narrow(source)
    made.module.register_buffer("mask", torch.full((2, 2), float("-inf")))
    found = recover(source, made, [], texts(source, 1), held(source), steps=12, seed=0)
    assert found.stopped is None
    assert torch.isinf(state(made)["mask"]).all()


@pytest.mark.parametrize("features", [frozenset(), frozenset({"avx512_bf16"})])
def test_a_transformer_learns_in_what_the_processor_multiplies(
    source: LoadedSource, monkeypatch: pytest.MonkeyPatch, features: frozenset[str]
) -> None:
    """In bfloat16 or float32; its answers are in float32, and a module of one's own never mixes."""
    monkeypatch.setattr(cpu, "cpu_features", lambda: features)
    (batch, *_) = texts(source, 1)
    outputs, hidden = Teacher(source, layer_modules(source)).answer(batch.inputs)
    assert {one.dtype for one in (*outputs.values(), *hidden)} == {torch.float32}
    exact = dict(source.module(**batch.inputs))["logits"]
    assert torch.equal(outputs["logits"], exact) == (not features)
    with Teacher(replace(source, kind="module"), []).half():
        assert torch.mm(torch.ones(1, 1), torch.ones(1, 1)).dtype == torch.float32
