"""Least squares: what is left of a layer learns to give what the whole layer gave.

After a cut the weights of the linear layers behind the heads and neurons are solved for anew, so
that on calibration samples the sum in the residual stream is again that of the whole model (Kwon et
al. 2022, arXiv 2204.09656). Layer by layer, each fed by the layers that were repaired before it; no
labels and no gradients. Where layers were taken out, the one before them takes their sum for its
aim.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, cast

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from edgekit.core.errors import PruneError
from edgekit.pruning.feeding import Batch
from edgekit.pruning.structures import layers_of
from edgekit.pruning.tracks import Seen, Track, tracked, watched
from edgekit.sources.pruned.cutting import input_weight, set_input_weight
from edgekit.sources.pruned.families import Family
from edgekit.sources.pruned.plan import Plan

if TYPE_CHECKING:
    from edgekit.sources.loaded import LoadedSource

Progress = Callable[[str], None]
# How much weights may move, as shares of the inputs' mean energy: the best on held-out tokens wins.
_DAMPINGS = (1e-4, 1e-3, 1e-2, 1e-1, 1.0)
# Every so many batches one is held out.
_HELD_OUT = 5
# Of a sum, so that none is divided by nothing.
_SMALLEST = 1e-6


@dataclass(frozen=True)
class Repaired:
    """What least squares came to.

    ``errors`` are for each linear layer that was solved for its name and the energy of what is
    missing in the residual stream before and after, as shares of the aim's, on held-out tokens.
    ``norms`` counts the batch norms whose statistics were taken anew.
    """

    errors: tuple[tuple[str, float, float], ...]
    seconds: float
    norms: int = 0

    @property
    def before(self) -> float:
        """The mean share that was missing."""
        return _mean([row[1] for row in self.errors])

    @property
    def after(self) -> float:
        """The mean share that is missing still."""
        return _mean([row[2] for row in self.errors])


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values) if values else 0.0


@dataclass(eq=False)
class _Sums:
    """Normal equations of `X·W ≈ R`; X has a column of ones where there is a bias."""

    gram: Tensor
    cross: Tensor
    energy: float = 0.0
    aim: float = 0.0
    rows: int = 0

    @staticmethod
    def of(inputs: int, outputs: int) -> _Sums:
        return _Sums(
            torch.zeros(inputs, inputs, dtype=torch.float64),
            torch.zeros(inputs, outputs, dtype=torch.float64),
        )

    def add(self, x: Tensor, missing: Tensor, aim: Tensor) -> None:
        self.gram += (x.T @ x).double()
        self.cross += (x.T @ missing).double()
        self.energy += float(missing.double().square().sum())
        self.aim += float(aim.double().square().sum())
        self.rows += len(x)

    def left(self, change: Tensor) -> float:
        """The energy that is missing after a change of the weights."""
        bent = (change * (self.gram @ change)).sum() - 2 * (change * self.cross).sum()
        return max(0.0, self.energy + float(bent))

    def solved(self, damping: float) -> Tensor:
        matrix = self.gram.clone()
        matrix.diagonal().add_(damping * float(self.gram.diagonal().mean()) + 1e-12)
        found: Tensor = torch.linalg.solve(matrix, self.cross)
        return found


def repair(
    original: LoadedSource,
    pruned: LoadedSource,
    plan: Plan,
    given: Sequence[Batch],
    *,
    progress: Progress = lambda text: None,
) -> Repaired:
    """Solve for the weights behind the cuts of a pruned transformer, in place.

    Of a convolutional network the statistics of the batch norms are taken anew instead.

    Raises PruneError for too little data, or a model that gives numbers no more.
    """
    began = time.monotonic()
    if len(given) < 2:
        raise PruneError(
            f"Least squares needs 2 batches of samples at least, got {len(given)}.",
            hint="Give more rows of DATA, or leave it out.",
        )
    if plan.tensors:
        norms = estimate_norms(pruned.module, given)
        return Repaired((), round(time.monotonic() - began, 3), norms)
    family = layers_of(pruned).family
    pruned.module.eval()
    tokens = [batch.inputs.get("attention_mask") for batch in given]
    with torch.no_grad():
        work = _Repair(
            tracked(original, given),
            tracked(pruned, given),
            plan,
            family,
            [None if mask is None else mask.bool() for mask in tokens],
            progress,
        )
        errors = work.run()
    if not all(math.isfinite(after) for _, _, after in errors):
        raise PruneError(
            f"{pruned.id} gives values that are no numbers on the samples of DATA.",
            hint="Check the original on the same samples first (edgekit validate).",
        )
    return Repaired(tuple(errors), round(time.monotonic() - began, 3))


def estimate_norms(module: nn.Module, given: Sequence[Batch]) -> int:
    """Take the means and variances of all batch norms anew from samples, in place: how many."""
    norms = [
        part
        for part in module.modules()
        if isinstance(part, _BatchNorm) and part.running_mean is not None
    ]
    if not norms:
        return 0
    before = [part.momentum for part in norms]
    module.eval()
    try:
        for part in norms:
            part.reset_running_stats()
            # Without a momentum the average counts all batches alike.
            part.momentum = None
            part.train()
        with torch.no_grad():
            for batch in given:
                # Statistics of one sample are none.
                if len(batch) > 1:
                    module(**batch.inputs)
    finally:
        for part, momentum in zip(norms, before, strict=True):
            part.momentum = momentum
        module.eval()
    return len(norms)


@dataclass(eq=False)
class _Repair:
    """Both models side by side, layer by layer."""

    whole: Track
    left: Track
    plan: Plan
    family: Family
    tokens: list[Tensor | None]
    progress: Progress
    errors: list[tuple[str, float, float]] = field(default_factory=list)

    @property
    def uneven(self) -> bool:
        """Whether tokens count alike whose sums are of very different sizes."""
        pre_norm = not self.family.post_norm
        return self.family.causal or (self.family.answers is not None and pre_norm)

    def run(self) -> list[tuple[str, float, float]]:
        """Go through the layers; what was missing in each before and after."""
        kept = self.plan.kept_layers
        # What the layers before the first one gave is missing from there on.
        for gone in range(kept[0]):
            self._whole_layer(gone)
        changed = kept[0] > 0
        for at, place in enumerate(kept):
            row = self.plan.layers[place]
            attended, summed = self._whole_layer(place)
            following = kept[at + 1] if at + 1 < len(kept) else len(self.whole.layers)
            for gone in range(place + 1, following):
                _, later = self._whole_layer(gone)
                # What is normalised before it is added says nothing of the sum behind it.
                summed = summed if self.family.normed_out else later
            if following > place + 1:
                self._take_norm(at, following - 1)
            changed = changed or row.kept_heads is not None
            if changed:
                self._solve(at, "out", attended)
            changed = changed or row.kept_ffn is not None or following > place + 1
            if changed:
                self._solve(at, "down", summed)
            layer = self.left.layers[at]
            for number, call in enumerate(self.left.calls[at]):
                self.left.hidden[number] = call.run(layer.module, self.left.hidden[number])
            self.progress(f"Repaired layer {at + 1} of {len(kept)}")
        return self.errors

    def _whole_layer(self, place: int) -> tuple[list[Tensor], list[Tensor]]:
        """The sums behind the attention and the block of a layer of the original, by batch."""
        layer = self.whole.layers[place]
        attended, summed = [], []
        for number, call in enumerate(self.whole.calls[place]):
            hidden = self.whole.hidden[number]
            seen, after = watched(layer, call, hidden)
            attended.append(self._stream(hidden) + _there(seen.out))
            summed.append(self._residual(hidden, seen) + _there(seen.down))
            self.whole.hidden[number] = after
        return attended, summed

    def _stream(self, hidden: Tensor) -> Tensor:
        """What the output of the attention is added to, nothing where it is normalised before."""
        return torch.zeros_like(hidden) if self.family.normed_out else hidden

    def _residual(self, hidden: Tensor, seen: Seen) -> Tensor:
        """What the output of the feed-forward block is added to."""
        if self.family.normed_out:
            return torch.zeros_like(hidden)
        return _there(seen.into_ffn) if self.family.post_norm else hidden + _there(seen.out)

    def _take_norm(self, at: int, gone: int) -> None:
        """The norm behind a sum is that of the last layer whose sum it is now."""
        norm = self.family.norm
        if norm is None:
            return
        mine = self.left.layers[at].module.get_submodule(norm)
        mine.load_state_dict(self.whole.layers[gone].module.get_submodule(norm).state_dict())

    def _solve(self, at: int, name: str, aims: Sequence[Tensor]) -> None:
        layer = self.left.layers[at]
        linear = layer.out if name == "out" else layer.down
        fit: _Sums | None = None
        held: _Sums | None = None
        for number, call in enumerate(self.left.calls[at]):
            hidden = self.left.hidden[number]
            seen, _ = watched(layer, call, hidden, enough=name)
            x = _there(seen.into_out if name == "out" else seen.into_down)
            y = _there(seen.out if name == "out" else seen.down)
            residual = self._stream(hidden) if name == "out" else self._residual(hidden, seen)
            aim = aims[number]
            real = self.tokens[number]
            x, missing, aim = (_flat(one, real) for one in (x, aim - residual - y, aim))
            if linear.bias is not None:
                x = torch.cat([x, torch.ones(len(x), 1)], 1)
            if self.uneven:
                # What reads a sum normalises it: of a few tokens it is a thousand times as large.
                size = aim.square().mean(1, keepdim=True).sqrt().clamp_min(_SMALLEST)
                x, missing, aim = x / size, missing / size, aim / size
            if fit is None or held is None:
                fit, held = _Sums.of(x.shape[1], aim.shape[1]), _Sums.of(x.shape[1], aim.shape[1])
            (held if number % _HELD_OUT == _HELD_OUT - 1 else fit).add(x, missing, aim)
        if fit is None or held is None:
            return
        # Few batches hold out none of their own accord: all judge then.
        judge = held if held.rows else fit
        change, after = _best_change(fit, judge)
        before = judge.energy / max(judge.aim, 1e-30)
        self.errors.append((f"{layer.name}.{name}", before, after / max(judge.aim, 1e-30)))
        if change is None:
            return
        weight, bias = input_weight(linear), cast("Tensor | None", linear.bias)
        moved = change.to(weight.dtype)
        if bias is None:
            set_input_weight(linear, weight + moved.T, None)
        else:
            set_input_weight(linear, weight + moved[:-1].T, bias + moved[-1])


def _best_change(fit: _Sums, judge: _Sums) -> tuple[Tensor | None, float]:
    """The change of the weights that leaves least missing on held-out tokens; None for no gain."""
    best: tuple[Tensor | None, float] = (None, judge.energy)
    for damping in _DAMPINGS:
        change = fit.solved(damping)
        if not bool(torch.isfinite(change).all()):
            continue
        left = judge.left(change)
        if left < best[1]:
            best = (change, left)
    return best


def _there(value: Tensor | None) -> Tensor:
    assert value is not None, "a hook of this layer has not been called"
    return value


def _flat(value: Tensor, real: Tensor | None) -> Tensor:
    """The rows `[tokens, width]` of a tensor, without padding."""
    if real is not None and value.shape[:2] == real.shape:
        return value[real].float()
    return value.reshape(-1, value.shape[-1]).float()
