"""Running samples through an ONNX graph to see what flows inside it, in bounded memory."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from edgekit.core._onnx_scan import external_locations
from edgekit.core.errors import ConfigError, QuantizeError, disk_errors
from edgekit.core.manifest import Component, TensorSpec
from edgekit.evaluation.counting import Counted
from edgekit.graph.onnx_light import read_light
from edgekit.graph.taps import onnx_tensors, write_tapped
from edgekit.quantization.calibration.statistics import Accumulator, TensorStatistics
from edgekit.quantization.recipes import Feeds
from edgekit.runtime.engines import onnxruntime
from edgekit.runtime.session import Array, Session

# Bytes of activations that one call of the graph gives out.
ACTIVATIONS = 256_000_000

Progress = Callable[[str], None]


def collect(
    graph: Path,
    tensors: Sequence[str],
    samples: Sequence[Feeds],
    *,
    channels: Mapping[str, int] | None = None,
    threads: int | None = None,
    activations: int = ACTIVATIONS,
    working: Path | None = None,
    progress: Progress = lambda text: None,
) -> dict[str, TensorStatistics]:
    """The statistics of the named tensors over all samples, in the order of `tensors`.

    The graph is run sample by sample, whatever their shapes; no activation outlives its sample.

    Args:
        graph: an ONNX file; its weights may lie beside it.
        tensors: outputs of operators, or inputs of the graph, of floating-point type.
        samples: the feeds of one call each.
        channels: tensors whose channels are counted too, with the axis of these (-1: the last).
        threads: of the engine; None for what this process may use.
        activations: bytes that one call may give out; tensors beyond go into another pass.
        working: a folder for temporary files, as large as the graph; None for the system's.
        progress: told what is done.

    Raises:
        ConfigError: no samples.
        QuantizeError: a tensor that the graph has not, that holds no fractions, NaN or infinite
            numbers, or nothing at all; a sample without an input.
        BundleCorrupt: the engine does not load the graph.
        SessionError: the engine does not run it with these samples.
    """
    axes = channels or {}
    found = {name: Accumulator(axes.get(name)) for name in (*tensors, *axes)}

    def see(sample: int, name: str, values: Array) -> None:
        if not np.issubdtype(values.dtype, np.floating):
            raise QuantizeError(
                f"The tensor {name!r} holds {values.dtype} and has no range to calibrate."
            )
        try:
            finite = found[name].add(values)
        except ValueError as error:
            raise QuantizeError(
                f"The channels of {name!r} cannot be counted in sample {sample + 1}: {error}."
            ) from error
        if not finite:
            raise QuantizeError(
                f"Calibration found NaN or infinite numbers in the tensor {name!r} at sample"
                f" {sample + 1} of {len(samples)}.",
                hint="Remove that sample, or leave the node that makes the tensor out with"
                " --exclude.",
            )

    visit(
        graph, tuple(found), samples, see,
        threads=threads, activations=activations, working=working, progress=progress,
    )  # fmt: skip
    results: dict[str, TensorStatistics] = {}
    for name, accumulator in found.items():
        result = accumulator.result()
        if result is None:
            raise QuantizeError(
                f"The tensor {name!r} was empty in all {len(samples)} calibration samples."
            )
        results[name] = result
    return results


def visit(
    graph: Path,
    tensors: Sequence[str],
    samples: Sequence[Feeds],
    see: Callable[[int, str, Array], None],
    *,
    threads: int | None = None,
    activations: int = ACTIVATIONS,
    working: Path | None = None,
    progress: Progress = lambda text: None,
) -> None:
    """Call ``see(sample, tensor, values)`` for each of the tensors in each of the samples.

    The values are the engine's own memory: to be copied by who wants to keep them. Tensors of one
    pass come sample by sample; where one call would give out more than `activations` bytes, the
    graph is run in several passes. See `collect` for the arguments and for what it raises.
    """
    if not samples:
        raise ConfigError(
            "Calibration needs data, got 0 samples.",
            hint="Pass --calibration FILE, or use --method dynamic.",
        )
    shape = _read(graph)
    sizes = {one.name: one.bytes for one in onnx_tensors(graph, shape.largest(samples))}
    inner = [name for name in dict.fromkeys(tensors) if name not in shape.inputs]
    for name in inner:
        if name not in sizes:
            raise QuantizeError(f"{graph.name} has no tensor {name!r} to calibrate.")
    for name in dict.fromkeys(tensors):
        if name in shape.inputs:
            for number, feeds in enumerate(samples):
                see(number, name, feeds[name])
    passes = list(_passes(inner, sizes, activations))
    told = Counted(progress, len(samples) * len(passes), lines=4)
    for done, names in enumerate(passes):
        with (
            disk_errors(QuantizeError, "writing a copy of the graph for calibration"),
            TemporaryDirectory(prefix="edgekit-calibration-", dir=working) as folder,
        ):
            session = _open(graph, shape, names, Path(folder), threads)
            try:
                for number, feeds in enumerate(samples):
                    outputs = session.run(feeds)
                    while outputs:
                        see(number, *outputs.popitem())
                    told.tell(
                        f"Calibrating: sample {number + 1} of {len(samples)}, pass {done + 1} of"
                        f" {len(passes)}",
                        done * len(samples) + number + 1,
                    )
            finally:
                session.close()


@dataclass(frozen=True)
class _Shape:
    """What a graph takes: the dimensions of each input; and the files of its weights."""

    inputs: Mapping[str, tuple[int | str, ...]]
    files: tuple[str, ...]

    def largest(self, samples: Sequence[Feeds]) -> dict[str, int]:
        """The size of each symbolic axis in the largest sample."""
        sizes: dict[str, int] = {}
        for feeds in samples:
            for name, dims in self.inputs.items():
                if name not in feeds:
                    raise QuantizeError(f"A calibration sample lacks the input {name!r}.")
                for axis, dim in enumerate(dims[: feeds[name].ndim]):
                    if isinstance(dim, str):
                        sizes[dim] = max(sizes.get(dim, 1), feeds[name].shape[axis])
        return sizes


def _read(graph: Path) -> _Shape:
    model = read_light(graph)
    weights = {weight.name for weight in model.graph.initializer}
    inputs = {
        str(value.name): tuple(
            int(dim.dim_value) if dim.HasField("dim_value") else str(dim.dim_param)
            for dim in value.type.tensor_type.shape.dim
        )
        for value in model.graph.input
        if value.name not in weights
    }
    return _Shape(inputs, (graph.name, *sorted(external_locations(graph))))


def _passes(
    names: Sequence[str], sizes: Mapping[str, int], limit: int
) -> Iterator[tuple[str, ...]]:
    """The tensors in groups of at most so many bytes; one that is over it is alone."""
    group: list[str] = []
    total = 0
    for name in names:
        if group and total + sizes[name] > limit:
            yield tuple(group)
            group, total = [], 0
        group.append(name)
        total += sizes[name]
    if group:
        yield tuple(group)


def _open(
    graph: Path, shape: _Shape, names: Sequence[str], folder: Path, threads: int | None
) -> Session:
    inputs = tuple(TensorSpec(name, "float32", dims) for name, dims in shape.inputs.items())
    component = Component("onnx", shape.files, inputs, ())
    tapped = write_tapped(component, graph.parent, names, folder)
    return onnxruntime.open_session(
        folder, tapped, options={"allow_spinning": False}, device="cpu", threads=threads
    )
