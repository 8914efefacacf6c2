"""Which axes of an imported model vary in truth: what its graph declares is tried."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from math import comb

from edgekit.core.errors import SessionError
from edgekit.core.manifest import TensorSpec
from edgekit.exporters.imported_inputs import Sampled, fits, other_sizes, resized
from edgekit.runtime.session import Session

# Runs that are spent on finding out which of several dimensions are one.
_MOST_RUNS = 64


@dataclass(frozen=True, eq=False)
class Axes:
    """The inputs as they vary, the runs that showed it, and what became of declared names.

    ``became`` maps a name of the graph to the size or the other name that stands in its place.
    """

    inputs: tuple[TensorSpec, ...]
    cases: tuple[Sampled, ...]
    became: Mapping[str, int | str]
    notes: tuple[str, ...]


def settle_axes(
    session: Session, inputs: Sequence[TensorSpec], found: Sampled, told: frozenset[str], seed: int
) -> Axes:
    """Run the model at other sizes of each dimension that varies by its name.

    Dimensions that are refused one by one and taken together, while the others stay, are one; what
    is refused in any case is a size, unless somebody has `told` that it varies.
    """
    cases: list[Sampled] = [found]
    stuck: list[str] = []
    for symbol in found.sizes:
        tried = [
            _run(session, inputs, found, {**found.sizes, symbol: size}, seed)
            for size in other_sizes(inputs, found, symbol)
        ]
        taken = [case for case in tried if case is not None]
        cases += taken
        if tried and not taken:
            stuck.append(symbol)
    became: dict[str, int | str] = {}
    for alike in _of_one_size(stuck, found.sizes):
        for group, case in _moving_together(session, inputs, found, alike, seed):
            cases.append(case)
            became |= dict.fromkeys(group[1:], group[0])
            stuck = [symbol for symbol in stuck if symbol not in group]
    became |= {symbol: found.sizes[symbol] for symbol in stuck if symbol not in told}
    settled = tuple(
        replace(spec, shape=tuple(_now(dim, became) for dim in spec.shape)) for spec in inputs
    )
    return Axes(
        settled,
        tuple(Sampled.of(settled, case.inputs, case.outputs) for case in cases),
        became,
        _notes(became, [symbol for symbol in stuck if symbol in told], found.sizes),
    )


def _now(dim: int | str, became: Mapping[str, int | str]) -> int | str:
    return became.get(dim, dim) if isinstance(dim, str) else dim


def _moving_together(
    session: Session, inputs: Sequence[TensorSpec], found: Sampled, names: Sequence[str], seed: int
) -> Iterator[tuple[Sequence[str], Sampled]]:
    """The smallest groups of the names that the model takes at another size, with that run.

    Small ones come first: two pairs that have nothing to do with each other move together as well,
    and one name that is fixed in truth keeps every group with it from moving.
    """
    size = found.sizes[names[0]]
    other = 2 * size if size > 1 else 3
    rest, runs = list(names), 0
    # What no group of up to a half splits off from is one: all come before all but one of them.
    half = len(rest) // 2
    for count in (*range(2, half + 1), *range(len(rest), max(half, 1), -1)):
        if count > len(rest) or runs + comb(len(rest), count) > _MOST_RUNS:
            continue
        for group in combinations(rest, count):
            if not set(group) <= set(rest):
                continue
            sizes = {**found.sizes, **dict.fromkeys(group, other)}
            runs += 1
            case = _run(session, inputs, found, sizes, seed) if fits(inputs, sizes) else None
            if case is not None:
                yield group, case
                rest = [name for name in rest if name not in group]


def _run(
    session: Session,
    inputs: Sequence[TensorSpec],
    found: Sampled,
    sizes: Mapping[str, int],
    seed: int,
) -> Sampled | None:
    feeds = resized(inputs, found.inputs, sizes, seed)
    try:
        return Sampled.of(inputs, feeds, session.run(feeds))
    except SessionError:
        # That is what is asked: the engine's words would be about a size that nobody gave.
        return None


def _of_one_size(symbols: Sequence[str], sizes: Mapping[str, int]) -> list[list[str]]:
    """The names of equal sizes, where there are several; the batch is the first of its own."""
    groups: dict[int, list[str]] = {}
    for symbol in sorted(symbols, key=lambda name: name != "batch"):
        groups.setdefault(sizes[symbol], []).append(symbol)
    return [group for group in groups.values() if len(group) > 1]


def _notes(
    became: Mapping[str, int | str], kept: Sequence[str], sizes: Mapping[str, int]
) -> tuple[str, ...]:
    fixed = [f"{name} = {size}" for name, size in became.items() if isinstance(size, int)]
    same = [f"{name} and {other}" for name, other in became.items() if isinstance(other, str)]
    notes = []
    if fixed:
        notes.append(
            f"The graph declares sizes that vary, and took no other than {', '.join(fixed)}: they"
            " are fixed. Where other inputs would show that they vary, give these with --samples,"
            " or say it with --input NAME=DTYPE:DIM,DIM…."
        )
    if same:
        notes.append(f"Dimensions that only vary together are one: {', '.join(same)}.")
    if kept:
        told = ", ".join(f"{name} = {sizes[name]}" for name in kept)
        notes.append(f"--input declares sizes that vary, and no other than {told} was taken here.")
    return tuple(notes)
