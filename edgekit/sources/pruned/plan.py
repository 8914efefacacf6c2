"""`pruning.json`: what was kept of a model, layer by layer, and which model it was.

A pruned model is a folder with the weights that are left and this plan. Its indices count in the
model that the folder's own ``config.json`` (or factory) describes, so that the plan can be applied
to that model again when the folder is opened.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Literal, TypeAlias, cast

from edgekit.core.errors import PruneError, SourceError, disk_errors
from edgekit.core.manifest import Origin

PLAN_NAME = "pruning.json"
FORMAT = "edgekit-pruning"
VERSION = 1

Structure: TypeAlias = Literal["heads", "ffn", "layers", "channels"]
STRUCTURES: tuple[Structure, ...] = ("heads", "ffn", "layers", "channels")
Kept: TypeAlias = tuple[int, ...]

# A plan of a thousand layers has a few MB; more is another kind of file.
_MAX_BYTES = 64 << 20
_AGAIN = "Prune the original again (edgekit prune)."


@dataclass(frozen=True)
class LayerPlan:
    """What stays of one layer; None stands for all of it.

    ``heads`` and ``ffn`` are the sizes before. Heads that share keys and values (grouped-query
    attention) count as one, the group.
    """

    name: str
    heads: int
    ffn: int
    kept_heads: Kept | None = None
    kept_ffn: Kept | None = None

    @property
    def heads_left(self) -> int:
        """How many heads (or groups of them) stay."""
        return self.heads if self.kept_heads is None else len(self.kept_heads)

    @property
    def ffn_left(self) -> int:
        """How many neurons of the feed-forward block stay."""
        return self.ffn if self.kept_ffn is None else len(self.kept_ffn)

    def to_json(self) -> dict[str, object]:
        """The record as `pruning.json` holds it."""
        return {
            "name": self.name,
            "heads": self.heads,
            "kept_heads": None if self.kept_heads is None else list(self.kept_heads),
            "ffn": self.ffn,
            "kept_ffn": None if self.kept_ffn is None else list(self.kept_ffn),
        }


@dataclass(frozen=True)
class TensorPlan:
    """Which slices of one weight stay along one axis: the channels of a convolution."""

    name: str
    axis: int
    size: int
    kept: Kept

    def to_json(self) -> dict[str, object]:
        """The record as `pruning.json` holds it."""
        return {"name": self.name, "axis": self.axis, "size": self.size, "kept": list(self.kept)}


@dataclass(frozen=True)
class Plan:
    """What was kept of a model.

    ``layers`` has a row for every layer of the model that the indices count in, ``kept_layers``
    the places of those that stay. ``tensors`` are the channels of a convolutional network.
    ``origin`` is the model that was never pruned, ``base`` the one that this was cut from (the same
    unless a pruned model was pruned again), ``weights`` the SHA-256 of the folder's weights file.
    ``task`` is the one whose head belongs to these hashes.
    ``written`` says that ``config.json`` describes the pruned model already, so that nothing is
    cut when it is opened. ``factory`` and ``inputs`` name the code of a module of one's own.
    """

    origin: Origin
    base: Origin
    family: str
    task: str
    layers: tuple[LayerPlan, ...] = ()
    kept_layers: Kept = ()
    tensors: tuple[TensorPlan, ...] = ()
    structures: tuple[Structure, ...] = ()
    method: str = ""
    weights: str = ""
    written: bool = False
    factory: str | None = None
    inputs: tuple[str, ...] = ()

    def left(self) -> tuple[LayerPlan, ...]:
        """The rows of the layers that stay, in their order."""
        return tuple(self.layers[place] for place in self.kept_layers)

    def then(self, later: Plan) -> Plan:
        """One plan for both: this one first, `later` on what it left.

        Raises PruneError where `later` was made for something else.
        """
        rows = self.left()
        fits = len(rows) == len(later.layers) and all(
            (row.heads_left, row.ffn_left) == (after.heads, after.ffn)
            for row, after in zip(rows, later.layers, strict=True)
        )
        if not fits:
            raise PruneError(
                "The plan was made for a model of other layers than the first plan leaves.",
                hint=_AGAIN,
            )
        layers = list(self.layers)
        for place, row, after in zip(self.kept_layers, rows, later.layers, strict=True):
            layers[place] = replace(
                row,
                kept_heads=_joined(row.kept_heads, after.kept_heads),
                kept_ffn=_joined(row.kept_ffn, after.kept_ffn),
            )
        return replace(
            later,
            origin=self.origin,
            layers=tuple(layers),
            kept_layers=tuple(self.kept_layers[place] for place in later.kept_layers),
            tensors=_joined_tensors(self.tensors, later.tensors),
            structures=tuple(
                one for one in STRUCTURES if one in self.structures or one in later.structures
            ),
            factory=self.factory,
            inputs=self.inputs,
        )

    def to_json(self) -> dict[str, object]:
        """The plan as `pruning.json` holds it."""
        return {
            "format": FORMAT,
            "version": VERSION,
            "origin": {"id": self.origin.id, "sha256": self.origin.sha256},
            "base": {"id": self.base.id, "sha256": self.base.sha256},
            "weights": self.weights,
            "family": self.family,
            "task": self.task,
            "structures": list(self.structures),
            "method": self.method,
            "written": self.written,
            "factory": self.factory,
            "inputs": list(self.inputs),
            "kept_layers": list(self.kept_layers),
            "layers": [row.to_json() for row in self.layers],
            "tensors": [row.to_json() for row in self.tensors],
        }


def _joined(first: Kept | None, second: Kept | None) -> Kept | None:
    if first is None or second is None:
        return first if second is None else second
    return tuple(first[place] for place in second)


def _joined_tensors(
    first: tuple[TensorPlan, ...], second: tuple[TensorPlan, ...]
) -> tuple[TensorPlan, ...]:
    joined = {(row.name, row.axis): row for row in first}
    for row in second:
        before = joined.get((row.name, row.axis))
        if before is not None:
            kept = tuple(before.kept[place] for place in row.kept)
            row = replace(row, size=before.size, kept=kept)
        joined[row.name, row.axis] = row
    return tuple(joined[key] for key in sorted(joined))


def has_plan(folder: Path) -> bool:
    """Whether a folder is one that pruning wrote."""
    return (folder / PLAN_NAME).is_file()


def write_plan(plan: Plan, folder: Path) -> None:
    """Write `pruning.json`, whole or not at all. Raises PruneError for a full disk."""
    text = json.dumps(plan.to_json(), indent=1, ensure_ascii=False)
    part = folder / f".{PLAN_NAME}.part"
    with disk_errors(PruneError, f"writing {folder / PLAN_NAME}"):
        try:
            part.write_text(text + "\n", encoding="utf-8")
            part.replace(folder / PLAN_NAME)
        finally:
            part.unlink(missing_ok=True)


def read_plan(folder: Path) -> Plan:
    """The plan in a folder. Raises SourceError for one that is damaged or of a newer version."""
    path = folder / PLAN_NAME
    try:
        if path.stat().st_size > _MAX_BYTES:
            raise SourceError(
                f"{path} has {path.stat().st_size} bytes, more than the {_MAX_BYTES} of any plan.",
                hint=_AGAIN,
            )
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise SourceError(f"{path} is not readable JSON ({error}).", hint=_AGAIN) from error
    if not isinstance(value, Mapping) or value.get("format") != FORMAT:
        raise SourceError(f"{path} is no plan of edgekit's.", hint=_AGAIN)
    if value.get("version") != VERSION:
        raise SourceError(
            f"{path} has version {value.get('version')!r}, this edgekit reads {VERSION}.",
            hint="Install the edgekit that wrote it, or a newer one.",
        )
    try:
        return _plan(cast("Mapping[str, object]", value))
    except (KeyError, TypeError, ValueError) as error:
        raise SourceError(f"{path} is damaged ({error}).", hint=_AGAIN) from error


def _plan(value: Mapping[str, object]) -> Plan:
    layers = tuple(_layer(row) for row in _rows(value["layers"]))
    structures = tuple(_text(one) for one in _list(value["structures"]))
    unknown = sorted(set(structures) - set(STRUCTURES))
    if unknown:
        raise ValueError(f"unknown structures {', '.join(unknown)}")
    factory = value["factory"]
    return Plan(
        origin=_origin(value["origin"]),
        base=_origin(value["base"]),
        family=_text(value["family"]),
        task=_text(value["task"]),
        layers=layers,
        kept_layers=_kept(value["kept_layers"], len(layers), "kept_layers") if layers else (),
        tensors=tuple(_tensor(row) for row in _rows(value["tensors"])),
        structures=cast("tuple[Structure, ...]", structures),
        method=_text(value["method"]),
        weights=_text(value["weights"]),
        written=value["written"] is True,
        factory=None if factory is None else _text(factory),
        inputs=tuple(_text(one) for one in _list(value["inputs"])),
    )


def _origin(value: object) -> Origin:
    row = _row(value)
    return Origin(_text(row["id"]), _text(row["sha256"]))


def _layer(row: Mapping[str, object]) -> LayerPlan:
    name, heads, ffn = _text(row["name"]), _size(row["heads"]), _size(row["ffn"])
    kept_heads, kept_ffn = row["kept_heads"], row["kept_ffn"]
    return LayerPlan(
        name,
        heads,
        ffn,
        None if kept_heads is None else _kept(kept_heads, heads, f"{name}.kept_heads"),
        None if kept_ffn is None else _kept(kept_ffn, ffn, f"{name}.kept_ffn"),
    )


def _tensor(row: Mapping[str, object]) -> TensorPlan:
    name, size = _text(row["name"]), _size(row["size"])
    return TensorPlan(name, _size(row["axis"], 0), size, _kept(row["kept"], size, name))


def _kept(value: object, size: int, where: str) -> Kept:
    kept = tuple(_size(one, 0) for one in _list(value))
    if not kept or kept[-1] >= size or any(low >= high for low, high in pairwise(kept)):
        raise ValueError(f"{where} is no rising list of places below {size}")
    return kept


def _size(value: object, least: int = 1) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or value < least:
        raise ValueError(f"{value!r} is no size")
    return value


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise ValueError(f"{value!r} is no text")
    return value


def _list(value: object) -> Sequence[object]:
    if not isinstance(value, list):
        raise ValueError(f"{value!r} is no list")
    return value


def _rows(value: object) -> list[Mapping[str, object]]:
    return [_row(one) for one in _list(value)]


def _row(value: object) -> Mapping[str, object]:
    if not isinstance(value, Mapping):
        raise ValueError(f"{value!r} is no object")
    return value
