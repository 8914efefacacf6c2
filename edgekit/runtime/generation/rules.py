"""The manifest's ``generation``, read and checked: how a decoder's answers become tokens and texts.

One record is written by the export and read by the runtime, so the names stand here alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import TypeAlias

from edgekit.core.errors import BundleCorrupt, BundleVersion
from edgekit.runtime.fields import (
    UPGRADE,
    document_of,
    flag,
    listed,
    number,
    numbers,
    only,
    optional,
    section,
    short,
    whole,
    word_of,
)

#: One decoder with its prompt · an encoder and a decoder of texts · an encoder of sounds.
MODES = ("decoder", "seq2seq", "speech")
#: What a seq2seq model's answers are called: translation_text, summary_text, generated_text.
TASKS = ("text2text", "translation", "summarization")
#: What a checkpoint's own generation_config may say, by its names there.
DEFAULTS = (
    "max_new_tokens", "max_length", "min_new_tokens", "min_length", "do_sample", "temperature",
    "top_k", "top_p", "min_p", "repetition_penalty", "no_repeat_ngram_size",
    "encoder_no_repeat_ngram_size", "num_beams", "length_penalty", "early_stopping",
    "renormalize_logits",
)  # fmt: skip
#: What the rendering of a chat template is given besides the messages.
CHAT_TOKENS = ("bos_token", "eos_token", "unk_token", "pad_token")

_WHERE = "generation"
_MOST_LAYERS = 4096
_MOST_TOKENS = 1 << 31
_MOST_LISTED = 1 << 20
_CHAT = ("template", "tokens")
_FLAGS = frozenset({"do_sample", "renormalize_logits"})
_FLOATS = frozenset({"temperature", "top_p", "min_p", "repetition_penalty", "length_penalty"})

Default: TypeAlias = int | float | bool | str
Section: TypeAlias = Mapping[str, object]


@dataclass(frozen=True)
class Chat:
    """A chat template in jinja2's language, and the special tokens that it may name.

    ``tokens`` are those of `CHAT_TOKENS` that the tokenizer has.
    """

    template: str
    tokens: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class GenerationRules:
    """How one generative bundle is asked, token by token.

    ``layers`` are those of the cache. ``context`` is the most tokens that the decoder holds, its
    prompt and what it answers together, and ``encoder_context`` the most that the encoder reads;
    None: no limit. ``eos`` end an answer, ``pad`` fills rows, ``bos`` stands for an empty prompt,
    ``start`` begins a seq2seq answer. ``forced_bos`` is the first token after ``start``,
    ``forced_eos`` the last at the greatest length; ``suppress`` are never answered,
    ``begin_suppress`` not first, ``bad_words`` not as sequences. ``prefix`` is put before every
    text. ``cleanup`` takes the spaces before punctuation out of texts. ``defaults`` are the
    checkpoint's own options. ``speech`` is Whisper's part, which its own reader checks.
    """

    mode: str
    layers: int
    context: int | None
    eos: tuple[int, ...]
    pad: int
    encoder_context: int | None = None
    bos: int | None = None
    start: tuple[int, ...] = ()
    forced_bos: int | None = None
    forced_eos: int | None = None
    suppress: tuple[int, ...] = ()
    begin_suppress: tuple[int, ...] = ()
    bad_words: tuple[tuple[int, ...], ...] = ()
    defaults: Mapping[str, Default] = field(default_factory=dict)
    chat: Chat | None = None
    task: str = "text2text"
    prefix: str | None = None
    cleanup: bool = False
    speech: Section | None = None

    @classmethod
    def read(cls, value: Mapping[str, object]) -> GenerationRules:
        """The rules that a manifest's ``generation`` holds.

        Raises BundleVersion for a key or a word that this edgekit does not know, and BundleCorrupt
        for a value that is not what it should be.
        """
        only(value, _WHERE, tuple(item.name for item in fields(cls)))
        mode = word_of(value, "mode", MODES, "", _WHERE)
        start = _ids(value, "start")
        if mode == "seq2seq" and not start:
            raise BundleCorrupt(f"{_WHERE}.start names no token that an answer begins with.")
        speech = section(value, "speech", _WHERE)
        if (speech is not None) != (mode == "speech"):
            raise BundleCorrupt(f"{_WHERE}.speech belongs to the mode speech, not to {mode}.")
        return cls(
            mode=mode,
            layers=whole(value, "layers", _WHERE, 1, _MOST_LAYERS),
            context=_optional(value, "context", 1),
            eos=_ids(value, "eos"),
            pad=whole(value, "pad", _WHERE, 0, _MOST_TOKENS),
            encoder_context=_optional(value, "encoder_context", 1),
            bos=_optional(value, "bos"),
            start=start,
            forced_bos=_optional(value, "forced_bos"),
            forced_eos=_optional(value, "forced_eos"),
            suppress=_ids(value, "suppress"),
            begin_suppress=_ids(value, "begin_suppress"),
            bad_words=_bad_words(value),
            defaults=_defaults(value),
            chat=_chat(value),
            task=word_of(value, "task", TASKS, TASKS[0], _WHERE),
            prefix=_text(value, "prefix"),
            cleanup=flag(value, "cleanup", _WHERE),
            speech=speech,
        )

    def document(self) -> dict[str, object]:
        """The JSON form, which `read` reads; what is left out is what `read` takes it for."""
        return document_of(self)


def _optional(value: Section, key: str, low: int = 0) -> int | None:
    return optional(value, key, _WHERE, low, _MOST_TOKENS)


def _ids(value: Section, key: str) -> tuple[int, ...]:
    return numbers(value, key, _WHERE, _MOST_TOKENS, _MOST_LISTED)


def _bad_words(value: Section) -> tuple[tuple[int, ...], ...]:
    found = listed(value, "bad_words", _WHERE, _MOST_LISTED)
    if not all(found):
        raise BundleCorrupt(f"{_WHERE}.bad_words should be lists of token ids, got {short(found)}.")
    return tuple(_ids({"bad_words": item}, "bad_words") for item in found)


def _defaults(value: Section) -> dict[str, Default]:
    found = section(value, "defaults", _WHERE) or {}
    where = f"{_WHERE}.defaults"
    only(found, where, DEFAULTS)
    made: dict[str, Default] = {}
    for key in found:
        if key == "early_stopping":
            made[key] = _stopping(found, where)
        elif key in _FLAGS:
            made[key] = flag(found, key, where)
        elif key in _FLOATS:
            made[key] = number(found, key, where)
        else:
            made[key] = whole(found, key, where, 0, _MOST_TOKENS)
    return made


def _stopping(value: Section, where: str) -> bool | str:
    found = value["early_stopping"]
    if isinstance(found, bool):
        return found
    if found != "never":
        raise BundleVersion(
            f"{where}.early_stopping is {short(found)}; this edgekit knows true, false and"
            " 'never'.",
            hint=UPGRADE,
        )
    return "never"


def _chat(value: Section) -> Chat | None:
    found = section(value, "chat", _WHERE)
    if found is None:
        return None
    where = f"{_WHERE}.chat"
    only(found, where, _CHAT)
    tokens = found.get("tokens")
    if not isinstance(found.get("template"), str):
        raise BundleCorrupt(
            f"{where}.template should be a text, got {short(found.get('template'))}."
        )
    if tokens is None:
        tokens = {}
    if not isinstance(tokens, Mapping) or not all(isinstance(t, str) for t in tokens.values()):
        raise BundleCorrupt(f"{where}.tokens should be an object of texts, got {short(tokens)}.")
    only(tokens, f"{where}.tokens", CHAT_TOKENS)
    return Chat(str(found["template"]), {str(key): str(text) for key, text in tokens.items()})


def _text(value: Section, key: str) -> str | None:
    found = value.get(key)
    if found is not None and not isinstance(found, str):
        raise BundleCorrupt(f"{_WHERE}.{key} should be a text, got {short(found)}.")
    return found
