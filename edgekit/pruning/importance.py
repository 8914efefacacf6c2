"""How much a head, a neuron or a layer matters: what the loss would be without it.

Gradients of masks that multiply the heads and neurons tell it (Fisher information and first-order
Taylor, as in Kwon et al. 2022, arXiv 2204.09656, and Michel et al. 2019, arXiv 1905.10650), from
labels where there are some. Without data, weights and activations do (Wanda, Sun et al. 2023, arXiv
2306.11695). Layers are judged by how little they change what runs through them (block influence,
Men et al. 2024, arXiv 2403.03853).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, cast, get_args

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from edgekit.core.errors import ConfigError
from edgekit.evaluation.counting import Counted
from edgekit.pruning.feeding import Batch, own_batches
from edgekit.pruning.structures import layers_of
from edgekit.sources.generation.whole import counted_tokens, foretells, next_token_losses
from edgekit.sources.pruned.cutting import Layer, input_weight, output_weights, stays_first
from edgekit.sources.pruned.plan import Structure

if TYPE_CHECKING:
    from edgekit.sources.loaded import LoadedSource

Floats = NDArray[np.float64]
Method: TypeAlias = Literal["fisher", "taylor", "activations", "magnitude"]
METHODS: tuple[Method, ...] = get_args(Method)
Progress = Callable[[str], None]


@dataclass(frozen=True, eq=False)
class Scores:
    """The importance of each head and neuron, layer by layer, and of each layer.

    The entries of `heads` and `ffn` are in one unit and add up: a set of them costs their sum.
    None stands for what was not asked for. ``notes`` are sentences for a person.
    """

    heads: tuple[Floats | None, ...]
    ffn: tuple[Floats | None, ...]
    layers: Floats | None
    method: Method
    notes: tuple[str, ...] = ()


def scores(
    source: LoadedSource,
    given: Sequence[Batch] | None,
    structures: Sequence[Structure],
    method: str = "auto",
    *,
    seed: int = 0,
    progress: Progress = lambda text: None,
) -> Scores:
    """The importance of a transformer's structures by a method.

    ``auto`` is ``fisher`` with data and ``activations`` without. The gradient methods use labels
    where the batches have some, and else the model's own answers, drawn at random so that their
    gradient is not zero.

    Raises ConfigError for an unknown method, or one that needs data and has none.
    """
    if method not in ("auto", *METHODS):
        raise ConfigError(
            f"There is no importance {method!r}.", hint=f"Choose auto or {', '.join(METHODS)}."
        )
    if method in ("fisher", "taylor") and not given:
        raise ConfigError(
            f"The importance {method} needs data, got none.",
            hint="Pass --data DATA, or --method activations or magnitude.",
        )
    chosen = cast("Method", ("fisher" if given else "activations") if method == "auto" else method)
    layout = layers_of(source)
    rows = layout.layers
    notes: list[str] = []
    used = list(given or own_batches(source))
    if not given:
        notes.append("Without data, importance rests on a few sentences that edgekit brings along.")
    wanted = [kind for kind in ("heads", "ffn") if kind in structures]
    found: dict[str, tuple[Floats | None, ...]] = {
        kind: (None,) * len(rows) for kind in ("heads", "ffn")
    }
    if wanted and chosen in ("fisher", "taylor"):
        labelled = all(usable_labels(source, batch) for batch in used)
        if not labelled:
            notes.append("Importance follows the model's own answers: no labels were used.")
        found |= _gradients(source, rows, wanted, used, labelled, chosen, seed, progress)
    elif wanted and chosen == "activations":
        found |= _activations(source, rows, wanted, used, progress)
    elif wanted:
        found |= {kind: tuple(_magnitude(row, kind) for row in rows) for kind in wanted}
    layers = block_influence(source, used) if "layers" in structures else None
    if layers is not None and stays_first(layout) is not None:
        layers[0] = np.inf
    return Scores(found["heads"], found["ffn"], layers, chosen, tuple(notes))


def block_influence(source: LoadedSource, used: Sequence[Batch]) -> Floats:
    """For each layer one minus the mean cosine of what comes in and what goes out, per token."""
    rows = layers_of(source).layers
    sums = np.zeros(len(rows))
    counts = np.zeros(len(rows))
    keep: list[Tensor | None] = [None]

    def hook(place: int) -> Callable[..., None]:
        def look(module: nn.Module, args: tuple[Any, ...], kwargs: Any, output: Any) -> None:
            before = args[0] if args else kwargs["hidden_states"]
            after = output[0] if isinstance(output, tuple) else output
            likeness = functional.cosine_similarity(before.float(), after.float(), dim=-1)
            if keep[0] is not None and keep[0].shape == likeness.shape:
                likeness = likeness[keep[0]]
            sums[place] += float((1 - likeness).sum())
            counts[place] += likeness.numel()

        return look

    handles = [
        row.module.register_forward_hook(hook(place), with_kwargs=True)
        for place, row in enumerate(rows)
    ]
    with _removed(handles), torch.inference_mode():
        for batch in used:
            mask = batch.inputs.get("attention_mask")
            keep[0] = None if mask is None else mask.bool()
            source.module(**batch.inputs)
    return sums / np.maximum(counts, 1)


def _gradients(
    source: LoadedSource,
    rows: Sequence[Layer],
    wanted: Sequence[str],
    used: Sequence[Batch],
    labelled: bool,
    method: Method,
    seed: int,
    progress: Progress,
) -> dict[str, tuple[Floats | None, ...]]:
    generator = torch.Generator().manual_seed(seed)
    masks: list[tuple[str, int, list[Tensor]]] = []
    handles = []
    for place, row in enumerate(rows):
        for kind in wanted:
            held: list[Tensor] = []
            masks.append((kind, place, held))
            into = row.out if kind == "heads" else row.down
            handles.append(into.register_forward_pre_hook(_mask(row, kind, held)))
    totals = {(kind, place): np.zeros(_size(rows[place], kind)) for kind, place, _ in masks}
    samples = 0
    counted = Counted(progress, len(used), lines=4)
    with _removed(handles), torch.enable_grad(), counted:
        for done, batch in enumerate(used, start=1):
            for _, _, held in masks:
                held.clear()
            outputs = source.module(**batch.inputs)
            loss = sample_loss(source, outputs, batch, labelled, generator)
            grown = torch.autograd.grad(loss, [held[0] for _, _, held in masks])
            for (kind, place, _), gradient in zip(masks, grown, strict=True):
                each = gradient.double().reshape(len(gradient), -1).numpy()
                value = np.square(each) / 2 if method == "fisher" else np.abs(each)
                totals[kind, place] += value.sum(0)
            samples += len(batch)
            counted.tell(f"Importance from {samples:,} samples", done)
    return {
        kind: tuple(totals[kind, place] / max(samples, 1) for place in range(len(rows)))
        for kind in wanted
    }


def _size(row: Layer, kind: str) -> int:
    return row.heads if kind == "heads" else row.ffn


def _mask(row: Layer, kind: str, held: list[Tensor]) -> Callable[..., tuple[Tensor, ...]]:
    """Multiplies the input of a linear layer by ones, a set for each sample, that want gradients.

    So the gradient of a sum of losses is that of every sample by itself.
    """
    size = _size(row, kind)
    block = row.group if kind == "heads" else 1

    def multiply(module: nn.Module, args: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        hidden = args[0]
        mask = torch.ones(hidden.shape[0], size, requires_grad=True)
        held.append(mask)
        spread = mask.repeat_interleave(block, 1).reshape(len(mask), 1, -1)
        return (hidden * spread.to(hidden.dtype), *args[1:])

    return multiply


def usable_labels(source: LoadedSource, batch: Batch) -> bool:
    """Whether a batch's labels, texts or answers themselves say what the loss of the task is."""
    if foretells(source):
        return True
    labels = batch.labels
    return labels is not None and source.task in (
        "text-classification", "image-classification", "custom",
    )  # fmt: skip


def sample_loss(
    source: LoadedSource,
    outputs: dict[str, Tensor],
    batch: Batch,
    labelled: bool,
    generator: torch.Generator,
) -> Tensor:
    """The sum of the samples' losses; of texts and answers to them, that of the next tokens.

    Without labels: the log-likelihood of classes that are drawn from the model's own answer (its
    Fisher information proper), or a random projection of outputs that are no classes, whose squared
    gradient is on average that of all outputs.
    """
    if labelled and foretells(source):
        return _text_loss(outputs, batch)
    if labelled and batch.labels is not None:
        first = next(iter(outputs.values()))
        labels = batch.labels
        if labels.dtype == torch.int64:
            return functional.cross_entropy(first.float(), labels, reduction="sum")
        if labels.dim() == 2:
            both = functional.binary_cross_entropy_with_logits(first, labels, reduction="none")
            return both.mean(1).sum()
        gaps = first.reshape(labels.shape) - labels
        total: Tensor = gaps.square().sum()
        return total
    parts = [
        _own(name, value, counted_tokens(batch.inputs), generator)
        for name, value in outputs.items()
        if value.is_floating_point()
    ]
    return torch.stack(parts).sum()


def _text_loss(outputs: dict[str, Tensor], batch: Batch) -> Tensor:
    sums, counts = next_token_losses(outputs["logits"], batch.inputs)
    total: Tensor = (sums / counts.clamp_min(1)).sum()
    return total


def _own(name: str, value: Tensor, mask: Tensor | None, generator: torch.Generator) -> Tensor:
    per_token = mask is not None and value.shape[:2] == mask.shape
    if name.endswith("logits") and value.shape[-1] > 1:
        chances = value.detach().float().softmax(-1)
        flat = chances.reshape(-1, chances.shape[-1])
        drawn = torch.multinomial(flat, 1, generator=generator).reshape(value.shape[:-1])
        each = -value.float().log_softmax(-1).gather(-1, drawn.unsqueeze(-1)).squeeze(-1)
        if mask is not None and per_token and value.dim() == 3:
            return (each * mask / mask.sum(1, keepdim=True)).sum()
        return each.reshape(len(value), -1).mean(1).sum()
    noise = torch.randn(value.shape, generator=generator)
    if mask is not None and per_token:
        shape = (*mask.shape, *[1] * (value.dim() - 2))
        noise = noise * (mask / mask.sum(1, keepdim=True).sqrt()).reshape(shape)
    total: Tensor = (value.float() * noise).sum() / float(value.shape[-1]) ** 0.5
    return total


def _activations(
    source: LoadedSource,
    rows: Sequence[Layer],
    wanted: Sequence[str],
    used: Sequence[Batch],
    progress: Progress,
) -> dict[str, tuple[Floats | None, ...]]:
    """The energy that each head and neuron adds, as a share of what runs through the layer.

    Where what they add up to is normalised first, it is their share of that.
    """
    squares: dict[tuple[str, int], Tensor] = {}
    stream = torch.zeros(len(rows), dtype=torch.float64)

    def add(kind: str, place: int) -> Callable[..., None]:
        def look(module: nn.Module, args: tuple[Tensor, ...]) -> None:
            flat = args[0].reshape(-1, args[0].shape[-1]).double()
            squares[kind, place] = squares.get((kind, place), torch.zeros(())) + flat.square().sum(
                0
            )

        return look

    def total(place: int) -> Callable[..., None]:
        def look(module: nn.Module, args: Any, output: Any) -> None:
            hidden = output[0] if isinstance(output, tuple) else output
            stream[place] += hidden.double().square().sum()

        return look

    handles = []
    for place, row in enumerate(rows):
        handles.append(row.module.register_forward_hook(total(place)))
        for kind in wanted:
            into = row.out if kind == "heads" else row.down
            handles.append(into.register_forward_pre_hook(add(kind, place)))
    with _removed(handles), torch.inference_mode():
        for batch in used:
            source.module(**batch.inputs)
    progress(f"Importance from the activations of {sum(map(len, used)):,} samples")
    normed = layers_of(source).family.normed_out
    found: dict[str, tuple[Floats | None, ...]] = {}
    for kind in wanted:
        each = []
        for place, row in enumerate(rows):
            weight = input_weight(row.out if kind == "heads" else row.down)
            energy = weight.double().square().sum(0) * squares[kind, place]
            whole = energy.sum() if normed else stream[place]
            blocks = energy.reshape(_size(row, kind), -1).sum(1) / whole
            each.append(blocks.numpy())
        found[kind] = tuple(each)
    return found


def _magnitude(row: Layer, kind: str) -> Floats:
    """The share of each head or neuron in its block, by the squared weights it goes out through."""
    weight = input_weight(row.out if kind == "heads" else row.down).detach().double()
    energy = weight.square().sum(0)
    if kind == "ffn":
        for part in output_weights(row):
            energy = energy * part.detach().double().square().sum(1)
    blocks = energy.reshape(_size(row, kind), -1).sum(1)
    return cast("Floats", (blocks / blocks.sum()).numpy())


@contextmanager
def _removed(handles: Sequence[Any]) -> Iterator[None]:
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
