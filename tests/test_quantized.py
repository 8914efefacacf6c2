"""Trained models quantized on both engines, judged, compiled and loaded.

On few rows, with a budget that those can prove, and whatever their speed: the figures are
`benchmarks/quantization.py`'s.
"""

from __future__ import annotations

import csv
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import edgekit
from edgekit.core.bundle import open_bundle
from edgekit.core.measurements import QuantizeResult
from edgekit.core.results import to_json
from tests.conftest import make_once
from tests.pipeline.quantizable import check_schema
from tests.zoo_bundles import command, data_of, exported, source_of

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("brief")]

ENGINES = ("onnxruntime", "openvino")
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


def quantize(bundle: Path, output: Path, **options: Any) -> QuantizeResult:
    """The result of a quantization that passes."""
    result = edgekit.quantize(bundle, output, allow_slower=True, **options)
    check_schema(to_json(result))
    assert result.verdict == "pass"
    assert result.output == output
    return result


def lives_on(output: Path, engine: str, folder: Path) -> Path:
    """Verify, inspect and compile a quantized bundle; where the compiled one lies."""
    assert edgekit.verify(output).passed
    assert open_bundle(output).manifest.stage == "quantized"
    compiled = folder / "compiled"
    result = edgekit.compile(output, compiled, target="host", engine=engine)
    assert result.engine == engine
    assert edgekit.verify(compiled).passed
    return compiled


def drop_of(result: QuantizeResult) -> float:
    """The upper end of the drop's interval."""
    assert result.accuracy is not None
    assert result.accuracy.samples > 500
    return result.accuracy.drop_upper_95


def ranked(outputs: object) -> list[str]:
    """The labels that stand first."""
    assert isinstance(outputs, list)
    return [str(row["label"]) for row in outputs]


@pytest.mark.parametrize("engine", ENGINES)
def test_a_classifier_of_texts(shared: Path, reviews: Path, engine: str, tmp_path: Path) -> None:
    """Within its budget on both engines, a third of the size at most, and its answers stay."""
    bundle, output = exported(shared, "minilm-sentiment"), tmp_path / "q"
    result = quantize(
        bundle, output, target="host", engine=engine, data=str(reviews),
        reference=source_of("minilm-sentiment"), max_drop="3%",
    )  # fmt: skip
    assert drop_of(result) <= 0.03
    # A quarter where all is in integers; what a search keeps in float comes on top.
    assert result.ratio_to_input is not None
    assert result.ratio_to_input < 1 / 3
    assert result.latency is not None
    compiled = lives_on(output, engine, tmp_path)
    with edgekit.load(bundle) as model:
        wanted = ranked(model(TEXTS))
    for path in (output, compiled):
        with edgekit.load(path) as model:
            assert ranked(model(TEXTS)) == wanted
    code, said, errors = command("run", output, TEXTS[0])
    assert code == 0, errors
    assert wanted[0] in str(said)


@pytest.mark.parametrize("engine", ENGINES)
def test_a_network_of_convolutions(shared: Path, engine: str, tmp_path: Path) -> None:
    """Static ranges from the rows for calibration; at batch 32; the digits are read as before."""
    bundle, output = exported(shared, "digits-cnn"), tmp_path / "q"
    with np.load(data_of("digits-cnn")) as arrays:
        images, labels = arrays["image"][:1200], arrays["label"][:1200]
    data = tmp_path / "digits.npz"
    np.savez(data, image=images, label=labels)
    result = quantize(
        bundle, output, target="host", engine=engine, method="static", data=str(data),
        reference=source_of("digits-cnn"), max_drop="2pt", batch=32,
    )  # fmt: skip
    assert result.method == "int8-static"
    assert drop_of(result) <= 0.02
    assert any("Conv" in kind for kind in result.quantized_ops)
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
    result = quantize(bundle, tmp_path / "q", calibration=str(reviews))
    assert result.accuracy is None
    with edgekit.load(bundle) as before, edgekit.load(tmp_path / "q") as after:
        for one, other in zip(before(TEXTS), after(TEXTS), strict=True):
            assert float(np.dot(one, other)) > 0.99
    assert open_bundle(tmp_path / "q").manifest.requires.engine == result.engine
