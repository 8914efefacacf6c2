"""Hugging Face checkpoints, from a local folder or the hub, as loaded sources."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from torch import Tensor, nn

from edgekit.sources.checkpoints import load_config, load_model, load_tokenizer, loading, offline
from edgekit.sources.checks import check_weights, read_config, refuse_remote_code
from edgekit.sources.dtypes import parse_dtype
from edgekit.sources.generation.reading import generated_source
from edgekit.sources.loaded import LoadedSource, license_files_in, license_of_card
from edgekit.sources.pooling import EMBEDDING, SentenceModules, read_sentence_modules
from edgekit.sources.pruned.folder import check_plan
from edgekit.sources.pruned.plan import has_plan, read_plan
from edgekit.sources.quiet import quiet
from edgekit.sources.readings import (
    Reading,
    read_generated,
    read_pictures,
    read_sounds,
    read_speech,
    read_texts,
    read_towers,
    reads_pictures,
    reads_sounds,
)
from edgekit.sources.statehash import state_hash
from edgekit.sources.tasks import (
    LOADABLE,
    Task,
    canonical_task,
    infer_task,
    loadable_task,
    narrower_task,
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
    from transformers import PreTrainedConfig, PreTrainedModel


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
    plan = read_plan(folder) if has_plan(folder) else None
    chosen = _task(task or (plan.task if plan else None), stored_config, sentence, folder)
    stored = check_weights(weights_folder)
    if plan is not None:
        check_plan(plan, folder, weights_folder, chosen.name)
    with quiet(), offline(), loading(folder):
        config = load_config(weights_folder, trust_remote_code)
        model = load_model(weights_folder, config, chosen, trust_remote_code, plan)
        state = dict(model.state_dict())
        pooled = sentence if chosen.name == "feature-extraction" else None
        if pooled is None:
            module: nn.Module = NamedOutputs(model, tuple(chosen.outputs))
            output_axes = dict(chosen.outputs)
        else:
            embedder = pooled.wrap(model)
            state |= pooled.extra_state(embedder)
            module, output_axes = embedder, {EMBEDDING: ("batch",)}
        towers: dict[str, Reading] = {}
        if config.model_type in TWO_TOWERS and chosen.name == "feature-extraction":
            towers = read_towers(folder, config, model, trust_remote_code)
            module, reading = model, towers["image"]
        elif chosen.generative and chosen.sounds:
            reading = read_speech(weights_folder, config, model, trust_remote_code)
        elif chosen.generative:
            reading = read_generated(weights_folder, folder, config, model, trust_remote_code)
        elif reads_pictures(model, chosen):
            reading = read_pictures(weights_folder, config, model, trust_remote_code)
            output_axes = dict.fromkeys(output_axes, ("batch",))
        elif reads_sounds(model, chosen):
            reading = read_sounds(weights_folder, config, model, chosen, trust_remote_code)
        else:
            tokenizer = load_tokenizer(weights_folder, folder, trust_remote_code)
            reading = read_texts(folder, config, model, tokenizer, chosen, pooled)
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
        labels=_labels(config) if chosen.labelled else reading.tokens,
        problem_type=_problem_type(config) if chosen.labelled else None,
        max_length=reading.length,
        license_files=license_files_in(folder),
        image_processor=reading.image_processor,
        feature_extractor=reading.feature_extractor,
        decoder=reading.decoder,
        origin=None if plan is None else plan.origin,
        plan=plan,
        asked=narrower_task(task) if chosen.generative else None,
    )
    if chosen.generative:
        assert reading.tokenizer is not None
        with quiet():
            return generated_source(whole, model, reading.tokenizer)
    return _joined(whole, model, towers) if towers else whole


def _joined(
    whole: LoadedSource, model: PreTrainedModel, towers: Mapping[str, Reading]
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
    return replace(join(whole, parts), tokenizer=None, max_length=None)


def _task(
    name: str | None, config: Mapping[str, object], sentence: SentenceModules | None, folder: Path
) -> Task:
    listed = config.get("architectures")
    architectures = [str(item) for item in listed] if isinstance(listed, list) else []
    if name is not None:
        task = loadable_task(canonical_task(name), architectures)
        refuse_other_head(task, architectures, where=str(folder))
        return task
    if sentence is not None:
        return LOADABLE["feature-extraction"]
    return infer_task(architectures, where=str(folder))


def _labels(config: PreTrainedConfig) -> tuple[str, ...]:
    names = {int(index): str(name) for index, name in (config.id2label or {}).items()}
    return tuple(names.get(index, f"LABEL_{index}") for index in range(config.num_labels))


def _problem_type(config: PreTrainedConfig) -> str | None:
    stated = getattr(config, "problem_type", None)
    return str(stated) if stated else None
