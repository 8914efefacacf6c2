"""What an export leaves behind, for the pipeline to put into a bundle."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from edgekit.core.manifest import Component, TensorSpec
from edgekit.core.results import Parity
from edgekit.runtime.joined import prefixed

Array = NDArray[np.generic]


@dataclass(frozen=True, eq=False)
class GoldenBatch:
    """One padded batch and PyTorch's answer to it, by input and output name.

    ``strides`` are of answers that are sampled (see `edgekit.runtime.golden.sampled`).
    """

    inputs: Mapping[str, Array]
    reference: Mapping[str, Array]
    strides: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class Exported:
    """The files written into the export's directory and all that a manifest says of them.

    ``files`` are (name, role) pairs. ``golden`` is None when one batch of outputs is larger than
    a bundle's golden file may be. ``notes`` are sentences for a person,
    ``generation`` how a model that generates is asked (see `edgekit.runtime.generation.rules`).
    """

    components: Mapping[str, Component]
    files: tuple[tuple[str, str], ...]
    processor: Mapping[str, object] | None
    labels: tuple[str, ...] | None
    parity: tuple[Parity, ...]
    golden: GoldenBatch | None
    opset: int
    precision: str
    facts: Mapping[str, str | int | float | bool]
    notes: tuple[str, ...] = ()
    generation: Mapping[str, object] | None = None

    @property
    def component(self) -> Component:
        """The only component of most models."""
        (found,) = self.components.values()
        return found

    @property
    def inputs(self) -> tuple[TensorSpec, ...]:
        """The inputs of all components, named with theirs where there are several."""
        return self._specs({name: part.inputs for name, part in self.components.items()})

    @property
    def outputs(self) -> tuple[TensorSpec, ...]:
        """The outputs of all components, likewise."""
        return self._specs({name: part.outputs for name, part in self.components.items()})

    def _specs(self, parts: Mapping[str, tuple[TensorSpec, ...]]) -> tuple[TensorSpec, ...]:
        if len(parts) == 1:
            return next(iter(parts.values()))
        return prefixed(parts)
