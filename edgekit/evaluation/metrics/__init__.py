"""Metrics as rows: per sample a few numbers, and how a draw of samples makes one value of them.

The values are those of scikit-learn and scipy, of sacreBLEU, of CoNLL's evaluation and of the SQuAD
script, which the tests hold them to.
"""

from __future__ import annotations

from edgekit.evaluation.metrics.answers import normalise_answer
from edgekit.evaluation.metrics.functions import FunctionMetric, find_function
from edgekit.evaluation.metrics.kinds import IGNORED, Metric, Prediction, Truth
from edgekit.evaluation.metrics.table import LABELLED, METRICS, NAMED, UNLABELLED, find_metric
from edgekit.evaluation.metrics.vectors import cosine

__all__ = [
    "IGNORED",
    "LABELLED",
    "METRICS",
    "NAMED",
    "UNLABELLED",
    "FunctionMetric",
    "Metric",
    "Prediction",
    "Truth",
    "cosine",
    "find_function",
    "find_metric",
    "normalise_answer",
]
