"""Workloads of a user's own data: texts of their natural lengths, pictures as they are."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from edgekit.core.bundle import Bundle
from edgekit.core.errors import ConfigError
from edgekit.evaluation.answers import read_units
from edgekit.evaluation.measuring import Measuring
from edgekit.runtime.session import Array
from edgekit.runtime.tasks import Context, make_text_task
from edgekit.runtime.text import Text, TextProcessor
from edgekit.runtime.workloads import Workload, text_workload
from edgekit.sources.data import Samples, parse_columns, read_samples

# Fewer would not have the lengths of the data, but those of a few of its rows.
LEAST_ROWS = 64
_LEAST_VARIANTS = 4


def data_workloads(bundle: Bundle, measuring: Measuring) -> tuple[Workload, ...]:
    """A workload per batch whose inferences go round rows of the data, batch by batch.

    Rows are chosen by content and seed, not by their place in the file. A bundle without text
    takes arrays (.npz), and its workloads have no length.

    Raises ConfigError for fewer than 64 rows, and as `read_samples` does.
    """
    manifest = bundle.manifest
    samples = read_samples(
        measuring.data or "",
        manifest.task,
        columns=parse_columns(measuring.columns),
        labels=manifest.labels,
        inputs=[spec.name for spec in manifest.components["model"].inputs],
        limit=max(LEAST_ROWS, _LEAST_VARIANTS * max(measuring.batches)),
        seed=measuring.seed,
    )
    if len(samples) < LEAST_ROWS:
        raise ConfigError(
            f"{measuring.data} has {len(samples)} rows; natural lengths take at least"
            f" {LEAST_ROWS}.",
            hint="Give more rows, or measure at fixed lengths with --length N.",
        )
    batches = tuple(dict.fromkeys(measuring.batches))
    processor = manifest.processor
    if processor is None or processor.get("kind") != "text":
        if "data" in (measuring.lengths or ()):
            raise ConfigError(
                f"{bundle.path} takes no text, so --length has no meaning for it.",
                hint="Leave --length out; --data alone gives its inputs.",
            )
        return tuple(_array_workload(bundle, samples, batch) for batch in batches)
    texts = _texts(bundle, processor, samples)
    return tuple(text_workload(bundle, texts, batch=batch) for batch in batches)


def _texts(bundle: Bundle, processor: Mapping[str, object], samples: Samples) -> list[Text]:
    """The texts as the task's own evaluation reads them."""
    manifest = bundle.manifest
    post = processor.get("post")
    context = Context(
        post if isinstance(post, Mapping) else {},
        manifest.labels,
        manifest.components["model"].outputs,
        TextProcessor(processor, bundle.path),
    )
    return [unit.text for unit in read_units(samples, make_text_task(context))]


def _array_workload(bundle: Bundle, samples: Samples, batch: int) -> Workload:
    specs = bundle.manifest.components["model"].inputs
    for spec in specs:
        size = spec.shape[0] if spec.shape else 1
        if isinstance(size, int) and size != batch:
            raise ConfigError(
                f"The bundle's input {spec} is fixed to {size} there, got --batch {batch}.",
                hint=f"Pass --batch {size}.",
            )
    rows = samples.inputs
    variants: list[dict[str, Array]] = []
    for start in range(0, len(rows) - batch + 1, batch):
        chosen = rows[start : start + batch]
        variants.append(
            {
                spec.name: np.stack([np.asarray(row[spec.name]) for row in chosen]).astype(
                    np.dtype(spec.dtype), copy=False
                )
                for spec in specs
            }
        )
    return Workload(batch, None, variants[0], tuple(variants))
