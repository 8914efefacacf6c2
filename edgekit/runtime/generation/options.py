"""What one call asks of a generation: the caller's words, else the checkpoint's, else the usual."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from edgekit.core.errors import ConfigError, InputMismatch
from edgekit.runtime.fields import short
from edgekit.runtime.generation.rules import DEFAULTS, GenerationRules
from edgekit.runtime.options import option, refuse_options

#: The tokens of an answer where neither the caller nor the checkpoint says how many.
MAX_NEW_TOKENS = 256
#: Options of a call besides those that a checkpoint can set.
CALL_OPTIONS = ("stop_strings", "seed")
MOST_BEAMS = 64


@dataclass(frozen=True)
class Options:
    """The options of one call, named as in transformers' GenerationConfig.

    Of the lengths those that nobody set are None; ``exactly`` tells that the caller set
    ``max_new_tokens``, and so wants to know where they do not fit.
    With a ``seed`` the prompt at the place k of a call's list draws from ``[seed, k]``, however
    prompts are batched; a single one has the place 0.
    """

    max_new_tokens: int | None = None
    max_length: int | None = None
    min_new_tokens: int = 0
    min_length: int = 0
    do_sample: bool = False
    temperature: float = 1.0
    top_k: int = 0
    top_p: float = 1.0
    min_p: float = 0.0
    repetition_penalty: float = 1.0
    no_repeat_ngram_size: int = 0
    encoder_no_repeat_ngram_size: int = 0
    num_beams: int = 1
    length_penalty: float = 1.0
    early_stopping: bool | str = False
    renormalize_logits: bool = False
    stop_strings: tuple[str, ...] = ()
    seed: int | None = None
    exactly: bool = False


def read_options(
    given: Mapping[str, object], rules: GenerationRules, *, task: str, more: Sequence[str] = ()
) -> Options:
    """The options of a call; ``more`` are names that its task reads by itself.

    A temperature, top_k, top_p or min_p that the caller gives asks for sampling, unless
    ``do_sample`` says otherwise. Raises ConfigError with the value and the remedy.
    """
    refuse_options(given, frozenset({*DEFAULTS, *CALL_OPTIONS, *more}), task)
    own = {name: value for name, value in given.items() if name not in more and value is not None}
    values: dict[str, object] = {**rules.defaults, **own}
    if "max_new_tokens" in own and "max_length" not in own:
        values.pop("max_length", None)
    if "max_length" in own and "max_new_tokens" not in own:
        values.pop("max_new_tokens", None)
    drawing = {"temperature", "top_k", "top_p", "min_p"} & own.keys()
    if drawing and "do_sample" not in own:
        values["do_sample"] = True
    options = Options(
        max_new_tokens=_whole(values, "max_new_tokens", None, 1),
        max_length=_whole(values, "max_length", None, 1),
        min_new_tokens=_whole(values, "min_new_tokens", 0, 0) or 0,
        min_length=_whole(values, "min_length", 0, 0) or 0,
        do_sample=_flag(values, "do_sample"),
        temperature=_number(values, "temperature", 1.0, above=0.0),
        # Transformers draws among the 50 likeliest unless told otherwise.
        top_k=_whole(values, "top_k", 50, 0) or 0,
        top_p=_number(values, "top_p", 1.0, above=0.0, most=1.0),
        min_p=_number(values, "min_p", 0.0, least=0.0, most=1.0),
        repetition_penalty=_number(values, "repetition_penalty", 1.0, above=0.0),
        no_repeat_ngram_size=_whole(values, "no_repeat_ngram_size", 0, 0) or 0,
        encoder_no_repeat_ngram_size=_whole(values, "encoder_no_repeat_ngram_size", 0, 0) or 0,
        num_beams=_whole(values, "num_beams", 1, 1, MOST_BEAMS) or 1,
        length_penalty=_number(values, "length_penalty", 1.0),
        early_stopping=_stopping(values),
        renormalize_logits=_flag(values, "renormalize_logits"),
        stop_strings=_stops(values),
        seed=_whole(values, "seed", None, 0),
        exactly="max_new_tokens" in own,
    )
    if options.do_sample and options.num_beams > 1:
        raise ConfigError(
            f"{option('num_beams', options.num_beams)} searches for the likeliest answer and"
            f" {option('do_sample')} draws one.",
            hint=f"Set {option('num_beams', 1)} to draw, or {option('do_sample', False)} to"
            " search.",
        )
    return options


def exactly(count: int) -> dict[str, object]:
    """The options of a greedy answer of so many tokens, for who measures."""
    return {
        "max_new_tokens": count, "min_new_tokens": count, "do_sample": False, "num_beams": 1,
    }  # fmt: skip


def room(options: Options, rules: GenerationRules, prompt: int) -> int:
    """The most new tokens behind a prompt of so many (of the decoder's tokens).

    Raises InputMismatch for what the context does not hold.
    """
    context = rules.context
    left = None if context is None else context - prompt
    if left is not None and left < 1:
        raise InputMismatch(
            f"The prompt has {prompt:,} tokens; the model's context holds {context:,}, the answer"
            " included.",
            hint=f"Shorten the prompt to at most {context - 1 if context else 0:,} tokens.",
        )
    asked = options.max_new_tokens
    if asked is None and options.max_length is not None:
        asked = options.max_length - prompt
        if asked < 1:
            raise InputMismatch(
                f"The prompt has {prompt:,} tokens; {option('max_length', options.max_length)}"
                " counts it in and leaves none for an answer.",
                hint=f"Set {option('max_new_tokens')}, which counts the answer alone.",
            )
        return asked if left is None else min(asked, left)
    if asked is None:
        return MAX_NEW_TOKENS if left is None else min(MAX_NEW_TOKENS, left)
    if left is not None and asked > left and options.exactly:
        raise InputMismatch(
            f"The prompt has {prompt:,} tokens and {option('max_new_tokens')} is {asked:,}:"
            f" together more than the {context:,} of the model's context.",
            hint=f"Set {option('max_new_tokens')} to at most {left:,}, or shorten the prompt.",
        )
    return asked if left is None else min(asked, left)


def _whole(
    values: Mapping[str, object], key: str, default: int | None, low: int, high: int = 1 << 53
) -> int | None:
    found = values.get(key, default)
    if found is None:
        return None
    if isinstance(found, bool) or not isinstance(found, int) or not low <= found <= high:
        bounds = f"of at least {low}" if high == 1 << 53 else f"from {low} to {high}"
        raise ConfigError(
            f"{option(key)} is a whole number {bounds}, got {short(found)}.", hint=_hint(key)
        )
    return found


def _hint(key: str) -> str:
    if key == "max_new_tokens":
        return "Ask for at least one token, or leave it out for the model's own."
    if key == "max_length":
        told = option("max_new_tokens")
        return f"It counts the prompt in; set {told} to count the answer alone."
    if key == "temperature":
        return f"Set {option('do_sample', False)} for the likeliest answer."
    return "Leave it out for the model's own."


def _flag(values: Mapping[str, object], key: str) -> bool:
    found = values.get(key, False)
    if not isinstance(found, bool):
        raise ConfigError(f"{option(key)} is True or False, got {short(found)}.")
    return found


def _number(
    values: Mapping[str, object],
    key: str,
    default: float,
    *,
    above: float = -math.inf,
    least: float = -math.inf,
    most: float = math.inf,
) -> float:
    found = values.get(key, default)
    fits = (
        not isinstance(found, bool)
        and isinstance(found, int | float)
        and math.isfinite(found)
        and found > above
        and least <= found <= most
    )
    if not fits:
        bounds = f" above {above:g}" if math.isfinite(above) else ""
        bounds += f" of at least {least:g}" if math.isfinite(least) else ""
        bounds += f" and at most {most:g}" if math.isfinite(most) else ""
        raise ConfigError(
            f"{option(key)} is a number{bounds}, got {short(found)}.", hint=_hint(key)
        )
    assert isinstance(found, int | float)
    return float(found)


def _stopping(values: Mapping[str, object]) -> bool | str:
    found = values.get("early_stopping", False)
    if found == "never":
        return "never"
    if not isinstance(found, bool):
        raise ConfigError(f"early_stopping is True, False or 'never', got {short(found)}.")
    return found


def _stops(values: Mapping[str, object]) -> tuple[str, ...]:
    found = values.get("stop_strings", ())
    listed = [found] if isinstance(found, str) else found
    if not isinstance(listed, Sequence) or not all(isinstance(one, str) and one for one in listed):
        raise ConfigError(
            f"{option('stop_strings')} is a text or a list of texts that are not empty, got"
            f" {short(found)}."
        )
    return tuple(listed)
