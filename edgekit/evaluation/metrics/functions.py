"""Metrics of one's own: a function of all predictions and all labels, named on the command line."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from edgekit.core.errors import ConfigError, SourceError
from edgekit.evaluation.metrics.kinds import Prediction, Truth

Column: TypeAlias = NDArray[np.generic] | list[Truth]
Rows: TypeAlias = NDArray[np.intp]

# As many calls of the function as its bootstrap makes for one model.
BLOCKS = 200
# Sums in another order differ by no more.
_ROUNDING = 1e-12


@dataclass(frozen=True)
class FunctionMetric:
    """``function(predictions, labels) -> float`` over all samples; the higher, the better.

    The predictions are an array ``[samples, …]`` (logits, embeddings, similarities) or, where they
    have no common shape, a list (tags per word, answers); the labels likewise. Without labels the
    reference's predictions stand for them. An attribute ``higher_is_better = False`` of the
    function turns it.
    """

    name: str
    function: Callable[[object, object], object]
    higher_is_better: bool

    def over(
        self, predictions: Sequence[Prediction], labels: Sequence[Truth]
    ) -> Callable[[Rows | None], float]:
        """The value on the rows of a draw, None for all rows.

        A draw that the function has no value for is NaN; raises ConfigError for no value on all.
        """
        said, true = _column(predictions), _column(labels)

        def value(rows: Rows | None) -> float:
            if rows is None:
                return self._value(said, true)
            try:
                return self._value(_taken(said, rows), _taken(true, rows))
            except ConfigError:
                # A draw may lack a class, say: it tells nothing of the drop.
                return math.nan

        return value

    def moved(
        self,
        reference: Sequence[Prediction],
        candidate: Sequence[Prediction],
        labels: Sequence[Truth],
        *,
        enough: int,
        seed: int = 0,
        most: int = BLOCKS,
    ) -> int:
        """How many predictions of the candidate make a difference to the value, up to `enough`.

        Each is put alone among the reference's; of more than `most` that differ, as many blocks of
        them at random. Logits differ everywhere, also where a function that reads the decisions
        sees no difference.
        """
        differing = [
            index
            for index, (one, other) in enumerate(zip(reference, candidate, strict=True))
            if not np.array_equal(np.asarray(one), np.asarray(other))
        ]
        base = self.over(reference, labels)(None)
        order = np.random.default_rng(seed).permutation(differing).astype(np.intp)
        found = 0
        for block in np.array_split(order, min(most, len(order))) if differing else []:
            mixed = list(reference)
            for index in block.tolist():
                mixed[index] = candidate[index]
            try:
                apart = abs(self.over(mixed, labels)(None) - base)
            except ConfigError:
                # A mixture without a value is certainly a difference.
                apart = math.inf
            found += apart > _ROUNDING * max(1.0, abs(base))
            if found >= enough:
                break
        return found

    def _value(self, said: Column, true: Column) -> float:
        try:
            found = self.function(said, true)
            value = float(found)  # type: ignore[arg-type]
        except (Exception, SystemExit) as error:
            raise ConfigError(
                f"The metric {self.name} failed: {type(error).__name__}: {error}",
                hint="It is called as function(predictions, labels) and returns one number.",
            ) from error
        if not math.isfinite(value):
            raise ConfigError(
                f"The metric {self.name} returned {value}, which is no finite number.",
                hint="Return one number for any non-empty predictions.",
            )
        return value


def find_function(name: str) -> FunctionMetric | None:
    """The metric that ``module:function`` or ``file.py:function`` names, None for other names.

    Raises ConfigError: no such module, file or function, or its code fails when it is loaded.
    """
    if ":" not in name:
        return None
    from edgekit.sources.code import find_attribute

    try:
        function, _ = find_attribute(name)
    except SourceError as error:
        raise ConfigError(f"The metric {name} cannot be loaded: {error.message}") from error
    if not callable(function):
        raise ConfigError(
            f"{name} is {type(function).__name__}, not a function.",
            hint="Name a function(predictions, labels) that returns one number.",
        )
    better = getattr(function, "higher_is_better", True)
    if not isinstance(better, bool):
        raise ConfigError(f"{name}.higher_is_better is {better!r}, neither True nor False.")
    return FunctionMetric(name, function, better)


def _column(values: Sequence[Truth]) -> Column:
    """One array of all samples where their shapes allow, else a list."""
    if any(isinstance(value, (str, tuple)) for value in values):
        return list(values)
    arrays = [np.asarray(value) for value in values]
    same = len({array.shape for array in arrays}) == 1
    return np.stack(arrays) if same else list(values)


def _taken(column: Column, rows: Rows) -> Column:
    return column[rows] if isinstance(column, np.ndarray) else [column[row] for row in rows]
