"""Fine-tuning with a frozen lower part, on a tiny random model."""

from __future__ import annotations

import torch
from transformers import BertConfig, BertForSequenceClassification

from benchmarks.zoo import frozen

RECIPE = frozen.Recipe(
    frozen_layers=1,
    epochs=4,
    batch=8,
    peak_rate=5e-3,
    warmup=0.1,
    weight_decay=0.01,
    seed=3,
)


def tiny() -> BertForSequenceClassification:
    """Return a random model of two layers, always the same one."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return BertForSequenceClassification(
            BertConfig(
                vocab_size=20,
                hidden_size=16,
                num_hidden_layers=2,
                num_attention_heads=2,
                intermediate_size=32,
                max_position_embeddings=16,
            )
        )


def task() -> tuple[list[torch.Tensor], torch.Tensor]:
    """Return 32 rows of 3 to 9 tokens; the label says whether the first is above 10."""
    generator = torch.Generator().manual_seed(1)
    rows = [torch.randint(1, 20, (3 + n % 7,), generator=generator) for n in range(32)]
    return rows, torch.tensor([int(row[0] > 10) for row in rows])


def test_batches_hold_every_row_once() -> None:
    """Sorted or shuffled, each row is in exactly one batch."""
    lengths = [n * 7 % 13 + 1 for n in range(100)]
    for generator in (None, torch.Generator().manual_seed(0)):
        made = list(frozen.batches(lengths, 8, generator))
        assert sorted(row for batch in made for row in batch) == list(range(100))
        assert max(len(batch) for batch in made) == 8


def test_padding_is_masked() -> None:
    """Rows are filled with zeros at the end, where the mask is zero."""
    values, mask = frozen.pad([torch.tensor([5, 6]), torch.tensor([7])])
    assert values.tolist() == [[5, 6], [7, 0]]
    assert mask.tolist() == [[1, 1], [1, 0]]


def test_only_the_upper_part_learns() -> None:
    """Embeddings and frozen layers stay bit-identical, the loss falls, the model is whole."""
    model = tiny()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    losses = list(frozen.train(model, *task(), RECIPE))
    after = model.state_dict()
    assert after.keys() == before.keys()
    moved = {name for name in before if not torch.equal(before[name], after[name])}
    still = ("bert.embeddings.", "bert.encoder.layer.0.")
    assert moved
    assert not [name for name in moved if name.startswith(still)]
    assert any(name.startswith("bert.encoder.layer.1.") for name in moved)
    assert losses[-1] < losses[0]
    assert not model.training


def test_training_twice_gives_the_same_weights() -> None:
    """The seed decides order and dropout, and the caller's random state is left alone."""
    torch.manual_seed(11)
    state = torch.get_rng_state()
    models = [tiny(), tiny()]
    for model in models:
        list(frozen.train(model, *task(), RECIPE))
    first, second = (model.state_dict() for model in models)
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert torch.equal(state, torch.get_rng_state())
