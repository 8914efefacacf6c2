"""Cuts of a model that generates: read as whole texts or answers in PyTorch, judged by perplexity.

What a token costs it hangs on its cache and on memory, not on the time of one inference: nothing is
exported or timed here.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch

from edgekit.core.errors import ConfigError
from edgekit.core.measurements import Accuracy, BenchResult
from edgekit.core.profiles import Profile
from edgekit.evaluation.accuracy import Evaluation, judge_pairs
from edgekit.evaluation.counting import Counted
from edgekit.evaluation.metrics.table import METRICS
from edgekit.evaluation.pairs import Pairs
from edgekit.evaluation.statistics import Budget, Floats, judge
from edgekit.pipeline.cuts.goals import Goal
from edgekit.pipeline.progress import Progress
from edgekit.pruning.feeding import Batch, batches
from edgekit.sources.data import LEAST_VERDICT_ROWS, Samples
from edgekit.sources.generation.whisper import FEATURES
from edgekit.sources.generation.whole import ANSWER, FORETELLING, LOGITS, next_token_losses

if TYPE_CHECKING:
    from torch import Tensor

    from edgekit.sources.loaded import LoadedSource

PERPLEXITY = "perplexity"
# A cut changes what is said of every text: how many have changed bounds nothing.
_METRIC = replace(METRICS[PERPLEXITY], influence=None)
_LENGTH = 128
_AT_ONCE = 256
_NOT_TIMED = "the time of a model that generates is that of its steps, which prune does not measure"


def check_asked(goal: Goal | None, metric: str | None, id: str) -> None:
    """Raise ConfigError for a goal or a metric that is not judged of a model that generates."""
    if goal is not None and goal.speedup is not None:
        raise ConfigError(
            f"--speedup {goal.speedup:g} cannot be aimed at: {id} generates, and {_NOT_TIMED}.",
            hint="Cut by --ratio, export both models, and measure them with edgekit bench.",
        )
    if goal is not None and goal.open:
        raise ConfigError(
            f"--max-drop {goal.budget} alone does not say how much of {id} to cut: of a model that"
            " generates one cut is made and judged.",
            hint="Say it with --ratio, for example --ratio 0.1; see what that costs with"
            " --sensitivity.",
        )
    if metric not in (None, PERPLEXITY):
        raise ConfigError(
            f"A pruned model that generates is judged by its {PERPLEXITY}, got --metric {metric}.",
            hint="Leave --metric away.",
        )


class TextShop:
    """A `Maker` that leaves cuts in PyTorch, where they read whole texts or answers."""

    original = None
    elsewhere = _NOT_TIMED

    def __init__(
        self,
        source: LoadedSource,
        profile: Profile,
        folder: Path,
        *,
        batch: int | None,
        length: int | None,
        threads: int | None,
        seed: int,
        progress: Progress,
    ) -> None:
        self.profile = profile
        self.folder = folder
        self.threads = threads or profile.threads or None
        self._source = source
        self._seed = seed
        self._progress = progress
        if FEATURES in source.sample_inputs:
            if length is not None:
                raise ConfigError(
                    f"--length {length} is for texts, and {source.id} hears windows of one length.",
                    hint="Leave --length away.",
                )
            self.workload = {"batch": batch or 1}
            return
        asked = {"batch": batch or 1, "length": length or _LENGTH}
        longest = source.max_length
        if longest is not None and asked["length"] > longest:
            if length is not None:
                raise ConfigError(
                    f"--length {length} is beyond the {longest} tokens that {source.id} reads.",
                    hint=f"Give {longest} or less.",
                )
            asked["length"] = longest
        self.workload = asked

    def workload_tensors(self) -> dict[str, Tensor]:
        """See `Maker`."""
        rows, length = self.workload["batch"], self.workload.get("length", 1)
        generator = torch.Generator().manual_seed(self._seed)
        vocabulary = int(getattr(self._source.config, "vocab_size", 1))
        ids = torch.randint(0, vocabulary, (rows, length), generator=generator)
        samples = self._source.sample_inputs
        if FEATURES in samples:
            made = {FEATURES: samples[FEATURES][:1].repeat(rows, 1, 1)}
        else:
            made = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
        if ANSWER in samples:
            # An encoder's work is done before the first token of an answer.
            made |= {ANSWER: ids[:, :1], FORETELLING: torch.ones_like(ids[:, :1])}
        return made

    def export(self, source: LoadedSource, name: str) -> None:
        """See `Maker`."""

    def compare(self, after: object) -> BenchResult | None:
        """See `Maker`."""
        return None

    def time_all(
        self, sources: Mapping[str, Callable[[], LoadedSource] | None]
    ) -> dict[str, float]:
        """See `Maker`; nobody asks for it."""
        raise ConfigError(f"Nothing can be timed: {_NOT_TIMED}.", hint="Cut by --ratio.")

    def evaluate(
        self, made: LoadedSource, bundle: object, rows: Samples, *,
        metric: str | None, budget: Budget, seed: int,
    ) -> Evaluation:  # fmt: skip
        """See `Maker`."""
        return judge_texts(self._source, made, rows, budget, seed=seed, progress=self._progress)


def judge_texts(
    original: LoadedSource,
    pruned: LoadedSource,
    rows: Samples,
    budget: Budget,
    *,
    seed: int,
    progress: Progress = lambda text: None,
) -> Evaluation:
    """The perplexity of both on the same texts, its rise with the interval, and the verdict.

    Of a model that answers texts it is that of the answers: those of `rows`, or the original's own.

    Raises ConfigError for texts without a token that another one precedes.
    """
    told, count = "sounds" if FEATURES in original.sample_inputs else "texts", len(rows)
    losses: list[tuple[Floats, Floats]] = []
    counted = Counted(progress, count)
    # Features of many sounds at once would fill the memory.
    for start in range(0, count, _AT_ONCE):
        done = min(start + _AT_ONCE, count)
        given = batches(original, rows.take(range(start, done)))
        losses.append((_losses(original, given), _losses(pruned, given)))
        counted.tell(f"Read {done:,} of {count:,} {told} with both", done)
    before, after = (np.concatenate(parts) for parts in zip(*losses, strict=True))
    known = before[:, 1] > 0
    least = min(LEAST_VERDICT_ROWS, len(rows))
    if known.sum() < least:
        raise ConfigError(
            f"Of {len(rows):,} texts to judge by {int(known.sum()):,} have a second token; it takes"
            f" {least}.",
            hint="Give DATA of longer texts.",
        )
    before, after = before[known], after[known]
    pairs = Pairs(list(before), list(after), [0.0] * len(before), counted=True)
    found = judge_pairs(_METRIC, pairs, pairs.reference, budget, seed, labelled=False)
    verdict, needed = judge(found.drop, budget)
    problem = None
    if not np.isfinite(after).all():
        verdict, needed = "fail", None
        problem = f"The pruned model says of some {told} what is no number."
    return Evaluation(
        verdict,
        Accuracy(
            PERPLEXITY, found.reference, found.candidate,
            found.drop.value, found.drop.low, found.drop.high, len(before), needed, budget.unit,
        ),
        {},
        {},
        found.drop,
        budget,
        notes=(
            f"The {PERPLEXITY} is that of both in PyTorch, over {int(before[:, 1].sum()):,} tokens,"
            f" the beginnings of {_of_what(original, rows)}. export compares its bundle with"
            " PyTorch.",
        ),
        problem=problem,
    )  # fmt: skip


def _of_what(original: LoadedSource, rows: Samples) -> str:
    if ANSWER not in original.sample_inputs:
        return "texts: validate reads the whole"
    own = rows.labels is None or FEATURES in original.sample_inputs
    whose = "the original's own answers" if own else "the answers in DATA"
    return f"{whose}: validate judges what both write"


def _losses(source: LoadedSource, given: Sequence[Batch]) -> Floats:
    """For each text the sum of its tokens' losses and their number: `[texts, 2]`."""
    found: list[Tensor] = []
    with torch.inference_mode():
        for batch in given:
            logits = source.module(**batch.inputs)[LOGITS]
            found.append(torch.stack(next_token_losses(logits, batch.inputs), 1))
    return torch.cat(found).double().numpy()
