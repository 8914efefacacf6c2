"""What the results of steps depend on, as keys of the cache."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from edgekit.core import cpu
from edgekit.core.bundle import Bundle
from edgekit.core.errors import StepError, disk_errors
from edgekit.core.hashing import canonical_json, file_hashes, sha256_bytes, sha256_file
from edgekit.core.onnx_file import model_hash, names_onnx
from edgekit.pipeline.importing import license_files
from edgekit.pipeline.provenance import LIBRARIES, versions
from edgekit.pipeline.recording import names_files
from edgekit.sources.data_pictures import class_folders

Json = dict[str, object]


def source_key(source: str, revision: str | None) -> Json | None:
    """The content of a checkpoint's folder; None for what may change without a sign of it.

    A factory is code that may import any other, and a name on a hub may mean another model
    tomorrow: their exports are made anew.
    """
    folder = Path(source).expanduser()
    if folder.is_file() and names_onnx(source):
        with disk_errors(StepError, f"reading {folder}"):
            # They go into the bundle as well.
            licenses = {file.name: sha256_file(file) for file in license_files(folder)}
        return {"source": model_hash(folder), "name": folder.name, "licenses": licenses}
    if not folder.is_dir():
        return None
    return {"source": _tree(folder), "revision": revision}


def data_key(data: str | None, *, column: str | None = None) -> object:
    """The content of a DATA file or folder ("" where none is given).

    `column` is what the task calls files of its rows, image or audio, None where rows name none.
    None for a data set id, and for a table that only names such files, in a folder or not: their
    content is elsewhere.
    """
    if data is None:
        return ""
    name, _, split = data.partition("#")
    path = Path(name).expanduser()
    if path.is_file():
        if column is not None and names_files(path):
            return None
        with disk_errors(StepError, f"reading {path}"):
            return [sha256_file(path), split]
    if column is not None:
        return _album(f"{path}#{split}" if split else str(path), column)
    return [_tree(path), split] if path.is_dir() else None


def metric_key(metric: str | None) -> str | None:
    """The metric's name ("" for the task's own); None for a function, whose code may change."""
    if metric is None:
        return ""
    return None if ":" in metric else metric


def bundle_key(bundle: Bundle) -> Json:
    """What a bundle answers, which original it is held to, and by what steps it came to be.

    Two builds may come to the same answers by different DATA, and each tells of its own.
    """
    source = bundle.manifest.source
    steps = [{**step.to_json(), "seconds": None} for step in bundle.manifest.steps]
    return {
        "steps": sha256_bytes(canonical_json(steps)),
        "input": bundle.id,
        "task": bundle.manifest.task,
        "origin": None if source is None else source.origin.sha256,
    }


def versions_key() -> Json:
    """The libraries that can change what a step writes."""
    return {"versions": dict(versions((*LIBRARIES, "nncf")))}


def host_key() -> Json:
    """The machine, for steps that choose by measuring on it."""
    features = cpu.cpu_features() or frozenset()
    return {
        "host": {
            "cpu": cpu.cpu_model(),
            "arch": cpu.arch(),
            "features": sorted(features),
            "threads": cpu.available_threads(),
        }
    }


def _album(spec: str, column: str) -> object:
    """The files of every class, exactly those that are read; None for another kind of DATA."""
    table = class_folders(spec, column)
    if table is None:
        return None
    root = Path(table.origin)
    with disk_errors(StepError, f"reading {root}"):
        return [
            [row["label"], path.relative_to(root).as_posix(), sha256_file(path)]
            for row in table.rows(table.columns)
            for path in [Path(str(row[table.columns[0]]))]
        ]


def _tree(folder: Path) -> Mapping[str, str]:
    with disk_errors(StepError, f"reading {folder}"):
        return file_hashes(folder)
