"""What a sample may be used for follows from its content alone."""

from __future__ import annotations

import hashlib

import numpy as np

from edgekit.sources.data_roles import hash_inputs


def test_the_hash_of_texts_is_pinned() -> None:
    """Roles must never move: SHA-256 over the canonical JSON of the inputs."""
    text = '{"text":"good","text_pair":"film"}'
    expected = hashlib.sha256(text.encode()).hexdigest()
    assert hash_inputs({"text_pair": "film", "text": "good"}) == expected


def test_the_same_array_has_the_same_hash() -> None:
    """Memory order and byte order are not content; dtype and shape are."""
    array = np.arange(6, dtype=np.float32).reshape(2, 3)
    digest = hash_inputs({"x": array})
    assert hash_inputs({"x": np.asfortranarray(array)}) == digest
    assert hash_inputs({"x": array.astype(">f4")}) == digest
    assert hash_inputs({"x": array.astype(np.float64)}) != digest
    assert hash_inputs({"x": array.reshape(3, 2)}) != digest
    assert hash_inputs({"y": array}) != digest
