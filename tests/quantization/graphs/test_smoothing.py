"""graphs/smoothing.py: factors that leave the product as it is, and gain where there is a gain."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from edgekit.quantization.graphs.grouping import find_groups
from edgekit.quantization.graphs.reading import Graph, read_graph
from edgekit.quantization.graphs.smoothing import (
    entering_sites,
    find_factors,
    output_error,
    watch,
)
from tests.quantization.networks import bundle_of, encoder, texts


def prepared(folder: Path) -> Graph:
    """The encoder's graph."""
    bundle = bundle_of(encoder(), folder / "b")
    return read_graph(bundle.path / "model.onnx", folder / "work")


def test_outliers_get_the_largest_factors(tmp_path: Path) -> None:
    """The two channels of the tensor that are large are divided by more than any other."""
    graph = prepared(tmp_path)
    sites = entering_sites(find_groups(graph))
    seen = watch(graph, tuple(sites), texts(), seed=0)
    factors = find_factors(graph, sites, seen, 0.75)["x"]
    assert set(np.argsort(factors)[-2:]) == {3, 17}
    assert factors.min() > 0


def test_factors_do_not_depend_on_chance(tmp_path: Path) -> None:
    """The same seed keeps the same samples; halves differ with another."""
    graph = prepared(tmp_path)
    sites = tuple(entering_sites(find_groups(graph)))
    first, second = (watch(graph, sites, texts(), seed=4) for _ in range(2))
    np.testing.assert_array_equal(first["y"].half, second["y"].half)
    assert not np.array_equal(watch(graph, sites, texts(), seed=5)["y"].half, first["y"].half)


def test_even_tensors_are_left_alone(tmp_path: Path) -> None:
    """Where factors leave no less of the error there is no node for them."""
    random = np.random.default_rng(0)
    rows = (random.uniform(-1, 1, (64, 32)).astype(np.float32),)
    weight = random.uniform(-1, 1, (32, 16)).astype(np.float32)
    plain = output_error(rows, weight, None)
    same = output_error(rows, weight, np.ones(32, dtype=np.float32))
    assert same == plain


def test_one_sample(tmp_path: Path) -> None:
    """A single sample serves for both halves."""
    graph = prepared(tmp_path)
    sites = entering_sites(find_groups(graph))
    seen = watch(graph, tuple(sites), texts(1), seed=0)
    assert find_factors(graph, sites, seen, 0.75).keys() <= sites.keys()
    np.testing.assert_array_equal(seen["x"].half, seen["x"].greatest)


def test_rows_are_bounded(tmp_path: Path) -> None:
    """However many samples there are, so many rows are kept of a tensor."""
    graph = prepared(tmp_path)
    seen = watch(graph, ("x",), texts(200), seed=0)
    assert sum(map(len, seen["x"].rows)) == 512
