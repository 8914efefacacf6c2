"""What is measured: the results of validate, bench and quantize."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

Verdict = Literal["pass", "fail", "inconclusive"]
Comparison = Literal["faster", "slower", "not resolved"]

#: Samples below which a percentile is not told: with 99 % confidence the estimate lies on the right
#: side of the true one (MLPerf Inference rules, "early stopping criterion").
LEAST_SAMPLES: Mapping[float, int] = {0.5: 1, 0.9: 64, 0.95: 130, 0.99: 662, 0.999: 6636}


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
    #: McNemar's exact two-sided p where single answers are right or wrong, beside the interval.
    mcnemar_p: float | None = None
    #: Rows of DATA that earlier steps had used and that the verdict therefore leaves out.
    excluded: int = 0


@dataclass(frozen=True)
class Numerics:
    """How far one output of the candidate lies from the reference's, over all samples."""

    max_abs: float
    mean_abs: float
    cosine: float
    argmax_agreement: float | None
    #: Mean Kullback–Leibler divergence of the candidate's probabilities from the reference's, nats.
    kl: float | None = None


@dataclass(frozen=True)
class WorstSample:
    """A sample on which candidate and reference differ most.

    ``row`` is its place in DATA, from 1; ``distance`` the largest absolute difference of the
    outputs; ``changed`` whether the decision is another one.
    """

    row: int
    input: str
    label: str | None
    reference: str
    candidate: str
    distance: float
    changed: bool


@dataclass(frozen=True)
class LayerError:
    """One tensor inside the graph: how far the candidate lies from the reference ONNX graph.

    ``sqnr_db`` is 10·log10 of signal over error power: smaller is worse.
    """

    tensor: str
    operator: str
    sqnr_db: float
    max_abs: float


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
    #: What was judged: ``name, bundle_id, stage, task, target, engine, precision``.
    bundle: Mapping[str, object] = field(default_factory=dict)
    #: What it was judged against: ``id, sha256, architecture, parameters``.
    reference: Mapping[str, object] = field(default_factory=dict)
    #: What it was judged on: ``name, rows, for_verdicts, used_before, judged``; empty without DATA.
    data: Mapping[str, object] = field(default_factory=dict)
    worst: tuple[WorstSample, ...] = ()
    layers: tuple[LayerError, ...] = ()
    #: The measurement that ``latency`` sums up.
    timing: BenchResult | None = None
    notes: tuple[str, ...] = ()
    #: The command that makes this result again.
    command: str | None = None


@dataclass(frozen=True)
class Stages:
    """Median milliseconds of one prediction's parts, from the text or the picture to the answer.

    ``decode_ms`` is what decoding pictures takes; None for other inputs. The rest up to the engine
    is ``preprocess_ms``. ``pictures_per_second`` is what all of it comes to, one call after the
    other.
    """

    preprocess_ms: float
    engine_ms: float
    postprocess_ms: float
    decode_ms: float | None = None
    pictures_per_second: float | None = None


@dataclass(frozen=True)
class Percentiles:
    """Milliseconds of something that was timed: the median, and the p90 where samples allow it."""

    p50: float
    p90: float | None = None


@dataclass(frozen=True)
class Ecdf:
    """The distribution of single times: ``share[i]`` of them took at most ``ms[i]``."""

    ms: tuple[float, ...]
    share: tuple[float, ...]


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
    length: int | Literal["data"] | None
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
    #: CPU time of the whole process per inference.
    cpu_ms: float | None = None
    peak_pss_bytes: int | None = None
    stages: Stages | None = None
    ecdf: Ecdf | None = None
    #: Requests per second of the server scenario: offered, and answered.
    offered_qps: float | None = None
    reached_qps: float | None = None
    #: How it ran: "eager, 2 threads", "torch.compile", "bfloat16".
    settings: str | None = None
    #: Of models of sounds: how long one sound of the batch lasts, and seconds of computing per
    #: second of sound: below 1 it keeps up with what is said.
    audio_seconds: float | None = None
    real_time_factor: float | None = None
    #: Of models that generate: the tokens of every answer, the time up to the first and between two
    #: of them, and how many a second come after the first, all rows of the batch together.
    new_tokens: int | None = None
    first_token_ms: Percentiles | None = None
    token_ms: Percentiles | None = None
    tokens_per_second: float | None = None
    #: The peak of memory above the imports while requests of this length alone were answered, in
    #: the processes that began with it; None where none did, or the system does not tell.
    context_rss_bytes: int | None = None


@dataclass(frozen=True)
class Ratio:
    """p50(a) / p50(b), turn by turn: above 1, b is faster.

    Contenders take turns, and the medians of the two turns of a pair are compared: what disturbed
    both cancels, so the value may differ from the ratio of the medians over the whole run.
    ``resolvable`` is the least ratio that would have been told apart from 1. In the offline
    scenario it is throughput(b) / throughput(a), which reads the same way.
    ``measure`` is what was compared: whole requests, or of models that generate the wait for the
    first token or the time of each one after it.
    """

    a: str
    b: str
    batch: int
    length: int | Literal["data"] | None
    value: float
    low: float
    high: float
    resolvable: float
    verdict: Comparison
    measure: Literal["request", "first_token", "token"] = "request"


@dataclass(frozen=True)
class Noise:
    """What a contender compared with itself gave in the same run."""

    aa_ratio: float | None
    aa_low: float | None
    aa_high: float | None
    verdict: Literal["quiet", "noisy"]
    causes: tuple[str, ...]


@dataclass(frozen=True)
class Probe:
    """An option of the runtime tried on a bundle: what it gains as a ratio (above 1: faster)."""

    contender: str
    option: str
    batch: int
    length: int | Literal["data"] | None
    gain: Interval
    verdict: Comparison


@dataclass(frozen=True)
class Attached:
    """A result that was measured elsewhere; no ratio is formed with it."""

    file: str
    device: Mapping[str, object]
    versions: Mapping[str, str]
    contenders: tuple[Contender, ...]
    noise: Noise


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
    probes: tuple[Probe, ...] = ()
    attached: tuple[Attached, ...] = ()
    #: The command that makes this result again.
    command: str | None = None
    #: Of models that generate: the ratios of ``first_token`` and ``token``, beside ``ratios``.
    token_ratios: tuple[Ratio, ...] = ()


@dataclass(frozen=True)
class KeptFloat:
    """An operator that stayed in floating point though it could have been quantized, and why."""

    node: str
    reason: str


@dataclass(frozen=True)
class Tried:
    """A candidate of a search: what it was, what came of it, why it was or was not taken.

    ``drop`` is the metric's on the search rows, in the unit of the budget; None where the candidate
    never got so far.
    """

    name: str
    drop: float | None
    bytes: int | None
    taken: bool
    reason: str


@dataclass(frozen=True)
class QuantizeResult:
    """What `quantize` made; what a bundle has is None where there was no candidate.

    ``latency`` is the bundle against its input on the target's engine, ``accuracy`` that against
    the original on rows that no choice saw; each is None where it was not asked for or cannot be
    measured here. ``kept_float`` tells what could have been quantized and was not.
    """

    output: Path | None
    bundle_id: str | None
    method: str | None
    bits: int | None
    target: str
    engine: str
    quantized_ops: Mapping[str, int]
    kept_float: tuple[KeptFloat, ...]
    bytes: int | None
    ratio_to_input: float | None
    latency: Latency | None
    accuracy: Accuracy | None
    verdict: Verdict
    recipe: Mapping[str, object]
    cpu_features: tuple[str, ...] = ()
    run_on: Mapping[str, object] | None = None
    tried: tuple[Tried, ...] = ()
    evaluations: int = 0
    sensitivity: Mapping[str, object] | None = None
    notes: tuple[str, ...] = ()
    seconds: float = 0.0
    #: What ``latency`` was measured at: ``batch, length, threads``.
    workload: Mapping[str, object] = field(default_factory=dict)
    #: How quiet the machine was meanwhile.
    noise: Noise | None = None
    #: The rows for verdicts that would settle an inconclusive result.
    samples_needed: int | None = None
