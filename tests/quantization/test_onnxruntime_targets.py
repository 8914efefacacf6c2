"""quantization/onnxruntime.py: recipes by target, and what can be switched in them."""

from __future__ import annotations

from pathlib import Path
from typing import get_args

import numpy as np
import onnx
import pytest

from edgekit.core.errors import ConfigError
from edgekit.core.profiles import load_profile
from edgekit.quantization import onnxruntime
from edgekit.quantization.recipes import Recipe, Scheme
from edgekit.quantization.switches import changes, kinds_of
from tests.quantization.networks import (
    NO_VNNI,
    VNNI,
    bundle_of,
    encoder,
)
from tests.quantization.small import Encoder


@pytest.fixture
def small(tmp_path: Path) -> Encoder:
    return Encoder(tmp_path)


class TestSupport:
    @pytest.mark.parametrize(
        ("recipe", "supported"),
        [
            (Recipe("int8-dynamic", smooth=0.5, correction="fast"), True),
            (Recipe("int8-dynamic", correction="full"), True),
            (Recipe("int8-dynamic", symmetric=True), False),
            (Recipe("int8-dynamic", calibrator="mse"), False),
            (Recipe("int8-static", symmetric=True, calibrator="mse"), True),
            (Recipe("int8-static", correction="full"), True),
            (Recipe("weight-int4", rounding="k-quant"), True),
            (Recipe("bfloat16"), False),
        ],
    )
    def test_what_can_be_switched(self, small: Encoder, recipe: Recipe, supported: bool) -> None:
        """It supports what it does and what makes a difference, and no more."""
        assert small.prepared.supports(recipe) == supported

    @pytest.mark.parametrize("scheme", get_args(Scheme))
    def test_every_supported_switch_can_be_written(self, small: Encoder, scheme: Scheme) -> None:
        """A search is never refused what it was told that it may try."""
        recipe = Recipe(scheme)
        for kind in kinds_of(recipe, samples=True):
            for number, changed in enumerate(changes(recipe, kind, small.prepared.supports)):
                assert small.write(changed, f"out{number}").precision in ("int8", "int4")


class TestTargets:
    def test_vnni_is_required_where_it_was_counted_on(self, small: Encoder) -> None:
        """The manifest asks for the processor that the recipe was made for."""
        made = small.write(Recipe("int8-dynamic"))
        assert (made.requires.arch, made.requires.cpu_features) == ("x86_64", ("avx512_vnni",))
        assert made.options == {}

    def test_weights_alone_need_no_processor(self, small: Encoder) -> None:
        """Weight-only runs anywhere."""
        assert small.write(Recipe("weight-int8")).requires.cpu_features == ()

    def test_sums_are_exact_without_vnni(self, tmp_path: Path) -> None:
        """Any x86 processor: the engine is told to avoid the sums that saturate."""
        bundle = bundle_of(encoder(), tmp_path / "exported")
        prepared = onnxruntime.prepare(bundle, "model", NO_VNNI, tmp_path / "work", ())
        made = prepared.write(Recipe("int8-dynamic"), tmp_path / "out")
        assert made.options == {"session": {"session.x64quantprecision": "1"}}
        assert made.requires.cpu_features == ()
        assert any("VNNI" in note for note in made.notes)

    @pytest.mark.parametrize(
        "recipe",
        [
            Recipe("int8-dynamic", reduce_range=True),
            Recipe("int8-dynamic", weights="u8"),
            Recipe("weight-int8"),
            Recipe("float16"),
        ],
        ids=["7 bits", "unsigned", "weights", "half"],
    )
    def test_what_cannot_saturate_stays_fast(self, tmp_path: Path, recipe: Recipe) -> None:
        """Weights of 7 bits and unsigned ones are added exactly anyway: nothing is told."""
        bundle = bundle_of(encoder(), tmp_path / "exported")
        prepared = onnxruntime.prepare(bundle, "model", NO_VNNI, tmp_path / "work", ())
        made = prepared.write(recipe, tmp_path / "out")
        assert made.options == {}
        assert not any("VNNI" in note for note in made.notes)

    def test_pairs_of_7_bit_products_fit_16_bits(self, small: Encoder) -> None:
        """The largest sum that the stored codes could make with any activations does not wrap."""
        small.write(Recipe("int8-dynamic", reduce_range=True, smooth=0.75))
        model = onnx.load(str(small.folder / "out" / "model.onnx"))
        held = [one for one in model.graph.initializer if one.name.endswith("weight/int8")]
        most = max(int(np.abs(onnx.numpy_helper.to_array(one).astype(int)).max()) for one in held)
        assert len(held) == 6
        assert 2 * 255 * most <= 32767

    def test_recipes_follow_the_processor(self) -> None:
        """VNNI gets full range; any x86 also 7 bits; ARM signed activations."""
        arm = load_profile("cpu-arm64")
        assert not any(one.reduce_range for one in onnxruntime.recipes(VNNI, "dynamic", None))
        assert any(one.reduce_range for one in onnxruntime.recipes(NO_VNNI, "dynamic", None))
        assert {one.activations for one in onnxruntime.recipes(arm, "static", 8)} == {"s8"}

    @pytest.mark.parametrize(
        ("method", "bits", "schemes"),
        [
            ("dynamic", None, {"int8-dynamic"}),
            ("static", 8, {"int8-static"}),
            ("weight-only", 4, {"weight-int4"}),
            ("float16", 16, {"float16"}),
            ("auto", 4, {"weight-int4"}),
            ("auto", None, {"int8-dynamic", "int8-static", "weight-int8", "float16"}),
        ],
    )
    def test_methods(self, method: str, bits: int | None, schemes: set[str]) -> None:
        """A method and its bits mean these schemes."""
        assert {one.scheme for one in onnxruntime.recipes(VNNI, method, bits)} == schemes

    @pytest.mark.parametrize(
        ("target", "method", "bits"),
        [("cuda", "dynamic", None), ("cpu-x86", "dynamic", 4), ("cpu-x86", "float16", 8)],
    )
    def test_no_such_method(self, target: str, method: str, bits: int | None) -> None:
        """A method that the target has not is refused."""
        with pytest.raises(ConfigError, match="has no"):
            onnxruntime.recipes(load_profile(target), method, bits)

    def test_mistyped_method(self) -> None:
        """The nearest method is offered."""
        with pytest.raises(ConfigError, match="static"):
            onnxruntime.recipes(VNNI, "statik", None)

    def test_half_precision_for_a_gpu(self, tmp_path: Path) -> None:
        """For CUDA the whole graph is in half precision, but for the groups that are raised."""
        bundle = bundle_of(encoder(), tmp_path / "exported")
        cuda = load_profile("cuda")
        prepared = onnxruntime.prepare(bundle, "model", cuda, tmp_path / "work", ())
        made = prepared.write(Recipe("float16", levels={"head": "float32"}), tmp_path / "out")
        model = onnx.load(str(tmp_path / "out" / "model.onnx"))
        kinds = {one.name: one.data_type for one in model.graph.initializer}
        assert made.precision == "fp16"
        assert made.requires.extras == ("cuda",)
        assert kinds["outer.weight"] == onnx.TensorProto.FLOAT16
        assert kinds["head.weight"] == onnx.TensorProto.FLOAT
        assert [one.node for one in made.kept_float] == ["/head/Gemm"]

    @pytest.mark.parametrize("raised", [True, False], ids=["raised", "excluded"])
    def test_what_stays_whole_for_a_gpu(self, raised: bool, tmp_path: Path) -> None:
        """A table that is raised or excluded with its head, and what else is, are float32."""
        bundle = bundle_of(encoder(tied=True), tmp_path / "exported")
        cuda = load_profile("cuda")
        exclude = ["/head/Gemm", *([] if raised else ["decoder"])]
        prepared = onnxruntime.prepare(
            bundle, "model", cuda, tmp_path / "work", (), exclude=exclude
        )
        recipe = Recipe("float16", levels={"decoder": "float32"} if raised else {})
        prepared.write(recipe, tmp_path / "out")
        model = onnx.load(str(tmp_path / "out" / "model.onnx"))
        kinds = {one.name: one.data_type for one in model.graph.initializer}
        assert kinds["outer.weight"] == onnx.TensorProto.FLOAT16
        assert kinds["table"] == kinds["head.weight"] == onnx.TensorProto.FLOAT
        casts = [node for node in model.graph.node if node.op_type == "Cast"]
        assert not any("table" in node.input or "turned" in node.input for node in casts)
