"""The inputs of a measurement: batch × tokens of real text, or a custom model's golden inputs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from edgekit.core.bundle import Bundle
from edgekit.core.errors import ConfigError
from edgekit.core.manifest import TensorSpec
from edgekit.runtime import golden
from edgekit.runtime.session import Array
from edgekit.runtime.text import TextProcessor, read_rules

DEFAULT_LENGTHS = (16, 128)
# The size of a dimension that nothing says anything about.
_UNKNOWN = 16

PASSAGE = (
    "The ferry left the harbour a little after six, when the fog was still lying on the water and"
    " the gulls had not begun to argue over the nets. On deck a woman in a grey coat was reading"
    " a letter for the third time. She folded it, looked back at the lamps along the quay, and"
    " asked the boy beside her whether he had remembered the key. He had not. It hung where it"
    " always did, behind the kitchen door, between a calendar from the bank and last year's"
    " wreath. So they would have to wake the neighbour, who slept badly, and who would tell them"
    " again that a house by the sea needs somebody in it through the winter. By the time the"
    " island came out of the haze, low and brown like a loaf, they had agreed on a story, and the"
    " story was better than the truth: the lock had been changed, the post was slow, and nobody"
    " could be blamed. The engines slowed. A rope flew across, a man caught it without looking,"
    " and the whole boat leaned once against the old tyres and was still."
)


@dataclass(frozen=True)
class Workload:
    """The arrays of one inference; ``length`` is in tokens, None for models without text."""

    batch: int
    length: int | None
    feeds: Mapping[str, Array]

    @property
    def name(self) -> str:
        """``1×128``, or the batch alone."""
        return f"{self.batch}" if self.length is None else f"{self.batch}×{self.length}"


def make_workloads(
    bundle: Bundle, *, batch: int = 1, lengths: Sequence[int] | None = None, seed: int = 0
) -> tuple[Workload, ...]:
    """A workload per length (16 and 128 tokens by default), made for a bundle's own inputs.

    Text is real English through the bundle's tokenizer, every row cut to exactly the length and
    begun at another word. Models without text get their golden inputs, or random ones, at the
    batch.

    Raises:
        ConfigError: a length the model does not take, or lengths for a model without text.
        MissingDependency: tokenizers is not installed.
    """
    if batch < 1:
        raise ConfigError(f"--batch should be at least 1, got {batch}.")
    if set(bundle.manifest.components) != {"model"}:
        raise ConfigError(
            f"{bundle.path} has the components {', '.join(bundle.manifest.components)};"
            " inputs are made for bundles of one component.",
            hint="Measure a bundle with the component 'model'.",
        )
    specs = bundle.manifest.components["model"].inputs
    processor = bundle.manifest.processor
    if processor is not None and processor.get("kind") == "text":
        _check_static(specs, 0, batch, "--batch")
        return _text_workloads(bundle, processor, specs, batch, lengths)
    if lengths:
        raise ConfigError(
            f"{bundle.path} takes no text, so --length has no meaning for it.",
            hint="Leave --length out; --batch works for every model.",
        )
    return (Workload(batch, None, _array_feeds(bundle, specs, batch, seed)),)


def fit_workload(bundle: Bundle, batch: int, length: int) -> tuple[int, int | None]:
    """The batch and tokens nearest to the given ones that the bundle takes.

    For a default, which nobody typed: fixed dimensions win, a text is no longer than the model
    takes, and a model without text has no length.
    """
    specs = bundle.manifest.components["model"].inputs
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
    pair = _mapping(processor.get("post")).get("kind") == "question-answering"
    return tuple(
        Workload(batch, size, _token_feeds(maker, specs, batch, size, pair=pair)) for size in chosen
    )


def _mapping(value: object) -> Mapping[str, object]:
    return value if isinstance(value, Mapping) else {}


def _token_feeds(
    maker: TextProcessor, specs: Sequence[TensorSpec], batch: int, length: int, *, pair: bool
) -> dict[str, Array]:
    """Rows of exactly `length` tokens: the passage from another word on, repeated as needed."""
    words = PASSAGE.split()
    # The tokenizer is this function's own: it may be told another length than the bundle's.
    maker.tokenizer.enable_truncation(length, strategy="longest_first")
    rows = []
    for row in range(batch):
        start = row * 7 % len(words)
        turned = words[start:] + words[:start]
        repeat = 1 + length // len(words)
        encoding = None
        # A word is a token or more, but for a tokenizer that merges whole phrases.
        for _ in range(8):
            text = " ".join(turned * repeat)
            question = " ".join(turned[: max(1, min(8, length // 8))])
            encoding = (
                maker.tokenizer.encode(question, text) if pair else maker.tokenizer.encode(text)
            )
            if len(encoding) == length:
                break
            repeat *= 2
        if encoding is None or len(encoding) != length:
            raise ConfigError(
                f"The tokenizer gives no row of exactly {length} tokens.",
                hint="Choose a longer --length.",
            )
        rows.append(encoding)
    made = maker.collate(rows)
    return {spec.name: made[spec.name].astype(spec.dtype, copy=False) for spec in specs}


def _array_feeds(
    bundle: Bundle, specs: Sequence[TensorSpec], batch: int, seed: int
) -> dict[str, Array]:
    """Golden inputs brought to the batch; random arrays where there are none."""
    stored = bundle.manifest.golden
    known = golden.read(bundle.file(stored.file)).inputs if stored is not None else {}
    symbol = batch_symbol(specs)
    if symbol is None and batch != 1:
        raise ConfigError(
            f"The bundle {bundle.path} has no axis for a batch, got --batch {batch}.",
            hint="Leave --batch out, or export with a varying first dimension.",
        )
    generator = np.random.default_rng(seed)
    feeds: dict[str, Array] = {}
    for spec in specs:
        array = known.get(spec.name)
        if array is None:
            sizes = [
                size if isinstance(size, int) else batch if size == symbol else _UNKNOWN
                for size in spec.shape
            ]
            array = _random(generator, spec, sizes)
        for axis, size in enumerate(spec.shape):
            if size == symbol and symbol is not None:
                array = np.take(array, np.arange(batch) % array.shape[axis], axis=axis)
        feeds[spec.name] = np.ascontiguousarray(array)
    return feeds


def batch_symbol(specs: Sequence[TensorSpec]) -> str | None:
    """The name of the batch dimension: ``batch``, else the first dimension that varies first."""
    names = [size for spec in specs for size in spec.shape if isinstance(size, str)]
    if "batch" in names:
        return "batch"
    firsts = [spec.shape[0] for spec in specs if spec.shape]
    return next((size for size in firsts if isinstance(size, str)), None)


def _random(generator: np.random.Generator, spec: TensorSpec, sizes: Sequence[int]) -> Array:
    dtype = np.dtype(spec.dtype)
    if np.issubdtype(dtype, np.floating):
        return generator.standard_normal(tuple(sizes)).astype(dtype)
    # 0 and 1 are valid ids of every embedding and valid masks.
    return generator.integers(0, 2, size=tuple(sizes)).astype(dtype)


def save_workloads(workloads: Sequence[Workload], path: Path) -> None:
    """Write workloads to one .safetensors file that every child of a bench reads."""
    tensors: dict[str, np.ndarray[tuple[int, ...], np.dtype[np.generic]]] = {}
    metadata: dict[str, str] = {"count": str(len(workloads))}
    for index, workload in enumerate(workloads):
        length = "" if workload.length is None else str(workload.length)
        metadata[f"{index}"] = f"{workload.batch},{length}"
        for name, array in workload.feeds.items():
            tensors[f"{index}.{name}"] = np.ascontiguousarray(array)
    save_file(tensors, path, metadata=metadata)


def load_workloads(path: Path) -> tuple[Workload, ...]:
    """The workloads in a file of `save_workloads`. Raises ConfigError when it is none."""
    try:
        with safe_open(path, framework="numpy") as file:
            metadata = file.metadata() or {}
            feeds: list[dict[str, Array]] = [{} for _ in range(int(metadata["count"]))]
            for key in file.keys():  # noqa: SIM118 - safe_open is no mapping
                index, _, name = key.partition(".")
                feeds[int(index)][name] = file.get_tensor(key)
            heads = [metadata[str(index)].split(",") for index in range(len(feeds))]
    except (OSError, SafetensorError, KeyError, ValueError, IndexError) as error:
        raise ConfigError(f"{path} holds no workloads: {error}.") from error
    return tuple(
        Workload(int(batch), int(length) if length else None, arrays)
        for (batch, length), arrays in zip(heads, feeds, strict=True)
    )
