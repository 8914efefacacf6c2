"""What OpenVINO's quantizer offers for a method, by what the target's processor has."""

from __future__ import annotations

from dataclasses import replace

import pytest

from edgekit.core.errors import ConfigError
from edgekit.core.profiles import Profile, load_profile
from edgekit.quantization.openvino_recipes import recipes

PLAIN = load_profile("cpu-x86")
VNNI = replace(load_profile("cpu-x86-vnni"), features=("avx2", "avx_vnni"))
AMX = load_profile("cpu-x86-amx")


@pytest.mark.parametrize(
    ("profile", "method", "bits", "schemes"),
    [
        (VNNI, "auto", None, ["int8-dynamic", "int8-static"]),
        (PLAIN, "auto", None, ["int8-static"]),
        (AMX, "auto", None, ["bfloat16", "int8-dynamic", "int8-static"]),
        (AMX, "auto", 8, ["int8-dynamic", "int8-static"]),
        (AMX, "auto", 16, ["bfloat16", "float16"]),
        (VNNI, "auto", 16, ["float16"]),
        (
            replace(VNNI, features=("avx512_vnni", "avx512_bf16")),
            "auto",
            8,
            ["int8-dynamic", "int8-static"],
        ),
        (replace(VNNI, features=("avx512_bf16",)), "bfloat16", 16, ["bfloat16"]),
        (load_profile("openvino-npu"), "auto", None, ["int8-static"]),
        (VNNI, "dynamic", None, ["int8-dynamic"]),
        (load_profile("cpu-arm64"), "dynamic", None, ["int8-dynamic"]),
        (PLAIN, "weight-only", None, ["weight-int8"]),
        (PLAIN, "float16", None, ["float16"]),
    ],
)
def test_methods_are_recipes(
    profile: Profile, method: str, bits: int | None, schemes: list[str]
) -> None:
    """A method stands for the schemes that the target has, most promising first."""
    found = recipes(profile, method, bits)
    assert list(dict.fromkeys(recipe.scheme for recipe in found)) == schemes


def test_four_bits_are_weight_only() -> None:
    """4 bits are a matter of weights; any other method refuses them."""
    assert recipes(VNNI, "weight-only", 4)[0].bits == 4
    with pytest.raises(ConfigError, match="static has no 4 bits"):
        recipes(VNNI, "static", 4)


@pytest.mark.parametrize(
    ("profile", "method", "message", "remedy"),
    [
        (load_profile("openvino-npu"), "dynamic", "npu", "--method static"),
        (PLAIN, "dynamic", "VNNI", "--method static"),
        (PLAIN, "bfloat16", "avx512_bf16 or amx_bf16", "--method float16"),
        (load_profile("openvino-gpu"), "bfloat16", "gpu", "--method float16"),
        (PLAIN, "bfloat61", "no method", "'bfloat16'"),
    ],
)
def test_methods_that_the_target_has_not(
    profile: Profile, method: str, message: str, remedy: str
) -> None:
    """What its processor cannot compute is refused with what to do instead."""
    with pytest.raises(ConfigError, match=message) as refused:
        recipes(profile, method, None)
    assert remedy in (refused.value.hint or "")


def test_saturating_processors_get_seven_bits() -> None:
    """A target without VNNI gets weights whose sums of two products fit 16 bits."""
    assert recipes(PLAIN, "auto", None)[0].reduce_range
    assert not recipes(VNNI, "static", None)[0].reduce_range
