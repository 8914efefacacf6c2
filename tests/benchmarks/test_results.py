"""The tables of measured results, from results that were not measured."""

from __future__ import annotations

from dataclasses import replace

from benchmarks.models import SENTIMENT
from benchmarks.results import LINES, Found, Line
from edgekit.core.measurements import Accuracy, BenchResult, Ratio
from tests.reporting.results import QUIET, contender

LINE = Line(SENTIMENT, ((1, 16), (1, 128)), 1.0)
ACCURACY = Accuracy("accuracy", 0.9, 0.89, 0.011, -0.002, 0.024, 2000, None)


def test_a_table_has_a_row_for_each_contender() -> None:
    """The reference's medians, ratios of the others, and what could not be measured."""
    rows = [contender("pytorch", length) for length in (16, 128)]
    rows += [replace(contender("openvino", length), artifact_bytes=45_600_000)
             for length in (16, 128)]  # fmt: skip
    rows[0] = replace(rows[0], p50_ms=12.34)
    rows[1] = replace(rows[1], p50_ms=0.456)
    timing = BenchResult(
        {"facts": {"openvino": {"precision": "bf16"}}}, {}, {}, tuple(rows),
        (Ratio("pytorch", "openvino", 1, 16, 2.0, 1.9, 2.1, 1.05, "faster"),), QUIET,
    )  # fmt: skip
    found = Found(LINE, {"openvino": ACCURACY}, timing)
    assert found.table().splitlines() == [
        "| `minilm-sentiment` | accuracy | drop, 95 % | 1×16 | 1×128 | size |",
        "| --- | --- | --- | --- | --- | --- |",
        "| PyTorch eager | 0.9000 |  | 12.3 ms | 0.46 ms | 90.9 MB |",
        "| edgekit, OpenVINO, bf16 | 0.8900 | -0.20% … +2.40% | 2.00× (1.90–2.10) | failed"
        " | 45.6 MB |",
    ]
    assert found.noise() == (
        "`minilm-sentiment`: 2,000 held-out rows, A/A 1.004 (0.991–1.017), quiet."
    )


def test_every_line_measures_what_it_says() -> None:
    """Its workloads are among the products of its batches and lengths; the shares are one."""
    for line in LINES:
        measuring = line.measuring(100.0)
        measuring.check()
        pairs = {(batch, length) for batch in measuring.batches
                 for length in measuring.lengths or (None,)}  # fmt: skip
        assert measuring.only is not None
        assert measuring.only <= pairs
    assert sum(line.share for line in LINES) == 1.0
