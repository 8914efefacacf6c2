"""Parameters and floating-point operations of a model, counted while it runs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

if TYPE_CHECKING:
    from torch import Tensor

    from edgekit.sources.loaded import LoadedSource


@dataclass(frozen=True)
class Counted:
    """How large a model is: ``flops`` count a multiplication and an addition as two."""

    parameters: int
    flops: int


def count(source: LoadedSource, inputs: Mapping[str, Tensor] | None = None) -> Counted:
    """The parameters of a source, and the operations of one run on some inputs.

    Without `inputs` these are the source's own samples. Tied parameters count once.
    """
    feeds = dict(inputs or source.sample_inputs)
    # torch's counter knows nothing of the attention that CPUs fuse: its parts it knows.
    with (
        torch.inference_mode(),
        sdpa_kernel(SDPBackend.MATH),
        FlopCounterMode(display=False) as counter,
    ):
        source.module(**feeds)
    parameters = sum(parameter.numel() for parameter in source.module.parameters())
    return Counted(parameters, int(counter.get_total_flops()))
