"""Results as validate, bench and prune give them, every field filled, for the reports' tests."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np

from edgekit.core.measurements import (
    Accuracy,
    Attached,
    BenchResult,
    Contender,
    Ecdf,
    Gate,
    Interval,
    Latency,
    LayerError,
    Noise,
    Numerics,
    Probe,
    Ratio,
    Size,
    Stages,
    ValidateResult,
    WorstSample,
)
from edgekit.core.pruned import (
    Change,
    Cut,
    PrunedLayer,
    PruneResult,
    RecoveryFacts,
    SensitivityRow,
    TablePoint,
)
from edgekit.core.results import to_json

HOSTILE = (
    '<script>alert("x")</script><img src=https://evil.example/a.png onerror=alert(1)> | `x` @all'
)

DEVICE = {
    "cpu": "Intel(R) Xeon(R) Processor @ 2.60GHz",
    "arch": "x86_64",
    "cpu_features": ["amx_bf16", "amx_int8", "avx2", "avx512_vnni"],
    "cpus": 2,
    "affinity": 2,
    "cgroup_cpu_quota": None,
    "threads_available": 2,
    "memory_bytes": 25_200_000_000,
    "governor": None,
    "system": "Linux 6.1",
}
VERSIONS = {"edgekit": "0.1.0", "python": "3.11.7", "torch": "2.13.0", "openvino": "2026.4.1"}
QUIET = Noise(1.004, 0.991, 1.017, "quiet", ())
NOISY = Noise(0.916, 0.674, 1.776, "noisy", ("other programs used 56% of the CPUs",))
NAMES = ("pytorch", "minilm-ort-fp32", "minilm-openvino-bf16", "minilm-ort-int8")
_SPEED = {"pytorch": 1.0, "minilm-ort-fp32": 2.1, "minilm-openvino-bf16": 5.2,
          "minilm-ort-int8": 4.4}  # fmt: skip


def as_json(result: object) -> Mapping[str, object]:
    """What a program gets that reads what ``--json`` printed."""
    plain = json.loads(json.dumps(to_json(result), allow_nan=False))
    assert isinstance(plain, dict)
    return plain


def contender(name: str, length: int, *, seed: int = 0) -> Contender:
    """One row with a right-skewed distribution of times."""
    random = np.random.default_rng(seed + length)
    middle = 12.4 * (length / 16) ** 0.55 / _SPEED.get(name, 1.0)
    times = np.sort(middle * (0.94 + random.gamma(1.6, 0.05, size=200)))
    times[-3:] *= 2.5
    p50 = float(np.median(times))
    torch = name == "pytorch"
    return Contender(
        name=name, engine="pytorch" if torch else "onnxruntime", batch=1, length=length,
        p50_ms=p50, p90_ms=float(np.quantile(times, 0.9)), p95_ms=float(np.quantile(times, 0.95)),
        p99_ms=None, throughput=1000 / p50, import_ms=2100.0 if torch else 230.0,
        load_ms=940.0 if torch else 120.0 * _SPEED.get(name, 1.0), first_ms=p50 * 2.2,
        peak_rss_bytes=int(4.1e8 if torch else 1.9e8 / _SPEED.get(name, 1.0) + 6e7),
        peak_pss_bytes=int(1.2e8),
        artifact_bytes=int({"pytorch": 90.9e6, "minilm-ort-int8": 23.1e6,
                            "minilm-openvino-bf16": 45.6e6}.get(name, 90.4e6)),
        samples=1240, processes=5, p50_low_ms=p50 * 0.98, p50_high_ms=p50 * 1.025,
        cpu_ms=p50 * 1.7, stages=None if torch else Stages(0.21, p50 * 0.9, 0.05),
        ecdf=Ecdf(tuple(map(float, times)), tuple((i + 1) / 200 for i in range(200))),
        settings="eager, 2 threads" if torch else None,
    )  # fmt: skip


def comparison() -> BenchResult:
    """Four contenders at two workloads, with probes and a result of another device."""
    rows = tuple(contender(name, length) for length in (16, 128) for name in NAMES)
    ratios = []
    for length in (16, 128):
        for name in NAMES[1:]:
            value = _SPEED[name]
            ratios.append(
                Ratio("pytorch", name, 1, length, value, value * 0.96, value * 1.05, 1.04, "faster")
            )
        ratios.append(
            Ratio("minilm-openvino-bf16", "minilm-ort-int8", 1, length, 0.99, 0.96, 1.03, 1.04,
                  "not resolved")
        )  # fmt: skip
        ratios.append(
            Ratio("minilm-openvino-bf16", "minilm-ort-fp32", 1, length, 0.40, 0.38, 0.43, 1.04,
                  "slower")
        )  # fmt: skip
    return BenchResult(
        protocol={"scenario": "single-stream", "rounds": 8, "stopped": "precision", "threads": 2,
                  "budget_seconds": 60.0, "processes": 5, "seed": 0},
        device=DEVICE, versions=VERSIONS, contenders=rows, ratios=tuple(ratios), noise=QUIET,
        notes=("pytorch runs eager on 2 threads: quicker than on 1.",),
        probes=(Probe("minilm-ort-int8", "session.allow_spinning = 0", 1, 16,
                      Interval(1.08, 1.03, 1.12), "faster"),),
        attached=(Attached("raspberry.json", {"cpu": "Cortex-A76"}, {"edgekit": "0.1.0"},
                           (contender("minilm-ort-int8", 16, seed=7),),
                           Noise(None, None, None, "noisy", ("other programs used 20 %",))),),
        command="edgekit bench minilm-ort-fp32 minilm-openvino-bf16 minilm-ort-int8 --reference"
        " sentence-transformers/all-MiniLM-L6-v2 --length 16 --length 128 --threads 2",
    )  # fmt: skip


def server() -> BenchResult:
    """The same under requests that come at random times."""
    found = comparison()
    asked = {**found.protocol, "scenario": "server", "qps": 40.0, "stopped": "budget"}
    return replace(found, protocol=asked, noise=NOISY)


def validation(verdict: str = "pass", *, worst_text: str = HOSTILE) -> ValidateResult:
    """A candidate against its original, with everything that a report can show."""
    rows = tuple(contender(name, 128) for name in ("pytorch", "minilm-ort-int8"))
    drop = {"pass": (0.0024, -0.0010, 0.0058), "fail": (0.031, 0.022, 0.040)}.get(
        verdict, (0.006, -0.002, 0.014)
    )
    timing = BenchResult(
        protocol={"scenario": "single-stream", "rounds": 6, "threads": 2}, device=DEVICE,
        versions=VERSIONS, contenders=rows,
        ratios=(Ratio("pytorch", "minilm-ort-int8", 1, 128, 4.4, 4.21, 4.62, 1.05, "faster"),),
        noise=QUIET,
    )  # fmt: skip
    p50s = [row.p50_ms or 0.0 for row in rows]
    worst = (
        WorstSample(17, worst_text, "negative", "negative 0.81", "positive 0.55", 1.31, True),
        WorstSample(402, "A film that ends, mercifully.", "positive", "positive 0.52",
                    "negative 0.56", 0.94, True),
        WorstSample(88, "long " * 300, None, "positive 0.93", "positive 0.88", 0.41, False),
    )  # fmt: skip
    layers = tuple(
        LayerError(f"/bert/encoder/layer.{n}/attention/output/dense/MatMul_output_0", "MatMul",
                   11.0 + 3.1 * n, 0.4 / (n + 1))
        for n in range(6)
    )  # fmt: skip
    passed = {"pass": True, "fail": False}.get(verdict)
    return ValidateResult(
        verdict=verdict,  # type: ignore[arg-type]
        accuracy=Accuracy("accuracy", 0.9120, 0.9120 * (1 - drop[0]), *drop, samples=1500,
                          samples_needed=4200 if passed is None else None, mcnemar_p=0.27,
                          excluded=312),
        numerics={"logits": Numerics(0.91, 0.043, 0.9984, 0.989, 0.0021)},
        latency=Latency(p50s[0], p50s[1], Interval(4.4, 4.21, 4.62), p50s[1] * 0.98, p50s[1]),
        size=Size(90_900_000, 23_100_000, 23.1 / 90.9),
        gates=(Gate("max_drop", 0.01, drop[0], passed), Gate("not_slower", 1.0, 4.4, True),
               Gate("max_size_mb", 30.0, 23.1, True)),
        device=DEVICE, versions=VERSIONS,
        bundle={"name": "minilm-ort-int8", "bundle_id": "ab" * 32, "stage": "compiled",
                "task": "text-classification", "target": "host", "engine": "onnxruntime",
                "precision": "int8"},
        reference={"id": "example/minilm-sentiment", "sha256": "cd" * 32, "parameters": 22_713_986,
                   "architecture": "BertForSequenceClassification"},
        data={"name": "movies.csv", "rows": 2600, "for_verdicts": 1812, "used_before": 312,
              "judged": 1500},
        worst=worst, layers=layers, timing=timing,
        notes=("312 rows that calibration used were left out.",),
        command="edgekit validate minilm-ort-int8 --reference example/minilm-sentiment --data"
        " movies.csv --max-drop 1%",
    )  # fmt: skip


def _sensitive(structure: str, shares: Mapping[float, tuple[float, float]]) -> list[SensitivityRow]:
    """Rows of a structure: of every share the accuracy and the speed that is foretold."""
    return [
        SensitivityRow(
            structure, ratio, round(22_713_986 * (1 - ratio / 3)), round(0.02 + 3 * ratio**2, 4),
            right + 0.08, right, speed, 0.8512,
        )
        for ratio, (right, speed) in shares.items()
    ]  # fmt: skip


def pruning(verdict: str = "pass") -> PruneResult:
    """A recovered cut of six layers with all that a pruning tells."""
    passed = {"pass": (0.0041, -0.0009, 0.0092), "fail": (0.0241, 0.0150, 0.0332)}
    drop = passed.get(verdict, (0.0082, -0.0011, 0.0171))
    layers = tuple(
        PrunedLayer(f"bert.encoder.layer.{n}", n != 3, Change(12, 0 if n == 3 else 12 - n),
                    Change(1536, 0 if n == 3 else 1536 - 192 * n))
        for n in range(6)
    )  # fmt: skip
    return PruneResult(
        output=Path("sentiment-pruned"),
        structures=("heads", "ffn", "layers"),
        parameters=Change(22_713_986, 17_204_354),
        flops=Change(2_900_361_216, 1_802_422_272),
        accuracy=Accuracy("accuracy", 0.8512, 0.8512 - drop[0], *drop, 4245,
                          9800 if verdict == "inconclusive" else None, "points"),
        latency=Latency(20.1, 13.0, Interval(1.54, 1.5, 1.58)),
        verdict=verdict,  # type: ignore[arg-type]
        method="fisher",
        target="host",
        engine="onnxruntime",
        goal={"ratio": None, "speedup": 1.5, "max_drop": "1pt"},
        predicted_speedup=1.58,
        layers=layers,
        table=(TablePoint("layer", 0, 3.1), TablePoint("ffn", 768, 0.9)),
        repair={"solved": 11, "missing_before": 0.21, "missing_after": 0.04, "norms": 0,
                "seconds": 12.0},
        recovery=RecoveryFacts(1200, 1000, 0.08, 0.02, 0.93, 0.97, "nothing more", 200.0),
        tried=(
            Cut("5 of 6 layers, 51 of 72 heads and 6,336 of 9,216 neurons", 1.53, 1.47, 0.08,
                False, "less than 1.59 times as fast"),
            Cut("5 of 6 layers, 46 of 72 heads and 5,760 of 9,216 neurons", 1.58, 1.6, 0.11, True,
                "fast enough"),
        ),
        workload={"batch": 1, "length": 128, "threads": 2},
        noise=QUIET,
        samples_needed=9800 if verdict == "inconclusive" else None,
        notes=("Something to know.",),
        seconds=601.3,
        source="minilm-sentiment",
        command="edgekit prune minilm-sentiment -o sentiment-pruned --data movies.csv --speedup"
        " 1.5 --max-drop 1pt",
    )  # fmt: skip


def sensitivity() -> PruneResult:
    """Three structures cut alone, on labels, of a model that was not cut otherwise."""
    rows = (
        *_sensitive("heads", {0.125: (0.8496, 1.04), 0.25: (0.843, 1.08), 0.5: (0.8107, 1.17)}),
        *_sensitive("ffn", {0.125: (0.8512, 1.07), 0.25: (0.8488, 1.15), 0.5: (0.8301, 1.37)}),
        *_sensitive("layers", {1 / 6: (0.8315, 1.19), 2 / 6: (0.7804, 1.47)}),
    )
    whole = pruning()
    return replace(
        whole, output=None, accuracy=None, latency=None, predicted_speedup=None, goal={}, layers=(),
        repair=None, recovery=None, tried=(), noise=None, notes=(), sensitivity=rows,
        parameters=Change(22_713_986, 22_713_986), flops=Change(2_900_361_216, 2_900_361_216),
        command="edgekit prune minilm-sentiment --data movies.csv --sensitivity",
    )  # fmt: skip
