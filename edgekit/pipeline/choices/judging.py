"""Judges candidates of a quantization: their outputs, their metric, their latency."""

from __future__ import annotations

import gc
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from edgekit.core.bundle import Bundle, BundleWriter, open_bundle
from edgekit.core.errors import ConfigError, MeasurementError, QuantizeError, SessionError
from edgekit.core.manifest import RuntimeChoice
from edgekit.core.measurements import BenchResult
from edgekit.evaluation import latency as timing
from edgekit.evaluation.accuracy import Evaluation, evaluate, problem_of
from edgekit.evaluation.measuring import Measuring
from edgekit.evaluation.pairs import sample_feeds
from edgekit.evaluation.statistics import Budget
from edgekit.pipeline.choices.candidates import Candidate, Workshop
from edgekit.pipeline.choices.rows import Rows
from edgekit.pipeline.fitting import workload_for
from edgekit.pipeline.progress import Progress
from edgekit.quantization.distances import Measure, OutputError
from edgekit.quantization.recipes import Feeds, Recipe
from edgekit.quantization.sensitivity import give_up
from edgekit.quantization.trials import Measured
from edgekit.runtime.engines import find_engine
from edgekit.runtime.session import Array
from edgekit.runtime.timing import come_to_rest, take_turn
from edgekit.runtime.workloads import make_workloads
from edgekit.sources.data import Samples

if TYPE_CHECKING:
    from edgekit.sources.loaded import LoadedSource

# Rows that the error of outputs is measured on: it ranks groups and algorithms, it proves nothing.
_ERROR_ROWS = 64
# The latency table: turns of so many seconds, in so many rounds.
_TURN_SECONDS = 0.03
_ROUNDS = 7
# Sessions of a table are open side by side: beyond so many bytes of weights there is none.
_TABLE_BYTES = 2 << 30
# What cannot be written takes so many times as long as the slowest.
_NEVER = 100.0
# The comparison with the input; DESIGN's protocol, briefly.
_BUDGET_SECONDS = 12.0
_PROCESSES = 6


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
        with self.workshop.open(bundle, threads=self._threads) as model:
            return evaluate(
                model, self._loaded, samples, metric=self._metric, max_drop=self.budget,
                seed=self._seed,
            )  # fmt: skip

    def time_all(self, recipes: Mapping[str, Recipe]) -> dict[str, float]:
        """The milliseconds of recipes at the workload, interleaved in this process.

        Empty where this machine is not the target, or where they do not fit in memory together. A
        recipe that cannot be written takes for ever.
        """
        if self.workshop.elsewhere is not None:
            return {}
        if self.workshop.source.bytes() * len(recipes) > _TABLE_BYTES:
            self._progress("Not timed: so many candidates do not fit in memory together")
            return {}
        feeds = self._workload_feeds(self.workshop.source)
        generator = np.random.default_rng(self._seed)
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
            for run in runs:
                run()
            # Every turn collects garbage first: what torch and the sessions hold is none.
            gc.collect()
            gc.freeze()
            stack.callback(gc.unfreeze)
            medians: list[list[float]] = [[] for _ in runs]
            for _ in range(_ROUNDS):
                for index in generator.permutation(len(runs)):
                    come_to_rest()
                    turn = take_turn(runs[index], seconds=_TURN_SECONDS, least=2, discard=1)
                    medians[index].append(float(np.median(turn.nanoseconds)) / 1e6)
        typical = {name: float(np.median(own)) for name, own in zip(names, medians, strict=True)}
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
        workload = self._workload(before)
        length = workload.get("length")
        measuring = Measuring(
            batches=(workload["batch"],),
            lengths=None if length is None else (length,),
            threads=self._threads or self.workshop.profile.threads or None,
            budget=_BUDGET_SECONDS,
            processes=_PROCESSES,
            seed=self._seed,
        )
        self._progress("Measuring its speed against the bundle it is made of")
        result = timing.bench([before.path, candidate.bundle.path], None, measuring)
        for row in result.contenders:
            if row.error is not None and row.error_kind != "MeasurementError":
                raise MeasurementError(f"{row.name} could not be measured: {row.error}.")
        return result

    def _prepare(self) -> None:
        """Answer the rows of rankings with the float graph, once, on the target's engine."""
        if self._exact:
            return
        with self.workshop.open(self.input_on_engine(), threads=self._threads) as model:
            if self._loaded is not None:
                samples = self.search_rows
                self._feeds = tuple(sample_feeds(model, _spread(samples), _ERROR_ROWS))
                self._problem = problem_of(model, self._loaded, samples)
            elif self.rows.calibration is not None:
                self._feeds = tuple(
                    sample_feeds(model, _spread(self.rows.calibration), _ERROR_ROWS)
                )
            else:
                self._feeds = (self.workshop.golden_inputs(),)
            self._exact = [dict(model.run(feeds)) for feeds in self._feeds]

    def input_on_engine(self) -> Bundle:
        """The input as the target's engine opens it: the same files, another manifest."""
        source, engine = self.workshop.source, self.workshop.profile.engine
        manifest = source.manifest
        if manifest.requires.engine == engine:
            return source
        path = self.workshop.folder / f"input on {engine}"
        if path.exists():
            return open_bundle(path, check="quick")
        with BundleWriter(path, error=QuantizeError) as writer:
            writer.copy_from(source)
            extras = {*manifest.requires.extras} - {"ort", "cuda"} | {engine}
            requires = replace(manifest.requires, engine=engine, extras=tuple(sorted(extras)))
            runtime = RuntimeChoice(dict(find_engine(engine).EXACT_OPTIONS))
            writer.stage(replace(manifest, requires=requires, runtime=runtime))
            return writer.commit()

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

    def _workload_feeds(self, bundle: Bundle) -> Mapping[str, Array]:
        workload = self._workload(bundle)
        length = workload.get("length")
        lengths = None if length is None else [length]
        return make_workloads(bundle, batch=workload["batch"], lengths=lengths)[0].feeds


def _spread(samples: Samples) -> Samples:
    """So many of the samples, from everywhere in DATA: it may be sorted."""
    return samples.take(range(0, len(samples), max(1, len(samples) // _ERROR_ROWS))[:_ERROR_ROWS])
