"""What a sample of DATA may be used for follows from its content (DESIGN §5.2).

The hash of its inputs decides, whatever file it came in and wherever it stands there:
calibration, search, or the verdict. One file can go to every command.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Literal, TypeAlias

import numpy as np

from edgekit.core.errors import ConfigError
from edgekit.core.hashing import canonical_json, sha256_file
from edgekit.sources.data_arrays import Array
from edgekit.sources.data_columns import Label, Value
from edgekit.sources.data_spool import Stored

Role = Literal["calibration", "search", "verdict"]
Inputs: TypeAlias = Mapping[str, Value | Array]

# What is hashed by its bytes, wherever they lie.
_HASHED = (np.ndarray, Path, Stored)


def role_of(digest: str) -> Role:
    """The role of a sample: its hash modulo 100, < 10 calibration, < 30 search, else verdict."""
    place = int(digest, 16) % 100
    if place < 10:
        return "calibration"
    return "search" if place < 30 else "verdict"


def hash_inputs(inputs: Inputs) -> str:
    """SHA-256 over the canonical inputs, the label excluded.

    Texts as canonical JSON (RFC 8785); arrays as their names, types, shapes and little-endian
    bytes in C order; pictures and sounds as the bytes of their files, wherever these lie.

    Raises ConfigError for a file that cannot be read.
    """
    digest = hashlib.sha256()
    texts = {name: v for name, v in inputs.items() if not isinstance(v, _HASHED)}
    if texts:
        digest.update(canonical_json(texts))
    for name in sorted(set(inputs) - set(texts)):
        value = inputs[name]
        if isinstance(value, Stored):
            digest.update(canonical_json([name, "picture", value.digest]))
            continue
        if isinstance(value, Path):
            try:
                content = sha256_file(value)
            except OSError as error:
                raise ConfigError(
                    f"{value} cannot be read: {error.strerror or error}.",
                    hint="Check its permissions.",
                ) from error
            digest.update(canonical_json([name, "picture", content]))
            continue
        array = np.ascontiguousarray(value)
        little = array.astype(array.dtype.newbyteorder("<"), copy=False)
        digest.update(canonical_json([name, array.dtype.name, list(array.shape)]))
        digest.update(little.tobytes())
    return digest.hexdigest()


def content_of(digest: str, label: Label | None) -> int:
    """A number that stands for what a row says: its inputs and its label."""
    told = f"{digest} {label!r}".encode("utf-8", errors="surrogatepass")
    return int.from_bytes(hashlib.sha256(told).digest()[:8], "big")
