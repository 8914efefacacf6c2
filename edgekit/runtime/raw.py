"""Graphs without a manifest, to measure beside bundles: a bare ``.onnx`` or OpenVINO ``.xml``."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from types import ModuleType

import numpy as np

from edgekit.core.errors import ConfigError
from edgekit.core.manifest import Component, TensorSpec
from edgekit.core.onnx_operators import BLOCKWISE, INT8, INT8_BEGINNING
from edgekit.runtime.batching import batch_symbol
from edgekit.runtime.engines import onnxruntime, openvino
from edgekit.runtime.golden import coarsest
from edgekit.runtime.inputs import InputCheck
from edgekit.runtime.session import Array, Session
from edgekit.runtime.worker import Measurable
from edgekit.runtime.workloads import DEFAULT_LENGTHS, Workload

# What opens a file of which ending, and the name of its format.
_ENGINES: Mapping[str, tuple[ModuleType, str]] = {
    ".onnx": (onnxruntime, "onnx"),
    ".xml": (openvino, "openvino-ir"),
}
_OTHER_SIZE = 16
_PIECE = 1 << 20


def _shortest(names: Collection[str]) -> list[str]:
    """The names that hold no other: who finds these finds all."""
    return sorted(name for name in names if not any(o in name for o in names if o != name))


# What stands in a file whose graph computes with fewer bits: in ONNX the names of operators (its
# own and ONNX Runtime's), in OpenVINO's XML the types of constants.
_MARKS: Mapping[str, tuple[tuple[bytes, str], ...]] = {
    ".onnx": (
        *((name.encode(), "int4") for name in sorted(BLOCKWISE)),
        *((name.encode(), "int8") for name in _shortest({*INT8, INT8_BEGINNING})),
    ),
    ".xml": (
        (b'element_type="i4"', "int4"),
        (b'element_type="u4"', "int4"),
        (b'"FakeQuantize"', "int8"),
        (b'element_type="i8"', "int8"),
        (b'element_type="u8"', "int8"),
        (b'element_type="f16"', "fp16"),
    ),
}


def is_raw(path: Path) -> bool:
    """Whether a path is, by its ending, a bare graph rather than a bundle, which is a folder."""
    return path.suffix in _ENGINES and not path.is_dir()


def raw_inputs(path: Path) -> tuple[TensorSpec, ...]:
    """The inputs of a bare graph, as its engine tells them.

    Raises:
        ConfigError: there is no such file.
        MissingDependency: the engine is not installed.
        BundleCorrupt: the engine does not load the file.
    """
    engine, _ = _engine(path)
    if not path.is_file():
        raise ConfigError(f"There is no file {path}.", hint="Check the path.")
    inputs, _ = engine.graph_specs(path)
    return tuple(inputs)


def raw_bytes(path: Path) -> int:
    """The size of a graph with the weights beside it: ``.bin``, ``.data`` of the same name."""
    beside = (path.with_suffix(".bin"), Path(f"{path}.data"), Path(f"{path}_data"))
    return sum(file.stat().st_size for file in (path, *beside) if file.is_file())


@cache
def raw_precision(path: Path) -> str:
    """What a graph was converted to, as far as its file shows: ``int4``, ``int8``, else ``fp32``.

    Of ONNX graphs in float16 nothing is told here.
    """
    marks = _MARKS[path.suffix]
    longest = max(len(mark) for mark, _ in marks)
    found: set[str] = set()
    with path.open("rb") as stream:
        # Piece by piece: a whole file in memory would show in the peak of what is measured.
        kept = b""
        while piece := stream.read(_PIECE):
            data = kept + piece
            found.update(name for mark, name in marks if mark in data)
            kept = data[-longest:]
    return coarsest("fp32", *found)


def raw_workloads(
    specs: Sequence[TensorSpec],
    *,
    batch: int = 1,
    lengths: Sequence[int] | None = None,
    seed: int = 0,
) -> tuple[Workload, ...]:
    """Made-up arrays for a graph that is measured without any bundle.

    Where a second axis of whole numbers varies, that is the length in tokens: 16 and 128 unless
    given. Masks are ones, whole numbers 0 and 1, which every embedding takes.

    Raises ConfigError for a batch or lengths that the graph does not take.
    """
    symbol = batch_symbol(specs)
    tokens = {
        spec.shape[1]
        for spec in specs
        if len(spec.shape) == 2 and np.issubdtype(np.dtype(spec.dtype), np.integer)
    }
    varying = {size for size in tokens if isinstance(size, str) and size != symbol}
    if symbol is None and batch != 1:
        raise ConfigError(
            f"The graph has no axis for a batch, got --batch {batch}.", hint="Leave --batch out."
        )
    if lengths and not varying:
        raise ConfigError(
            "The graph has no axis of tokens that varies, so --length has no meaning for it.",
            hint="Leave --length out.",
        )
    chosen: Sequence[int | None] = [None]
    if varying:
        chosen = list(dict.fromkeys(lengths or DEFAULT_LENGTHS))
    generator = np.random.default_rng(seed)
    made: list[Workload] = []
    for length in chosen:
        feeds: dict[str, Array] = {}
        for spec in specs:
            sizes = [
                size
                if isinstance(size, int)
                else batch
                if size == symbol
                else length
                if length is not None and size in varying
                else _OTHER_SIZE
                for size in spec.shape
            ]
            feeds[spec.name] = _values(generator, spec, sizes)
        made.append(Workload(batch, length, feeds))
    return tuple(made)


def _values(generator: np.random.Generator, spec: TensorSpec, sizes: Sequence[int]) -> Array:
    dtype = np.dtype(spec.dtype)
    if "mask" in spec.name:
        return np.ones(sizes, dtype=dtype)
    if np.issubdtype(dtype, np.floating):
        return generator.standard_normal(tuple(sizes)).astype(dtype)
    return generator.integers(0, 2, size=tuple(sizes)).astype(dtype)


@dataclass(frozen=True)
class RawContender:
    """A bare graph as a contender, opened by its engine with that engine's own defaults."""

    path: Path
    threads: int | None
    options: Mapping[str, object] = field(default_factory=dict)

    def imports(self) -> None:
        """See `edgekit.runtime.worker.Contender`."""
        _engine(self.path)[0].version()

    def open(self) -> Measurable:
        """See `edgekit.runtime.worker.Contender`."""
        engine, name = _engine(self.path)
        options = dict(self.options)
        device = str(options.pop("device", "cpu"))
        # No manifest says what it takes and gives: the engine does, from the graph it has loaded.
        session: Session = engine.open_session(
            self.path.parent,
            Component(name, (self.path.name,), (), ()),
            options=options,
            device=device,
            threads=self.threads,
        )
        return OpenGraph(session, InputCheck(session.inputs), self.path)


@dataclass(frozen=True)
class OpenGraph:
    """An opened graph under measurement, its inputs checked as a bundle's are."""

    session: Session
    check: InputCheck
    path: Path

    def facts(self) -> Mapping[str, object]:
        """See `edgekit.runtime.worker.Measurable`."""
        facts = self.session.facts()
        computed = str(facts.get("precision", "fp32"))
        return {
            "engine": self.session.engine,
            "device": self.session.device,
            "effective_precision": coarsest(raw_precision(self.path), computed),
            **facts,
        }

    def start(self, workload: Workload) -> Callable[[], Mapping[str, Array]]:
        """See `edgekit.runtime.worker.Measurable`."""
        feeds = dict(workload.feeds)
        return lambda: self.session.run(self.check(feeds))

    def prepare(self, workload: Workload) -> Callable[[], Mapping[str, Array]]:
        """See `edgekit.runtime.worker.Measurable`: there is nothing to choose."""
        return self.start(workload)


def _engine(path: Path) -> tuple[ModuleType, str]:
    if path.suffix not in _ENGINES:
        raise ConfigError(
            f"{path} is no bare graph.", hint=f"Give a file of {' or '.join(_ENGINES)}."
        )
    return _ENGINES[path.suffix]
