"""A decoder's cache in ONNX Runtime's hands: new in every step, or one buffer that is written on.

Which of them a graph takes follows from its shapes: where past and present are declared with the
axis `edgekit.runtime.caches.CAPACITY`, they may be one buffer that is longer than what it holds.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from threading import Lock
from typing import TYPE_CHECKING, Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

from edgekit.core.errors import SessionError
from edgekit.core.manifest import TensorSpec
from edgekit.runtime.caches import IDS, MASK, cache_pairs, empty_cache
from edgekit.runtime.engines._onnxruntime_rows import each_row, put, room_for, run_apart
from edgekit.runtime.session import Array, contiguous

if TYPE_CHECKING:
    from onnxruntime import InferenceSession, IOBinding, OrtValue

# Tokens that a buffer has room for beyond the prompt, and by which share it grows.
_ROOM = 64
_GROWTH = 1.5


class Owner(Protocol):
    """An opened session of ONNX Runtime's."""

    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]

    def opened(self) -> InferenceSession:
        """ONNX Runtime's own session. Raises SessionError when this one is closed."""
        ...


# Of an array, whose memory it shares.
MakeValue = Callable[[Array], "OrtValue"]
# The size of an axis, or the input and its axis that have it; None where nothing tells.
_Axis: TypeAlias = int | tuple[str, int] | None


class GrowingCache:
    """See `edgekit.runtime.caches.Decoding`: a step's outputs are inputs of the next, as they are.

    On the CPU they stay ONNX Runtime's own values: numpy copies none of them between two steps,
    only `reorder` does. The engine makes each anew in a step, one token longer; nothing grows in
    place, and for the time of a step there are both. On CUDA, where neither inputs nor outputs are
    bound to the device, it copies them to the host after a step and back in the next.
    """

    def __init__(
        self, owner: Owner, value: MakeValue, batch: int, given: Mapping[str, Array]
    ) -> None:
        self._value = value
        # Not ONNX Runtime's session: it is freed where the owner is closed between two steps.
        self._owner = owner
        pairs = cache_pairs(owner.inputs, owner.outputs)
        self._names = [owner.outputs[0].name, *(present for _, present in pairs)]
        self._past = [spec.name for spec, _ in pairs]
        self._kept: dict[str, OrtValue] = {
            name: value(contiguous(array)) for name, array in given.items()
        }
        for spec, _ in pairs:
            self._kept[spec.name] = value(empty_cache(spec, batch))

    def step(self, feeds: Mapping[str, Array]) -> Array:
        """See `edgekit.runtime.caches.Decoding.step`."""
        try:
            session = self._owner.opened()
        except SessionError:
            self.close()
            raise
        values = dict(self._kept)
        for name, array in feeds.items():
            values[name] = self._value(contiguous(array))
        try:
            first, *present = session.run_with_ort_values(self._names, values)
        except Exception as error:
            raise refused(error) from error
        self._kept.update(zip(self._past, present, strict=True))
        answer: Array = first.numpy()
        return answer

    def reorder(self, rows: NDArray[np.int64]) -> None:
        """See `edgekit.runtime.caches.Decoding.reorder`."""
        for name in self._past:
            self._kept[name] = self._value(self._kept[name].numpy()[rows])

    def close(self) -> None:
        """See `edgekit.runtime.caches.Decoding.close`."""
        self._kept.clear()


class BufferedCache:
    """See `edgekit.runtime.caches.Decoding`: past and present are one buffer, which has room.

    A step writes the new tokens behind those that are there; nothing else of the cache is moved,
    until the room ends and larger buffers take its place. The tokens of every row begin at its
    first place, and the attention mask tells the graph how many there are: padding is in none.
    """

    def __init__(
        self, owner: Owner, value: MakeValue, batch: int, given: Mapping[str, Array]
    ) -> None:
        self._owner = owner
        self._value = value
        self._given = dict(given)
        self._pairs = cache_pairs(owner.inputs, owner.outputs)
        self._answer = owner.outputs[0]
        cached = {spec.name for spec, _ in self._pairs}
        fed = [spec for spec in owner.inputs if spec.name not in cached]
        self._axes = _axes(self._answer, fed)
        self._inputs = owner.inputs
        self._batch = batch
        # Tokens of the longest row, and whether each row has any.
        self._held = 0
        self._begun = False
        self._closed = False
        self._buffers: dict[str, Array] = {}
        # What holds ONNX Runtime's session, for all rows; the owner lets it go when it is closed.
        self._whole: _Bound | None = None
        # The owner may be closed from another thread: not while a step writes into the buffers.
        self._lock = Lock()

    def step(self, feeds: Mapping[str, Array]) -> Array:
        """See `edgekit.runtime.caches.Decoding.step`."""
        with self._lock:
            try:
                session = self._owner.opened()
            except SessionError:
                self._let_go()
                raise
            if self._closed:
                raise SessionError("The decoding is closed.", hint="Begin another one.")
            total = feeds[MASK].shape[1]
            if not self._buffers or total > self._room:
                self._grow(total)
            answer = self._run(session, {**self._given, **feeds})
            self._held = total
            self._begun = self._begun or bool(feeds[MASK].any(axis=1).all())
            return answer

    def reorder(self, rows: NDArray[np.int64]) -> None:
        """See `edgekit.runtime.caches.Decoding.reorder`."""
        with self._lock:
            for buffer in self._buffers.values():
                # A list of rows makes a copy first, so that none is read when it is written over.
                buffer[:, :, : self._held] = buffer[rows, :, : self._held]

    def close(self) -> None:
        """See `edgekit.runtime.caches.Decoding.close`."""
        with self._lock:
            self._let_go()

    def _let_go(self) -> None:
        self._closed = True
        self._whole = None
        self._buffers.clear()

    @property
    def _room(self) -> int:
        return int(next(iter(self._buffers.values())).shape[2])

    def _grow(self, total: int) -> None:
        """Make room for so many tokens and some more, with what is kept in its place."""
        room = max(total + _ROOM, int(self._held * _GROWTH))
        # It holds on to the buffers: old and new ones would all be in memory together.
        self._whole = None
        for spec, _ in self._pairs:
            sizes = [self._batch, *spec.shape[1:]]
            sizes[2] = room
            buffer = np.zeros(sizes, dtype=spec.dtype)  # type: ignore[arg-type]
            if self._held:
                buffer[:, :, : self._held] = self._buffers[spec.name][:, :, : self._held]
            self._buffers[spec.name] = buffer

    def _run(self, session: InferenceSession, feeds: Mapping[str, Array]) -> Array:
        single = self._begun and feeds[IDS].shape[1] == 1
        if not single and run_apart(feeds, self._held):
            return self._run_rows(session, feeds)
        if self._whole is None:
            self._whole = self._bound(session, slice(None))
        return self._whole.run(session, feeds)

    def _run_rows(self, session: InferenceSession, feeds: Mapping[str, Array]) -> Array:
        answers: Array | None = None
        for number, row in enumerate(each_row(self._inputs, feeds, self._held)):
            if row is None:
                continue
            found = self._bound(session, slice(number, number + 1)).run(session, row.feeds)
            if answers is None:
                answers = room_for(found, row, self._batch)
            put(answers, number, found, row)
        if answers is None:
            raise SessionError(
                "All of the tokens are padding.", hint="Begin with the first token of a row."
            )
        return answers

    def _bound(self, session: InferenceSession, rows: slice) -> _Bound:
        """The buffers of some rows as both the past and the present of a run."""
        binding = session.io_binding()
        for spec, present in self._pairs:
            value = self._value(self._buffers[spec.name][rows])
            binding.bind_ortvalue_input(spec.name, value)
            binding.bind_ortvalue_output(present, value)
        return _Bound(binding, self._value, self._answer, self._axes)


class _Bound:
    """Buffers that are bound to ONNX Runtime's session, and arrays for what goes in and out.

    Binding takes as long as some operators do. What has the shape that it had in the last run is
    written into the array that is bound already.
    """

    def __init__(
        self, binding: IOBinding, value: MakeValue, answer: TensorSpec, axes: Sequence[_Axis]
    ) -> None:
        self._binding = binding
        self._value = value
        self._answer = answer
        self._axes = axes
        # A binding holds no memory of numpy's in every release.
        self._given: dict[str, Array] = {}
        self._said: Array | None = None

    def run(self, session: InferenceSession, feeds: Mapping[str, Array]) -> Array:
        """The answer to these feeds; the array is good until the next run. Raises SessionError."""
        try:
            return self._run(session, feeds)
        except Exception as error:
            raise refused(error) from error

    def _run(self, session: InferenceSession, feeds: Mapping[str, Array]) -> Array:
        for name, array in feeds.items():
            own = self._given.get(name)
            if own is not None and own.shape == array.shape and own.dtype == array.dtype:
                own[...] = array
            else:
                self._given[name] = own = np.array(array, order="C")
                self._binding.bind_ortvalue_input(name, self._value(own))
        sizes = _sizes(self._axes, feeds)
        if sizes is None:
            self._binding.bind_output(self._answer.name)
            session.run_with_iobinding(self._binding)
            # The presents were bound before it.
            found: Array = self._binding.get_outputs()[-1].numpy()
            return found
        if self._said is None or self._said.shape != sizes:
            self._said = np.empty(sizes, self._answer.dtype)
            self._binding.bind_ortvalue_output(self._answer.name, self._value(self._said))
        session.run_with_iobinding(self._binding)
        return self._said


def refused(error: Exception) -> SessionError:
    """What is told of a run that ONNX Runtime gave up; its exceptions share no base."""
    return SessionError(f"ONNX Runtime could not run the graph: {error}")


def _axes(spec: TensorSpec, inputs: Sequence[TensorSpec]) -> tuple[_Axis, ...]:
    """What says the size of each axis of an output: itself, or an axis of an input of its name."""
    named: dict[int | str, _Axis] = {}
    for given in inputs:
        named.update({size: (given.name, axis) for axis, size in enumerate(given.shape)})
    return tuple(size if isinstance(size, int) else named.get(size) for size in spec.shape)


def _sizes(axes: Sequence[_Axis], feeds: Mapping[str, Array]) -> tuple[int, ...] | None:
    """The shape of an output, where the feeds tell it."""
    sizes = []
    for one in axes:
        if one is None:
            return None
        if isinstance(one, tuple):
            name, axis = one
            # What is missing or has fewer axes the engine refuses itself.
            if name not in feeds or feeds[name].ndim <= axis:
                return None
            one = feeds[name].shape[axis]
        sizes.append(one)
    return tuple(sizes)
