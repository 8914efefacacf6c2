"""The facade: complete, sorted, and lazy."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
import subprocess
import sys

import pytest

import edgekit

HEAVY = {"numpy", "onnx", "onnxruntime", "torch", "transformers", "openvino", "tokenizers"}


def _modules_after(code: str) -> set[str]:
    """The top-level packages that a fresh interpreter has after running `code`."""
    tail = "\nimport sys; print(*{name.partition('.')[0] for name in sys.modules})"
    done = subprocess.run(
        [sys.executable, "-c", code + tail], capture_output=True, text=True, check=True
    )
    return set(done.stdout.splitlines()[-1].split())


def test_all_is_sorted_and_complete() -> None:
    """Every public name is listed once, in order, and resolves."""
    assert list(edgekit.__all__) == sorted(edgekit.__all__)
    assert set(edgekit.__all__) == set(edgekit._HOMES) | set(edgekit._MODULES)
    for name in edgekit.__all__:
        assert getattr(edgekit, name) is not None


def test_every_error_is_public() -> None:
    """The whole error tree can be caught by name from the facade."""
    errors = importlib.import_module("edgekit.core.errors")
    tree = {
        name
        for name, value in vars(errors).items()
        if inspect.isclass(value) and issubclass(value, edgekit.EdgekitError)
    }
    assert tree <= set(edgekit.__all__)


def test_import_brings_no_third_party() -> None:
    """`import edgekit` imports the standard library and itself."""
    brought = _modules_after("import edgekit") - _modules_after("")
    assert {name for name in brought if name not in sys.stdlib_module_names} == {"edgekit"}


def test_source_is_there_without_an_import_of_its_own() -> None:
    """`edgekit.source.load` is reached from the facade, and torch only when it is called."""
    code = (
        "import edgekit\nassert callable(edgekit.source.load)\nassert callable(edgekit.source.save)"
    )
    assert not _modules_after(code) & HEAVY


def test_help_brings_click_alone() -> None:
    """`edgekit --help` imports click and nothing heavy."""
    code = (
        "import sys\nfrom edgekit.cli.main import main\n"
        "try: main(['--help'])\nexcept SystemExit: pass"
    )
    assert not _modules_after(code) & (HEAVY | {"rich", "safetensors"})


def test_submodules_do_not_hide_verbs() -> None:
    """Importing every submodule leaves each verb callable on the facade."""
    for module in pkgutil.walk_packages(edgekit.__path__, "edgekit."):
        if not module.name.endswith("__main__"):
            importlib.import_module(module.name)
    for verb in {name for name in edgekit._HOMES if not name[0].isupper()}:
        assert callable(getattr(edgekit, verb))


def test_unknown_name() -> None:
    """A name that is not there is an AttributeError, as for any module."""
    with pytest.raises(AttributeError, match="nothing_here"):
        _ = edgekit.nothing_here  # type: ignore[attr-defined]


def test_export_of_a_module_brings_no_transformers() -> None:
    """It takes seconds to import, and a custom module has no use for it."""
    assert "transformers" not in _modules_after("import edgekit.exporters.model")
