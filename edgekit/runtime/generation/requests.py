"""Requests to measure a model that generates with: real prompts or sounds, exactly so many tokens.

A workload of requests holds what a decoder or an encoder reads: ``input_ids`` and
``attention_mask`` (a decoder's padded on the left, an encoder's on the right), or
``input_features`` and the ``decoder_input_ids`` that an answer begins with. What is measured begins
there: neither tokenizing nor preparing a sound is part of it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Literal

import numpy as np

from edgekit.core.bundle import Bundle
from edgekit.core.errors import ConfigError
from edgekit.core.manifest import Manifest
from edgekit.runtime.caches import IDS, MASK
from edgekit.runtime.generation.answering import BEGUN
from edgekit.runtime.generation.rules import GenerationRules
from edgekit.runtime.rows import PASSAGE
from edgekit.runtime.session import Array
from edgekit.runtime.text import encode, load_tokenizer
from edgekit.runtime.workloads import Workload, sweep_workloads

if TYPE_CHECKING:
    from edgekit.runtime.sound.decoding import Samples
    from edgekit.runtime.sound.processor import Encoded

DEFAULT_LENGTH = 128
DEFAULT_NEW_TOKENS = 32

# A made-up voice: its pitch, how fast it rises and falls, and syllables per second.
_PITCH, _SWAY, _SYLLABLES = 120.0, 0.7, 4.0


def generates(manifest: Manifest) -> bool:
    """Whether a bundle answers token by token, so that requests can be measured."""
    return manifest.generation is not None


def mode_of(manifest: Manifest) -> str:
    """``decoder``, ``seq2seq`` or ``speech``, of a bundle that generates."""
    return GenerationRules.read(manifest.generation or {}).mode


def check_new_tokens(bundle: Bundle, new_tokens: int | None) -> None:
    """Raise ConfigError for a number of new tokens that no answer of a bundle has."""
    if new_tokens is None:
        return
    if not generates(bundle.manifest):
        raise ConfigError(
            f"{bundle.path} ({bundle.manifest.task}) generates nothing, so --max-new-tokens has no"
            " meaning for it.",
            hint="Leave --max-new-tokens out.",
        )
    if new_tokens < 1:
        raise ConfigError(
            f"--max-new-tokens should be at least 1, got {new_tokens}.",
            hint=f"For example: --max-new-tokens {DEFAULT_NEW_TOKENS}",
        )


def request_workloads(
    bundle: Bundle,
    *,
    batches: Sequence[int] = (1,),
    lengths: Sequence[int] | None = None,
    new_tokens: int | None = None,
    seed: int = 0,
) -> tuple[Workload, ...]:
    """Every batch with every length of a prompt, each answered by `new_tokens` tokens.

    Without lengths it is 128 tokens, or as many as the model takes; models of speech hear one
    window, filled with a made-up voice.

    Raises:
        ConfigError: a length and new tokens that the model's context does not hold; a length for
            a model that reads no text; a batch below 1.
        MissingDependency: tokenizers, or what reads sounds, is not installed.
    """
    check_new_tokens(bundle, new_tokens)
    for batch in batches:
        if batch < 1:
            raise ConfigError(f"--batch should be at least 1, got {batch}.")
    if mode_of(bundle.manifest) == "speech":
        if lengths:
            raise ConfigError(
                f"{bundle.path} reads no text, so --length has no meaning for it.",
                hint="Leave --length out; --max-new-tokens says how long an answer is.",
            )
        heard = SoundRequests(bundle, new_tokens)
        return tuple(heard.made_up(batch, seed) for batch in dict.fromkeys(batches))
    prompts = TextRequests(bundle, new_tokens)
    return tuple(
        prompts.of_length(batch, length)
        for batch in dict.fromkeys(batches)
        for length in dict.fromkeys(lengths or (prompts.default_length,))
    )


def asked_workloads(
    bundle: Bundle,
    *,
    batches: Sequence[int] = (1,),
    lengths: Sequence[int] | None = None,
    new_tokens: int | None = None,
    seed: int = 0,
) -> tuple[Workload, ...]:
    """Requests for a bundle that generates, single inferences for any other.

    Raises as `request_workloads` and `edgekit.runtime.workloads.make_workloads` do.
    """
    if generates(bundle.manifest):
        return request_workloads(
            bundle, batches=batches, lengths=lengths, new_tokens=new_tokens, seed=seed
        )
    check_new_tokens(bundle, new_tokens)
    return sweep_workloads(bundle, batches=batches, lengths=lengths, seed=seed)


def described(workload: Workload) -> dict[str, object]:
    """A workload as a result's protocol holds it."""
    told: dict[str, object] = {"batch": workload.batch, "length": workload.length}
    return told if workload.new_tokens is None else {**told, "new_tokens": workload.new_tokens}


class TextRequests:
    """Makes prompts for a decoder, or the texts that a seq2seq model's encoder reads.

    Raises ConfigError when the context does not hold `new_tokens`.
    """

    def __init__(self, bundle: Bundle, new_tokens: int | None) -> None:
        self._path = bundle.path
        self._rules = rules = GenerationRules.read(bundle.manifest.generation or {})
        processor = bundle.manifest.processor or {}
        self._tokenizer = load_tokenizer(bundle.path, str(processor.get("tokenizer")))
        self._tokenizer.no_padding()
        self._least = 1 + int(self._tokenizer.num_special_tokens_to_add(False))
        self._reads = rules.mode == "seq2seq"
        begun = len(rules.start) if self._reads else self._least
        self.new_tokens = _fit(rules, begun, new_tokens)
        if self._reads:
            self._most = rules.encoder_context
        else:
            self._most = None if rules.context is None else rules.context - self.new_tokens

    @property
    def default_length(self) -> int:
        """128 tokens, or the most that the model takes."""
        return DEFAULT_LENGTH if self._most is None else min(DEFAULT_LENGTH, self._most)

    def of_length(self, batch: int, length: int) -> Workload:
        """A request of `batch` prompts of exactly so many tokens. Raises ConfigError."""
        self._check(length)
        # Each row begins at another word.
        rows = [self._row(row * 7, length) for row in range(batch)]
        return self._workload(batch, length, [rows])

    def of_texts(self, batch: int, texts: Sequence[str]) -> Workload:
        """Requests of `batch` texts each, in their order, cut to what the model takes.

        What does not fill a batch at the end is left out. Raises ConfigError for too few texts.
        """
        if self._most is None:
            self._tokenizer.no_truncation()
        else:
            self._tokenizer.enable_truncation(self._most)
        rows = [encode(self._tokenizer, (self._rules.prefix or "") + text).ids for text in texts]
        rows = [row for row in rows if row]
        groups = [rows[at : at + batch] for at in range(0, len(rows) - batch + 1, batch)]
        if not groups:
            raise ConfigError(
                f"The data have {len(rows)} texts with tokens, fewer than a batch of {batch}.",
                hint="Give more rows, or a smaller --batch.",
            )
        return self._workload(batch, "data", groups)

    def _workload(
        self, batch: int, length: int | Literal["data"], groups: Sequence[Sequence[Sequence[int]]]
    ) -> Workload:
        variants = tuple(self._feeds(rows) for rows in groups)
        return Workload(batch, length, variants[0], variants, new_tokens=self.new_tokens)

    def _feeds(self, rows: Sequence[Sequence[int]]) -> dict[str, Array]:
        width = max(len(row) for row in rows)
        ids = np.full((len(rows), width), self._rules.pad, dtype=np.int64)
        mask = np.zeros_like(ids)
        for at, row in enumerate(rows):
            span = slice(0, len(row)) if self._reads else slice(width - len(row), width)
            ids[at, span] = row
            mask[at, span] = 1
        return {IDS: ids, MASK: mask}

    def _check(self, length: int) -> None:
        if length < self._least:
            raise ConfigError(
                f"--length {length} is less than the {self._least} tokens that a prompt has at"
                " least.",
                hint=f"Pass --length {self._least} or more.",
            )
        if self._most is None or length <= self._most:
            return
        if self._reads:
            raise ConfigError(
                f"--length {length:,} is more than the {self._most:,} tokens that {self._path}"
                " reads.",
                hint=f"Pass --length {self._most} or less.",
            )
        raise ConfigError(
            f"--length {length:,} and {self.new_tokens:,} new tokens are"
            f" {length + self.new_tokens:,} tokens; the context of {self._path} holds"
            f" {self._rules.context:,}.",
            hint=f"Pass --length {self._most} or less, or a smaller --max-new-tokens.",
        )

    def _row(self, start: int, length: int) -> Sequence[int]:
        """The tokens of the passage from a word on, cut to exactly a length."""
        words = PASSAGE.split()
        turned = words[start % len(words) :] + words[: start % len(words)]
        self._tokenizer.enable_truncation(length)
        repeat = 1 + length // len(words)
        # A word is a token or more, but for a tokenizer that merges whole phrases.
        for _ in range(8):
            text = (self._rules.prefix or "") + " ".join(turned * repeat)
            ids: Sequence[int] = encode(self._tokenizer, text).ids
            if len(ids) == length:
                return ids
            repeat *= 2
        raise ConfigError(
            f"The tokenizer gives no prompt of exactly {length} tokens.",
            hint="Choose another --length.",
        )


class SoundRequests:
    """Makes what Whisper hears in one window, and the tokens that its answer begins with.

    Raises ConfigError when the context does not hold `new_tokens`, MissingDependency.
    """

    def __init__(self, bundle: Bundle, new_tokens: int | None) -> None:
        # A bundle of texts need not wait for the import.
        from edgekit.runtime.generation.speech.options import plain_prompt
        from edgekit.runtime.generation.speech.rules import SpeechRules
        from edgekit.runtime.sound.processor import SoundProcessor

        rules = GenerationRules.read(bundle.manifest.generation or {})
        features = (bundle.manifest.processor or {}).get("features")
        self._sounds = SoundProcessor(features if isinstance(features, Mapping) else {})
        self._begun = plain_prompt(SpeechRules.read(rules.speech or {}))
        self.new_tokens = _fit(rules, len(self._begun), new_tokens)

    def made_up(self, batch: int, seed: int) -> Workload:
        """A request of `batch` windows that are filled with a made-up voice."""
        rules = self._sounds.rules
        samples = rules.window or rules.longest
        voices = [_voice(samples, rules.sampling_rate, seed + row) for row in range(batch)]
        heard = [self.encode((voice, rules.sampling_rate)) for voice in voices]
        return self.of_sounds(batch, heard)

    @property
    def rate(self) -> int:
        """Samples of a second, as the model hears them."""
        return self._sounds.rules.sampling_rate

    def encode(self, sound: object) -> Encoded:
        """A sound prepared, its first window. Raises InputMismatch for what is no sound."""
        return self._sounds.encode(sound)

    def of_sounds(self, batch: int, heard: Sequence[Encoded]) -> Workload:
        """Requests of `batch` prepared sounds each.

        What does not fill a batch at the end is left out. ``seconds`` are those of sound, without
        what fills a window up. Raises ConfigError for too few.
        """
        rules = self._sounds.rules
        groups = [heard[at : at + batch] for at in range(0, len(heard) - batch + 1, batch)]
        if not groups:
            raise ConfigError(
                f"The data have {len(heard)} sounds, fewer than a batch of {batch}.",
                hint="Give more of them, or a smaller --batch.",
            )
        begun = np.tile(np.array(self._begun, dtype=np.int64), (batch, 1))
        variants: tuple[dict[str, Array], ...] = tuple(
            {rules.inputs[0]: np.stack([one.values for one in group]), BEGUN: begun}
            for group in groups
        )
        used = [one.samples for group in groups for one in group]
        seconds = float(np.mean(used)) / rules.sampling_rate
        return Workload(
            batch, None, variants[0], variants, seconds=seconds, new_tokens=self.new_tokens
        )


def _fit(rules: GenerationRules, begun: int, asked: int | None) -> int:
    """The new tokens of an answer, whose context holds so many tokens at least before them."""
    if rules.context is None:
        return DEFAULT_NEW_TOKENS if asked is None else asked
    left = rules.context - begun
    if asked is None:
        # Half of a short context is for the prompt.
        return max(1, min(DEFAULT_NEW_TOKENS, left // 2))
    if asked > left:
        raise ConfigError(
            f"--max-new-tokens is {asked:,}; behind the {begun} tokens that come first at least,"
            f" the model's context of {rules.context:,} holds {left:,}.",
            hint=f"Pass --max-new-tokens {left} or less.",
        )
    return asked


def _voice(samples: int, rate: int, seed: int) -> Samples:
    """Something with the spectrum and the pauses of a voice; silence has no spectrum to hear."""
    generator = np.random.default_rng(seed)
    seconds = np.arange(samples, dtype=np.float64) / rate
    pitch = _PITCH * (1 + 0.1 * (seed % 7)) * (1 + 0.1 * np.sin(2 * np.pi * _SWAY * seconds))
    turns = np.cumsum(pitch) / rate
    made = np.zeros(samples)
    for tone in range(1, 9):
        made += np.sin(2 * np.pi * tone * turns) / tone
    loud = np.maximum(0.0, np.sin(np.pi * _SYLLABLES * seconds + generator.random()))
    noise = generator.standard_normal(samples)
    return np.asarray(0.1 * (made * loud + 0.05 * noise), dtype=np.float32)
