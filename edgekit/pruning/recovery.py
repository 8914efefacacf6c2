"""Recovery: the pruned model learns to answer as the original does, from inputs alone.

Distillation of outputs (Hinton et al. 2015, arXiv 1503.02531) and of what the layers that are left
hand on (as in TinyBERT, Jiao et al. 2020, arXiv 1909.10351): no labels are needed. What is kept is
the average of the weights along the way (Polyak and Juditsky 1992), which swings less than they do.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from edgekit.core.errors import PruneError
from edgekit.evaluation.counting import Counted
from edgekit.pruning.checkpoints import Checkpoint, State
from edgekit.pruning.distances import Answers, Quality, loss_of, relative_error
from edgekit.pruning.mixing import Mixer
from edgekit.pruning.teaching import Teacher, watched, wide

if TYPE_CHECKING:
    from edgekit.pruning.feeding import Batch
    from edgekit.sources.loaded import LoadedSource

Progress = Callable[[str], None]

_TEMPERATURE = 2.0
# What layers hand on tells more than a few scores: on 442 snippets a pruned MiniLM came nearer to
# its original with this weight, and went away from it with 1 or 0.
_HIDDEN_WEIGHT = 30.0
_WARM_UP = 0.1
_CLIP = 1.0
_DECAY = 0.01
# Of the batches all but one in so many are texts that are made (see `mixing`).
_PLAIN_ONE_IN = 4
# The average of the weights reaches back over such a share of all steps.
_AVERAGED = 0.05
# Looks at the held-out rows in a whole recovery, and how many in a row may bring nothing.
_LOOKS = 20
_PATIENCE = 8
# Transformers were trained with a small rate; a small network of one's own bears a larger one.
_RATES: Mapping[str, float] = {"huggingface": 1e-4}
_RATE = 5e-4


@dataclass(frozen=True)
class Recovered:
    """What a recovery came to; losses are those of the rows that nothing was fitted to.

    ``steps`` were run; the average of the weights up to ``best_step`` is kept. ``stopped`` tells
    why it ended before all steps were run, None where it did not.
    """

    steps: int
    best_step: int
    before: Quality
    after: Quality
    stopped: str | None
    seconds: float


def recover(
    original: LoadedSource,
    pruned: LoadedSource,
    pairs: Sequence[tuple[nn.Module, nn.Module]],
    training: Sequence[Batch],
    held: Answers,
    *,
    steps: int,
    seed: int,
    checkpoint: Checkpoint | None = None,
    progress: Progress = lambda text: None,
) -> Recovered:
    """Train the pruned source's module in place; the best state by the held-out rows stays.

    Args:
        pairs: layers of the original and of the pruned model that should hand on the same.
        training: batches to learn from; their labels are not looked at.
        held: the original's answers to rows that decide when to stop.
        checkpoint: where to keep the state at every look, and to go on from where there is one.

    Raises:
        PruneError: the loss is no number from the first look on.
        KeyboardInterrupt: it was interrupted; the best state so far is in the module.
    """
    began = time.monotonic()
    trainer = _Trainer(original, pruned, pairs, training, held, steps, seed)
    if checkpoint is not None:
        state = checkpoint.state()
        if state is not None:
            trainer.resume(state)
            progress(f"Going on from step {trainer.step:,} of {steps:,}")
    if not trainer.step:
        progress(_line(0, steps, trainer.before))
    try:
        stopped = trainer.run(checkpoint, progress)
    finally:
        # What was best is what stays, however this ends.
        trainer.keep_best()
    ended = "" if stopped is None else f", ended early: {stopped}"
    progress(f"Keeping what step {trainer.best_step:,} of the recovery left{ended}")
    return Recovered(
        trainer.step,
        trainer.best_step,
        trainer.before,
        trainer.best,
        stopped,
        round(time.monotonic() - began, 3),
    )


class _Trainer:
    """The loop with its state: weights, their average, moments, batches and the best so far."""

    def __init__(
        self,
        original: LoadedSource,
        pruned: LoadedSource,
        pairs: Sequence[tuple[nn.Module, nn.Module]],
        training: Sequence[Batch],
        held: Answers,
        steps: int,
        seed: int,
    ) -> None:
        self.steps = steps
        self.step = 0
        self.best_step = 0
        self._pruned = pruned
        self._batches = training
        self._mixer = Mixer(original, training)
        self._held = held
        self._teacher = Teacher(original, [one for one, _ in pairs])
        self._layers = [one for _, one in pairs]
        self._loss = loss_of(original, temperature=_TEMPERATURE)
        self._generator = torch.Generator().manual_seed(seed)
        self._order: list[int] = []
        self._rate = _RATES.get(original.kind, _RATE)
        tables = _whole_tables(original, pruned)
        self._parameters = [
            one for one in pruned.module.parameters()
            if one.is_floating_point() and id(one) not in tables
        ]  # fmt: skip
        learnt = {id(one) for one in self._parameters}
        # A tied weight stands under both of its names.
        self._learnt = {
            name: one
            for name, one in pruned.module.named_parameters(remove_duplicate=False)
            if id(one) in learnt
        }
        self._optimizer = torch.optim.AdamW(
            self._parameters, lr=self._rate, weight_decay=_DECAY, foreach=True
        )
        self._look = max(1, steps // _LOOKS)
        self._fruitless = 0
        self.before = self.best = held.judge(pruned)
        self._best_state = _copied(pruned.module)
        self._average = {name: one.detach().clone() for name, one in self._learnt.items()}
        self._decay = 1 - 1 / max(1.0, _AVERAGED * steps)
        if not math.isfinite(self.before.loss):
            raise PruneError(
                f"The pruned model's loss against the original is {self.before.loss}, so that there"
                " is nothing to recover.",
                hint="Cut less, or look for NaN and infinities in the original's answers.",
            )

    def run(self, checkpoint: Checkpoint | None, progress: Progress) -> str | None:
        """Train to the last step; why not so far, where it ended before."""
        module = self._pruned.module
        # Between two looks a bar moves, and who reads lines is told once how long it will take.
        counted = Counted(progress, self.steps, lines=1, start=self.step)
        with _training(module, self._parameters), counted:
            while self.step < self.steps:
                loss = self._learn()
                if math.isfinite(loss):
                    if self.step % self._look and self.step < self.steps:
                        counted.tell(_place(self.step, self.steps), self.step)
                        continue
                    with self._averaged():
                        found = self._held.judge(self._pruned)
                    loss = found.loss
                if not math.isfinite(loss):
                    return (
                        f"the loss became {loss} at step {self.step:,}; the state after step"
                        f" {self.best_step:,} was kept"
                    )
                progress(f"{_line(self.step, self.steps, found)}{counted.ahead(self.step)}")
                self._note(found)
                if checkpoint is not None:
                    checkpoint.save(self._state())
                if self._fruitless >= _PATIENCE:
                    return (
                        f"the loss has not fallen since step {self.best_step:,}: nothing more is to"
                        " be gained"
                    )
        return None

    def keep_best(self) -> None:
        """Put the best state into the module."""
        self._pruned.module.load_state_dict(self._best_state)

    def resume(self, state: State) -> None:
        """Go on where an earlier run has stopped."""
        self._pruned.module.load_state_dict(state.module)
        self._optimizer.load_state_dict(dict(state.optimizer))
        self._generator.set_state(state.generator)
        self._order = list(state.order)
        self._best_state = dict(state.best)
        self._average = dict(state.average)
        self.step, self.best_step, self._fruitless = state.step, state.best_step, state.fruitless
        module = _copied(self._pruned.module)
        self.keep_best()
        self.best = self._held.judge(self._pruned)
        self._pruned.module.load_state_dict(module)

    def _state(self) -> State:
        return State(
            module=_copied(self._pruned.module),
            best=self._best_state,
            average=self._average,
            optimizer=self._optimizer.state_dict(),
            generator=self._generator.get_state(),
            order=tuple(self._order),
            step=self.step,
            best_step=self.best_step,
            fruitless=self._fruitless,
        )

    def _note(self, found: Quality) -> None:
        if found.loss < self.best.loss:
            self.best, self.best_step, self._fruitless = found, self.step, 0
            self._best_state = _copied(self._pruned.module) | {
                name: value.clone() for name, value in self._average.items()
            }
        else:
            self._fruitless += 1

    def _learn(self) -> float:
        """One step; its loss."""
        if not self._order:
            shuffled = torch.randperm(len(self._batches), generator=self._generator)
            self._order = [int(place) for place in shuffled]
        place = self._order.pop()
        self.step += 1
        if self._mixer.mixes and self.step % _PLAIN_ONE_IN:
            inputs = self._mixer.made(place, self._generator).inputs
            wanted, hidden = self._teacher.answer(inputs)
        else:
            inputs = self._batches[place].inputs
            wanted, hidden = self._teacher.known_answer(place, inputs)
        for group in self._optimizer.param_groups:
            group["lr"] = self._rate * _share(self.step, self.steps)
        with torch.enable_grad(), self._teacher.half(), watched(self._layers) as seen:
            found = wide(self._pruned.module(**inputs))
        with torch.enable_grad():
            loss = self._loss(wanted, found, inputs)
            mask = inputs.get("attention_mask")
            for before, after in zip(hidden, seen, strict=True):
                if before.shape != after.shape:
                    continue
                fits = mask is not None and before.shape[:2] == mask.shape
                kept = mask.bool() if fits and mask is not None else None
                loss = loss + _HIDDEN_WEIGHT / len(hidden) * relative_error(before, after, kept)
        value = float(loss.detach())
        if math.isfinite(value):
            self._optimizer.zero_grad(set_to_none=True)
            loss.backward()  # type: ignore[no-untyped-call]
            nn.utils.clip_grad_norm_(self._parameters, _CLIP)
            self._optimizer.step()
            self._follow()
        return value

    def _follow(self) -> None:
        """Let the average follow the weights, the faster the fewer steps there were."""
        decay = min(self._decay, (1 + self.step) / (10 + self.step))
        with torch.no_grad():
            for name, value in self._learnt.items():
                self._average[name].lerp_(value, 1 - decay)

    @contextmanager
    def _averaged(self) -> Iterator[None]:
        """The average in the module, in the place of the weights that are trained."""
        trained = {name: one.detach().clone() for name, one in self._learnt.items()}
        self._put(self._average)
        try:
            yield
        finally:
            self._put(trained)

    def _put(self, values: Mapping[str, Tensor]) -> None:
        with torch.no_grad():
            for name, value in values.items():
                self._learnt[name].copy_(value)


def _whole_tables(original: LoadedSource, pruned: LoadedSource) -> set[int]:
    """The weights of a transformer's embeddings that were not cut, by identity.

    The words and places of a few texts say little of the others. A head that shares its weights
    with the embeddings stays as it is with them.
    """
    if original.kind != "huggingface":
        return set()
    named = original.module.named_parameters(remove_duplicate=False)
    shapes = {name: one.shape for name, one in named}
    return {
        id(one.weight)
        for name, one in pruned.module.named_modules()
        if isinstance(one, nn.Embedding) and shapes.get(f"{name}.weight") == one.weight.shape
    }


@contextmanager
def _training(module: nn.Module, parameters: Sequence[nn.Parameter]) -> Iterator[None]:
    """Gradients on, and off again. The module stays in eval mode: no dropout, no new statistics."""
    for one in parameters:
        one.requires_grad_(True)
    try:
        yield
    finally:
        for one in parameters:
            one.requires_grad_(False)
            one.grad = None


def _copied(module: nn.Module) -> dict[str, Tensor]:
    return {name: value.detach().clone() for name, value in module.state_dict().items()}


def _share(step: int, steps: int) -> float:
    """Of the learning rate: rising while it warms up, then falling to nothing."""
    warm = max(1, round(steps * _WARM_UP))
    if step <= warm:
        return step / warm
    return max(0.0, (steps - step + 1) / max(1, steps - warm))


def _place(step: int, steps: int) -> str:
    return f"Recovery step {step:,} of {steps:,}"


def _line(step: int, steps: int, found: Quality) -> str:
    """How far it is, with the loss and the metric on the held-out rows."""
    told = f"{_place(step, steps)}: loss {found.loss:.4g}"
    if found.accuracy is not None:
        return f"{told}, accuracy {found.accuracy:.4f}"
    return told if found.agreement is None else f"{told}, agreement {found.agreement:.4f}"
