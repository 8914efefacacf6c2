"""prune: a PyTorch source becomes a smaller and faster one, its accuracy repaired."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from edgekit.core.errors import BudgetNotMet, ConfigError, PruneError
from edgekit.core.lazy import require_installed
from edgekit.core.profiles import load_profile
from edgekit.core.pruned import PruneResult
from edgekit.pipeline.cuts.goals import (
    RATIOS,
    SPEEDUPS,
    check_folder,
    check_timed,
    check_unpruned,
    read_goal,
    read_structures,
)
from edgekit.pipeline.fitting import choose_engine
from edgekit.pipeline.progress import Progress, silent
from edgekit.pipeline.rows import ask_budget, check_reach, more_rows, told_reach, wants_labels
from edgekit.pipeline.workplace import workplace
from edgekit.sources.data import check_path

DEFAULT_STEPS = 3000
_NOT_RECOVERED = (
    "It was mended by least squares alone: of a model that generates a step of distillation takes"
    " seconds, so that it is done where --recover-steps asks for it."
)


def prune(
    source: str,
    output: Path | str | None = None,
    *,
    structures: Sequence[str] = (),
    ratio: float | None = None,
    speedup: float | None = None,
    max_drop: str | None = None,
    target: str = "host",
    engine: str | None = None,
    overrides: Sequence[str] = (),
    method: str = "auto",
    data: str | None = None,
    columns: str | None = None,
    metric: str | None = None,
    recover_steps: int | None = None,
    sensitivity: bool = False,
    task: str | None = None,
    inputs: Sequence[str] = (),
    processor: Path | str | None = None,
    keep: bool = False,
    batch: int | None = None,
    length: int | None = None,
    threads: int | None = None,
    revision: str | None = None,
    trust_remote_code: bool = False,
    force: bool = False,
    seed: int = 0,
    progress: Progress = silent,
) -> PruneResult:
    """Cut heads, neurons, layers or channels out of a source, into a smaller one at `output`.

    What goes is chosen by importance over measured time: the widths of layers are timed on the
    target's engine at the workload, and the cut of least importance that reaches the goal is taken.
    With `data` what is left is repaired: by least squares on rows of the role "calibration", then
    by distillation from the original on those and rows of "search"; rows of "verdict", which
    nothing has seen, judge one cut. The result is exported and timed against the original.

    A model that generates texts is cut by a `ratio` and judged by its perplexity, in PyTorch; it is
    neither exported nor timed. Of one with an encoder and a decoder the encoder is cut, and the
    answers are judged: those of `data`, or the original's own.

    Args:
        output: the folder of the new source; None with `sensitivity` alone, which writes nothing.
        structures: ``heads``, ``ffn``, ``layers``, ``channels``; all that the model has by default.
        ratio: the share of the structures' parameters that is cut.
        speedup: how many times as fast as the original the result is to be on the target, by the
            lower end of what is measured.
        max_drop: ``1%`` of the original's metric (the default with `data`) or ``0.5pt``: a budget
            beside another goal; alone, the deepest cut within it is taken.
        method: of importance: ``auto``, ``fisher``, ``taylor``, ``activations``, ``magnitude``.
        recover_steps: of distillation; 3000 by default with `data` (0 for a model that generates),
            0: least squares alone.
        sensitivity: measure what each structure costs by itself.
        keep: leave the best at `output` where the goal or the budget is missed, or on Ctrl-C.

    Raises:
        ConfigError: no goal, goals that contradict each other, a structure that the model does not
            have, DATA that does not fit.
        EngineUnavailable: a speed is wanted on a target that is not this machine.
        PruneError: a model that cannot be pruned, or that answers NaN.
        BudgetNotMet: the goal or the budget is missed or not proved, or the result is slower;
            ``result`` tells the best that was found.
    """
    began = time.monotonic()
    goal = read_goal(ratio, speedup, max_drop, data, sensitivity=sensitivity)
    ask_budget(data, max_drop=max_drop, metric=metric, columns=columns)
    steps = _steps(recover_steps, data)
    if data is not None:
        check_path(data)
    if goal is not None and output is None:
        raise ConfigError("There is no output to write to.", hint="Name a folder with -o.")
    if output is not None:
        check_folder(Path(output), source, force=force)
    profile = choose_engine(load_profile(target, overrides=overrides), engine)
    elsewhere = check_timed(goal, profile)
    require_installed(("torch", "transformers", "onnx", "onnx_ir", "onnxscript"), "build")
    require_installed(("onnxruntime",), "ort")
    import torch

    from edgekit.exporters.declared import read_declared
    from edgekit.pipeline.cuts.finding import Finder
    from edgekit.pipeline.cuts.judging import Trial
    from edgekit.pipeline.cuts.material import read_material, torch_threads
    from edgekit.pipeline.cuts.shop import Maker, Shop
    from edgekit.pipeline.cuts.texts import TextShop, check_asked
    from edgekit.pruning.structures import structures_of
    from edgekit.sources.generation.answers import whole_source
    from edgekit.sources.opening import open_source

    torch.manual_seed(seed)
    declared = None if processor is None else read_declared(Path(processor))
    progress(f"Loading {source}")
    loaded = open_source(
        source, task=task, revision=revision, trust_remote_code=trust_remote_code, inputs=inputs
    )
    check_unpruned(loaded.plan, source)
    if declared is not None:
        loaded = declared.apply(loaded)
    chosen = read_structures(structures, structures_of(loaded), loaded.id)
    generates = loaded.generative
    if generates:
        check_asked(goal, metric, loaded.id)
        loaded, steps = whole_source(loaded), recover_steps or 0
    with torch_threads(), _place(output) as folder:
        shop: Maker
        if generates:
            shop = TextShop(
                loaded, profile, folder,
                batch=batch, length=length, threads=threads, seed=seed, progress=progress,
            )  # fmt: skip
        else:
            shop = Shop(
                loaded, profile, folder,
                elsewhere=elsewhere, batch=batch, length=length, threads=threads, seed=seed,
                processor=None if declared is None else declared.processor, progress=progress,
            )  # fmt: skip
        labels_wanted = wants_labels(max_drop, metric)
        material = read_material(
            loaded, shop.original, data, columns, seed=seed, threads=threads,
            labels_wanted=labels_wanted, progress=progress,
        )  # fmt: skip
        trial = Trial(
            shop, material, goal, chosen, method,
            metric=metric, steps=steps, seed=seed, keep=keep, force=force,
            output=None if output is None else Path(output), began=began, progress=progress,
        )  # fmt: skip
        if generates and data is not None and recover_steps is None:
            trial.note(_NOT_RECOVERED)
        for note in material.notes:
            progress(note)
        if shop.original and goal and goal.budget and material.verdict is not None:
            reach = check_reach(
                shop.original, material.verdict, loaded.problem_type, metric, goal.budget
            )
            if reach is not None:
                raise BudgetNotMet(
                    told_reach(reach, goal.budget),
                    hint=more_rows(reach.needed),
                    result=replace(
                        trial.result(verdict="inconclusive"), samples_needed=reach.needed
                    ),
                )
        begun = trial.begun()
        if begun is None:
            trial.finder = Finder(
                shop, material, chosen, method, seed, progress,
                # A ratio is one of parameters: nothing needs to be timed for it.
                timed=shop.elsewhere is None and (goal is None or goal.ratio is None),
            )  # fmt: skip
            if sensitivity:
                trial.sensitivity = trial.finder.sensitivity()
        elif sensitivity and not trial.sensitivity:
            trial.note(
                "The sensitivity was not measured: this run goes on with a cut that was chosen"
                " before. Ask for it alone, with --sensitivity and no goal."
            )
        if goal is None:
            return trial.result(verdict="pass")
        if goal.open:
            return trial.largest(SPEEDUPS if elsewhere is None else RATIOS)
        return trial.reach(goal, begun)


def _steps(asked: int | None, data: str | None) -> int:
    """The steps of recovery. Raises ConfigError for those that there is nothing to learn from."""
    if asked is None:
        return DEFAULT_STEPS if data is not None else 0
    if asked < 0:
        raise ConfigError(f"--recover-steps is at least 0, got {asked}.")
    if asked and data is None:
        raise ConfigError(
            f"--recover-steps {asked} needs --data to learn from.",
            hint="Pass --data DATA; labels are not needed.",
        )
    return asked


@contextmanager
def _place(output: Path | str | None) -> Iterator[Path]:
    """A working folder on the disk of the output, or anywhere where nothing is written."""
    if output is not None:
        with workplace(Path(output), PruneError) as folder:
            yield folder
        return
    with tempfile.TemporaryDirectory(prefix="edgekit-prune-") as name:
        yield Path(name)
