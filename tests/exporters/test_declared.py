"""Processors that people write for modules of their own."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import edgekit
from edgekit.core.errors import ConfigError
from edgekit.core.manifest import Component, TensorSpec
from edgekit.exporters.declared import fit_declared, read_declared

TOML = """
labels = "names.txt"
[post]
kind = "image-classification"
[[ops]]
op = "resize"
size = {height = 28, width = 28}
[[ops]]
op = "rescale"
factor = 0.00392156862745098
"""


@pytest.mark.parametrize("kind", ["toml", "json"])
def test_both_formats_say_the_same(kind: str, tmp_path: Path) -> None:
    """With the labels in the file, or beside it."""
    (tmp_path / "names.txt").write_text("zero\n one \n\ntwo\n")
    path = tmp_path / f"p.{kind}"
    values = {
        "kind": "image",
        "labels": ["zero", "one", "two"],
        "post": {"kind": "image-classification"},
        "ops": [
            {"op": "resize", "size": {"height": 28, "width": 28}},
            {"op": "rescale", "factor": 1 / 255},
        ],
    }
    path.write_text(TOML if kind == "toml" else json.dumps(values))
    found = read_declared(path)
    assert found.labels == ("zero", "one", "two")
    assert found.task == "image-classification"
    assert found.processor["ops"] == values["ops"]
    assert found.processor["kind"] == "image"


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("{", "not readable JSON"),
        ("[1]", "no object"),
        ('{"kind": "text"}', "kind 'text'"),
        ('{"ops": []}', "what the outputs are"),
        ('{"ops": [{"op": "blur"}], "post": {"kind": "segmentation"}}', "blur"),
        ('{"post": {"kind": "segmentation"}, "labels": 3}', "labels"),
        ('{"post": {"kind": "segmentation"}, "labels": "none.txt"}', "none.txt"),
        ('{"post": {"kind": "segmentation"}, "sharpen": 1}', "sharpen"),
        ('{"post": {"kind": ["segmentation"]}}', "what the outputs are"),
        ('{"post": {"kind": "segmentation"}, "ops": [{"op": ["resize"]}]}', "resize"),
        (
            '{"post": {"kind": "segmentation"}, "ops": [{"op": "rescale", "factor": 1%s}]}'
            % ("0" * 400),
            "finite",
        ),
        (
            '{"post": {"kind": "segmentation"}, "ops": [{"op": "pad", "height": 9000,'
            ' "width": 9000}]}',
            "limit is 67 million",
        ),
    ],
)
def test_wrong_files(text: str, told: str, tmp_path: Path) -> None:
    """Each says what is wrong, and shows how one looks."""
    path = tmp_path / "p.json"
    path.write_text(text)
    with pytest.raises(ConfigError, match=told):
        read_declared(path)


def test_missing_file(tmp_path: Path) -> None:
    """Its path is told."""
    with pytest.raises(ConfigError, match=r"none\.json cannot be read"):
        read_declared(tmp_path / "none.json")


def _component(*shape: int | str) -> Component:
    return Component(
        "onnx",
        ("model.onnx",),
        (TensorSpec("image", "float32", shape),),
        (TensorSpec("logits", "float32", ("batch", 10)),),
    )


@pytest.mark.parametrize(
    ("shape", "change", "told"),
    [
        (("batch", 3, 28, 28), {}, "28×28"),
        (("batch", 1, "h", "w"), {}, r"makes \[3, 20, 20\]"),
        (("batch", 3, "h", "w"), {"inputs": ["pixels"]}, "processor makes pixels"),
        (("batch", 784), {}, "four dimensions"),
        (("batch", 3, 20, 20), {"post": {"kind": "object-detection"}}, "reads 2 outputs"),
    ],
)
def test_processor_that_does_not_fit(
    shape: tuple[int | str, ...], change: dict[str, object], told: str
) -> None:
    """Found out on a picture, before anything is written."""
    processor: dict[str, Any] = {
        "kind": "image",
        "ops": [{"op": "resize", "size": {"height": 20, "width": 20}}],
        "post": {"kind": "image-classification"},
    }
    with pytest.raises(ConfigError, match=told):
        fit_declared({**processor, **change}, _component(*shape), None)


def test_module_with_a_processor_reads_pictures(tmp_path: Path) -> None:
    """From a factory and a file to a bundle that classifies."""
    path = tmp_path / "p.json"
    path.write_text(
        json.dumps(
            {
                "channels": "grey",
                "ops": [
                    {"op": "resize", "size": {"height": 28, "width": 28}},
                    {"op": "normalize", "mean": 127, "std": 128},
                ],
                "post": {"kind": "image-classification", "top_k": 3},
                "labels": [f"digit {number}" for number in range(10)],
            }
        )
    )
    result = edgekit.export("tests.models:cnn_with_samples", tmp_path / "b", processor=path)
    assert result.task == "image-classification"
    picture = np.random.default_rng(0).integers(0, 255, (40, 60, 3)).astype(np.uint8)
    with edgekit.load(tmp_path / "b") as model:
        answer: Any = model(picture)
        grey = model._predict.processor.encode(picture)  # type: ignore[attr-defined]
        logits = model.run({"image": grey.pixels[None]})["logits"][0]
    assert [row["label"] for row in answer] == [
        f"digit {number}" for number in np.argsort(-logits)[:3]
    ]


def test_checkpoint_with_a_processor_is_refused(classifier_source: Path, tmp_path: Path) -> None:
    """It brings its own."""
    path = tmp_path / "p.json"
    path.write_text('{"ops": [], "post": {"kind": "segmentation"}}')
    with pytest.raises(ConfigError, match="brings its own processing"):
        edgekit.export(str(classifier_source), tmp_path / "b", processor=path)


def test_no_operations_are_written_out(tmp_path: Path) -> None:
    """A manifest's processor has `ops`, if of none."""
    path = tmp_path / "p.json"
    path.write_text('{"post": {"kind": "image-classification"}}')
    assert read_declared(path).processor["ops"] == []


_FIXED = {"op": "resize", "size": {"height": 20, "width": 20}}
_EDGE = {"op": "resize", "size": {"shortest_edge": 16}}
_CROP = {"op": "center_crop", "height": 20, "width": 20}
_PAD = {"op": "pad", "height": 40, "width": 40}


@pytest.mark.parametrize(
    ("kind", "ops", "size", "masked", "told"),
    [
        ("segmentation", [_CROP], "open", False, "center_crop"),
        ("object-detection", [_EDGE, _CROP], "open", True, "center_crop"),
        ("segmentation", [_EDGE, _PAD], "open", False, "has pad"),
        ("object-detection", [_EDGE, _PAD], "open", False, "has pad"),
        ("segmentation", [_EDGE], 40, False, "no resize to it"),
        ("object-detection", [_EDGE], 40, False, "no resize to it"),
        ("object-detection", [_EDGE, _PAD], "open", True, None),
        ("object-detection", [_EDGE], 40, True, None),
        ("segmentation", [_FIXED, _CROP], 20, False, None),
        ("segmentation", [_EDGE], "open", False, None),
        ("image-classification", [_EDGE, _CROP], 20, False, None),
    ],
)
def test_answers_with_a_place_need_the_whole_picture(
    kind: str, ops: list[object], size: int | str, masked: bool, told: str | None
) -> None:
    """What the graph did not see, or saw besides, would shift every box and mask."""
    inputs = [TensorSpec("image", "float32", ("batch", 3, size, size))]
    if masked:
        inputs.append(TensorSpec("mask", "int64", ("batch", size, size)))
    outputs = (
        TensorSpec("logits", "float32", ("batch", 7, 10)),
        TensorSpec("pred_boxes", "float32", ("batch", 7, 4)),
    )
    component = Component("onnx", ("model.onnx",), tuple(inputs), outputs)
    processor = {"kind": "image", "ops": ops, "post": {"kind": kind}}
    if told is None:
        assert fit_declared(processor, component, None)["ops"] == ops
        return
    with pytest.raises(ConfigError, match=told):
        fit_declared(processor, component, None)
