"""Which call of an imported model its golden answers are of, and what these do not show."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

import numpy as np

from edgekit.core.errors import SessionError
from edgekit.exporters.exported import GoldenBatch
from edgekit.exporters.imported_inputs import Array, Sampled
from edgekit.exporters.imported_parity import SAMPLES
from edgekit.runtime.session import Session, contiguous

# In a golden file of 8 MiB stand the inputs, the reference and the bundle's own answer.
_GOLDEN_BYTES = 8_100_000
# What a state is called beside its own name, before a call and after it.
_AROUND = re.compile(r"^(in|input|initial|init|prev|previous|past|old)_+|_*(in|input|prev)?_*\d*$")


def second_call(session: Session, found: Sampled) -> Sampled | None:
    """The call after one whose state was zeros, with the state that came out; else None.

    Zeros hide all weights that they are multiplied with: a recurrent network without its recurrence
    would answer a first call as it should.
    """
    fed = _states(found)
    if not fed:
        return None
    feeds = {**found.inputs, **{given: contiguous(found.outputs[said]) for given, said in fed}}
    if not all(np.isfinite(feeds[given]).all() for given, _ in fed):
        return None
    try:
        return Sampled(feeds, dict(session.run(feeds)), found.sizes)
    except SessionError:
        return None


def _states(found: Sampled) -> list[tuple[str, str]]:
    """(input, output) of each state that is zeros: by their names, else in their order."""
    empty = [name for name, array in found.inputs.items() if _is_float(array) and _zeros(array)]
    pairs: list[tuple[str, str]] = []
    for kind in dict.fromkeys(_kind(found.inputs[name]) for name in empty):
        given = [name for name in empty if _kind(found.inputs[name]) == kind]
        said = [name for name, array in found.outputs.items() if _kind(array) == kind]
        pairs += (
            _by_name(given, said, str.lower)
            or _by_name(given, said, lambda name: _AROUND.sub("", name.lower()))
            or (list(zip(given, said, strict=True)) if len(given) == len(said) else [])
        )
    # A model whose every input is fed back hears nothing: these are no states.
    return pairs if len(pairs) < len(found.inputs) else []


def _by_name(
    given: Sequence[str], said: Sequence[str], stem: Callable[[str], str]
) -> list[tuple[str, str]]:
    pairs = []
    for name in given:
        alike = [other for other in said if stem(name) and stem(name) in other.lower()]
        if len(alike) != 1:
            return []
        pairs.append((name, alike[0]))
    return pairs if len({other for _, other in pairs}) == len(pairs) else []


def golden_of(found: Sampled) -> tuple[GoldenBatch | None, tuple[str, ...]]:
    """The golden answers of a call: outputs that hold finite numbers. Notes say what is missing."""
    sound = {name: array for name, array in found.outputs.items() if array.size and finite(array)}
    if not sound:
        return None, (
            "The bundle has no golden answers: on these inputs no output held finite numbers."
            f" {SAMPLES}.",
        )
    given = sum(array.nbytes for array in found.inputs.values())
    if given + 2 * sum(array.nbytes for array in sound.values()) > _GOLDEN_BYTES:
        return None, (
            "The bundle has no golden answers: one call takes and gives more than 8 MB."
            " Give smaller inputs with --samples.",
        )
    return GoldenBatch(found.inputs, sound), ()


def blind_spots(found: Sampled, branches: Sequence[str]) -> tuple[str, ...]:
    """What the answers of a call do not show. `branches` are made-up inputs that decide on one."""
    flat = [name for name, array in found.inputs.items() if _is_float(array) and _flat(array)]
    empty = [name for name, array in found.outputs.items() if not array.size]
    same = [name for name, array in found.outputs.items() if _flat(array)]
    told = (
        (flat, "The inputs {} are one and the same number throughout, which leaves no trace of"
               " many weights"),
        (empty, "On these inputs {} came out empty: nothing of that is compared"),
        (same, "On these inputs {} came out as one and the same number throughout, which shows"
               " little of the model"),
        (branches, "By {} the graph decides what it computes, and made-up numbers take any branch"),
    )  # fmt: skip
    return tuple(
        f"{text.format(', '.join(sorted(names)))}. {SAMPLES}." for names, text in told if names
    )


def finite(array: Array) -> bool:
    """Whether an array holds neither NaN nor infinity."""
    return not _is_float(array) or bool(np.isfinite(array).all())


def _is_float(array: Array) -> bool:
    return array.dtype.kind == "f"


def _zeros(array: Array) -> bool:
    return array.size > 0 and not array.any()


def _flat(array: Array) -> bool:
    return array.size > 1 and finite(array) and bool((array == array.flat[0]).all())


def _kind(array: Array) -> tuple[np.dtype[np.generic], tuple[int, ...]]:
    return array.dtype, array.shape
