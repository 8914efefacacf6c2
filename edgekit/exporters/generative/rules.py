"""What a checkpoint says of how it generates, as the rules of a bundle."""

from __future__ import annotations

import copy
from typing import Any

from edgekit.core.errors import EdgekitError, ExportError
from edgekit.exporters.generative.texts import takes_spaces_out
from edgekit.runtime.generation.options import read_options
from edgekit.runtime.generation.rules import (
    CHAT_TOKENS,
    DEFAULTS,
    Chat,
    Default,
    GenerationRules,
)
from edgekit.sources.generation.specific import (
    first_of,
    ids_of,
    prefix_of,
    said_of_task,
    task_params,
)
from edgekit.sources.loaded import LoadedSource

# Options of a generation_config that change the answer and that no runtime of ours has.
_UNSUPPORTED = (
    "typical_p", "epsilon_cutoff", "eta_cutoff", "top_h", "encoder_repetition_penalty",
    "sequence_bias", "guidance_scale", "exponential_decay_length_penalty", "penalty_alpha",
    "num_beam_groups", "diversity_penalty", "force_words_ids", "constraints", "token_healing",
    "watermarking_config", "dola_layers", "stop_strings", "max_time",
)  # fmt: skip
# Families whose answers are translations, whatever the text.
_TRANSLATORS = frozenset({"marian"})


def build_rules(source: LoadedSource) -> GenerationRules:
    """The rules of a source that reads and writes texts. Raises ExportError where one lacks."""
    model: Any = source.module.model
    tokenizer = source.tokenizer
    seq2seq = bool(source.parts)
    config: Any = model.generation_config
    eos = ids_of(first_of(config.eos_token_id, getattr(tokenizer, "eos_token_id", None)))
    pad = first_of(
        config.pad_token_id,
        getattr(tokenizer, "pad_token_id", None),
        eos[0] if eos else None,
        config.bos_token_id,
    )
    if pad is None:
        raise ExportError(
            f"{source.id} names neither a padding token nor one that ends a text.",
            hint="Set eos_token_id in its generation_config.json.",
        )
    start = ids_of(first_of(config.decoder_start_token_id, config.bos_token_id)) if seq2seq else ()
    if seq2seq and not start:
        raise ExportError(
            f"{source.id} does not say which token its answers begin with.",
            hint="Set decoder_start_token_id in its generation_config.json.",
        )
    return GenerationRules(
        mode="seq2seq" if seq2seq else "decoder",
        layers=int(_decoder(source).layers),
        context=_positions(model.config),
        encoder_context=_positions(model.config) if seq2seq else None,
        eos=eos,
        pad=int(pad),
        bos=first_of(config.bos_token_id, getattr(tokenizer, "bos_token_id", None)),
        start=start,
        forced_bos=config.forced_bos_token_id,
        forced_eos=first_of(*ids_of(config.forced_eos_token_id)),
        suppress=ids_of(config.suppress_tokens),
        begin_suppress=ids_of(config.begin_suppress_tokens),
        bad_words=tuple(tuple(words) for words in config.bad_words_ids or ()),
        defaults=usable_defaults(_of_task(source))[0],
        chat=_chat(source),
        task=_task(source) if seq2seq else "text2text",
        prefix=prefix_of(source),
        cleanup=takes_spaces_out(tokenizer),
    )


def ignored_options(source: LoadedSource) -> tuple[str, ...]:
    """Sentences about what the checkpoint sets and the runtime does not do."""
    model: Any = source.module.model
    unusable = (*usable_defaults(_of_task(source))[1], *_unwritten_prefixes(source))
    said = model.generation_config.to_diff_dict()
    ignored = [name for name in _UNSUPPORTED if said.get(name) not in (None, False, 0, 0.0)]
    if not ignored:
        return unusable
    return (
        *unusable,
        f"Its generation_config sets {', '.join(ignored)}, which this runtime does not have:"
        " answers may differ from transformers' where it matters.",
    )


def _task(source: LoadedSource) -> str:
    """What the answers are called: as was asked for, else by the family."""
    if source.asked is not None:
        return source.asked.partition("_")[0]
    model: Any = source.module.model
    return "translation" if model.config.model_type in _TRANSLATORS else "text2text"


def _of_task(source: LoadedSource) -> Any:
    """The generation_config, with what is said of the task over it."""
    model: Any = source.module.model
    config = copy.deepcopy(model.generation_config)
    for name, value in said_of_task(source).items():
        if name in DEFAULTS:
            setattr(config, name, value)
    return config


def _unwritten_prefixes(source: LoadedSource) -> tuple[str, ...]:
    """That the checkpoint wants texts to begin in a way that nobody asked for."""
    found = {task: own["prefix"] for task, own in task_params(source).items() if "prefix" in own}
    if not found or "prefix" in said_of_task(source):
        return ()
    told = ", ".join(f"{prefix!r} for {task}" for task, prefix in found.items())
    return (
        f"It was trained on texts that begin with their task ({told}), and none is put before a"
        " text: write it yourself, or export with one of these names as --task.",
    )


def _decoder(source: LoadedSource) -> Any:
    return (source.parts.get("decoder") or source).module


def usable_defaults(config: Any) -> tuple[dict[str, Default], tuple[str, ...]]:
    """What a generation_config sets that a call can use, and sentences about the rest.

    A value that no call could use would make every call fail that does not replace it.
    """
    said = config.to_diff_dict()
    found: dict[str, Default] = {}
    notes: list[str] = []
    for name in DEFAULTS:
        value = said.get(name)
        if value is None:
            continue
        try:
            _read_options({name: value})
        except EdgekitError as error:
            notes.append(
                f"Its generation_config sets {name} to {value!r}, which is left out:"
                f" {error.message}"
            )
            continue
        found[name] = value
    heat = said.get("temperature")
    if found.get("do_sample") and isinstance(heat, int | float) and heat <= 0:
        # Nothing is drawn at such a temperature: who writes it wants the likeliest.
        del found["do_sample"]
        notes.append("Its answers are greedy instead of drawn at that temperature.")
    try:
        _read_options(found)
    except EdgekitError as error:
        found.pop("do_sample", None)
        notes.append(
            "Its generation_config sets do_sample with beams, which is left out, so that answers"
            f" are searched: {error.message}"
        )
    return found, tuple(notes)


def _read_options(defaults: dict[str, Default]) -> None:
    bare = GenerationRules("decoder", 1, None, (), 0, defaults=defaults)
    read_options({}, GenerationRules.read(bare.document()), task="generation")


def _positions(config: Any) -> int | None:
    for name in ("max_position_embeddings", "n_positions", "max_target_positions"):
        value = getattr(config, name, None)
        # T5's says how long its pre-training texts were; it has no positions that end.
        if (
            isinstance(value, int)
            and value > 0
            and not hasattr(config, "relative_attention_num_buckets")
        ):
            return value
    return None


def _chat(source: LoadedSource) -> Chat | None:
    tokenizer: Any = source.tokenizer
    template = getattr(tokenizer, "chat_template", None)
    if isinstance(template, dict):
        template = template.get("default")
    if not template:
        return None
    tokens = {name: getattr(tokenizer, name, None) for name in CHAT_TOKENS}
    return Chat(template, {name: str(token) for name, token in tokens.items() if token})
