"""Sounds in, the task's answers out: decoded, prepared, run together where they are of a length."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from edgekit.core.manifest import TensorSpec
from edgekit.runtime.options import refuse_options
from edgekit.runtime.session import Array, Session
from edgekit.runtime.sound.processor import Encoded
from edgekit.runtime.sound.reader import SoundReader

# The most sounds, or pieces of a long one, of one run. Seconds are much to compute already.
SOUNDS = 4
# Bytes of prepared sounds that wait for others of their length.
_WAITING = 256 << 20


@dataclass(eq=False)
class _Heard:
    """What was kept of the pieces of one sound; ``missing`` of them are not run yet."""

    kept: dict[int, Array] = field(default_factory=dict)
    missing: int = 0
    ended: bool = False


@dataclass(frozen=True, eq=False, slots=True)
class _Waiting:
    """A prepared piece: of which sound, and at which place in it."""

    sound: int
    place: int
    piece: Encoded


class SoundPredictor:
    """Sounds in, the task's answers out.

    A list is answered in its order. Sounds of the same number of samples run together, others one
    after the other: nothing is computed on padding, and an answer does not depend on the sounds
    beside it. Of an hour no more is held than of some pieces.
    """

    def __init__(
        self,
        session: Session,
        processor: Mapping[str, object],
        inputs: Sequence[TensorSpec],
        outputs: tuple[TensorSpec, ...],
        labels: tuple[str, ...] | None,
        name: str,
    ) -> None:
        self._session = session
        self._name = name
        self.reader = SoundReader(processor, inputs, outputs, labels)

    def __call__(
        self, inputs: object, *, batch_size: int | None, options: Mapping[str, object]
    ) -> object:
        """See `edgekit.runtime.predictor.Predictor`."""
        if options:
            refuse_options(options, self.reader.task.options, self._name)
        items = inputs if isinstance(inputs, list) else [inputs]
        limit = self.reader.batch or batch_size or SOUNDS
        answers: list[object] = [None] * len(items)
        heard: dict[int, _Heard] = {}
        waiting: dict[tuple[int, ...], list[_Waiting]] = {}
        bytes_waiting = 0
        for index, item in enumerate(items):
            sound = heard[index] = _Heard()
            for place, piece in enumerate(self.reader.encode(item, options)):
                sound.missing += 1
                shape = piece.values.shape
                waiting.setdefault(shape, []).append(_Waiting(index, place, piece))
                bytes_waiting += piece.values.nbytes
                while len(waiting.get(shape, ())) >= limit or bytes_waiting > _WAITING:
                    largest = max(waiting, key=lambda one: len(waiting[one]))
                    group = waiting.pop(largest)
                    bytes_waiting -= sum(one.piece.values.nbytes for one in group)
                    self._run(group, heard)
            sound.ended = True
            self._answer(heard, answers, options)
        for group in waiting.values():
            self._run(group, heard)
            self._answer(heard, answers, options)
        return answers if isinstance(inputs, list) else answers[0]

    def _run(self, group: Sequence[_Waiting], heard: Mapping[int, _Heard]) -> None:
        """Run pieces of one length, in batches of the graph's size where it has one."""
        task = self.reader.task
        size = self.reader.batch or len(group)
        for start in range(0, len(group), size):
            part = group[start : start + size]
            feeds = self.reader.feeds([one.piece for one in part])
            output = self._session.run(feeds)[task.outputs[0]]
            for row, one in enumerate(part):
                heard[one.sound].kept[one.place] = task.keep(output[row], one.piece)
                heard[one.sound].missing -= 1

    def _answer(
        self, heard: dict[int, _Heard], answers: list[object], options: Mapping[str, object]
    ) -> None:
        """Answer the sounds of which nothing is missing, and let them go."""
        for index in [one for one, sound in heard.items() if sound.ended and not sound.missing]:
            kept = heard.pop(index).kept
            ordered = [kept[place] for place in sorted(kept)]
            answers[index] = self.reader.task.answer(ordered, options)
