"""Imports that happen when they are needed, and say which extra brings what is not there."""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Iterable
from types import ModuleType

from edgekit.core.errors import MissingDependency

# The distribution's name; `edgekit` on PyPI is an unrelated project.
DISTRIBUTION = "edgekit-ml"


def require_installed(modules: Iterable[str], extra: str) -> None:
    """Raise MissingDependency for the first module that is not installed, importing none."""
    for module in modules:
        if importlib.util.find_spec(module) is None:
            raise MissingDependency(
                f"The package {module} is not installed.",
                hint=f"Run: pip install '{DISTRIBUTION}[{extra}]'",
            )


def require(module: str, extra: str) -> ModuleType:
    """The imported module, or MissingDependency with the pip line of the extra that holds it.

    An ImportError raised *inside* an installed module keeps its traceback as the cause: the
    package is there but broken, and installing it again is still the best first remedy.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        top = module.partition(".")[0]
        missing = isinstance(error, ModuleNotFoundError) and error.name in (top, module)
        fact = "is not installed" if missing else f"does not import ({error})"
        raise MissingDependency(
            f"The package {top} {fact}.", hint=f"Run: pip install '{DISTRIBUTION}[{extra}]'"
        ) from error
