"""Statistics that were counted before: one file for each graph, data and way of counting."""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from edgekit.core._onnx_scan import external_locations
from edgekit.core.hashing import canonical_json, sha256_bytes, sha256_file
from edgekit.core.version import __version__
from edgekit.quantization.calibration.histogram import Histogram
from edgekit.quantization.calibration.statistics import ChannelStatistics, TensorStatistics
from edgekit.quantization.recipes import Feeds
from edgekit.runtime.engines import onnxruntime

# Of the file: raised when the meaning of what it holds changes.
_FORMAT = 1
_CHANNELS = ("greatest", "mean", "mean_square")

Found = Mapping[str, TensorStatistics]


def cache_key(
    graph: Path,
    tensors: Sequence[str],
    samples: Sequence[Feeds],
    channels: Mapping[str, int] | None = None,
) -> str:
    """The name of what `collect` finds: a hash of all that its answer depends on.

    That is the bytes of the graph and of the weights beside it, the samples in their order, what
    is counted, and the versions of edgekit, ONNX Runtime and numpy.
    """
    files = [graph, *(graph.parent / name for name in sorted(external_locations(graph)))]
    told = {
        "format": _FORMAT,
        "edgekit": __version__,
        "onnxruntime": onnxruntime.version(),
        "numpy": np.__version__,
        "graph": [sha256_file(path) for path in files],
        "samples": [_hash(feeds) for feeds in samples],
        "tensors": list(tensors),
        "channels": dict(channels or {}),
    }
    return sha256_bytes(canonical_json(told))


def cached(folder: Path, key: str, make: Callable[[], Found]) -> dict[str, TensorStatistics]:
    """The statistics that `folder` holds under a key, else those that `make` returns, kept there.

    An entry that is damaged, or is not what its name says, is made again and replaced. Writers do
    not wait for each other: each puts a whole file in place, and all of them hold the same. A
    folder that cannot be read or written keeps nothing, and that is all.
    """
    path = folder / f"{key}.safetensors"
    found = _read(path, key)
    if found is not None:
        return found
    made = dict(make())
    # A cache that cannot be written costs the next run some time, and this one nothing.
    with contextlib.suppress(OSError):
        _write(path, key, made)
    return made


def _hash(feeds: Feeds) -> str:
    digest = hashlib.sha256()
    for name in sorted(feeds):
        array = np.ascontiguousarray(feeds[name])
        digest.update(canonical_json([name, array.dtype.str, list(array.shape)]))
        digest.update(array.data)
    return digest.hexdigest()


def _write(path: Path, key: str, found: Found) -> None:
    arrays: dict[str, NDArray[Any]] = {}
    rows: list[dict[str, object]] = []
    for number, (name, one) in enumerate(found.items()):
        arrays[f"{number}.counts"] = one.histogram.counts
        for part in _CHANNELS if one.channels is not None else ():
            arrays[f"{number}.{part}"] = getattr(one.channels, part)
        rows.append(
            {
                "name": name,
                "channels": one.channels is not None,
                "numbers": [
                    one.count, one.low, one.high, one.average_low, one.average_high,
                    one.histogram.width, one.histogram.first, one.histogram.zeros,
                ],
            }
        )  # fmt: skip
    tensors = json.dumps(rows)
    content = save(arrays, {"key": key, "tensors": tensors, "sha256": _digest(tensors, arrays)})
    path.parent.mkdir(parents=True, exist_ok=True)
    with NamedTemporaryFile(dir=path.parent, prefix=f".{key[:16]}-", delete=False) as stream:
        try:
            stream.write(content)
            stream.close()
            Path(stream.name).replace(path)
        except BaseException:
            Path(stream.name).unlink(missing_ok=True)
            raise


def _read(path: Path, key: str) -> dict[str, TensorStatistics] | None:
    """What a file holds; None for one that is not there, damaged, or holds something else."""
    try:
        if not path.is_file():
            return None
        with safe_open(str(path), framework="numpy") as file:
            told = file.metadata() or {}
            arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        if told.get("key") != key or told["sha256"] != _digest(told["tensors"], arrays):
            return None
        return {
            str(row["name"]): _statistics(row, number, arrays)
            for number, row in enumerate(json.loads(told["tensors"]))
        }
    except (OSError, KeyError, ValueError, TypeError, SafetensorError):
        return None


def _statistics(
    row: Mapping[str, object], number: int, arrays: Mapping[str, NDArray[Any]]
) -> TensorStatistics:
    numbers = row["numbers"]
    assert isinstance(numbers, list)
    count, low, high, average_low, average_high, width, first, zeros = numbers
    channels = None
    if row["channels"]:
        channels = ChannelStatistics(*(arrays[f"{number}.{part}"] for part in _CHANNELS))
    histogram = Histogram(width, first, arrays[f"{number}.counts"], zeros)
    return TensorStatistics(count, low, high, average_low, average_high, histogram, channels)


def _digest(tensors: str, arrays: Mapping[str, NDArray[Any]]) -> str:
    digest = hashlib.sha256(tensors.encode())
    for name in sorted(arrays):
        digest.update(name.encode())
        digest.update(np.ascontiguousarray(arrays[name]).data)
    return digest.hexdigest()
