"""Sounds in, texts out: heard in windows, each begun where the text of the one before ends."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path

import numpy as np

from edgekit.core.errors import BundleCorrupt, InputMismatch
from edgekit.core.manifest import Manifest
from edgekit.runtime.caches import past_name
from edgekit.runtime.generation.answering import BEGUN, Growing, Watch
from edgekit.runtime.generation.beams import search
from edgekit.runtime.generation.decoder import Decoder
from edgekit.runtime.generation.logits import Place as Room
from edgekit.runtime.generation.logits import Rule, Scores, log_chances, make_rules
from edgekit.runtime.generation.loop import Row, steps
from edgekit.runtime.generation.options import MAX_NEW_TOKENS, exactly, read_options
from edgekit.runtime.generation.pieces import Stops
from edgekit.runtime.generation.rules import GenerationRules
from edgekit.runtime.generation.speech.features import Features, long_features, window_of
from edgekit.runtime.generation.speech.options import Asked, read_asked
from edgekit.runtime.generation.speech.rules import SpeechRules
from edgekit.runtime.generation.speech.times import Clock, Cutting, chunks_of, settled
from edgekit.runtime.joined import parts_of
from edgekit.runtime.options import option
from edgekit.runtime.session import Array, Session
from edgekit.runtime.sound.decoding import opened_sound
from edgekit.runtime.sound.predicting import SOUNDS
from edgekit.runtime.sound.processor import Piece, SoundProcessor
from edgekit.runtime.text import load_tokenizer


@dataclass(eq=False)
class _Sound:
    """A sound on its way: ``seek`` of its ``frames`` are behind us, after so many ``windows``."""

    place: int
    features: Features
    frames: int
    long: bool
    prompt: tuple[int | None, ...]
    seek: int = 0
    windows: int = 0
    tokens: list[int] = field(default_factory=list)

    @property
    def over(self) -> bool:
        return self.seek >= self.frames


class SpeechPredictor:
    """``{"text"}`` of a sound; with ``return_timestamps`` also ``chunks`` with ``timestamp``.

    Sounds of a list are heard together, a window of each at a time. Raises MissingDependency,
    BundleCorrupt, BundleVersion.
    """

    def __init__(self, session: Session, manifest: Manifest, directory: Path) -> None:
        processor = manifest.processor or {}
        features = processor.get("features")
        self._rules = GenerationRules.read(manifest.generation or {})
        self._speech = speech = SpeechRules.read(self._rules.speech or {})
        self._sounds = SoundProcessor(features if isinstance(features, Mapping) else {})
        self._tokenizer = load_tokenizer(directory, str(processor.get("tokenizer")))
        self._name = manifest.task
        parts = parts_of(session) or {}
        if set(parts) != {"encoder", "decoder"}:
            raise BundleCorrupt(
                f"The processor is for the components encoder and decoder; the bundle has"
                f" {', '.join(manifest.components)}.",
                hint="Export the bundle again.",
            )
        self._encoder = parts["encoder"]
        given = [past_name(spec.name) for spec in self._encoder.outputs]
        self._decoder = Decoder(parts["decoder"], given)
        rules = self._sounds.rules
        taken = {spec.name: spec for spec in self._encoder.inputs}
        if rules.log_mel is None or rules.window is None or set(taken) != set(rules.inputs):
            raise BundleCorrupt(
                f"The encoder takes {', '.join(taken)}; the processor makes"
                f" {', '.join(rules.inputs)} of no window of spectra.",
                hint="Export the bundle again.",
            )
        made = rules.shape(rules.window)
        if made[1] != speech.window or tuple(taken[rules.inputs[0]].shape[1:]) != made:
            raise BundleCorrupt(
                f"The processor makes {list(made)} of a window, the encoder takes"
                f" {list(taken[rules.inputs[0]].shape[1:])} and generation.speech {speech.window}.",
                hint="Export the bundle again.",
            )
        self._input = taken[rules.inputs[0]]
        _check_tokens(speech, parts["decoder"].outputs[0].shape[-1])
        self._clock = None
        if speech.without_times is not None and self._rules.eos:
            self._clock = Clock(speech, self._rules.eos[0])

    def __call__(
        self, inputs: object, *, batch_size: int | None, options: Mapping[str, object]
    ) -> object:
        """See `edgekit.runtime.predictor.Predictor`."""
        asked = read_asked(options, self._rules, self._speech, self._name)
        items = inputs if isinstance(inputs, list) else [inputs]
        answers: list[object] = [None] * len(items)
        for sound in self._heard(items, asked, batch_size or SOUNDS):
            if sound.over:
                answers[sound.place] = self._answer(sound, asked)
        return answers if isinstance(inputs, list) else answers[0]

    def stream(self, item: object, options: Mapping[str, object]) -> Iterator[str]:
        """The text of one sound as it is certain: a window at a time. Raises as a call does."""
        asked = read_asked(options, self._rules, self._speech, self._name)
        return self._pieces(self._hear(item, 0, asked), asked)

    def _pieces(self, sound: _Sound, asked: Asked) -> Iterator[str]:
        cutting, read = Cutting(self._speech, self._spell), 0
        while not sound.over:
            self._decode([sound], asked)
            chunks = cutting.add(sound.tokens[read:])
            read = len(sound.tokens)
            chunks += cutting.rest() if sound.over else []
            text = "".join(chunk.text for chunk in chunks)
            if text:
                yield text

    def _heard(self, items: Sequence[object], asked: Asked, limit: int) -> Iterator[_Sound]:
        """Every sound after each of its windows; no more than `limit` of them are held."""
        waiting = enumerate(items)
        active: list[_Sound] = []
        while True:
            for place, item in waiting:
                active.append(self._hear(item, place, asked))
                if len(active) >= limit:
                    break
            if not active:
                return
            self._decode(active, asked)
            yield from active
            active = [sound for sound in active if not sound.over]

    def _hear(self, item: object, place: int, asked: Asked) -> _Sound:
        rules = self._sounds.rules
        assert rules.window is not None
        with opened_sound(item, rules.sampling_rate) as recording:
            blocks = iter(recording.blocks)
            begun, count = [], 0
            for block in blocks:
                begun.append(block)
                count += len(block)
                if count > rules.window:
                    break
            if count > rules.window:
                self._refuse_untimed(recording.name)
                long = long_features(chain(begun, blocks), rules, recording.name)
                return _Sound(place, long, long.shape[1], True, asked.prompt)
            made = self._sounds.prepare(Piece(np.concatenate(begun))).values
        return _Sound(place, made, made.shape[1], False, asked.prompt)

    def growing(self, feeds: Mapping[str, Array], count: int, watch: Watch) -> Growing:
        """See `edgekit.runtime.generation.answering.Answering`; one window, no marks of time."""
        options = read_options(exactly(count), self._rules, task=self._name)
        values = feeds[self._input.name].astype(self._input.dtype, copy=False)
        made = self._encoder.run({self._input.name: values})
        rows = []
        for place, prompt in enumerate(feeds[BEGUN].tolist()):
            most = len(prompt) + count
            rules = make_rules(options, self._rules, Room(len(prompt), most))
            rows.append(Row(prompt, most, watch(place, rules), place))
        given = {past_name(name): array for name, array in made.items()}
        stops = Stops(self._tokenizer, options.stop_strings)
        return rows, steps(self._decoder, rows, given, options, self._rules, stops)

    def _refuse_untimed(self, name: str) -> None:
        if self._clock is None:
            seconds = self._speech.window * self._speech.precision / self._speech.stride
            raise InputMismatch(
                f"{name} is longer than the {seconds:g} seconds of a window, and the model marks"
                " no times by which the next one could be found.",
                hint="Cut it into pieces, and ask for each of them.",
            )

    def _decode(self, sounds: Sequence[_Sound], asked: Asked) -> None:
        """The next window of every sound."""
        window = self._speech.window
        values = np.stack([window_of(sound.features, sound.seek, window) for sound in sounds])
        made = self._encoder.run({self._input.name: values.astype(self._input.dtype, copy=False)})
        given = {past_name(name): array for name, array in made.items()}
        silence = self._begin(sounds, asked, given)
        rows, watches = [], []
        for sound in sounds:
            watch = _Watch()
            row = self._row(sound, asked, watch)
            rows.append(row)
            watches.append(watch)
        self._run(rows, given, asked)
        for sound, row, watch, chance in zip(sounds, rows, watches, silence, strict=True):
            frames = min(sound.frames - sound.seek, window)
            said = row.new
            average = watch.total / max(len(said), 1)
            if said and said[-1] in self._rules.eos:
                said = said[:-1]
            sound.windows += 1
            if asked.silenced(chance, average):
                sound.seek += frames
                continue
            kept, further = settled(said, self._speech, frames)
            sound.tokens += kept
            sound.seek += further

    def _begin(
        self, sounds: Sequence[_Sound], asked: Asked, given: Mapping[str, Array]
    ) -> Sequence[float]:
        """Find the languages that are not known yet; how likely it is that nobody speaks."""
        speech = self._speech
        unknown = [sound for sound in sounds if None in sound.prompt]
        if not unknown and asked.silence is None:
            return [0.0] * len(sounds)
        run = self._decoder.begin([[speech.start]] * len(sounds), given, self._rules.pad)
        try:
            scores = run.first()
        finally:
            run.close()
        ids = np.array(sorted(speech.languages.values()), dtype=np.int64)
        for sound, row in zip(sounds, scores, strict=True):
            if None in sound.prompt:
                found = int(ids[row[ids].argmax()])
                sound.prompt = tuple(found if one is None else one for one in sound.prompt)
        if asked.silence is None or speech.without_times is None:
            return [0.0] * len(sounds)
        # The token before the one that asks for no marks of time, as transformers finds it.
        return [
            float(chance) for chance in np.exp(log_chances(scores)[:, speech.without_times - 1])
        ]

    def _row(self, sound: _Sound, asked: Asked, watch: _Watch) -> Row:
        speech = self._speech
        # A sound of several windows is cut at marks of time, whoever asks for them.
        timed = asked.times or sound.long
        prompt = [token for token in sound.prompt if token is not None]
        if timed and prompt[-1] == speech.without_times:
            prompt.pop()
        if not timed and speech.without_times not in (None, prompt[-1]):
            prompt.append(speech.without_times)
        most = self._most(len(prompt), sound.windows, asked)
        rules: list[Rule] = list(make_rules(asked.options, self._rules, Room(len(prompt), most)))
        if timed and self._clock is not None:
            rules.append(_Timed(self._clock, len(prompt)))
        if asked.silence is not None:
            rules.append(watch)
        return Row(prompt, most, rules, place=sound.place)

    def _most(self, prompt: int, windows: int, asked: Asked) -> int:
        """The most tokens of a window, its prompt among them."""
        context = self._rules.context or 1 << 31
        options = asked.options
        if options.max_new_tokens is not None:
            if prompt + options.max_new_tokens > context:
                raise InputMismatch(
                    f"{option('max_new_tokens')} is {options.max_new_tokens:,}; behind the {prompt}"
                    f" tokens that a window begins with the model's context of {context:,} holds"
                    f" {context - prompt:,}.",
                    hint=f"Set {option('max_new_tokens')} to at most {context - prompt:,}.",
                )
            return prompt + options.max_new_tokens
        if options.max_length is None:
            return min(prompt + MAX_NEW_TOKENS, context)
        # transformers lengthens it by the prompt at every window of a sound.
        return min(options.max_length + prompt * (windows + 1), context)

    def _run(self, rows: Sequence[Row], given: Mapping[str, Array], asked: Asked) -> None:
        stops = Stops(self._tokenizer, asked.options.stop_strings)
        if asked.options.num_beams == 1:
            # The decoder has no mask: a short sound's prompt, which asks for no marks of time, and
            # a long one's cannot be padded to one length.
            for places in _alike(rows):
                own = {name: array[places] for name, array in given.items()}
                some = [rows[place] for place in places]
                for _ in steps(self._decoder, some, own, asked.options, self._rules, stops):
                    pass
            return
        for place, row in enumerate(rows):
            own = {name: array[place : place + 1] for name, array in given.items()}
            search(self._decoder, row, own, asked.options, self._rules, stops)

    def _spell(self, ids: Sequence[int]) -> str:
        text: str = self._tokenizer.decode(list(ids), skip_special_tokens=False) if ids else ""
        return text

    def _answer(self, sound: _Sound, asked: Asked) -> dict[str, object]:
        chunks = chunks_of(sound.tokens, self._speech, self._spell)
        answer: dict[str, object] = {"text": "".join(chunk.text for chunk in chunks)}
        if asked.times or asked.languages:
            codes = {token: code for code, token in self._speech.languages.items()}
            code = next((codes[one] for one in sound.prompt if one in codes), None)
            language = None if code is None else self._speech.name_of(code)
            answer["chunks"] = [
                {
                    **({"language": language} if asked.languages else {}),
                    **({"timestamp": (chunk.start, chunk.end)} if asked.times else {}),
                    "text": chunk.text,
                }
                for chunk in chunks
            ]
        return answer


class _Timed:
    """A clock as a rule of one window."""

    def __init__(self, clock: Clock, prompt: int) -> None:
        self._clock = clock
        self._prompt = prompt

    def __call__(self, tokens: Sequence[int], scores: Scores) -> None:
        """See `Rule`."""
        self._clock.mask(scores, tokens[self._prompt :])


class _Watch:
    """How likely the tokens of a window are, of which the likeliest is taken; the last rule."""

    def __init__(self) -> None:
        self.total = 0.0

    def __call__(self, tokens: Sequence[int], scores: Scores) -> None:
        """See `Rule`."""
        self.total += float(log_chances(scores).max())


def _alike(rows: Sequence[Row]) -> Sequence[list[int]]:
    """The places of the rows whose prompts are of one length, for each length."""
    found: dict[int, list[int]] = {}
    for place, row in enumerate(rows):
        found.setdefault(len(row.prompt), []).append(place)
    return list(found.values())


def _check_tokens(speech: SpeechRules, vocabulary: int | str) -> None:
    """Raise BundleCorrupt for rules that name a token that the decoder does not score."""
    named = [speech.start, *speech.languages.values(), *speech.tasks.values()]
    named += [token for token in speech.forced if token is not None]
    if speech.first_mark is not None:
        named.append(speech.first_mark)
    if isinstance(vocabulary, int) and max(named) >= vocabulary:
        raise BundleCorrupt(
            f"The manifest's generation.speech names the token {max(named):,}; the decoder scores"
            f" {vocabulary:,}.",
            hint="Export the bundle again.",
        )
