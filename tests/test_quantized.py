"""Trained models quantized on both engines by the commands, judged, compiled and loaded.

On few rows, with a budget that those can prove, and whatever their speed: the figures are
`benchmarks/quantization.py`'s.
"""

from __future__ import annotations

import csv
from collections.abc import Mapping
from itertools import islice
from pathlib import Path

import numpy as np
import pytest

import edgekit
from edgekit.core.bundle import open_bundle
from tests.conftest import make_once
from tests.pipeline.quantizable import check_schema
from tests.test_measured import command, data_of, declared, source_of

pytestmark = pytest.mark.slow

TARGETS = {"onnxruntime": "cpu-x86", "openvino": "openvino-cpu"}
TEXTS = ["a warm and funny film", "a dull plot without an end"]


@pytest.fixture(scope="module")
def reviews(shared: Path) -> Path:
    """The first 900 of the snippets that the classifier was not trained on."""

    def make(folder: Path) -> None:
        folder.mkdir()
        with data_of("minilm-sentiment").open(encoding="utf-8", newline="") as source:
            kept = list(islice(csv.reader(source), 901))
        with (folder / "reviews.csv").open("w", encoding="utf-8", newline="") as target:
            csv.writer(target).writerows(kept)

    return make_once(shared / "quantized-reviews", make) / "reviews.csv"


def exported(shared: Path, name: str) -> Path:
    """A model of the zoo as a bundle."""
    return make_once(
        shared / f"quantized-{name}",
        lambda folder: edgekit.export(
            source_of(name), folder, trust_remote_code=True, inputs=declared(name)[1:]
        ),
    )


def quantize(bundle: Path, output: Path, *words: object) -> Mapping[str, object]:
    """The result of a quantization that passes."""
    code, result, errors = command("quantize", bundle, "-o", output, *words)
    assert code == 0, errors
    check_schema(result)
    assert result["verdict"] == "pass"
    assert result["output"] == str(output)
    return result


def lives_on(output: Path, engine: str, folder: Path) -> Path:
    """Verify, inspect and compile a quantized bundle; where the compiled one lies."""
    assert command("verify", output)[0] == 0
    code, manifest, _ = command("inspect", output)
    assert (code, manifest["stage"]) == (0, "quantized")
    compiled = folder / "compiled"
    code, result, errors = command(
        "compile", output, "-o", compiled, "--target", "host", "--engine", engine
    )
    assert code == 0, errors
    assert result["engine"] == engine
    assert command("verify", compiled)[0] == 0
    return compiled


def drop_of(result: Mapping[str, object]) -> float:
    """The upper end of the drop's interval."""
    accuracy = result["accuracy"]
    assert isinstance(accuracy, Mapping)
    assert accuracy["samples"] > 500
    return float(accuracy["drop_upper_95"])


def ranked(outputs: object) -> list[str]:
    """The labels that stand first."""
    assert isinstance(outputs, list)
    return [str(row["label"]) for row in outputs]


@pytest.mark.parametrize("engine", TARGETS)
def test_a_classifier_of_texts(shared: Path, reviews: Path, engine: str, tmp_path: Path) -> None:
    """Within its budget on both engines, a third of the size at most, and its answers stay."""
    bundle, output = exported(shared, "minilm-sentiment"), tmp_path / "q"
    result = quantize(
        bundle, output, "--target", "host", "--engine", engine, "--data", reviews,
        "--reference", source_of("minilm-sentiment"), "--max-drop", "3%",
        "--allow-slower",
    )  # fmt: skip
    assert drop_of(result) <= 0.03
    # A quarter where all is in integers; what a search keeps in float comes on top.
    assert result["ratio_to_input"] < 1 / 3  # type: ignore[operator]
    assert result["latency"] is not None
    compiled = lives_on(output, engine, tmp_path)
    with edgekit.load(bundle) as model:
        wanted = ranked(model(TEXTS))
    for path in (output, compiled):
        with edgekit.load(path) as model:
            assert ranked(model(TEXTS)) == wanted
    code, said, errors = command("run", output, TEXTS[0])
    assert code == 0, errors
    assert wanted[0] in str(said)


@pytest.mark.parametrize("engine", TARGETS)
def test_a_network_of_convolutions(shared: Path, engine: str, tmp_path: Path) -> None:
    """Static ranges from the rows for calibration; at batch 32; the digits are read as before."""
    bundle, output = exported(shared, "digits-cnn"), tmp_path / "q"
    with np.load(data_of("digits-cnn")) as arrays:
        images, labels = arrays["image"][:1200], arrays["label"][:1200]
    data = tmp_path / "digits.npz"
    np.savez(data, image=images, label=labels)
    result = quantize(
        bundle, output, "--target", "host", "--engine", engine, "--method", "static", "--data",
        data, "--reference", source_of("digits-cnn"), "--max-drop", "2pt", "--batch", "32",
        "--allow-slower",
    )  # fmt: skip
    assert result["method"] == "int8-static"
    assert drop_of(result) <= 0.02
    assert "Conv" in str(result["quantized_ops"]) or "Convolution" in str(result["quantized_ops"])
    compiled = lives_on(output, engine, tmp_path)
    for path in (output, compiled):
        with edgekit.load(path) as model:
            logits = next(iter(model.run({"image": images[:64]}).values()))
        assert (logits.argmax(axis=1) == labels[:64]).mean() > 0.95


def test_what_no_row_can_prove(shared: Path, reviews: Path, tmp_path: Path) -> None:
    """A budget beyond what so few rows can tell is exit 5, and leaves nothing."""
    output = tmp_path / "q"
    code, result, _ = command(
        "quantize", exported(shared, "minilm-sentiment"), "-o", output, "--data", reviews,
        "--reference", source_of("minilm-sentiment"), "--max-drop", "0.0001%",
    )  # fmt: skip
    check_schema(result)
    assert (code, result["verdict"], result["output"]) == (5, "inconclusive", None)
    assert list(tmp_path.iterdir()) == []


def test_embeddings_stay_close(shared: Path, reviews: Path, tmp_path: Path) -> None:
    """Without labels and a reference, the golden answers decide; sentences stay where they were."""
    bundle = exported(shared, "minilm")
    result = quantize(bundle, tmp_path / "q", "--calibration", reviews, "--allow-slower")
    assert result["accuracy"] is None
    with edgekit.load(bundle) as before, edgekit.load(tmp_path / "q") as after:
        for one, other in zip(before(TEXTS), after(TEXTS), strict=True):
            assert float(np.dot(one, other)) > 0.99
    assert open_bundle(tmp_path / "q").manifest.requires.engine == result["engine"]
