"""Workloads: rows of exactly the wanted tokens, and arrays of exactly the wanted batch."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from edgekit.core.bundle import Bundle
from edgekit.core.errors import ConfigError
from edgekit.core.manifest import TensorSpec
from edgekit.runtime import load
from edgekit.runtime.batching import batch_symbol
from edgekit.runtime.workloads import (
    Workload,
    load_outputs,
    load_workloads,
    make_workloads,
    save_outputs,
    save_workloads,
    sweep_workloads,
)
from tests.runtime.conftest import MAX_LENGTH
from tests.runtime.generation.conftest import write_generator

Make = Callable[..., Bundle]


@pytest.mark.parametrize("kind", ["classification", "embedding", "question-answering"])
def test_rows_have_exactly_the_length(text_bundle: Make, kind: str) -> None:
    """No padding, no row like another, and the bundle takes them."""
    bundle = text_bundle(kind)
    made = make_workloads(bundle, batch=3, lengths=[7, 16])
    assert [workload.name for workload in made] == ["3×7", "3×16"]
    for workload in made:
        ids = workload.feeds["input_ids"]
        assert ids.shape == (3, workload.length)
        assert (workload.feeds["attention_mask"] == 1).all()
        assert len({tuple(row) for row in ids.tolist()}) == 3
        with load(bundle.path) as model:
            assert model.run(workload.feeds)


def test_the_default_lengths_are_what_the_model_takes(text_bundle: Make) -> None:
    """16 and 128 tokens, or the most that it takes."""
    lengths = [workload.length for workload in make_workloads(text_bundle("classification"))]
    assert lengths == [16, MAX_LENGTH]


@pytest.mark.parametrize("length", [1, MAX_LENGTH + 1])
def test_a_length_the_model_does_not_take_is_refused(text_bundle: Make, length: int) -> None:
    """Nothing is cut silently."""
    with pytest.raises(ConfigError, match="outside of what the model takes"):
        make_workloads(text_bundle("classification"), lengths=[length])


def test_fixed_shapes_decide(text_bundle: Make) -> None:
    """A graph of one size is measured at that size, and at no other."""
    bundle = text_bundle("classification", batch=2, sequence=12)
    (made,) = make_workloads(bundle, batch=2)
    assert made.feeds["input_ids"].shape == (2, 12)
    with pytest.raises(ConfigError, match="--batch 1"):
        make_workloads(bundle)
    with pytest.raises(ConfigError, match="--length 16"):
        make_workloads(bundle, batch=2, lengths=[16])


def test_the_inputs_dtype_is_the_graphs(text_bundle: Make) -> None:
    """A graph that takes int32 gets int32."""
    (made,) = make_workloads(text_bundle("classification", dtype="int32"), lengths=[8])
    assert made.feeds["input_ids"].dtype == np.int32


def test_golden_inputs_are_brought_to_the_batch(linear_bundle: Make) -> None:
    """A custom model runs on what it was exported with, repeated or cut."""
    golden = {
        "a": np.arange(6, dtype=np.float32).reshape(2, 3),
        "b": np.ones((2, 3), dtype=np.float32),
    }
    bundle = linear_bundle(golden_inputs=golden)
    (made,) = make_workloads(bundle, batch=5)
    assert made.length is None
    np.testing.assert_array_equal(made.feeds["a"], golden["a"][[0, 1, 0, 1, 0]])
    (single,) = make_workloads(bundle)
    np.testing.assert_array_equal(single.feeds["a"], golden["a"][:1])


def test_without_golden_inputs_arrays_are_random(linear_bundle: Make) -> None:
    """The same for the same seed."""
    bundle = linear_bundle()
    first, again, other = (make_workloads(bundle, batch=2, seed=seed)[0] for seed in (1, 1, 2))
    np.testing.assert_array_equal(first.feeds["a"], again.feeds["a"])
    assert (first.feeds["a"] != other.feeds["a"]).any()
    assert first.feeds["a"].shape == (2, 3)


def test_lengths_are_for_text(linear_bundle: Make, tmp_path: Path) -> None:
    """Tokens mean nothing to a model of arrays, or to one call of a decoder."""
    with pytest.raises(ConfigError, match="takes no text"):
        make_workloads(linear_bundle(), lengths=[16])
    with pytest.raises(ConfigError, match="--batch"):
        make_workloads(linear_bundle("other"), batch=0)
    with pytest.raises(ConfigError, match="generates: one call of its graph has no --length"):
        make_workloads(write_generator(tmp_path / "generating"), lengths=[16])


def test_the_batch_axis_is_found_by_name() -> None:
    """A state of `[layers, batch, hidden]` has it in the middle."""
    state = TensorSpec("h", "float32", (2, "batch", 8))
    assert batch_symbol([state, TensorSpec("x", "float32", ("n", 4))]) == "batch"
    assert batch_symbol([TensorSpec("x", "float32", ("n", 4))]) == "n"
    assert batch_symbol([TensorSpec("x", "float32", (1, 4))]) is None


def test_a_sweep_is_every_batch_with_every_length(text_bundle: Make) -> None:
    """One workload each, in order, none twice."""
    made = sweep_workloads(text_bundle("classification"), batches=(1, 4, 1), lengths=(8, 12))
    assert [workload.name for workload in made] == ["1×8", "1×12", "4×8", "4×12"]


def test_workloads_survive_their_file(tmp_path: Path) -> None:
    """Every child reads the same arrays, variants and texts."""
    ids = {"input_ids": np.arange(16)[None]}
    other = {"input_ids": np.arange(3)[None]}
    made = (
        Workload(1, 16, ids, texts=("Ça va\u2028?",)),
        Workload(1, "data", ids, (ids, other), ("a", ("who", "b"))),
        Workload(2, None, {"x.y": np.ones((2, 3), dtype=np.float32), "m": np.array([True, False])}),
    )
    save_workloads(made, tmp_path / "w.safetensors")
    for before, after in zip(made, load_workloads(tmp_path / "w.safetensors"), strict=True):
        assert (before.batch, before.length) == (after.batch, after.length)
        assert before.texts == after.texts
        assert after.feeds is after.variants[0]
        for left, right in zip(before.variants, after.variants, strict=True):
            assert set(left) == set(right)
            for name, array in left.items():
                np.testing.assert_array_equal(right[name], array)
                assert right[name].dtype == array.dtype


def test_every_variant_can_be_changed() -> None:
    """Another bundle of the model may take other integers."""
    feeds = ({"n": np.array([1])}, {"n": np.array([2])})
    made = Workload(1, "data", feeds[0], feeds, ("a", "b")).fed(
        lambda arrays: {name: array.astype(np.int32) for name, array in arrays.items()}
    )
    assert [variant["n"].dtype for variant in made.variants] == [np.int32, np.int32]
    assert made.feeds is made.variants[0]
    assert made.texts == ("a", "b")


def test_outputs_survive_their_file(tmp_path: Path) -> None:
    """By workload and name; what holds no numbers is left out."""
    outputs = [
        {"y.z": np.ones((2, 3), dtype=np.float32), "w": np.array(["a"])},
        {"y": np.arange(3)},
    ]
    save_outputs(outputs, tmp_path / "o")
    first, second = load_outputs(tmp_path / "o")
    assert set(first) == {"y.z"}
    np.testing.assert_array_equal(first["y.z"], outputs[0]["y.z"])
    np.testing.assert_array_equal(second["y"], outputs[1]["y"])
    (tmp_path / "w").write_bytes(b"nothing")
    with pytest.raises(ConfigError, match="no outputs"):
        load_outputs(tmp_path / "w")


def test_another_file_holds_no_workloads(tmp_path: Path) -> None:
    """Said by name."""
    (tmp_path / "w").write_bytes(b"nothing")
    with pytest.raises(ConfigError, match="no workloads"):
        load_workloads(tmp_path / "w")
