"""DATA: samples with labels, each with a role that follows from its content."""

from __future__ import annotations

import hashlib
import heapq
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from edgekit.core.errors import ConfigError
from edgekit.sources.data_arrays import array_rows, check_arrays
from edgekit.sources.data_columns import (
    ONLY_PICTURES,
    TASK_COLUMNS,
    Label,
    Labels,
    Problem,
    TaskColumns,
    class_label,
)
from edgekit.sources.data_files import Table, open_table, require_datasets
from edgekit.sources.data_paths import find_data
from edgekit.sources.data_pictures import (
    FILE_COLUMNS,
    class_folders,
    file_columns,
    picture_table,
    with_paths,
)
from edgekit.sources.data_roles import Inputs, Role, content_of, hash_inputs, role_of
from edgekit.sources.data_spool import Spool, Stored
from edgekit.sources.data_tables import check_table, choose_columns, table_rows

LEAST_VERDICT_ROWS = 30


@dataclass(frozen=True)
class Samples:
    """Some samples of one task, in the order of their file.

    ``inputs[i]`` maps the task's columns to texts (or, for custom models, inputs to arrays without
    a batch axis); ``labels`` is None for unlabelled data; ``hashes`` are SHA-256 over the inputs.
    ``rows`` are their places in DATA, from 1. ``read`` counts the rows read to find these,
    ``repeated`` those of the verdict that say once more what another row has said and are dropped,
    ``eligible`` the others of the role that was asked for, ``excluded`` those left out of them
    because they were used before. ``notes`` are sentences a person should see. ``spool`` holds the
    files of pictures that stood in a table itself.
    """

    task: str
    inputs: tuple[Inputs, ...]
    labels: tuple[Label, ...] | None
    hashes: tuple[str, ...]
    problem: Problem | None = None
    read: int = 0
    excluded: int = 0
    notes: tuple[str, ...] = ()
    rows: tuple[int, ...] = ()
    eligible: int = 0
    repeated: int = 0
    spool: Spool | None = field(default=None, repr=False, compare=False)

    def __len__(self) -> int:
        return len(self.inputs)

    def row(self, index: int) -> int:
        """The place in DATA, from 1, of the sample at a position."""
        return self.rows[index] if self.rows else index + 1

    @property
    def row_hashes(self) -> tuple[str, ...]:
        """The first 8 bytes of each hash, in hexadecimal: what a bundle's ``steps`` keep."""
        return tuple(digest[:16] for digest in self.hashes)

    def role(self, role: Role) -> Samples:
        """The samples of one role, of the verdict each once.

        Raises ConfigError for fewer than 30 different ones of the verdict.
        """
        places = [i for i, digest in enumerate(self.hashes) if role_of(digest) == role]
        if role == "verdict":
            firsts: dict[int, int] = {}
            for i in places:
                label = None if self.labels is None else self.labels[i]
                firsts.setdefault(content_of(self.hashes[i], label), i)
            repeated, places = len(places) - len(firsts), list(firsts.values())
            chosen = replace(self.take(places), eligible=len(places), repeated=repeated)
            if repeated:
                chosen = replace(chosen, notes=(*self.notes, _repeats(repeated)))
            require_verdict_rows(chosen)
        else:
            chosen = replace(self.take(places), eligible=len(places))
        return chosen

    def without(self, used: Collection[str]) -> Samples:
        """The samples whose row hash is not among `used`; ``excluded`` tells how many were."""
        known = frozenset(used)
        kept = [i for i, row in enumerate(self.row_hashes) if row not in known]
        return replace(self.take(kept), excluded=self.excluded + len(self) - len(kept))

    def take(self, rows: Sequence[int]) -> Samples:
        """The samples at some positions, in that order."""
        return replace(
            self,
            inputs=tuple(self.inputs[i] for i in rows),
            labels=None if self.labels is None else tuple(self.labels[i] for i in rows),
            hashes=tuple(self.hashes[i] for i in rows),
            rows=tuple(self.rows[i] for i in rows) if self.rows else (),
        )


def _repeats(count: int) -> str:
    told = "1 row repeats" if count == 1 else f"{count:,} rows repeat"
    is_left = "is" if count == 1 else "are"
    return f"{told} another with the same label and {is_left} left out: a copy proves nothing new."


def require_verdict_rows(samples: Samples) -> None:
    """Raise ConfigError when there are too few different samples for a verdict to mean anything."""
    unique = len(set(samples.hashes))
    if unique < LEAST_VERDICT_ROWS:
        spent = f", {samples.excluded} of them used before," if samples.excluded else ""
        copies = f", {samples.repeated} of them copies," if samples.repeated else ""
        once = " (copies counted once)" if unique < len(samples) else ""
        raise ConfigError(
            f"DATA has {samples.read or len(samples)} rows{copies}{spent} of which {unique}"
            f"{once} are left for the verdict; it takes at least {LEAST_VERDICT_ROWS}.",
            hint="Give more data or a higher --limit: about 70 % of all rows are for the verdict.",
        )


def parse_columns(text: str | None) -> dict[str, str]:
    """``text=review,label=stars`` as {"text": "review", "label": "stars"}. Raises ConfigError."""
    mapping: dict[str, str] = {}
    for part in (text or "").split(","):
        if not part.strip() and not (text or "").strip():
            continue
        name, equals, column = part.partition("=")
        if not equals or not name.strip() or not column.strip():
            raise ConfigError(
                f"--columns takes NAME=COLUMN pairs, got {part!r}.",
                hint="For example: --columns text=review,label=stars",
            )
        if name.strip() in mapping:
            raise ConfigError(f"--columns names {name.strip()!r} twice.")
        mapping[name.strip()] = column.strip()
    return mapping


def read_samples(
    spec: str,
    task: str,
    *,
    columns: Mapping[str, str] | None = None,
    labels: Sequence[str] | None = None,
    problem: str | None = None,
    inputs: Sequence[str] = (),
    role: Role | None = None,
    limit: int | None = None,
    seed: int = 0,
    exclude: Collection[str] = (),
    labels_wanted: bool = False,
    pictures: bool | None = None,
) -> Samples:
    """The samples of DATA for a task, streamed: only those that are kept are held.

    Rows of the verdict that repeat another, with the same label, are dropped: copies would narrow
    its interval without proving anything. Of each of its rows 8 bytes are held to tell.

    Args:
        spec: a CSV, TSV, JSONL, JSON, Parquet or .npz file, a folder with one such file per split,
            a folder with one folder of pictures or sounds per class, or a Hugging Face data set id;
            ``#split`` at the end picks a split.
        columns: the task's column names → those of the file (see `parse_columns`).
        labels: the model's label names, by class number.
        problem: the model's ``problem_type``, where it says one.
        inputs: the names of a custom model's inputs, expected as arrays of the .npz.
        role: keep the rows of this role only; None keeps all.
        limit: keep so many rows, chosen by `seed` and content, not by place in the file.
        exclude: row hashes of samples that were used before.
        labels_wanted: refuse DATA that seems to hold its labels under another name.
        pictures: whether the bundle reads pictures or sounds; None is what the task's name says.

    Raises:
        ConfigError: not found, empty, malformed; a column is missing; a label is unknown; fewer
            than 30 different rows for the verdict.
        MissingDependency: the package that reads the format is not installed.
    """
    if limit is not None and limit < 1:
        raise ConfigError(f"--limit should be at least 1, got {limit}.")
    held = file_columns(task, pictures)
    folders = class_folders(spec, held[0]) if held else None
    path = None if folders is not None else find_data(spec)
    known = Labels(tuple(labels) if labels else None, None, _problem(problem))
    notes: list[str] = []
    told: list[str] = []
    if path is not None and path.suffix.lower() == ".npz":
        # Whatever the graph's input is called, DATA calls it image, or audio.
        wanted = held[:1] or inputs
        own = _columns_of(spec, task, pictures) if held else None
        other = _no_class(own)
        notes += check_arrays(path, columns or {}, wanted, labels_wanted=labels_wanted, other=other)
        rows: Iterator[_Row] = array_rows(path, columns or {}, wanted)
        if other is not None or own is ONLY_PICTURES:
            # Numbers of classes would be taken for texts, masks or boxes.
            rows = ((row, None, None) for row, _, _ in rows)
    else:
        read = _columns_of(spec, task, pictures)
        table, mapping = _table(spec, path, folders, task, held, columns or {})
        chosen = choose_columns(table, read, mapping, known, labels_wanted=labels_wanted)
        notes += chosen.notes
        told = table.told
        rows = table_rows(table, read, chosen, known)
    samples = _collect(rows, task, spec, role, limit, seed, frozenset(exclude), known, notes)
    return replace(samples, notes=(*samples.notes, *told)) if told else samples


def check_data(
    spec: str,
    task: str,
    *,
    columns: Mapping[str, str] | None = None,
    labels: Sequence[str] | None = None,
    inputs: Sequence[str] = (),
    labels_wanted: bool = False,
    pictures: bool | None = None,
) -> None:
    """Look at the path, the names of the columns and the first row of DATA, and at nothing more.

    For the time before an original model is loaded; of a data set id only whether something could
    read it. Raises as `read_samples` does.
    """
    held = file_columns(task, pictures)
    folders = class_folders(spec, held[0]) if held else None
    path = None if folders is not None else find_data(spec)
    if path is not None and path.suffix.lower() == ".npz":
        own = _columns_of(spec, task, pictures) if held else None
        check_arrays(
            path,
            columns or {},
            held[:1] or inputs,
            labels_wanted=labels_wanted,
            other=_no_class(own),
        )
        return
    read = _columns_of(spec, task, pictures)
    if path is None and folders is None:
        require_datasets(spec)
        return
    table, mapping = _table(spec, path, folders, task, held, columns or {})
    known = Labels(tuple(labels) if labels else None, None, None)
    chosen = choose_columns(table, read, mapping, known, labels_wanted=labels_wanted)
    check_table(table, chosen.names)


def check_path(spec: str) -> None:
    """Look whether DATA is there and has a head that can be read, for whatever task."""
    if class_folders(spec) is not None:
        return
    path = find_data(spec)
    if path is None:
        require_datasets(spec)
    elif path.suffix.lower() != ".npz":
        open_table(spec, path)


def comes_from_afar(spec: str) -> bool:
    """Whether DATA is a data set id, which is read over a network."""
    return class_folders(spec) is None and find_data(spec) is None


def _table(
    spec: str,
    path: Path | None,
    folders: Table | None,
    task: str,
    held: Sequence[str],
    mapping: Mapping[str, str],
) -> tuple[Table, Mapping[str, str]]:
    """The rows of DATA that is no .npz, and the columns that are to map, as they are called."""
    if folders is not None:
        named = [mapping.get(name, name) for name in held]
        return with_paths(folders, named, None, kind=held[0]), mapping
    if not held:
        return open_table(spec, path), mapping
    return picture_table(spec, path, task, held, mapping)


def _columns_of(spec: str, task: str, pictures: bool | None) -> TaskColumns:
    if pictures and task not in FILE_COLUMNS:
        return ONLY_PICTURES
    if task not in TASK_COLUMNS or (pictures is False and task in FILE_COLUMNS):
        raise ConfigError(
            f"The task {task} reads arrays, got {spec}.",
            hint="Write an .npz with one array per input, first axis = samples.",
        )
    return TASK_COLUMNS[task]


def _no_class(read: TaskColumns | None) -> str | None:
    """The label of a task of files that reads no numbers of classes; None for any other."""
    return None if read is None or read.read_label is class_label else read.label


def _problem(text: str | None) -> Problem | None:
    for word in ("single_label_classification", "multi_label_classification", "regression"):
        if text == word:
            return word
    return None


_Row = tuple[Inputs, Label | None, Problem | None]


def _collect(
    rows: Iterator[_Row],
    task: str,
    spec: str,
    role: Role | None,
    limit: int | None,
    seed: int,
    exclude: frozenset[str],
    known: Labels,
    notes: Sequence[str],
) -> Samples:
    # A heap of the `limit` smallest keys: reproducible, whatever the order of the file.
    kept: list[tuple[int, int, str, Inputs, Label | None]] = []
    spool = Spool()
    seen: set[int] = set()
    read = eligible = excluded = repeated = 0
    problem: Problem | None = known.problem
    for inputs, label, row_problem in rows:
        read += 1
        problem = problem or row_problem
        try:
            digest = hash_inputs(inputs)
        except UnicodeEncodeError as error:
            raise ConfigError(
                f"{spec}, row {read}: the text is not valid Unicode ({error.reason}).",
                hint="Remove the row, or the half of a surrogate pair in it.",
            ) from error
        if role is not None and role_of(digest) != role:
            continue
        if role == "verdict":
            content = content_of(digest, label)
            if content in seen:
                repeated += 1
                continue
            seen.add(content)
        eligible += 1
        if digest[:16] in exclude:
            excluded += 1
            continue
        if limit is None:
            kept.append((0, -read, digest, *_spooled(spool, inputs, label)))
            continue
        key = int.from_bytes(hashlib.sha256(f"{seed}:{digest}".encode()).digest()[:8], "big")
        if len(kept) < limit:
            heapq.heappush(kept, (-key, -read, digest, *_spooled(spool, inputs, label)))
        elif (-key, -read) > kept[0][:2]:
            item = (-key, -read, digest, *_spooled(spool, inputs, label))
            *_, gone, gone_label = heapq.heapreplace(kept, item)
            for value in (*gone.values(), gone_label):
                spool.drop(value)
    if not read:
        raise ConfigError(f"{spec} has no rows.", hint="Check how it was written.")
    kept.sort(key=lambda item: -item[1])
    found = [item[4] for item in kept]
    samples = Samples(
        task=task,
        inputs=tuple(item[3] for item in kept),
        labels=None
        if any(label is None for label in found)
        else tuple(label for label in found if label is not None),
        hashes=tuple(item[2] for item in kept),
        problem=problem,
        read=read,
        excluded=excluded,
        notes=(*notes, _repeats(repeated)) if repeated else tuple(notes),
        rows=tuple(-item[1] for item in kept),
        eligible=eligible,
        repeated=repeated,
        spool=spool,
    )
    if role == "verdict":
        require_verdict_rows(samples)
    return samples


def _spooled(spool: Spool, inputs: Inputs, label: Label | None) -> tuple[Inputs, Label | None]:
    """A row that is kept, with paths where it holds whole pictures."""
    held = {name: value for name, value in inputs.items() if isinstance(value, Stored)}
    if held:
        inputs = {**inputs, **{name: spool.keep(value) for name, value in held.items()}}
    return inputs, spool.keep(label) if isinstance(label, Stored) else label
