"""SmoothQuant (Xiao et al. 2022, arXiv 2211.10438), its strength found for each tensor by itself.

A tensor is divided by factors, channel by channel, and the rows of the weights that it meets are
multiplied by them: outliers of the activations move into the weights, which have a scale for every
column. The division is a node of its own: layer normalisation feeds the residual as well, and GELU
cannot be scaled.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from edgekit.core.errors import QuantizeError
from edgekit.quantization.calibration import visit
from edgekit.quantization.graphs.grouping import Grouping, Site
from edgekit.quantization.graphs.numbers import quantize_weight, rounded_dynamically
from edgekit.quantization.graphs.products import matrix
from edgekit.quantization.graphs.reading import Floats, Graph
from edgekit.quantization.recipes import Feeds
from edgekit.runtime.session import Array

# Rows of a tensor that are kept to try factors and ranges on.
_ROWS = 512
# What a tensor's own strength may differ by from the one that was asked for.
_OFFSETS = (-0.25, -0.15, -0.05, 0.05, 0.15, 0.25)
# Factors are worth their node when they leave so much of the error, or less.
_WORTH = 0.9
# Of the largest row of the weights: a smaller one is nearly nothing, whatever the factor.
_LEAST = 1e-4

Rows = tuple[Floats, ...]


@dataclass(frozen=True, eq=False)
class Seen:
    """What was seen of one tensor.

    ``greatest`` and ``half`` are the largest absolute values of its channels over all samples and
    over a half of them; ``rows`` come from the other half, one array ``[rows, channels]`` a sample.
    """

    greatest: Floats
    half: Floats
    rows: Rows


def entering_sites(grouping: Grouping) -> dict[str, tuple[Site, ...]]:
    """The products that read each tensor, for the tensors that factors can be found for."""
    by_tensor: dict[str, list[Site]] = {}
    for site in grouping.sites.values():
        # A tied head is no product in 8 bits.
        if site.operator in ("MatMul", "Gemm") and site.weight not in grouping.tied:
            by_tensor.setdefault(site.entering, []).append(site)
    homes: dict[str, set[str]] = {}
    for tensor, sites in by_tensor.items():
        for site in sites:
            homes.setdefault(site.weight, set()).add(tensor)
    # A weight that several tensors meet cannot follow all their factors.
    return {
        tensor: tuple(sites)
        for tensor, sites in by_tensor.items()
        if all(len(homes[site.weight]) == 1 for site in sites)
    }


def watch(
    graph: Graph,
    tensors: Sequence[str],
    samples: Sequence[Feeds],
    seed: int,
    progress: Callable[[str], None] = lambda text: None,
) -> dict[str, Seen]:
    """Run the samples once and keep what `find_factors` needs of the tensors.

    Raises QuantizeError for NaN or infinite numbers.
    """
    order = np.random.default_rng(seed).permutation(len(samples))
    # With one sample both halves are that one.
    first = {int(at) for at in order[: max(1, len(order) // 2)]}
    second = {int(at) for at in order[len(order) // 2 :]}
    greatest: dict[str, Floats] = {}
    half: dict[str, Floats] = {}
    rows: dict[str, list[Floats]] = {name: [] for name in tensors}
    kept = dict.fromkeys(tensors, 0)

    def see(sample: int, name: str, values: Array) -> None:
        flat = values.reshape(-1, values.shape[-1]).astype(np.float32, copy=False)
        if not flat.size:
            return
        most = np.abs(flat).max(axis=0)
        if not np.isfinite(most).all():
            raise QuantizeError(
                f"Calibration found NaN or infinite numbers in the tensor {name!r} at sample"
                f" {sample + 1} of {len(samples)}.",
                hint="Remove that sample.",
            )
        greatest[name] = np.maximum(greatest.get(name, most), most)
        if sample in first:
            half[name] = np.maximum(half.get(name, most), most)
        if sample in second and kept[name] < _ROWS:
            taken = flat[: _ROWS - kept[name]].copy()
            rows[name].append(taken)
            kept[name] += len(taken)

    visit(graph.path, tensors, samples, see, working=graph.path.parent, progress=progress)
    return {
        name: Seen(most, half.get(name, most), tuple(rows[name])) for name, most in greatest.items()
    }


def find_factors(
    graph: Graph, sites: Mapping[str, Sequence[Site]], seen: Mapping[str, Seen], strength: float
) -> dict[str, Floats]:
    """The factors of each tensor that gains by them; the others are left out.

    ``strength`` is SmoothQuant's alpha. Each tensor takes the one in its neighbourhood that leaves
    the least error in what follows, on samples that the factors were not made from.
    """
    found: dict[str, Floats] = {}
    for tensor, members in sites.items():
        known = seen.get(tensor)
        if known is None or not known.rows:
            continue
        weight = np.concatenate([matrix(graph, site) for site in members], axis=1)
        plain = output_error(known.rows, weight, None)
        tried = []
        for offset in _OFFSETS:
            alpha = min(max(strength + offset, 0.0), 1.0)
            factors = _factors(known.half, weight, alpha)
            tried.append((output_error(known.rows, weight, factors), alpha))
        error, alpha = min(tried)
        if error < _WORTH * plain:
            found[tensor] = _factors(known.greatest, weight, alpha)
    return found


def _factors(greatest: Floats, weight: Floats, alpha: float) -> Floats:
    # A channel that stayed small may be large in another text: without a floor its factor would
    # blow that up (measured on long texts after calibration with short ones).
    reach = np.maximum(greatest, max(float(greatest.mean()), 1e-12))
    rows = np.abs(weight).max(axis=1)
    rows = np.maximum(rows, max(_LEAST * float(rows.max(initial=0.0)), 1e-12))
    logarithm = alpha * np.log(reach) - (1 - alpha) * np.log(rows)
    factors: Floats = np.exp(logarithm - logarithm.mean()).astype(np.float32)
    return factors


def output_error(rows: Rows, weight: Floats, factors: Floats | None) -> float:
    """The mean squared error of a product in 8 bits, against the same in float."""
    scaled = weight if factors is None else weight * factors[:, None]
    told = quantize_weight(scaled, 1).floats()
    total = count = 0.0
    for block in rows:
        entering = block if factors is None else block / factors
        wrong = rounded_dynamically(entering) @ told - block @ weight
        total += float(np.square(wrong).sum(dtype=np.float64))
        count += wrong.size
    return total / max(count, 1.0)
