"""The reference in PyTorch: names in and out, settings tried, distances summed."""

from __future__ import annotations

import math
import time
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from edgekit.core.bundle import Bundle
from edgekit.core.errors import InputMismatch, MeasurementError
from edgekit.core.manifest import Component, Manifest, Origin, Requires, Source, TensorSpec
from edgekit.core.tolerance import TOLERANCES
from edgekit.evaluation.numerics import Distance, add_outputs, distances_on, mismatch_of
from edgekit.evaluation.reference import (
    Reference,
    Settings,
    compiled,
    declared_inputs,
    fastest,
)
from edgekit.evaluation.reference_child import OpenReference
from edgekit.runtime import load
from edgekit.runtime.workloads import Workload
from tests.evaluation.conftest import linear_source, source_of

Make = Callable[..., Bundle]


@pytest.fixture(autouse=True)
def same_threads() -> object:
    """Leave torch's threads as they were."""
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def test_arrays_go_in_and_come_out() -> None:
    """Without gradients, under the module's own names."""
    feeds = {"a": np.ones((2, 3), dtype=np.float32), "b": np.zeros((2, 3), dtype=np.float32)}
    found = Reference(linear_source()).run(feeds)
    np.testing.assert_array_equal(found["y"], np.full((2, 3), 2, dtype=np.float32))


def test_integers_are_widened_to_what_the_module_was_opened_with() -> None:
    """A bundle may take int32 where PyTorch's embedding was traced with int64."""

    class Kind(nn.Module):
        def forward(self, ids: Tensor) -> dict[str, Tensor]:
            return {"wide": torch.tensor([float(ids.dtype == torch.int64)])}

    source = source_of("custom", Kind(), {"ids": torch.ones(1, dtype=torch.int64)})
    assert Reference(source).run({"ids": np.ones(1, dtype=np.int32)})["wide"] == [1]


def test_half_precision_comes_out_as_float32() -> None:
    """numpy has no bfloat16."""

    class Half(nn.Module):
        def forward(self, a: Tensor) -> dict[str, Tensor]:
            return {"y": a.to(torch.bfloat16)}

    source = source_of("custom", Half(), {"a": torch.ones(2)})
    found = Reference(source).run({"a": np.ones(2, dtype=np.float32)})
    assert found["y"].dtype == np.float32


def test_feeds_that_do_not_fit_are_told_by_shape() -> None:
    """The module's own words, with the shapes it got."""
    feeds = {"a": np.ones((2, 3), dtype=np.float32), "b": np.ones((5, 7), dtype=np.float32)}
    with pytest.raises(InputMismatch, match=r"a \[2, 3\], b \[5, 7\]"):
        Reference(linear_source()).run(feeds)
    with pytest.raises(InputMismatch, match="does not run"):
        Reference(linear_source()).run({"x": feeds["a"]})


def test_the_faster_setting_is_taken() -> None:
    """By the median of trials in turn; what is applied last is what was chosen."""
    applied: list[Settings] = []
    quick, slow = Settings(1), Settings(2)
    calls = {slow: lambda: time.sleep(0.004), quick: lambda: time.sleep(0.001)}
    assert fastest(calls, applied.append) == quick
    assert {quick, slow} == set(applied)


def test_one_thread_is_taken_where_it_is_faster(monkeypatch: pytest.MonkeyPatch) -> None:
    """Decided by the first feeds, and kept."""
    calls: list[int] = []

    class Spinning(nn.Module):
        def forward(self, a: Tensor) -> dict[str, Tensor]:
            calls.append(torch.get_num_threads())
            time.sleep(0.02 * (torch.get_num_threads() - 1))
            return {"y": a}

    monkeypatch.setattr("edgekit.evaluation.reference.available_threads", lambda: 2)
    reference = Reference(source_of("custom", Spinning(), {"a": torch.ones(1)}))
    for _ in range(3):
        reference.run({"a": np.ones(1, dtype=np.float32)})
    assert calls == [1, 1, 2, 1, 1, 1]


def test_settings_are_chosen_and_applied() -> None:
    """One thread where only one is allowed; nothing is tried then."""
    feeds = {"a": np.ones((2, 3), dtype=np.float32), "b": np.zeros((2, 3), dtype=np.float32)}
    settings, call = Reference(linear_source()).choose(feeds, threads=1)
    assert settings == Settings(1)
    assert settings.to_json() == {"threads": 1, "memory_format": "contiguous"}
    assert torch.get_num_threads() == 1
    np.testing.assert_array_equal(call()["y"], np.full((2, 3), 2, dtype=np.float32))


def test_pictures_are_tried_in_both_memory_formats(monkeypatch: pytest.MonkeyPatch) -> None:
    """A convolution may be faster with the channels last, and answers the same."""
    from edgekit.evaluation import reference as module

    torch.manual_seed(0)

    class Picture(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(3, 4, 3)

        def forward(self, image: Tensor) -> dict[str, Tensor]:
            return {"y": self.conv(image)}

    seen: list[Settings] = []

    def last(calls: dict[Settings, object], apply: Callable[[Settings], object]) -> Settings:
        seen.extend(calls)
        return Settings(1, channels_last=True)

    source = source_of("custom", Picture(), {"image": torch.ones(1, 3, 8, 8)})
    feeds = {"image": np.random.default_rng(0).random((1, 3, 8, 8)).astype(np.float32)}
    expected = Reference(source).run(feeds)["y"]
    monkeypatch.setattr(module, "fastest", last)
    settings, call = Reference(source).choose(feeds, threads=2)
    assert [(one.threads, one.channels_last) for one in seen] == [
        (1, False), (2, False), (1, True), (2, True),
    ]  # fmt: skip
    assert settings.to_json()["memory_format"] == "channels_last"
    np.testing.assert_allclose(call()["y"], expected, atol=1e-6)


def test_calls_after_the_choice_run_with_what_was_chosen(
    monkeypatch: pytest.MonkeyPatch, same_threads: object
) -> None:
    """Pictures of every size lie in memory as the module does, with the same threads."""
    from edgekit.evaluation import reference as module

    formats: list[bool] = []

    class Picture(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(3, 4, 3)

        def forward(self, image: Tensor) -> dict[str, Tensor]:
            formats.append(image.is_contiguous(memory_format=torch.channels_last))
            return {"y": self.conv(image)}

    source = source_of("custom", Picture(), {"image": torch.ones(1, 3, 8, 8)})
    opened = OpenReference(Reference(source), 2)
    small, large = (
        Workload(1, None, {"image": np.ones((1, 3, size, size), dtype=np.float32)})
        for size in (8, 12)
    )
    monkeypatch.setattr(module, "fastest", lambda *_: Settings(1, channels_last=True))
    opened.start(large)()
    opened.prepare(small)
    opened.start(large)()
    assert formats == [False, True]
    assert torch.get_num_threads() == 1
    assert opened.facts()["memory_format"] == "channels_last"
    monkeypatch.setattr(module, "fastest", lambda *_: Settings(2))
    opened.prepare(small)
    opened.start(large)()
    assert formats[-1] is False
    assert torch.get_num_threads() == 2


def test_another_forward_may_stand_for_the_modules() -> None:
    """The compiled one, say; names, types and settings are the same."""
    source = linear_source()
    reference = Reference(source, forward=lambda a, b: {"y": source.module(a, b)["y"] + 1})
    feeds = {"a": np.ones((2, 3), dtype=np.float32), "b": np.zeros((2, 3), dtype=np.float32)}
    np.testing.assert_array_equal(reference.run(feeds)["y"], np.full((2, 3), 3, dtype=np.float32))


def test_a_module_that_does_not_compile_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """With the compiler's own first line, and without its traceback."""

    def broken(**tensors: Tensor) -> dict[str, Tensor]:
        raise torch._dynamo.exc.TorchDynamoException("\nNo working C++ compiler found\nat all")

    monkeypatch.setattr(torch, "compile", lambda module, dynamic: broken)
    forward = compiled(linear_source(), dynamic=False)
    with pytest.raises(MeasurementError, match=r"compile twin: No working C\+\+ compiler found\."):
        forward(a=torch.ones(1, 3), b=torch.ones(1, 3))


def test_natural_lengths_run_through_the_graph_for_many() -> None:
    """A fixed shape through the one that was compiled for it."""
    source = linear_source()
    plus = [
        Reference(source, forward=lambda a, b, more=more: {"y": 2 * a + b + more})
        for more in (0, 1)
    ]
    opened = OpenReference(plus[0], 1, "compile", plus[1])
    feeds = {name: np.ones((1, 3), dtype=np.float32) for name in ("a", "b")}
    assert opened.start(Workload(1, 16, feeds))()["y"][0, 0] == 3
    assert opened.prepare(Workload(1, "data", feeds))()["y"][0, 0] == 4
    assert OpenReference(plus[0], 1).start(Workload(1, "data", feeds))()["y"][0, 0] == 3


def test_bfloat16_is_judged_as_such() -> None:
    """Also of a module without weights, whose type nothing shows."""
    for mode, precision in (("eager", "fp32"), ("compile", "fp32"), ("bfloat16", "bf16")):
        facts = OpenReference(Reference(linear_source()), 1, mode).facts()
        assert facts["effective_precision"] == precision
        assert str(facts["mode"]).endswith("inference_mode")


def manifest(kind: str) -> Manifest:
    """A manifest of a source of a kind with two inputs."""
    specs = (TensorSpec("x", "float32", ("batch", 10)), TensorSpec("n", "int64", ("batch",)))
    return Manifest(
        name="m", created_by="test", stage="exported", task="custom",
        source=Source(kind, "f", None, "0" * 64, "M", 1, "float32", None, Origin("f", "0" * 64)),
        components={"model": Component("onnx", ("m.onnx",), specs, ())},
        requires=Requires("onnxruntime"),
    )  # fmt: skip


def test_a_factory_is_opened_with_the_bundles_inputs() -> None:
    """As the declarations that `--input` takes; checkpoints need none."""
    assert declared_inputs(manifest("factory")) == ("x=float32:batch,10", "n=int64:batch")
    assert declared_inputs(manifest("huggingface")) == ()


def test_distances_add_up() -> None:
    """Over several pairs they are those of all values as one."""
    generator = np.random.default_rng(0)
    x = generator.normal(size=(6, 5))
    y = x + generator.normal(scale=0.1, size=x.shape)
    distance = Distance()
    for first, second in zip(x, y, strict=True):
        distance.add(first, second, choices=True)
    found = distance.numerics()
    assert found.max_abs == pytest.approx(np.abs(x - y).max())
    assert found.mean_abs == pytest.approx(np.abs(x - y).mean())
    cosine = (x * y).sum() / (np.linalg.norm(x) * np.linalg.norm(y))
    assert found.cosine == pytest.approx(cosine)
    assert found.argmax_agreement == np.mean(x.argmax(axis=1) == y.argmax(axis=1))
    assert distance.max_reference == pytest.approx(np.abs(x).max())


def test_nan_is_never_a_small_distance() -> None:
    """It stays NaN whatever is added after it."""
    distance = Distance()
    distance.add(np.ones(2), np.array([1.0, np.nan]), choices=False)
    distance.add(np.ones(2), np.ones(2), choices=False)
    assert math.isnan(distance.max_abs)
    assert math.isnan(distance.numerics().cosine)


def test_only_like_outputs_are_compared() -> None:
    """What both have by name; embeddings hold no decisions, whole numbers are equal or not."""
    ones = {"e": np.ones((1, 4)), "ids": np.ones((1, 2), dtype=np.int64), "only": np.ones(2)}
    found: dict[str, Distance] = {}
    add_outputs(found, "feature-extraction", ones, {"e": ones["e"], "ids": ones["ids"]})
    add_outputs(found, "feature-extraction", ones, {"other": np.ones(3)})
    assert set(found) == {"e", "ids"}
    assert found["e"].numerics().argmax_agreement is None
    assert found["ids"].numerics().argmax_agreement == 1


def test_whole_numbers_must_be_equal() -> None:
    """All of them for float32; as many as the cosine asks for where a bundle is quantized."""
    found: dict[str, Distance] = {}
    first = np.arange(1000)
    second = np.where(first == 7, 8, first)
    add_outputs(found, "custom", {"ids": first}, {"ids": second})
    assert found["ids"].numerics().argmax_agreement == 0.999
    assert not found["ids"].within(TOLERANCES["fp32"])
    assert found["ids"].within(TOLERANCES["int8"])
    assert "99.90%" in found["ids"].describe("ids")


def test_another_shape_is_a_mismatch() -> None:
    """However alike the other batches were, and with the name of the output."""
    found: dict[str, Distance] = {}
    add_outputs(found, "custom", {"y": np.ones((2, 3))}, {"y": np.ones((2, 3))})
    add_outputs(found, "custom", {"y": np.ones((2, 3))}, {"y": np.ones((2, 4))})
    assert not found["y"].within(TOLERANCES["int4"])
    assert "output y has the shape [2, 4]" in str(mismatch_of(found))


def test_distances_without_data(bundle_of: Make) -> None:
    """Both models on ready-made feeds."""
    feeds = {"a": np.ones((2, 3), dtype=np.float32), "b": np.ones((2, 3), dtype=np.float32)}
    with load(bundle_of("linear").path) as model:
        found = distances_on(model, Reference(linear_source()), [feeds, feeds])
    assert found["y"].numerics().max_abs == 0
    assert found["y"].max_reference == 3
