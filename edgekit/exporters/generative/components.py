"""`export_generative`: the components of a model that generates, proved equal to PyTorch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from edgekit.core.errors import ConfigError, ExportError, disk_errors
from edgekit.core.manifest import GOLDEN_MAX_BYTES, Component
from edgekit.core.results import Parity
from edgekit.core.tolerance import Tolerance
from edgekit.exporters.cases import Case, sizes_of
from edgekit.exporters.exported import Exported, GoldenBatch
from edgekit.exporters.generative.chats import check_chat
from edgekit.exporters.generative.rules import build_rules, ignored_options
from edgekit.exporters.generative.speech import build_speech_processor, build_speech_rules
from edgekit.exporters.generative.texts import build_text_processor
from edgekit.exporters.graphs import component_of, facts_of, finish, trace
from edgekit.exporters.memory import release_weights
from edgekit.exporters.parity import compare, reference, to_numpy
from edgekit.graph.onnx_save import save_model
from edgekit.runtime.golden import sampled
from edgekit.sources.generation.decoding import PAST, PRESENT
from edgekit.sources.loaded import LoadedSource

# What the file has besides its arrays.
_GOLDEN_BYTES = GOLDEN_MAX_BYTES - (256 << 10)
# Answers of more numbers are sampled, to about so many, where a file would not hold them.
_LARGE, _SAMPLE = 1 << 17, 1 << 12
# Beyond it weights lie beside the graph, where engines map them instead of holding them twice.
_INLINE_BYTES = 1 << 29

Facts = dict[str, str | int | float | bool]


@dataclass(frozen=True, eq=False)
class _Part:
    """One component that was written."""

    component: Component
    files: tuple[tuple[str, str], ...]
    parity: tuple[Parity, ...]
    facts: Facts


def export_generative(
    source: LoadedSource,
    directory: Path,
    *,
    opset: int,
    static: Mapping[str, int],
    tolerance: Tolerance,
) -> Exported:
    """Write the components, processor and rules of a source that generates into `directory`.

    Every component is compared with PyTorch for a prompt, for the next token and for several of
    them after a past, with padded rows.

    Raises:
        ConfigError: a dimension to fix: all of them grow or shrink while a text is made.
        ExportError: see `edgekit.exporters.model.export_model`.
    """
    if static:
        raise ConfigError(
            f"--static {next(iter(static))} cannot be fixed: a model that generates is run at"
            " other sizes for each token.",
            hint="Leave --static away.",
        )
    sources = source.parts or {"model": source}
    if source.feature_extractor is not None:
        processor, files, facts = build_speech_processor(source, directory)
        rules = build_speech_rules(source)
    else:
        processor, files, facts = build_text_processor(source, directory)
        rules = build_rules(source)
        chats = check_chat(source.tokenizer, rules)
        if chats:
            facts["processor_chats_compared"] = chats
    parts: dict[str, _Part] = {}
    golden = _golden(sources)
    for name, part in sources.items():
        parts[name] = _export_component(part, directory, name, opset, tolerance)
        facts |= {
            key if len(sources) == 1 else f"{name}.{key}": value
            for key, value in parts[name].facts.items()
        }
    return Exported(
        components={name: part.component for name, part in parts.items()},
        files=(*(file for part in parts.values() for file in part.files), *files),
        processor=processor,
        labels=None,
        parity=tuple(
            row if len(parts) == 1 else replace(row, output=f"{name}.{row.output}")
            for name, part in parts.items()
            for row in part.parity
        ),
        golden=golden,
        opset=opset,
        precision=source.precision,
        facts=facts,
        notes=(*source.notes, *ignored_options(source)),
        generation=rules.document(),
    )


def _export_component(
    source: LoadedSource, directory: Path, name: str, opset: int, tolerance: Tolerance
) -> _Part:
    feeder = source.feeder
    assert feeder is not None
    cases = []
    for index, (told, sizes) in enumerate(feeder.compared.items()):
        batch = feeder(sizes, seed=10 * index + 3)
        cases.append(Case(told, batch, sizes_of(source, batch)))
    references = [reference(source, case.inputs) for case in cases]
    outputs = tuple(references[0])
    graph_file = f"{name}.onnx"
    with disk_errors(ExportError, "writing the exported graph"):
        model = trace(source, dict(source.sample_inputs), source.dynamic_axes, outputs, opset)
        inputs = finish(source, model, source.dynamic_axes, outputs, cases, references)
        files = save_model(model, directory / graph_file, inline_limit=_INLINE_BYTES)
        component = component_of(model, files, inputs)
        facts = facts_of(model)
        # The graph's weights and the session's would otherwise be in memory together.
        release_weights(model, source.module)
        del model
        parity = _folded(compare(source, directory, component, cases, references, tolerance))
    return _Part(
        component,
        ((graph_file, "component"), *((file, "weights") for file in files[1:])),
        parity,
        facts,
    )


def _folded(rows: Sequence[Parity]) -> tuple[Parity, ...]:
    """The rows without the sizes of each layer's cache, and only the worst layer's of each case."""
    found: dict[tuple[str, str], Parity] = {}
    for row in rows:
        shape = {key: size for key, size in row.shape.items() if not key.startswith(f"{PAST}.")}
        own = row.shape.get(f"{PAST}.0.key") or row.shape.get(f"{PAST}.0.decoder.key")
        if own is not None:
            shape["past"] = (own[2],)
        output = PRESENT if row.output.startswith(f"{PRESENT}.") else row.output
        key = (str(shape), output)
        if key not in found or row.max_abs > found[key].max_abs:
            found[key] = replace(row, shape=shape, output=output)
    return tuple(found.values())


def _golden(sources: Mapping[str, LoadedSource]) -> GoldenBatch | None:
    """One batch for every component with PyTorch's answers, as large as the file may hold.

    Where none is small enough, large answers are sampled: an encoder of half a minute of sound has
    one size, and its answers alone fill several files.
    """
    choices = range(max(len(part.feeder.golden) for part in sources.values() if part.feeder))
    for thin in (False, True):
        for index in choices:
            batch = _golden_batch(sources, index)
            batch = _thinned(batch) if thin else batch
            given = sum(array.nbytes for array in batch.inputs.values())
            answered = sum(array.nbytes for array in batch.reference.values())
            # The bundle's own answer stands in the same file.
            if given + 2 * answered <= _GOLDEN_BYTES:
                return batch
    return None


def _thinned(batch: GoldenBatch) -> GoldenBatch:
    """The batch with samples of its large answers."""
    # An odd stride comes to every place of axes whose sizes are powers of two.
    strides = {
        name: -(-array.size // _SAMPLE) | 1
        for name, array in batch.reference.items()
        if array.size > _LARGE
    }
    return replace(batch, reference=sampled(batch.reference, strides), strides=strides)


def _golden_batch(sources: Mapping[str, LoadedSource], index: int) -> GoldenBatch:
    found = GoldenBatch({}, {})
    for name, part in sources.items():
        assert part.feeder is not None
        prefix = "" if len(sources) == 1 else f"{name}."
        sizes = part.feeder.golden
        inputs = part.feeder(sizes[min(index, len(sizes) - 1)], seed=2)
        answers = reference(part, inputs)
        found = GoldenBatch(
            {**found.inputs, **{f"{prefix}{key}": to_numpy(v) for key, v in inputs.items()}},
            {**found.reference, **{f"{prefix}{key}": v for key, v in answers.items()}},
        )
    return found
