"""How far ONNX Runtime optimises a graph when it is compiled, and where it rather does at load."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

from edgekit.compilers.inspection import GraphSummary
from edgekit.core import cpu
from edgekit.core.errors import CompileError, ConfigError
from edgekit.core.profiles import Profile, nearest
from edgekit.core.versions import release, version_key
from edgekit.graph.disk import raise_if_full

ENGINE = "onnxruntime"

_LEVELS = {
    "none": "ORT_DISABLE_ALL",
    "basic": "ORT_ENABLE_BASIC",
    "extended": "ORT_ENABLE_EXTENDED",
    "all": "ORT_ENABLE_ALL",
}
# As far as the machine allows, but for what is measured: how convolutions are laid out.
_AUTO = "auto"
_LAYOUT_DOMAINS = ("com.microsoft.nchwc:", "com.ms.internal.nhwc:")
# Of the operators that multiply, for the layout to be worth measuring: a transformer's one
# convolution, which cuts a picture into patches, is next to nothing of its work.
_LEAST_CONVOLUTIONS = 0.1
# What folding constants may add to the size of a graph's files.
_MOST_GROWTH, _SMALL_GROWTH = 1.05, 1 << 20
QUIET = 4  # only fatal messages: everything else comes back as an exception


@dataclass(frozen=True)
class Level:
    """How far the graph is optimised here, and why not as far as the profile asks."""

    name: str
    reason: str | None = None


def asked_level(profile: Profile) -> str:
    """How far the profile asks to optimise. Raises ConfigError for what is no level, or unsafe."""
    asked = profile.options.get(ENGINE, {}).get("offline_optimization", "extended")
    if not isinstance(asked, str) or asked not in (*_LEVELS, _AUTO):
        raise ConfigError(
            f"options.onnxruntime.offline_optimization is {asked!r}.",
            hint=nearest(str(asked), [*_LEVELS, _AUTO]),
        )
    if asked == "all" and not _is_this_machine(profile):
        raise ConfigError(
            f'offline_optimization = "all" lays the graph out for one processor; the target'
            f" {profile.name} is not exactly this machine.",
            hint='Use --target host, or --set options.onnxruntime.offline_optimization="extended".',
        )
    return asked


def level_of(profile: Profile, summary: GraphSummary, precision: str, version: str) -> Level:
    """How far the graph is optimised by this release of ONNX Runtime for a target."""
    asked = asked_level(profile)
    if asked == "none":
        return Level("none")
    measured = asked == _AUTO and lays_out(profile, summary)
    at_load = asked == _AUTO and _floats_convolve(summary)
    if asked == _AUTO:
        asked = "all" if _is_this_machine(profile) and not at_load else "extended"
    if profile.device != "cpu":
        return Level("none", "optimising here would choose kernels of the CPU provider")
    if precision == "fp16":
        return Level("none", "the CPU provider would write its conversions to float32 down")
    if profile.arch is not None and profile.arch != cpu.arch():
        return Level("none", f"this machine is {cpu.arch()}, the target {profile.arch}")
    if is_older(profile, version):
        promised = profile.engine_min_version
        return Level("none", f"the target promises {promised}, older than {version} here")
    if asked == "all" and cpu.arch() == "x86_64" and "avx512f" not in profile.features:
        # The layout's block is 16 floats with AVX-512 and 8 without (onnxruntime, mlas snchwc.cpp):
        # a file for 8 would be opened, and be wrong, where there is AVX-512.
        return Level("extended", "a list of features cannot rule AVX-512 out")
    if asked == "all" and cpu.arch() != "x86_64":
        return Level("extended", f"layouts for {cpu.arch()} differ between releases")
    if measured:
        return Level(asked, "the layout of convolutions is chosen by measuring, at load")
    if at_load:
        return Level(asked, "convolutions are laid out at load")
    return Level(asked)


def is_older(profile: Profile, version: str) -> bool:
    """Whether the target promises less than the release that is here."""
    promised = profile.engine_min_version
    return promised is not None and version_key(promised) < version_key(release(version))


def _is_this_machine(profile: Profile) -> bool:
    return profile.arch == cpu.arch() and set(profile.features) == (cpu.cpu_features() or set())


def optimise(
    ort: ModuleType,
    source: Path,
    target: Path,
    file: str,
    level: Level,
    entries: Mapping[str, str],
    *,
    large: bool,
) -> tuple[str, ...]:
    """Let ONNX Runtime write its optimised graph; the files, as the bundle names them."""
    settings = ort.SessionOptions()
    settings.log_severity_level = QUIET
    settings.intra_op_num_threads = 1
    settings.optimized_model_filepath = str(target)
    settings.graph_optimization_level = getattr(ort.GraphOptimizationLevel, _LEVELS[level.name])
    # Some decide which fusions are taken, so that they count here as much as at load.
    for key, value in entries.items():
        settings.add_session_config_entry(key, value)
    # The session is thrown away: packing weights for its kernels would be for nothing.
    settings.add_session_config_entry("session.disable_prepacking", "1")
    files: tuple[str, ...] = (file,)
    if large:
        files = (file, f"{file}.data")
        prefix = "session.optimized_model_external_initializers_"
        settings.add_session_config_entry(prefix + "file_name", f"{target.name}.data")
        settings.add_session_config_entry(prefix + "min_size_in_bytes", "1024")
    try:
        ort.InferenceSession(str(source), settings, providers=["CPUExecutionProvider"])
    except Exception as error:
        raise_if_full(target.parent)
        raise CompileError(
            f"ONNX Runtime does not take {file}: {error}.",
            hint="Export the model again; if that does not help, it uses an operator that this"
            " release does not run.",
        ) from error
    return files


def grown(before: Sequence[Path], after: Sequence[Path]) -> str | None:
    """Why the files of an optimised graph are not wanted, which are removed then.

    Where embeddings and head of a model share their weights, folding constants stores them twice.
    """
    bytes_before, bytes_after = (
        sum(path.stat().st_size for path in some) for some in (before, after)
    )
    if bytes_after <= _MOST_GROWTH * bytes_before + _SMALL_GROWTH:
        return None
    for path in after:
        path.unlink()
    return (
        f"it would take {bytes_after / 1e6:,.0f} MB instead of {bytes_before / 1e6:,.0f} MB, as"
        " where weights are stored twice"
    )


def blocked(result: GraphSummary) -> int:
    """The number of kinds of operators whose data lie in blocks made for one processor."""
    return sum(kind.startswith(_LAYOUT_DOMAINS) for kind in result.foreign)


def lays_out(profile: Profile, summary: GraphSummary) -> bool:
    """Whether it is to be measured in which layout the graph is faster.

    Not of a graph whose work is elsewhere: what its few convolutions gain no measurement shows.
    """
    share = summary.convolutions / max(1, summary.convolutions + summary.products)
    return profile.device == "cpu" and _floats_convolve(summary) and share >= _LEAST_CONVOLUTIONS


def _floats_convolve(summary: GraphSummary) -> bool:
    """Whether there are convolutions whose layout is free.

    How a quantized graph is fused is part of what was judged.
    """
    return summary.convolutions > 0 and summary.quantized is None
