"""quantize: a float bundle becomes one of fewer bits for a target, within an accuracy budget."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from edgekit.core.bundle import Bundle, check_output, open_bundle
from edgekit.core.errors import BudgetNotMet, ConfigError, QuantizeError
from edgekit.core.lazy import require
from edgekit.core.measurements import QuantizeResult
from edgekit.core.profiles import load_profile
from edgekit.evaluation.reference import check_origin, declared_inputs, source_task
from edgekit.evaluation.remembering import remembering
from edgekit.evaluation.statistics import Budget
from edgekit.pipeline.choices.candidates import Workshop
from edgekit.pipeline.choices.choosing import Choice
from edgekit.pipeline.choices.chosen import Chosen
from edgekit.pipeline.choices.judging import Judge
from edgekit.pipeline.choices.rows import calibration_feeds, read_rows
from edgekit.pipeline.fitting import choose_engine
from edgekit.pipeline.originals import holds_original
from edgekit.pipeline.progress import Progress, silent
from edgekit.pipeline.rows import (
    ask_budget,
    check_reach,
    check_rows,
    data_name,
    more_rows,
    told_reach,
    wants_labels,
)
from edgekit.pipeline.workplace import workplace
from edgekit.quantization import find_quantizer
from edgekit.quantization.parts import Part, exclusions
from edgekit.quantization.recipes import Prepared
from edgekit.runtime.engines import find_engine
from edgekit.runtime.golden import stored_precision
from edgekit.runtime.joined import of_part

if TYPE_CHECKING:
    from edgekit.sources.loaded import LoadedSource


@dataclass(frozen=True)
class _Asked:
    """The options that decide what becomes of a bundle, as its manifest records them."""

    target: str
    engine: str | None
    method: str
    bits: int | None
    max_drop: str | None
    exclude: tuple[str, ...]
    component: str | None
    seed: int

    def to_json(self) -> dict[str, object]:
        return {**self.__dict__, "exclude": list(self.exclude)}


def quantize(
    bundle: Path | str,
    output: Path | str,
    *,
    target: str = "host",
    engine: str | None = None,
    overrides: Sequence[str] = (),
    method: str = "auto",
    bits: int | None = None,
    calibration: str | None = None,
    data: str | None = None,
    columns: str | None = None,
    metric: str | None = None,
    reference: str | None = None,
    max_drop: str | None = None,
    exclude: Sequence[str] = (),
    component: str | None = None,
    sensitivity: bool = False,
    allow_slower: bool = False,
    keep: bool = False,
    batch: int | None = None,
    length: int | None = None,
    threads: int | None = None,
    revision: str | None = None,
    trust_remote_code: bool = False,
    inputs: Sequence[str] = (),
    force: bool = False,
    seed: int = 0,
    progress: Progress = silent,
) -> QuantizeResult:
    """Quantize a bundle for a target into a new bundle at `output`.

    With `data` and `reference` candidates are tried until the metric of the task drops by no more
    than `max_drop`: chosen on the rows of the role "search", calibrated on those of "calibration",
    and judged on those of "verdict", which no choice has seen. Without, the answers on the golden
    inputs must lie within the tolerance of the precision. Where the target is this machine, the
    result must not be resolved slower than its input.

    Args:
        target: a profile's name or a .toml file; ``overrides`` are ``key=value`` texts on top.
        method: ``dynamic``, ``static``, ``weight-only``, ``float16``, ``bfloat16``; ``auto`` tries
            what the target runs well, of a model that generates its weights alone.
        bits: 4, 8 or 16 of a weight.
        component: the one that is quantized, of an encoder and a decoder; all by default.
        calibration: a DATA of which up to 512 rows are used for ranges.
        reference: the original SOURCE; an imported bundle is its own without.
        max_drop: ``1%`` of the reference's metric (the default) or ``0.5pt``, absolute.
        exclude: patterns (as of a shell) of operators to keep in float; of several components
            each begins with one and a dot: ``decoder.…``.
        sensitivity: rank the groups by the error each makes alone, as a fact of the step.
        allow_slower: accept a result that is slower than its input.
        keep: leave the best candidate at `output` where the budget is missed.
        batch, length: the workload whose latency counts; the target's by default.

    Raises:
        ConfigError: options or DATA that do not fit, a target without the method.
        QuantizeError: the bundle cannot be quantized (any more), or its answers would be NaN.
        BudgetNotMet: the accuracy is not proved to be within the budget, or the result is slower
            than its input; ``result`` holds what was found.
    """
    began = time.monotonic()
    if reference is None and data is not None:
        # What was imported is its own original.
        reference = holds_original(Path(bundle))
    budget = _check_options(data, reference, max_drop, columns, calibration, metric)
    labels_wanted = wants_labels(max_drop, metric)
    check_output(Path(output), force=force, inputs=[Path(bundle)])
    source = open_bundle(bundle)
    _check_source(source, component)
    parts = list(source.manifest.components)
    alone = len(parts) == 1
    kept_out = exclusions(exclude, parts, parts if component is None else [component])
    if source.manifest.generation is not None:
        method, bits = _generating(method, bits)
    profile = choose_engine(load_profile(target, overrides=overrides), engine)
    if threads is not None:
        profile = replace(profile, threads=threads)
    quantizer = find_quantizer(profile.engine)
    recipes = quantizer.recipes(profile, method, bits)
    find_engine(profile.engine).version()
    if data is not None:
        check_rows(source, data, columns, labels_wanted=labels_wanted)
    if calibration is not None:
        check_rows(source, calibration, columns, judged=False)
    loaded = None
    if reference is not None:
        loaded = _load(source, reference, revision, trust_remote_code, inputs, progress)
    rows = read_rows(
        source, loaded, data, columns, calibration, seed=seed, labels_wanted=labels_wanted
    )
    for note in rows.told(calibrated=any(recipe.needs_calibration for recipe in recipes)):
        progress(note)
    for note in () if rows.verdict is None else rows.verdict.notes:
        progress(note)
    if budget is not None and rows.verdict is not None:
        problem = None if loaded is None else loaded.problem_type
        reach = check_reach(source, rows.verdict, problem, metric, budget)
        if reach is not None:
            never = Chosen(verdict="inconclusive", samples_needed=reach.needed)
            raise BudgetNotMet(
                told_reach(reach, budget),
                hint=more_rows(reach.needed),
                result=never.result(profile, source, None, None, time.monotonic() - began),
            )
    asked = _Asked(target, engine, method, bits, max_drop, tuple(exclude), component, seed)
    with workplace(Path(output), QuantizeError) as folder:
        progress(f"Preparing the graph for {profile.engine} on {profile.name}")
        feeds = calibration_feeds(source, rows)
        prepared: dict[str, Prepared] = {}
        for name, patterns in kept_out.items():
            own = feeds if alone else [of_part(one, name) for one in feeds]
            ready = quantizer.prepare(
                source, name, profile, _made(folder / f"work-{name}"), own,
                exclude=patterns, seed=seed, progress=progress,
            )  # fmt: skip
            prepared[name] = ready if alone else Part(name, ready)
        workshop = Workshop(
            source, profile, prepared, folder,
            rows=rows.roles, options=asked.to_json(), began=began,
            held_to="tolerance" if budget is None else "data",
        )  # fmt: skip
        judge = Judge(
            workshop, loaded, rows, metric, budget, seed=seed, batch=batch, length=length,
            threads=threads, allow_slower=allow_slower, progress=progress,
        )  # fmt: skip
        choice = Choice(judge, recipes, prepared, progress)
        try:
            chosen = choice.make(sensitivity=sensitivity)
        except KeyboardInterrupt as stop:
            best = None if choice.search is None else choice.search.best
            if not keep or best is None:
                raise
            workshop.finish(
                workshop.write(best.recipe), Path(output),
                facts={"verdict": "inconclusive"}, force=force,
            )  # fmt: skip
            raise KeyboardInterrupt(
                f"Interrupted; the best so far, {best.name}, was left at {output}, not judged."
            ) from stop
        judged_on = {} if data is None else {"judged_on": data_name(data)}
        return _finish(
            chosen, workshop, Path(output), {**chosen.facts, **judged_on},
            force=force, keep=keep, by_data=budget is not None, began=began,
        )  # fmt: skip


def _finish(
    chosen: Chosen,
    workshop: Workshop,
    output: Path,
    facts: Mapping[str, object],
    *,
    force: bool,
    keep: bool,
    by_data: bool,
    began: float,
) -> QuantizeResult:
    """Put the chosen candidate at the output, or say why there is none."""
    missed = chosen.missed
    written = None
    if chosen.candidate is not None and (missed is None or keep):
        written = workshop.finish(chosen.candidate, output, facts=facts, force=force)
    result = chosen.result(
        workshop.profile, workshop.source, None if written is None else output, written,
        time.monotonic() - began,
    )  # fmt: skip
    if missed is None:
        return result
    hint = "Allow more with --max-drop, or start from a more exact model."
    if chosen.verdict == "inconclusive":
        hint = more_rows(chosen.needed)
    if chosen.slower:
        hint = "Take it all the same with --allow-slower, or choose another --method."
    elif not by_data:
        hint = "Judge it by a metric with --data and --reference, or choose another --method."
    if written is not None:
        hint = f"{hint} The best candidate was left at {output}."
    raise BudgetNotMet(missed, hint=hint, result=result)


def _check_options(
    data: str | None,
    reference: str | None,
    max_drop: str | None,
    columns: str | None,
    calibration: str | None,
    metric: str | None,
) -> Budget | None:
    """The budget, None without data. Raises ConfigError for options that contradict each other."""
    budget = ask_budget(
        data, max_drop=max_drop, metric=metric, columns=columns, calibration=calibration
    )
    if (data is None) != (reference is None):
        given, lacking = (
            ("--data", "--reference") if reference is None else ("--reference", "--data")
        )
        raise ConfigError(
            f"{given} needs {lacking}: the budget is a drop from the original model.",
            hint=f"Pass {lacking} as well.",
        )
    return None if data is None else budget


def _check_source(source: Bundle, component: str | None) -> None:
    """Only what is float, was made for no engine and is no pair of towers can be quantized."""
    stage = source.manifest.stage
    if stage == "quantized":
        raise QuantizeError(
            f"{source.path} is already quantized.",
            hint="Quantize the exported bundle it came from.",
        )
    stored = stored_precision(source.manifest)
    if stage == "imported" and stored in ("int8", "int4"):
        raise QuantizeError(
            f"{source.path} holds a model that was quantized to {stored} before it was imported.",
            hint="Import the model in float32, or compile this one as it is.",
        )
    if stage == "compiled":
        raise QuantizeError(
            f"{source.path} is compiled for {source.manifest.requires.engine}.",
            hint="Quantize the exported bundle it came from, then compile.",
        )
    parts = source.manifest.components
    if set(parts) != {"model"} and source.manifest.generation is None:
        raise QuantizeError(
            f"{source.path} has the components {', '.join(parts)}; quantize takes several only of"
            " models that generate.",
            hint="Compile it as it is.",
        )
    if component is not None and component not in parts:
        raise ConfigError(
            f"{source.path} has no component {component!r}.",
            hint=f"It has {', '.join(parts)}.",
        )


def _generating(method: str, bits: int | None) -> tuple[str, int | None]:
    """The method and bits for a model that generates. Raises ConfigError for ranges.

    Ranges of activations need real texts with their caches; there are golden tokens, at random.
    """
    if method in ("dynamic", "static"):
        raise ConfigError(
            f"--method {method} rounds activations too, and nothing here can choose or judge that"
            " for a model that generates.",
            hint="Use --method weight-only --bits 8 or --bits 4, or --method float16; or compile"
            " the bundle as it is.",
        )
    if method != "auto":
        return method, bits
    return ("float16", bits) if bits == 16 else ("weight-only", bits or 8)


def _load(
    source: Bundle,
    reference: str,
    revision: str | None,
    trust_remote_code: bool,
    inputs: Sequence[str],
    progress: Progress,
) -> LoadedSource:
    require("torch", "build")
    from edgekit.sources.opening import open_reference

    progress(f"Loading the reference {reference}")
    loaded = open_reference(
        reference,
        task=source_task(source.manifest),
        revision=revision,
        trust_remote_code=trust_remote_code,
        inputs=tuple(inputs) or declared_inputs(source.manifest),
    )
    check_origin(source, loaded, hint="Pass the original model.")
    return remembering(loaded)


def _made(folder: Path) -> Path:
    folder.mkdir(parents=True)
    return folder
