"""Target profiles: what a device has, read strictly from ``targets/*.toml``.

A profile may extend another (``extends = "cpu-x86"``): tables are merged key by key, everything
else is replaced. Its keys are the fields of `Profile`; any other is refused with the nearest one.
"""

from __future__ import annotations

import difflib
import importlib.util
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from edgekit.core import cpu
from edgekit.core.errors import ConfigError
from edgekit.core.tolerance import TOLERANCES, Tolerance, tolerance_from_json

Json = Mapping[str, object]

DEVICES = ("cpu", "cuda", "gpu", "npu")
STATUSES = ("measured", "run", "built")
# Of `Profile.precisions`, those that float models are computed in.
FLOAT_PRECISIONS = ("fp32", "bf16", "fp16")
ENGINE_PACKAGES = {"onnxruntime": "onnxruntime", "openvino": "openvino"}

# The options that each engine's compiler and runtime understand; see runtime/engines/<engine>.py.
OPTION_KEYS: Mapping[str, frozenset[str]] = {
    "onnxruntime": frozenset(
        {"offline_optimization", "precision", "allow_spinning", "session", "provider_options"}
    ),
    "openvino": frozenset({"precision_hint", "performance_hint", "streams", "properties"}),
}
_TABLES: Mapping[str, frozenset[str]] = {
    "workload": frozenset({"batch", "length"}),
    "limits": frozenset({"size_mb", "rss_mb", "latency_ms"}),
}
_KEYS = frozenset(
    {
        "name", "extends", "engines", "device", "arch", "features", "engine_min_version",
        "max_opset", "threads", "precisions", "status", "workload", "limits", "tolerance",
        "static", "options",
    }
)  # fmt: skip
_DETECT = "host"


@dataclass(frozen=True)
class Profile:
    """One target. ``engines[0]`` is the default; ``threads`` 0 means all that are available."""

    name: str
    engines: tuple[str, ...]
    device: str
    arch: str | None = None
    features: tuple[str, ...] = ()
    engine_min_version: str | None = None
    max_opset: int | None = None
    threads: int = 0
    precisions: tuple[str, ...] = ("fp32",)
    status: str = "built"
    workload: Mapping[str, int] = field(default_factory=dict)
    limits: Mapping[str, float] = field(default_factory=dict)
    tolerance: Mapping[str, Tolerance] = field(default_factory=dict)
    static: Mapping[str, int] = field(default_factory=dict)
    options: Mapping[str, Json] = field(default_factory=dict)

    @property
    def engine(self) -> str:
        """The default engine."""
        return self.engines[0]

    def runs_here(self) -> bool:
        """Whether this machine's architecture and CPU features satisfy the profile.

        Says nothing of engines and accelerators: opening a session finds those out.
        """
        if self.arch is not None and self.arch != cpu.arch():
            return False
        present = cpu.cpu_features()
        return present is None or set(self.features) <= present

    def may_lack(self, features: Iterable[str]) -> bool:
        """Whether the target may be an x86 processor that has none of some CPU features."""
        return self.arch in (None, "x86_64") and not set(features) & set(self.features)

    def to_json(self) -> dict[str, object]:
        """The profile as the manifest's ``target`` holds it."""
        return {
            "name": self.name,
            "engines": list(self.engines),
            "device": self.device,
            "arch": self.arch,
            "features": list(self.features),
            "engine_min_version": self.engine_min_version,
            "max_opset": self.max_opset,
            "threads": self.threads,
            "precisions": list(self.precisions),
            "status": self.status,
            "workload": dict(self.workload),
            "limits": dict(self.limits),
            "tolerance": {name: rule.to_json() for name, rule in self.tolerance.items()},
            "static": dict(self.static),
            "options": {engine: dict(values) for engine, values in self.options.items()},
        }


def float_precision(profile: Profile) -> str:
    """The first floating-point precision of the profile: what float models are computed in."""
    return next((name for name in profile.precisions if name in FLOAT_PRECISIONS), "fp32")


def profiles_folder() -> Path:
    """The folder of the shipped profiles: in the wheel, or beside the package in a checkout."""
    package = Path(__file__).resolve().parents[1]
    inside = package / "_targets"
    return inside if inside.is_dir() else package.parent / "targets"


def profile_names() -> list[str]:
    """The names of the shipped profiles, sorted."""
    return sorted(path.stem for path in profiles_folder().glob("*.toml"))


def load_profile(name_or_path: str, *, overrides: Sequence[str] = ()) -> Profile:
    """The profile of a shipped name or of a .toml file, with ``key=value`` overrides applied.

    Raises ConfigError naming the file and the nearest valid name, key or value.
    """
    values = _read(name_or_path, seen=())
    for override in overrides:
        _apply(values, override)
    return _profile(values, name_or_path)


def list_profiles() -> list[Profile]:
    """All shipped profiles, sorted by name."""
    return [load_profile(name) for name in profile_names()]


def nearest(word: str, known: Sequence[str]) -> str:
    """A sentence that names the nearest of `known` to a mistyped word, or all of them.

    A word that was only begun is nearest to the shortest name that goes on from it.
    """
    begun = [name for name in known if len(word) > 2 and name.startswith(word)]
    close = sorted(begun, key=lambda name: (len(name), name))
    close = close or difflib.get_close_matches(word, known, n=1, cutoff=0.5)
    return f"Did you mean {close[0]!r}?" if close else f"Known: {', '.join(sorted(known))}."


def _read(name_or_path: str, seen: tuple[str, ...]) -> dict[str, object]:
    if name_or_path.endswith(".toml"):
        path = Path(name_or_path)
        if not path.is_file():
            raise ConfigError(f"There is no target profile at {path}.", hint="Check the path.")
    else:
        path = profiles_folder() / f"{name_or_path}.toml"
        if "/" in name_or_path or not path.is_file():
            raise ConfigError(
                f"There is no target profile {name_or_path!r}.",
                hint=nearest(name_or_path, profile_names()) + " A path ends in .toml.",
            )
    place = str(path.resolve())
    if place in seen:
        raise ConfigError(f"The target profile {path} extends itself.")
    try:
        values: dict[str, object] = tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} is not valid TOML: {error}.") from error
    _refuse_unknown(values, _KEYS, str(path))
    parent = values.pop("extends", None)
    if parent is None:
        return values
    if not isinstance(parent, str):
        raise ConfigError(f"{path}: extends is the name of a profile, got {parent!r}.")
    if parent.endswith(".toml"):
        # Beside the file that names it, wherever the command was started.
        parent = str(path.parent / parent)
    base = _read(parent, (*seen, place))
    # What was measured on the parent says nothing of its child.
    base.pop("status", None)
    return _merge(base, values)


def _merge(base: Mapping[str, object], over: Mapping[str, object]) -> dict[str, object]:
    merged = dict(base)
    for key, value in over.items():
        below = merged.get(key)
        both = isinstance(below, Mapping) and isinstance(value, Mapping)
        merged[key] = _merge(below, value) if both else value  # type: ignore[arg-type]
    return merged


def _refuse_unknown(values: Json, known: frozenset[str], where: str) -> None:
    for key in values:
        if key not in known:
            raise ConfigError(f"{where} has no key {key!r}.", hint=nearest(key, sorted(known)))


def _apply(values: dict[str, object], override: str) -> None:
    """One ``--set dotted.key=value``; the value is TOML, and a bare word is a text."""
    key, separator, text = override.partition("=")
    if not separator or not key:
        raise ConfigError(f"--set takes key=value, got {override!r}.")
    try:
        value: object = tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        value = text
    *path, last = key.split(".")
    place = values
    for part in path:
        below = place.get(part, {})
        if not isinstance(below, Mapping):
            raise ConfigError(f"--set {override}: {part!r} is a value, not a table.")
        place[part] = copied = dict(below)
        place = copied
    place[last] = value


def _profile(values: dict[str, object], where: str) -> Profile:
    _refuse_unknown(values, _KEYS - {"extends"}, where)
    device = _text(values, "device", where, DEVICES)
    engines = _texts(values, "engines", where)
    if not engines:
        raise ConfigError(f"{where}: engines must name at least one engine.")
    precisions = _texts(values, "precisions", where) or ("fp32",)
    for precision in precisions:
        if precision not in TOLERANCES:
            raise ConfigError(
                f"{where}: unknown precision {precision!r}.",
                hint=nearest(precision, list(TOLERANCES)),
            )
    arch = _text(values, "arch", where) if "arch" in values else None
    features = _texts(values, "features", where)
    if arch == _DETECT:
        arch = cpu.arch()
    if features == (_DETECT,):
        features = tuple(sorted(cpu.cpu_features() or ()))
    for feature in features:
        if feature not in cpu.KNOWN_FEATURES:
            raise ConfigError(
                f"{where}: unknown CPU feature {feature!r}.",
                hint=nearest(feature, sorted(cpu.KNOWN_FEATURES)),
            )
    name = _text(values, "name", where)
    if name == _DETECT:
        engines = tuple(filter(_installed, engines)) or engines
    return Profile(
        name=name,
        engines=engines,
        device=device,
        arch=arch,
        features=features,
        engine_min_version=(
            _text(values, "engine_min_version", where) if "engine_min_version" in values else None
        ),
        max_opset=_whole(values, "max_opset", where) if "max_opset" in values else None,
        threads=_whole(values, "threads", where) if "threads" in values else 0,
        precisions=precisions,
        status=_text(values, "status", where, STATUSES) if "status" in values else "built",
        workload=_wholes(values, "workload", where),
        limits=_limits(values, where),
        tolerance=_tolerance(values, where),
        static=_wholes(values, "static", where),
        options=_options(values, where),
    )


def _installed(engine: str) -> bool:
    # An engine of a third party brings its own package: only ours can be looked up by name.
    package = ENGINE_PACKAGES.get(engine)
    return package is None or importlib.util.find_spec(package) is not None


def _text(values: Json, key: str, where: str, choices: Sequence[str] = ()) -> str:
    value = values.get(key)
    if not isinstance(value, str) or not value:
        raise ConfigError(f"{where}: {key} should be a text, got {value!r}.")
    if choices and value not in choices:
        raise ConfigError(f"{where}: {key} is {value!r}.", hint=nearest(value, choices))
    return value


def _texts(values: Json, key: str, where: str) -> tuple[str, ...]:
    value = values.get(key, [])
    if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
        raise ConfigError(f"{where}: {key} should be a list of texts, got {value!r}.")
    return tuple(value)


def _whole(values: Json, key: str, where: str) -> int:
    value = values.get(key)
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise ConfigError(f"{where}: {key} should be a whole number of at least 0, got {value!r}.")
    return value


def _table(values: Json, key: str, where: str) -> Json:
    value = values.get(key, {})
    if not isinstance(value, Mapping):
        raise ConfigError(f"{where}: {key} should be a table, got {value!r}.")
    if key in _TABLES:
        _refuse_unknown(value, _TABLES[key], f"{where}: {key}")
    return value


def _wholes(values: Json, key: str, where: str) -> dict[str, int]:
    table = _table(values, key, where)
    return {name: _whole(table, name, f"{where}: {key}") for name in table}


def _limits(values: Json, where: str) -> dict[str, float]:
    limits: dict[str, float] = {}
    for name, value in _table(values, "limits", where).items():
        if isinstance(value, bool) or not isinstance(value, (int, float)) or value <= 0:
            raise ConfigError(f"{where}: limits.{name} should be above 0, got {value!r}.")
        limits[name] = float(value)
    return limits


def _tolerance(values: Json, where: str) -> dict[str, Tolerance]:
    rules: dict[str, Tolerance] = {}
    for precision, rule in _table(values, "tolerance", where).items():
        if precision not in TOLERANCES or not isinstance(rule, Mapping):
            raise ConfigError(
                f"{where}: tolerance.{precision} is not a table of a known precision.",
                hint=nearest(precision, list(TOLERANCES)),
            )
        rules[precision] = tolerance_from_json(rule)
    return rules


def _options(values: Json, where: str) -> dict[str, Json]:
    options: dict[str, Json] = {}
    for engine, table in _table(values, "options", where).items():
        if not isinstance(table, Mapping):
            raise ConfigError(f"{where}: options.{engine} should be a table, got {table!r}.")
        if engine in OPTION_KEYS:
            _refuse_unknown(table, OPTION_KEYS[engine], f"{where}: options.{engine}")
        options[engine] = table
    return options
