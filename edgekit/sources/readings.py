"""How a checkpoint is fed: what prepares texts or pictures for it, and samples to trace with."""

from __future__ import annotations

import inspect
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from torch import Tensor, nn

from edgekit.core.errors import SourceError
from edgekit.sources.checkpoints import load_tokenizer
from edgekit.sources.inputs import TEXT_AXES
from edgekit.sources.pictures import (
    PICTURE_AXES,
    TRACED_SIZE,
    load_image_processor,
    made_names,
    made_size,
    picture_batch,
)
from edgekit.sources.pooling import SentenceModules
from edgekit.sources.samples import sample_batch
from edgekit.sources.sounds import (
    MASK,
    SOUND_AXES,
    TRACED_SAMPLES,
    load_feature_extractor,
    shortest,
    sound_batch,
    takes_waves,
    vocabulary,
)
from edgekit.sources.tasks import LOADABLE, Task

if TYPE_CHECKING:
    from transformers import (
        BaseImageProcessor,
        PreTrainedConfig,
        PreTrainedModel,
        PreTrainedTokenizerBase,
        SequenceFeatureExtractor,
    )

# Where neither the tokenizer nor the model says how long an input may be.
_FALLBACK_LENGTH = 512
# transformers writes 1e30 where no length is known.
_NO_LENGTH = 10**6
# A trace needs no more tokens than this, and attention grows with their square.
_SAMPLE_LENGTH = 48


@dataclass(frozen=True)
class Reading:
    """How a checkpoint is fed: what reads for it, sample tensors and their varying axes."""

    sample: dict[str, Tensor]
    axes: dict[str, dict[int, str]]
    tokenizer: PreTrainedTokenizerBase | None = None
    length: int | None = None
    image_processor: BaseImageProcessor | None = None
    feature_extractor: SequenceFeatureExtractor | None = None
    decoder: PreTrainedTokenizerBase | None = None
    tokens: tuple[str, ...] | None = None


def reads_pictures(model: PreTrainedModel, task: Task) -> bool:
    """Whether a model is fed with pictures."""
    return task.pictures or model.main_input_name == "pixel_values"


def read_pictures(
    folder: Path, config: PreTrainedConfig, model: PreTrainedModel, trusted: bool
) -> Reading:
    """How a model of pictures is fed. Raises SourceError for a processor of another model."""
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
    return Reading(
        sample=picture_batch(
            processor, names, count=2, size=None if fixed is not None else TRACED_SIZE
        ),
        axes={
            name: {axis: symbol for axis, symbol in PICTURE_AXES[name].items() if symbol in varying}
            for name in names
        },
        image_processor=processor,
    )


def reads_sounds(model: PreTrainedModel, task: Task) -> bool:
    """Whether a model is fed with sounds."""
    return task.sounds or model.main_input_name in ("input_values", "input_features")


def read_sounds(
    folder: Path, config: PreTrainedConfig, model: PreTrainedModel, task: Task, trusted: bool
) -> Reading:
    """How a model of sounds is fed. Raises SourceError for a task or an extractor that misfits."""
    if not task.sounds:
        raise SourceError(
            f"{type(model).__name__} reads sounds, and edgekit does not export such models for"
            f" {task.name}.",
            hint="Give a checkpoint for audio-classification or automatic-speech-recognition"
            " (CTC), or a module factory (file.py:factory).",
        )
    extractor = load_feature_extractor(folder, trusted=trusted)
    accepted = set(inspect.signature(model.forward).parameters)
    main = extractor.model_input_names[0]
    if main not in accepted:
        raise SourceError(
            f"The feature extractor of {folder} makes {main}, and {type(model).__name__} needs"
            f" {model.main_input_name}.",
            hint="Save the feature extractor that belongs to the model into the folder.",
        )
    waves = takes_waves(extractor)
    names = [main]
    if waves and MASK in accepted and extractor.return_attention_mask:
        # Where it is off, the model was trained without: zeros that fill up are sound to it.
        names.append(MASK)
    decoder = None
    if task.name == "automatic-speech-recognition":
        decoder = load_tokenizer(folder, folder, trusted)
    return Reading(
        sample=sound_batch(
            extractor, names, count=2, samples=TRACED_SAMPLES, least=shortest(config)
        ),
        axes={name: dict(SOUND_AXES) if waves else {0: "batch"} for name in names},
        feature_extractor=extractor,
        decoder=decoder,
        tokens=None if decoder is None else vocabulary(decoder, config.vocab_size),
    )


def read_speech(
    folder: Path, config: PreTrainedConfig, model: PreTrainedModel, trusted: bool
) -> Reading:
    """How a model that writes down what it hears is fed. Raises SourceError where it misfits."""
    extractor = load_feature_extractor(folder, trusted=trusted)
    frames = getattr(extractor, "nb_max_frames", None)
    wanted = 2 * int(config.max_source_positions)
    if frames != wanted or getattr(extractor, "feature_size", None) != config.num_mel_bins:
        raise SourceError(
            f"The feature extractor of {folder} makes {getattr(extractor, 'feature_size', None)}"
            f" bins and {frames} frames of a sound, and {type(model).__name__} needs"
            f" {config.num_mel_bins} and {wanted}.",
            hint="Save the feature extractor that belongs to the model into the folder.",
        )
    return Reading(
        sample={},
        axes={},
        tokenizer=load_tokenizer(folder, folder, trusted),
        length=int(config.max_target_positions),
        feature_extractor=extractor,
    )


def read_towers(
    folder: Path, config: PreTrainedConfig, model: PreTrainedModel, trusted: bool
) -> dict[str, Reading]:
    """How both towers are fed. The text's length is its own, the sides share no setting."""
    tokenizer = load_tokenizer(folder, folder, trusted)
    text = read_texts(
        folder,
        config.text_config,
        model.text_model,
        tokenizer,
        LOADABLE["feature-extraction"],
        None,
    )
    wanted = ("input_ids", "attention_mask")
    return {
        "image": read_pictures(folder, config, model, trusted),
        "text": replace(
            text,
            sample={name: text.sample[name] for name in wanted},
            axes={name: text.axes[name] for name in wanted},
        ),
    }


def read_texts(
    folder: Path,
    config: PreTrainedConfig,
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    task: Task,
    pooled: SentenceModules | None,
) -> Reading:
    """How a model of texts is fed. Raises SourceError for a tokenizer that does not fit it."""
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
    return Reading(
        sample=sample_batch(
            tokenizer, names, task=task.name, max_length=min(length, _SAMPLE_LENGTH)
        ),
        axes={name: dict(enumerate(TEXT_AXES)) for name in names},
        tokenizer=tokenizer,
        length=length,
    )


def read_generated(
    folder: Path, root: Path, config: PreTrainedConfig, model: PreTrainedModel, trusted: bool
) -> Reading:
    """How a model that generates is fed; its batches come from `edgekit.sources.generation`."""
    return Reading(
        sample={},
        axes={},
        tokenizer=load_tokenizer(folder, root, trusted),
        length=_positions(model, config),
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
