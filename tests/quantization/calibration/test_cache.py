"""Statistics that are kept for the next run, and never for another one."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest

from edgekit.quantization.calibration import TensorStatistics, cache, cache_key, cached
from edgekit.quantization.calibration.histogram import Histogram
from edgekit.runtime.engines import onnxruntime
from tests.quantization.calibration.graphs import samples, two_layers
from tests.quantization.calibration.numbers import batches, statistics_of

KEY = "a" * 64


def found(seed: int = 0) -> dict[str, TensorStatistics]:
    return {
        "h": statistics_of(batches("gelu", seed=seed), axis=-1),
        "/odd name:0": statistics_of(batches("normal", seed=seed)),
    }


def same(one: object, other: object) -> bool:
    """Whether two records of statistics hold the same."""
    if isinstance(one, np.ndarray):
        return isinstance(other, np.ndarray) and bool(np.array_equal(one, other))
    if hasattr(one, "__dataclass_fields__"):
        names = one.__dataclass_fields__
        return type(one) is type(other) and all(
            same(getattr(one, name), getattr(other, name)) for name in names
        )
    return type(one) is type(other) and one == other


def never() -> dict[str, TensorStatistics]:
    raise AssertionError("made again")


def test_what_was_made_comes_back(tmp_path: Path) -> None:
    """Number by number and in order, without being made again."""
    made = cached(tmp_path / "new", KEY, found)
    again = cached(tmp_path / "new", KEY, never)
    assert list(again) == list(made)
    assert all(same(made[name], again[name]) for name in made)
    assert again["/odd name:0"].channels is None


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-100])


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-50] ^= 1
    path.write_bytes(content)


def empty(path: Path) -> None:
    path.write_bytes(b"")


def swap(path: Path) -> None:
    cached(path.parent, "b" * 64, lambda: found(seed=1))
    (path.parent / f"{'b' * 64}.safetensors").replace(path)


@pytest.mark.parametrize("damage", [truncate, flip, empty, swap])
def test_a_damaged_or_foreign_entry(tmp_path: Path, damage: Callable[[Path], None]) -> None:
    """It is made again, and replaced."""
    made = cached(tmp_path, KEY, found)
    damage(tmp_path / f"{KEY}.safetensors")
    again = cached(tmp_path, KEY, found)
    assert all(same(made[name], again[name]) for name in made)
    cached(tmp_path, KEY, never)


def test_a_failure_leaves_nothing(tmp_path: Path) -> None:
    """What could not be made is not remembered."""
    with pytest.raises(AssertionError):
        cached(tmp_path, KEY, never)
    assert not list(tmp_path.iterdir())


def test_a_cache_that_cannot_be_written(tmp_path: Path) -> None:
    """The answer is there all the same."""
    (tmp_path / "file").write_bytes(b"")
    assert list(cached(tmp_path / "file", KEY, found)) == list(found())


def test_an_interrupted_write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It leaves no half of a file."""

    def interrupt(self: Path, target: Path) -> Path:
        raise KeyboardInterrupt

    monkeypatch.setattr(Path, "replace", interrupt)
    with pytest.raises(KeyboardInterrupt):
        cached(tmp_path, KEY, found)
    assert not list(tmp_path.iterdir())


def test_many_at_once(tmp_path: Path) -> None:
    """Writers and readers of one entry: all get the whole of it, and one file is left."""
    expected = found()
    wrong: list[str] = []

    def work() -> None:
        for _ in range(5):
            for name, one in cached(tmp_path, KEY, lambda: expected).items():
                if not same(one, expected[name]):
                    wrong.append(name)
            (tmp_path / f"{KEY}.safetensors").unlink(missing_ok=True)

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong
    cached(tmp_path, KEY, found)
    assert [path.name for path in tmp_path.iterdir()] == [f"{KEY}.safetensors"]


def test_the_same_question_has_the_same_key(tmp_path: Path) -> None:
    """Wherever the graph lies."""
    keys = set()
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        graph = two_layers(tmp_path / name)
        keys.add(cache_key(graph, ["h"], samples(3), {"h": -1}))
    assert len(keys) == 1


def other_weights(graph: Path) -> None:
    data = graph.parent / "model.onnx.data"
    content = bytearray(data.read_bytes())
    content[5] ^= 1
    data.write_bytes(content)


def other_graph(graph: Path) -> None:
    model = onnx.load(str(graph), load_external_data=False)
    model.graph.node[0].name = "renamed"
    graph.write_bytes(model.SerializeToString())


@pytest.mark.parametrize("change", [other_graph, other_weights])
def test_another_graph_has_another_key(tmp_path: Path, change: Callable[[Path], None]) -> None:
    """By its own bytes, and by those of the weights beside it."""
    graph = two_layers(tmp_path, external=True)
    before = cache_key(graph, ["h"], samples(3))
    change(graph)
    assert cache_key(graph, ["h"], samples(3)) != before


def test_every_part_of_the_question_is_in_the_key(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Samples, their order, dtypes and shapes; tensors; channels; and the versions."""
    graph = two_layers(tmp_path)
    rows = samples(3)
    nudged = [{"x": row["x"].copy()} for row in rows]
    nudged[2]["x"][0, 0] += 1
    keys = [
        cache_key(graph, ["h"], rows),
        cache_key(graph, ["h"], nudged),
        cache_key(graph, ["h"], rows[::-1]),
        cache_key(graph, ["h"], rows[:2]),
        cache_key(graph, ["h"], [{"x": row["x"].reshape(-1, 2)} for row in rows]),
        cache_key(graph, ["h"], [{"x": row["x"].view(np.int32)} for row in rows]),
        cache_key(graph, ["h"], [{"y": row["x"]} for row in rows]),
        cache_key(graph, ["h", "r"], rows),
        cache_key(graph, ["h"], rows, {"h": -1}),
        cache_key(graph, ["h"], rows, {"h": 0}),
    ]
    monkeypatch.setattr(onnxruntime, "version", lambda: "9.9")
    keys.append(cache_key(graph, ["h"], rows))
    monkeypatch.setattr(cache, "__version__", "9.9")
    keys.append(cache_key(graph, ["h"], rows))
    assert len(set(keys)) == len(keys)


def test_bins_of_any_place(tmp_path: Path) -> None:
    """Far from zero, where the first bin has a large number."""
    made = {"s": statistics_of(batches("shifted"))}
    cached(tmp_path, KEY, lambda: made)
    again = cached(tmp_path, KEY, never)["s"].histogram
    assert isinstance(again, Histogram)
    assert same(made["s"].histogram, again)
