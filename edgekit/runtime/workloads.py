"""The inputs of a measurement: batch × tokens of real text, or a custom model's golden inputs."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from edgekit.core.bundle import Bundle
from edgekit.core.errors import ConfigError
from edgekit.core.manifest import TensorSpec
from edgekit.runtime.array_feeds import array_feeds
from edgekit.runtime.batching import batch_symbol
from edgekit.runtime.joined import prefixed
from edgekit.runtime.rows import passage_rows, text_rows
from edgekit.runtime.session import Array, contiguous
from edgekit.runtime.text import Encoding, Text, TextProcessor, read_rules

DEFAULT_LENGTHS = (16, 128)


@dataclass(frozen=True)
class Workload:
    """The arrays of one inference; ``length`` is in tokens, "data" for texts of natural lengths.

    It is None for models without text. ``variants`` are all the arrays that inferences go round,
    call by call, ``feeds`` being the first of them. ``texts`` are what tokenizes to their rows, in
    order, None where nothing does. ``pictures`` are the files that are prepared to them, likewise;
    none of them where rows are somebody's data and no files. ``seconds`` are those of a sound,
    where rows are sounds, on average. With ``new_tokens`` an inference is a request to a model that
    generates: its prompts, and so many tokens in answer. ``kept`` lets go of temporary files when
    nobody holds it.
    """

    batch: int
    length: int | Literal["data"] | None
    feeds: Mapping[str, Array]
    variants: tuple[Mapping[str, Array], ...] = ()
    texts: tuple[Text, ...] | None = None
    pictures: tuple[str, ...] | None = None
    seconds: float | None = None
    new_tokens: int | None = None
    kept: object = field(default=None, repr=False, compare=False)

    def __post_init__(self) -> None:
        if not self.variants:
            object.__setattr__(self, "variants", (self.feeds,))

    @property
    def name(self) -> str:
        """``1×128``, or the batch alone."""
        return f"{self.batch}" if self.length is None else f"{self.batch}×{self.length}"

    def singles(self) -> tuple[Workload, ...]:
        """A workload of one variant for each of this one's, with its own texts."""
        if len(self.variants) == 1:
            return (self,)
        found = []
        for index, feeds in enumerate(self.variants):
            own = slice(index * self.batch, (index + 1) * self.batch)
            texts = None if self.texts is None else self.texts[own]
            pictures = None if self.pictures is None else self.pictures[own]
            found.append(
                replace(self, feeds=feeds, variants=(feeds,), texts=texts, pictures=pictures)
            )
        return tuple(found)

    def fed(self, change: Callable[[Mapping[str, Array]], Mapping[str, Array]]) -> Workload:
        """The same with every variant's arrays changed."""
        variants = tuple(change(feeds) for feeds in self.variants)
        return replace(self, feeds=variants[0], variants=variants)


def sweep_workloads(
    bundle: Bundle,
    *,
    batches: Sequence[int] = (1,),
    lengths: Sequence[int] | None = None,
    seed: int = 0,
) -> tuple[Workload, ...]:
    """Every batch with every length, as `make_workloads` makes and refuses them."""
    return tuple(
        workload
        for batch in dict.fromkeys(batches)
        for workload in make_workloads(bundle, batch=batch, lengths=lengths, seed=seed)
    )


def make_workloads(
    bundle: Bundle,
    *,
    batch: int = 1,
    lengths: Sequence[int] | None = None,
    seed: int = 0,
    known: Mapping[str, Array] | None = None,
) -> tuple[Workload, ...]:
    """A workload per length (16 and 128 tokens by default), made for a bundle's own inputs.

    Text is real English through the bundle's tokenizer, every row cut to exactly the length and
    begun at another word. Models without text get their golden inputs, or random ones, at the
    batch. `known` are golden inputs that the bundle does not hold yet.

    Raises:
        ConfigError: a length the model does not take, or lengths for a model without text.
        MissingDependency: tokenizers is not installed.
    """
    if batch < 1:
        raise ConfigError(f"--batch should be at least 1, got {batch}.")
    if set(bundle.manifest.components) not in ({"model"}, {"image", "text"}):
        raise ConfigError(
            f"{bundle.path} has the components {', '.join(bundle.manifest.components)};"
            " inputs are made for bundles of one component.",
            hint="Measure a bundle with the component 'model'.",
        )
    specs = input_specs(bundle)
    processor = bundle.manifest.processor
    if processor is not None and processor.get("kind") == "text":
        _check_static(specs, 0, batch, "--batch")
        return _text_workloads(bundle, processor, specs, batch, lengths)
    if lengths and bundle.manifest.generation is not None:
        raise ConfigError(
            f"{bundle.path} generates: one call of its graph has no --length.",
            hint="Leave --length out; bench, validate and build ask for answers to prompts of one.",
        )
    if lengths:
        raise ConfigError(
            f"{bundle.path} takes no text, so --length has no meaning for it.",
            hint="Leave --length out; --batch works for every model.",
        )
    return (arrays_workload(bundle, batch, (array_feeds(bundle, specs, batch, seed, known),)),)


def arrays_workload(
    bundle: Bundle,
    batch: int,
    variants: Sequence[Mapping[str, Array]],
    *,
    seconds: float | None = None,
) -> Workload:
    """A workload of arrays as the graph takes them; of sounds with how long they are.

    `seconds` are those of the sounds that the arrays were made of, where somebody knows: what fills
    up a tensor of a fixed size is none of them. Without, all of it is sound.
    """
    processor = bundle.manifest.processor
    if seconds is None and processor is not None and processor.get("kind") == "audio":
        # A bundle of texts need not wait for the import.
        from edgekit.runtime.sound.processor import seconds_of
        from edgekit.runtime.sound.rules import read_sound_rules

        rules = read_sound_rules(processor)
        seconds = float(np.mean([seconds_of(rules, feeds) for feeds in variants]))
    return Workload(batch, None, variants[0], tuple(variants), seconds=seconds)


def input_specs(bundle: Bundle) -> tuple[TensorSpec, ...]:
    """The inputs of a bundle's graph, of both with their names where it has two towers."""
    components = bundle.manifest.components
    if "model" in components:
        return components["model"].inputs
    return prefixed({name: part.inputs for name, part in components.items()})


def fit_workload(bundle: Bundle, batch: int, length: int) -> tuple[int, int | None]:
    """The batch and tokens nearest to the given ones that the bundle takes.

    For a default, which nobody typed: fixed dimensions win, a text is no longer than the model
    takes, and a model without text has no length.
    """
    specs = input_specs(bundle)
    symbol = batch_symbol(specs)
    processor = bundle.manifest.processor
    if processor is None or processor.get("kind") != "text":
        return batch if symbol is not None else 1, None
    shapes = [spec.shape for spec in specs if len(spec.shape) > 1]
    rows = next((shape[0] for shape in shapes if isinstance(shape[0], int)), batch)
    tokens = next((shape[1] for shape in shapes if isinstance(shape[1], int)), length)
    longest = read_rules(processor).max_length
    return rows, tokens if longest is None else min(tokens, longest)


def _check_static(specs: Sequence[TensorSpec], axis: int, wanted: int, option: str) -> None:
    for spec in specs:
        size = spec.shape[axis] if axis < len(spec.shape) else wanted
        if isinstance(size, int) and size != wanted:
            raise ConfigError(
                f"The bundle's input {spec} is fixed to {size} there, got {option} {wanted}.",
                hint=f"Pass {option} {size}, or compile without --static.",
            )


def _text_workloads(
    bundle: Bundle,
    processor: Mapping[str, object],
    specs: Sequence[TensorSpec],
    batch: int,
    lengths: Sequence[int] | None,
) -> tuple[Workload, ...]:
    maker = TextProcessor(processor, bundle.path)
    longest = maker.max_length
    fixed = [spec.shape[1] for spec in specs if len(spec.shape) > 1]
    static = next((size for size in fixed if isinstance(size, int)), None)
    if lengths is None:
        chosen = [static] if static is not None else list(DEFAULT_LENGTHS)
        # A model that takes fewer tokens is measured at the most it takes.
        chosen = list(dict.fromkeys(min(size, longest or size) for size in chosen))
    else:
        chosen = list(dict.fromkeys(lengths))
    for size in chosen:
        _check_static(specs, 1, size, "--length")
        if size < 4 or (longest is not None and size > longest):
            raise ConfigError(
                f"--length {size} is outside of what the model takes, 4 to"
                f" {longest or 'any number of'} tokens.",
                hint="Choose a length in between.",
            )
    post = _mapping(processor.get("post"))
    made: list[Workload] = []
    for size in chosen:
        rows, texts = passage_rows(maker, post, batch, size)
        made.append(Workload(batch, size, _collated(maker, specs, rows), texts=texts))
    return tuple(made)


def text_workload(bundle: Bundle, texts: Sequence[Text], *, batch: int = 1) -> Workload:
    """A workload of the length "data": `batch` rows at a time, padded to the longest of them.

    Rows are those of the bundle's tokenizer, in the order of `texts`; what does not fill a batch
    at the end is left out.

    Raises:
        ConfigError: the model takes no text, not this batch, or there are too few texts.
        InputMismatch: a text that cannot be tokenized.
        MissingDependency: tokenizers is not installed.
    """
    processor = bundle.manifest.processor
    if processor is None or processor.get("kind") != "text":
        raise ConfigError(
            f"{bundle.path} takes no text, so --length data has no meaning for it.",
            hint="Leave --length out; --batch works for every model.",
        )
    specs = bundle.manifest.components["model"].inputs
    _check_static(specs, 0, batch, "--batch")
    fixed = [spec.shape[1] for spec in specs if len(spec.shape) > 1]
    static = next((size for size in fixed if isinstance(size, int)), None)
    maker = TextProcessor(processor, bundle.path, length=static)
    rows, kept = text_rows(maker, texts)
    count = len(rows) // batch
    if count == 0:
        raise ConfigError(
            f"The data have {len(rows)} rows, fewer than a batch of {batch}.",
            hint="Give more rows, or a smaller --batch.",
        )
    variants = tuple(
        _collated(maker, specs, rows[start : start + batch])
        for start in range(0, count * batch, batch)
    )
    used = None if kept is None else kept[: count * batch]
    return Workload(batch, "data", variants[0], variants, used)


def _mapping(value: object) -> Mapping[str, object]:
    return value if isinstance(value, Mapping) else {}


def _collated(
    maker: TextProcessor, specs: Sequence[TensorSpec], rows: Sequence[Encoding]
) -> dict[str, Array]:
    made = maker.collate(rows)
    return {spec.name: made[spec.name].astype(spec.dtype, copy=False) for spec in specs}


def save_workloads(workloads: Sequence[Workload], path: Path) -> None:
    """Write workloads to one .safetensors file that every child of a bench reads."""
    tensors: dict[str, Array] = {}
    metadata: dict[str, str] = {"count": str(len(workloads))}
    for index, workload in enumerate(workloads):
        metadata[f"{index}"] = json.dumps(
            {
                "batch": workload.batch,
                "length": workload.length,
                "variants": len(workload.variants),
                "texts": workload.texts,
                "pictures": workload.pictures,
                "seconds": workload.seconds,
                "new_tokens": workload.new_tokens,
            }
        )
        for variant, feeds in enumerate(workload.variants):
            for name, array in feeds.items():
                tensors[f"{index}.{variant}.{name}"] = contiguous(array)
    save_file(tensors, path, metadata=metadata)


def load_workloads(path: Path) -> tuple[Workload, ...]:
    """The workloads in a file of `save_workloads`. Raises ConfigError when it is none."""
    try:
        with safe_open(path, framework="numpy") as file:
            metadata = file.metadata() or {}
            heads = [json.loads(metadata[str(at)]) for at in range(int(metadata["count"]))]
            feeds: list[list[dict[str, Array]]] = [
                [{} for _ in range(int(head["variants"]))] for head in heads
            ]
            for key in file.keys():  # noqa: SIM118 - safe_open is no mapping
                index, variant, name = key.split(".", 2)
                feeds[int(index)][int(variant)][name] = file.get_tensor(key)
        return tuple(
            Workload(
                head["batch"],
                head["length"],
                made[0],
                tuple(made),
                _texts(head["texts"]),
                None if head.get("pictures") is None else tuple(head["pictures"]),
                head["seconds"],
                head.get("new_tokens"),
            )
            for head, made in zip(heads, feeds, strict=True)
        )
    except (OSError, SafetensorError, KeyError, ValueError, IndexError, TypeError) as error:
        raise ConfigError(f"{path} holds no workloads: {error}.") from error


def _texts(value: list[str | list[str]] | None) -> tuple[Text, ...] | None:
    """Texts and pairs as JSON kept them."""
    if value is None:
        return None
    return tuple(text if isinstance(text, str) else (text[0], text[1]) for text in value)


def save_outputs(outputs: Sequence[Mapping[str, Array]], path: Path) -> None:
    """Write what every workload was answered with; outputs without numbers are left out."""
    tensors = {
        f"{index}.{name}": contiguous(array)
        for index, answer in enumerate(outputs)
        for name, array in answer.items()
        if array.dtype.kind in "biuf"
    }
    save_file(tensors, path, metadata={"count": str(len(outputs))})


def load_outputs(path: Path) -> tuple[dict[str, Array], ...]:
    """What every workload was answered with, by output. Raises ConfigError for another file."""
    try:
        with safe_open(path, framework="numpy") as file:
            found: list[dict[str, Array]] = [
                {} for _ in range(int((file.metadata() or {})["count"]))
            ]
            for key in file.keys():  # noqa: SIM118 - safe_open is no mapping
                index, _, name = key.partition(".")
                found[int(index)][name] = file.get_tensor(key)
    except (OSError, SafetensorError, KeyError, ValueError, IndexError) as error:
        raise ConfigError(f"{path} holds no outputs: {error}.") from error
    return tuple(found)
