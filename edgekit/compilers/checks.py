"""The checks and rules that every compiler shares: what fits a target, and its static sizes."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace

from edgekit.compilers.inspection import GraphSummary
from edgekit.core.bundle import Bundle
from edgekit.core.errors import CompileError, ConfigError
from edgekit.core.manifest import Component, Requires, TensorSpec
from edgekit.core.profiles import FLOAT_PRECISIONS, Profile, nearest
from edgekit.core.versions import version_key

# The axis along which a text is padded; the exporter names it.
_SEQUENCE = "sequence"
_ENGINE_EXTRAS = frozenset({"ort", "cuda", "openvino"})


def refuse_unfit(
    source: Bundle,
    profile: Profile,
    *,
    engine: str,
    formats: tuple[str, ...],
    devices: tuple[str, ...],
) -> None:
    """Raise when the bundle, by its manifest, cannot become one for this engine and target.

    Raises:
        ConfigError: the engine has no such device.
        CompileError: the bundle was compiled or quantized for another engine, or requires CPU
            features that the target does not promise.
    """
    if profile.device not in devices:
        raise ConfigError(
            f"The engine {engine} has no device {profile.device!r}, which the target"
            f" {profile.name} asks for.",
            hint=f"Its devices: {', '.join(devices)}.",
        )
    manifest, requires = source.manifest, source.manifest.requires
    if manifest.stage == "compiled" and requires.engine != engine:
        raise CompileError(
            f"{source.path} is already compiled, for {requires.engine}; the target"
            f" {profile.name} runs {engine}.",
            hint="Compile the exported or quantized bundle that it was made from.",
        )
    for name, part in manifest.components.items():
        if part.format not in formats:
            raise CompileError(
                f"Component {name} of {source.path} is {part.format}, which {engine} does not"
                " read.",
                hint=f"Start from the exported bundle: {_for_target(profile)}",
            )
    if requires.arch is not None and requires.arch != profile.arch:
        raise CompileError(
            f"{source.path} was made for {requires.arch}; the target {profile.name} is"
            f" {profile.arch or 'any architecture'}.",
            hint=f"Start from the exported bundle: {_for_target(profile)}",
        )
    lacking = sorted(set(requires.cpu_features) - set(profile.features))
    if lacking:
        raise CompileError(
            f"{source.path} requires {', '.join(lacking)}, which the target {profile.name} does"
            " not promise.",
            hint=f"Start from the exported bundle: {_for_target(profile)}",
        )


def refuse_settings(profile: Profile, engine: str, key: str, known: frozenset[str]) -> None:
    """Raise ConfigError for a setting of the engine that a bundle must not hold."""
    given = profile.options.get(engine, {}).get(key, {})
    if not isinstance(given, Mapping):
        raise ConfigError(f"options.{engine}.{key} is a table, got {given!r}.")
    for name in given:
        if name not in known:
            raise ConfigError(
                f"options.{engine}.{key} has {name!r}, which edgekit does not pass on.",
                hint=nearest(str(name), sorted(known)),
            )


def refuse_values(
    profile: Profile,
    engine: str,
    *,
    counts: Sequence[str] = (),
    flags: Sequence[str] = (),
    choices: Mapping[str, Sequence[str]] | None = None,
) -> None:
    """Raise ConfigError for an option of the profile whose value the engine would not take.

    `counts` are whole numbers of at least 1, `flags` true or false, `choices` words of a list.
    """
    given = profile.options.get(engine, {})
    for key, value in given.items():
        name = f"options.{engine}.{key}"
        number = isinstance(value, int) and not isinstance(value, bool)
        if key in counts and not (number and value >= 1):  # type: ignore[operator]
            raise ConfigError(f"{name} should be a whole number of at least 1, got {value!r}.")
        if key in flags and not isinstance(value, bool):
            raise ConfigError(f"{name} should be true or false, got {value!r}.")
        known = (choices or {}).get(key)
        if known is not None and value not in known:
            raise ConfigError(f"{name} is {value!r}.", hint=nearest(str(value), known))


def judge_precision(
    source: Bundle, profile: Profile, computed: str, *, asked: bool
) -> tuple[str, ...]:
    """Notes on the precision that a bundle is `computed` in, none where an option `asked` for it.

    Raises CompileError when it is float32 and the target does not take float32.
    """
    if asked or computed not in FLOAT_PRECISIONS:
        return ()
    first = profile.precisions[0]
    if computed == "fp32" and computed not in profile.precisions:
        allowed = json.dumps([*profile.precisions, computed], separators=(",", ":"))
        raise CompileError(
            f"{source.path} computes in {computed}; the target {profile.name} takes"
            f" {', '.join(profile.precisions)}.",
            hint=f"Choose a target that takes {computed}, or allow it with --set"
            f" 'precisions={allowed}'.",
        )
    if computed == first:
        return ()
    return (
        f"{profile.name} prefers {first}, which edgekit quantize makes; this bundle computes in"
        f" {computed}.",
    )


def refuse_graph(
    source: Bundle, name: str, summary: GraphSummary, profile: Profile, *, standard_only: bool
) -> None:
    """Raise CompileError when the graph's opset or operators are beyond the target."""
    if profile.max_opset is not None and summary.opset > profile.max_opset:
        raise CompileError(
            f"Component {name} of {source.path} has opset {summary.opset}; the target"
            f" {profile.name} reads up to {profile.max_opset}.",
            hint=f"Export it again with --opset {profile.max_opset}.",
        )
    if standard_only and summary.foreign:
        shown = ", ".join(summary.foreign[:3]) + (", …" if len(summary.foreign) > 3 else "")
        raise CompileError(
            f"Component {name} of {source.path} holds operators of one engine only ({shown}); the"
            f" target {profile.name} runs {profile.engine}.",
            hint=f"Start from the exported bundle: {_for_target(profile)}",
        )


def static_sizes(source: Bundle, profile: Profile, static: Mapping[str, int]) -> dict[str, int]:
    """The size of each dimension to fix: those given, then the profile's, where the model has them.

    A profile's ``sequence`` is cut to the longest input that the model takes.

    Raises:
        ConfigError: a given dimension that no component has, a size below 1, a sequence that is
            longer than the model takes.
        CompileError: the device takes static shapes only, and a dimension has no size.
    """
    known = sorted({dim for part in source.manifest.components.values() for dim in symbols(part)})
    for dim, size in static.items():
        if dim not in known:
            raise ConfigError(
                f"No input of {source.path} has a dimension {dim!r}.",
                hint=nearest(dim, known) if known else "All its dimensions are fixed already.",
            )
        if size < 1:
            raise ConfigError(f"--static {dim}={size}: a dimension has a size of at least 1.")
    longest = _longest(source)
    if longest is not None and static.get(_SEQUENCE, 0) > longest:
        raise ConfigError(
            f"--static {_SEQUENCE}={static[_SEQUENCE]} is longer than the {longest} tokens that"
            f" {source.path} takes.",
            hint=f"Use --static {_SEQUENCE}={longest} or less.",
        )
    sizes = {dim: size for dim, size in profile.static.items() if dim in known}
    if longest is not None and _SEQUENCE in sizes:
        sizes[_SEQUENCE] = min(sizes[_SEQUENCE], longest)
    sizes |= static
    missing = [dim for dim in known if dim not in sizes]
    if missing and profile.device == "npu":
        raise CompileError(
            f"The target {profile.name} takes static shapes only, and {source.path} leaves"
            f" {', '.join(missing)} open.",
            hint="Give each a size: " + " ".join(f"--static {dim}=N" for dim in missing),
        )
    return sizes


def symbols(part: Component) -> list[str]:
    """The names of the dimensions that the component's inputs leave open, in order."""
    found = (dim for spec in part.inputs for dim in spec.shape if isinstance(dim, str))
    return list(dict.fromkeys(found))


def with_sizes(specs: tuple[TensorSpec, ...], sizes: Mapping[str, int]) -> tuple[TensorSpec, ...]:
    """The specs with the given dimensions fixed."""
    return tuple(
        replace(
            spec,
            shape=tuple(sizes.get(dim, dim) if isinstance(dim, str) else dim for dim in spec.shape),
        )
        for spec in specs
    )


def session_options(
    profile: Profile, engine: str, keys: Sequence[str], **own: object
) -> dict[str, object]:
    """The options that the bundle is opened with: the device, the profile's `keys`, and `own`.

    The profile's number of threads stands among them as ``threads``. None is left out.
    """
    asked = {**profile.options.get(engine, {}), "threads": profile.threads or None}
    options = {key: asked.get(key) for key in keys} | own
    given = {key: value for key, value in options.items() if value is not None}
    return {"device": profile.device, **given}


def make_requires(
    source: Bundle, profile: Profile, *, engine: str, extra: str, needed: str | None
) -> Requires:
    """What the new bundle asks of a device: the source's demands, for this engine.

    The oldest version of the engine is the one that is `needed`, the one that the target promises
    or the one that the source asked for, whichever is newest.
    """
    before = source.manifest.requires
    asked = before.engine_min_version if before.engine == engine else None
    versions = filter(None, (needed, profile.engine_min_version, asked))
    others = tuple(item for item in before.extras if item not in _ENGINE_EXTRAS)
    return Requires(
        engine=engine,
        engine_min_version=max(versions, key=version_key, default=None),
        arch=before.arch,
        cpu_features=before.cpu_features,
        extras=(extra, *others) if len(others) < len(before.extras) else others,
    )


def _longest(source: Bundle) -> int | None:
    processor = source.manifest.processor
    longest = processor.get("max_length") if processor else None
    return longest if isinstance(longest, int) else None


def _for_target(profile: Profile) -> str:
    return f"edgekit compile EXPORTED -o COMPILED --target {profile.name}"
