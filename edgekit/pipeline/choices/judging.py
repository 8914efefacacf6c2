"""Judges candidates of a quantization: their outputs, their metric, their latency."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import ExitStack
from functools import partial
from typing import TYPE_CHECKING

from edgekit.core.bundle import Bundle
from edgekit.core.errors import ConfigError, QuantizeError, SessionError
from edgekit.core.measurements import BenchResult
from edgekit.evaluation.accuracy import Evaluation, evaluate, problem_of
from edgekit.evaluation.generation.original import Original
from edgekit.evaluation.pairs import sample_feeds
from edgekit.evaluation.statistics import Budget
from edgekit.pipeline.choices.candidates import Candidate, Workshop
from edgekit.pipeline.choices.rows import Rows
from edgekit.pipeline.fitting import feeds_at, on_engine, workload_for
from edgekit.pipeline.progress import Progress, silent
from edgekit.pipeline.timing import time_pair, typical_ms
from edgekit.quantization.distances import Measure, OutputError
from edgekit.quantization.recipes import Feeds, Recipe
from edgekit.quantization.sensitivity import give_up
from edgekit.quantization.trials import Measured
from edgekit.runtime.golden import handed_on
from edgekit.runtime.session import Array
from edgekit.sources.data import Samples

if TYPE_CHECKING:
    from edgekit.sources.loaded import LoadedSource

# Rows that the error of outputs is measured on: it ranks groups and algorithms, it proves nothing.
_ERROR_ROWS = 64
# Sessions of a table are open side by side: beyond so many bytes of weights there is none.
_TABLE_BYTES = 2 << 30
# What cannot be written takes so many times as long as the slowest.
_NEVER = 100.0


class Judge:
    """Runs candidates on the rows of a search, and the one that was found on those of the verdict.

    It is the `Trial` of a search. The original's answers are computed once.
    """

    def __init__(
        self,
        workshop: Workshop,
        loaded: LoadedSource | None,
        rows: Rows,
        metric: str | None,
        budget: Budget | None,
        *,
        seed: int,
        batch: int | None,
        length: int | None,
        threads: int | None,
        allow_slower: bool,
        progress: Progress,
    ) -> None:
        self.workshop = workshop
        self.rows = rows
        self.budget = budget
        self.allow_slower = allow_slower
        self._loaded = loaded
        self._original = Original(loaded) if loaded is not None and loaded.generative else None
        self._metric = metric
        self._seed = seed
        self._batch = batch
        self._length = length
        self._threads = threads
        self._progress = progress
        self._feeds: tuple[Feeds, ...] = ()
        self._exact: list[Mapping[str, Array]] = []
        self._problem: str | None = None

    @property
    def measure(self) -> Measure:
        """See `Trial`."""
        self._prepare()
        told = OutputError(self._problem)
        told.add(self._exact[0], self._exact[0])
        return told.measure

    def error(self, recipe: Recipe) -> float:
        """See `Trial`."""
        self._prepare()
        candidate = self.workshop.write(recipe)
        try:
            found = OutputError(self._problem)
            with self.workshop.open(candidate.bundle, threads=self._threads) as model:
                for feeds, exact in zip(self._feeds, self._exact, strict=True):
                    found.add(exact, model.run(feeds))
            return found.value
        finally:
            self.workshop.forget(candidate)

    def evaluate(self, recipe: Recipe) -> Measured:
        """See `Trial`."""
        candidate = self.workshop.write(recipe)
        try:
            found = self.on(candidate.bundle, self.search_rows)
            return Measured(found.drop, candidate.bytes, problem=found.problem)
        finally:
            self.workshop.forget(candidate)

    def on(self, bundle: Bundle, samples: Samples) -> Evaluation:
        """A bundle against the original on some samples."""
        if self._loaded is None or self.budget is None:
            raise ConfigError("There is no --reference to judge by.")
        # An answer takes as long as a thousand rows of an encoder do.
        generates = bundle.manifest.generation is not None
        with self.workshop.open(bundle, threads=self._threads) as model:
            return evaluate(
                model, self._loaded, samples, metric=self._metric, max_drop=self.budget,
                original=self._original, seed=self._seed,
                progress=self._progress if generates else silent,
            )  # fmt: skip

    def time_all(self, recipes: Mapping[str, Recipe]) -> dict[str, float]:
        """The milliseconds of recipes at the workload, interleaved in this process.

        Empty where this machine is not the target, where they do not fit in memory together, and
        for models that generate: one call of a graph is not what an answer costs. A recipe that
        cannot be written takes for ever.
        """
        generates = self.workshop.source.manifest.generation is not None
        if self.workshop.elsewhere is not None or generates:
            return {}
        if self.workshop.source.bytes() * len(recipes) > _TABLE_BYTES:
            self._progress("Not timed: so many candidates do not fit in memory together")
            return {}
        source = self.workshop.source
        feeds = feeds_at(source, self._workload(source))
        with ExitStack() as stack:
            runs: list[Callable[[], object]] = []
            names: list[str] = []
            for name, recipe in recipes.items():
                try:
                    candidate = self.workshop.write(recipe)
                except (QuantizeError, SessionError) as refused:
                    give_up(refused)
                    continue
                stack.callback(self.workshop.forget, candidate)
                model = self.workshop.open(candidate.bundle, threads=self._threads)
                runs.append(partial(stack.enter_context(model).run, feeds))
                names.append(name)
            medians = typical_ms(runs, seed=self._seed)
        typical = dict(zip(names, medians, strict=True))
        never = _NEVER * max(typical.values(), default=1.0)
        return {name: typical.get(name, never) for name in recipes}

    def against_input(self, candidate: Candidate) -> BenchResult | None:
        """The candidate timed against the bundle it is made of, on the target's engine.

        None where this machine is not the target. Raises MeasurementError when one of the two
        cannot be measured.
        """
        if self.workshop.elsewhere is not None:
            return None
        before = self.input_on_engine()
        self._progress("Measuring its speed against the bundle it is made of")
        return time_pair(
            before,
            candidate.bundle,
            self._workload(before),
            threads=self._threads or self.workshop.profile.threads or None,
            seed=self._seed,
        )

    def _prepare(self) -> None:
        """Answer the rows of rankings with the float graph, once, on the target's engine."""
        if self._exact:
            return
        with self.workshop.open(self.input_on_engine(), threads=self._threads) as model:
            if self.workshop.source.manifest.generation is not None:
                # A row of texts is no single call of a graph with a cache.
                self._feeds = (self.workshop.golden_inputs(),)
            elif self._loaded is not None:
                samples = self.search_rows
                self._feeds = tuple(sample_feeds(model, _spread(samples), _ERROR_ROWS))
                self._problem = problem_of(model, self._loaded, samples)
            elif self.rows.calibration is not None:
                self._feeds = tuple(
                    sample_feeds(model, _spread(self.rows.calibration), _ERROR_ROWS)
                )
            else:
                self._feeds = (self.workshop.golden_inputs(),)
            # A decoder's cache is no answer, and there is more of it than of logits.
            inner = handed_on(self.workshop.source.manifest.components)
            self._exact = [
                {name: array for name, array in model.run(feeds).items() if name not in inner}
                for feeds in self._feeds
            ]

    def input_on_engine(self) -> Bundle:
        """The input as the target's engine opens it: the same files, another manifest."""
        engine = self.workshop.profile.engine
        return on_engine(
            self.workshop.source,
            engine,
            self.workshop.folder / f"input on {engine}",
            QuantizeError,
        )

    @property
    def search_rows(self) -> Samples:
        """The rows that choose. Raises ConfigError where there are none."""
        if self.rows.search is None:
            raise ConfigError("There are no rows to search by.", hint="Pass --data DATA.")
        return self.rows.search

    @property
    def verdict_rows(self) -> Samples:
        """The rows that judge. Raises ConfigError where there are none."""
        if self.rows.verdict is None:
            raise ConfigError("There are no rows to judge by.", hint="Pass --data DATA.")
        return self.rows.verdict

    def _workload(self, bundle: Bundle) -> dict[str, int]:
        return workload_for(self.workshop.profile, bundle, self._batch, self._length)


def _spread(samples: Samples) -> Samples:
    """So many of the samples, from everywhere in DATA: it may be sorted."""
    return samples.take(range(0, len(samples), max(1, len(samples) // _ERROR_ROWS))[:_ERROR_ROWS])
