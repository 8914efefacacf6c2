"""What a batch feeds its decoder."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest

from edgekit.core.errors import SessionError
from edgekit.core.manifest import TensorSpec
from edgekit.runtime.generation.decoder import Decoder
from edgekit.runtime.session import Array

PAD = 0
SIZE = 5


class Recorder:
    """A session whose decoder scores nothing, and remembers what it was fed."""

    engine, device = "recorder", "cpu"

    def __init__(self, *inputs: str) -> None:
        past = TensorSpec("past_key_values.0.key", "float32", ("batch", 1, "past", 2))
        names = ("input_ids", *inputs)
        self.inputs = (*(TensorSpec(name, "int64", ("batch", "n")) for name in names), past)
        self.outputs = (
            TensorSpec("logits", "float32", ("batch", "n", SIZE)),
            TensorSpec("present.0.key", "float32", ("batch", 1, "total", 2)),
        )
        self.fed: list[dict[str, Array]] = []

    def run(self, feeds: Mapping[str, Array]) -> dict[str, Array]:
        self.fed.append({name: np.array(array) for name, array in feeds.items()})
        rows, count = feeds["input_ids"].shape
        past = feeds["past_key_values.0.key"].shape[2]
        present = np.zeros((rows, 1, past + count, 2), np.float32)
        return {"logits": np.zeros((rows, count, SIZE), np.float32), "present.0.key": present}

    def facts(self) -> dict[str, Any]:
        return {}

    def close(self) -> None:
        pass


def test_without_a_mask_prompts_are_of_one_length() -> None:
    """Nothing would hide the padding of the shorter one: it is refused before anything runs."""
    session = Recorder()
    decoder = Decoder(session)
    with pytest.raises(SessionError, match="of 1 and of 2 tokens in one batch"):
        decoder.begin([[3], [3, 4]], {}, PAD)
    assert session.fed == []
    decoder.begin([[4, 3], [3, 4]], {}, PAD).first()
    Decoder(Recorder("attention_mask")).begin([[3], [3, 4]], {}, PAD).first()


def test_positions_end_with_the_context() -> None:
    """A row at its last position stays there while a shorter one goes on."""
    session = Recorder("attention_mask", "position_ids")
    run = Decoder(session).begin([[3, 4, 5], [3]], {}, PAD, 4)
    run.first()
    for _ in range(3):
        run.next([1, 1])
    assert [fed["position_ids"].tolist() for fed in session.fed] == [
        [[0, 1, 2], [0, 0, 0]], [[3], [1]], [[3], [2]], [[3], [3]]
    ]  # fmt: skip
    # What it is given there is no token of it.
    assert session.fed[-1]["attention_mask"].tolist() == [[1, 1, 1, 1, 0, 0], [0, 0, 1, 1, 1, 1]]


def test_every_place_is_scored_part_by_part() -> None:
    """With the masks and positions of the whole prompts, filled up on the left."""
    session = Recorder("attention_mask", "position_ids", "logits_to_keep")
    run = Decoder(session).begin([[3, 4, 5], [3]], {}, PAD, 4)
    found = [(places, logits.shape) for places, logits in run.every(2)]
    assert found == [(slice(0, 2), (2, 2, SIZE)), (slice(2, 3), (2, 1, SIZE))]
    told = [{name: array.tolist() for name, array in fed.items()} for fed in session.fed]
    assert [fed["input_ids"] for fed in told] == [[[3, 4], [PAD, PAD]], [[5], [3]]]
    assert [fed["attention_mask"] for fed in told] == [[[1, 1], [0, 0]], [[1, 1, 1], [0, 0, 1]]]
    assert [fed["position_ids"] for fed in told] == [[[0, 1], [0, 0]], [[2], [0]]]
    assert [fed["logits_to_keep"] for fed in told] == [[0, 1], [0]]
    assert session.fed[1]["past_key_values.0.key"].shape[2] == 2
