"""Checks raw tensors against the manifest before an engine sees them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from edgekit.core.errors import EngineUnavailable, InputMismatch
from edgekit.core.manifest import TensorSpec
from edgekit.runtime.batching import batch_symbol
from edgekit.runtime.session import Array

# Types of the manifest without a type of numpy's own.
_FOREIGN = frozenset({"bfloat16", "string"})


@dataclass(frozen=True, slots=True)
class _Rule:
    """One input's spec, taken apart once so that a call costs a few comparisons."""

    name: str
    dtype: np.dtype[np.generic]
    floating: bool
    rank: int
    fixed: tuple[tuple[int, int], ...]
    named: tuple[tuple[int, str], ...]
    spec: TensorSpec


class InputCheck:
    """Refuses feeds that are not what the specs declare; costs a few microseconds when they are.

    ``takes`` is what whoever gives the feeds could also give ("texts"), which remedies then name.

    Raises EngineUnavailable at construction for a dtype that numpy does not have (bfloat16).
    """

    def __init__(self, specs: Sequence[TensorSpec], *, takes: str | None = None) -> None:
        self._rules = tuple(_rule(spec) for spec in specs)
        self._batch = batch_symbol(specs)
        self._declared = ", ".join(map(str, specs)) or "none"
        self._form = "{" + ", ".join(f"{spec.name!r}: array" for spec in specs[:4])
        self._form += ", …}" if len(specs) > 4 else "}"
        self._instead = (
            "" if takes is None else f", or call the model with {takes} instead of run()"
        )

    def __call__(self, feeds: Mapping[str, Array]) -> Mapping[str, Array]:
        """The feeds, when they fit.

        Raises InputMismatch naming the input, what it is and what it should be: a missing or an
        unknown name, something that is not an array, another dtype, rank or size, a symbol with
        two sizes, an empty batch, NaN.
        """
        rules = self._rules
        if not isinstance(feeds, Mapping):
            raise InputMismatch(
                f"Inputs are a dict of arrays by name, got {type(feeds).__name__}.",
                hint=f"Give {self._form}{self._instead}. Declared inputs: {self._declared}.",
            )
        if len(feeds) != len(rules):
            raise self._wrong_names(feeds)
        sizes: dict[str, tuple[int, str]] = {}
        for rule in rules:
            array = feeds.get(rule.name)
            if array is None:
                raise self._wrong_names(feeds)
            if isinstance(array, np.generic) and not rule.rank:
                # What numpy makes of a 0-d array in sums and by indexing.
                array = np.asarray(array)
                feeds = {**feeds, rule.name: array}
            if not isinstance(array, np.ndarray):
                raise InputMismatch(
                    f"Input {rule.name!r} should be a numpy array {rule.spec}, got"
                    f" {type(array).__name__}.",
                    hint=f"Convert it with numpy.asarray(…, dtype={rule.spec.dtype!r})"
                    f"{self._instead}.",
                )
            shape = array.shape
            if array.dtype != rule.dtype:
                raise _wrong_dtype(rule, array)
            if len(shape) != rule.rank:
                raise _wrong_shape(rule, array, f"{rule.rank} axes")
            for axis, size in rule.fixed:
                if shape[axis] != size:
                    raise _wrong_shape(rule, array, f"{size} on axis {axis}")
            for axis, symbol in rule.named:
                size = shape[axis]
                if not size and symbol == self._batch:
                    # ONNX Runtime's LSTM ends the whole process on it. Another dimension may be
                    # empty: a cache before the first step.
                    raise InputMismatch(
                        f"Input {rule.name!r} should be {rule.spec}, got shape {list(shape)}:"
                        f" {symbol} is empty.",
                        hint="A batch holds at least one sample; do not run the model for nothing.",
                    )
                known = sizes.setdefault(symbol, (size, rule.name))
                if known[0] != size:
                    raise InputMismatch(
                        f"Input {rule.name!r} has {symbol} = {size}, input {known[1]!r} has"
                        f" {symbol} = {known[0]}.",
                        hint=f"Give all inputs the same {symbol}.",
                    )
            # One pass without a temporary: min() of anything with NaN is NaN.
            if rule.floating and array.size and np.isnan(array.min()):
                raise InputMismatch(
                    f"Input {rule.name!r} holds {int(np.isnan(array).sum())} NaN.",
                    hint="Find where they come from; a model answers NaN to them.",
                )
        return feeds

    def _wrong_names(self, feeds: Mapping[str, Array]) -> InputMismatch:
        declared = [rule.name for rule in self._rules]
        missing = [name for name in declared if feeds.get(name) is None]
        unknown = [str(name) for name in feeds if name not in declared]
        told = [f"{', '.join(missing)} missing"] if missing else []
        told += [f"{', '.join(unknown)} unknown"] if unknown else []
        return InputMismatch(
            f"The inputs do not have the declared names: {'; '.join(told)}.",
            hint=f"Declared inputs: {self._declared}.",
        )


def _rule(spec: TensorSpec) -> _Rule:
    if spec.dtype in _FOREIGN:
        raise EngineUnavailable(
            f"Input {spec.name!r} is {spec.dtype}, which numpy arrays cannot hold.",
            hint="Export the model with inputs of another type, float32 for example.",
        )
    dtype: np.dtype[np.generic] = np.dtype(spec.dtype)
    return _Rule(
        name=spec.name,
        dtype=dtype,
        floating=np.issubdtype(dtype, np.floating),
        rank=len(spec.shape),
        fixed=tuple((axis, dim) for axis, dim in enumerate(spec.shape) if isinstance(dim, int)),
        named=tuple((axis, dim) for axis, dim in enumerate(spec.shape) if isinstance(dim, str)),
        spec=spec,
    )


def _wrong_dtype(rule: _Rule, array: Array) -> InputMismatch:
    kind = array.dtype.kind
    got = "text" if kind in "SU" else str(array.dtype)
    hint = f"Convert it with .astype({rule.spec.dtype!r})."
    if kind not in "biuf":
        hint = "Give the real numbers that the model was made for."
    return InputMismatch(
        f"Input {rule.name!r} should be {rule.spec}, got {got}{list(array.shape)}.", hint=hint
    )


def _wrong_shape(rule: _Rule, array: Array, wanted: str) -> InputMismatch:
    return InputMismatch(
        f"Input {rule.name!r} should be {rule.spec} ({wanted}), got shape {list(array.shape)}.",
        hint="Reshape it; one sample still needs its batch axis.",
    )
