"""The folder of a pruned model: written whole, and opened as the source that it is."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, cast

import torch
from torch import nn

from edgekit.core.errors import ConfigError, PruneError, SourceError, disk_errors
from edgekit.core.hashing import sha256_file
from edgekit.sources.checks import read_json
from edgekit.sources.pooling import module_folders, read_sentence_modules
from edgekit.sources.pruned.applying import apply
from edgekit.sources.pruned.families import Family, require_family
from edgekit.sources.pruned.modules import factory_of, save_module
from edgekit.sources.pruned.plan import PLAN_NAME, LayerPlan, Plan, read_plan, write_plan
from edgekit.sources.quiet import quiet

if TYPE_CHECKING:
    from transformers import PreTrainedConfig, PreTrainedModel

    from edgekit.sources.loaded import LoadedSource

WEIGHTS = "model.safetensors"
# What is not carried over: the weights of the whole model in any format, and code.
_LEFT_BEHIND = (
    ".safetensors", ".safetensors.index.json", ".bin", ".bin.index.json", ".pt", ".pth", ".ckpt",
    ".h5", ".msgpack", ".onnx", ".onnx_data", ".gguf", ".ot", ".tflite", ".mlmodel", ".py", ".pkl",
)  # fmt: skip
_LARGEST_FILE = 64 << 20


def save_pruned(original: LoadedSource, pruned: LoadedSource, plan: Plan, folder: Path) -> Plan:
    """Write a cut source into an empty folder, and return the plan as it stands there.

    `original` is the source that the plan was made for: its config, tokenizer, processors,
    generation settings and licences come along. Where the config can say what is left (fewer
    layers, one width and one number of heads for all), it does, and the folder opens with
    ``from_pretrained`` too.

    Raises PruneError for a full disk, and for a source that is no folder of Hugging Face's.
    """
    earlier = original.plan
    if earlier is not None and not earlier.written:
        # What builds the model again is the description from before its first pruning.
        plan = earlier.then(plan)
    model = cast("nn.Module", pruned.module.model)
    if original.kind == "factory":
        return _save_module(original, model, plan, folder)
    if original.folder is None or original.config is None:
        raise PruneError(
            f"{original.id} has no folder with a config.json to carry over.",
            hint="Save the model with save_pretrained, and prune that folder.",
        )
    sentence = read_sentence_modules(original.folder)
    inner = sentence.transformer if sentence else original.folder
    place = folder / inner.relative_to(original.folder)
    stated = read_json(inner / "config.json")
    described = described_config(stated, original, plan)
    config = described or stated
    config["architectures"] = [type(model).__name__]
    config["dtype"] = "float32"
    for key in ("torch_dtype", "auto_map"):
        config.pop(key, None)
    with disk_errors(PruneError, f"writing {folder}"):
        _carry_over(original.folder, folder)
        place.mkdir(parents=True, exist_ok=True)
        _save_weights(model, place)
        text = json.dumps(config, indent=2, ensure_ascii=False)
        (place / "config.json").write_text(text + "\n", encoding="utf-8")
        weights = sha256_file(place / WEIGHTS)
    final = replace(plan, weights=weights, written=described is not None)
    write_plan(final, folder)
    return final


def _save_module(original: LoadedSource, model: nn.Module, plan: Plan, folder: Path) -> Plan:
    factory, inputs = factory_of(original)
    with disk_errors(PruneError, f"writing {folder}"):
        _save_weights(model, folder)
        for path in original.license_files:
            shutil.copyfile(path, folder / path.name)
        weights = sha256_file(folder / WEIGHTS)
    final = replace(plan, weights=weights, factory=factory, inputs=inputs)
    write_plan(final, folder)
    return final


def save_weights(model: nn.Module, folder: Path) -> None:
    """Write a pruned model's weights again, after it was trained on.

    Raises ConfigError for a folder that pruning did not write, PruneError for other shapes.
    """
    if not (folder / PLAN_NAME).is_file():
        raise ConfigError(f"{folder} holds no {PLAN_NAME}.", hint="Give a folder of edgekit prune.")
    plan = read_plan(folder)
    sentence = read_sentence_modules(folder)
    place = sentence.transformer if sentence else folder
    before = _shapes(place / WEIGHTS)
    with disk_errors(PruneError, f"writing {folder}"):
        fresh = Path(tempfile.mkdtemp(prefix=".fresh-", dir=place))
        try:
            _save_weights(model, fresh)
            if _shapes(fresh / WEIGHTS) != before:
                raise PruneError(
                    f"{type(model).__name__} has other weights than {folder} holds.",
                    hint="Save the module that edgekit.source.load gave for this folder.",
                )
            write_plan(replace(plan, weights=sha256_file(fresh / WEIGHTS)), fresh)
            _swap({place / WEIGHTS: fresh / WEIGHTS, folder / PLAN_NAME: fresh / PLAN_NAME}, fresh)
        finally:
            shutil.rmtree(fresh)


def _swap(files: Mapping[Path, Path], aside: Path) -> None:
    """Put files in the place of others; whatever stops it, either all of them or none."""
    kept = {old: aside / f"before-{old.name}" for old in files}
    try:
        for old, new in files.items():
            old.rename(kept[old])
            new.rename(old)
    except BaseException:
        for old, before in kept.items():
            if before.exists():
                before.replace(old)
        raise


def described_config(
    stated: Mapping[str, object], original: LoadedSource, plan: Plan
) -> dict[str, object] | None:
    """The config of what is left, or None where no config says it."""
    if plan.tensors:
        return None
    family = require_family(plan.family)
    rows = plan.left()
    widths = {row.ffn_left for row in rows}
    if not family.described or len(widths) > 1 or _moved(family, original, plan):
        return None
    config = dict(stated)
    names = getattr(original.config, "attribute_map", {})
    if any(row.kept_heads is not None for row in rows):
        heads = _described_heads(family, original, rows)
        if heads is None:
            return None
        config |= heads
    if any(row.kept_ffn is not None for row in rows):
        config[family.config_ffn] = widths.pop()
    if len(rows) < len(plan.layers):
        own = names.get("num_hidden_layers", "num_hidden_layers")
        # Checkpoints of BART have both, and transformers reads the second after the first.
        for name in {own, *({"num_hidden_layers"} & config.keys())}:
            config[name] = len(rows)
        types = getattr(original.config, "layer_types", None)
        if types is not None:
            config["layer_types"] = [types[place] for place in plan.kept_layers]
    return config


def _moved(family: Family, original: LoadedSource, plan: Plan) -> bool:
    """Whether a layer would be built otherwise in the place that it has now."""
    if family.first_differs and plan.kept_layers[0] != 0:
        return True
    placed = family.placed is not None and bool(getattr(original.config, family.placed, False))
    return placed and plan.kept_layers != tuple(range(len(plan.kept_layers)))


def _described_heads(
    family: Family, original: LoadedSource, rows: Sequence[LayerPlan]
) -> dict[str, object] | None:
    """What a config says of one number of groups of heads, or None where it cannot say it."""
    left = {row.heads_left for row in rows}
    if family.config_heads is None or len(left) > 1:
        return None
    asking, asked = family.config_heads
    groups, config = left.pop(), cast("PreTrainedConfig", original.config)
    before, width = int(getattr(config, asking)), int(config.hidden_size)
    heads = before // rows[0].heads * groups
    # Configs are refused whose heads do not divide this width, though theirs is another.
    if width % heads:
        return None
    size = getattr(config, "head_dim", None) or width // before
    return {asking: heads, asked: groups, "head_dim": int(size)}


def cut_class(kind: type[PreTrainedModel], plan: Plan) -> type[PreTrainedModel]:
    """The class with a constructor that cuts by the plan, so that the weights left over fit."""

    def build(self: PreTrainedModel, *arguments: object, **options: object) -> None:
        kind.__init__(self, *arguments, **options)
        apply(self, plan)

    body = {"__init__": build, "__module__": kind.__module__, "__qualname__": kind.__qualname__}
    return cast("type[PreTrainedModel]", type(kind.__name__, (kind,), body))


def check_plan(plan: Plan, folder: Path, weights: Path, task: str) -> None:
    """Raise SourceError for weights that are not the plan's, or another task's head."""
    path = weights / WEIGHTS
    if not path.is_file():
        raise SourceError(f"{weights} holds no {WEIGHTS}.", hint=_again(plan))
    found = sha256_file(path)
    if found != plan.weights:
        raise SourceError(
            f"The weights in {folder} (SHA-256 {found[:12]}…) are not those that its {PLAN_NAME}"
            f" was written for ({plan.weights[:12]}…).",
            hint="Save trained weights with edgekit.source.save, or prune the original again.",
        )
    if task != plan.task:
        raise SourceError(
            f"{folder} was pruned for {plan.task}, and is opened for {task}.",
            hint=f"Leave --task away, or prune {plan.origin.id} with --task {task}.",
        )


def _again(plan: Plan) -> str:
    return f"Prune {plan.origin.id} again (edgekit prune)."


def _carry_over(source: Path, folder: Path) -> None:
    """Copy what belongs to the model but its weights; those of modules behind it come along."""
    behind = module_folders(source)
    for place in dict.fromkeys((source, *behind)):
        # A module without settings (Normalize) may have no folder.
        for path in sorted(place.iterdir()) if place.is_dir() else ():
            heavy = path.name.endswith(_LEFT_BEHIND) and place not in behind[1:]
            left = heavy or path.name == PLAN_NAME or path.name.startswith(".")
            if left or not path.is_file() or path.stat().st_size > _LARGEST_FILE:
                continue
            target = folder / path.relative_to(source)
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, target)


def _save_weights(model: nn.Module, place: Path) -> None:
    if not hasattr(model, "save_pretrained"):
        save_module(model, place / WEIGHTS)
        return
    transformer = cast("PreTrainedModel", model)
    with torch.no_grad(), quiet():
        transformer.save_pretrained(place, max_shard_size="1000GB")


def _shapes(path: Path) -> dict[str, tuple[int, ...]]:
    from safetensors import safe_open

    with safe_open(path, framework="np") as stored:
        return {name: tuple(stored.get_slice(name).get_shape()) for name in stored.keys()}  # noqa: SIM118
