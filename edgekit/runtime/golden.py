"""Golden values: inputs with the answers they had where the bundle was written, and in PyTorch."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from edgekit.core import cpu
from edgekit.core.bundle import Bundle
from edgekit.core.errors import BundleCorrupt, ConfigError
from edgekit.core.manifest import GOLDEN_MAX_BYTES, Component, Manifest
from edgekit.core.results import GoldenRow
from edgekit.core.tolerance import TOLERANCES, Tolerance, tolerance_for
from edgekit.runtime.caches import cache_pairs
from edgekit.runtime.fields import short
from edgekit.runtime.session import Array, Session, contiguous

GOLDEN_NAME = "golden.safetensors"
_PARTS = ("input", "reference", "expected")
_SAMPLED = "sampled"
_MOST_STRIDE = 1 << 31
# From exact to coarse: what is judged is what the coarsest of several left over.
_COARSENESS = {"fp32": 0, "bf16": 1, "fp16": 1, "int8": 2, "int4": 3}


@dataclass(frozen=True)
class GoldenValues:
    """The arrays of a ``golden.safetensors``, by input or output name.

    ``reference`` is what the origin answered in PyTorch, ``expected`` what this bundle answered
    where it was written; ``arch`` and ``features`` tell what CPU that was. Of an output in
    ``strides`` both hold one number out of so many, as one row: others would fill the file.
    """

    inputs: dict[str, Array]
    reference: dict[str, Array]
    expected: dict[str, Array]
    arch: str | None = None
    features: frozenset[str] | None = None
    strides: Mapping[str, int] = field(default_factory=dict)

    @property
    def same_isa(self) -> bool:
        """Whether this CPU has the instruction set that `expected` was computed with."""
        here = cpu.cpu_features()
        unknown = self.arch is None or self.features is None or here is None
        return unknown or (self.arch == cpu.arch() and self.features == here)

    def recorded(self, answers: Mapping[str, Array]) -> dict[str, Array]:
        """Those of some answers that these values hold any of, as they hold them.

        An import leaves some out.
        """
        known = self.reference.keys() | self.expected.keys() or answers.keys()
        held = {name: array for name, array in answers.items() if name in known}
        return sampled(held, self.strides)


def write(
    path: Path,
    inputs: Mapping[str, Array],
    reference: Mapping[str, Array],
    expected: Mapping[str, Array],
    *,
    strides: Mapping[str, int] | None = None,
) -> None:
    """Write golden values, marked with this machine's architecture and CPU features.

    ``strides`` are those of outputs that are given sampled (see `sampled`).

    Raises ConfigError when they take more than the 8 MiB that a bundle may hold.
    """
    arrays = {
        f"{part}.{name}": contiguous(array)
        for part, group in zip(_PARTS, (inputs, reference, expected), strict=True)
        for name, array in group.items()
    }
    size = sum(array.nbytes for array in arrays.values())
    if size + 64 * 1024 > GOLDEN_MAX_BYTES:
        raise ConfigError(
            f"The golden values take {size} bytes; a bundle holds at most {GOLDEN_MAX_BYTES}.",
            hint="Give fewer or shorter sample inputs.",
        )
    metadata = {"arch": cpu.arch()}
    features = cpu.cpu_features()
    if features is not None:
        metadata["features"] = ",".join(sorted(features))
    if strides:
        metadata[_SAMPLED] = json.dumps(dict(sorted(strides.items())), separators=(",", ":"))
    path.write_bytes(_in_order(save(arrays, metadata=metadata)))


def _in_order(data: bytes) -> bytes:
    """The same file with its metadata sorted.

    safetensors keeps them in a hash map, in an order that changes from run to run: the same bundle
    would have another id each time.
    """
    end = 8 + int.from_bytes(data[:8], "little")
    header = json.loads(data[8:end])
    header["__metadata__"] = dict(sorted(header["__metadata__"].items()))
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    # The format aligns the arrays to 8 bytes, with spaces.
    text = text.ljust(-(-len(text) // 8) * 8)
    return len(text).to_bytes(8, "little") + text + data[end:]


def read(path: Path) -> GoldenValues:
    """The golden values of a file. Raises BundleCorrupt when it is not one."""
    if path.stat().st_size > GOLDEN_MAX_BYTES:
        raise BundleCorrupt(
            f"{path.name} has {path.stat().st_size} bytes, more than {GOLDEN_MAX_BYTES}."
        )
    groups: dict[str, dict[str, Array]] = {part: {} for part in _PARTS}
    try:
        with safe_open(path, framework="numpy") as stored:
            metadata = stored.metadata() or {}
            for key in stored.keys():  # noqa: SIM118 - not a mapping
                part, _, name = key.partition(".")
                if part not in groups or not name:
                    raise BundleCorrupt(f"{path.name} holds {key!r}, which is no golden value.")
                groups[part][name] = stored.get_tensor(key)
    except (SafetensorError, TypeError) as error:
        raise BundleCorrupt(
            f"{path.name} cannot be read: {error}.", hint="Get the bundle again."
        ) from error
    features = metadata.get("features")
    return GoldenValues(
        groups["input"],
        groups["reference"],
        groups["expected"],
        metadata.get("arch"),
        None if features is None else frozenset(features.split(",")) - {""},
        _strides(path.name, metadata.get(_SAMPLED), groups),
    )


def sampled(answers: Mapping[str, Array], strides: Mapping[str, int]) -> dict[str, Array]:
    """Answers of which those with a stride are cut down to one number out of so many, as a row."""
    return {
        name: contiguous(array.ravel()[:: strides[name]]) if name in strides else array
        for name, array in answers.items()
    }


def _strides(
    file: str, text: str | None, groups: Mapping[str, Mapping[str, Array]]
) -> dict[str, int]:
    """How outputs are sampled, as a file says it. Raises BundleCorrupt."""
    if text is None:
        return {}
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict):
        raise BundleCorrupt(f"{file} does not say which of its outputs are sampled: {short(text)}.")
    for name, stride in found.items():
        held = [groups[part][name] for part in _PARTS[1:] if name in groups[part]]
        whole = isinstance(stride, int) and not isinstance(stride, bool)
        if not whole or not 1 < stride <= _MOST_STRIDE or any(one.ndim != 1 for one in held):
            raise BundleCorrupt(f"{file} has no sample of {name!r}, one of {short(stride)}.")
    return found


@dataclass(frozen=True)
class Compared:
    """One output beside what it should be, and whether what is ``allowed`` holds.

    ``judged`` is False for what is told and held to no tolerance.
    """

    max_abs: float
    cosine: float
    allowed: str
    passed: bool
    judged: bool = True


@dataclass(frozen=True)
class Bar:
    """What the outputs of a bundle are held to in one precision; ``told`` are only told."""

    precision: str
    rule: Tolerance
    told: frozenset[str] = frozenset()

    def compare(self, name: str, answer: Array, wanted: Array) -> Compared:
        """An output beside what it should be, which has its shape."""
        max_abs, cosine = distance(answer, wanted)
        if name in self.told:
            # NaN in what is kept is NaN in the next token.
            finite = math.isfinite(max_abs)
            return Compared(max_abs, cosine, "any finite number", finite, judged=False)
        scale = float(np.abs(wanted).max()) if wanted.size else 0.0
        row = row_length(wanted)
        passed = self.rule.accepts(max_abs=max_abs, max_reference=scale, cosine=cosine, row=row)
        return Compared(max_abs, cosine, self.rule.describe(row), passed)


def bar_for(
    components: Mapping[str, Component],
    precision: str,
    overrides: Mapping[str, Tolerance] | None = None,
    *,
    cross_isa: bool = False,
) -> Bar:
    """What a bundle of these components is held to in a precision; see `tolerance_for`.

    What a decoder hands to its own next step is only told where numbers are rounded. It is a state
    inside of an answer, as any tensor inside of a graph is, and of those nobody asks how far off
    they are: 4-bit weights leave a cosine of .957 in one of the 60 of SmolLM2-135M, whose answers
    are within what 4 bits allow. An encoder hands on what it was asked for, which is judged. In
    float32 all is judged: there a wrong cache is a wrong graph.
    """
    rule = tolerance_for(precision, overrides, cross_isa=cross_isa)
    told = frozenset() if precision == "fp32" else handed_on(components)
    return Bar(precision, rule, told)


def handed_on(components: Mapping[str, Component]) -> frozenset[str]:
    """The outputs that a component takes back as its own inputs, by their names in a session."""
    alone = set(components) == {"model"}
    return frozenset(
        output if alone else f"{name}.{output}"
        for name, part in components.items()
        for _, output in cache_pairs(part.inputs, part.outputs)
    )


def judge(bundle: Bundle, session: Session) -> tuple[GoldenRow, ...]:
    """`expected` against what the session answers now, one row per output that was recorded.

    The tolerance is that of the coarsest precision in play (the bundle's own, or the one the
    engine really uses), and the wider one when this CPU is another kind than the writer's.
    """
    golden = bundle.manifest.golden
    if golden is None:
        return ()
    values = read(bundle.file(golden.file))
    if not values.expected:
        raise BundleCorrupt(
            f"{golden.file} holds no expected outputs: there is nothing to compare with.",
            hint="Get the bundle again, or export it again.",
        )
    manifest = bundle.manifest
    bar = bar_for(
        manifest.components,
        effective_precision(manifest, session),
        golden.tolerance,
        cross_isa=not values.same_isa,
    )
    answers = values.recorded(session.run(values.inputs))
    rows = []
    for name, expected in values.expected.items():
        if name not in answers:
            raise BundleCorrupt(f"{golden.file} expects an output {name!r} that the graph lacks.")
        answer = answers[name]
        if answer.shape != expected.shape:
            raise BundleCorrupt(
                f"Output {name!r} has shape {list(answer.shape)}, {golden.file} expects"
                f" {list(expected.shape)}."
            )
        found = bar.compare(name, answer, expected)
        reference = values.reference.get(name)
        if reference is not None and reference.shape != answer.shape:
            raise BundleCorrupt(
                f"Output {name!r} has shape {list(answer.shape)}, the reference in {golden.file}"
                f" {list(reference.shape)}."
            )
        rows.append(
            GoldenRow(
                output=name,
                max_abs=found.max_abs,
                cosine=found.cosine,
                tolerance=f"{bar.precision}: {found.allowed}",
                passed=found.passed,
                judged=found.judged,
                to_reference=None if reference is None else distance(answer, reference)[0],
            )
        )
    return tuple(rows)


def effective_precision(manifest: Manifest, session: Session) -> str:
    """The coarsest of what the bundle was converted to and what the engine computes in."""
    return coarsest(stored_precision(manifest), str(session.facts().get("precision", "fp32")))


def coarsest(*precisions: str) -> str:
    """The one of some precisions that leaves the least of a number; unknown names count as fp32."""
    return max(precisions, key=lambda name: _COARSENESS.get(name, 0))


def stored_precision(manifest: Manifest) -> str:
    """What the bundle's steps have converted it to: the last step that records a ``precision``."""
    for step in reversed(manifest.steps):
        precision = step.facts.get("precision")
        if isinstance(precision, str) and precision in TOLERANCES:
            return precision
    return "fp32"


def distance(first: Array, second: Array) -> tuple[float, float]:
    """(largest absolute difference, cosine of the flattened arrays), of arrays of one shape.

    Two arrays of zeros have a cosine of 1, zeros and anything else have 0: both compare with a
    limit. NaN in either array, or infinity in both, makes both numbers NaN.
    """
    left = _flat(first)
    right = _flat(second)
    if left.size == 0:
        return 0.0, 1.0
    lengths = float(np.linalg.norm(left)), float(np.linalg.norm(right))
    with np.errstate(invalid="ignore"):
        max_abs = float(np.abs(left - right).max())
        product = float(left @ right)
    scale = lengths[0] * lengths[1]
    cosine = product / scale if scale else float(lengths[0] == lengths[1])
    # Rounding can lift it above 1. The order matters: min(1.0, NaN) would be 1.
    return max_abs, min(cosine, 1.0)


def row_length(array: Array) -> int:
    """How many numbers one row of an output has; with a single axis it is one row."""
    return array.size // len(array) if array.ndim > 1 and len(array) else array.size


def _flat(array: Array) -> NDArray[np.float64]:
    return np.asarray(array, dtype=np.float64).ravel()
