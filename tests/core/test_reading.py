"""Records of JSON: back as they were, and refused with the place where a value cannot be."""

from __future__ import annotations

import json
import math

import pytest

from edgekit.core.errors import ConfigError
from edgekit.core.measurements import (
    Accuracy,
    BenchResult,
    Contender,
    Ecdf,
    Interval,
    Latency,
    Noise,
    Ratio,
    Size,
    Stages,
    ValidateResult,
)
from edgekit.core.reading import parse_json, read_record
from edgekit.core.results import to_json

ROW = Contender(
    "m", "onnxruntime", 1, "data", 5.0, None, None, None, 200.0, 100.0, 50.0, 9.0, 1000, 2000, 7, 2,
    stages=Stages(0.0, 5.0, 0.2), ecdf=Ecdf((4.0, 4.0, 6.0), (0.4, 0.5, 1.0)),
)  # fmt: skip
BENCH = BenchResult(
    {"scenario": "server", "ratios": [{"deep": [1]}]}, {"cpu": "small"}, {"numpy": "2"}, (ROW,),
    (Ratio("m", "n", 1, "data", 1.2, 0.0, 3.0, 2.0, "not resolved"),),
    Noise(None, None, None, "quiet", ("a", "b")),
)  # fmt: skip


def plain(record: object, **changes: object) -> dict[str, object]:
    """The record as ``--json`` prints it, with other values."""
    value = json.loads(json.dumps(to_json(record), allow_nan=False))
    assert isinstance(value, dict)
    return {**value, **changes}


def test_what_was_written_is_read() -> None:
    """A result comes back equal, without what a newer edgekit put beside."""
    assert read_record(BenchResult, plain(BENCH, novelty=1)) == BENCH


def test_null_is_the_number_that_json_has_not() -> None:
    """An interval without ends was written as null and comes back as no number."""
    accuracy = Accuracy("mae", 1.0, 1.0, 0.0, -math.inf, math.inf, 30, None)
    result = ValidateResult("inconclusive", accuracy, {}, None, Size(1, 1, 1.0), (), {}, {})
    found = read_record(ValidateResult, plain(result)).accuracy
    assert found is not None
    assert math.isnan(found.drop_lower_95)
    assert math.isnan(found.drop_upper_95)
    assert found.samples_needed is None


@pytest.mark.parametrize(
    ("changes", "fact"),
    [
        ({"p50_ms": 10**400}, "row.p50_ms is a number of too many digits"),
        ({"peak_rss_bytes": 10**400}, "row.peak_rss_bytes is a number of too many digits"),
        ({"peak_rss_bytes": -5}, "row.peak_rss_bytes is -5, not between 0 and"),
        ({"p50_ms": 0.0}, "row.p50_ms is 0, not between"),
        ({"p50_ms": 1e308}, r"row.p50_ms is 1e\+308, not between"),
        ({"first_ms": -1}, "row.first_ms is -1, not between 0 and"),
        ({"batch": 0}, "row.batch is 0, not between 1 and"),
        ({"batch": True}, "row.batch is True"),
        ({"length": ["x"]}, "row.length is a list"),
        ({"samples": 1.5}, "row.samples is 1.5"),
        ({"name": None}, "row.name is null"),
        ({"ecdf": {"ms": [1.0, 2.0], "share": [0.5]}}, "row.ecdf has 2 times and 1 shares"),
        ({"ecdf": {"ms": [2.0, 1.0], "share": [0.5, 1.0]}}, "row.ecdf.ms is not in ascending"),
        ({"ecdf": {"ms": [2.0], "share": [1.5]}}, "row.ecdf.share is 1.5, not between 0 and 1"),
        ({"ecdf": {"ms": [None], "share": [1.0]}}, "row.ecdf.ms is null, not a number"),
        ({"ecdf": {"ms": [2.0]}}, "row.ecdf has no 'share'"),
        ({"stages": {"preprocess_ms": -1, "engine_ms": 1, "postprocess_ms": 1}}, "is -1, not"),
        ({"stages": {"preprocess_ms": None, "engine_ms": 1, "postprocess_ms": 1}}, "is null"),
    ],
)
def test_what_cannot_have_been_measured_is_refused(changes: dict[str, object], fact: str) -> None:
    """Numbers out of range, of the wrong kind, lists that do not fit each other."""
    with pytest.raises(ConfigError, match=fact):
        read_record(Contender, plain(ROW, **changes), "row")


@pytest.mark.parametrize("kind", [Ratio, Interval])
def test_a_ratio_is_not_negative(kind: type[Ratio] | type[Interval]) -> None:
    """Its bounds may be 0 or unknown, its value and they never below."""
    record = Ratio("a", "b", 1, None, 1.0, 0.0, math.inf, math.inf, "not resolved")
    assert math.isnan(read_record(kind, plain(record)).high)
    with pytest.raises(ConfigError, match="value is -1"):
        read_record(kind, plain(record, value=-1.0))


def test_times_to_be_compared_are_numbers() -> None:
    """A latency without its medians is none."""
    value = plain(Latency(2.0, 1.0, Interval(2.0, 1.9, 2.1)))
    with pytest.raises(ConfigError, match="candidate_ms is null, not a number"):
        read_record(Latency, {**value, "candidate_ms": None})


def test_cards_are_checked_too() -> None:
    """Free-form values hold numbers that can be shown, and no towers of lists."""
    deep: object = 1
    for _ in range(100):
        deep = [deep]
    for card, fact in (({"memory_bytes": 10**400}, "too many digits"), ({"cpu": deep}, "deeply")):
        with pytest.raises(ConfigError, match=rf"device\.\w+ is .*{fact}"):
            read_record(BenchResult, plain(BENCH, device=card))


@pytest.mark.parametrize(
    ("text", "fact"),
    [("{", "no JSON"), ("[" * 200_000, "nested too deeply"), ("9" * 5000, "no JSON")],
)
def test_text_that_is_no_json_is_refused(text: str, fact: str) -> None:
    """Also what Python's reader gives up on with other errors than its own."""
    with pytest.raises(ConfigError, match=fact):
        parse_json(text)
