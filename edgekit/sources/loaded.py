"""The one shape in which every source arrives at the exporter, the pruner and the reference."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from torch import Tensor, nn
    from torch.export import ExportedProgram
    from transformers import (
        BaseImageProcessor,
        PreTrainedConfig,
        PreTrainedTokenizerBase,
        SequenceFeatureExtractor,
    )

    from edgekit.core.manifest import Origin
    from edgekit.sources.generation.feeding import Feeder
    from edgekit.sources.pruned.plan import Plan

# LICENSE, LICENSE-APACHE-2.0.txt, COPYING.LESSER: a name of these, what is behind it, the ending.
_LICENSE = re.compile(
    r"(licen[sc]es?|copying|notices?)([-_][a-z0-9_-]*(\.[0-9]+)*)?"
    r"(\.(txt|md|rst|lesser|gpl|lgpl|mit|apache|bsd))?",
    re.IGNORECASE,
)
_LONGEST_LICENSE = 1 << 20

Kind = Literal["huggingface", "factory", "program", "onnx"]


@dataclass(frozen=True, eq=False)
class EngineModel:
    """What is to be known of a source that an engine runs, not PyTorch: an imported model.

    ``bytes`` are those of its files.
    """

    precision: str
    bytes: int
    use_threads: Callable[[int], None]


@dataclass(frozen=True, eq=False)
class LoadedSource:
    """A PyTorch model ready to run, and everything about it that a bundle must know.

    ``module`` is in eval mode, takes keyword tensors named as in ``sample_inputs`` and returns a
    dict of tensors under their final names (pooling and normalisation already applied). It wraps
    the model itself, which is its attribute ``model``.
    ``dynamic_axes`` says per input which axes vary, and their symbols; ``output_axes`` the same
    for outputs where it is known. ``dtype`` is the type the weights were stored in; the module is
    in float32 unless another one was asked for. ``sha256`` is taken before such a cast (see
    `statehash`): it names the weights and not the way they were loaded. ``image_processor`` is
    transformers' own for pictures, in its Pillow form, ``feature_extractor`` that for sounds;
    ``decoder`` spells the text of a model that transcribes, and ``labels`` are its tokens then.
    ``parts`` are a source for each component of a bundle that has several; then names of inputs and
    outputs begin with theirs. ``feeder`` makes batches for a component of a model that generates.
    ``asked`` is the task by the narrower name that somebody gave it: summarization, translation,
    translation_en_to_de.
    ``engine`` is there for a model that PyTorch does not run. ``notes`` are sentences for a person,
    on what was decided because nobody declared it. ``plan`` is what pruning kept, and ``origin``
    the model before that; a model that was not pruned has neither.
    """

    kind: Kind
    id: str
    revision: str | None
    sha256: str
    architecture: str
    parameters: int
    dtype: str
    license: str | None
    task: str
    module: nn.Module
    sample_inputs: Mapping[str, Tensor]
    dynamic_axes: Mapping[str, Mapping[int, str]]
    output_axes: Mapping[str, tuple[str, ...]]
    config: PreTrainedConfig | None = None
    tokenizer: PreTrainedTokenizerBase | None = None
    folder: Path | None = None
    labels: tuple[str, ...] | None = None
    problem_type: str | None = None
    max_length: int | None = None
    license_files: tuple[Path, ...] = ()
    program: ExportedProgram | None = None
    image_processor: BaseImageProcessor | None = None
    feature_extractor: SequenceFeatureExtractor | None = None
    decoder: PreTrainedTokenizerBase | None = None
    parts: Mapping[str, LoadedSource] = field(default_factory=dict)
    feeder: Feeder | None = None
    asked: str | None = None
    engine: EngineModel | None = None
    notes: tuple[str, ...] = ()
    origin: Origin | None = None
    plan: Plan | None = None

    @property
    def generative(self) -> bool:
        """Whether it answers token by token, so that its components carry a cache."""
        return self.feeder is not None or any(part.feeder for part in self.parts.values())

    @property
    def precision(self) -> str:
        """The row of core's tolerance table for the dtype the module computes in."""
        if self.engine is not None:
            return self.engine.precision
        import torch

        floats = {tensor.dtype for tensor in self.module.parameters() if tensor.is_floating_point()}
        if torch.bfloat16 in floats:
            return "bf16"
        return "fp16" if torch.float16 in floats else "fp32"


def license_files_in(folder: Path) -> tuple[Path, ...]:
    """The licence and notice files that must travel with the weights, sorted by name."""
    found = (path for path in folder.iterdir() if is_license(path.name) and path.is_file())
    return tuple(sorted(path for path in found if path.stat().st_size <= _LONGEST_LICENSE))


def is_license(name: str) -> bool:
    """Whether a file is called as texts of licences and notices are: not one of licence plates."""
    return _LICENSE.fullmatch(name) is not None


def license_of_card(folder: Path) -> str | None:
    """The licence that the front matter of the folder's model card names, if any."""
    card = folder / "README.md"
    if not card.is_file():
        return None
    lines = card.read_text(encoding="utf-8", errors="replace").splitlines()
    if not lines or lines[0].strip() != "---":
        return None
    fields: dict[str, str] = {}
    for line in lines[1:]:
        if line.strip() == "---":
            break
        key, colon, value = line.partition(":")
        if colon and key in ("license", "license_name"):
            fields[key] = value.strip().strip("'\"")
        elif line.lstrip().startswith("- ") and fields.get("license") == "":
            fields["license"] = line.strip().removeprefix("- ").strip("'\"")
    stated = fields.get("license") or None
    return fields.get("license_name") or stated if stated == "other" else stated
