"""A small classifier to quantize: its bundle, its module in PyTorch, and labelled rows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from edgekit.core.errors import BudgetNotMet
from edgekit.core.manifest import TensorSpec
from edgekit.core.measurements import (
    BenchResult,
    Comparison,
    Contender,
    Noise,
    QuantizeResult,
    Ratio,
)
from edgekit.evaluation import latency as timing
from edgekit.pipeline.quantizing import quantize
from tests.runtime.conftest import Graph, write_bundle
from tests.schemas import check_schema_of

WIDTH, HIDDEN, CLASSES = 16, 48, 4

MODULE = """
from pathlib import Path

import numpy as np
import torch


class Classifier(torch.nn.Module):
    def __init__(self, weights):
        super().__init__()
        self.first = torch.nn.Parameter(torch.from_numpy(weights["first"]))
        self.second = torch.nn.Parameter(torch.from_numpy(weights["second"]))

    def forward(self, x):
        return {"logits": torch.relu(x @ self.first) @ self.second}


def make():
    return Classifier(np.load(Path(__file__).with_name("weights.npz"))), {"x": torch.ones(2, 16)}
"""


@dataclass(frozen=True)
class Small:
    """Where the parts of the small classifier lie, all in one folder."""

    folder: Path

    @property
    def bundle(self) -> Path:
        """The exported bundle."""
        return self.folder / "b"

    @property
    def output(self) -> Path:
        """Where tests quantize to."""
        return self.folder / "q"

    @property
    def reference(self) -> str:
        """The SOURCE in PyTorch."""
        return f"{self.folder / 'module.py'}:make"

    @property
    def data(self) -> str:
        """1,000 labelled rows, which the classifier gets right."""
        return str(self.folder / "d.npz")

    def nothing_left(self) -> bool:
        """Whether there is neither an output nor a part of one."""
        left = [path.name for path in self.folder.iterdir()]
        return not any(name.lstrip(".").startswith("q") for name in left)


def rows(count: int, seed: int = 1) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Points around four centres that lie far apart, and the number of each one's centre."""
    centres = np.random.default_rng(0).standard_normal((CLASSES, WIDTH)) * 3
    random = np.random.default_rng(seed)
    label = random.integers(0, CLASSES, count)
    points = centres[label] + 0.2 * random.standard_normal((count, WIDTH))
    return points.astype(np.float32), label


def classifier_graph(first: NDArray[np.float32], second: NDArray[np.float32]) -> Graph:
    """The two products with a ReLU between them."""
    graph = Graph(
        [TensorSpec("x", "float32", ("batch", WIDTH))],
        [TensorSpec("logits", "float32", ("batch", CLASSES))],
    )
    graph.weight("first.weight", first)
    graph.weight("second.weight", second)
    for kind, inputs, to, name in (
        ("MatMul", ("x", "first.weight"), "wide", "/first/MatMul"),
        ("Relu", ("wide",), "bent", "/Relu"),
        ("MatMul", ("bent", "second.weight"), "logits", "/second/MatMul"),
    ):
        graph.op(kind, *inputs, to=to)
        graph.nodes[-1].name = name
    return graph


def make_small(folder: Path) -> Small:
    """Write bundle, module and rows into a folder."""
    x, label = rows(1000)
    first = np.random.default_rng(2).standard_normal((WIDTH, HIDDEN)) / 4
    first = first.astype(np.float32)
    hidden = np.maximum(x @ first, 0)
    second = np.linalg.lstsq(hidden, np.eye(CLASSES, dtype=np.float32)[label], rcond=None)[0]
    second = 4 * second.astype(np.float32)
    graph = classifier_graph(first, second)
    write_bundle(folder / "b", graph, task="custom", golden_inputs={"x": x[:4]})
    np.savez(folder / "weights.npz", first=first, second=second)
    np.savez(folder / "d.npz", x=x, label=label)
    (folder / "module.py").write_text(MODULE)
    return Small(folder)


def compared(low: float, high: float) -> BenchResult:
    """What a measurement finds whose ratio has this interval."""
    middle = (low + high) / 2
    verdict: Comparison = "faster" if low > 1 else "slower" if high < 1 else "not resolved"
    contenders = tuple(
        Contender(
            name, "onnxruntime", 1, None, value, None, None, None, 1000 / value, None, None, None,
            None, None, 60, 6,
        )
        for name, value in (("b", middle), ("q", 1.0))
    )  # fmt: skip
    ratio = Ratio("b", "q", 1, None, middle, low, high, 1.01, verdict)
    noise = Noise(1.0, 0.99, 1.01, "quiet", ())
    return BenchResult({}, {}, {}, contenders, (ratio,), noise)


def speed(patch: pytest.MonkeyPatch, low: float = 1.5, high: float = 2.0) -> None:
    """Let the comparison with the input come out at once, as it is told."""
    patch.setattr(timing, "bench", lambda *_, **__: compared(low, high))


def quantized(small: Small, **options: object) -> QuantizeResult:
    """The result, whatever the verdict."""
    try:
        return quantize(small.bundle, small.output, **options)  # type: ignore[arg-type]
    except BudgetNotMet as error:
        result = error.result
    assert isinstance(result, QuantizeResult)
    return result


def judged(small: Small, **options: object) -> QuantizeResult:
    """The same with data, the original and a budget that 1,000 rows can prove."""
    given: Mapping[str, object] = {
        "data": small.data, "reference": small.reference, "max_drop": "5%", **options,
    }  # fmt: skip
    return quantized(small, **given)


def check_schema(value: object) -> None:
    """Hold a result to the published schema."""
    check_schema_of("quantize", value)
