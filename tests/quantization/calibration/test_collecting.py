"""Samples through a graph: what flows inside it, in bounded memory."""

from __future__ import annotations

import csv
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest

from edgekit.core.errors import ConfigError, QuantizeError, SessionError
from edgekit.quantization.calibration import collect, find_range, visit
from edgekit.quantization.calibration.squared import expected_error
from tests.quantization.calibration.graphs import computed, samples, two_layers
from tests.quantization.calibration.numbers import whole


@pytest.mark.parametrize("external", [False, True])
@pytest.mark.parametrize("activations", [256_000_000, 1])
def test_against_numpy(tmp_path: Path, external: bool, activations: int) -> None:
    """Inputs, inner tensors and outputs, over ragged samples, in one pass or in many."""
    graph = two_layers(tmp_path, external=external)
    rows = samples(12)
    names = ["r", "x", "y", "h"]
    found = collect(graph, names, rows, threads=1, activations=activations)
    assert list(found) == names
    for name, parts in computed(tmp_path, rows).items():
        x = whole(parts)
        assert found[name].count == x.size
        assert found[name].low == pytest.approx(x.min(), rel=1e-5)
        assert found[name].high == pytest.approx(x.max(), rel=1e-5)
        assert found[name].channels is None
    assert {path.name for path in tmp_path.iterdir()} <= {"model.onnx", "model.onnx.data"}


def test_channels(tmp_path: Path) -> None:
    """Of the tensors they are asked for, which need not be asked for twice."""
    graph = two_layers(tmp_path)
    rows = samples(12)
    found = collect(graph, ["r"], rows, channels={"h": -1}, threads=1)
    assert found["r"].channels is None
    channels = found["h"].channels
    assert channels is not None
    h = np.concatenate(computed(tmp_path, rows)["h"])
    np.testing.assert_allclose(channels.mean, h.mean(axis=0), atol=1e-6)
    np.testing.assert_allclose(channels.greatest, np.abs(h).max(axis=0), rtol=1e-5)


def test_the_same_every_time(tmp_path: Path) -> None:
    """Two runs, and runs in several passes, find the same to the last bit."""
    graph = two_layers(tmp_path)
    one, other = (
        collect(graph, ["h", "r"], samples(12), threads=1, activations=limit)
        for limit in (256_000_000, 1)
    )
    assert [find_range(held) for held in one.values()] == [
        find_range(held) for held in other.values()
    ]
    np.testing.assert_array_equal(one["h"].histogram.counts, other["h"].histogram.counts)


def test_nothing_is_held_of_many_samples(tmp_path: Path) -> None:
    """10,000 samples that make half a GB take no more memory than 100 of them do."""
    graph = two_layers(tmp_path, width=128)
    code = (
        "import resource, sys; from pathlib import Path; import numpy as np\n"
        "from edgekit.quantization.calibration import collect\n"
        "peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "rows = [{'x': np.full((90 + i, 4), i, np.float32)} for i in range(20)]\n"
        "for times in (5, 500):\n"
        "    found = collect(Path(sys.argv[1]), ['h'], rows * times, threads=1)\n"
        "    print(found['h'].count, peak())"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(graph)], check=True, capture_output=True, text=True
    )
    (few, before), (many, after) = (map(int, line.split()) for line in done.stdout.splitlines())
    assert (few, many) == (100 * 99.5 * 128, 10_000 * 99.5 * 128)
    assert (after - before) * (1 if sys.platform == "darwin" else 1024) < 20_000_000


def test_visiting(tmp_path: Path) -> None:
    """Every tensor of every sample, named and numbered, once."""
    graph = two_layers(tmp_path)
    rows = samples(4)
    seen: dict[tuple[int, str], tuple[int, ...]] = {}
    told: list[str] = []
    visit(
        graph, ["x", "h", "r", "h"], rows,
        lambda sample, name, values: seen.update({(sample, name): values.shape}),
        threads=1, activations=1, progress=told.append,
    )  # fmt: skip
    width = {"x": 4, "h": 16, "r": 16}
    assert seen == {(i, name): (len(rows[i]["x"]), width[name]) for i in range(4) for name in width}
    assert told[-1] == "Calibrating: sample 4 of 4, pass 2 of 2"


def test_not_a_number(tmp_path: Path) -> None:
    """The tensor is named, with the sample that did it."""
    graph = two_layers(tmp_path)
    rows = samples(3)
    rows[1]["x"][0, 0] = np.nan
    with pytest.raises(QuantizeError, match=r"NaN or infinite .*'h' at sample 2 of 3"):
        collect(graph, ["h"], rows, threads=1)
    rows[1]["x"][0, 0] = 0
    with pytest.raises(QuantizeError, match="'log' at sample"):
        collect(graph, ["log"], rows, threads=1)


@pytest.mark.parametrize(("name", "words"), [
    ("elsewhere", "model.onnx has no tensor 'elsewhere'"), ("w", "has no tensor 'w'"),
    ("shape", "'shape' holds int64"), ("nothing", "'nothing' was empty in all 2"),
])  # fmt: skip
def test_tensors_without_a_range(tmp_path: Path, name: str, words: str) -> None:
    """Unknown ones, constants, whole numbers, and what is always empty."""
    with pytest.raises(QuantizeError, match=words):
        collect(two_layers(tmp_path), [name], samples(2), threads=1)


def test_no_samples(tmp_path: Path) -> None:
    """There is nothing to calibrate with."""
    with pytest.raises(ConfigError, match="got 0 samples"):
        collect(two_layers(tmp_path), ["h"], [])


def test_a_sample_without_an_input(tmp_path: Path) -> None:
    """It is named."""
    with pytest.raises(QuantizeError, match="lacks the input 'x'"):
        collect(two_layers(tmp_path), ["h"], [{"y": np.zeros((1, 4), np.float32)}])


def test_channels_that_are_not_there(tmp_path: Path) -> None:
    """An axis beyond the tensor's."""
    with pytest.raises(QuantizeError, match="'h' cannot be counted in sample 1: it has 2 axes"):
        collect(two_layers(tmp_path), [], samples(1), channels={"h": 2}, threads=1)


def test_weights_beyond_two_gigabytes_are_linked(tmp_path: Path) -> None:
    """The working folder holds the graph and a link: no second copy of the weights."""
    graph = two_layers(tmp_path, external=True)
    held: list[tuple[int, int]] = []

    def see(sample: int, name: str, values: object) -> None:
        for data in tmp_path.glob("edgekit-calibration-*/model.onnx.data"):
            held.append((data.stat().st_ino, data.stat().st_nlink))

    visit(graph, ["h"], samples(1), see, threads=1, working=tmp_path)
    assert held == [((tmp_path / "model.onnx.data").stat().st_ino, 2)]
    assert not list(tmp_path.glob("edgekit-calibration-*"))


def test_a_graph_that_does_not_run(tmp_path: Path) -> None:
    """The engine's own error comes through, and no copy of the graph is left."""
    with pytest.raises(SessionError):
        collect(
            two_layers(tmp_path), ["h"], [{"x": np.zeros((1, 5), np.float32)}],
            threads=1, working=tmp_path,
        )  # fmt: skip
    assert [path.name for path in tmp_path.iterdir()] == ["model.onnx"]


def test_the_graph_is_untouched(tmp_path: Path) -> None:
    """Only a copy of it has more outputs."""
    graph = two_layers(tmp_path)
    before = graph.read_bytes()
    collect(graph, ["h"], samples(2), threads=1)
    assert graph.read_bytes() == before


@pytest.mark.slow
def test_a_real_encoder(shared: Path) -> None:
    """MiniLM on reviews: the tensors that its weights multiply, each against numpy."""
    from tokenizers import Tokenizer

    from benchmarks.zoo import fetch
    from tests.zoo_bundles import exported

    bundle = exported(shared, "minilm")
    tokenizer = Tokenizer.from_file(str(bundle / "tokenizer.json"))
    tokenizer.no_padding()
    tokenizer.enable_truncation(128)
    with (fetch("movies") / "movies.csv").open() as stream:
        texts = [row["text"] for row in list(csv.DictReader(stream))[:40]]
    encoded = [tokenizer.encode(text) for text in texts]
    rows = [
        {
            "input_ids": np.array([one.ids]),
            "attention_mask": np.array([one.attention_mask]),
            "token_type_ids": np.array([one.type_ids]),
        }
        for one in encoded
    ]
    graph = bundle / "model.onnx"
    model = onnx.load(str(graph), load_external_data=False)
    weights = {one.name for one in model.graph.initializer}
    names = [
        node.input[0]
        for node in model.graph.node
        if node.op_type in ("MatMul", "Gemm") and node.input[1] in weights
    ]
    names = list(dict.fromkeys(names))
    assert len(names) >= 24
    rows = [{spec.name: row[spec.name] for spec in model.graph.input} for row in rows]
    found = collect(graph, names, rows, channels=dict.fromkeys(names, -1), threads=1)
    kept: dict[str, list[np.ndarray]] = {}
    visit(
        graph, names, rows,
        lambda sample, name, values: kept.setdefault(name, []).append(values.copy()), threads=1,
    )  # fmt: skip
    for name in names:
        x = whole(kept[name])
        assert (found[name].low, found[name].high) == (x.min(), x.max())
        channels = found[name].channels
        assert channels is not None
        assert channels.greatest.max() == found[name].greatest
        high = find_range(found[name], "percentile").high
        least, most = (np.percentile(x, 99.995, method=method) for method in ("lower", "higher"))
        width = found[name].histogram.width
        assert least - width <= high <= most + width
    # The divergence cuts off the few large numbers that transformers live on; the error does not.
    errors = {
        calibrator: sum(
            expected_error(one, span.low, span.high)
            for one in found.values()
            for span in [find_range(one, calibrator)]
        )
        for calibrator in ("auto", "minmax", "entropy")
    }
    assert errors["auto"] < errors["minmax"] < errors["entropy"]
