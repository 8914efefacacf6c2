"""What a pruning works with: the model, its rows of DATA by role, the answers it is held to."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from edgekit.core import cpu
from edgekit.core.bundle import Bundle
from edgekit.core.errors import ConfigError
from edgekit.evaluation.reference import Settings, fastest
from edgekit.pipeline.choices.rows import Rows, read_rows, require_rows, role_hashes
from edgekit.pipeline.progress import Progress
from edgekit.pruning.distances import Answers, answers_of
from edgekit.pruning.feeding import Batch, batches, own_batches
from edgekit.sources.data import Samples, parse_columns, read_samples
from edgekit.sources.data_paths import require_texts
from edgekit.sources.data_roles import Role
from edgekit.sources.generation.whole import ANSWER

if TYPE_CHECKING:
    from edgekit.sources.loaded import LoadedSource

_SIZE = 32
_BATCHES = 5
# Of the rows for choosing, one in so many decides between cuts and when recovery stops; no weights
# are fitted to it.
_HELD_ONE_IN = 4
_MOST_HELD = 400
# Of texts that a model continues, each with scores of a whole vocabulary for every token.
_MOST_TEXTS: Mapping[Role, int | None] = {"calibration": 128, "search": 1024, "verdict": None}
_MOST_HELD_TEXTS = 48
# Of sounds, each a thousand frames or more, of which least squares holds some layers at a time.
_MOST_SOUNDS: Mapping[Role, int | None] = {"calibration": 40, "search": 200, "verdict": None}
_OWN_ANSWERS = (
    "DATA says nothing of answers (a column target): what the original itself answers stands in"
    " their place."
)
_OWN_WORDS = (
    "What the original itself writes down of a sound's first window rates, mends and judges:"
    " transcripts are for validate."
)


@dataclass(frozen=True, eq=False)
class Material:
    """A source with what measures and mends its cuts.

    ``calibration`` is None without DATA. ``held`` are the original's answers to rows that no
    weights are fitted to (or, without DATA, to its own samples), ``training`` what recovery learns
    from, ``deciding`` the rows behind ``held``, ``verdict`` the rows that judge.
    """

    source: LoadedSource
    calibration: Sequence[Batch] | None
    training: Sequence[Batch]
    held: Answers
    verdict: Samples | None
    roles: Mapping[str, list[str]]
    notes: tuple[str, ...] = ()
    deciding: Samples | None = None


def read_material(
    source: LoadedSource,
    bundle: Bundle | None,
    data: str | None,
    columns: str | None,
    *,
    seed: int,
    threads: int | None,
    labels_wanted: bool,
    progress: Progress,
) -> Material:
    """The rows of DATA, as the source's module takes them.

    Without a `bundle` they are texts or sounds that the source continues or answers, of which few
    minutes' worth rate, mend and choose. PyTorch computes with `threads` from then on, or with as
    many as are faster for the source (see `torch_threads`).

    Raises ConfigError for DATA that cannot be read, or with nothing left for a role.
    """
    own = own_batches(source)
    _settle_threads(source, own, threads)
    if data is None:
        return Material(source, None, (), answers_of(source, own), None, {})
    if bundle is None:
        rows = _read_generated(source, data, columns, seed, labels_wanted)
    else:
        rows = read_rows(
            bundle, source, data, columns, None, seed=seed, labels_wanted=labels_wanted
        )
    learning, deciding = _split(rows, _MOST_HELD_TEXTS if bundle is None else _MOST_HELD)
    if not len(deciding) or not len(learning):
        raise ConfigError(
            f"{data} has {len(learning) + len(deciding):,} rows for choosing, too few to recover"
            " a model with.",
            hint="Give it more rows: 10 % calibrate, 20 % choose, 70 % judge, by their content.",
        )
    assert rows.calibration is not None
    progress(
        f"{len(rows.calibration):,} rows rate and mend what is cut, {len(learning):,} more train,"
        f" {len(deciding):,} choose, {0 if rows.verdict is None else len(rows.verdict):,} judge"
    )
    # Least squares holds some batches out: of few rows there should be several all the same.
    size = max(1, min(_SIZE, len(rows.calibration) // _BATCHES))
    calibration = batches(source, rows.calibration, size)
    training = [*calibration, *batches(source, learning, _SIZE)]
    return Material(
        source,
        calibration,
        training,
        answers_of(source, batches(source, deciding, _SIZE)),
        rows.verdict,
        rows.roles,
        rows.notes,
        deciding,
    )


@contextmanager
def torch_threads() -> Iterator[None]:
    """Whatever is settled meanwhile, the caller has PyTorch's threads back."""
    import torch

    before = torch.get_num_threads()
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _settle_threads(source: LoadedSource, own: Sequence[Batch], threads: int | None) -> None:
    """Two threads on a machine with one busy core have taken forty times as long as one."""
    import torch

    def call() -> object:
        with torch.inference_mode():
            return [source.module(**batch.inputs) for batch in own]

    counts = [threads] if threads is not None else [1, cpu.available_threads()]
    tried = {Settings(count): call for count in dict.fromkeys(counts)}
    best = fastest(tried, lambda setting: torch.set_num_threads(setting.threads))
    torch.set_num_threads(best.threads)


def _read_generated(
    source: LoadedSource, data: str, columns: str | None, seed: int, labels_wanted: bool
) -> Rows:
    """The rows of DATA for a model that continues texts, or that answers texts or sounds."""
    sounds = source.feature_extractor is not None
    if not sounds:
        require_texts(data, source.task)
    found = {
        role: read_samples(
            data,
            source.task,
            columns=parse_columns(columns),
            role=role,
            limit=most,
            seed=seed,
            labels_wanted=labels_wanted and not sounds,
        )
        for role, most in (_MOST_SOUNDS if sounds else _MOST_TEXTS).items()
    }
    calibration, search, verdict = found["calibration"], found["search"], found["verdict"]
    require_rows(data, calibration=calibration, search=search)
    roles = role_hashes(calibration=calibration, search=search)
    notes = [_OWN_WORDS] if sounds else []
    if ANSWER in source.sample_inputs and verdict.labels is None and not sounds:
        notes.append(_OWN_ANSWERS)
    return Rows(calibration, search, verdict, roles, tuple(notes))


def _split(rows: Rows, most: int) -> tuple[Samples, Samples]:
    """The rows for choosing: those to learn from, and at most so many to decide by, by content."""
    assert rows.search is not None
    found = rows.search
    held = [at for at, one in enumerate(found.hashes) if int(one, 16) // 100 % _HELD_ONE_IN == 0]
    kept = set(held[:most])
    return (
        found.take([at for at in range(len(found)) if at not in kept]),
        found.take(sorted(kept)),
    )
