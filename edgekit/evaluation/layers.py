"""Where a bundle goes wrong: its inner tensors beside those of the bundle it was made from."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from edgekit.core.bundle import Bundle
from edgekit.core.errors import ConfigError
from edgekit.core.manifest import TensorSpec
from edgekit.core.measurements import LayerError
from edgekit.graph.taps import InnerTensor, onnx_tensors, tensor_names, write_tapped
from edgekit.runtime.engines import find_engine
from edgekit.runtime.session import Array, Session

Feeds = Mapping[str, Array]

# Bytes of activations that are held at a time, of both graphs together.
ACTIVATIONS = 64_000_000
SAMPLES = 32


@dataclass
class _Error:
    """Sums over all samples of one tensor."""

    signal: float = 0.0
    noise: float = 0.0
    max_abs: float = 0.0

    def add(self, reference: Array, candidate: Array) -> None:
        x, y = reference.astype(np.float64), candidate.astype(np.float64)
        difference = y - x
        self.signal += float(np.vdot(x, x))
        self.noise += float(np.vdot(difference, difference))
        self.max_abs = float(np.fmax(self.max_abs, np.abs(difference).max(initial=0.0)))

    @property
    def sqnr_db(self) -> float:
        """10·log10(signal / noise); minus infinity where the noise is no number."""
        if not math.isfinite(self.noise) or self.signal == 0:
            return -math.inf
        return 10 * math.log10(self.signal / self.noise)


@dataclass(frozen=True)
class LayerComparison:
    """The tensors that differ, worst first, and how many were compared at all.

    ``skipped`` are those that both graphs name, but in another shape or type.
    """

    errors: tuple[LayerError, ...]
    compared: int
    skipped: int

    def note(self, baseline: Path) -> str | None:
        """What the table of errors does not show; None where it shows all."""
        if not self.compared and not self.skipped:
            return f"No tensor inside that {baseline} has by the same name holds fractions."
        if not self.compared:
            return (
                f"None of the {self.skipped:,} tensors inside that {baseline} has by the same name"
                " could be compared: all are of another shape or type."
            )
        parts = []
        if not self.errors:
            parts.append(
                f"All tensors inside that were compared ({self.compared:,}) are those of"
                f" {baseline}."
            )
        if self.skipped:
            parts.append(
                f"Not compared, for they are of another shape or type in {baseline}:"
                f" {self.skipped:,} of {self.compared + self.skipped:,} tensors inside."
            )
        return " ".join(parts) or None


def layer_errors(
    baseline: Bundle,
    candidate: Bundle,
    feeds: Sequence[Feeds],
    *,
    threads: int | None = None,
    activations: int = ACTIVATIONS,
    progress: Callable[[str], None] = lambda text: None,
) -> LayerComparison:
    """The inner tensors that both graphs have by the same name and that differ, worst first.

    The tensors are made outputs group by group, so that at most `activations` bytes of them (and
    one sample at a time) are in memory. A tensor that an optimization fused away is not compared.

    Args:
        baseline: the exported float32 bundle, as ONNX.
        candidate: what was made from it, as ONNX or OpenVINO IR.
        feeds: the inputs of some samples, which both take.

    Raises:
        ConfigError: a baseline that is no ONNX or of another origin, or no tensor in common.
        SessionError: an engine does not run a graph.
    """
    check_layers(baseline, candidate)
    graph = baseline.manifest.components["model"]
    tensors = onnx_tensors(baseline.path / graph.files[0], _longest(graph.inputs, feeds))
    held = tensor_names(candidate.manifest.components["model"], candidate.path)
    common = [tensor for tensor in tensors if tensor.name in held]
    if not common:
        raise ConfigError(
            f"No tensor inside {candidate.path} has the name that it has in {baseline.path}.",
            hint="Compare with the exported bundle that it was made from.",
        )
    errors: dict[str, _Error] = {}
    skipped: set[str] = set()
    done = 0
    for group in _groups(common, activations // 2):
        _measure(baseline, candidate, group, feeds, threads, errors, skipped)
        done += len(group)
        progress(f"Compared {done} of {len(common)} tensors inside the graphs")
    operators = {tensor.name: tensor.operator for tensor in common}
    found = [
        LayerError(name, operators[name], error.sqnr_db, error.max_abs)
        for name, error in errors.items()
        if error.noise != 0 and name not in skipped
    ]
    ranked = tuple(sorted(found, key=lambda layer: layer.sqnr_db))
    return LayerComparison(ranked, len(errors.keys() - skipped), len(skipped))


def check_layers(baseline: Bundle, candidate: Bundle) -> None:
    """Raise ConfigError for bundles whose tensors `layer_errors` cannot compare."""
    for bundle in (baseline, candidate):
        if set(bundle.manifest.components) != {"model"}:
            raise ConfigError(
                f"{bundle.path} has the components {', '.join(bundle.manifest.components)};"
                " --layers compares bundles of one component."
            )
    if baseline.manifest.components["model"].format != "onnx":
        raise ConfigError(
            f"The baseline {baseline.path} is no ONNX bundle.",
            hint="Pass the exported bundle with --layers.",
        )
    origins = [
        bundle.manifest.source.origin.sha256
        for bundle in (baseline, candidate)
        if bundle.manifest.source is not None
    ]
    if len(set(origins)) > 1:
        raise ConfigError(
            f"{baseline.path} comes from another model than {candidate.path}.",
            hint="Pass the exported bundle that it was made from.",
        )


def _longest(inputs: Sequence[TensorSpec], feeds: Sequence[Feeds]) -> dict[str, int]:
    """The size of each symbolic axis in the largest of the feeds."""
    sizes: dict[str, int] = {}
    for one in feeds:
        for spec in inputs:
            for axis, dim in enumerate(spec.shape):
                if isinstance(dim, str):
                    sizes[dim] = max(sizes.get(dim, 1), one[spec.name].shape[axis])
    return sizes


def _groups(tensors: Sequence[InnerTensor], limit: int) -> Iterator[list[InnerTensor]]:
    """Neighbours together, up to a number of bytes; a tensor over it is a group of its own."""
    group: list[InnerTensor] = []
    size = 0
    for tensor in tensors:
        if group and size + tensor.bytes > limit:
            yield group
            group, size = [], 0
        group.append(tensor)
        size += tensor.bytes
    if group:
        yield group


def _measure(
    baseline: Bundle,
    candidate: Bundle,
    group: Sequence[InnerTensor],
    feeds: Sequence[Feeds],
    threads: int | None,
    errors: dict[str, _Error],
    skipped: set[str],
) -> None:
    names = [tensor.name for tensor in group]
    with TemporaryDirectory(prefix="edgekit-layers-") as folder:
        sessions: list[Session] = []
        try:
            for bundle, place in ((baseline, "a"), (candidate, "b")):
                target = Path(folder, place)
                target.mkdir()
                sessions.append(_open(bundle, names, target, threads))
            for one in feeds:
                expected, found = (session.run(one) for session in sessions)
                for name in names:
                    x, y = expected[name], found[name]
                    floating = [np.issubdtype(side.dtype, np.floating) for side in (x, y)]
                    if x.shape == y.shape and all(floating):
                        errors.setdefault(name, _Error()).add(x, y)
                    elif x.shape != y.shape or any(floating):
                        skipped.add(name)
        finally:
            for session in sessions:
                session.close()


def _open(bundle: Bundle, names: Sequence[str], target: Path, threads: int | None) -> Session:
    component = write_tapped(bundle.manifest.components["model"], bundle.path, names, target)
    options = dict(bundle.manifest.runtime.options)
    device = options.pop("device", "cpu")
    return find_engine(bundle.manifest.requires.engine).open_session(
        target, component, options=options, device=str(device), threads=threads
    )
