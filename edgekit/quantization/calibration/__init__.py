"""What flows through a graph, counted over samples, and the ranges that 8 bits should span there.

`collect` runs the samples once and keeps statistics of fixed size; `find_range` makes a range of
them, by any calibrator and for any number of bits, as often as one likes; `cached` keeps the
statistics for the next run.
"""

from __future__ import annotations

from edgekit.quantization.calibration.cache import cache_key, cached
from edgekit.quantization.calibration.collecting import collect, visit
from edgekit.quantization.calibration.ranges import TensorRange, find_range
from edgekit.quantization.calibration.statistics import TensorStatistics

__all__ = [
    "TensorRange",
    "TensorStatistics",
    "cache_key",
    "cached",
    "collect",
    "find_range",
    "visit",
]
