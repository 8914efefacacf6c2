"""The algorithms of a recipe that may be switched, one after the other, by the error they leave."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace

from edgekit.quantization.recipes import Recipe, Scheme

# A switch takes effect when it removes at least a fiftieth of the error: the rest is chance.
_GAIN = 0.98

# Changes of one kind: at most one of them stays.
Kind = tuple[Callable[[Recipe], Recipe], ...]

_SMOOTH: Kind = (
    lambda recipe: replace(recipe, smooth=0.5),
    lambda recipe: replace(recipe, smooth=0.75),
    lambda recipe: replace(recipe, smooth=0.8),
    lambda recipe: replace(recipe, smooth=None),
)
_CORRECTION: Kind = (
    lambda recipe: replace(recipe, correction="fast"),
    lambda recipe: replace(recipe, correction="full"),
    lambda recipe: replace(recipe, correction="none"),
)
_SYMMETRY: Kind = (lambda recipe: replace(recipe, symmetric=not recipe.symmetric),)
_CALIBRATOR: Kind = (
    lambda recipe: replace(recipe, calibrator="auto"),
    lambda recipe: replace(recipe, calibrator="minmax"),
    lambda recipe: replace(recipe, calibrator="percentile"),
    lambda recipe: replace(recipe, calibrator="mse"),
)
_ROUNDING: Kind = (
    lambda recipe: replace(recipe, rounding="k-quant"),
    lambda recipe: replace(recipe, rounding="nearest"),
)

# What there is to switch in a scheme, the kinds that tend to do most first.
SWITCHES: Mapping[Scheme, tuple[Kind, ...]] = {
    "int8-dynamic": (_SMOOTH, _CORRECTION),
    "int8-static": (_SMOOTH, _CORRECTION, _CALIBRATOR, _SYMMETRY),
    "weight-int8": (_ROUNDING,),
    "weight-int4": (_ROUNDING,),
}


def kinds_of(recipe: Recipe, *, samples: bool) -> tuple[Kind, ...]:
    """What can be switched in a recipe; without `samples` nothing that needs calibration can."""
    kinds = SWITCHES.get(recipe.scheme, ())
    if samples:
        return kinds
    return tuple(kind for kind in kinds if not kind[0](recipe).needs_calibration)


def changes(
    recipe: Recipe, kind: Kind, supports: Callable[[Recipe], bool] = lambda recipe: True
) -> Iterator[Recipe]:
    """What a kind makes of a recipe, each once; what it is already, or is not supported, left out.

    `supports` tells what the engine can do, see `recipes.Prepared.supports`.
    """
    seen = [recipe]
    for change in kind:
        changed = change(recipe)
        if changed not in seen and supports(changed):
            seen.append(changed)
            yield changed


def is_better(error: float, than: float) -> bool:
    """Whether a change removes enough error to be made."""
    return error < _GAIN * than
