"""Bundles that take pictures, opened and called the way an app does it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx import helper
from PIL import Image

from edgekit.core.bundle import Bundle
from edgekit.core.errors import BundleCorrupt, ConfigError, InputMismatch
from edgekit.core.manifest import TensorSpec
from edgekit.runtime import load
from edgekit.runtime.pictures import decoding, predicting
from edgekit.runtime.pictures.drawing import draw_answer
from tests.runtime.conftest import Graph, write_bundle
from tests.runtime.pictures.conftest import draw, stored

OPS = (
    {"op": "resize", "size": {"height": 6, "width": 8}},
    {"op": "rescale", "factor": 1 / 255},
)
LABELS = ("red", "green", "blue")


def colour_graph(
    batch: int | str = "batch", height: int | str = 6, width: int | str = 8, *, masked: bool = False
) -> Graph:
    """Scores of red, green and blue: the mean of each channel, times ten."""
    graph = Graph(
        [TensorSpec("pixel_values", "float32", (batch, 3, height, width))],
        [TensorSpec("logits", "float32", (batch, 3))],
    )
    graph.weight("axes", np.array([2, 3], np.int64))
    graph.weight("ten", np.array(10, np.float32))
    source = "pixel_values"
    if masked:
        graph.inputs.append(TensorSpec("pixel_mask", "int64", (batch, height, width)))
        graph.weight("one", np.array([1], np.int64))
        graph.nodes.append(helper.make_node("Cast", ["pixel_mask"], ["numbers"], to=1))
        graph.op("Unsqueeze", "numbers", "one", to="wide")
        graph.op("Mul", "pixel_values", "wide", to="kept")
        source = "kept"
    graph.op("ReduceMean", source, "axes", to="means", keepdims=0)
    graph.op("Mul", "means", "ten", to="logits")
    return graph


@pytest.fixture
def colours(tmp_path: Path) -> Callable[..., Bundle]:
    """Makes a bundle that names the strongest colour; keywords change graph and processor."""

    def make(
        graph: Graph | None = None,
        ops: tuple[Mapping[str, object], ...] = OPS,
        name: str = "colours",
        **change: object,
    ) -> Bundle:
        return write_bundle(
            tmp_path / name,
            graph or colour_graph(),
            task="image-classification",
            labels=LABELS,
            processor={
                "kind": "image",
                "ops": list(ops),
                "post": {"kind": "image-classification"},
                **change,
            },
        )

    return make


def plain(colour: int, width: int = 9, height: int = 5) -> np.ndarray:
    """An array of one colour."""
    array = np.zeros((height, width, 3), np.uint8)
    array[..., colour] = 200
    return array


def best(answer: Any) -> str:
    """The label in front."""
    return str(answer[0]["label"])


def test_one_picture_and_a_list(colours: Callable[..., Bundle], tmp_path: Path) -> None:
    """One gives a list of labels, several a list of such lists, in their order."""
    path = tmp_path / "noise.png"
    path.write_bytes(stored(draw(20, 10)))
    with load(colours().path) as model:
        assert best(model(plain(1))) == "green"
        answers: Any = model([plain(2), plain(0), str(path), path.read_bytes(), plain(1)])
        assert [best(answer) for answer in (answers[0], answers[1], answers[4])] == [
            "blue",
            "red",
            "green",
        ]
        assert answers[2] == answers[3]
        assert len(answers[2]) == 3
        assert model([]) == []


def test_options_and_batches(colours: Callable[..., Bundle]) -> None:
    """However many run together, the answers are the same; unknown options are refused."""
    pictures = [plain(number % 3) for number in range(11)]
    with load(colours().path) as model:
        expected = [["red", "green", "blue"][number % 3] for number in range(11)]
        for size in (1, 4, 32):
            answers: Any = model(pictures, batch_size=size, top_k=1)
            assert [best(answer) for answer in answers] == expected
            assert {len(answer) for answer in answers} == {1}
        with pytest.raises(ConfigError, match="no option 'threshold'"):
            model(pictures, threshold=0.5)


def test_graph_of_a_fixed_batch(colours: Callable[..., Bundle]) -> None:
    """The last picture stands in for those that lack."""
    with load(colours(colour_graph(batch=4)).path) as model:
        answers: Any = model([plain(number % 3) for number in range(6)])
        assert [best(answer) for answer in answers] == ["red", "green", "blue"] * 2
        assert best(model(plain(2))) == "blue"


def test_pictures_of_several_sizes_do_not_change_each_other(
    colours: Callable[..., Bundle], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Those of a size run together; few may wait, and the order stays."""
    bundle = colours(
        colour_graph(height="height", width="width", masked=True),
        ops=(OPS[1],),
        inputs=["pixel_values", "pixel_mask"],
    )
    pictures = [plain(number % 3, 4 + number % 2, 6 + number % 4) for number in range(12)]
    with load(bundle.path) as model:
        alone: Any = [model(picture) for picture in pictures]
        assert model(pictures) == alone
        monkeypatch.setattr(predicting, "_WAITING", 1)
        assert model(pictures) == alone


def test_graph_of_a_fixed_size_gets_a_mask(colours: Callable[..., Bundle]) -> None:
    """A smaller picture is filled up to the size of the graph."""
    bundle = colours(
        colour_graph(height=16, width=16, masked=True),
        ops=(OPS[1],),
        inputs=["pixel_values", "pixel_mask"],
    )
    with load(bundle.path) as model:
        assert best(model(plain(0))) == "red"
        with pytest.raises(InputMismatch, match="does not fit"):
            model(plain(0, width=17))


def test_raw_tensors_still_work(colours: Callable[..., Bundle]) -> None:
    """And what does not fit is told what the model takes besides."""
    with load(colours().path) as model:
        assert model.run({"pixel_values": np.ones((1, 3, 6, 8), np.float32)})["logits"].shape == (
            1,
            3,
        )
        with pytest.raises(InputMismatch) as caught:
            model.run([1])  # type: ignore[arg-type]
        assert "pictures instead of run()" in str(caught.value.hint)


def test_processor_for_another_graph(colours: Callable[..., Bundle]) -> None:
    """Other names, or another size: the bundle is wrong."""
    with pytest.raises(BundleCorrupt, match="the processor makes image"):
        load(colours(inputs=["image"]).path)
    with pytest.raises(BundleCorrupt, match="8×6, the graph takes 7×7"):
        load(colours(colour_graph(height=7, width=7), name="other").path)


def test_openvino_answers_the_same(colours: Callable[..., Bundle]) -> None:
    """The other engine reads the same bundle."""
    pytest.importorskip("openvino")
    path = colours().path
    with load(path) as first, load(path, engine="openvino") as second:
        one: Any = first(plain(1))
        two: Any = second(plain(1))
    assert [row["label"] for row in one] == [row["label"] for row in two]
    assert [row["score"] for row in one] == pytest.approx([row["score"] for row in two], abs=1e-5)


@pytest.mark.parametrize(
    ("shape", "ops", "told"),
    [
        (("batch", 3, 1 << 15, 1 << 15), (), "at once"),
        ((1 << 22, 3, 6, 8), OPS, "at once"),
        (("batch", 3, 6, 8), OPS, None),
        ((64, 3, 6, 8), OPS, None),
    ],
)
def test_graphs_that_no_memory_holds(
    shape: tuple[int | str, ...], ops: tuple[Mapping[str, object], ...], told: str | None
) -> None:
    """Refused before an array of that size is made."""
    processor = {"kind": "image", "ops": list(ops)}
    specs = [TensorSpec("pixel_values", "float32", shape)]
    if told is None:
        assert predicting.make_processor(processor, specs).size == (6, 8)
        return
    with pytest.raises(BundleCorrupt, match=told):
        predicting.make_processor(processor, specs)


def test_fixed_batch_of_large_pictures(
    colours: Callable[..., Bundle], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where only the pictures tell how much a batch is."""
    bundle = colours(colour_graph(batch=4, height="height", width="width"), ops=(OPS[1],))
    monkeypatch.setattr(predicting, "MOST_TENSOR_PIXELS", 4 * 5 * 9)
    with load(bundle.path) as model:
        assert best(model(plain(1))) == "green"
        with pytest.raises(InputMismatch, match="4 pictures of 10×5"):
            model(plain(1, width=10))


def place_graph() -> Graph:
    """One query that has found the left upper quarter of any picture."""
    graph = Graph(
        [TensorSpec("pixel_values", "float32", ("batch", 3, 6, 8))],
        [
            TensorSpec("logits", "float32", ("batch", 1, 2)),
            TensorSpec("pred_boxes", "float32", ("batch", 1, 4)),
        ],
    )
    graph.weight("axes", np.array([1, 2, 3], np.int64))
    graph.weight("zero", np.array(0, np.float32))
    graph.op("ReduceMean", "pixel_values", "axes", to="means", keepdims=0)
    graph.op("Mul", "means", "zero", to="nothing")
    graph.weight("rows", np.array([-1, 1, 1], np.int64))
    graph.op("Reshape", "nothing", "rows", to="base")
    graph.weight("sure", np.array([[[9, 0]]], np.float32))
    graph.weight("quarter", np.array([[[0.25, 0.25, 0.5, 0.5]]], np.float32))
    graph.op("Add", "base", "sure", to="logits")
    graph.op("Add", "base", "quarter", to="pred_boxes")
    return graph


@pytest.mark.parametrize(("orientation", "size"), [(1, (160, 120)), (6, (120, 160))])
def test_boxes_are_in_the_pixels_of_the_file(
    orientation: int, size: tuple[int, int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also of a JPEG that was decoded at a half of its size; drawn, they lie where they were."""
    bundle = write_bundle(
        tmp_path / "b", place_graph(), task="object-detection", labels=("cat", "none"),
        processor={"kind": "image", "ops": list(OPS), "post": {"kind": "object-detection"}},
    )  # fmt: skip
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = stored(Image.new("RGB", (160, 120)), "JPEG", exif=exif)
    monkeypatch.setattr(decoding, "MOST_PIXELS", 5_000)
    with load(bundle.path) as model:
        answer: Any = model(data)
    assert answer[0]["box"] == {"xmin": 0, "ymin": 0, "xmax": size[0] // 2, "ymax": size[1] // 2}
    half = decoding.open_picture(data)
    assert half.size == (size[0] // 2, size[1] // 2)
    drawn = np.asarray(draw_answer(half, "object-detection", answer)).sum(-1)
    assert drawn[half.height // 2, half.width // 4] > 0
    assert not drawn[half.height // 2 + 3 :].any()


def test_masks_are_in_the_pixels_that_were_decoded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A mask of the file's size would be what the limit is there for."""
    graph = Graph(
        [TensorSpec("pixel_values", "float32", ("batch", 3, 6, 8))],
        [TensorSpec("logits", "float32", ("batch", 3, 6, 8))],
    )
    graph.weight("ten", np.array(10, np.float32))
    graph.op("Mul", "pixel_values", "ten", to="logits")
    bundle = write_bundle(
        tmp_path / "b", graph, task="image-segmentation", labels=LABELS,
        processor={"kind": "image", "ops": list(OPS), "post": {"kind": "segmentation"}},
    )  # fmt: skip
    monkeypatch.setattr(decoding, "MOST_PIXELS", 5_000)
    with load(bundle.path) as model:
        answer: Any = model(stored(Image.new("RGB", (160, 120), (0, 200, 0)), "JPEG"))
    assert [(row["label"], row["mask"].size) for row in answer] == [("green", (80, 60))]
