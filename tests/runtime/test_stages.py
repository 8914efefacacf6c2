"""Where a prediction's time goes: a clock around the engine, and none when nobody asks."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from edgekit.core.bundle import Bundle
from edgekit.core.manifest import RuntimeChoice, TensorSpec
from edgekit.runtime.contenders import BundleContender, OpenBundle, _threads
from edgekit.runtime.session import Fact
from edgekit.runtime.stages import Stopwatch, measure_stages
from edgekit.runtime.workloads import Workload, make_workloads, text_workload
from tests.runtime.conftest import CORPUS
from tests.tiny_pictures import album, picture_bundle

Make = Callable[..., Bundle]


class Slow:
    """A session that takes 20 ms."""

    engine = "slow"
    device = "cpu"
    inputs: tuple[TensorSpec, ...] = ()
    outputs: tuple[TensorSpec, ...] = ()

    def run(self, feeds: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Nothing, late."""
        time.sleep(0.02)
        return {}

    def facts(self) -> dict[str, Fact]:
        """None."""
        return {}

    def close(self) -> None:
        """Nothing to free."""


def test_a_prediction_is_split() -> None:
    """Before, in and after the engine; two runs of one prediction add up."""
    watch = Stopwatch(Slow())

    def predict() -> None:
        time.sleep(0.005)
        watch.run({})
        watch.run({})
        time.sleep(0.01)

    before, inside, after = watch.split(predict)
    assert before >= 5e6
    assert inside >= 40e6
    assert after >= 10e6
    assert watch.split(lambda: None)[1:] == (0, 0)


def test_nothing_is_timed_unasked() -> None:
    """Turns run the engine's own method, also after a prediction that failed."""
    slow = Slow()
    watch = Stopwatch(slow)
    assert watch.run == slow.run

    def fails() -> None:
        assert watch.run != slow.run
        raise RuntimeError("no")

    with pytest.raises(RuntimeError):
        watch.split(fails)
    assert watch.run == slow.run


def test_medians_over_predictions_in_turn() -> None:
    """At least five, after some untimed ones."""
    watch = Stopwatch(Slow())
    calls: list[str] = []
    found = measure_stages(
        watch, [lambda: calls.append("a"), lambda: calls.append("b")], seconds=0.0
    )
    assert calls == ["a", "b", "a", "a", "b", "a", "b", "a"]
    assert found["engine_ms"] == 0.0
    assert set(found) == {"preprocess_ms", "engine_ms", "postprocess_ms"}


@pytest.mark.parametrize(
    "kind", ["classification", "embedding", "token-classification", "question-answering",
             "fill-mask", "hidden-states"],
)  # fmt: skip
@pytest.mark.parametrize("batch", [1, 3])
def test_every_text_task_has_stages(text_bundle: Make, kind: str, batch: int) -> None:
    """All three take time."""
    bundle = text_bundle(kind)
    opened = BundleContender(bundle.path, 1).open()
    assert isinstance(opened, OpenBundle)
    (workload,) = make_workloads(bundle, batch=batch, lengths=[16])
    found = opened.stages(workload, seconds=0.0)
    assert all(value > 0 for value in found.values())
    assert len(found) == 3
    opened.model.close()


def test_variants_are_predicted_in_turn(text_bundle: Make) -> None:
    """Each with its own texts."""
    bundle = text_bundle("classification")
    opened = BundleContender(bundle.path, 1).open()
    assert isinstance(opened, OpenBundle)
    workload = text_workload(bundle, CORPUS, batch=2)
    assert opened.stages(workload, seconds=0.0)["engine_ms"] > 0


def test_arrays_have_no_stages(linear_bundle: Make, text_bundle: Make) -> None:
    """Neither has a workload without texts."""
    linear = linear_bundle()
    opened = BundleContender(linear.path, 1).open()
    assert isinstance(opened, OpenBundle)
    assert opened.stages(make_workloads(linear)[0], seconds=0.0) == {}
    text = text_bundle("classification")
    opened = BundleContender(text.path, 1).open()
    assert isinstance(opened, OpenBundle)
    made = make_workloads(text, lengths=[8])[0]
    assert opened.stages(Workload(1, 8, made.feeds), seconds=0.0) == {}


@pytest.mark.parametrize("batch", [1, 3])
def test_pictures_have_four_stages(batch: int, tmp_path: Path) -> None:
    """Decoding apart from the rest; of a drawn picture, or of those of the workload."""
    made = picture_bundle(tmp_path / "b", "image-classification")
    opened = BundleContender(made.path, 1).open()
    assert isinstance(opened, OpenBundle)
    (workload,) = make_workloads(made, batch=batch)
    drawn = opened.stages(workload, seconds=0.0)
    assert set(drawn) == {"decode_ms", "preprocess_ms", "engine_ms", "postprocess_ms"}
    assert all(value > 0 for value in drawn.values())
    paths = tuple(map(str, sorted(album(tmp_path / "album", 6).rglob("*.png"))))
    small = opened.stages(replace(workload, pictures=paths), seconds=0.0)
    # Some dozens of pixels against those of a camera.
    assert 0 < small["decode_ms"] < drawn["decode_ms"]
    assert "open" not in vars(opened.model.predictor.processor)  # type: ignore[attr-defined]


def test_a_drawn_picture_gives_the_arrays_that_were_measured(tmp_path: Path) -> None:
    """Of any size that a graph takes; where none does there are no stages, and no failure."""
    made = picture_bundle(tmp_path / "b", "image-classification", varies=True)
    opened = BundleContender(made.path, 1).open()
    assert isinstance(opened, OpenBundle)
    sizes: list[tuple[int, ...]] = []
    run = opened.watch.run

    def noted(feeds: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        sizes.append(feeds["pixel_values"].shape)
        return run(feeds)

    opened.watch._session.run = noted  # type: ignore[method-assign]
    workload = Workload(1, None, {"pixel_values": np.ones((1, 3, 20, 30), np.float32)})
    assert opened.stages(workload, seconds=0.0)
    assert set(sizes) == {(1, 3, 20, 30)}
    fixed = BundleContender(picture_bundle(tmp_path / "f", "image-classification").path, 1).open()
    assert isinstance(fixed, OpenBundle)
    assert fixed.stages(workload, seconds=0.0) == {}


def test_data_without_pictures_has_no_stages(tmp_path: Path) -> None:
    """Decoding something else would be told as the data's own."""
    made = picture_bundle(tmp_path / "b", "image-classification")
    opened = BundleContender(made.path, 1).open()
    assert isinstance(opened, OpenBundle)
    (workload,) = make_workloads(made)
    assert opened.stages(replace(workload, pictures=()), seconds=0.0) == {}


def test_fewer_threads_where_compiling_found_them_faster(tmp_path: Path) -> None:
    """They are the bundle's own; what a profile wrote down gives way to who measures."""
    made = picture_bundle(tmp_path / "b", "image-classification")

    def of(**chosen_by: object) -> Bundle:
        runtime = RuntimeChoice({"threads": 1}, chosen_by)
        return Bundle(made.path, replace(made.manifest, runtime=runtime))

    assert _threads(of(threads=2), 4) == 1
    assert _threads(of(threads=1), 4) == 4
    assert _threads(of(), 4) == 4
    assert _threads(made, 4) == 4
    assert _threads(of(threads=2), None) is None


def test_a_number_that_is_asked_for_is_kept(tmp_path: Path) -> None:
    """As `edgekit.load` has it: the bundle's own counts where nobody gives one."""
    made = picture_bundle(tmp_path / "b", "image-classification")
    chosen = RuntimeChoice({"threads": 1}, {"threads": 2})
    manifest = replace(made.manifest, runtime=chosen)
    (made.path / "edgekit.json").write_bytes(manifest.to_json())
    asked = BundleContender(made.path, 2).open()
    own = BundleContender(made.path, 2, own_threads=True).open()
    assert (asked.facts()["threads"], own.facts()["threads"]) == (2, 1)
