"""The published schema of a bench and the dataclasses of its result are one contract."""

from __future__ import annotations

import json
from dataclasses import fields
from importlib.resources import files

import pytest
from jsonschema import Draft202012Validator

from edgekit.core import measurements
from edgekit.core.measurements import (
    Attached,
    BenchResult,
    Contender,
    Ecdf,
    Interval,
    Noise,
    Probe,
    Ratio,
    Stages,
)
from edgekit.core.results import to_json

SCHEMA = json.loads((files("edgekit.core") / "bench.schema.json").read_text(encoding="utf-8"))
PROTOCOL = {
    "scenario": "single-stream", "threads": 1, "processes": 5, "budget_seconds": 60.0, "seed": 0,
}  # fmt: skip
NOISE = Noise(None, None, None, "noisy", ("other programs used 50% of the CPUs",))
ROW = Contender(
    "m", "onnxruntime", 1, "data", 5.0, 6.0, None, None, 200.0, 100.0, 50.0, 9.0, 10, 20, 70, 5,
    stages=Stages(0.1, 5.0, 0.2), ecdf=Ecdf((4.0, 6.0), (0.5, 1.0)), settings="eager, 1 thread",
)  # fmt: skip
RESULT = BenchResult(
    PROTOCOL, {"cpu": "x"}, {"numpy": "2"}, (ROW,),
    (Ratio("a", "b", 1, None, 1.0, 0.0, float("inf"), float("inf"), "not resolved"),), NOISE,
    ("a note",), (Probe("m", "x=1", 1, 16, Interval(1.0, 0.9, 1.1), "faster"),),
    (Attached("f", {}, {}, (ROW,), NOISE),), "edgekit bench m",
)  # fmt: skip


def test_the_schema_is_one() -> None:
    """Of draft 2020-12."""
    Draft202012Validator.check_schema(SCHEMA)


@pytest.mark.parametrize("name", [name for name in SCHEMA["$defs"] if name != "Error"])
def test_every_field_is_published(name: str) -> None:
    """Neither more nor less than the dataclass has, and all of them are always there."""
    published = SCHEMA["$defs"][name]
    names = [field.name for field in fields(getattr(measurements, name))]
    assert list(published["properties"]) == names == published["required"]
    assert published["additionalProperties"] is False


def test_the_whole_result_is_published() -> None:
    """The error of a run in which some could not be measured stands beside."""
    names = [field.name for field in fields(BenchResult)]
    assert list(SCHEMA["properties"]) == [*names, "error"]
    assert SCHEMA["required"] == names


def test_a_result_validates() -> None:
    """With everything in it, infinities as null."""
    Draft202012Validator(SCHEMA).validate(to_json(RESULT))


def test_what_is_no_result_does_not() -> None:
    """A verdict that does not exist, a key too many."""
    plain = to_json(RESULT)
    assert isinstance(plain, dict)
    noise = {**plain["noise"], "verdict": "loud"}
    for wrong in ({**plain, "noise": noise}, {**plain, "more": 1}):
        assert not Draft202012Validator(SCHEMA).is_valid(wrong)
