"""What a pruning works with, and what it leaves as it was."""

from __future__ import annotations

import torch

from edgekit.pipeline.cuts.material import torch_threads


def test_the_caller_has_the_threads_back() -> None:
    """A pruning settles its own; the process that called it goes on with its own."""
    before = torch.get_num_threads()
    with torch_threads():
        torch.set_num_threads(before + 1)
    assert torch.get_num_threads() == before
