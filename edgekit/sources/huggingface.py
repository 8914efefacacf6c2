"""Hugging Face checkpoints, from a local folder or the hub, as loaded sources."""

from __future__ import annotations

import contextlib
import inspect
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, cast

import torch
import transformers
from torch import Tensor, nn
from transformers import AutoConfig, AutoTokenizer

from edgekit.core.errors import EdgekitError, SourceError
from edgekit.sources.checks import check_weights, read_config, refuse_remote_code
from edgekit.sources.dtypes import parse_dtype
from edgekit.sources.inputs import TEXT_AXES
from edgekit.sources.loaded import LoadedSource, license_files_in, license_of_card
from edgekit.sources.pictures import (
    PICTURE_AXES,
    TRACED_SIZE,
    load_image_processor,
    made_names,
    made_size,
    picture_batch,
)
from edgekit.sources.pooling import EMBEDDING, SentenceModules, read_sentence_modules
from edgekit.sources.quiet import quiet
from edgekit.sources.samples import sample_batch
from edgekit.sources.statehash import state_hash
from edgekit.sources.tasks import (
    LOADABLE,
    Task,
    canonical_task,
    infer_task,
    loadable_task,
    refuse_other_head,
)
from edgekit.sources.towers import (
    IMAGE_EMBEDS,
    TEXT_EMBEDS,
    TWO_TOWERS,
    ImageTower,
    TextTower,
    join,
)

if TYPE_CHECKING:
    from transformers import (
        BaseImageProcessor,
        PreTrainedConfig,
        PreTrainedModel,
        PreTrainedTokenizerBase,
    )

# Where neither the tokenizer nor the model says how long an input may be.
_FALLBACK_LENGTH = 512
# transformers writes 1e30 where no length is known.
_NO_LENGTH = 10**6
# A trace needs no more tokens than this, and attention grows with their square.
_SAMPLE_LENGTH = 48


class NamedOutputs(nn.Module):
    """A transformers model that returns only the wanted outputs, as a plain dict."""

    def __init__(self, model: nn.Module, names: tuple[str, ...]) -> None:
        super().__init__()
        self.model = model
        self.names = names

    def forward(self, **inputs: Tensor) -> dict[str, Tensor]:
        """The wanted outputs for the tokenizer's tensors."""
        outputs = self.model(**inputs)
        return {name: outputs[name] for name in self.names}


def open_folder(
    folder: Path,
    *,
    id: str,
    revision: str | None = None,
    task: str | None = None,
    dtype: str | None = None,
    trust_remote_code: bool = False,
) -> LoadedSource:
    """The checkpoint in a local folder, loaded without any network attempt.

    Raises:
        ConfigError: an unknown task or dtype, or no task can be inferred.
        SourceError: the checkpoint is incomplete, unsafe, of another kind or for another task.
    """
    wanted = parse_dtype(dtype)
    sentence = read_sentence_modules(folder)
    weights_folder = sentence.transformer if sentence else folder
    stored_config = read_config(weights_folder)
    refuse_remote_code(weights_folder, stored_config, trusted=trust_remote_code)
    chosen = _task(task, stored_config, sentence, folder)
    stored = check_weights(weights_folder)
    with quiet(), _offline(), _loading(folder):
        config = _load_config(weights_folder, trust_remote_code)
        model = _load_model(weights_folder, config, chosen, trust_remote_code)
        state = dict(model.state_dict())
        pooled = sentence if chosen.name == "feature-extraction" else None
        if pooled is None:
            module: nn.Module = NamedOutputs(model, tuple(chosen.outputs))
            output_axes = dict(chosen.outputs)
        else:
            embedder = pooled.wrap(model)
            state |= pooled.extra_state(embedder)
            module, output_axes = embedder, {EMBEDDING: ("batch",)}
        towers: dict[str, _Reading] = {}
        if config.model_type in TWO_TOWERS and chosen.name == "feature-extraction":
            towers = _read_towers(folder, config, model, trust_remote_code)
            module, reading = model, towers["image"]
        elif _reads_pictures(model, chosen):
            reading = _read_pictures(weights_folder, config, model, trust_remote_code)
            output_axes = dict.fromkeys(output_axes, ("batch",))
        else:
            tokenizer = _load_tokenizer(weights_folder, folder, trust_remote_code)
            reading = _read_texts(folder, config, model, tokenizer, chosen, pooled)
    sha256 = state_hash(state)
    del state
    module = module.to(wanted).eval().requires_grad_(False)
    whole = LoadedSource(
        kind="huggingface",
        id=id,
        revision=revision,
        sha256=sha256,
        architecture=type(model).__name__,
        parameters=sum(parameter.numel() for parameter in module.parameters()),
        dtype=stored,
        license=license_of_card(folder),
        task=chosen.name,
        module=module,
        sample_inputs=reading.sample,
        dynamic_axes=reading.axes,
        output_axes=output_axes,
        config=config,
        tokenizer=reading.tokenizer,
        folder=folder,
        labels=_labels(config) if chosen.labelled else None,
        problem_type=_problem_type(config) if chosen.labelled else None,
        max_length=reading.length,
        license_files=license_files_in(folder),
        image_processor=reading.image_processor,
    )
    return _joined(whole, model, towers) if towers else whole


def _joined(
    whole: LoadedSource, model: PreTrainedModel, towers: Mapping[str, _Reading]
) -> LoadedSource:
    modules = {"image": (ImageTower(model), IMAGE_EMBEDS), "text": (TextTower(model), TEXT_EMBEDS)}
    parts = {
        name: replace(
            whole,
            module=modules[name][0].eval(),
            sample_inputs=reading.sample,
            dynamic_axes=reading.axes,
            output_axes={modules[name][1]: ("batch",)},
            tokenizer=reading.tokenizer,
            max_length=reading.length,
            image_processor=reading.image_processor,
        )
        for name, reading in towers.items()
    }
    return join(whole, parts)


def _read_towers(
    folder: Path, config: PreTrainedConfig, model: PreTrainedModel, trusted: bool
) -> dict[str, _Reading]:
    """How both towers are fed. The text's length is its own, the sides share no setting."""
    tokenizer = _load_tokenizer(folder, folder, trusted)
    text = _read_texts(
        folder,
        config.text_config,
        model.text_model,
        tokenizer,
        LOADABLE["feature-extraction"],
        None,
    )
    wanted = ("input_ids", "attention_mask")
    return {
        "image": _read_pictures(folder, config, model, trusted),
        "text": replace(
            text,
            sample={name: text.sample[name] for name in wanted},
            axes={name: text.axes[name] for name in wanted},
        ),
    }


@dataclass(frozen=True)
class _Reading:
    """How a checkpoint is fed: what reads for it, sample tensors and their varying axes."""

    sample: dict[str, Tensor]
    axes: dict[str, dict[int, str]]
    tokenizer: PreTrainedTokenizerBase | None = None
    length: int | None = None
    image_processor: BaseImageProcessor | None = None


def _reads_pictures(model: PreTrainedModel, task: Task) -> bool:
    return task.pictures or model.main_input_name == "pixel_values"


def _read_pictures(
    folder: Path, config: PreTrainedConfig, model: PreTrainedModel, trusted: bool
) -> _Reading:
    processor = load_image_processor(folder, config, trusted=trusted)
    accepted = set(inspect.signature(model.forward).parameters)
    names = tuple(name for name in made_names(processor) if name in accepted)
    if "pixel_values" not in names:
        raise SourceError(
            f"The image processor of {folder} makes {', '.join(made_names(processor))}, and"
            f" {type(model).__name__} needs pixel_values.",
            hint="Save the image processor that belongs to the model into the folder.",
        )
    names = tuple(sorted(names, key=lambda name: name != "pixel_values"))
    fixed = made_size(processor)
    varying = ("batch",) if fixed is not None else ("batch", "height", "width")
    return _Reading(
        sample=picture_batch(
            processor, names, count=2, size=None if fixed is not None else TRACED_SIZE
        ),
        axes={
            name: {axis: symbol for axis, symbol in PICTURE_AXES[name].items() if symbol in varying}
            for name in names
        },
        image_processor=processor,
    )


def _read_texts(
    folder: Path,
    config: PreTrainedConfig,
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    task: Task,
    pooled: SentenceModules | None,
) -> _Reading:
    if pooled is not None and pooled.lowercase:
        _lowercase(tokenizer)
    if tokenizer.pad_token_id is None:
        raise SourceError(
            f"The tokenizer of {folder} has no padding token, so texts cannot be batched.",
            hint="Set one (tokenizer.pad_token = tokenizer.eos_token) and save it again.",
        )
    if task.name == "fill-mask" and tokenizer.mask_token_id is None:
        raise SourceError(
            f"The tokenizer of {folder} has no mask token, which fill-mask needs.",
            hint="Save the tokenizer that the model was trained with into the folder.",
        )
    length = _max_length(model, config, tokenizer, pooled)
    names = _input_names(model, tokenizer, folder)
    return _Reading(
        sample=sample_batch(
            tokenizer, names, task=task.name, max_length=min(length, _SAMPLE_LENGTH)
        ),
        axes={name: dict(enumerate(TEXT_AXES)) for name in names},
        tokenizer=tokenizer,
        length=length,
    )


def _task(
    name: str | None, config: Mapping[str, object], sentence: SentenceModules | None, folder: Path
) -> Task:
    listed = config.get("architectures")
    architectures = [str(item) for item in listed] if isinstance(listed, list) else []
    if name is not None:
        task = loadable_task(canonical_task(name))
        refuse_other_head(task, architectures, where=str(folder))
        return task
    if sentence is not None:
        return LOADABLE["feature-extraction"]
    return infer_task(architectures, where=str(folder))


@contextlib.contextmanager
def _offline() -> Iterator[None]:
    """Make every hub call of the libraries fail at once instead of trying the network."""
    import huggingface_hub.constants as constants

    before = constants.HF_HUB_OFFLINE
    constants.HF_HUB_OFFLINE = True
    try:
        yield
    finally:
        constants.HF_HUB_OFFLINE = before


@contextlib.contextmanager
def _loading(folder: Path) -> Iterator[None]:
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


def _load_config(folder: Path, trusted: bool) -> PreTrainedConfig:
    config = AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=trusted)
    return cast("PreTrainedConfig", config)


def _load_model(
    folder: Path, config: PreTrainedConfig, task: Task, trusted: bool
) -> PreTrainedModel:
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
    model, info = loader.from_pretrained(
        folder,
        config=config,
        dtype=torch.float32,
        local_files_only=True,
        trust_remote_code=trusted,
        output_loading_info=True,
    )
    _refuse_new_weights(model, info, folder, config, task)
    return cast("PreTrainedModel", model.eval())


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


def _load_tokenizer(folder: Path, root: Path, trusted: bool) -> PreTrainedTokenizerBase:
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


def _lowercase(tokenizer: PreTrainedTokenizerBase) -> None:
    """Lower-case texts in the tokenizer, as sentence-transformers does in front of it."""
    from tokenizers import normalizers

    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is None:
        return
    steps = [normalizers.Lowercase(), *([backend.normalizer] if backend.normalizer else [])]
    backend.normalizer = normalizers.Sequence(steps)


def _max_length(
    model: PreTrainedModel,
    config: PreTrainedConfig,
    tokenizer: PreTrainedTokenizerBase,
    sentence: SentenceModules | None,
) -> int:
    """The most tokens a text may have, special tokens included."""
    limits = [_positions(model, config)]
    if tokenizer.model_max_length < _NO_LENGTH:
        limits.append(int(tokenizer.model_max_length))
    if sentence is not None:
        limits.append(sentence.max_length)
    known = [limit for limit in limits if limit is not None and limit > 0]
    return min(known, default=_FALLBACK_LENGTH)


def _positions(model: nn.Module, config: PreTrainedConfig) -> int | None:
    for name, module in model.named_modules():
        if name.endswith("position_embeddings") and isinstance(module, nn.Embedding):
            # RoBERTa and MPNet count positions from behind the padding index.
            padding = module.padding_idx
            return module.num_embeddings - (0 if padding is None else padding + 1)
    for name in ("max_position_embeddings", "n_positions", "max_seq_len"):
        value = getattr(config, name, None)
        if isinstance(value, int) and value > 0:
            return value
    return None


def _input_names(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, folder: Path
) -> tuple[str, ...]:
    """The tokenizer's outputs that the model takes: ids first, then the mask, then the rest."""
    accepted = set(inspect.signature(model.forward).parameters)
    made = [name for name in tokenizer.model_input_names if name in accepted]
    if "input_ids" not in made or "attention_mask" not in made:
        raise SourceError(
            f"The tokenizer of {folder} makes {', '.join(tokenizer.model_input_names)}, and"
            f" {type(model).__name__} needs input_ids and attention_mask.",
            hint="Save the tokenizer that belongs to the model into the folder.",
        )
    embeddings = model.get_input_embeddings()
    rows = getattr(embeddings, "num_embeddings", None)
    if isinstance(rows, int) and len(tokenizer) > rows:
        raise SourceError(
            f"The tokenizer of {folder} knows {len(tokenizer)} tokens, the model only {rows}.",
            hint="Save the tokenizer that belongs to the model into the folder, or resize the"
            " embeddings (model.resize_token_embeddings) and save the model again.",
        )
    order = ("input_ids", "attention_mask", "token_type_ids")
    return tuple(sorted(made, key=lambda name: order.index(name) if name in order else len(order)))


def _labels(config: PreTrainedConfig) -> tuple[str, ...]:
    names = {int(index): str(name) for index, name in (config.id2label or {}).items()}
    return tuple(names.get(index, f"LABEL_{index}") for index in range(config.num_labels))


def _problem_type(config: PreTrainedConfig) -> str | None:
    stated = getattr(config, "problem_type", None)
    return str(stated) if stated else None
