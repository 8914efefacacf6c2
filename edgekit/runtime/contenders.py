"""What is measured: a bundle, or a bare graph file, opened and run the way an app does it."""

from __future__ import annotations

import importlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

from edgekit.core.bundle import Bundle, open_bundle
from edgekit.core.errors import ConfigError, EdgekitError
from edgekit.core.manifest import RuntimeChoice
from edgekit.runtime.conversation import python_command
from edgekit.runtime.engines import find_engine
from edgekit.runtime.generation.answering import Answering, answer
from edgekit.runtime.model import Model
from edgekit.runtime.opening import open_sessions
from edgekit.runtime.pictures.drawn import camera_size, drawn_picture
from edgekit.runtime.pictures.processor import PictureProcessor
from edgekit.runtime.raw import RawContender, is_raw
from edgekit.runtime.session import Array
from edgekit.runtime.stages import Stopwatch, measure_stages
from edgekit.runtime.tokens import Request
from edgekit.runtime.worker import Contender, Measurable
from edgekit.runtime.workloads import Workload

# What preparing inputs imports, by the kind of processor.
_PACKAGES: Mapping[str, tuple[str, ...]] = {
    "text": ("tokenizers",),
    "image": ("PIL.Image",),
    "image-text": ("tokenizers", "PIL.Image"),
    "audio": ("soundfile",),
    "generation": ("tokenizers",),
}


@dataclass(frozen=True)
class BundleContender:
    """A bundle as a contender; ``options`` stand over the runtime options of its manifest.

    It runs with ``threads``, or with ``own_threads`` with fewer where compiling has found them to
    be faster: nobody has asked for a number then.
    """

    path: Path
    threads: int | None
    options: Mapping[str, object] = field(default_factory=dict)
    own_threads: bool = False

    def imports(self) -> None:
        """See `edgekit.runtime.worker.Contender`."""
        manifest = open_bundle(self.path, check="quick").manifest
        find_engine(manifest.requires.engine).version()
        processor = manifest.processor or {}
        heard = ("soundfile",) if processor.get("input") == "audio" else ()
        for package in (*_PACKAGES.get(str(processor.get("kind")), ()), *heard):
            importlib.import_module(package)

    def open(self) -> Measurable:
        """See `edgekit.runtime.worker.Contender`."""
        bundle = with_options(open_bundle(self.path), self.options)
        threads = _threads(bundle, self.threads) if self.own_threads else self.threads
        watch = Stopwatch(open_sessions(bundle, threads=threads))
        return OpenBundle(Model(bundle, watch), watch)


@dataclass(frozen=True)
class OpenBundle:
    """A loaded bundle under measurement: `Model.run`, input checks included.

    Requests of a model that generates go through its predictor's own loop.
    """

    model: Model
    watch: Stopwatch

    def facts(self) -> Mapping[str, object]:
        """See `edgekit.runtime.worker.Measurable`.

        ``effective_precision`` is the coarsest of what the bundle was converted to and what the
        engine computes in: the one whose tolerance applies.
        """
        return {
            "engine": self.model.engine,
            "device": self.model.device,
            "effective_precision": self.model.precision,
            **self.model.facts(),
        }

    def start(self, workload: Workload) -> Callable[[], Mapping[str, Array]]:
        """See `edgekit.runtime.worker.Measurable`."""
        if workload.new_tokens is not None:
            predictor = self._answering()
            # Coarser numbers may choose the other of two near tokens when threads add up otherwise.
            exact = self.model.precision == "fp32"
            return Request(lambda came: answer(predictor, workload, came, tokens=exact))
        feeds = dict(workload.feeds)
        return lambda: self.model.run(feeds)

    def answer(self, workload: Workload) -> Mapping[str, Array]:
        """See `edgekit.runtime.worker.Compared`: with the tokens, and how sure each of them was."""
        return answer(self._answering(), workload, gaps=True)

    def prepare(self, workload: Workload) -> Callable[[], Mapping[str, Array]]:
        """See `edgekit.runtime.worker.Measurable`: a bundle's options are chosen already."""
        return self.start(workload)

    def stages(self, workload: Workload, *, seconds: float) -> Mapping[str, float]:
        """See `edgekit.runtime.worker.Staged`: nothing for a workload without texts or pictures.

        Nor for one whose inputs come of no picture that is here: stages of another prediction than
        the one that was measured would stand beside its time.
        """
        opener = getattr(self.model.predictor, "processor", None)
        kind = (self.model.manifest.processor or {}).get("kind")
        if kind == "image" and isinstance(opener, PictureProcessor):
            looks = self._looks(workload, opener)
            if not looks:
                return {}
            return measure_stages(self.watch, looks, seconds=seconds, opener=opener)
        if workload.texts is None or kind is None:
            return {}
        predictions = [
            partial(self.model, list(single.texts or ()), batch_size=workload.batch)
            if workload.batch > 1
            else partial(self.model, (single.texts or ("",))[0])
            for single in workload.singles()
        ]
        return measure_stages(self.watch, predictions, seconds=seconds)

    def _answering(self) -> Answering:
        predictor = self.model.predictor
        if not isinstance(predictor, Answering):
            raise ConfigError(
                f"{self.model.bundle.path} ({self.model.task}) generates"
                " nothing that could be asked for.",
                hint="Compare bundles that generate, of one model.",
            )
        return predictor

    def _looks(self, workload: Workload, processor: PictureProcessor) -> list[Callable[[], object]]:
        """Predictions of the workload's pictures, or of one that is drawn for it."""
        size = workload.batch
        pictures: Sequence[object] = [Path(one) for one in workload.pictures or ()]
        if not pictures:
            drawn = _drawn(workload, processor) if workload.pictures is None else None
            if drawn is None:
                return []
            pictures = [drawn] * size
        return [
            partial(self.model, list(pictures[start : start + size]), batch_size=size)
            if size > 1
            else partial(self.model, pictures[start])
            for start in range(0, len(pictures) - size + 1, size)
        ]


def _drawn(workload: Workload, processor: PictureProcessor) -> bytes | None:
    """A picture that is prepared to the shapes of a workload; None where none is found.

    As large as a camera's where a processor resizes, else as large as the tensor.
    """
    pixels = workload.feeds.get(processor.rules.inputs[0])
    if pixels is None or pixels.ndim != 4:
        return None
    height, width = pixels.shape[2:] if processor.rules.layout == "chw" else pixels.shape[1:3]
    for size in (camera_size(height, width), (width, height)):
        picture = drawn_picture(size)
        try:
            made = processor.encode(picture)
        except EdgekitError:
            # It may be too large for a graph of fixed sizes.
            continue
        if made.pixels.shape == pixels.shape[1:]:
            return picture
    return None


def _threads(bundle: Bundle, most: int | None) -> int | None:
    """The threads that a bundle has, where compiling found fewer than `most` to be faster."""
    own = bundle.manifest.runtime.options.get("threads")
    among = bundle.manifest.runtime.chosen_by.get("threads")
    if most is None or not isinstance(own, int) or not isinstance(among, int) or own >= among:
        return most
    return min(own, most)


def with_options(bundle: Bundle, options: Mapping[str, object]) -> Bundle:
    """The bundle with some runtime options set; those that hold several are set one by one."""
    if not options:
        return bundle
    merged = dict(bundle.manifest.runtime.options)
    for key, value in options.items():
        before = merged.get(key)
        both = isinstance(before, Mapping) and isinstance(value, Mapping)
        merged[key] = {**before, **value} if both else value  # type: ignore[dict-item]
    runtime: RuntimeChoice = replace(bundle.manifest.runtime, options=merged)
    return Bundle(bundle.path, replace(bundle.manifest, runtime=runtime))


def make_contender(
    path: Path,
    threads: int | None,
    options: Mapping[str, object],
    *,
    own_threads: bool = False,
) -> Contender:
    """The contender at a path: a bare graph by its ending, else a bundle."""
    if is_raw(path):
        return RawContender(path, threads, options)
    return BundleContender(path, threads, options, own_threads)


def worker_command(
    path: Path,
    inputs: Path,
    threads: int,
    options: Mapping[str, object] | None = None,
    *,
    own_threads: bool = False,
) -> tuple[str, ...]:
    """The command of one measuring process of a bundle, or of a bare ``.onnx`` or ``.xml``.

    `options` are runtime options as manifests hold them; they stand over the bundle's own. For
    `own_threads` see `BundleContender`.
    """
    words = [str(path), "--worker", str(inputs), "--threads", str(threads)]
    words += ["--own-threads"] if own_threads else []
    words += ["--options", json.dumps(dict(options))] if options else []
    return python_command("edgekit.runtime.bench", *words)


def read_options(text: str | None) -> dict[str, object]:
    """The options of a command line of `worker_command`. Raises ConfigError."""
    try:
        found = json.loads(text or "{}")
    except ValueError:
        found = None
    if not isinstance(found, dict):
        raise ConfigError(f"--options should be a JSON object, got {text!r}.")
    return found
