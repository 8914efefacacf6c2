"""Planted models for searches: what each group's quantization does to the answers is known."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import roc_auc_score

from edgekit.evaluation.accuracy import judge_pairs
from edgekit.evaluation.metrics import METRICS, FunctionMetric, Metric
from edgekit.evaluation.pairs import Pairs
from edgekit.evaluation.statistics import Budget, Drop
from edgekit.quantization.distances import OutputError
from edgekit.quantization.recipes import Group, Level, Recipe
from edgekit.quantization.trials import Measured

Floats = NDArray[np.float64]

# The power that is left of a group's noise at each level.
LEFT: Mapping[Level, float] = {"weight-int8": 0.01, "float16": 1e-6, "float32": 0.0}
# Rows of the search that errors are measured on.
ERROR_ROWS = 64


def _auc(logits: object, labels: object) -> float:
    scores = np.asarray(logits)
    return float(roc_auc_score(np.asarray(labels), scores[:, 1] - scores[:, 0]))


AUC = FunctionMetric("auc", _auc, True)
BY_NAME: Mapping[str, Metric | FunctionMetric] = {**METRICS, "auc": AUC}


def groups_of(count: int, parameters: int = 1000) -> tuple[Group, ...]:
    """Linear groups of one size."""
    return tuple(
        Group(f"layer.{number}", (f"/layer.{number}/MatMul",), "linear", parameters)
        for number in range(count)
    )


@dataclass
class Planted:
    """A classifier of two classes, or a regression, whose groups each add a noise of their own.

    ``noise`` is the standard deviation that a group adds to the logits when it is quantized.
    ``effect`` changes all of the noise's power by the recipe: an algorithm that helps.
    Rows are split as a file's are: a trial sees the search rows, `gate` the verdict's.
    """

    noise: Mapping[str, float]
    metric: str = "accuracy"
    budget: Budget = field(default_factory=lambda: Budget(0.01, "points"))
    search_rows: int = 4000
    verdict_rows: int = 12000
    effect: Callable[[Recipe], float] = lambda recipe: 1.0
    seed: int = 7
    errors: list[Recipe] = field(default_factory=list)
    evaluated: list[Recipe] = field(default_factory=list)
    measure: str = "KL"

    def __post_init__(self) -> None:
        generator = np.random.default_rng(self.seed)
        rows = self.search_rows + self.verdict_rows
        margin = generator.normal(0, 2, rows)
        wrong = generator.random(rows) < 0.1
        self.labels = ((margin > 0) ^ wrong).astype(int)
        self.logits = np.stack([np.zeros(rows), margin], axis=1)
        self.noises = {name: generator.normal(0, size, rows) for name, size in self.noise.items()}
        self.search = slice(0, self.search_rows)
        self.verdict = slice(self.search_rows, rows)

    @property
    def groups(self) -> tuple[Group, ...]:
        return groups_of(len(self.noise))

    def answers(self, recipe: Recipe | None) -> Floats:
        """The logits of all rows; of None those in floating point."""
        logits = self.logits.copy()
        if recipe is not None:
            for name, noise in self.noises.items():
                level = recipe.levels.get(name)
                left = 1.0 if level is None else LEFT[level]
                logits[:, 1] += noise * np.sqrt(left * self.effect(recipe))
        return logits

    def drop(self, recipe: Recipe | None, rows: slice) -> Drop:
        """The drop of the metric on some rows, judged as a validation judges it."""
        metric = BY_NAME[self.metric]
        before, after = self.logits[rows], self.answers(recipe)[rows]
        pairs = Pairs(list(before), list(after), [0.0] * len(before))
        truths = self.labels[rows].tolist()
        return judge_pairs(metric, pairs, truths, self.budget, 0, labelled=True).drop

    def error(self, recipe: Recipe) -> float:
        self.errors.append(recipe)
        found = OutputError()
        rows = slice(0, ERROR_ROWS)
        found.add({"logits": self.logits[rows]}, {"logits": self.answers(recipe)[rows]})
        return found.value

    def evaluate(self, recipe: Recipe) -> Measured:
        self.evaluated.append(recipe)
        return Measured(self.drop(recipe, self.search), self.bytes(recipe))

    def bytes(self, recipe: Recipe) -> int:
        size = {None: 1, "weight-int8": 1, "float16": 2, "float32": 4}
        return sum(size[recipe.levels.get(group.name)] * group.parameters for group in self.groups)


@dataclass
class Additive:
    """A model of bare numbers: errors add up, and the drop is the error itself."""

    noise: Mapping[str, float]
    left: Mapping[Level, float] = field(default_factory=lambda: LEFT)
    effect: Callable[[Recipe], float] = lambda recipe: 1.0
    rows: int = 1_000_000
    errors: list[Recipe] = field(default_factory=list)
    evaluated: list[Recipe] = field(default_factory=list)
    measure: str = "NMSE"

    def total(self, recipe: Recipe) -> float:
        return self.effect(recipe) * sum(
            noise * (self.left[recipe.levels[name]] if name in recipe.levels else 1.0)
            for name, noise in self.noise.items()
        )

    def error(self, recipe: Recipe) -> float:
        self.errors.append(recipe)
        return self.total(recipe)

    def evaluate(self, recipe: Recipe) -> Measured:
        self.evaluated.append(recipe)
        return Measured(drop_of(self.total(recipe), self.rows), 1000)


def drop_of(value: float, rows: int = 1_000_000) -> Drop:
    """A drop that is known to a millionth."""
    return Drop(value, value - 1e-6, value + 1e-6, rows, "bootstrap", 1000)
