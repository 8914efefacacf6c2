"""What transformers reads of a checkpoint's folder: config, model, tokenizer, never a network."""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import torch
import transformers
from torch import nn
from transformers import AutoConfig, AutoTokenizer

from edgekit.core.errors import EdgekitError, SourceError
from edgekit.sources.pruned.folder import cut_class
from edgekit.sources.tasks import LOADABLE, Task

if TYPE_CHECKING:
    from transformers import PreTrainedConfig, PreTrainedModel, PreTrainedTokenizerBase

    from edgekit.sources.pruned.plan import Plan


@contextlib.contextmanager
def offline() -> Iterator[None]:
    """Make every hub call of the libraries fail at once instead of trying the network."""
    import huggingface_hub.constants as constants

    before = constants.HF_HUB_OFFLINE
    constants.HF_HUB_OFFLINE = True
    try:
        yield
    finally:
        constants.HF_HUB_OFFLINE = before


@contextlib.contextmanager
def loading(folder: Path) -> Iterator[None]:
    """Name the checkpoint in whatever transformers raises about it."""
    try:
        yield
    except EdgekitError:
        raise
    except MemoryError:
        raise
    except Exception as error:
        first = str(error).strip().splitlines()[0] if str(error).strip() else repr(error)
        raise SourceError(
            f"transformers could not load {folder}: {first[:300]}",
            hint="Check that the folder is complete and that it was saved for a version that"
            f" transformers {transformers.__version__} can read.",
        ) from error


def load_config(folder: Path, trusted: bool) -> PreTrainedConfig:
    """The config of a folder, `trusted` with its own code."""
    config = AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=trusted)
    return cast("PreTrainedConfig", config)


def load_model(
    folder: Path,
    config: PreTrainedConfig,
    task: Task,
    trusted: bool,
    plan: Plan | None = None,
) -> PreTrainedModel:
    """The model of a folder with the head of a task, in float32, cut by a plan of pruning.

    Raises SourceError where there is no such head, or weights of it would be random.
    """
    auto = getattr(transformers, task.auto_class)
    loader = _encoder_class(config, task) or auto
    if loader is auto and type(config) not in auto._model_mapping and not _own(config, task):
        fitting = [
            name
            for name, other in LOADABLE.items()
            if type(config) in getattr(transformers, other.auto_class)._model_mapping
        ]
        raise SourceError(
            f"A {config.model_type} model has no head for {task.name}.",
            hint=f"Pass --task with one of {', '.join(fitting)}."
            if fitting
            else "Give a module factory (file.py:factory).",
        )
    whole: type[PreTrainedModel] | None = None
    if plan is not None and not plan.written:
        whole = _class(loader, config)
        loader = cut_class(whole, plan)
    model, info = loader.from_pretrained(
        folder,
        config=config,
        dtype=torch.float32,
        local_files_only=True,
        trust_remote_code=trusted,
        output_loading_info=True,
    )
    if whole is not None:
        model.__class__ = whole
    _refuse_new_weights(model, info, folder, config, task)
    return cast("PreTrainedModel", model.eval())


def _class(loader: Any, config: PreTrainedConfig) -> type[PreTrainedModel]:
    """The class that a loader makes for a config, found without making any weights."""
    build = loader.from_config if hasattr(loader, "from_config") else loader
    with torch.device("meta"):
        return type(build(copy.deepcopy(config)))


def _encoder_class(config: PreTrainedConfig, task: Task) -> type[PreTrainedModel] | None:
    """T5EncoderModel and its like, which the auto classes do not know: they build the decoder."""
    name = (config.architectures or [""])[0]
    if task.name != "feature-extraction" or not name.endswith("EncoderModel"):
        return None
    return cast("type[PreTrainedModel] | None", getattr(transformers, name, None))


def _own(config: PreTrainedConfig, task: Task) -> bool:
    """Whether the checkpoint's own (trusted) code registers a class for the task."""
    own = getattr(config, "auto_map", None)
    return isinstance(own, Mapping) and task.auto_class in own


def _refuse_new_weights(
    model: nn.Module,
    info: Mapping[str, object],
    folder: Path,
    config: PreTrainedConfig,
    task: Task,
) -> None:
    missing = sorted(str(key) for key in cast("set[str]", info["missing_keys"]))
    only_pooler = missing and all(key.startswith("pooler.") for key in missing)
    if task.name == "feature-extraction" and only_pooler and hasattr(model, "pooler"):
        # Checkpoints with a token-level head have no pooler, and the hidden states need none.
        model.register_module("pooler", None)
        return
    mismatched = sorted(
        str(key[0]) for key in cast("set[tuple[str, ...]]", info["mismatched_keys"])
    )
    if not missing and not mismatched:
        return
    keys = missing + mismatched
    written_for = ", ".join(config.architectures or ()) or "another architecture"
    raise SourceError(
        f"{len(keys)} weights of {type(model).__name__} are not in {folder} and would be random:"
        f" {', '.join(keys[:4])}{'…' if len(keys) > 4 else ''} (the checkpoint was written for"
        f" {written_for}).",
        hint="Fine-tune the model for this task first, or pass the --task that the checkpoint"
        " was trained for.",
    )


def load_tokenizer(folder: Path, root: Path, trusted: bool) -> PreTrainedTokenizerBase:
    """The tokenizer of a folder, or of the one that holds it. Raises SourceError without one."""
    # sentence-transformers keeps it beside the transformer, hand-made folders at the root.
    places = [folder] if folder == root else [folder, root]
    names = (
        "tokenizer.json", "tokenizer_config.json", "vocab.txt", "vocab.json",
        "sentencepiece.bpe.model", "spiece.model", "spm.model", "tokenizer.model",
    )  # fmt: skip
    for place in places:
        if any((place / name).exists() for name in names):
            tokenizer = AutoTokenizer.from_pretrained(
                place, local_files_only=True, trust_remote_code=trusted
            )
            return cast("PreTrainedTokenizerBase", tokenizer)
    raise SourceError(
        f"{root} holds no tokenizer: none of {', '.join(names)}.",
        hint="Save the tokenizer that the model was trained with into the folder"
        " (tokenizer.save_pretrained).",
    )
