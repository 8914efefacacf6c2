"""What can be done to a graph's numbers, and what came of it: the records of quantization."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, Protocol, TypeAlias

from edgekit.core.bundle import Bundle
from edgekit.core.manifest import Component, Requires
from edgekit.core.measurements import KeptFloat as KeptFloat
from edgekit.core.profiles import Profile
from edgekit.runtime.session import Array

# How the groups of a graph are computed, unless `Recipe.levels` says otherwise.
Scheme: TypeAlias = Literal[
    "int8-dynamic", "int8-static", "weight-int8", "weight-int4", "float16", "bfloat16"
]
# From the least exact to the most: what a group may be raised to.
Level: TypeAlias = Literal["weight-int8", "float16", "float32"]
LEVELS: tuple[Level, ...] = ("weight-int8", "float16", "float32")
Calibrator: TypeAlias = Literal["minmax", "moving-average", "percentile", "entropy", "mse", "auto"]
Correction: TypeAlias = Literal["none", "fast", "full"]
Rounding: TypeAlias = Literal["nearest", "k-quant"]
# One row of calibration: named arrays of one call of the graph.
Feeds: TypeAlias = Mapping[str, Array]


@dataclass(frozen=True)
class Recipe:
    """How a graph is quantized, whole.

    ``activations`` and ``weights`` are 8-bit kinds, unsigned or signed; ``reduce_range`` leaves
    the weights 7 bits, so that sums of two products fit 16 bits (processors without VNNI).
    ``symmetric``: the activations' zero point is in the middle. ``smooth`` is SmoothQuant's alpha
    (None: not done). ``block`` is the number of weights that share a scale in the weight-only
    schemes, ``rounding`` how they are found. ``embeddings``: tables are rounded as well, with the
    heads that share them. ``levels`` names the groups that are not at the
    scheme.
    """

    scheme: Scheme
    activations: Literal["u8", "s8"] = "u8"
    weights: Literal["s8", "u8"] = "s8"
    reduce_range: bool = False
    symmetric: bool = False
    smooth: float | None = None
    correction: Correction = "none"
    calibrator: Calibrator = "auto"
    block: int = 32
    rounding: Rounding = "nearest"
    embeddings: bool = True
    levels: Mapping[str, Level] = field(default_factory=dict)

    @property
    def bits(self) -> int:
        """Of a weight."""
        return {"weight-int4": 4, "float16": 16, "bfloat16": 16}.get(self.scheme, 8)

    @property
    def needs_calibration(self) -> bool:
        """Whether samples have to be run before it can be written."""
        return self.scheme == "int8-static" or self.smooth is not None or self.correction != "none"


@dataclass(frozen=True)
class Group:
    """Operators that are quantized together or not at all: what the engine fuses, or shares input.

    ``kind`` says what it is in the model ("attention input", "feed-forward output", "convolution",
    "embedding", "linear"); ``parameters`` counts its weights.
    """

    name: str
    nodes: tuple[str, ...]
    kind: str
    parameters: int


def better_static(recipe: Recipe, groups: Sequence[Group], fate: str) -> str | None:
    """Why ranges found at run time do not suit a graph, mostly of convolutions; None where they do.

    `fate` says what becomes of convolutions then: they want ranges that are known beforehand.
    """
    if recipe.scheme != "int8-dynamic":
        return None
    convolutions = sum(group.kind == "convolution" for group in groups)
    if 2 * convolutions < len(groups):
        return None
    return (
        f"{convolutions} of {len(groups)} groups are convolutions, {fate} when ranges are found at"
        " run time"
    )


@dataclass(frozen=True)
class QuantizedComponent:
    """One component as it was written; ``files`` gives the role of each in the manifest.

    ``options`` are the manifest's ``runtime.options``: what the engine has to be told to compute it
    as it was meant. ``precision`` is the row of the tolerance table.
    """

    component: Component
    files: Mapping[str, str]
    requires: Requires
    precision: str
    quantized_ops: Mapping[str, int]
    kept_float: tuple[KeptFloat, ...]
    options: Mapping[str, object] = field(default_factory=dict)
    facts: Mapping[str, object] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


class Prepared(Protocol):
    """A component made ready to be quantized many times: converted, its samples counted once."""

    @property
    def groups(self) -> tuple[Group, ...]:
        """All that can be raised on its own, in the graph's order."""

    def unsuited(self, recipe: Recipe) -> str | None:
        """Why a recipe is not worth a trial on this graph, None for one that is."""

    def supports(self, recipe: Recipe) -> bool:
        """Whether the engine can do all that a recipe asks for, and it would change something.

        A search leaves the switches out that it answers with False; ``write`` still refuses them.
        """

    def write(self, recipe: Recipe, directory: Path) -> QuantizedComponent:
        """Write the component into a folder. Raises QuantizeError when the recipe cannot be."""


class Quantizer(Protocol):
    """How graphs are quantized for one engine: a module of this package."""

    def recipes(self, profile: Profile, method: str, bits: int | None) -> tuple[Recipe, ...]:
        """The recipes that a method means on this target, the most promising first.

        Raises ConfigError for a method that the target has not.
        """

    def prepare(
        self,
        source: Bundle,
        name: str,
        profile: Profile,
        directory: Path,
        samples: Sequence[Feeds],
        *,
        exclude: Sequence[str] = (),
        seed: int = 0,
        progress: Callable[[str], None] = lambda text: None,
    ) -> Prepared:
        """Make a component ready; ``directory`` is for working files, ``exclude`` names nodes.

        `progress` is told of conversion and calibration, also later, while candidates are written.

        ``samples`` may be ragged: each is one call. Raises QuantizeError for a graph with nothing
        to quantize, one that is quantized already, and for NaN in what it computes.
        """
