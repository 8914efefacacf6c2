"""`import_model`: an ONNX file as a component of a bundle, run in the engine that will ship it.

The file is copied as it is. What cannot be read from it is tried: it runs on inputs of the declared
shapes, and of others where a dimension varies, with ONNX Runtime's optimisations on and off.
"""

from __future__ import annotations

import re
import shutil
from collections import defaultdict
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath

from edgekit.core.errors import (
    BundleError,
    ConfigError,
    EngineUnavailable,
    SessionError,
    SourceError,
    disk_errors,
)
from edgekit.core.manifest import MANIFEST_NAME, Component, TensorSpec
from edgekit.core.onnx_file import check_onnx, model_bytes, model_files
from edgekit.exporters.declared import Declared, fit_declared
from edgekit.exporters.exported import Exported
from edgekit.exporters.imported_axes import Axes, settle_axes
from edgekit.exporters.imported_calls import blind_spots, golden_of, second_call
from edgekit.exporters.imported_inputs import (
    Feeds,
    Sampled,
    bytes_of,
    check_feeds,
    drawn_feeds,
    name_axes,
)
from edgekit.exporters.imported_parity import SAMPLES, compare_runs
from edgekit.graph.onnx_foreign import ForeignModel, Port, check_foreign, read_foreign
from edgekit.graph.onnx_shapes import inferred_outputs
from edgekit.runtime.engines import onnxruntime
from edgekit.runtime.golden import GOLDEN_NAME
from edgekit.runtime.session import Session, contiguous
from edgekit.sources.inputs import InputSpec
from edgekit.sources.loaded import is_license

GRAPH = "model.onnx"
# The reference runs the graph as it was written.
AS_WRITTEN: Mapping[str, object] = {"graph_optimization": "none"}


@dataclass(frozen=True, eq=False)
class Imported:
    """What an import leaves behind, and what a manifest says of the original."""

    exported: Exported
    model: ForeignModel


def import_model(
    path: Path,
    directory: Path,
    *,
    declared: Sequence[InputSpec] = (),
    samples: Feeds | None = None,
    processor: Declared | None = None,
    seed: int = 0,
) -> Imported:
    """Copy a model into `directory` and find out what it takes, gives and answers.

    Raises:
        ConfigError: no such file; inputs or samples that the model does not have.
        SourceError: no whole ONNX model, custom operators, external data outside of its folder,
            an interface that a bundle cannot have, or a model that does not run.
        EngineUnavailable: an opset or IR version that ONNX Runtime does not read.
    """
    check_onnx(path)
    weights = model_files(path)
    _check_places(path, weights)
    model = read_foreign(path, weights)
    inputs = name_axes(_with_declared(model.inputs, declared, path), samples)
    with disk_errors(SourceError, f"copying {path.name}"):
        files = _copy(path, weights, directory)
    with closing(_open(directory / GRAPH, path, AS_WRITTEN)) as exact:
        # After the engine: an opset that is too new is told by both numbers there. The copy is
        # checked: the checker takes no links, which a cache of downloads is made of.
        check_foreign(directory / GRAPH, path)
        if samples is not None:
            check_feeds(inputs, samples)
        found = _first_run(exact, inputs, samples, path, seed)
        told = frozenset(dim for spec in declared for dim in spec.shape if isinstance(dim, str))
        axes = settle_axes(exact, inputs, found, told, seed)
        found, *others = axes.cases
        outputs = _output_specs(model.outputs, axes, found)
        component = Component("onnx", files, axes.inputs, outputs)
        made = None
        if processor is not None:
            made = fit_declared(processor.processor, component, processor.labels)
            if samples is None:
                found = _pictures(exact, made, found)
        cases = [found, *others]
        component = replace(component, outputs=_settled(component, cases, directory / GRAPH))
        later = second_call(exact, found)
        if later is not None:
            found = later
            cases.insert(0, later)
        with closing(_open(directory / GRAPH, path, {})) as session:
            parity, notes = compare_runs(session, cases, model.precision, path)
    golden, missing = golden_of(found)
    blind = blind_spots(found, model.branches if samples is None else ())
    notes += (*axes.notes, *missing, *blind)
    return Imported(
        Exported(
            components={"model": component},
            files=((GRAPH, "component"), *((name, "weights") for name in files[1:])),
            processor=made,
            labels=None if processor is None else processor.labels,
            parity=parity,
            golden=golden,
            opset=model.opset,
            precision=model.precision,
            facts={
                "nodes": sum(model.operators.values()),
                "opset": model.opset,
                "ir_version": model.ir_version,
                "producer": model.producer or "unknown",
                "bytes": model_bytes(path),
                "samples": "given" if samples is not None else "made up",
                **(
                    {} if later is None else {"golden": "a second call, with the first one's state"}
                ),
                "reference": "the imported model itself, as it was written, on ONNX Runtime",
            },
            notes=tuple(notes),
        ),
        model,
    )


def _check_places(path: Path, weights: Mapping[str, Path]) -> None:
    """The names of weights stay as the graph has them: they must not be those of other files."""
    taken = {GRAPH, MANIFEST_NAME, GOLDEN_NAME, "report.json", "report.html"}
    for location in weights:
        clash = location in taken or PurePosixPath(location).parts[0] in taken
        if clash or is_license(location) or location.upper().startswith("README"):
            raise SourceError(
                f"{path.name} reads weights from {location!r}, a name that a bundle has another"
                " file for.",
                hint="Save the model again with its weights under another name, for example"
                " onnx.save(model, path, save_as_external_data=True, location='weights.data').",
            )


def _copy(path: Path, weights: Mapping[str, Path], directory: Path) -> tuple[str, ...]:
    shutil.copyfile(path, directory / GRAPH)
    for location, file in weights.items():
        target = directory / location
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(file, target)
    return (GRAPH, *weights)


def _with_declared(
    ports: Sequence[Port], declared: Sequence[InputSpec], path: Path
) -> tuple[Port, ...]:
    """The inputs with what ``--input`` says of them; all of them have a shape then."""
    known = {port.name: port for port in ports}
    told = {spec.name: spec for spec in declared}
    for spec in declared:
        port = known.get(spec.name)
        if port is None:
            raise ConfigError(
                f"--input declares {spec.name!r}, which {path.name} does not take.",
                hint=f"It takes {', '.join(map(str, ports))}.",
            )
        if spec.dtype != port.dtype or not _agree(spec.shape, port.shape):
            raise ConfigError(
                f"--input declares {spec.name} as {spec.dtype}{list(spec.shape)}; in {path.name}"
                f" it is {port}.",
                hint="Declare what the graph leaves open, and what it says as it says it.",
            )
    found = tuple(
        replace(port, shape=told[port.name].shape) if port.name in told else port for port in ports
    )
    for port in found:
        if port.shape is None:
            raise SourceError(
                f"The input {port.name!r} of {path} has no declared shape, not even a number of"
                " axes.",
                hint=f"Say it: --input {port.name}={port.dtype}:DIM,DIM… with a number for a fixed"
                " and a name for a varying dimension.",
            )
    return found


def _agree(told: Sequence[int | str], known: Sequence[int | str | None] | None) -> bool:
    """Whether a declaration says no other size than the graph; it may fix what varies."""
    return known is None or (
        len(told) == len(known)
        and all(
            not isinstance(size, int) or own == size for own, size in zip(told, known, strict=True)
        )
    )


def _open(graph: Path, path: Path, options: Mapping[str, object]) -> Session:
    """The copied graph in ONNX Runtime. Its refusals speak of the file that was given."""
    part = Component("onnx", (graph.name,), (), ())
    try:
        return onnxruntime.open_session(
            graph.parent, part, options=options, device="cpu", threads=None
        )
    except EngineUnavailable as error:
        raise EngineUnavailable(
            _too_new(error.message, path),
            hint="Upgrade it (pip install --upgrade onnxruntime), or export the model again with an"
            " older opset.",
        ) from error
    except BundleError as error:
        raise SourceError(
            error.message.replace(f" {graph.name}", f" {path}"),
            hint="Export the model again; if that does not help, it uses what this release of ONNX"
            " Runtime does not run.",
        ) from error


def _too_new(told: str, path: Path) -> str:
    """What ONNX Runtime says of versions, in one sentence with both numbers."""
    release = onnxruntime.version()
    ir = re.search(r"IR version: (\d+), max supported IR version: (\d+)", told)
    if ir:
        return f"{path} has the IR version {ir[1]}; ONNX Runtime {release} reads up to {ir[2]}."
    opset = re.search(r"Opset (\d+) .*?for domain (\S+) is till opset (\d+)", told, re.DOTALL)
    if opset:
        return (
            f"{path} has opset {opset[1]} of {opset[2]}; ONNX Runtime {release} reads up to"
            f" {opset[3]}."
        )
    return told


def _first_run(
    session: Session,
    inputs: Sequence[TensorSpec],
    samples: Feeds | None,
    path: Path,
    seed: int,
) -> Sampled:
    """The given samples, or the first of several made-up inputs that the model takes."""
    if samples is not None:
        try:
            return Sampled.of(inputs, samples, session.run(samples))
        except SessionError as error:
            raise SourceError(
                f"{path} does not run on the given samples: {_engine_says(error)}",
                hint="Give inputs that belong to each other, as the model's own code makes them.",
            ) from error
    first: SessionError | None = None
    for feeds in drawn_feeds(inputs, seed):
        try:
            return Sampled.of(inputs, feeds, session.run(feeds))
        except SessionError as error:
            first = first or error
    told = ", ".join(map(str, inputs))
    if first is None:
        least = bytes_of(inputs, defaultdict(lambda: 1))
        raise SourceError(
            f"One call of {path} takes at least {least:,} bytes ({told}), too many to be made up.",
            hint=f"{SAMPLES}, or fix sizes with --input NAME=DTYPE:DIM,DIM….",
        )
    raise SourceError(
        f"{path} runs on none of the made-up inputs of its declared shapes ({told}):"
        f" {_engine_says(first)}",
        hint=f"{SAMPLES}, or fix sizes with --input NAME=DTYPE:DIM,DIM….",
    ) from first


def _engine_says(error: SessionError) -> str:
    told = error.message.rpartition("Status Message: ")[2] or error.message
    line = " ".join(told.split())
    return (line if len(line) <= 300 else f"{line[:299]}…").rstrip(".") + "."


def _pictures(session: Session, made: Mapping[str, object], found: Sampled) -> Sampled:
    """Pictures in the place of noise: what a model says to noise proves little."""
    from edgekit.runtime.pictures.processor import PictureProcessor
    from edgekit.sources.pictures import draw

    ours = PictureProcessor(made)
    count = found.inputs[ours.rules.inputs[0]].shape[0]
    drawn = ours.collate([ours.encode(draw(400, 300, number)) for number in range(count)])
    feeds = {
        name: contiguous(drawn[name].astype(array.dtype))
        if name in drawn and drawn[name].shape == array.shape
        else array
        for name, array in found.inputs.items()
    }
    return replace(found, inputs=feeds, outputs=session.run(feeds))


def _output_specs(ports: Sequence[Port], axes: Axes, found: Sampled) -> tuple[TensorSpec, ...]:
    """The outputs; an axis that nothing is said of is called after its output."""
    known = {dim for spec in axes.inputs for dim in spec.shape if isinstance(dim, str)}
    specs = []
    for port in ports:
        shape = found.outputs[port.name].shape
        told = port.shape if port.shape is not None and len(port.shape) == len(shape) else None
        dims = [
            dim
            if isinstance(dim, int) or (isinstance(dim, str) and dim in known)
            else f"{port.name}_{axis}"
            for axis, own in enumerate(told or (None,) * len(shape))
            for dim in [axes.became.get(own, own) if isinstance(own, str) else own]
        ]
        specs.append(TensorSpec(port.name, port.dtype, _batched(dims, shape, found)))
    return tuple(specs)


def _settled(component: Component, cases: Sequence[Sampled], graph: Path) -> tuple[TensorSpec, ...]:
    """The outputs, whose axes are sizes where the graph's operators leave nothing else.

    That an axis did not move in some runs is no reason: how many things were found in noise says
    nothing of what is found in a picture.
    """
    known = inferred_outputs(graph, {spec.name: spec.shape for spec in component.inputs})
    given = {dim for spec in component.inputs for dim in spec.shape if isinstance(dim, str)}

    def size(spec: TensorSpec, axis: int) -> int | str:
        dim, sizes = spec.shape[axis], known.get(spec.name, ())
        found = sizes[axis] if len(sizes) == len(spec.shape) else None
        seen = {case.outputs[spec.name].shape[axis] for case in cases}
        open_ = isinstance(dim, str) and dim not in given
        return found if open_ and found and seen == {found} else dim

    return tuple(
        replace(spec, shape=tuple(size(spec, axis) for axis in range(len(spec.shape))))
        for spec in component.outputs
    )


def _batched(
    dims: Sequence[int | str], shape: Sequence[int], found: Sampled
) -> tuple[int | str, ...]:
    """An unnamed first axis of the batch's size is the batch: nothing could be batched else."""
    size = found.sizes.get("batch")
    unnamed = bool(dims) and isinstance(dims[0], str) and dims[0] not in found.sizes
    if unnamed and "batch" not in dims and size == shape[0] != 1:
        return ("batch", *dims[1:])
    return tuple(dims)
