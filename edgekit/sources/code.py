"""Code that a person names: `package.module:name` and `file.py:name`."""

from __future__ import annotations

import contextlib
import difflib
import importlib
import importlib.util
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType

from edgekit.core.errors import ConfigError, SourceError


def find_attribute(spec: str) -> tuple[object, Path | None]:
    """What the name behind the colon stands for, and the folder of the file that holds it.

    Raises:
        ConfigError: no such file, module or name.
        SourceError: the code fails when it is imported.
    """
    where, _, name = spec.rpartition(":")
    namespace, folder = _import(where)
    if not hasattr(namespace, name):
        near = difflib.get_close_matches(name, dir(namespace), n=1, cutoff=0.5)
        meant = f"Did you mean {where}:{near[0]}?" if near else "Check the name behind the colon."
        raise ConfigError(f"{where} has no {name!r}.", hint=meant)
    return getattr(namespace, name), folder


def _import(where: str) -> tuple[ModuleType, Path | None]:
    if where.endswith(".py"):
        path = Path(where).expanduser()
        if not path.is_file():
            raise ConfigError(f"There is no file {where}.", hint="Check the path before the colon.")
        return _run(where, lambda: _load_file(path)), path.resolve().parent
    with _importable(Path.cwd()):
        try:
            found = importlib.util.find_spec(where)
        except (ImportError, ValueError):
            found = None
        except Exception as error:
            # Looking for a.b imports a, whatever that does.
            raise _broken(where, error) from error
        if found is None:
            raise ConfigError(
                f"There is no Python module {where!r}.",
                hint="Give package.module:name for something importable, or file.py:name.",
            )
        return _run(where, lambda: importlib.import_module(where)), None


def _load_file(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"edgekit_source_{path.stem}", path)
    if spec is None or spec.loader is None:
        raise ImportError(f"{path} is no Python file")
    module = importlib.util.module_from_spec(spec)
    # Dataclasses and pickles look their module up here.
    sys.modules[spec.name] = module
    with _importable(path.resolve().parent):
        spec.loader.exec_module(module)
    return module


def _run(where: str, load: Callable[[], ModuleType]) -> ModuleType:
    try:
        return load()
    except Exception as error:
        raise _broken(where, error) from error


def _broken(where: str, error: Exception) -> SourceError:
    return SourceError(
        f"{where} fails on import: {type(error).__name__}: {error}",
        hint="Import it in Python to see its traceback.",
    )


@contextlib.contextmanager
def _importable(folder: Path) -> Iterator[None]:
    entry = str(folder)
    sys.path.insert(0, entry)
    try:
        yield
    finally:
        with contextlib.suppress(ValueError):
            sys.path.remove(entry)
