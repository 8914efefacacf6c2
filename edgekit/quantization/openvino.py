"""Quantizes for OpenVINO: the converted graph, attention one operator, with NNCF's algorithms.

What its CPU plugin does with the schemes, which decides the recipes:

- "int8-static": activations and weights are integers, by ranges found in the calibration samples;
- "int8-dynamic": the weights are stored in 8 bits, and the plugin rounds the activations in groups
  of `Recipe.block` at every call, where the processor has VNNI. More exact, and on MiniLM faster
  too; convolutions have no such kernels, and are widened;
- "weight-int8", "weight-int4": the same file, and the plugin is told to leave activations alone:
  the weights are widened at every call, which saves memory and, on processors, no time;
- "float16": a matter of storage only;
- "bfloat16": the plugin is told to compute the whole graph in it. The weights are stored as what it
  would make of them: half the file, and products answer as from float32.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

import numpy as np

from edgekit.core.bundle import Bundle
from edgekit.core.errors import CompileError, QuantizeError, disk_errors
from edgekit.core.hashing import canonical_json, sha256_bytes
from edgekit.core.manifest import Component, Requires
from edgekit.core.profiles import Profile, nearest
from edgekit.core.versions import version_key
from edgekit.evaluation.counting import Counted
from edgekit.graph.disk import raise_if_full
from edgekit.graph.openvino import (
    DEVICE_CHOICE,
    convert,
    name_nodes,
    newest_opset,
    oldest_reader,
    precision_hint,
)
from edgekit.quantization.excluding import EXCLUDED
from edgekit.quantization.openvino_audit import audit
from edgekit.quantization.openvino_groups import (
    find_groups,
    is_quantized,
    title,
    weighted,
)
from edgekit.quantization.openvino_levels import raise_operators, store_half
from edgekit.quantization.openvino_nncf import (
    ATTENTION,
    compress_weights,
    make_integer,
    quantize_activations,
)
from edgekit.quantization.openvino_recipes import features_of, recipes, refusal
from edgekit.quantization.recipes import (
    Feeds,
    Group,
    KeptFloat,
    Level,
    QuantizedComponent,
    Recipe,
    better_static,
)
from edgekit.runtime.engines.openvino import import_openvino, short_reason

if TYPE_CHECKING:
    import openvino as ov

__all__ = ["ENGINE", "OpenVinoPrepared", "prepare", "recipes"]

ENGINE = "openvino"
Progress = Callable[[str], None]

_GROUP_SIZE = "DYNAMIC_QUANTIZATION_GROUP_SIZE"
_PRECISIONS: Mapping[str, str] = {"weight-int4": "int4", "float16": "fp16", "bfloat16": "bf16"}
# Tables, and what is raised to it: the most exact of 8 bits without a rounded activation.
_BY_CHANNEL = Recipe("weight-int8", weights="u8")
_WEIGHTS_ONLY: Mapping[str, int] = {"int8-dynamic": 8, "weight-int8": 8, "weight-int4": 4}
_ELSEWHERE = (
    "What the device's kernels make of each operator could not be seen here: the target is another"
    " device, or has CPU features that this machine lacks."
)


def _silent(text: str) -> None:
    """Tell nobody."""


def prepare(
    source: Bundle,
    name: str,
    profile: Profile,
    directory: Path,
    samples: Sequence[Feeds],
    *,
    exclude: Sequence[str] = (),
    seed: int = 0,
    progress: Progress = _silent,
) -> OpenVinoPrepared:
    """See `recipes.Quantizer.prepare`. Nothing here is random: `seed` changes nothing.

    `progress` is told of the conversion now, and of calibration and what else takes long later.
    """
    part = source.manifest.components[name]
    if source.manifest.stage == "quantized":
        raise QuantizeError(
            f"{source.path} is quantized already.", hint="Start from the exported bundle."
        )
    directory.mkdir(parents=True, exist_ok=True)
    # What an earlier run left was made from other samples, maybe.
    for left in directory.glob(f"{name}-*.[xb][mi][ln]"):
        left.unlink()
    xml = directory / f"{name}-float.xml"
    progress(f"Converting {name} to OpenVINO's graph")
    try:
        convert(source.file(part.files[0]), xml, inputs=part.inputs, outputs=part.outputs)
    except CompileError as error:
        raise QuantizeError(error.message, hint=error.hint) from error
    model = _read(xml)
    if is_quantized(model):
        raise QuantizeError(
            f"Component {name} of {source.path} holds quantized operators already.",
            hint="Start from the exported bundle, or from the float model.",
        )
    groups, kept = find_groups(model, exclude)
    if not groups:
        reasons = "; ".join(sorted({one.reason for one in kept}))
        raise QuantizeError(
            f"Component {name} of {source.path} has no operator that can be quantized:"
            f" {reasons or 'no product, convolution or embedding has weights of its own'}.",
            hint="Compile the bundle as it is.",
        )
    _refuse_nan(model, samples, progress)
    return OpenVinoPrepared(source, name, profile, xml, tuple(samples), groups, kept, progress)


@dataclass(frozen=True)
class OpenVinoPrepared:
    """A converted component. See `recipes.Prepared`.

    What NNCF makes of it by one set of algorithms is kept beside `xml`, with everything quantized:
    raising groups is then a matter of taking FakeQuantize nodes out.
    """

    source: Bundle
    name: str
    profile: Profile
    xml: Path
    samples: tuple[Feeds, ...]
    groups: tuple[Group, ...]
    kept: tuple[KeptFloat, ...]
    progress: Progress = _silent

    def unsuited(self, recipe: Recipe) -> str | None:
        """See `recipes.Prepared.unsuited`."""
        return better_static(recipe, self.groups, "whose weights are widened")

    def supports(self, recipe: Recipe) -> bool:
        """See `recipes.Prepared.supports`."""
        # Full bias correction runs all samples again for each operator in turn: minutes a trial,
        # for what it does to convolutions. Matrices of transformers hardly shift their outputs.
        slow = recipe.correction == "full" and not self._of_kind("convolution")
        return not slow and self._refusal(recipe) is None

    def write(self, recipe: Recipe, directory: Path) -> QuantizedComponent:
        """See `recipes.Prepared.write`."""
        refused = self._refusal(recipe)
        if refused is not None:
            raise QuantizeError(refused[0], hint=refused[1])
        levels = self._levels(recipe)
        model = self._quantized(recipe, levels)
        whole = set(self._operators()) - levels.keys()
        halved = store_half(model, sorted(whole)) if recipe.scheme == "float16" else {}
        if recipe.scheme == "bfloat16":
            store_half(model, sorted(whole), "bf16")
        raised = {name for name, level in levels.items() if level == "float16"}
        store_half(model, sorted(raised))
        part = self.source.manifest.components[self.name]
        graph = PurePosixPath(part.files[0])
        files = (str(graph.with_suffix(".xml")), str(graph.with_suffix(".bin")))
        xml = directory / files[0]
        xml.parent.mkdir(parents=True, exist_ok=True)
        name_nodes(model)
        _save(model, xml)
        below = whole if recipe.bits < 16 else set()
        activations = below - self._tables() if recipe.scheme == "int8-static" else set()
        weights = (below - activations) | {n for n, to in levels.items() if to == "weight-int8"}
        options = self._options(recipe, compressed=bool(weights - self._tables()))
        here = self.profile.device == "cpu" and self.profile.runs_here()
        found = audit(
            xml,
            activations=activations,
            weights=weights,
            bfloat16=whole if recipe.scheme == "bfloat16" else (),
            settings=_settings(options) if self.profile.device == "cpu" else {},
        )
        opset = newest_opset(model)
        return QuantizedComponent(
            component=Component("openvino-ir", files, part.inputs, part.outputs),
            files={files[0]: "component", files[1]: "weights"},
            requires=self._requires(recipe, opset, static=bool(activations)),
            precision=_PRECISIONS.get(recipe.scheme, "int8"),
            quantized_ops=halved or found.computed,
            kept_float=(*self.kept, *self._raised(levels), *found.leftovers),
            options=options,
            facts={
                "attention_operators": sum(n.get_type_name() == ATTENTION for n in model.get_ops()),
                "opset": opset,
            },
            notes=() if here or halved else (_ELSEWHERE,),
        )

    def _refusal(self, recipe: Recipe) -> tuple[str, str] | None:
        """(why a recipe cannot be written, what to do instead), None for one that can."""
        found = refusal(recipe, samples=bool(self.samples))
        if found is not None:
            return found
        others = self._tables() | self._of_kind("convolution")
        if recipe.scheme == "int8-dynamic" and others.issuperset(self._operators()):
            return (
                f"{self.source.path} has no matrix multiplication to quantize: OpenVINO rounds the"
                " activations of no other operator at each call.",
                "Use --method static.",
            )
        excluded = [one.node for one in self.kept if one.reason == EXCLUDED]
        if recipe.scheme == "bfloat16" and excluded:
            return (
                "OpenVINO computes a whole graph in bfloat16, or nothing of it: it cannot leave"
                f" {excluded[0]} in float32.",
                "Leave --exclude out, or use another --method.",
            )
        return None

    def _operators(self) -> tuple[str, ...]:
        return tuple(node for group in self.groups for node in group.nodes)

    def _tables(self) -> set[str]:
        return self._of_kind("embedding")

    def _of_kind(self, kind: str) -> set[str]:
        return {node for group in self.groups if group.kind == kind for node in group.nodes}

    def _levels(self, recipe: Recipe) -> dict[str, Level]:
        """The level of each operator that is not at the recipe's scheme."""
        known = {group.name: group for group in self.groups}
        found: dict[str, Level] = {}
        if not recipe.embeddings:
            for group in self.groups:
                if group.kind == "embedding":
                    found |= dict.fromkeys(group.nodes, "float32")
        for name, level in recipe.levels.items():
            if name not in known:
                raise QuantizeError(
                    f"{self.source.path} has no group {name!r}.", hint=nearest(name, list(known))
                )
            found |= dict.fromkeys(known[name].nodes, level)
        return found

    def _quantized(self, recipe: Recipe, levels: Mapping[str, Level]) -> ov.Model:
        if recipe.scheme in ("float16", "bfloat16"):
            return _read(self.xml)
        if recipe.scheme == "int8-static":
            return self._static(recipe, levels)
        return self._compressed(recipe, levels)

    def _static(self, recipe: Recipe, levels: Mapping[str, Level]) -> ov.Model:
        """Activations and weights rounded; tables and what is raised that far: weights only."""
        model = _read(self._base(recipe))
        tables = self._tables()
        raise_operators(model, _read(self.xml), sorted(levels.keys() - tables))
        eight = {name for name, level in levels.items() if level == "weight-int8"}
        eight |= tables - levels.keys()
        if eight:
            model = compress_weights(model, _BY_CHANNEL, 8, self._all_but(eight))
        make_integer(model)
        return model

    def _base(self, recipe: Recipe) -> Path:
        """The graph with FakeQuantize nodes everywhere, made when it is first asked for."""
        plain = replace(recipe, levels={}, embeddings=True)
        key = sha256_bytes(canonical_json({k: v for k, v in vars(plain).items() if k != "levels"}))
        xml = self.xml.with_name(f"{self.name}-{key[:16]}.xml")
        if not xml.is_file():
            ignored = self._all_but(set(self._operators()) - self._tables())
            model = quantize_activations(
                _read(self.xml), plain, self.samples, ignored, self.progress
            )
            unfinished = xml.with_name(f"unfinished-{xml.name}")
            _save(model, unfinished)
            unfinished.with_suffix(".bin").replace(xml.with_suffix(".bin"))
            # The graph last: where it is, its weights are.
            unfinished.replace(xml)
        return xml

    def _compressed(self, recipe: Recipe, levels: Mapping[str, Level]) -> ov.Model:
        """With weights of 8 or 4 bits; groups raised to "weight-int8" in a second pass."""
        wanted = set(self._operators()) - levels.keys()
        bits = _WEIGHTS_ONLY[recipe.scheme]
        self.progress(f"Storing the weights of {len(wanted)} operators in {bits} bits")
        model = compress_weights(_read(self.xml), recipe, bits, self._all_but(wanted))
        eight = {name for name, level in levels.items() if level == "weight-int8"}
        return compress_weights(model, _BY_CHANNEL, 8, self._all_but(eight)) if eight else model

    def _all_but(self, names: set[str]) -> set[str]:
        """The other operators that NNCF knows to quantize, in a group or not."""
        return {
            str(node.get_friendly_name())
            for node in _read(self.xml).get_ops()
            if node.get_friendly_name() not in names
            and (node.get_type_name() in ("MatMul", "Gather") or weighted(node) is not None)
        }

    def _raised(self, levels: Mapping[str, Level]) -> Iterator[KeptFloat]:
        for group in self.groups:
            for node in group.nodes:
                # Weights of 8 bits are quantized, whatever their activations are.
                if levels.get(node, "weight-int8") != "weight-int8":
                    yield KeptFloat(title(node), f"raised to {levels[node]}")

    def _requires(self, recipe: Recipe, opset: int, *, static: bool) -> Requires:
        """OpenVINO, and the processor's feature that the recipe relies on."""
        before, profile = self.source.manifest.requires, self.profile
        promised = [oldest_reader(opset), *filter(None, [profile.engine_min_version])]
        features = features_of(recipe, profile, static=static)
        others = tuple(extra for extra in before.extras if extra not in ("ort", "cuda", ENGINE))
        return Requires(
            engine=ENGINE,
            engine_min_version=max(promised, key=version_key),
            arch=profile.arch if features else before.arch,
            cpu_features=tuple(dict.fromkeys((*before.cpu_features, *features))),
            extras=(ENGINE, *others) if before.extras else (),
        )

    def _options(self, recipe: Recipe, *, compressed: bool) -> dict[str, object]:
        """The precision of what stays float, and whether the plugin may round activations."""
        hint = "bf16" if recipe.scheme == "bfloat16" else precision_hint(self.profile)
        options: dict[str, object] = {} if hint == DEVICE_CHOICE else {"precision_hint": hint}
        if compressed and self.profile.device == "cpu":
            size = 0 if recipe.scheme in ("weight-int8", "weight-int4") else recipe.block
            options["properties"] = {_GROUP_SIZE: str(size)}
        return options


def _settings(options: Mapping[str, object]) -> dict[str, str]:
    """The properties that a session with these options asks its device for."""
    hint, given = options.get("precision_hint"), options.get("properties")
    settings = {} if hint is None else {"INFERENCE_PRECISION_HINT": str(hint)}
    return settings | (dict(given) if isinstance(given, Mapping) else {})


def _read(xml: Path) -> ov.Model:
    return import_openvino().Core().read_model(str(xml))


def _save(model: ov.Model, xml: Path) -> None:
    with disk_errors(QuantizeError, f"writing {xml.name}"):
        try:
            import_openvino().save_model(model, str(xml), compress_to_fp16=False)
        except Exception as error:  # OpenVINO raises RuntimeError and its own
            raise_if_full(xml.parent)
            raise QuantizeError(
                f"OpenVINO cannot write {xml.name}: {short_reason(error)}",
                hint="Check the output folder.",
            ) from error


def _refuse_nan(model: ov.Model, samples: Sequence[Feeds], progress: Progress) -> None:
    """Run the float graph over the samples: ranges found in NaN are none."""
    if not samples:
        return
    settings = {"INFERENCE_PRECISION_HINT": "f32"}
    compiled = import_openvino().Core().compile_model(model, "CPU", settings)
    told = Counted(progress, len(samples))
    for row, feeds in enumerate(samples):
        told.tell(f"Ran the float graph on {row} of {len(samples)} samples", row)
        # Both are looked at: an activation or a pooling may swallow a NaN.
        made = {str(port.get_any_name()): found for port, found in compiled(dict(feeds)).items()}
        for what, values in {**feeds, **made}.items():
            if not np.isfinite(values).all():
                raise QuantizeError(
                    f"Row {row} of the calibration data has NaN or infinity in {what}.",
                    hint="Leave the row out, or repair the model if the row is sound.",
                )
