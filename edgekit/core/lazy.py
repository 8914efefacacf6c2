"""Imports that happen when they are needed, and say which extra brings what is not there."""

from __future__ import annotations

import gc
import importlib
import importlib.util
import json
import shlex
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path
from threading import Lock, Thread
from types import ModuleType

from edgekit.core.errors import MissingDependency

# The distribution's name; `edgekit` on PyPI is an unrelated project.
DISTRIBUTION = "edgekit-ml"
# What Debian calls the libraries that packages find in the system where pip brings none.
_LIBRARIES = {"soundfile": "libsndfile1"}
# New objects that a collection waits for while modules are imported; CPython's own are 700 (2,000
# from 3.14 on), with which it collects 900 times while PyTorch and transformers are imported and
# takes a sixth of their time.
_OBJECTS = 50_000


def install_line(*extras: str, options: str = "") -> str:
    """The pip line that adds extras to this installation; `options` follow ``pip install``.

    An edgekit that was installed from a folder gets its extras from there: the index may hold
    another version, or none.
    """
    folder, editable = _installed_from()
    words = ["pip", "install", *options.split(), *(["-e"] if editable else [])]
    return shlex.join([*words, f"{folder or DISTRIBUTION}[{','.join(extras)}]"])


def _installed_from() -> tuple[Path | None, bool]:
    """The folder that pip installed edgekit from, None for an index or a wheel; and whether -e."""
    # 20 ms, and only a message about something missing needs them.
    from importlib.metadata import PackageNotFoundError, distribution
    from urllib.parse import urlsplit
    from urllib.request import url2pathname

    try:
        # PEP 610: pip writes the file unless the distribution came from an index.
        told = json.loads(distribution(DISTRIBUTION).read_text("direct_url.json") or "{}")
        if "dir_info" not in told:
            return None, False
        folder = Path(url2pathname(urlsplit(told["url"]).path))
        editable = bool(told["dir_info"].get("editable"))
    except (PackageNotFoundError, OSError, ValueError, KeyError, TypeError, AttributeError):
        return None, False
    return (folder, editable) if (folder / "pyproject.toml").is_file() else (None, False)


class _Collections:
    """The interpreter's threshold, raised while anybody asks for it."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._asking = 0
        self._before = gc.get_threshold()

    @contextmanager
    def rare(self) -> Iterator[None]:
        """Garbage is collected rarely inside, by all threads: imports make hardly any."""
        with self._lock:
            self._asking += 1
            if self._asking == 1:
                self._before = gc.get_threshold()
                first, *others = self._before
                # Where a program has turned collections off, they stay off.
                gc.set_threshold(max(first, _OBJECTS) if first else 0, *others)
        try:
            yield
        finally:
            with self._lock:
                self._asking -= 1
                if not self._asking:
                    gc.set_threshold(*self._before)


rare_collections = _Collections().rare


def require_installed(modules: Iterable[str], extra: str) -> None:
    """Raise MissingDependency for the first module that is not installed, importing none."""
    for module in modules:
        if importlib.util.find_spec(module) is None:
            raise MissingDependency(
                f"The package {module} is not installed.",
                hint=f"Run: {install_line(extra)}",
            )


@contextmanager
def imported_ahead(modules: Iterable[str]) -> Iterator[None]:
    """Another thread imports modules in their order, while this one does what needs none of them.

    It has ended when this one leaves the block. What fails is left to whoever needs the module: the
    import system tries again there, and raises.
    """
    names = tuple(modules)

    def run() -> None:
        with suppress(Exception), rare_collections():
            for name in names:
                importlib.import_module(name)

    thread = Thread(target=run, name="imported-ahead", daemon=True)
    thread.start()
    try:
        yield
    finally:
        # An interpreter that ends in the middle of an import of native code may crash.
        thread.join()


def require(module: str, extra: str) -> ModuleType:
    """The imported module, or MissingDependency with the pip line of the extra that holds it.

    An ImportError raised *inside* an installed module keeps its traceback as the cause: the
    package is there but broken, and installing it again is still the best first remedy. So does an
    OSError, which is how a package says that a library of the system is not there.
    """
    try:
        # Most calls ask for what has long been imported, some of them once for each node.
        with nullcontext() if module in sys.modules else rare_collections():
            return importlib.import_module(module)
    except (ImportError, OSError) as error:
        top = module.partition(".")[0]
        missing = isinstance(error, ModuleNotFoundError) and error.name in (top, module)
        fact = "is not installed" if missing else f"does not import ({error})"
        hint = f"Run: {install_line(extra)}"
        if isinstance(error, OSError) and top in _LIBRARIES:
            hint = f"Install the system's library: apt-get install {_LIBRARIES[top]}"
        raise MissingDependency(f"The package {top} {fact}.", hint=hint) from error
