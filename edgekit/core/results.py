"""The results of the steps: what Python gets, and with `to_json` what ``--json`` prints.

Those of validate and bench, which an app never loads, are in `edgekit.core.measurements`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass
from pathlib import Path

from edgekit.core.manifest import TensorSpec


def to_json(value: object) -> object:
    """Dataclasses, paths, tuples and numbers as plain JSON values; NaN and infinities as null."""
    if is_dataclass(value) and not isinstance(value, type):
        return {item.name: to_json(getattr(value, item.name)) for item in fields(value)}
    if isinstance(value, Mapping):
        return {str(key): to_json(item) for key, item in value.items()}
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if value is None or isinstance(value, (str, bool, int)):
        return value
    if isinstance(value, Sequence):
        return [to_json(item) for item in value]
    raise TypeError(f"{type(value).__name__} has no JSON form")


@dataclass(frozen=True)
class Parity:
    """One comparison of an exported graph with PyTorch at a shape that was not traced."""

    shape: Mapping[str, tuple[int, ...]]
    output: str
    max_abs: float
    cosine: float
    argmax_agreement: float | None


@dataclass(frozen=True)
class ExportResult:
    """What `export` and `import` made."""

    output: Path
    bundle_id: str
    task: str
    architecture: str
    opset: int
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    parity: tuple[Parity, ...]
    bytes: int
    seconds: float
    peak_rss_bytes: int | None


@dataclass(frozen=True)
class CompileResult:
    """What `compile` made; ``run_on`` is None when it was built but not run on the target."""

    output: Path
    bundle_id: str
    target: str
    engine: str
    device: str
    runtime: Mapping[str, object]
    bytes: int
    load_ms: float | None
    run_on: Mapping[str, object] | None


@dataclass(frozen=True)
class GoldenRow:
    """One output of the golden self-test; ``to_reference`` is the distance to PyTorch.

    ``judged`` is False for what is held to no tolerance, as a rounded decoder's cache.
    """

    output: str
    max_abs: float
    cosine: float
    tolerance: str
    passed: bool
    to_reference: float | None
    judged: bool = True


@dataclass(frozen=True)
class VerifyResult:
    """Whether a bundle is whole and answers here as it did where it was written."""

    integrity: bool
    golden: tuple[GoldenRow, ...]
    engine: str
    passed: bool
