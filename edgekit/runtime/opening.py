"""Opens a bundle's session on this machine, or says what the machine lacks."""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping

from edgekit.core import cpu
from edgekit.core.bundle import Bundle
from edgekit.core.errors import (
    BundleCorrupt,
    BundleVersion,
    ConfigError,
    EngineUnavailable,
    MissingDependency,
    SessionError,
)
from edgekit.core.lazy import install_line
from edgekit.core.manifest import Requires
from edgekit.core.versions import version_key
from edgekit.runtime.engines import find_engine
from edgekit.runtime.model import Model
from edgekit.runtime.session import Engine, Session

# The module by which an extra shows that it is installed.
_EXTRAS: Mapping[str, str] = {
    "ort": "onnxruntime",
    "cuda": "onnxruntime",
    "openvino": "openvino",
    "text": "tokenizers",
    "vision": "PIL",
    "audio": "soundfile",
    "chat": "jinja2",
}
_ENGINE_EXTRAS = frozenset({"ort", "cuda", "openvino"})


def open_model(
    bundle: Bundle,
    *,
    engine: str | None = None,
    device: str | None = None,
    threads: int | None = None,
) -> Model:
    """See `edgekit.runtime.load`, for a bundle that is open already."""
    session = open_sessions(bundle, engine=engine, device=device, threads=threads)
    try:
        return Model(bundle, session)
    except BaseException:
        session.close()
        raise


def open_sessions(
    bundle: Bundle,
    *,
    engine: str | None = None,
    device: str | None = None,
    threads: int | None = None,
) -> Session:
    """The session of a bundle, joined of several where it has more than one component.

    Raises what `edgekit.runtime.load` does.
    """
    names = tuple(bundle.manifest.components)
    if names == ("model",):
        return open_session(bundle, engine=engine, device=device, threads=threads)
    from edgekit.runtime.joined import JoinedSession

    parts: dict[str, Session] = {}
    try:
        for name in names:
            parts[name] = open_session(
                bundle, component=name, engine=engine, device=device, threads=threads
            )
    except BaseException:
        for part in parts.values():
            part.close()
        raise
    return JoinedSession(parts)


def open_session(
    bundle: Bundle,
    *,
    component: str = "model",
    engine: str | None = None,
    device: str | None = None,
    threads: int | None = None,
) -> Session:
    """The session of one component. Raises what `edgekit.runtime.load` does."""
    if threads is not None and (isinstance(threads, bool) or threads < 1):
        raise ConfigError(f"threads is a whole number of at least 1, got {threads!r}.")
    manifest = bundle.manifest
    requires = manifest.requires
    if component not in manifest.components:
        raise SessionError(
            f"The bundle has the components {', '.join(manifest.components)}, not {component!r}.",
            hint="Upgrade edgekit on this device: pip install --upgrade edgekit-ml",
        )
    part = manifest.components[component]
    name = engine or requires.engine
    own = name == requires.engine
    _check_machine(requires)
    _check_extras(requires, own)
    found = find_engine(name)
    if not own and manifest.stage == "compiled":
        # OpenVINO 2026.4 reads some of ONNX Runtime's fused operators and answers differently.
        raise EngineUnavailable(
            f"The bundle was compiled for {requires.engine}; {name} may read it and answer"
            " differently.",
            hint=f"Compile the exported bundle for {name}, or load this one without engine=.",
        )
    if part.format not in found.FORMATS:
        raise EngineUnavailable(
            f"The {name} engine does not read {part.format}; it reads {', '.join(found.FORMATS)}.",
            hint=f"Load the bundle with engine={requires.engine!r}, or compile it for {name}.",
        )
    if own:
        _check_version(requires, found)
    options = dict(manifest.runtime.options if own else found.EXACT_OPTIONS)
    recorded = options.pop("device", "cpu")
    if not isinstance(recorded, str):
        raise BundleCorrupt(f"runtime.options.device should be a text, got {recorded!r}.")
    return found.open_session(
        bundle.path, part, options=options, device=device or recorded, threads=threads
    )


def _check_machine(requires: Requires) -> None:
    """Before an engine gets code that this CPU would die of with an illegal instruction."""
    if requires.arch is not None and requires.arch != cpu.arch():
        raise EngineUnavailable(
            f"The bundle requires the architecture {requires.arch}; this machine is {cpu.arch()}.",
            hint="Compile the bundle for a target of this architecture (see: edgekit targets).",
        )
    present = cpu.cpu_features()
    if present is None:
        # Nothing to compare with on this system: the engine's own checks are what is left.
        return
    missing = [feature for feature in requires.cpu_features if feature not in present]
    if missing:
        raise EngineUnavailable(
            f"The bundle requires the CPU features {', '.join(missing)}, which this CPU"
            f" ({cpu.cpu_model()}) lacks.",
            hint="Compile the bundle for a target without them (see: edgekit targets).",
        )


def _check_extras(requires: Requires, own_engine: bool) -> None:
    for extra in requires.extras:
        if extra not in _EXTRAS:
            raise BundleVersion(
                f"The bundle requires the extra {extra!r}, which this edgekit does not have.",
                hint="Upgrade edgekit on this device: pip install --upgrade edgekit-ml",
            )
        if extra in _ENGINE_EXTRAS and not own_engine:
            continue
        if importlib.util.find_spec(_EXTRAS[extra]) is None:
            raise MissingDependency(
                f"The bundle needs the package {_EXTRAS[extra]}, which is not installed.",
                hint=f"Run: {install_line(extra)}",
            )


def _check_version(requires: Requires, engine: Engine) -> None:
    wanted = requires.engine_min_version
    if wanted is None:
        return
    present = engine.version()
    if version_key(present) < version_key(wanted):
        raise EngineUnavailable(
            f"The bundle requires {requires.engine} {wanted} or later; {present} is installed.",
            hint=f"Run: pip install --upgrade {requires.engine}",
        )
