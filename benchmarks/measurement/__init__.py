"""Whether the measurements can be trusted: A/A runs, planted differences, error rates, overhead.

Each module prints its figures and keeps them in ``benchmarks/measurement/results``. They take
from a minute to two hours and want a machine with nothing else to do.
"""
