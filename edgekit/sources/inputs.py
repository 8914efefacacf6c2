"""The `--input NAME=DTYPE:DIM,DIM` declarations of custom modules."""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from edgekit.core.errors import ConfigError

# What both ONNX and every engine of ours carry as an input.
INPUT_DTYPES = (
    "float32", "float16", "float64", "int64", "int32", "int16", "int8", "uint8", "bool",
)  # fmt: skip

# The dimensions that vary in a text checkpoint, in the order of a token tensor's axes.
TEXT_AXES = ("batch", "sequence")
# Where a checkpoint of pictures says how they are prepared.
PROCESSOR_FILES = ("preprocessor_config.json", "processor_config.json")

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_.]*\Z")
_SYNTAX = (
    "Write --input NAME=DTYPE:DIM,DIM… with a number for a fixed and a name for a varying"
    " dimension, for example --input x=float32:batch,sequence,8"
)


@dataclass(frozen=True)
class InputSpec:
    """One declared input; a name in ``shape`` is a dimension that varies, () is a scalar."""

    name: str
    dtype: str
    shape: tuple[int | str, ...]

    @property
    def axes(self) -> dict[int, str]:
        """Axis index → symbol of the dimensions that vary."""
        return {axis: dim for axis, dim in enumerate(self.shape) if isinstance(dim, str)}


def parse_inputs(declarations: Sequence[str]) -> tuple[InputSpec, ...]:
    """The declared inputs, in their order. Raises ConfigError with the syntax on a wrong one."""
    specs = tuple(parse_input(declaration) for declaration in declarations)
    seen: set[str] = set()
    for spec in specs:
        if spec.name in seen:
            raise ConfigError(f"--input declares {spec.name!r} twice.", hint=_SYNTAX + ".")
        seen.add(spec.name)
    return specs


def parse_input(declaration: str) -> InputSpec:
    """One declaration, for example `ids=int64:batch,sequence`. Raises ConfigError."""
    name, equals, rest = declaration.partition("=")
    dtype, colon, dims = rest.partition(":")
    if not (equals and colon and _NAME.match(name)):
        raise ConfigError(
            f"--input {declaration!r} is not an input declaration.", hint=_SYNTAX + "."
        )
    if dtype not in INPUT_DTYPES:
        near = difflib.get_close_matches(dtype, INPUT_DTYPES, n=1, cutoff=0.4)
        meant = f"Did you mean {near[0]}? " if near else ""
        raise ConfigError(
            f"--input {declaration!r} has the unknown type {dtype!r}.",
            hint=f"{meant}Known types: {', '.join(INPUT_DTYPES)}.",
        )
    shape = tuple(_dimension(part, declaration) for part in dims.split(",")) if dims else ()
    return InputSpec(name, dtype, shape)


def _dimension(text: str, declaration: str) -> int | str:
    if text.isascii() and text.isdigit() and int(text) > 0:
        return int(text)
    if _NAME.match(text):
        return text
    raise ConfigError(
        f"--input {declaration!r} has the dimension {text!r}, which is neither a number above 0"
        " nor a name.",
        hint=_SYNTAX + ".",
    )


def symbols(specs: Sequence[InputSpec]) -> tuple[str, ...]:
    """The names of all varying dimensions, each once, in the order of their first use."""
    return tuple(dict.fromkeys(dim for spec in specs for dim in spec.shape if isinstance(dim, str)))


def sizes_differing(names: Sequence[str], first: int = 2) -> Mapping[str, int]:
    """A size for every symbol, no two alike and none 0 or 1.

    torch.export specialises on 0 and 1 and takes equal sizes of two axes for one axis.
    """
    primes = (3, 5, 7, 11, 13, 17, 19, 23)
    rest = [name for name in names if name != "batch"]
    sizes = {name: primes[index] for index, name in enumerate(rest[: len(primes)])}
    sizes |= {name: 29 + 2 * index for index, name in enumerate(rest[len(primes) :])}
    return {name: first if name == "batch" else sizes[name] for name in names}
