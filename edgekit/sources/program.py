"""Programs that torch.export saved before (`.pt2`), as loaded sources."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

from edgekit.core.errors import SourceError
from edgekit.sources.custom import name_outputs, stored_dtype
from edgekit.sources.loaded import LoadedSource
from edgekit.sources.quiet import quiet
from edgekit.sources.statehash import state_hash


def open_program(path: Path, *, id: str, trusted: bool) -> LoadedSource:
    """The exported program in a `.pt2` file.

    Raises:
        SourceError: the file is not trusted (it may hold a pickle) or cannot be read.
    """
    if not trusted:
        raise SourceError(
            f"{path} is an exported program, and torch reads such files with pickle, which can"
            " run any code.",
            hint="If you trust where it comes from, pass --trust-remote-code.",
        )
    try:
        with quiet():
            program = torch.export.load(path)
            graph = program.module()
    except Exception as error:
        raise SourceError(
            f"torch could not read {path}: {error}",
            hint="Save it again with torch.export.save and this torch version"
            f" ({torch.__version__}).",
        ) from error
    example = program.example_inputs
    if example is None:
        raise SourceError(
            f"{path} holds no example inputs.",
            hint="Export it again with torch.export.export(module, args), which keeps them.",
        )
    names = [str(name) for name in program.graph_signature.user_inputs]
    values = [*example[0], *example[1].values()]
    sample = {
        name: value for name, value in zip(names, values, strict=True) if isinstance(value, Tensor)
    }
    wrapped = ProgramModule(graph, names, len(example[0]), tuple(example[1]))
    return LoadedSource(
        kind="program",
        id=id,
        revision=None,
        sha256=state_hash(program.state_dict),
        architecture="ExportedProgram",
        parameters=sum(value.numel() for value in program.parameters()),
        dtype=stored_dtype(graph),
        license=None,
        task="custom",
        module=wrapped,
        sample_inputs=sample,
        dynamic_axes=_program_axes(program, sample),
        output_axes={},
        folder=None,
        program=program,
    )


class ProgramModule(nn.Module):
    """An exported program called by the names of its placeholders."""

    def __init__(
        self, graph: nn.Module, names: Sequence[str], positional: int, keywords: Sequence[str]
    ) -> None:
        super().__init__()
        self.model = graph
        self.names = tuple(names)
        self.positional = positional
        self.keywords = tuple(keywords)
        self.training = False

    def train(self, mode: bool = True) -> ProgramModule:
        """Nothing: a program is in the mode that it was exported in, and refuses to change."""
        return self

    def forward(self, **inputs: Tensor) -> dict[str, Tensor]:
        """The named outputs for the named inputs."""
        values = [inputs[name] for name in self.names]
        named = dict(zip(self.keywords, values[self.positional :], strict=True))
        return name_outputs(self.model(*values[: self.positional], **named))


def _program_axes(
    program: torch.export.ExportedProgram, sample: Mapping[str, Tensor]
) -> dict[str, dict[int, str]]:
    axes: dict[str, dict[int, str]] = {name: {} for name in sample}
    symbols_seen: dict[str, str] = {}
    for node in program.graph.nodes:
        if node.op != "placeholder" or node.name not in sample:
            continue
        for axis, size in enumerate(node.meta["val"].shape):
            if isinstance(size, torch.SymInt):
                first = "batch" if axis == 0 and "batch" not in symbols_seen.values() else ""
                fresh = first or f"dim{len(symbols_seen)}"
                axes[node.name][axis] = symbols_seen.setdefault(str(size), fresh)
    return axes
