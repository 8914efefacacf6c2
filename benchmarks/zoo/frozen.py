"""Fine-tuning with the lower part frozen: its answers are computed once, the upper part learns.

Freezing embeddings and the first layers leaves them the same for the whole training, so a row's
hidden states after the last frozen layer are a fixed input to the rest. With half the layers
frozen an epoch costs less than half, and the first epoch pays for the frozen part alone.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from transformers import BertForSequenceClassification


class Replay(nn.Module):
    """Stands where the embeddings were and hands on hidden states [batch, sequence, hidden]."""

    def forward(
        self,
        input_ids: Tensor | None = None,
        position_ids: Tensor | None = None,
        token_type_ids: Tensor | None = None,
        inputs_embeds: Tensor | None = None,
        past_key_values_length: int = 0,
    ) -> Tensor | None:
        """Return `inputs_embeds` untouched; the other arguments are those of the original."""
        return inputs_embeds


@dataclass(frozen=True)
class Recipe:
    """What decides a training besides rows and model; `warmup` is a share of all steps."""

    frozen_layers: int
    epochs: int
    batch: int
    peak_rate: float
    warmup: float
    weight_decay: float
    seed: int


def batches(
    lengths: Sequence[int], size: int, generator: torch.Generator | None = None
) -> Iterator[list[int]]:
    """Yield row numbers in batches of like length, so that little padding is computed.

    With a generator the rows are shuffled, sorted only within pools of 16 batches, and the
    batches shuffled again; without one all rows come in order of length.
    """
    count = len(lengths)
    if generator is None:
        order = sorted(range(count), key=lambda row: lengths[row])
        yield from (order[start : start + size] for start in range(0, count, size))
        return
    order = torch.randperm(count, generator=generator).tolist()
    made = []
    for start in range(0, count, 16 * size):
        pool = sorted(order[start : start + 16 * size], key=lambda row: lengths[row])
        made += [pool[at : at + size] for at in range(0, len(pool), size)]
    yield from (made[place] for place in torch.randperm(len(made), generator=generator).tolist())


def pad(rows: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
    """Return rows [length, ...] stacked with zeros at the end, and their attention mask."""
    longest = max(len(row) for row in rows)
    values = rows[0].new_zeros((len(rows), longest, *rows[0].shape[1:]))
    mask = torch.zeros(len(rows), longest, dtype=torch.long)
    for place, row in enumerate(rows):
        values[place, : len(row)] = row
        mask[place, : len(row)] = 1
    return values, mask


def train(
    model: BertForSequenceClassification, rows: Sequence[Tensor], labels: Tensor, recipe: Recipe
) -> Iterator[float]:
    """Train in place, yielding the mean loss of each epoch; exhaust it to get the model back.

    `rows` are token ids [length] and `labels` class numbers [rows]. The same rows, recipe,
    machine and thread count give the same weights.
    """
    bert = model.bert
    embeddings, layers = bert.embeddings, bert.encoder.layer
    lower, upper = layers[: recipe.frozen_layers], layers[recipe.frozen_layers :]
    try:
        bert.encoder.layer = lower
        states = _hidden_states(model, rows)
        bert.embeddings, bert.encoder.layer = Replay(), upper
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(recipe.seed)
            yield from _epochs(model, states, labels, recipe)
    finally:
        bert.embeddings, bert.encoder.layer = embeddings, layers
        model.eval()


def _hidden_states(model: BertForSequenceClassification, rows: Sequence[Tensor]) -> list[Tensor]:
    states: dict[int, Tensor] = {}
    model.eval()
    # no_grad, not inference_mode: autograd refuses to save inference tensors for its backward.
    with torch.no_grad():
        for batch in batches([len(row) for row in rows], 64):
            ids, mask = pad([rows[row] for row in batch])
            hidden = model.bert(input_ids=ids, attention_mask=mask).last_hidden_state
            for place, row in enumerate(batch):
                states[row] = hidden[place, : len(rows[row])].clone()
    return [states[row] for row in range(len(rows))]


def _epochs(
    model: BertForSequenceClassification, states: list[Tensor], labels: Tensor, recipe: Recipe
) -> Iterator[float]:
    weights = list(model.parameters())
    optimizer = torch.optim.AdamW(weights, lr=recipe.peak_rate, weight_decay=recipe.weight_decay)
    steps = recipe.epochs * -(-len(states) // recipe.batch)
    rising = max(1, round(recipe.warmup * steps))

    def rate(step: int) -> float:
        return (step + 1) / rising if step < rising else (steps - step) / max(1, steps - rising)

    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, rate)
    order = torch.Generator().manual_seed(recipe.seed)
    lengths = [len(state) for state in states]
    for _ in range(recipe.epochs):
        model.train()
        total = 0.0
        for batch in batches(lengths, recipe.batch, order):
            hidden, mask = pad([states[row] for row in batch])
            logits = model(inputs_embeds=hidden, attention_mask=mask).logits
            loss = nn.functional.cross_entropy(logits, labels[batch])
            torch.autograd.backward(loss)
            nn.utils.clip_grad_norm_(weights, 1.0)
            optimizer.step()
            optimizer.zero_grad()
            schedule.step()
            total += loss.item() * len(batch)
        yield total / len(states)
