"""The rows of DATA that a step uses, by the role that their content gives them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from edgekit.core.bundle import Bundle
from edgekit.core.errors import ConfigError
from edgekit.evaluation.pairs import sample_feeds
from edgekit.pipeline.rows import used_rows
from edgekit.quantization.recipes import Feeds
from edgekit.runtime import load
from edgekit.runtime.golden import read
from edgekit.runtime.worker import not_finite
from edgekit.sources.data import Role, Samples, parse_columns, read_samples

if TYPE_CHECKING:
    from edgekit.sources.loaded import LoadedSource

# Ranges are known long before: more rows only take time, and memory.
_MOST_CALIBRATION = 512
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
    inputs = [spec.name for spec in manifest.components["model"].inputs]
    problem = None if loaded is None else loaded.problem_type
    notes: list[str] = []
    own = None
    if calibration is not None:
        own = read_samples(
            calibration, manifest.task, columns=names, labels=manifest.labels, problem=problem,
            inputs=inputs, limit=_MOST_CALIBRATION, seed=seed,
        )  # fmt: skip
        if not len(own):
            raise ConfigError(f"{calibration} has no rows.", hint="Pass some real samples.")
        if own.eligible > len(own):
            notes.append(
                f"{calibration} has {own.eligible:,} rows: ranges come from {len(own):,} of them."
            )
        used |= set(own.row_hashes)
    if data is None:
        if own is None:
            notes.append(
                "Ranges, where they are needed, come from the golden samples, which also judge:"
                " pass --calibration with some hundred real ones."
            )
        return Rows(own, None, None, _roles(calibration=own), tuple(notes))

    def of(role: Role, limit: int | None) -> Samples:
        return read_samples(
            data, manifest.task, columns=names, labels=manifest.labels, problem=problem,
            inputs=inputs, role=role, limit=limit, seed=seed, exclude=used,
            labels_wanted=labels_wanted,
        )  # fmt: skip

    calibrating = own if own is not None else of("calibration", _MOST_CALIBRATION)
    search, verdict = of("search", _MOST_SEARCH), of("verdict", None)
    for name, found in (("calibration", calibrating), ("search", search)):
        if not len(found):
            spent = f": {found.excluded:,} were used before" if found.excluded else ""
            raise ConfigError(
                f"{data} has no rows for {name}{spent}.",
                hint="Give it more rows: 10 % calibrate, 20 % choose, 70 % judge, by their content;"
                " those of --calibration do neither of the last two.",
            )
    if verdict.excluded:
        notes.append(
            f"{verdict.excluded:,} rows of {data} calibrate or were used by earlier steps: they do"
            " not judge."
        )
    return Rows(
        calibrating, search, verdict, _roles(calibration=calibrating, search=search), tuple(notes)
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


def _roles(**samples: Samples | None) -> dict[str, list[str]]:
    return {
        role: sorted(set(found.row_hashes)) for role, found in samples.items() if found is not None
    }
