"""Workloads of a user's own data: texts of natural lengths, pictures and sounds as they are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from edgekit.core.bundle import Bundle
from edgekit.core.errors import ConfigError
from edgekit.core.manifest import TensorSpec
from edgekit.evaluation.answers import read_units
from edgekit.evaluation.measuring import Measuring
from edgekit.evaluation.media import prepared_batches
from edgekit.evaluation.naming import reading
from edgekit.evaluation.sounds import sound_of
from edgekit.runtime.generation.requests import SoundRequests, TextRequests, mode_of
from edgekit.runtime.session import Array
from edgekit.runtime.tasks import Context, make_text_task
from edgekit.runtime.text import Text, TextProcessor
from edgekit.runtime.workloads import Workload, arrays_workload, text_workload
from edgekit.sources.data import Samples, parse_columns, read_samples
from edgekit.sources.data_paths import require_texts
from edgekit.sources.data_pictures import reads_files

# Fewer would not have the lengths of the data, but those of a few of its rows.
LEAST_ROWS = 64
_LEAST_VARIANTS = 4
# Bytes of prepared pictures or sounds: every child of a bench reads all of them, and more show
# nothing new.
_MOST_PICTURES = 256 << 20


def data_workloads(bundle: Bundle, measuring: Measuring) -> tuple[Workload, ...]:
    """A workload per batch whose inferences go round rows of the data, batch by batch.

    Rows are chosen by content and seed, not by their place in the file. A bundle without text
    takes arrays (.npz), pictures or sounds, and its workloads have no length.

    Raises ConfigError for a bundle of several components and for fewer than 64 rows, and as
    `read_samples` does.
    """
    manifest = bundle.manifest
    if "model" not in manifest.components:
        raise ConfigError(
            f"{bundle.path} has the components {' and '.join(manifest.components)}; --data is for"
            " bundles of one.",
            hint="Leave --data out: both are measured together on the golden inputs.",
        )
    pictures = reads_files(manifest)
    inputs = [spec.name for spec in manifest.components["model"].inputs]
    samples = _read(bundle, measuring, inputs, pictures=pictures)
    batches = tuple(dict.fromkeys(measuring.batches))
    processor = manifest.processor
    if processor is None or processor.get("kind") != "text":
        _refuse_length(bundle, measuring)
        make = _picture_workload if pictures else _array_workload
        return tuple(make(bundle, samples, batch) for batch in batches)
    texts = _texts(bundle, processor, samples)
    return tuple(text_workload(bundle, texts, batch=batch) for batch in batches)


def data_requests(bundle: Bundle, measuring: Measuring) -> tuple[Workload, ...]:
    """The same for a bundle that generates: requests of its prompts, sources or sounds.

    Raises ConfigError as `data_workloads` does, and for a sound that cannot be read.
    """
    speech = mode_of(bundle.manifest) == "speech"
    batches = tuple(dict.fromkeys(measuring.batches))
    if not speech:
        require_texts(measuring.data or "", bundle.manifest.task)
    samples = _read(bundle, measuring, (), pictures=speech)
    if not speech:
        prompts = TextRequests(bundle, measuring.new_tokens)
        texts = [_text(row) for row in samples.inputs]
        return tuple(prompts.of_texts(batch, texts) for batch in batches)
    _refuse_length(bundle, measuring)
    heard = SoundRequests(bundle, measuring.new_tokens)
    sounds = []
    for index, row in enumerate(samples.inputs):
        with reading(samples, index):
            sounds.append(heard.encode(sound_of(row["audio"], heard.rate)))
    return tuple(heard.of_sounds(batch, sounds) for batch in batches)


def _text(row: Mapping[str, object]) -> str:
    """What a row gives a model to read: its text, or the source of a translation."""
    return str(row["source"] if "source" in row else row["text"])


def _refuse_length(bundle: Bundle, measuring: Measuring) -> None:
    if "data" in (measuring.lengths or ()):
        raise ConfigError(
            f"{bundle.path} takes no text, so --length has no meaning for it.",
            hint="Leave --length out; --data alone gives its inputs.",
        )


def _read(
    bundle: Bundle, measuring: Measuring, inputs: Sequence[str], *, pictures: bool
) -> Samples:
    """The rows of the data, enough for the largest batch. Raises ConfigError."""
    manifest = bundle.manifest
    most = max(measuring.batches)
    samples = read_samples(
        measuring.data or "",
        manifest.task,
        columns=parse_columns(measuring.columns),
        labels=manifest.labels,
        inputs=inputs,
        limit=max(LEAST_ROWS, _LEAST_VARIANTS * most),
        seed=measuring.seed,
        pictures=pictures,
    )
    if len(samples) < LEAST_ROWS:
        raise ConfigError(
            f"{measuring.data} has {len(samples)} rows; natural lengths take at least"
            f" {LEAST_ROWS}.",
            hint="Give more rows, or measure at fixed lengths with --length N.",
        )
    if len(samples) < most:
        raise ConfigError(
            f"{measuring.data} has {len(samples)} rows, fewer than a batch of {most}.",
            hint="Give more rows, or a smaller --batch.",
        )
    return samples


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
    _check_batch(specs, batch)
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
    return Workload(batch, None, variants[0], tuple(variants), pictures=())


def _picture_workload(bundle: Bundle, samples: Samples, batch: int) -> Workload:
    """Pictures or sounds as the bundle prepares them, as many as fit into memory."""
    _check_batch(bundle.manifest.components["model"].inputs, batch)
    variants: list[dict[str, Array]] = []
    held = 0
    lasting: list[float | None] = []
    for feeds, seconds in prepared_batches(bundle.manifest, samples, batch):
        lasting.append(seconds)
        variants.append(feeds)
        held += sum(array.nbytes for array in feeds.values())
        if held > _MOST_PICTURES and len(variants) >= _LEAST_VARIANTS:
            break
    workload = arrays_workload(bundle, batch, variants, seconds=_average(lasting))
    rows = samples.inputs[: batch * len(variants)]
    paths = tuple(str(row["image"]) for row in rows if isinstance(row.get("image"), Path))
    # Those that stood in a table are files for as long as the spool is held.
    return replace(workload, pictures=paths if len(paths) == len(rows) else (), kept=samples.spool)


def _check_batch(specs: Sequence[TensorSpec], batch: int) -> None:
    for spec in specs:
        size = spec.shape[0] if spec.shape else 1
        if isinstance(size, int) and size != batch:
            raise ConfigError(
                f"The bundle's input {spec} is fixed to {size} there, got --batch {batch}.",
                hint=f"Pass --batch {size}.",
            )


def _average(seconds: Sequence[float | None]) -> float | None:
    """How long the sounds of all batches last, None where rows are no sounds."""
    known = [one for one in seconds if one is not None]
    return float(np.mean(known)) if known else None
