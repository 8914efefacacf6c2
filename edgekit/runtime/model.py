"""What `edgekit.load` returns: one bundle, opened by one engine, ready to answer."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from types import TracebackType

from edgekit.core.bundle import Bundle
from edgekit.core.errors import ConfigError, SessionError
from edgekit.core.manifest import Manifest
from edgekit.core.results import GoldenRow
from edgekit.runtime import golden
from edgekit.runtime.caches import check_places
from edgekit.runtime.inputs import InputCheck
from edgekit.runtime.options import check_batch_size
from edgekit.runtime.predictor import Predictor, Streaming, make_predictor
from edgekit.runtime.session import Array, Fact, Session

GENERATIVE = frozenset({"text-generation", "text2text-generation", "automatic-speech-recognition"})

# What a model is called with, by the kind of its processor.
_TAKES = {
    "text": "texts",
    "image": "pictures",
    "image-text": "texts or pictures",
    "audio": "sounds",
    "generation": "texts or sounds",
}


class Model:
    """An opened bundle. Every method may be called from many threads at once.

    Use it as a context manager, or call `close`: the engine's memory is freed there and then.
    """

    def __init__(self, bundle: Bundle, session: Session) -> None:
        self.bundle = bundle
        manifest = bundle.manifest
        self._task = manifest.task
        self._session = session
        kind = (manifest.processor or {}).get("kind")
        self._check = InputCheck(session.inputs, takes=_TAKES.get(str(kind)))
        self._predict = make_predictor(session, self._check, manifest, bundle.path)
        self._closed = False

    def __call__(
        self, inputs: object, *, batch_size: int | None = None, **options: object
    ) -> object:
        """The answer of `transformers.pipeline` for this task, for one input or a list of them.

        Inputs are a ``str``, a pair ``(str, str)``, for question answering
        ``{"question", "context"}``, for pictures a path, the bytes of a file, a Pillow image or a
        uint8 array ``[height, width, 3]``, for sounds a path, the bytes of a file or ``(float32
        array, sampling_rate)``, for chat models a conversation ``[{"role", "content"}, …]``, for
        custom models a dict of arrays, or a list of these; a list is answered with a list in the
        same order. A model of pictures and texts takes a ``str`` for a text, and a path as ``Path``
        or ``{"image": "…"}``. ``batch_size`` is the most rows of one run (32, pictures and prompts
        8, sounds 4). ``options`` are the pipeline's: ``top_k``,
        ``aggregation_strategy``, ``threshold``, ``return_timestamps``, those of `stream`…
        Each item of a list is answered as it would be alone, but for what is drawn: with ``seed``
        the item at the place k draws from ``[seed, k]``, so that equal prompts get different
        answers, and the first of a list the one that it gets alone.

        Raises:
            InputMismatch: an input that the task does not take.
            ConfigError: an option that the task does not have, or a wrong value.
            SessionError: the model is closed, or the engine failed.
        """
        if self._closed:
            raise self._is_closed()
        if batch_size is not None:
            check_batch_size(batch_size)
        return self._predict(inputs, batch_size=batch_size, options=options)

    def run(self, feeds: Mapping[str, Array]) -> dict[str, Array]:
        """The graph's outputs by name for raw tensors, checked against the manifest.

        Raises:
            InputMismatch: names, dtypes, ranks or sizes other than declared, an empty
                dimension, or NaN; positions that a compiled decoder does not go by.
            SessionError: the model is closed, or the engine failed.
        """
        checked = self._check(feeds)
        check_places(self._session.inputs, self._session.outputs, checked)
        return self._session.run(checked)

    async def acall(
        self, inputs: object, *, batch_size: int | None = None, **options: object
    ) -> object:
        """`__call__` in a thread of its own; engines release the GIL while they compute."""
        # 25 ms and some megabytes that an app without an event loop never needs.
        from asyncio import to_thread

        return await to_thread(self.__call__, inputs, batch_size=batch_size, **options)

    def stream(self, inputs: object, **options: object) -> Iterator[str]:
        """The pieces of a generated text as they come: joined they are the new text.

        One prompt, or one conversation as a list of ``{"role", "content"}``; no piece holds half a
        character. ``options`` are those of transformers' GenerationConfig: ``max_new_tokens``,
        ``do_sample``, ``temperature``, ``top_k``, ``top_p``, ``min_p``, ``repetition_penalty``,
        ``num_beams``, ``stop_strings``…, and ``seed``. Closing the iterator ends the generation.

        Raises:
            InputMismatch: an input that the task does not take, or one beyond the context.
            ConfigError: a task that generates nothing; an option that it does not have.
            SessionError: the model is closed, or the engine failed.
        """
        if self._closed:
            raise self._is_closed()
        if isinstance(self._predict, Streaming):
            return self._predict.stream(inputs, options)
        raise ConfigError(
            f"{self._task} gives one answer and has nothing to stream.",
            hint="Call the model: model(inputs).",
        )

    def selftest(self) -> tuple[GoldenRow, ...]:
        """The golden inputs run here and compared with what was recorded, one row per output.

        Empty for a bundle without golden values. Raises BundleCorrupt when their file is unusable.
        """
        if self._closed:
            raise self._is_closed()
        return golden.judge(self.bundle, self._session)

    @property
    def manifest(self) -> Manifest:
        """Everything that the bundle says of itself."""
        return self.bundle.manifest

    @property
    def task(self) -> str:
        """The task, like ``text-classification``."""
        return self._task

    @property
    def labels(self) -> tuple[str, ...] | None:
        """The names of the classes by index, or None."""
        return self.bundle.manifest.labels

    @property
    def precision(self) -> str:
        """The coarsest of what the bundle was converted to and what the engine computes in."""
        return golden.effective_precision(self.bundle.manifest, self._session)

    @property
    def predictor(self) -> Predictor:
        """What answers, for who measures its parts."""
        return self._predict

    @property
    def engine(self) -> str:
        """The engine that runs the model: ``onnxruntime``, ``openvino``…"""
        return self._session.engine

    @property
    def device(self) -> str:
        """The device it runs on: ``cpu``, ``cuda``, ``gpu``, ``npu``."""
        return self._session.device

    def facts(self) -> dict[str, Fact]:
        """What the engine really does: ``version``, ``provider``, ``precision``, ``threads``…"""
        return self._session.facts()

    def close(self) -> None:
        """Free the engine's memory; idempotent. A call after this raises SessionError.

        So does an answer that is being generated, in place of its next token: what a stream still
        holds is freed there, or with the stream.
        """
        self._closed = True
        self._session.close()

    def __enter__(self) -> Model:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        state = "closed" if self._closed else f"{self.engine} on {self.device}"
        return f"<edgekit.Model {self.manifest.name!r} {self._task}, {state}>"

    def _is_closed(self) -> SessionError:
        return SessionError("The model is closed.", hint="Load the bundle again.")
