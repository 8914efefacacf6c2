"""Models of speech: how sounds become features and tokens texts, as Whisper's checkpoints say.

Both are compared with transformers' before anything is written.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from edgekit.core.errors import ExportError
from edgekit.exporters.generative.rules import usable_defaults
from edgekit.exporters.generative.texts import (
    FILES,
    Facts,
    check_spelling,
    described,
    random_answers,
)
from edgekit.exporters.processors import TOKENIZER_FILE, write_tokenizer
from edgekit.exporters.sound_parity import check_sound_processor
from edgekit.exporters.sounds import describe_sounds
from edgekit.runtime.generation.rules import GenerationRules
from edgekit.runtime.generation.speech.features import long_features
from edgekit.runtime.generation.speech.rules import TASKS, SpeechRules
from edgekit.runtime.sound.rules import read_sound_rules
from edgekit.sources.generation.specific import first_of, ids_of
from edgekit.sources.generation.whisper import FEATURES
from edgekit.sources.loaded import LoadedSource
from edgekit.sources.quiet import quiet
from edgekit.sources.sounds import compose, extract

# In units of features that are of the order of one.
_APART = 1e-4


def build_speech_processor(
    source: LoadedSource, directory: Path
) -> tuple[dict[str, object], tuple[tuple[str, str], ...], Facts]:
    """The processor, its files, and how many sounds and answers were compared.

    Raises ExportError for an extractor or a tokenizer that edgekit does not know.
    """
    tokenizer: Any = source.tokenizer
    write_tokenizer(tokenizer, directory / TOKENIZER_FILE)
    features = describe_sounds(source, [FEATURES])
    sounds = check_sound_processor(source, features) + _check_long(source, features)
    answers = _check_answers(tokenizer, directory / TOKENIZER_FILE)
    return (
        described("audio", features=features),
        FILES,
        {"processor_sounds_compared": sounds, "processor_texts_compared": answers},
    )


def build_speech_rules(source: LoadedSource) -> GenerationRules:
    """The rules of a checkpoint of Whisper. Raises ExportError for tokens that it does not name."""
    model: Any = source.module.model
    said: Any = model.generation_config
    config: Any = model.config
    start = first_of(said.decoder_start_token_id, config.decoder_start_token_id)
    eos = first_of(said.eos_token_id, config.eos_token_id)
    if start is None or eos is None:
        raise ExportError(
            f"{source.id} does not say which tokens its answers begin and end with.",
            hint="Set decoder_start_token_id and eos_token_id in its generation_config.json.",
        )
    ends = ids_of(eos)
    return GenerationRules(
        mode="speech",
        layers=int(config.decoder_layers),
        context=int(config.max_target_positions),
        eos=ends,
        pad=int(first_of(said.pad_token_id, ends[0])),
        bos=said.bos_token_id,
        start=(int(start),),
        suppress=ids_of(said.suppress_tokens),
        begin_suppress=ids_of(said.begin_suppress_tokens),
        defaults=usable_defaults(said)[0],
        cleanup=False,
        speech=_speech(source, said, int(start)).document(),
    )


def _speech(source: LoadedSource, said: Any, start: int) -> SpeechRules:
    from transformers.models.whisper.tokenization_whisper import TO_LANGUAGE_CODE

    model: Any = source.module.model
    tokenizer: Any = source.tokenizer
    extractor: Any = source.feature_extractor
    languages = {
        str(token).removeprefix("<|").removesuffix("|>"): int(number)
        for token, number in (getattr(said, "lang_to_id", None) or {}).items()
    }
    names = {name: code for name, code in TO_LANGUAGE_CODE.items() if code in languages}
    tasks = getattr(said, "task_to_id", None) or {}
    forced = getattr(said, "forced_decoder_ids", None)
    if forced is None:
        forced = getattr(model.config, "forced_decoder_ids", None)
    language = getattr(said, "language", None)
    if language is not None:
        language = str(language).lower().removeprefix("<|").removesuffix("|>")
        language = names.get(language, language)
    positions = int(model.config.max_source_positions)
    return SpeechRules(
        start=start,
        window=int(extractor.nb_max_frames),
        stride=int(extractor.nb_max_frames) // positions,
        precision=int(extractor.chunk_length) / positions,
        without_times=getattr(said, "no_timestamps_token_id", None),
        first_time=getattr(said, "max_initial_timestamp_index", None),
        languages=languages,
        names=names,
        tasks={task: int(tasks[task]) for task in TASKS if task in tasks},
        english_only=getattr(said, "is_multilingual", None) is False,
        forced=_forced(source, forced),
        special=frozenset(int(number) for number in tokenizer.all_special_ids),
        language=language,
        task=getattr(said, "task", None),
        timestamps=bool(getattr(said, "return_timestamps", False)),
    )


def _forced(source: LoadedSource, listed: Any) -> tuple[int | None, ...]:
    """The tokens behind the first one, by their places; checkpoints of 2022 list them so."""
    if not listed:
        return ()
    if [place for place, _ in listed] != list(range(1, len(listed) + 1)):
        raise ExportError(
            f"{source.id} forces tokens of its answers at the places"
            f" {', '.join(str(place) for place, _ in listed)}, which do not follow each other.",
            hint="Take forced_decoder_ids out of its generation_config.json.",
        )
    return tuple(None if token is None else int(token) for _, token in listed)


def _check_long(source: LoadedSource, features: dict[str, object]) -> int:
    """Compare what is made of a sound longer than a window, which nothing cuts or fills up."""
    rules = read_sound_rules(features)
    assert rules.window is not None
    assert source.feature_extractor is not None
    lengths = (rules.window + 1, rules.window * 5 // 4 + 77)
    with quiet():
        for length in lengths:
            wave = compose(length, length, rules.sampling_rate)
            made = extract(source.feature_extractor, [wave], truncation=False, padding="longest")
            wanted = made[FEATURES][0]
            # Blocks of odd sizes, as files are read in.
            blocks = [wave[at : at + 30_011] for at in range(0, length, 30_011)]
            found = long_features(blocks, rules, "The sound")
            if found.shape != wanted.shape or not np.abs(found - wanted).max() <= _APART:
                raise ExportError(
                    f"numpy prepares a sound of {length} samples differently from transformers.",
                    hint="The feature extractor does something that its config does not say; report"
                    " its class.",
                )
    return len(lengths)


def _check_answers(tokenizer: Any, path: Path) -> int:
    """Compare texts of random tokens, none of them a mark of time, with transformers."""
    from tokenizers import Tokenizer

    special = set(tokenizer.all_special_ids)
    marks = tokenizer.convert_tokens_to_ids("<|notimestamps|>")
    most = len(tokenizer) if marks is None else int(marks)
    words = [number for number in range(most) if number not in special]
    answers = random_answers(words)
    return check_spelling(tokenizer, Tokenizer.from_file(str(path)), answers, special=True)
