"""Cuts as bundles: exported, opened by the target's engine, timed beside each other."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from edgekit.core.bundle import Bundle
from edgekit.core.errors import PruneError
from edgekit.core.measurements import BenchResult
from edgekit.core.profiles import Profile
from edgekit.evaluation.accuracy import Evaluation, evaluate
from edgekit.evaluation.counting import Counted
from edgekit.evaluation.remembering import remembering
from edgekit.evaluation.statistics import Budget
from edgekit.pipeline.exporting import export_loaded
from edgekit.pipeline.fitting import feeds_at, on_engine, workload_for
from edgekit.pipeline.progress import Progress
from edgekit.pipeline.timing import time_pair, typical_ms
from edgekit.runtime import load
from edgekit.runtime.model import Model
from edgekit.sources.data import Samples

if TYPE_CHECKING:
    from torch import Tensor

    from edgekit.sources.loaded import LoadedSource

# Rounds of turns of a table: what is chosen hangs on differences of a few per cent.
_ROUNDS = 15


class Maker(Protocol):
    """Makes of a cut source what is judged and timed of it, for one target at one workload.

    ``original`` is the bundle of the model that is to be pruned, None where nothing is exported;
    ``elsewhere`` why nothing can be timed for the target on this machine, None where it can.
    """

    @property
    def profile(self) -> Profile:
        """The target."""
        ...

    @property
    def folder(self) -> Path:
        """Where bundles are kept meanwhile."""
        ...

    @property
    def original(self) -> Bundle | None:
        """See above."""
        ...

    @property
    def elsewhere(self) -> str | None:
        """See above."""
        ...

    @property
    def threads(self) -> int | None:
        """The threads of whatever is run, None for as many as are best."""
        ...

    @property
    def workload(self) -> Mapping[str, int]:
        """Batch and length of one inference."""
        ...

    def workload_tensors(self) -> dict[str, Tensor]:
        """The inputs of one inference at the workload."""
        ...

    def export(self, source: LoadedSource, name: str) -> Bundle | None:
        """A source as a bundle, proved equal to it; None where nothing is exported."""
        ...

    def evaluate(
        self, made: LoadedSource, bundle: Bundle | None, rows: Samples, *,
        metric: str | None, budget: Budget, seed: int,
    ) -> Evaluation:  # fmt: skip
        """A cut source, as its bundle where there is one, against the original on some rows."""
        ...

    def time_all(
        self, sources: Mapping[str, Callable[[], LoadedSource] | None]
    ) -> dict[str, float]:
        """The milliseconds of sources at the workload, interleaved; None is the original."""
        ...

    def compare(self, after: Bundle | None) -> BenchResult | None:
        """The original's speed against a bundle's; None where nothing is timed."""
        ...


class Shop:
    """A `Maker` of bundles, which are run and timed by the target's engine."""

    def __init__(
        self,
        source: LoadedSource,
        profile: Profile,
        folder: Path,
        *,
        elsewhere: str | None,
        batch: int | None,
        length: int | None,
        threads: int | None,
        seed: int,
        processor: Mapping[str, object] | None,
        progress: Progress,
    ) -> None:
        self.source = source
        self.profile = profile
        self.folder = folder
        self.elsewhere = elsewhere
        self.threads = threads or profile.threads or None
        self.progress = progress
        self._seed = seed
        self._processor = processor
        self._made = 0
        self._reference = remembering(source)
        progress(f"Exporting {source.architecture}, to compare with")
        self.original = self.export(source, "original")
        self.workload = workload_for(profile, self.original, batch, length)

    def export(self, source: LoadedSource, name: str) -> Bundle:
        """A source as a bundle, proved equal to it. Raises ExportError where it is not."""
        self._made += 1
        if source is not self.source:
            # Other weights: nobody holds its outputs to those of the original.
            from edgekit.sources.statehash import state_hash

            source = replace(source, sha256=state_hash(source.module.state_dict()))
        return export_loaded(
            source, self.folder / f"{self._made}" / name, processor=self._processor
        )

    def open(self, bundle: Bundle) -> Model:
        """A bundle on the target's engine where that is here, on the exporter's otherwise."""
        return load(self._engine(bundle).path, threads=self.threads, check="quick")

    def evaluate(
        self, made: LoadedSource, bundle: Bundle | None, rows: Samples, *,
        metric: str | None, budget: Budget, seed: int,
    ) -> Evaluation:  # fmt: skip
        """A bundle against the original on some rows."""
        assert bundle is not None
        with self.open(bundle) as model:
            return evaluate(
                model, self._reference, rows, metric=metric, max_drop=budget, seed=seed,
                progress=self.progress,
            )  # fmt: skip

    def workload_tensors(self) -> dict[str, Tensor]:
        """The inputs of one inference at the workload."""
        import torch

        return {
            name: torch.from_numpy(array)
            for name, array in feeds_at(self.original, self.workload).items()
        }

    def time_all(
        self, sources: Mapping[str, Callable[[], LoadedSource] | None]
    ) -> dict[str, float]:
        """The milliseconds of sources at the workload, interleaved in this process.

        None stands for the original. The others are made one by one, and only their bundles are
        kept meanwhile.
        """
        feeds = feeds_at(self.original, self.workload)
        with ExitStack() as stack:
            runs: list[Callable[[], object]] = []
            counted = stack.enter_context(
                Counted(self.progress, len(sources), lines=len(sources), first=True)
            )
            for number, (name, make) in enumerate(sources.items()):
                if make is not None:
                    told = f"{name}, {number + 1} of {len(sources)}"
                    counted.tell(f"Exporting what is timed: {told}", number)
                bundle = self.original if make is None else self.export(make(), "timed")
                model = stack.enter_context(self.open(bundle))
                runs.append(partial(model.run, feeds))
            counted.end()
            self.progress(f"Timing {len(sources)} models in turns")
            medians = typical_ms(runs, seed=self._seed, rounds=_ROUNDS)
        for path in self.folder.glob("*/timed*"):
            shutil.rmtree(path, ignore_errors=True)
        return dict(zip(sources, medians, strict=True))

    def compare(self, after: Bundle | None) -> BenchResult | None:
        """The original against a pruned model, as bench does; None for a target elsewhere."""
        if self.elsewhere is not None or after is None:
            return None
        self.progress("Measuring its speed against the original")
        return time_pair(
            self._engine(self.original), self._engine(after), self.workload,
            threads=self.threads, seed=self._seed,
        )  # fmt: skip

    def _engine(self, bundle: Bundle) -> Bundle:
        if self.elsewhere is not None:
            return bundle
        engine = self.profile.engine
        path = bundle.path.with_name(f"{bundle.path.name} on {engine}")
        return on_engine(bundle, engine, path, PruneError)
