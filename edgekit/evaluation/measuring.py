"""What a bench is asked to measure, and with how much effort."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, TypeAlias

from edgekit.core.errors import ConfigError
from edgekit.runtime.bench import OPEN_TIMEOUT, WARM_SECONDS, check_plan
from edgekit.runtime.scenarios import SINGLE_STREAM, Scenario

Length: TypeAlias = int | Literal["data"]

DEFAULT_BUDGET = 60.0
DEFAULT_PROCESSES = 5
DEFAULT_PRECISION = 0.02
_LEAST_PROCESSES = 2


@dataclass(frozen=True)
class Measuring:
    """The options of a bench; every batch is measured with every length.

    ``lengths`` are tokens (16 and 128 by default, 128 of prompts, "data" with data) or "data": the
    natural lengths of the texts of ``data``, a DATA as `edgekit.sources.data.read_samples` reads it
    with ``columns``. Of all pairs of a batch and a length ``only`` keeps some. ``budget`` is in
    seconds of timed turns over all contenders, start-up and warm-up excluded; ``processes`` are
    fresh ones of each contender. A run of more than five processes ends before its budget, after
    the fifth round or later, when every ratio is known to ± ``precision`` (0: never). Of models
    that generate requests are measured, each answered by ``new_tokens`` tokens (32 by default).
    ``timeout`` are the seconds after which a process that does not answer is given up.
    """

    batches: tuple[int, ...] = (1,)
    lengths: tuple[Length, ...] | None = None
    threads: int | None = None
    budget: float = DEFAULT_BUDGET
    processes: int = DEFAULT_PROCESSES
    seed: int = 0
    scenario: Scenario = SINGLE_STREAM
    precision: float = DEFAULT_PRECISION
    data: str | None = None
    columns: str | None = None
    only: frozenset[tuple[int, Length | None]] | None = None
    new_tokens: int | None = None
    warm_seconds: float = WARM_SECONDS
    timeout: float = OPEN_TIMEOUT

    def check(self) -> None:
        """Raise ConfigError for options that cannot be measured with, or contradict each other."""
        check_plan(self.budget, self.processes, least_processes=_LEAST_PROCESSES)
        if not self.batches:
            raise ConfigError("bench needs at least one --batch.")
        if self.threads is not None and self.threads < 1:
            raise ConfigError(f"--threads should be at least 1, got {self.threads}.")
        if not 0 <= self.precision < math.inf:
            raise ConfigError(
                f"--precision should be a share of at least 0, got {self.precision:g}.",
                hint="For example: --precision 0.02 for ±2 %; 0 spends the whole budget.",
            )
        if self.lengths is not None and not self.lengths:
            raise ConfigError("bench needs at least one --length.")
        from_data = "data" in (self.lengths or ())
        if from_data and self.data is None:
            raise ConfigError(
                "--length data needs texts to take the lengths from.", hint="Pass --data DATA."
            )
        if self.data is not None and self.lengths is not None and not from_data:
            raise ConfigError(
                "--data is read for --length data, which is not asked for.",
                hint="Add --length data, or leave --data out.",
            )
        if self.columns is not None and self.data is None:
            raise ConfigError("--columns names columns of --data, which is not given.")

    @property
    def token_lengths(self) -> tuple[int, ...] | None:
        """The lengths in tokens; None for the default ones."""
        if self.lengths is None:
            return None if self.data is None else ()
        return tuple(length for length in self.lengths if length != "data")
