"""Several components under one recipe: groups, levels and exclusions told apart by name."""

from __future__ import annotations

from pathlib import Path

import pytest

from edgekit.core.errors import ConfigError
from edgekit.core.manifest import Component, Requires
from edgekit.quantization.parts import Part, exclusions
from edgekit.quantization.recipes import Group, KeptFloat, QuantizedComponent, Recipe


class Written:
    """A prepared component that keeps the recipes it was asked for."""

    def __init__(self) -> None:
        self.groups = (Group("head", ("head.MatMul",), "linear", 4),)
        self.asked: list[Recipe] = []

    def unsuited(self, recipe: Recipe) -> str | None:
        """Whatever the recipe."""
        self.asked.append(recipe)
        return None

    def supports(self, recipe: Recipe) -> bool:
        """All of them."""
        self.asked.append(recipe)
        return True

    def write(self, recipe: Recipe, directory: Path) -> QuantizedComponent:
        """A component of which one operator stays in float."""
        self.asked.append(recipe)
        kept = (KeptFloat("head.MatMul", "excluded"),)
        return QuantizedComponent(
            Component("onnx", ("m.onnx",), (), ()), {}, Requires("onnxruntime"), "int8", {}, kept
        )


def test_groups_and_operators_are_called_by_their_component(tmp_path: Path) -> None:
    """Two components may have a group of one name."""
    part = Part("decoder", Written())
    assert [group.name for group in part.groups] == ["decoder.head"]
    (kept,) = part.write(Recipe("weight-int8"), tmp_path).kept_float
    assert kept.node == "decoder.head.MatMul"


def test_levels_reach_the_component_that_they_are_of(tmp_path: Path) -> None:
    """Under the names that it knows."""
    inner = Written()
    part = Part("decoder", inner)
    recipe = Recipe("weight-int4", levels={"decoder.head": "float32", "encoder.head": "float16"})
    part.write(recipe, tmp_path)
    assert part.supports(recipe)
    assert part.unsuited(recipe) is None
    assert [one.levels for one in inner.asked] == [{"head": "float32"}] * 3


BOTH = ("encoder", "decoder")


@pytest.mark.parametrize(
    ("patterns", "components", "chosen", "found"),
    [
        (["a", "model.b"], ("model",), ("model",), {"model": ["a", "model.b"]}),
        (["decoder.a*"], BOTH, BOTH, {"encoder": [], "decoder": ["a*"]}),
        (["a", "decoder.b"], BOTH, ("decoder",), {"decoder": ["a", "b"]}),
    ],
)
def test_exclusions_go_to_their_component(
    patterns: list[str], components: tuple[str, ...], chosen: tuple[str, ...], found: object
) -> None:
    """A bundle of one has no names in front; of one that is chosen they may be left out."""
    assert exclusions(patterns, components, chosen) == found


@pytest.mark.parametrize(
    ("pattern", "chosen", "words"),
    [("a", BOTH, "does not say of which"), ("encoder.a", ("decoder",), "stays as it is")],
)
def test_exclusion_of_no_component_is_refused(
    pattern: str, chosen: tuple[str, ...], words: str
) -> None:
    """It would keep nothing in float."""
    with pytest.raises(ConfigError, match=words):
        exclusions([pattern], BOTH, chosen)
