"""The results of the verbs: what Python gets, and with `to_json` what ``--json`` prints."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, is_dataclass
from pathlib import Path
from typing import Literal

from edgekit.core.manifest import TensorSpec

Verdict = Literal["pass", "fail", "inconclusive"]
Comparison = Literal["faster", "slower", "not resolved"]


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
    """One output of the golden self-test; ``to_reference`` is the distance to PyTorch."""

    output: str
    max_abs: float
    cosine: float
    tolerance: str
    passed: bool
    to_reference: float | None


@dataclass(frozen=True)
class VerifyResult:
    """Whether a bundle is whole and answers here as it did where it was written."""

    integrity: bool
    golden: tuple[GoldenRow, ...]
    engine: str
    passed: bool


@dataclass(frozen=True)
class Accuracy:
    """A metric of reference and candidate on the same samples, with the drop's 95 % interval.

    ``drop`` and its bounds are fractions of the reference's metric where ``drop_unit`` is
    "relative", differences of the metric itself where it is "points".
    """

    metric: str
    reference: float
    candidate: float
    drop: float
    drop_lower_95: float
    drop_upper_95: float
    samples: int
    samples_needed: int | None
    drop_unit: Literal["relative", "points"] = "relative"


@dataclass(frozen=True)
class Numerics:
    """How far one output of the candidate lies from the reference's, over all samples."""

    max_abs: float
    mean_abs: float
    cosine: float
    argmax_agreement: float | None


@dataclass(frozen=True)
class Interval:
    """A value with its 95 % interval."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Latency:
    """Median milliseconds of reference and candidate, and the speedup measured interleaved.

    ``candidate_low_ms`` and ``candidate_high_ms`` are the 95 % interval of the candidate's median.
    """

    reference_ms: float
    candidate_ms: float
    speedup: Interval
    candidate_low_ms: float | None = None
    candidate_high_ms: float | None = None


@dataclass(frozen=True)
class Size:
    """Component and weights files, in bytes; ``ratio`` is candidate to reference."""

    reference_bytes: int
    candidate_bytes: int
    ratio: float


@dataclass(frozen=True)
class Gate:
    """One limit and whether it holds; ``passed`` None means that the run could not decide."""

    name: str
    limit: float
    value: float | None
    passed: bool | None


@dataclass(frozen=True)
class ValidateResult:
    """The verdict on a bundle against the original PyTorch model."""

    verdict: Verdict
    accuracy: Accuracy | None
    numerics: Mapping[str, Numerics]
    latency: Latency | None
    size: Size
    gates: tuple[Gate, ...]
    device: Mapping[str, object]
    versions: Mapping[str, str]


@dataclass(frozen=True)
class Contender:
    """What was measured of one contender at one workload; times in milliseconds.

    A percentile is None without the samples for it; ``error`` says why a contender has none, and
    ``error_kind`` which of edgekit's errors it was. ``peak_rss_bytes`` is the peak of memory above
    what the imports alone took. ``p50_low_ms`` and ``p50_high_ms``: the median's 95 % interval.
    """

    name: str
    engine: str
    batch: int
    length: int | None
    p50_ms: float | None
    p90_ms: float | None
    p95_ms: float | None
    p99_ms: float | None
    throughput: float | None
    import_ms: float | None
    load_ms: float | None
    first_ms: float | None
    peak_rss_bytes: int | None
    artifact_bytes: int | None
    samples: int
    processes: int
    error: str | None = None
    error_kind: str | None = None
    p50_low_ms: float | None = None
    p50_high_ms: float | None = None


@dataclass(frozen=True)
class Ratio:
    """p50(a) / p50(b): above 1, b is faster. ``resolvable``: the least ratio told apart from 1."""

    a: str
    b: str
    batch: int
    length: int | None
    value: float
    low: float
    high: float
    resolvable: float
    verdict: Comparison


@dataclass(frozen=True)
class Noise:
    """What a contender compared with itself gave in the same run."""

    aa_ratio: float | None
    aa_low: float | None
    aa_high: float | None
    verdict: Literal["quiet", "noisy"]
    causes: tuple[str, ...]


@dataclass(frozen=True)
class BenchResult:
    """A fair comparison: contenders, ratios between them and how quiet the machine was."""

    protocol: Mapping[str, object]
    device: Mapping[str, object]
    versions: Mapping[str, str]
    contenders: tuple[Contender, ...]
    ratios: tuple[Ratio, ...]
    noise: Noise
    notes: tuple[str, ...] = field(default=())
