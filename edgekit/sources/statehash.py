"""The identity of a model's weights: a hash of its sorted state dict."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

import torch
from torch import Tensor

from edgekit.core.hashing import canonical_json, sha256_bytes

# Elements that are converted at a time where a tensor's memory is not one block.
_BLOCK = 1 << 22
_HALF = (torch.float16, torch.bfloat16)


def state_hash(state: Mapping[str, Tensor]) -> str:
    """SHA-256 over the sorted names, dtypes, shapes and bytes of a state dict.

    The hash is that of the canonical JSON list of ``[name, dtype, shape, sha256 of the bytes]``
    (row-major, little-endian), so it depends neither on the file format nor on the order of the
    weights. Half-precision weights count as the float32 that they widen to: a checkpoint has one
    hash whether it is loaded in its own type or in float32. Tensors are read where they lie; one
    that is tied under two names is read once.
    """
    digests: dict[tuple[object, ...], str] = {}
    rows: list[list[object]] = []
    for name in sorted(state):
        tensor = state[name].detach()
        place = (
            tensor.untyped_storage().data_ptr(),
            tensor.storage_offset(),
            tensor.stride(),
            tensor.shape,
            tensor.dtype,
        )
        if place not in digests:
            digests[place] = _digest(tensor)
        dtype = "float32" if tensor.dtype in _HALF else str(tensor.dtype).removeprefix("torch.")
        rows.append([name, dtype, list(tensor.shape), digests[place]])
    return sha256_bytes(canonical_json(rows))


def _digest(tensor: Tensor) -> str:
    digest = hashlib.sha256()
    flat = tensor.reshape(-1) if tensor.is_contiguous() else None
    if flat is not None:
        if flat.numel():
            digest.update(_bytes(flat))
    else:
        for start in range(0, tensor.numel(), _BLOCK):
            # take() copies one block, never the whole tensor.
            index = torch.arange(start, min(start + _BLOCK, tensor.numel()))
            digest.update(_bytes(tensor.take(index)))
    return digest.hexdigest()


def _bytes(flat: Tensor) -> memoryview:
    if flat.dtype in _HALF:
        flat = flat.float()
    view: memoryview = flat.cpu().view(torch.uint8).numpy().data
    return view
