"""compilers/__init__.py and records.py: which compilers there are, and what bundles ask for."""

from __future__ import annotations

from importlib.metadata import EntryPoint

import pytest

from edgekit import compilers
from edgekit.compilers.records import CompiledComponent, combine_requires
from edgekit.core.errors import CompileError, ConfigError
from edgekit.core.manifest import Component, Requires


@pytest.fixture
def third_party(monkeypatch: pytest.MonkeyPatch):
    """Registers an entry point under the compilers' group."""

    def register(name: str, value: str) -> None:
        entry = EntryPoint(name, value, compilers.GROUP)
        monkeypatch.setattr("importlib.metadata.entry_points", lambda group: [entry])

    return register


def test_both_engines_have_a_compiler() -> None:
    """The two engines of our own are found by their names."""
    assert {"onnxruntime", "openvino"} <= set(compilers.compiler_names())
    for name in ("onnxruntime", "openvino"):
        assert callable(compilers.find_compiler(name).compile_component)


def test_third_party_compiler_is_found(third_party) -> None:
    """An entry point of the group adds an engine."""
    third_party("other", "edgekit.compilers.openvino")
    assert "other" in compilers.compiler_names()
    assert callable(compilers.find_compiler("other").check)


def test_unknown_engine_names_the_nearest() -> None:
    """A mistyped engine is a ConfigError that names the nearest one."""
    with pytest.raises(ConfigError, match="'onnxruntime'"):
        compilers.find_compiler("onnxruntim")


def test_broken_third_party_is_named(third_party) -> None:
    """An entry point that does not import is a CompileError, not a traceback."""
    third_party("other", "edgekit.compilers.nothing_here")
    with pytest.raises(CompileError, match="nothing_here"):
        compilers.find_compiler("other")


def test_requires_of_all_components_are_combined() -> None:
    """A bundle asks for what the most demanding of its components asks for."""
    part = Component("onnx", ("model.onnx",), (), ())

    def compiled(requires: Requires) -> CompiledComponent:
        return CompiledComponent(part, {}, {}, requires, "fp32")

    combined = combine_requires(
        {
            "encoder": compiled(Requires("onnxruntime", "1.9", None, ("avx2",), ("ort",))),
            "decoder": compiled(Requires("onnxruntime", "1.10", "x86_64", (), ("ort", "text"))),
        }
    )
    assert combined == Requires("onnxruntime", "1.10", "x86_64", ("avx2",), ("ort", "text"))
