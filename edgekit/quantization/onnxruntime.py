"""Quantizes for ONNX Runtime: 8-bit products, weights in blocks, rows or half precision."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from edgekit.core import cpu
from edgekit.core.bundle import Bundle
from edgekit.core.cpu import VNNI
from edgekit.core.errors import ConfigError, QuantizeError, disk_errors
from edgekit.core.lazy import require
from edgekit.core.manifest import Requires
from edgekit.core.profiles import Profile, nearest
from edgekit.core.versions import version_key
from edgekit.graph.disk import INLINE_BYTES
from edgekit.graph.onnx_files import save_proto
from edgekit.graph.onnx_half import halve
from edgekit.quantization.excluding import EXCLUDED
from edgekit.quantization.graphs.finding import Finder
from edgekit.quantization.graphs.grouping import Grouping, find_groups
from edgekit.quantization.graphs.reading import Graph, read_graph, turned_table
from edgekit.quantization.graphs.writing import Mode, Written, choose_modes, write_candidate
from edgekit.quantization.recipes import (
    Feeds,
    Group,
    KeptFloat,
    QuantizedComponent,
    Recipe,
    better_static,
)
from edgekit.runtime.engines.onnxruntime import import_onnxruntime

ENGINE = "onnxruntime"
METHODS = ("dynamic", "static", "weight-only", "float16", "auto")

# The strength of SmoothQuant that each tensor's own is looked for around.
_SMOOTH = 0.75
_ENGINE_EXTRAS = frozenset({"ort", "cuda", "openvino"})
# Where U8 × S8 would saturate, the engine turns the weights into U8 when it loads them.
_EXACT = {"session.x64quantprecision": "1"}
_NO_VNNI = (
    "The target promises no VNNI: where a processor has none, ONNX Runtime is told to add 8-bit"
    " products exactly, which is slower there."
)
_ELSEWHERE = (
    "Whether each 8-bit operator reaches an integer kernel could not be seen here: the target is"
    " another architecture."
)


def recipes(profile: Profile, method: str, bits: int | None) -> tuple[Recipe, ...]:
    """See `recipes.Quantizer.recipes`."""
    if method not in METHODS:
        raise ConfigError(f"ONNX Runtime has no method {method!r}.", hint=nearest(method, METHODS))
    made = {name: make(profile) for name, make in _RECIPES.items()}
    chosen = [
        recipe
        for name, offered in made.items()
        if method in ("auto", name)
        for recipe in offered
        if bits is None or recipe.bits == bits
    ]
    if method == "auto" and bits is None:
        # A few bits cost a small model more than they give; half precision is for its size only.
        chosen = [recipe for recipe in chosen if recipe.scheme != "weight-int4"]
    if not chosen:
        given = f"--method {method}" + (f" --bits {bits}" if bits is not None else "")
        raise ConfigError(
            f"The target {profile.name} has no {given} for ONNX Runtime on {profile.device}.",
            hint="Use --method float16." if profile.device != "cpu" else "Use --method auto.",
        )
    return tuple(chosen)


def _dynamic(profile: Profile) -> tuple[Recipe, ...]:
    if profile.device != "cpu":
        return ()
    return _by_isa(profile, Recipe("int8-dynamic", smooth=_SMOOTH), Recipe("int8-dynamic"))


def _static(profile: Profile) -> tuple[Recipe, ...]:
    if profile.device != "cpu":
        return ()
    first, second = Recipe("int8-static", smooth=_SMOOTH), Recipe("int8-static")
    if profile.arch == "arm64":
        # Its dot products multiply signed by signed numbers.
        return tuple(replace(one, activations="s8", symmetric=True) for one in (first, second))
    return _by_isa(profile, first, second)


def _by_isa(profile: Profile, *offered: Recipe) -> tuple[Recipe, ...]:
    """The recipes, and where sums of two products may saturate one of 7-bit weights."""
    if not profile.may_lack(VNNI):
        return offered
    return (*offered, replace(offered[0], reduce_range=True))


def _weight_only(profile: Profile) -> tuple[Recipe, ...]:
    if profile.device != "cpu":
        return ()
    return (Recipe("weight-int8"), Recipe("weight-int4", rounding="k-quant"), Recipe("weight-int4"))


_RECIPES: Mapping[str, Callable[[Profile], tuple[Recipe, ...]]] = {
    "dynamic": _dynamic,
    "static": _static,
    "weight-only": _weight_only,
    "float16": lambda profile: (Recipe("float16"),),
}


def _may_saturate(recipe: Recipe) -> bool:
    """Whether two products of a recipe's codes, added, may not fit 16 bits.

    With 8 bits of signed weights they may: 2 · 255 · 127 is beyond 32,767. With 7 bits they cannot,
    2 · 255 · 63 being 32,130. Unsigned weights are widened to 16 bits before they are multiplied.
    """
    return recipe.weights == "s8" and not recipe.reduce_range


def prepare(
    source: Bundle,
    name: str,
    profile: Profile,
    directory: Path,
    samples: Sequence[Feeds],
    *,
    exclude: Sequence[str] = (),
    seed: int = 0,
    progress: Callable[[str], None] = lambda text: None,
) -> OnnxPrepared:
    """See `recipes.Quantizer.prepare`. `progress` is told of calibration."""
    part = source.manifest.components[name]
    if part.format != "onnx":
        raise QuantizeError(
            f"Component {name} of {source.path} is {part.format}; ONNX Runtime reads ONNX.",
            hint="Start from the exported bundle.",
        )
    graph = read_graph(source.file(part.files[0]), directory)
    grouping = find_groups(graph, exclude)
    if not grouping.groups:
        reasons = "; ".join(sorted({one.reason for one in grouping.kept}))
        raise QuantizeError(
            f"Component {name} of {source.path} has nothing to quantize"
            + (f": {reasons}." if reasons else "."),
            hint="Only products with constant weights, convolutions and embeddings can be.",
        )
    finder = Finder(graph, grouping, samples, seed=seed, progress=progress)
    return OnnxPrepared(source, name, profile, graph, grouping, finder)


@dataclass(frozen=True)
class OnnxPrepared:
    """See `recipes.Prepared`."""

    source: Bundle
    name: str
    profile: Profile
    graph: Graph
    grouping: Grouping
    finder: Finder

    @property
    def groups(self) -> tuple[Group, ...]:
        """See `recipes.Prepared.groups`."""
        return self.grouping.groups

    def unsuited(self, recipe: Recipe) -> str | None:
        """See `recipes.Prepared.unsuited`."""
        return better_static(recipe, self.groups, "which stay in float")

    def supports(self, recipe: Recipe) -> bool:
        """See `recipes.Prepared.supports`."""
        if recipe.scheme == "bfloat16":
            return False
        # Ranges found at run time are what they are.
        return recipe.scheme != "int8-dynamic" or (
            not recipe.symmetric and recipe.calibrator == "auto"
        )

    def write(self, recipe: Recipe, directory: Path) -> QuantizedComponent:
        """See `recipes.Prepared.write`."""
        part = self.source.manifest.components[self.name]
        path = directory / part.files[0]
        # Which operators are fused depends on the processor's kernels.
        here = self.profile.arch in (None, cpu.arch())
        if recipe.scheme == "bfloat16":
            raise QuantizeError(
                "ONNX Runtime computes nothing in bfloat16 on a CPU.", hint="Use --method float16."
            )
        if recipe.scheme == "float16" and self.profile.device != "cpu":
            written = self._write_halved(recipe, path)
        else:
            written = write_candidate(
                self.graph, self.grouping, self.finder, recipe, path, judged=here
            )
        folder = Path(part.files[0]).parent
        files = tuple((folder / file).as_posix() for file in written.files)
        precision = _precision(recipe, written)
        eight = any(mode in ("dynamic", "static") for mode in written.modes.values())
        exact = eight and self.profile.may_lack(VNNI) and _may_saturate(recipe)
        return QuantizedComponent(
            component=replace(part, files=files),
            files={files[0]: "component", **dict.fromkeys(files[1:], "weights")},
            requires=self._requires(vnni=eight and self.profile.arch == "x86_64"),
            precision=precision,
            quantized_ops=written.operators,
            kept_float=written.kept,
            facts={
                "scheme": recipe.scheme,
                "precision": precision,
                "integer_kernels": dict(written.kernels),
                "smoothed_tensors": written.smoothed,
                "groups": len(self.groups),
            },
            notes=(*([_NO_VNNI] if exact else []), *([] if here else [_ELSEWHERE])),
            options={"session": _EXACT} if exact else {},
        )

    def _write_halved(self, recipe: Recipe, path: Path) -> Written:
        """The whole graph in half precision, except for the groups that the recipe raises."""
        import_onnxruntime()
        modes, kept = choose_modes(self.grouping, recipe)
        held = self._held(modes, kept)
        large = self.graph.bytes > INLINE_BYTES
        model = require("onnx", "build").load(str(self.graph.path))
        try:
            model = halve(model, large=large, keep=held)
        except ValueError as error:
            raise QuantizeError(
                f"The graph cannot be converted to half precision: {error}.",
                hint="Use --method static or dynamic, or leave the node out with --exclude.",
            ) from error
        with disk_errors(QuantizeError, f"writing {path.name}"):
            files = save_proto(model, path)
        reasons = [one for one in kept if one.node not in modes]
        operators: dict[str, int] = {}
        for node in modes:
            operator = self.grouping.sites[node].operator
            operators[operator] = operators.get(operator, 0) + 1
        return Written(files, modes, operators, tuple(reasons), {}, 0)

    def _held(self, modes: Mapping[str, Mode], kept: Sequence[KeptFloat]) -> list[str]:
        """The nodes that are kept in float on purpose, with those that turn their weights."""
        sites, graph = self.grouping.sites, self.graph
        wanted = {one.node for one in kept if one.node in sites or one.reason == EXCLUDED}
        nodes = [node for node in graph.model.graph.node if node.name in wanted - modes.keys()]
        turning = [
            graph.producers[name].name
            for node in nodes
            for name in node.input
            if turned_table(graph, name) is not None
        ]
        return [node.name for node in nodes] + turning

    def _requires(self, *, vnni: bool) -> Requires:
        before = self.source.manifest.requires
        asked = before.engine_min_version if before.engine == ENGINE else None
        versions = filter(None, (self.profile.engine_min_version, asked))
        others = tuple(item for item in before.extras if item not in _ENGINE_EXTRAS)
        feature = next((name for name in VNNI if name in self.profile.features), None)
        needed = vnni and feature is not None
        features = (*before.cpu_features, *([feature] if needed and feature else []))
        return Requires(
            engine=ENGINE,
            engine_min_version=max(versions, key=version_key, default=None),
            arch=self.profile.arch if needed else before.arch,
            cpu_features=tuple(dict.fromkeys(features)),
            extras=("cuda" if self.profile.device == "cuda" else "ort", *others),
        )


def _precision(recipe: Recipe, written: Written) -> str:
    """The row of the tolerance table: that of the least exact thing that was done."""
    modes = set(written.modes.values())
    if "blocks-4" in modes:
        return "int4"
    if modes - {"half"}:
        return "int8"
    return "fp16" if modes else "fp32"
