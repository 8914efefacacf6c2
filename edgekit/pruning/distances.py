"""How far a pruned model's answers lie from the original's, as a loss that can be followed down."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn import functional

from edgekit.sources.generation.whole import counted_tokens, foretells

if TYPE_CHECKING:
    from edgekit.pruning.feeding import Batch
    from edgekit.sources.loaded import LoadedSource

# Tasks whose outputs are scores of classes along their last axis.
_SCORED = frozenset(
    {"text-classification", "token-classification", "image-classification",
     "audio-classification", "fill-mask", "question-answering"}
)  # fmt: skip
_SCORES = "logits"
# Of the answers to all batches: those over a vocabulary take 25 MB for each text.
_KEPT_BYTES = 512 << 20
Outputs = Mapping[str, Tensor]
# What a loss of outputs is called with: the original's, the pruned one's, the inputs of both.
Loss = Callable[[Outputs, Outputs, Mapping[str, Tensor]], Tensor]


@dataclass(frozen=True)
class Quality:
    """A pruned model against its original on some batches.

    ``loss`` is the mean of the distillation loss, ``agreement`` the share of decisions that are the
    same, ``accuracy`` and ``reference_accuracy`` that of both on labels; None where there are no
    classes, or no labels.
    """

    loss: float
    agreement: float | None = None
    accuracy: float | None = None
    reference_accuracy: float | None = None


def loss_of(source: LoadedSource, *, temperature: float = 1.0) -> Loss:
    """The distance of outputs that fits a source's task.

    For classes it is the Kullback–Leibler divergence of the softened probabilities (times the
    squared temperature, as in Hinton et al. 2015, arXiv 1503.02531); for other outputs the squared
    error as a share of the original's power. Padding does not count.
    """
    classed = frozenset(name for name in source.output_axes if _is_scored(source, name))

    def loss(expected: Outputs, found: Outputs, inputs: Mapping[str, Tensor]) -> Tensor:
        parts: list[Tensor] = []
        for name, wanted in expected.items():
            if not wanted.is_floating_point() or name not in found:
                continue
            kept = _kept(wanted, inputs)
            scored = name in classed or (
                not classed and _is_scored(source, name) and wanted.shape[-1] > 1
            )
            one = _divergence if scored else _relative
            parts.append(one(wanted, found[name], kept, temperature))
        return torch.stack(parts).sum()

    return loss


def quality(original: LoadedSource, pruned: LoadedSource, batches: Sequence[Batch]) -> Quality:
    """The pruned model against its original, on batches that nothing was fitted to."""
    return answers_of(original, batches).judge(pruned)


@dataclass(frozen=True, eq=False)
class Answers:
    """The original's answers to some batches, kept so that many candidates can be held to them.

    None stands for one that would take too much memory: it is computed again.
    """

    original: LoadedSource
    batches: Sequence[Batch]
    outputs: Sequence[Outputs | None]

    def judge(self, pruned: LoadedSource) -> Quality:
        """A candidate's distance from these answers."""
        loss = loss_of(self.original)
        total, rows = 0.0, 0
        same: list[Tensor] = []
        right: list[Tensor] = []
        known: list[Tensor] = []
        with torch.inference_mode():
            for batch, kept in zip(self.batches, self.outputs, strict=True):
                expected = kept or self.original.module(**batch.inputs)
                found = pruned.module(**batch.inputs)
                count = _rows(batch.inputs)
                total += float(loss(expected, found, batch.inputs)) * count
                rows += count
                scores = _decisions(self.original, expected), _decisions(self.original, found)
                if scores[0] is None or scores[1] is None:
                    continue
                same.append((scores[0] == scores[1]).flatten())
                if batch.labels is not None and batch.labels.shape == scores[0].shape:
                    known.append((scores[0] == batch.labels).flatten())
                    right.append((scores[1] == batch.labels).flatten())
        return Quality(total / max(1, rows), _share(same), _share(right), _share(known))


def answers_of(
    original: LoadedSource, batches: Sequence[Batch], *, most_bytes: int = _KEPT_BYTES
) -> Answers:
    """What the original answers to some batches; up to `most_bytes` of it are kept."""
    outputs: list[Outputs | None] = []
    room = most_bytes
    with torch.inference_mode():
        for batch in batches:
            answer: Outputs | None = None
            if room > 0:
                answer = dict(original.module(**batch.inputs))
                room -= sum(one.nbytes for one in answer.values())
            outputs.append(answer)
    return Answers(original, batches, outputs)


def _is_scored(source: LoadedSource, name: str) -> bool:
    if source.problem_type in ("regression", "multi_label_classification"):
        return False
    if source.task == "custom":
        return name == _SCORES
    single = source.labels is not None and len(source.labels) == 1
    return (source.task in _SCORED or foretells(source)) and not single


def _decisions(source: LoadedSource, outputs: Outputs) -> Tensor | None:
    """The class of each sample, where a sample has one."""
    found = outputs.get(_SCORES)
    if found is None or found.dim() != 2 or found.shape[-1] < 2 or not _is_scored(source, _SCORES):
        return None
    return found.argmax(-1)


def _kept(value: Tensor, inputs: Mapping[str, Tensor]) -> Tensor | None:
    """Which positions `[batch, sequence]` of an output are no padding; None where all count."""
    mask = counted_tokens(inputs)
    if mask is None or value.dim() != 3 or value.shape[:2] != mask.shape:
        return None
    return mask.bool()


def _divergence(wanted: Tensor, found: Tensor, kept: Tensor | None, temperature: float) -> Tensor:
    if kept is not None:
        wanted, found = wanted[kept], found[kept]
    divergence = functional.kl_div(
        functional.log_softmax(found / temperature, -1),
        functional.log_softmax(wanted / temperature, -1),
        reduction="none",
        log_target=True,
    )
    return divergence.sum(-1).mean() * temperature**2


def _relative(wanted: Tensor, found: Tensor, kept: Tensor | None, _: float) -> Tensor:
    return relative_error(wanted, found, kept)


def relative_error(wanted: Tensor, found: Tensor, kept: Tensor | None = None) -> Tensor:
    """The squared error as a share of the original's power, over what is `kept`."""
    if kept is not None:
        wanted, found = wanted[kept], found[kept]
    power = wanted.pow(2).mean().clamp_min(torch.finfo(wanted.dtype).tiny)
    return (found - wanted).pow(2).mean() / power


def _rows(inputs: Mapping[str, Tensor]) -> int:
    return int(next(iter(inputs.values())).shape[0])


def _share(parts: Iterable[Tensor]) -> float | None:
    flat = [part for part in parts if part.numel()]
    return float(torch.cat(flat).double().mean()) if flat else None
