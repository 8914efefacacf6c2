"""A trained model pruned by the commands, and taken through the rest of the line.

On few rows, by a share and with few steps of recovery: the figures are `benchmarks/pruning.py`'s.
"""

from __future__ import annotations

import csv
from itertools import islice
from pathlib import Path
from typing import Any

import pytest

import edgekit
from edgekit.core.bundle import open_bundle
from tests.schemas import check_schema_of
from tests.zoo_bundles import command, data_of, source_of

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("brief")]


@pytest.fixture
def reviews(tmp_path: Path) -> Path:
    """The first 900 of the snippets that the classifier was not trained on."""
    with data_of("minilm-sentiment").open(encoding="utf-8", newline="") as source:
        kept = list(islice(csv.reader(source), 901))
    with (tmp_path / "reviews.csv").open("w", encoding="utf-8", newline="") as target:
        csv.writer(target).writerows(kept)
    return tmp_path / "reviews.csv"


def test_a_pruned_model_goes_the_whole_way(
    reviews: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """prune, export, validate, quantize: each held to the original, which the bundles name."""
    monkeypatch.setenv("EDGEKIT_CACHE", str(tmp_path / "cache"))
    model = source_of("minilm-sentiment")
    small, bundle, eight = tmp_path / "p", tmp_path / "b", tmp_path / "b8"
    # Elsewhere, so that a busy machine's times decide nothing.
    code, result, errors = command(
        "prune", model, "-o", small, "--data", reviews, "--ratio", "0.2", "--structure", "ffn",
        "--recover-steps", "40", "--max-drop", "6pt", "--target", "cpu-arm64",
        "--html", tmp_path / "report.html",
    )  # fmt: skip
    assert code == 0, errors
    check_schema_of("prune", result)
    assert str(result["command"]).startswith("edgekit prune ")
    assert "Where it was cut" in (tmp_path / "report.html").read_text(encoding="utf-8")
    assert result["verdict"] == "pass"
    parameters, flops = result["parameters"], result["flops"]
    assert parameters["after"] < 0.95 * parameters["before"]
    assert flops["after"] < 0.9 * flops["before"]
    edgekit.export(str(small), bundle)
    source = open_bundle(bundle).manifest.source
    assert source is not None
    assert source.origin.id == Path(model).name
    assert source.sha256 != source.origin.sha256
    judged: dict[str, Any] = {"reference": model, "data": str(reviews), "max_drop": "6pt"}
    assert edgekit.validate(bundle, latency=False, **judged).verdict == "pass"
    edgekit.quantize(bundle, eight, method="dynamic", allow_slower=True, **judged)
    assert edgekit.validate(eight, latency=False, **judged).verdict == "pass"
