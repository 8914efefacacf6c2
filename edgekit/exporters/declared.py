"""``--processor FILE``: how a custom module's pictures are prepared and its outputs are read.

The file is the manifest's ``processor`` of kind ``image``, as JSON or TOML, and may hold
``labels`` besides: a list, or the name of a text file beside it with one label a line.
"""

from __future__ import annotations

import json
import tomllib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from edgekit.core.errors import BundleError, ConfigError, InputMismatch, SourceError
from edgekit.runtime.pictures.rules import read_picture_rules
from edgekit.runtime.pictures.tasks import PICTURE_TASKS, TASK_OF

if TYPE_CHECKING:
    from torch import Tensor

    from edgekit.core.manifest import Component
    from edgekit.sources.loaded import LoadedSource

_EXAMPLE = (
    'For example: kind = "image", post = {kind = "image-classification"}, ops = [{op = "resize",'
    ' size = {shortest_edge = 256}, filter = "bicubic"}, {op = "center_crop", height = 224, width'
    ' = 224}, {op = "normalize", mean = 127, std = 128}]'
)

_TRANSFORMERS = frozenset({"image_processor_type", "feature_extractor_type", "processor_class"})


@dataclass(frozen=True)
class Declared:
    """A processor that somebody wrote, with the task that it makes of a module, and labels."""

    processor: Mapping[str, object]
    task: str
    labels: tuple[str, ...] | None

    def apply(self, source: LoadedSource) -> LoadedSource:
        """The source with the task and labels. Raises ConfigError for one that has a processor."""
        if source.task != "custom":
            raise ConfigError(
                f"--processor is for modules of your own; {source.id} brings its own processing.",
                hint="Leave --processor away.",
            )
        return replace(source, task=self.task, labels=self.labels)


def read_declared(path: Path) -> Declared:
    """The processor in a file.

    Raises ConfigError, naming the key, for what is none, and SourceError for one that is code.
    """
    values = dict(_parsed(path))
    _refuse_foreign(values, path)
    labels = _labels(values.pop("labels", None), path)
    if values.get("kind", "image") != "image":
        raise ConfigError(
            f"{path} is a processor of kind {values['kind']!r}; a module of your own can have one"
            " of kind image.",
            hint=_EXAMPLE,
        )
    # The manifest's vocabulary requires `ops`, of which there may be none.
    processor = {"kind": "image", "ops": [], **values}
    with _as_config(path):
        rules = read_picture_rules(processor)
    kind = rules.post.get("kind")
    if not isinstance(kind, str) or kind not in PICTURE_TASKS:
        raise ConfigError(
            f"{path} does not say what the outputs are: post.kind is {kind!r}.",
            hint=f"It is one of {', '.join(PICTURE_TASKS)}.",
        )
    return Declared(processor, TASK_OF[kind], labels)


def fit_declared(
    processor: Mapping[str, object], component: Component, labels: tuple[str, ...] | None
) -> dict[str, object]:
    """The processor as the bundle gets it: tried on a picture, its inputs named as the graph's.

    Raises ConfigError where it does not make what the graph takes, or reads outputs it lacks.
    """
    import numpy as np

    from edgekit.runtime.pictures.predicting import make_processor
    from edgekit.runtime.pictures.tasks import PictureContext, make_picture_task

    made = {"inputs": [spec.name for spec in component.inputs], **processor}
    try:
        ours = make_processor(made, component.inputs)
        encoded = ours.encode(np.full((300, 400, 3), 90, np.uint8))
        make_picture_task(PictureContext(ours.rules.post, labels, component.outputs))
    except (BundleError, InputMismatch) as error:
        raise ConfigError(
            f"--processor does not fit the module: {error.message}", hint=error.hint
        ) from error
    spec = component.inputs[[one.name for one in component.inputs].index(ours.rules.inputs[0])]
    shape = encoded.pixels.shape
    for wanted, size in zip(spec.shape[1:], shape, strict=True):
        if isinstance(wanted, int) and wanted != size:
            raise ConfigError(
                f"--processor makes {list(shape)} of a picture; the module's input is {spec}.",
                hint="Check the sizes of resize and center_crop, channels and layout.",
            )
    return made


def declared_batch(
    processor: Mapping[str, object], sample: Mapping[str, Tensor]
) -> dict[str, Tensor]:
    """Pictures in the place of a sample's noise: what a model says to noise proves little.

    The sample itself where the pictures would have another size.
    """
    import torch

    from edgekit.runtime.pictures.processor import PictureProcessor
    from edgekit.sources.pictures import draw

    ours = PictureProcessor(processor)
    count = next(iter(sample.values())).shape[0]
    made = ours.collate([ours.encode(draw(400, 300, seed)) for seed in range(count)])
    found = {
        name: torch.from_numpy(made[name]).to(value.dtype)
        for name, value in sample.items()
        if name in made and made[name].shape == tuple(value.shape)
    }
    return {**sample, **found}


def _refuse_foreign(values: Mapping[str, object], path: Path) -> None:
    """transformers' own configuration says other things, some of them by naming code."""
    if "auto_map" in values:
        raise SourceError(
            f"{path} names code of its own that is to be imported; a bundle holds no code, and"
            " edgekit runs none for it.",
            hint=f"Write down in the manifest's words what the code does. {_EXAMPLE}",
        )
    found = _TRANSFORMERS & set(values)
    if found:
        raise ConfigError(
            f"{path} is written for transformers ({sorted(found)[0]}), not in the words of a"
            " manifest.",
            hint=f"Write down what it does. {_EXAMPLE}",
        )


def _parsed(path: Path) -> Mapping[str, object]:
    try:
        text = path.read_text(encoding="utf-8")
        values = tomllib.loads(text) if path.suffix.lower() == ".toml" else json.loads(text)
    except OSError as error:
        raise ConfigError(
            f"The processor file {path} cannot be read: {error.strerror}.", hint="Check the path."
        ) from error
    except (ValueError, RecursionError) as error:
        kind = "TOML" if path.suffix.lower() == ".toml" else "JSON"
        raise ConfigError(f"{path} is not readable {kind}: {error}.", hint=_EXAMPLE) from error
    if not isinstance(values, dict):
        raise ConfigError(f"{path} holds no object with keys.", hint=_EXAMPLE)
    return values


def _labels(value: object, path: Path) -> tuple[str, ...] | None:
    if value is None:
        return None
    if isinstance(value, str):
        listed = path.parent / value
        try:
            lines = listed.read_text(encoding="utf-8").splitlines()
        except (OSError, ValueError) as error:
            raise ConfigError(
                f"{path} names the labels {value}, which cannot be read: {error}.",
                hint="Write one label a line, or the list itself.",
            ) from error
        return tuple(line.strip() for line in lines if line.strip())
    if isinstance(value, list) and value and all(isinstance(item, str) for item in value):
        return tuple(value)
    raise ConfigError(
        f"{path}: labels should be a list of names, or the name of a text file.",
        hint='Write labels = ["cat", "dog"].',
    )


@contextmanager
def _as_config(path: Path) -> Iterator[None]:
    """What is wrong in a bundle is a typing error here."""
    try:
        yield
    except BundleError as error:
        raise ConfigError(f"{path}: {error.message}", hint=_EXAMPLE) from error
