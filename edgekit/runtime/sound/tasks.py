"""Post-processing of sound tasks in numpy, by the ``kind`` of a processor's ``post``.

Each repeats what transformers' pipeline answers by default.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Protocol

import numpy as np

from edgekit.core.errors import BundleCorrupt, BundleVersion, ConfigError
from edgekit.core.manifest import TensorSpec
from edgekit.runtime.fields import UPGRADE, flag, whole
from edgekit.runtime.session import Array
from edgekit.runtime.sound.processor import Encoded
from edgekit.runtime.sound.rules import MOST_NUMBERS, SoundRules
from edgekit.runtime.tasks._base import (
    Options,
    check_keys,
    choice_option,
    label,
    labels_of,
    pick_outputs,
)
from edgekit.runtime.tasks.classification import Ranking
from edgekit.runtime.tasks.masks import mend_spacing

# A word is what stands between two of these.
_SPACE = " "


@dataclass(frozen=True)
class SoundContext:
    """What a sound task is made from."""

    rules: SoundRules
    labels: tuple[str, ...] | None
    outputs: tuple[TensorSpec, ...]

    @property
    def post(self) -> Mapping[str, object]:
        """How the outputs are read."""
        return self.rules.post


class SoundTask(Protocol):
    """Post-processing of one task; holds parameters only, so it serves many threads."""

    outputs: tuple[str, ...]
    options: frozenset[str]
    # Samples that pieces of a long sound share; None where a sound is read as a whole.
    stride: int | None

    def keep(self, output: Array, piece: Encoded) -> Array:
        """What of a piece's row of the first output the answer needs: little, of an hour."""
        ...

    def answer(self, kept: Sequence[Array], options: Options) -> object:
        """The answer to one sound from what was kept of its pieces."""
        ...


class AudioClassification:
    """``[{"label", "score"}]``, the best ``top_k`` (5) first; ``top_k=None`` gives all."""

    options = Ranking.options
    stride: int | None = None

    def __init__(self, context: SoundContext) -> None:
        check_keys(context.post, "activation", "top_k")
        self.outputs = pick_outputs(context, "logits")
        self._ranking = Ranking(context, self.outputs[0])

    def keep(self, output: Array, piece: Encoded) -> Array:
        """The scores as they are."""
        return np.array(output)

    def answer(self, kept: Sequence[Array], options: Options) -> object:
        """See `SoundTask.answer`."""
        return self._ranking.answer(kept[0], options)


class Transcription:
    """``{"text"}``, with ``return_timestamps`` ("word" or "char") also ``"chunks"``.

    Of every frame the likeliest token; of equal neighbours one, blanks left out (A. Graves et al.:
    Connectionist Temporal Classification, 2006). Long sounds are read in overlapping pieces;
    ``chunk_length_s`` and ``stride_length_s`` make these shorter than the bundle does.
    """

    options = frozenset({"return_timestamps", "chunk_length_s", "stride_length_s"})

    def __init__(self, context: SoundContext) -> None:
        check_keys(
            context.post, "blank", "delimiter", "lower", "stride", "clean_up_tokenization_spaces"
        )
        post, rules = context.post, context.rules
        self.outputs = pick_outputs(context, "logits")
        if context.labels is None:
            raise BundleCorrupt("The bundle has no labels, and ctc reads tokens by them.")
        tokens = labels_of(context, self.outputs[0])
        if not rules.convolutions:
            raise BundleCorrupt("The processor has no convolutions, and ctc counts frames by them.")
        self._rules = rules
        self.stride: int | None = whole(post, "stride", "processor.post", 0, MOST_NUMBERS)
        most = len(tokens) - 1
        self._blank = tokens[whole(post, "blank", "processor.post", 0, most)]
        self._delimiter = None
        self._lower = flag(post, "lower", "processor.post")
        self._mend = flag(post, "clean_up_tokenization_spaces", "processor.post")
        if post.get("delimiter") is not None:
            self._delimiter = tokens[whole(post, "delimiter", "processor.post", 0, most)]
        self._tokens = tokens

    def keep(self, output: Array, piece: Encoded) -> Array:
        """The likeliest token of every frame that is the piece's own."""
        ids = np.asarray(output[: self._rules.frames(piece.samples)]).argmax(axis=-1)
        if not (piece.left or piece.right):
            return np.asarray(ids)
        # Rounded as transformers rounds: first all of the piece, then its sides.
        frames = round(piece.samples / self._rules.ratio)
        left, right = (round(side / piece.samples * frames) for side in (piece.left, piece.right))
        return np.asarray(ids[left : frames - right])

    def answer(self, kept: Sequence[Array], options: Options) -> object:
        """See `SoundTask.answer`."""
        wanted = None
        if options.get("return_timestamps") is not None:
            wanted = choice_option(options, "return_timestamps", ("word", "char"), "word")
        ids = np.concatenate(kept).tolist()
        text = self.decode(ids)
        if wanted is None:
            return {"text": text}
        marks = self._marks(ids)
        marks = _words(marks) if wanted == "word" else marks
        rate, step = self._rules.sampling_rate, self._rules.ratio
        return {
            "text": text,
            "chunks": [
                {"text": said, "timestamp": (start * step / rate, stop * step / rate)}
                for said, start, stop in marks
            ],
        }

    def decode(self, ids: Sequence[int]) -> str:
        """The text that the tokens of frames spell."""
        text = "".join(said for said, _, _ in self._marks(ids)).strip()
        text = text.lower() if self._lower else text
        return mend_spacing(text) if self._mend else text

    def _marks(self, ids: Sequence[int]) -> list[tuple[str, int, int]]:
        """The marks of the text, each with its first frame and the one behind its last."""
        found: list[tuple[str, int, int]] = []
        place = 0
        # Equal tokens, which two numbers may stand for, and not equal numbers.
        for token, run in groupby(label(self._tokens, index) for index in ids):
            start, place = place, place + sum(1 for _ in run)
            if token != self._blank:
                found.append((_SPACE if token == self._delimiter else token, start, place))
        return found


def _words(marks: Sequence[tuple[str, int, int]]) -> list[tuple[str, int, int]]:
    found: list[tuple[str, int, int]] = []
    for space, run in groupby(marks, key=lambda mark: mark[0] == _SPACE):
        if not space:
            some = list(run)
            found.append(("".join(said for said, _, _ in some), some[0][1], some[-1][2]))
    return found


SOUND_TASKS: Mapping[str, Callable[[SoundContext], SoundTask]] = {
    "audio-classification": AudioClassification,
    "ctc": Transcription,
}
# The task of a bundle by the kind of its post-processing.
TASK_OF: Mapping[str, str] = {
    "audio-classification": "audio-classification",
    "ctc": "automatic-speech-recognition",
}


def make_sound_task(context: SoundContext) -> SoundTask:
    """The task that ``context.post`` describes. Raises BundleVersion, BundleCorrupt."""
    kind = context.post.get("kind")
    if not isinstance(kind, str) or kind not in SOUND_TASKS:
        raise BundleVersion(
            f"processor.post is of kind {kind!r}; for sounds this edgekit knows"
            f" {', '.join(SOUND_TASKS)}.",
            hint=UPGRADE,
        )
    try:
        return SOUND_TASKS[kind](context)
    except ConfigError as error:
        # The same words are an option's fault in a call and the bundle's here.
        raise BundleCorrupt(f"processor.post: {error.message}", hint=error.hint) from error
