"""Records read back from JSON that others may have written: the way back from `to_json`.

Every number is checked against what its field can hold, so that nothing behind this border has to
expect a negative time or a whole number of four hundred digits. A field that this version does not
know is left out, and one that an older version did not write takes its default: a result stays
readable for longer than the program that made it.
"""

from __future__ import annotations

import json
import math
import types
from collections.abc import Mapping, Sequence
from dataclasses import MISSING, fields, is_dataclass
from functools import cache
from itertools import pairwise
from typing import Any, Literal, TypeVar, Union, cast, get_args, get_origin, get_type_hints

from edgekit.core.errors import ConfigError
from edgekit.core.measurements import Ecdf, Interval, Latency, Ratio, Stages

T = TypeVar("T")

#: A result of hundreds of contenders has a few MB; more is another kind of file.
MAX_RESULT_BYTES = 100_000_000
# Free-form cards (device, protocol) are two or three deep; more is no card.
_DEEPEST = 16
_LARGEST_WHOLE = 2**63 - 1
# No time, size or ratio that is measured is larger: 1e15 ms are thirty thousand years.
_LARGEST = 1e15
# A clock of the CPU ticks in nanoseconds, 1e-6 ms, of which a thousand runs may share one.
_SHORTEST = 1e-9

_TIMED = (_SHORTEST, _LARGEST)
_SPENT = (0.0, _LARGEST)
_COUNT = (0, _LARGEST_WHOLE)
# What a field of this name holds in every record; a bound of an interval may be 0 or infinite.
_RANGES: Mapping[str, tuple[float, float]] = {
    **dict.fromkeys(("p50_ms", "p90_ms", "p95_ms", "p99_ms", "p50_low_ms", "p50_high_ms"), _TIMED),
    **dict.fromkeys(("reference_ms", "candidate_ms", "ms"), _TIMED),
    **dict.fromkeys(("candidate_low_ms", "candidate_high_ms"), _TIMED),
    **dict.fromkeys(("import_ms", "load_ms", "first_ms", "cpu_ms"), _SPENT),
    **dict.fromkeys(("preprocess_ms", "engine_ms", "postprocess_ms"), _SPENT),
    **dict.fromkeys(("throughput", "offered_qps", "reached_qps"), _SPENT),
    **dict.fromkeys(("audio_seconds", "real_time_factor"), _SPENT),
    **dict.fromkeys(("p50", "p90"), _TIMED),
    **dict.fromkeys(("tokens_per_second",), _SPENT),
    **dict.fromkeys(("peak_rss_bytes", "peak_pss_bytes", "context_rss_bytes"), _COUNT),
    **dict.fromkeys(("artifact_bytes", "reference_bytes", "candidate_bytes"), _COUNT),
    **dict.fromkeys(("samples", "processes", "samples_needed", "excluded", "row"), _COUNT),
    **dict.fromkeys(("batch", "length", "new_tokens"), (1, _LARGEST_WHOLE)),
    **dict.fromkeys(("ratio", "resolvable", "aa_ratio", "aa_low", "aa_high"), _SPENT),
    **dict.fromkeys(("share", "mcnemar_p"), (0.0, 1.0)),
    **dict.fromkeys(("low", "high"), _SPENT),
}
# Their value is a ratio; that of a Gate may be any.
_RATIOS = (Interval, Ratio)
# Records that are drawn as they are: a null, which elsewhere is a NaN, is no value for them.
_FINITE = (Ecdf, Stages, Latency)


class _Unfit(Exception):
    """A value is not what its field holds; the text says where and how."""


def parse_json(text: bytes | str) -> object:
    """The value that a JSON text holds.

    Raises ConfigError for what is no JSON, or is nested deeper than any result; its message is the
    reason alone, for who knows the file to put behind its name.
    """
    try:
        return cast(object, json.loads(text))
    except RecursionError as error:
        raise ConfigError("it is no JSON that can be read: it is nested too deeply.") from error
    except ValueError as error:
        raise ConfigError(f"it is no JSON: {error}.") from error


def read_record(kind: type[T], value: object, place: str = "") -> T:
    """A result's dataclass from what `edgekit.core.results.to_json` made of it.

    A null stands for the NaN or infinity of a float that has to be there.

    Raises ConfigError whose message is the place and what is wrong there: a value that is missing,
    of another type, out of range, or of another length than its partner.
    """
    try:
        return _record(kind, value, place)
    except _Unfit as error:
        raise ConfigError(f"{error}.") from error


@cache
def _hints(kind: type) -> dict[str, Any]:
    return get_type_hints(kind)


def _record(kind: type[T], data: object, where: str) -> T:
    if not isinstance(data, Mapping) or not is_dataclass(kind):
        raise _Unfit(f"{where or 'the whole'} is {_kind(data)}, not an object")
    values = {}
    for item in fields(kind):
        path = f"{where}.{item.name}" if where else item.name
        if item.name in data:
            found = _value(_hints(kind)[item.name], data[item.name], path)
            _require_range(kind, item.name, found, path)
            values[item.name] = found
        elif item.default is MISSING and item.default_factory is MISSING:
            raise _Unfit(f"{where or 'the whole'} has no {item.name!r}")
    record = kind(**values)
    if isinstance(record, Ecdf):
        _require_distribution(record, where)
    return record


def _require_range(kind: type, name: str, found: object, where: str) -> None:
    items = found if isinstance(found, tuple) else (found,)
    low, high = _RANGES.get(name, (-math.inf, math.inf))
    if name == "value" and kind in _RATIOS:
        low, high = _SPENT
    for item in items:
        if isinstance(item, bool) or not isinstance(item, (int, float)):
            continue
        if isinstance(item, float) and not math.isfinite(item):
            if kind in _FINITE:
                raise _Unfit(f"{where} is null, not a number")
            continue
        if not low <= item <= high:
            raise _Unfit(f"{where} is {item:g}, not between {low:g} and {high:g}")


def _require_distribution(record: Ecdf, where: str) -> None:
    if len(record.ms) != len(record.share):
        raise _Unfit(f"{where} has {len(record.ms)} times and {len(record.share)} shares")
    for name, column in (("ms", record.ms), ("share", record.share)):
        if any(after < before for before, after in pairwise(column)):
            raise _Unfit(f"{where}.{name} is not in ascending order")


def _value(hint: Any, value: object, where: str) -> Any:
    """`value` as the type that a field declares; _Unfit when it is something else."""
    if hint is object:
        return _free(value, where, _DEEPEST)
    origin, inner = get_origin(hint), get_args(hint)
    if origin in (Union, types.UnionType):
        return _one_of(inner, value, where)
    if origin is Literal:
        if isinstance(value, str) and value in inner:
            return value
        raise _Unfit(f"{where} is {_kind(value)}, not one of {', '.join(map(repr, inner))}")
    if origin is tuple and isinstance(value, Sequence) and not isinstance(value, str):
        return tuple(_value(inner[0], item, f"{where}[{i}]") for i, item in enumerate(value))
    if isinstance(origin, type) and issubclass(origin, Mapping) and isinstance(value, Mapping):
        return {str(key): _value(inner[1], item, f"{where}.{key}") for key, item in value.items()}
    if is_dataclass(hint) and isinstance(hint, type):
        return _record(hint, value, where)
    if hint is float and value is None:
        # to_json writes NaN and infinities as null.
        return math.nan
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if hint is float and number:
        return _number(value, where)
    if isinstance(hint, type) and isinstance(value, hint) and (hint is not int or number):
        return _free(value, where, 0)
    raise _Unfit(f"{where} is {_kind(value)}")


def _number(value: object, where: str) -> float:
    try:
        return float(cast(float, value))
    except OverflowError as error:
        raise _Unfit(f"{where} is a number of too many digits") from error


def _free(value: object, where: str, depth: int) -> object:
    """A value of no declared type, once its numbers and its depth are those of a result."""
    if isinstance(value, int) and abs(value) > _LARGEST_WHOLE:
        raise _Unfit(f"{where} is a number of too many digits")
    if isinstance(value, (Mapping, list, tuple)):
        if depth == 0:
            raise _Unfit(f"{where} is nested too deeply")
        for item in value.values() if isinstance(value, Mapping) else value:
            _free(item, where, depth - 1)
    return value


def _one_of(hints: Sequence[Any], value: object, where: str) -> Any:
    if value is None and type(None) in hints:
        return None
    problem = _Unfit(f"{where} is {_kind(value)}")
    for hint in hints:
        if hint is type(None):
            continue
        try:
            return _value(hint, value, where)
        except _Unfit as error:
            problem = error
    raise problem


def _kind(value: object) -> str:
    names = {dict: "an object", list: "a list", type(None): "null"}
    if type(value) in names:
        return names[type(value)]
    text = repr(value) if not isinstance(value, int) or abs(value) <= _LARGEST_WHOLE else "too long"
    return text if len(text) <= 60 else f"{text[:60]}…"
