"""What one call asks of a model of speech besides what every generation can be asked."""

from __future__ import annotations

import difflib
import math
from collections.abc import Mapping
from dataclasses import dataclass

from edgekit.core.errors import ConfigError
from edgekit.runtime.fields import short
from edgekit.runtime.generation.options import Options, read_options
from edgekit.runtime.generation.rules import GenerationRules
from edgekit.runtime.generation.speech.rules import TASKS, SpeechRules
from edgekit.runtime.options import option

#: Options of a call that only speech has.
SPEECH_OPTIONS = (
    "language", "task", "return_timestamps", "return_language", "no_speech_threshold",
    "logprob_threshold", "generate_kwargs",
)  # fmt: skip


@dataclass(frozen=True)
class Asked:
    """One call: ``prompt`` is what every answer begins with, None in it a language to be found.

    ``times`` and ``languages`` say whether the answer holds chunks with them; ``silence`` is above
    which chance of no speech a window is skipped, where its tokens are less likely than ``least``
    on average.
    """

    options: Options
    prompt: tuple[int | None, ...]
    times: bool
    languages: bool
    silence: float | None
    least: float | None

    def silenced(self, chance: float, average: float) -> bool:
        """Whether a window is one without speech."""
        if self.silence is None or self.least is None:
            return False
        return chance > self.silence and average < self.least


def read_asked(
    given: Mapping[str, object], rules: GenerationRules, speech: SpeechRules, name: str
) -> Asked:
    """The options of a call, named as transformers' pipeline and `generate` name them.

    Raises ConfigError for an unknown option, language or task, and for what the model cannot do.
    """
    nested = given.get("generate_kwargs")
    if nested is not None:
        if not isinstance(nested, Mapping):
            raise ConfigError(f"generate_kwargs is a dict of options, got {short(nested)}.")
        given = {**nested, **{key: v for key, v in given.items() if key != "generate_kwargs"}}
    options = read_options(given, rules, task=name, more=SPEECH_OPTIONS)
    times = _flag(given, "return_timestamps", speech.timestamps)
    if times and speech.without_times is None:
        raise ConfigError(
            "The model has no marks of time (its generation_config names no"
            " no_timestamps_token_id).",
            hint=f"Leave {option('return_timestamps')} out.",
        )
    silence = _number(given, "no_speech_threshold", 0.0, 1.0)
    least = _number(given, "logprob_threshold", -math.inf, 0.0)
    if (silence is None) != (least is None):
        raise ConfigError(
            f"{option('no_speech_threshold')} and {option('logprob_threshold')} go together: a"
            " window is silent where both say so.",
            hint=f"Give {option('no_speech_threshold', 0.6)} and"
            f" {option('logprob_threshold', -1.0)}, for example.",
        )
    if silence is not None and (options.num_beams > 1 or options.do_sample):
        raise ConfigError(
            f"{option('no_speech_threshold')} is asked of the likeliest answer, neither of beams"
            " nor of drawn ones.",
            hint=f"Leave {option('num_beams')}, {option('do_sample')} and {option('temperature')}"
            " out.",
        )
    if silence is not None and speech.without_times is None:
        raise ConfigError("The model has no token for no speech.", hint="Leave both options out.")
    return Asked(
        options=options,
        prompt=_prompt(given, speech),
        times=times,
        languages=_flag(given, "return_language", False),
        silence=silence,
        least=least,
    )


def plain_prompt(speech: SpeechRules) -> tuple[int, ...]:
    """The tokens before an answer without marks of time, in a language that need not be found.

    It is the one that the checkpoint wishes for, else English, else the first by its code.
    """
    made = _prompt({}, speech)
    if None in made:
        code = "en" if "en" in speech.languages else min(speech.languages, default=None)
        made = _prompt({"language": code}, speech)
    known = [token for token in made if token is not None]
    if speech.without_times not in (None, known[-1]):
        known.append(speech.without_times)
    return tuple(known)


def _prompt(given: Mapping[str, object], speech: SpeechRules) -> tuple[int | None, ...]:
    """The tokens of language and task behind the one that starts, as transformers chooses them."""
    language, task = given.get("language"), given.get("task")
    if speech.english_only and (language is not None or task is not None):
        key = "language" if language is not None else "task"
        raise ConfigError(
            f"The model knows English alone, so that {option(key)} says nothing to it, got"
            f" {short(given[key])}.",
            hint=f"Leave {option(key)} out, or export a multilingual checkpoint.",
        )
    code = speech.language if language is None else _language(language, speech)
    wish = speech.task if task is None else _task(task, speech)
    if code is None and wish is None and speech.forced:
        return (speech.start, *speech.forced)
    made: list[int | None] = [speech.start]
    if speech.languages:
        made.append(None if code is None else speech.languages[code])
    if wish is not None:
        made.append(speech.tasks[wish])
    elif code is not None and speech.tasks:
        made.append(speech.tasks["transcribe"])
    return tuple(made)


def _language(asked: object, speech: SpeechRules) -> str:
    if not isinstance(asked, str):
        raise ConfigError(
            f"{option('language')} is a code or a name, such as 'en' or 'english', got"
            f" {short(asked)}."
        )
    if not speech.languages:
        raise ConfigError(
            "The model names no languages (its generation_config has no lang_to_id).",
            hint=f"Leave {option('language')} out.",
        )
    word = asked.strip().lower().removeprefix("<|").removesuffix("|>")
    code = speech.names.get(word, word)
    if code in speech.languages:
        return code
    near = difflib.get_close_matches(word, [*speech.languages, *speech.names], n=1)
    guess = f"Did you mean {near[0]!r}? " if near else ""
    raise ConfigError(
        f"The model knows no language {asked!r}.",
        hint=f"{guess}It knows {', '.join(sorted(speech.languages))}.",
    )


def _task(asked: object, speech: SpeechRules) -> str:
    known = [task for task in TASKS if task in speech.tasks]
    if isinstance(asked, str) and asked in known:
        return asked
    near = difflib.get_close_matches(str(asked), known, n=1)
    raise ConfigError(
        f"{option('task')} is {' or '.join(map(repr, known)) or 'not known to this model'}, got"
        f" {short(asked)}.",
        hint=f"Did you mean {near[0]!r}?" if near else f"Leave {option('task')} out.",
    )


def _flag(given: Mapping[str, object], key: str, default: bool) -> bool:
    found = given.get(key)
    if found is None:
        return default
    if not isinstance(found, bool):
        raise ConfigError(
            f"{option(key)} is True or False for this model, got {short(found)}.",
            hint="Words and characters are marked by models with a CTC head only."
            if key == "return_timestamps"
            else None,
        )
    return found


def _number(given: Mapping[str, object], key: str, low: float, high: float) -> float | None:
    found = given.get(key)
    if found is None:
        return None
    if isinstance(found, bool) or not isinstance(found, int | float) or not low <= found <= high:
        bounds = f"from {low:g} to {high:g}" if math.isfinite(low) else f"of at most {high:g}"
        raise ConfigError(f"{option(key)} is a number {bounds}, got {short(found)}.")
    return float(found)
