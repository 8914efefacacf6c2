"""The rows of DATA that a step uses, by the role that their content gives them."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import accumulate, repeat
from typing import TYPE_CHECKING

import numpy as np

from edgekit.core.bundle import Bundle
from edgekit.core.errors import ConfigError
from edgekit.evaluation.media import prepared_batches
from edgekit.evaluation.pairs import sample_feeds
from edgekit.pipeline.rows import used_rows
from edgekit.quantization.recipes import Feeds
from edgekit.runtime import load
from edgekit.runtime.golden import read
from edgekit.runtime.worker import not_finite
from edgekit.runtime.workloads import input_specs
from edgekit.sources.data import Samples, parse_columns, read_samples
from edgekit.sources.data_pictures import reads_files
from edgekit.sources.data_roles import Role

if TYPE_CHECKING:
    from edgekit.sources.loaded import LoadedSource

# Ranges are known long before: more rows only take time, and memory.
_MOST_CALIBRATION = 512
# Calibration holds all its rows, prepared, at once: 512 pictures as detectors take them are 6 GB.
_MOST_BYTES = 1 << 30
_GOLDEN = (
    "Ranges, where they are needed, come from the golden samples, which also judge: pass"
    " --calibration with some hundred real ones."
)
# A choice between candidates needs fewer rows than its proof.
_MOST_SEARCH = 2000


@dataclass(frozen=True)
class Rows:
    """What calibrates, what chooses and what judges; None where there is no DATA.

    ``roles`` are the row hashes by role, for the manifest: what calibrated or chose must not judge
    later. ``notes`` are sentences for a person.
    """

    calibration: Samples | None
    search: Samples | None
    verdict: Samples | None
    roles: Mapping[str, list[str]]
    notes: tuple[str, ...] = ()

    def told(self, *, calibrated: bool) -> tuple[str, ...]:
        """The notes, and where ranges are needed of nothing but the golden samples, that."""
        return (*self.notes, _GOLDEN) if calibrated and self.calibration is None else self.notes


def read_rows(
    source: Bundle,
    loaded: LoadedSource | None,
    data: str | None,
    columns: str | None,
    calibration: str | None,
    *,
    seed: int,
    labels_wanted: bool = False,
) -> Rows:
    """The rows of DATA by role; what calibrates, of a file of one's own or not, never judges.

    Raises ConfigError for DATA that cannot be read, or with nothing left to judge by.
    """
    manifest = source.manifest
    used = used_rows(manifest)
    names = parse_columns(columns)
    inputs = [spec.name for spec in input_specs(source)]
    problem = None if loaded is None else loaded.problem_type
    pictures = reads_files(manifest)
    notes: list[str] = []
    own = None
    # Of a model that generates the weights alone are rounded, which takes no ranges.
    ranges = manifest.generation is None
    if calibration is not None and not ranges:
        notes.append(
            f"{calibration} calibrates nothing: of a model that generates the weights alone are"
            " rounded. Its rows may judge."
        )
    elif calibration is not None:
        own = read_samples(
            calibration, manifest.task, columns=names, labels=manifest.labels, problem=problem,
            inputs=inputs, limit=_MOST_CALIBRATION, seed=seed, pictures=pictures,
        )  # fmt: skip
        if not len(own):
            raise ConfigError(f"{calibration} has no rows.", hint="Pass some real samples.")
        used |= set(own.row_hashes)
        eligible, own = own.eligible, _within_memory(source, own)
        if eligible > len(own):
            notes.append(_some(calibration, eligible, len(own)))
    if data is None:
        return Rows(own, None, None, role_hashes(calibration=own), tuple(notes))

    def of(role: Role, limit: int | None) -> Samples:
        return read_samples(
            data, manifest.task, columns=names, labels=manifest.labels, problem=problem,
            inputs=inputs, role=role, limit=limit, seed=seed, exclude=used,
            labels_wanted=labels_wanted, pictures=pictures,
        )  # fmt: skip

    calibrating = own
    if calibrating is None and ranges:
        read = of("calibration", _MOST_CALIBRATION)
        calibrating = _within_memory(source, read)
        if len(calibrating) < len(read):
            notes.append(_some(f"{data}, for calibration,", len(read), len(calibrating)))
    search, verdict = of("search", _MOST_SEARCH), of("verdict", None)
    require_rows(data, calibration=calibrating, search=search)
    if verdict.excluded:
        notes.append(
            f"{verdict.excluded:,} rows of {data} calibrate or were used by earlier steps: they do"
            " not judge."
        )
    return Rows(
        calibrating,
        search,
        verdict,
        role_hashes(calibration=calibrating, search=search),
        tuple(notes),
    )


def require_rows(data: str, **found: Samples | None) -> None:
    """Raise ConfigError for a role that no row of DATA has; None is not asked for."""
    for name, samples in found.items():
        if samples is not None and not len(samples):
            spent = f": {samples.excluded:,} were used before" if samples.excluded else ""
            raise ConfigError(
                f"{data} has no rows for {name}{spent}.",
                hint="Give it more rows: 10 % calibrate, 20 % choose, 70 % judge, by their content;"
                " rows taken from --calibration do neither of the last two.",
            )


def calibration_feeds(source: Bundle, rows: Rows) -> list[Feeds]:
    """One call of the graph for each calibration row; the golden samples where there are none.

    Raises ConfigError for NaN or infinities: ranges found in them are none.
    """
    if rows.calibration is None:
        stored = source.manifest.golden
        return [] if stored is None else [read(source.file(stored.file)).inputs]
    with load(source.path, check="quick") as model:
        feeds: list[Feeds] = [*sample_feeds(model, rows.calibration, len(rows.calibration))]
    for row, one in enumerate(feeds):
        wrong = not_finite(one)
        if wrong is not None:
            raise ConfigError(
                f"Row {rows.calibration.rows[row]} of the calibration data has NaN or infinity in"
                f" {wrong}.",
                hint="Leave the row out, or repair it.",
            )
    return feeds


def _some(data: str, held: int, used: int) -> str:
    return f"{data} has {held:,} rows: ranges come from {used:,} of them."


def _within_memory(source: Bundle, samples: Samples) -> Samples:
    """The samples that calibration can hold prepared, at least one, chosen by their content."""
    # Neither by class nor by place in the file, which may be sorted.
    order = sorted(range(len(samples)), key=lambda place: samples.hashes[place])
    for before, total in enumerate(accumulate(_sizes(source, samples.take(order)))):
        if total > _MOST_BYTES and before:
            return samples.take(sorted(order[:before]))
    return samples


def _sizes(source: Bundle, samples: Samples) -> Iterator[int]:
    """Bytes of each sample, prepared; nothing of a text, which is small."""
    manifest = source.manifest
    if not reads_files(manifest):
        for row in samples.inputs:
            yield sum(value.nbytes for value in row.values() if isinstance(value, np.ndarray))
        return
    specs = manifest.components["model"].inputs
    known = [size for spec in specs for size in spec.shape[1:]]
    if all(isinstance(size, int) for size in known):
        each = sum(
            math.prod(size for size in spec.shape[1:] if isinstance(size, int))
            * np.dtype(spec.dtype).itemsize
            for spec in specs
        )
        yield from repeat(each, len(samples))
        return
    for feeds, _ in prepared_batches(manifest, samples, 1):
        yield sum(array.nbytes for array in feeds.values())


def role_hashes(**samples: Samples | None) -> dict[str, list[str]]:
    """The row hashes of samples by their role; None has none."""
    return {
        role: sorted(set(found.row_hashes)) for role, found in samples.items() if found is not None
    }
