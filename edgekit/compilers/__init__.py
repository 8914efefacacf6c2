"""Compilers: an exported or quantized bundle becomes what one device's engine loads fastest.

One module per engine, found by the engine's name: two of our own, others through the entry-point
group ``edgekit.compilers``. `pipeline.compiling` drives them; see `records.Compiler`.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, cast

from edgekit.compilers.records import Candidate, Choice, CompiledComponent, Compiler
from edgekit.core.errors import CompileError, ConfigError
from edgekit.core.profiles import nearest

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint

__all__ = [
    "Candidate",
    "Choice",
    "CompiledComponent",
    "Compiler",
    "compiler_names",
    "find_compiler",
]

GROUP = "edgekit.compilers"

BUILT_IN = {
    "onnxruntime": "edgekit.compilers.onnxruntime",
    "openvino": "edgekit.compilers.openvino",
}


def compiler_names() -> list[str]:
    """The engines that can be compiled for here, sorted."""
    return sorted({*BUILT_IN, *_entry_points()})


def find_compiler(engine: str) -> Compiler:
    """The compiler of an engine; the engine's package is not imported yet.

    Raises:
        ConfigError: nobody registered a compiler for this engine.
        CompileError: a third party did, and its module does not import.
    """
    if engine in BUILT_IN:
        return cast(Compiler, importlib.import_module(BUILT_IN[engine]))
    others = _entry_points()
    if engine not in others:
        raise ConfigError(
            f"There is no compiler for the engine {engine!r}.",
            hint=nearest(engine, compiler_names()),
        )
    try:
        return cast(Compiler, others[engine].load())
    except Exception as error:
        raise CompileError(
            f"The compiler for {engine!r} ({others[engine].value}) does not import: {error}.",
            hint="Install or repair the package that brings it.",
        ) from error


def _entry_points() -> dict[str, EntryPoint]:
    from importlib.metadata import entry_points

    return {entry.name: entry for entry in entry_points(group=GROUP)}
