"""Results that were measured elsewhere, on a device without PyTorch for instance."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from edgekit.core.errors import ConfigError
from edgekit.core.measurements import Attached
from edgekit.core.reading import MAX_RESULT_BYTES, parse_json, read_record


def read_attached(path: Path | str) -> Attached:
    """The JSON of ``python -m edgekit.runtime.bench --json`` or ``edgekit bench --json``.

    Keys that this edgekit does not know are left out.

    Raises ConfigError when the file cannot be read or is no bench result.
    """
    file = Path(path)
    try:
        if file.stat().st_size > MAX_RESULT_BYTES:
            raise _no_result(path, "it is too large")
        content = file.read_bytes()
    except OSError as error:
        raise ConfigError(f"The result {path} cannot be read: {error.strerror}.") from error
    try:
        return _attached(str(path), parse_json(content))
    except ConfigError as error:
        raise _no_result(path, error.message.rstrip(".")) from error


def _attached(file: str, value: object) -> Attached:
    if not isinstance(value, dict):
        raise ConfigError("it is no JSON object")
    failure = value.get("error")
    if isinstance(failure, dict) and "contenders" not in value:
        raise ConfigError(f"it tells of a failure: {str(failure.get('message'))[:300]}")
    missing = [key for key in ("contenders", "device", "noise") if key not in value]
    if missing:
        raise ConfigError(f"it has no {missing[0]!r}")
    versions = value.get("versions")
    plain: Mapping[str, object] = {
        "file": file,
        "device": value["device"],
        # What a version is called is shown and never compared.
        "versions": {key: str(told)[:100] for key, told in versions.items()}
        if isinstance(versions, dict)
        else {},
        "contenders": value["contenders"],
        "noise": value["noise"],
    }
    return read_record(Attached, plain)


def _no_result(path: Path | str, reason: str) -> ConfigError:
    return ConfigError(
        f"{path} is no result of a bench: {reason}.",
        hint="Make one there with: python -m edgekit.runtime.bench BUNDLE --json > result.json",
    )
