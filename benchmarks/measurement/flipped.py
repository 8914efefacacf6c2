"""A planted loss of accuracy: a bundle that is made wrong on about 2 % of its samples.

``python -m benchmarks.measurement.flipped``. The graph itself is changed: where the sum of a text's
token ids is a multiple of 50, its logits change places. DATA holds only texts that the bundle gets
right before, so that every planted mistake is one. With 200 samples the verdict on a budget of 1 %
must be "inconclusive", with 5,000 "fail".
"""

from __future__ import annotations

import csv
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

import edgekit
from benchmarks.measurement.runs import keep
from benchmarks.models import sentiment_bundle
from benchmarks.zoo import fetch
from edgekit.core.bundle import BundleWriter, open_bundle
from edgekit.core.errors import BudgetNotMet
from edgekit.core.measurements import ValidateResult

EVERY = 50
MOST_ROWS = 12_000


def plant(bundle: Path, output: Path) -> None:
    """Write the bundle with the changed graph."""
    opened = open_bundle(bundle)
    model = onnx.load(str(bundle / "model.onnx"))
    graph = model.graph
    (logits,) = graph.output
    last = next(node for node in graph.node if logits.name in node.output)
    last.output[list(last.output).index(logits.name)] = "right"
    for name, value in {
        "every": np.array(EVERY, dtype=np.int64),
        "tokens": np.array([1], dtype=np.int64),
        "zero": np.array(0, dtype=np.int64),
        "swapped": np.array([1, 0], dtype=np.int64),
    }.items():
        graph.initializer.append(numpy_helper.from_array(value, name))
    graph.node.extend(
        [
            helper.make_node("ReduceSum", ["input_ids", "tokens"], ["sum"], keepdims=1),
            helper.make_node("Mod", ["sum", "every"], ["left"]),
            helper.make_node("Equal", ["left", "zero"], ["chosen"]),
            helper.make_node("Gather", ["right", "swapped"], ["wrong"], axis=1),
            helper.make_node("Where", ["chosen", "wrong", "right"], [logits.name]),
        ]
    )
    graph.value_info.append(helper.make_tensor_value_info("chosen", TensorProto.BOOL, None))
    onnx.checker.check_model(model)
    with BundleWriter(output) as writer:
        for entry in opened.manifest.files:
            writer.copy(bundle / entry.path, entry.path, entry.role)
        onnx.save(model, str(writer.directory / "model.onnx"))
        writer.stage(replace(opened.manifest, golden=opened.manifest.golden))
        writer.commit()


def snippets() -> Iterator[tuple[str, str]]:
    """All snippets of the zoo: text and label."""
    for name in ("movies.csv", "movies-train.csv"):
        with (fetch("movies") / name).open(encoding="utf-8", newline="") as file:
            for row in csv.DictReader(file):
                yield row["text"], row["label"]


def main() -> None:
    """Plant, judge, print and keep the verdicts."""
    rows = list(snippets())[:MOST_ROWS]
    bundle = sentiment_bundle()
    with edgekit.load(bundle) as model:
        answers = model([text for text, _ in rows])
    right = [row for row, answer in zip(rows, answers, strict=True) if answer["label"] == row[1]]
    found = {}
    with tempfile.TemporaryDirectory(prefix="edgekit-flipped-") as name:
        folder = Path(name)
        data = folder / "right.csv"
        with data.open("w", encoding="utf-8", newline="") as file:
            csv.writer(file).writerows([("text", "label"), *right])
        plant(bundle, folder / "flipped")
        for samples in (200, 5000):
            result = judged(folder / "flipped", data, samples)
            accuracy = result.accuracy
            if accuracy is None:
                raise RuntimeError("the verdict has no accuracy although data was given")
            found[str(samples)] = {
                "verdict": result.verdict,
                "samples": accuracy.samples,
                "drop": accuracy.drop,
                "low": accuracy.drop_lower_95,
                "high": accuracy.drop_upper_95,
                "samples_needed": accuracy.samples_needed,
            }
            print(
                f"{accuracy.samples:,} samples: drop {accuracy.drop:.2%}"
                f" ({accuracy.drop_lower_95:.2%} to {accuracy.drop_upper_95:.2%}):"
                f" {result.verdict}"
            )
    keep("flipped", {"every": EVERY, "max_drop": "1%", "verdicts": found})


def judged(bundle: Path, data: Path, samples: int) -> ValidateResult:
    """The verdict on so many samples, whatever it is."""
    try:
        return edgekit.validate(
            bundle,
            reference=str(fetch("minilm-sentiment")),
            data=str(data),
            limit=samples,
            latency=False,
        )
    except BudgetNotMet as error:
        if not isinstance(error.result, ValidateResult):
            raise
        return error.result


if __name__ == "__main__":
    main()
