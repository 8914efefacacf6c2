"""An ONNX file that comes from somewhere else: whether it is whole, and the files it reads.

Without the onnx package and before any engine sees it: what an engine is given to open decides
which files of this machine it reads.
"""

from __future__ import annotations

import mmap
import os
import stat
from pathlib import Path

from edgekit.core._onnx_scan import external_locations, read_fields
from edgekit.core.errors import BundleCorrupt, BundleUnsafe, ConfigError, SourceError
from edgekit.core.hashing import canonical_json, sha256_bytes, sha256_file
from edgekit.core.manifest import MANIFEST_NAME
from edgekit.core.paths import safe_relative_path

SUFFIX = ".onnx"
# Fields of a ModelProto, onnx.proto.
_IR_VERSION, _GRAPH, _OPSETS = 1, 7, 8
_AGAIN = "Download or copy it again, or export the model again."


def names_onnx(spec: str) -> bool:
    """Whether a SOURCE is an ONNX file, or a bundle that may hold one, by its name alone."""
    path = Path(spec).expanduser()
    # A folder may be called so, too; a name that is too long for a path is none.
    if path.suffix.lower() == SUFFIX and not os.path.isdir(path):  # noqa: PTH112
        return True
    return (path / MANIFEST_NAME).is_file()


def check_onnx(path: Path) -> None:
    """Raise ConfigError where there is no such file, SourceError for one that is no whole ONNX."""
    try:
        info = path.stat()
    except FileNotFoundError as error:
        raise ConfigError(f"There is no file {path}.", hint="Check the path.") from error
    except OSError as error:
        raise ConfigError(
            f"{path} cannot be read: {error.strerror}.", hint="Check the path."
        ) from error
    if not stat.S_ISREG(info.st_mode):
        raise ConfigError(
            f"{path} is not a file.",
            hint="Name the .onnx file itself.",
        )
    if info.st_size == 0:
        raise SourceError(f"{path} is empty.", hint=_AGAIN)
    try:
        fault = _fault(path)
    except PermissionError as error:
        raise ConfigError(
            f"No permission to read {path}.", hint="Change the file's permissions."
        ) from error
    if fault is not None:
        raise SourceError(f"{path} {fault}", hint=_AGAIN)


def _fault(path: Path) -> str | None:
    """What is wrong with a file that should hold a ModelProto, completing a sentence."""
    with path.open("rb") as stream, mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as data:
        seen: set[int] = set()
        try:
            for number, wire, start, stop in read_fields(data, 0, len(data)):
                seen.add(number)
                # A text begins with a byte that could be one too; its second field is nonsense.
                # Behind a version there may be fields that later releases of ONNX have added.
                later = _IR_VERSION in seen and number > _LAST_FIELD
                if wire != _MODEL_FIELDS.get(number) and not later:
                    return "is not an ONNX file."
                if stop > len(data) and _IR_VERSION in seen:
                    return (
                        f"is cut short: the message needs {stop:,} bytes, the file has"
                        f" {len(data):,}."
                    )
                if stop > len(data) or stop < start:
                    return "is not an ONNX file."
        except ValueError:
            return "is not an ONNX file." if _IR_VERSION not in seen else "is cut short or damaged."
        if _IR_VERSION not in seen:
            return "is not an ONNX file."
        # Some writers put the operator sets behind the graph.
        if _GRAPH not in seen or _OPSETS not in seen:
            what = "no graph" if _GRAPH not in seen else "no operator sets"
            return f"is cut short: it holds {what}."
    return None


# Number → wire type of the fields that a ModelProto may have.
_MODEL_FIELDS = {1: 0, 2: 2, 3: 2, 4: 2, 5: 0, 6: 2, 7: 2, 8: 2, 14: 2, 20: 2, 25: 2, 26: 2}
_LAST_FIELD = 26


def model_files(path: Path) -> dict[str, Path]:
    """The files that a graph reads its weights from, by their names inside it.

    Raises SourceError for one that lies outside of the model's folder or is not there; links that
    stay inside are followed.
    """
    try:
        locations = sorted(external_locations(path))
    except BundleCorrupt as error:
        raise SourceError(
            f"{path} is cut short or damaged: {error.message}", hint=_AGAIN
        ) from error
    root = path.resolve().parent
    found: dict[str, Path] = {}
    for location in locations:
        try:
            safe_relative_path(location, f"the external data of {path.name}")
        except BundleUnsafe as error:
            raise SourceError(
                error.message,
                hint="Save the model again with its weights beside it: onnx.save(model, path,"
                " save_as_external_data=True, location='weights.data').",
            ) from error
        place = path.parent / location
        real = place.resolve()
        if not real.is_relative_to(root):
            raise SourceError(
                f"{path.name} reads weights from {location!r}, which leads out of its folder, to"
                f" {real}.",
                hint="Copy the folder with its links resolved (cp -rL) and import the copy.",
            )
        if not real.is_file():
            raise SourceError(
                f"{path.name} reads weights from {location!r}, which is missing from"
                f" {path.parent}.",
                hint="Copy the file of weights beside the model, under that name.",
            )
        if not os.access(real, os.R_OK):
            raise ConfigError(
                f"No permission to read {place}.", hint="Change the file's permissions."
            )
        found[location] = real
    return found


def model_hash(path: Path) -> str:
    """The SHA-256 of a graph together with its external weights, whatever the file is called."""
    hashes = {location: sha256_file(file) for location, file in model_files(path).items()}
    return sha256_bytes(canonical_json({"graph": sha256_file(path), "weights": hashes}))


def model_bytes(path: Path) -> int:
    """The size of a graph with its external weights, in bytes."""
    return path.stat().st_size + sum(file.stat().st_size for file in model_files(path).values())
