"""excluding.py: which groups a pattern keeps in float."""

from __future__ import annotations

import pytest

from edgekit.core.errors import ConfigError
from edgekit.quantization.excluding import excluded
from edgekit.quantization.recipes import Group

GROUPS = (
    Group("layer.0.attention input", ("/0/query/MatMul", "/0/key/MatMul"), "attention input", 2),
    Group("layer.0.attention output", ("/0/dense/MatMul",), "attention output", 1),
    Group("head[1]", ("/head/Gemm",), "linear", 1),
)
NAMES = [group.name for group in GROUPS]


@pytest.mark.parametrize(
    ("pattern", "names"),
    [
        ("layer.0.attention input", NAMES[:1]),
        ("layer.0.*", NAMES[:2]),
        ("*/key/*", NAMES[:1]),
        ("/0/dense/MatMul", NAMES[1:2]),
        ("*MatMul", NAMES[:2]),
        ("head[1]", NAMES[2:]),
        ("*", NAMES),
    ],
)
def test_a_group_by_its_name_or_that_of_an_operator(pattern: str, names: list[str]) -> None:
    """One operator is enough for the whole group; brackets may be part of a name."""
    assert excluded([pattern], GROUPS) == set(names)


def test_patterns_add_up() -> None:
    """What any of them matches is kept; none keeps nothing."""
    assert excluded(["*/key/*", "head*"], GROUPS) == {NAMES[0], NAMES[2]}
    assert excluded([], GROUPS) == frozenset()


@pytest.mark.parametrize(
    ("pattern", "near"),
    [("layer.0.attention inptu", "layer.0.attention input"), ("/0/dens/MatMul", "/0/dense/MatMul")],
)
def test_a_pattern_that_matches_nothing(pattern: str, near: str) -> None:
    """It is refused with the nearest name, of groups and operators alike."""
    with pytest.raises(ConfigError, match="could be quantized") as refused:
        excluded(["*", pattern], GROUPS)
    assert near in str(refused.value.hint)


def test_what_stays_in_float_anyway_may_be_named() -> None:
    """It is no mistake, and keeps nothing else."""
    assert excluded(["/tied/*"], GROUPS, kept=["/tied/MatMul"]) == frozenset()


def test_titles_are_names_too() -> None:
    """An operator may be called what the user sees, and is offered by that name."""
    titles = {"/head/Gemm": "classifier"}
    assert excluded(["class*"], GROUPS, titles=titles) == {"head[1]"}
    with pytest.raises(ConfigError) as refused:
        excluded(["clasifier"], GROUPS, titles=titles)
    assert "'classifier'" in str(refused.value.hint)


def test_an_unknown_name_is_answered_with_few() -> None:
    """Nobody reads sixty names: the nearest, and the command that lists them."""
    many = [Group(f"layer.{n}", (f"/layer.{n}/MatMul",), "MatMul", 10) for n in range(60)]
    for pattern in ("layer.61", "nothing-like-it"):
        with pytest.raises(ConfigError) as refused:
            excluded([pattern], many)
        hint = str(refused.value.hint)
        assert hint.count("layer.") == 3
        assert "--sensitivity" in hint
