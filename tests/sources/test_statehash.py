"""The hash of a state dict."""

from __future__ import annotations

import hashlib
import struct

import torch

from edgekit.sources.statehash import state_hash


def _state() -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return {
        "b.weight": torch.randn(7, 5, generator=generator),
        "a.bias": torch.randn(3, generator=generator),
        "steps": torch.tensor(4),
        "mask": torch.tensor([True, False]),
    }


def test_hash_is_that_of_the_documented_list() -> None:
    """Written out by hand: bundles of every version and machine name weights by it."""
    state = {"w": torch.arange(6, dtype=torch.float32).reshape(2, 3), "n": torch.tensor(7)}
    w = hashlib.sha256(struct.pack("<6f", *range(6))).hexdigest()
    n = hashlib.sha256(struct.pack("<q", 7)).hexdigest()
    listed = f'[["n","int64",[],"{n}"],["w","float32",[2,3],"{w}"]]'
    assert state_hash(state) == hashlib.sha256(listed.encode()).hexdigest()


def test_hash_does_not_depend_on_order() -> None:
    """Names are sorted."""
    state = _state()
    assert state_hash(dict(reversed(state.items()))) == state_hash(state)


def test_hash_sees_name_dtype_shape_and_value() -> None:
    """Any of the four makes another hash."""
    state = _state()
    variants = [
        {**state, "b.weight": state["b.weight"].double()},
        {**state, "b.weight": state["b.weight"].reshape(5, 7)},
        {**state, "b.weight": state["b.weight"] + 1e-6},
        {("c" if name == "b.weight" else name): value for name, value in state.items()},
    ]
    hashes = {state_hash(state), *map(state_hash, variants)}
    assert len(hashes) == 5


def test_hash_reads_values_not_memory() -> None:
    """A transposed or sliced view counts as its row-major values."""
    state = _state()
    turned = state["b.weight"].t().contiguous().t()
    assert not turned.is_contiguous()
    assert state_hash({**state, "b.weight": turned}) == state_hash(state)


def test_half_precision_counts_as_the_float32_it_widens_to() -> None:
    """A bfloat16 checkpoint has one hash, loaded as it is or in float32."""
    half = {"w": torch.randn(9, 4, generator=torch.Generator().manual_seed(1)).bfloat16()}
    assert state_hash(half) == state_hash({"w": half["w"].float()})
