"""Which session options of ONNX Runtime are worth measuring."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

from edgekit.compilers.records import Candidate
from edgekit.core.profiles import Profile

#: What is applied at load: with the data of convolutions in blocks of channels, and without.
LAYOUTS = ("all", "extended")
_NO_BLOCKS = "no blocks"
_AS_COMPILED = "as compiled"
# What another layout or fewer threads must gain, and threads that spin.
_LEAST_GAIN = 1.03
_LEAST_GAIN_SPINNING = 1.05
_MOST_COUNTS = 3


def candidates(
    profile: Profile, options: Mapping[str, object], threads: int
) -> tuple[Candidate, ...]:
    """Whether the pool's threads spin while they wait, unless the profile says.

    Waiting quietly is preferred: threads that spin take the CPU from the rest of the app, so they
    must be worth more than 5 %. Of convolutions first whether their data lie in blocks, and then
    with the better layout also how many threads there are, unless the profile says: small ones may
    be faster alone, and as they are. What makes one bundle differ from the next must be worth 3 %.
    """
    if profile.device != "cpu":
        return (Candidate(_AS_COMPILED, options),)
    if "graph_optimization" not in options:
        return tuple(_waiting(options, threads, ()))
    counts = () if "threads" in options else _fewer(threads)
    found: list[Candidate] = []
    for layout in LAYOUTS:
        first, *others = _waiting({**options, "graph_optimization": layout}, threads, counts)
        if layout == LAYOUTS[0]:
            found.append(replace(first, then=tuple(others)))
        else:
            others = [replace(one, name=f"{one.name}, {_NO_BLOCKS}") for one in others]
            name = _NO_BLOCKS if first.name == _AS_COMPILED else f"{first.name}, {_NO_BLOCKS}"
            found.append(Candidate(name, first.options, _LEAST_GAIN, then=tuple(others)))
    return tuple(found)


def _waiting(
    options: Mapping[str, object], threads: int, counts: Sequence[int]
) -> Iterator[Candidate]:
    """All threads and fewer, each waiting quietly and spinning, unless the options say."""
    decided = "allow_spinning" in options
    for count in (None, *counts):
        for spin in (False, True):
            if spin and (decided or (count or threads) == 1):
                continue
            changed: dict[str, object] = {}
            told: list[str] = []
            if not decided and threads > 1:
                # Of one thread, too, which waits for no other: a caller may ask for more.
                changed["allow_spinning"] = spin
                told += [] if count == 1 else [f"allow_spinning {'on' if spin else 'off'}"]
            if count is not None:
                changed["threads"] = count
                told.append(f"threads {count}")
            gain = _LEAST_GAIN_SPINNING if spin else 1.0 if count is None else _LEAST_GAIN
            yield Candidate(", ".join(told) or _AS_COMPILED, {**options, **changed}, gain)


def _fewer(threads: int) -> tuple[int, ...]:
    """Powers of two below a number of threads, three of them at most: every one is measured."""
    powers = [1 << power for power in range(threads.bit_length()) if 1 << power < threads]
    if len(powers) > _MOST_COUNTS:
        powers = [powers[0], powers[len(powers) // 2], powers[-1]]
    return tuple(powers)
