"""What OpenVINO's quantizer offers: the recipes of a method on a target, and what it cannot do.

Its CPU plugin multiplies 8-bit numbers in one instruction where the processor has VNNI, and
bfloat16 ones where it has AVX512_BF16 or AMX; what has neither gets other recipes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

from edgekit.core.cpu import VNNI
from edgekit.core.errors import ConfigError
from edgekit.core.profiles import Profile, nearest
from edgekit.quantization.recipes import Calibrator, Recipe

# What multiplies 8-bit integers without sums of two products overflowing 16 bits.
EXACT_PRODUCTS = (*VNNI, "amx_int8")
# What multiplies bfloat16. With AVX-512 alone the plugin would imitate it, slower than float32.
BFLOAT16 = ("avx512_bf16", "amx_bf16")
# NNCF's range estimators, by our names; "auto" leaves the choice to it, kind of quantizer by kind.
ESTIMATORS: Mapping[Calibrator, str] = {
    "minmax": "MINMAX",
    "moving-average": "MEAN_MINMAX",
    "percentile": "MEAN_QUANTILE",
    "mse": "HISTOGRAM",
}

# Longer groups are faster, shorter ones more exact.
_DYNAMIC = Recipe("int8-dynamic", weights="u8", block=128)
_WEIGHTS = Recipe("weight-int8", weights="u8")
_FOUR_BITS = replace(_WEIGHTS, scheme="weight-int4")


def recipes(profile: Profile, method: str, bits: int | None) -> tuple[Recipe, ...]:
    """See `recipes.Quantizer.recipes`."""
    methods = (*_OFFERS, "auto")
    if method not in methods:
        raise ConfigError(f"OpenVINO has no method {method!r}.", hint=nearest(method, methods))
    if method == "auto":
        offered = _auto(profile, bits)
    else:
        refused = _lacks(profile, method)
        if refused is not None:
            message, hint = refused
            raise ConfigError(message, hint=hint)
        offered = _OFFERS[method](profile)
    chosen = tuple(one for one in offered if bits is None or one.bits == bits)
    if not chosen:
        known = " or ".join(str(size) for size in sorted({one.bits for one in offered}))
        raise ConfigError(
            f"--method {method} has no {bits} bits for OpenVINO.",
            hint=f"Use --bits {known}, or --method weight-only for 4 bits.",
        )
    # 4 bits are for who asks for them: they cost a small model more than they give.
    return chosen if bits is not None else tuple(one for one in chosen if one.bits != 4)


def features_of(recipe: Recipe, profile: Profile, *, static: bool) -> tuple[str, ...]:
    """The processor's feature that a recipe relies on, as far as the profile promises one.

    `static`: whether activations are rounded by ranges found before.
    """
    if profile.device != "cpu":
        return ()
    wanted: tuple[str, ...] = ()
    if recipe.scheme == "bfloat16":
        wanted = BFLOAT16
    elif recipe.scheme == "int8-dynamic":
        wanted = VNNI
    elif static and not recipe.reduce_range:
        wanted = EXACT_PRODUCTS
    return tuple(name for name in wanted if name in profile.features)[:1]


def refusal(recipe: Recipe, *, samples: bool) -> tuple[str, str] | None:
    """(why a recipe cannot be written, what to do instead), None for one that can.

    `samples`: whether there are any to calibrate with.
    """
    scheme, levels = recipe.scheme, set(recipe.levels.values())
    if scheme == "int8-static":
        return _static_refusal(recipe, samples=samples)
    if recipe.smooth is not None or recipe.correction != "none":
        return (
            f"For OpenVINO, {scheme} has neither SmoothQuant nor bias correction.",
            "Use --method static.",
        )
    if recipe.symmetric or recipe.calibrator != "auto" or recipe.reduce_range:
        return (f"{scheme} has no ranges of activations to choose.", "Use --method static.")
    if recipe.rounding != "nearest":
        return (
            f"NNCF does not round weights by {recipe.rounding!r}.",
            "For OpenVINO weights are rounded to the nearest.",
        )
    if scheme == "int8-dynamic" and "weight-int8" in levels:
        return (
            "OpenVINO rounds the activations of all operators with 8-bit weights, or of none.",
            "Raise groups to float16 or float32, or use --method weight-only.",
        )
    if scheme == "float16" and "weight-int8" in levels:
        return (
            "Groups of a graph in half precision are raised to float32 only.",
            "Use --method weight-only for 8-bit weights.",
        )
    if scheme == "bfloat16" and (levels or not recipe.embeddings):
        return (
            "OpenVINO computes a whole graph in bfloat16, or nothing of it.",
            "Use another --method, or compile the exported bundle.",
        )
    return None


def _static_refusal(recipe: Recipe, *, samples: bool) -> tuple[str, str] | None:
    if not samples:
        return (
            "int8 static quantization needs calibration data, got 0 samples.",
            "Pass --calibration FILE, or use --method dynamic.",
        )
    if recipe.calibrator not in ("auto", *ESTIMATORS):
        return (
            f"NNCF has no calibrator {recipe.calibrator!r}.",
            f"For OpenVINO there are auto, {', '.join(ESTIMATORS)}.",
        )
    if recipe.rounding != "nearest" or recipe.weights != "s8" or recipe.activations != "u8":
        return (
            "NNCF itself chooses the signs of static quantization, and rounds to the nearest.",
            "Leave activations, weights and rounding as they are.",
        )
    return None


def _auto(profile: Profile, bits: int | None) -> tuple[Recipe, ...]:
    """What is worth a trial on the target, the most promising first; 4 and 16 bits when asked."""
    native = _lacks(profile, "bfloat16") is None
    if bits == 16:
        return (*(_bfloat16(profile) if native else ()), *_float16(profile))
    # On AMX it costs next to no accuracy, and is as fast as 8 bits or nearly. Elsewhere its
    # products are not twice as fast as those of float32.
    first = _bfloat16(profile) if native and "amx_bf16" in profile.features else ()
    if bits == 4:
        return _weight_only(profile)
    # The plugin's kernels that round activations at each call are written with VNNI. Without it
    # "dynamic" would be files of 8 bits that compute in float32, slower than before.
    dynamic = _dynamic(profile) if _lacks(profile, "dynamic") is None else ()
    return (*first, *dynamic[:1], *_static(profile)[:1])


def _lacks(profile: Profile, method: str) -> tuple[str, str] | None:
    """(what a method needs that the target has not, what to do instead), None where it has all."""
    if method == "dynamic":
        if profile.device != "cpu":
            return (
                f"OpenVINO does not round activations at each call on a {profile.device}, which"
                f" the target {profile.name} is.",
                "Use --method static or --method weight-only.",
            )
        # Refused, and not written with a feature that the manifest requires: a bundle for a target
        # that could not load it is for nobody.
        if profile.may_lack(VNNI):
            return (
                f"OpenVINO rounds activations at each call with VNNI ({' or '.join(VNNI)}), which"
                f" the target {profile.name} does not promise.",
                f"Use --method static, or a target that has it: {_with(profile, VNNI[0])}",
            )
    if method == "bfloat16":
        if profile.device != "cpu":
            return (
                f"OpenVINO computes nothing in bfloat16 on a {profile.device}, which the target"
                f" {profile.name} is.",
                "Use --method float16.",
            )
        if not set(BFLOAT16) & set(profile.features):
            return (
                f"bfloat16 needs {' or '.join(BFLOAT16)}, which the target {profile.name} does not"
                " promise.",
                "Use --method float16 for half the size, or a target that has it:"
                f" {_with(profile, BFLOAT16[0])}",
            )
    return None


def _with(profile: Profile, feature: str) -> str:
    features = ",".join(f'"{name}"' for name in (*profile.features, feature))
    return f"--target cpu-x86-amx, or --set 'features=[{features}]'."


def _dynamic(profile: Profile) -> tuple[Recipe, ...]:
    return (_DYNAMIC, replace(_DYNAMIC, block=64))


def _static(profile: Profile) -> tuple[Recipe, ...]:
    # NNCF's own 0.95 leaves the weights more than they can hold: on MiniLM 0.8 is best.
    first = Recipe("int8-static", reduce_range=_saturates(profile), smooth=0.8, correction="fast")
    return (first, replace(first, smooth=None))


def _weight_only(profile: Profile) -> tuple[Recipe, ...]:
    return (_WEIGHTS, _FOUR_BITS)


def _float16(profile: Profile) -> tuple[Recipe, ...]:
    return (Recipe("float16"),)


def _bfloat16(profile: Profile) -> tuple[Recipe, ...]:
    return (Recipe("bfloat16"),)


_OFFERS: Mapping[str, Callable[[Profile], tuple[Recipe, ...]]] = {
    "dynamic": _dynamic,
    "static": _static,
    "weight-only": _weight_only,
    "float16": _float16,
    "bfloat16": _bfloat16,
}


def _saturates(profile: Profile) -> bool:
    """Whether the target may have an x86 processor whose 8-bit products overflow 16-bit sums."""
    return profile.device == "cpu" and profile.may_lack(EXACT_PRODUCTS)
