"""The runtime by itself: what it imports, what it writes, whom it calls, what it leaves behind."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from edgekit.core.bundle import Bundle

Make = Callable[..., Bundle]
ROOT = Path(__file__).resolve().parents[2]
# What a workstation has and a device does not.
HEAVY = ("torch", "transformers", "onnx", "onnx_ir", "onnxscript", "nncf", "optimum", "click")

IMPORT_EVERYTHING = """
import importlib, pkgutil, sys
import edgekit.runtime
for module in pkgutil.walk_packages(edgekit.runtime.__path__, "edgekit.runtime."):
    importlib.import_module(module.name)
names = {name.partition(".")[0] for name in sys.modules}
print(*sorted(names - set(sys.stdlib_module_names)))
"""
PREDICT = """
import sys

class Forbid:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in sys.argv[3].split(","):
            raise ImportError(f"{name} is not for devices")

sys.meta_path.insert(0, Forbid())
import edgekit
with edgekit.load(sys.argv[1], engine=sys.argv[2]) as model:
    print(model("the lazy dog")[0]["label"])
    model.selftest()
"""


def python(code: str, *arguments: object, before: tuple[str, ...] = (), **variables: str) -> str:
    """Run code in a fresh process with an environment of almost nothing; its standard output."""
    environment = {"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT), **variables}
    command = [*before, sys.executable, "-c", code, *map(str, arguments)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_imports_are_light() -> None:
    """Every module of the runtime imports with numpy and safetensors alone."""
    names = set(python(IMPORT_EVERYTHING).split())
    assert not names & {*HEAVY, "onnxruntime", "openvino", "tokenizers"}
    assert {"edgekit", "numpy", "safetensors"} <= names


@pytest.mark.parametrize("engine", ["onnxruntime", "openvino"])
def test_nothing_is_written_or_sent(text_bundle: Make, tmp_path: Path, engine: str) -> None:
    """With an empty home, a prediction writes no file anywhere and opens no network connection."""
    bundle = text_bundle("classification")
    home = tmp_path / "home"
    home.mkdir()
    trace = tmp_path / "trace"
    strace = shutil.which("strace")
    before: tuple[str, ...] = ()
    if strace:
        before = (strace, "-f", "-o", str(trace), "-e", "trace=connect,sendto,openat,mkdir,rename")
    arguments = (bundle.path, engine, ",".join(HEAVY))
    python(PREDICT, *arguments, before=before, HOME=str(home), TMPDIR=str(home))
    assert list(home.rglob("*")) == []
    if strace:
        calls = trace.read_text().splitlines()
        assert [call for call in calls if "AF_INET" in call] == []
        written = [
            call
            for call in calls
            if ("O_WRONLY" in call or "O_RDWR" in call or "mkdir(" in call or "rename(" in call)
            and "= -1" not in call
            and "/dev/" not in call
            # Python's own cache of compiled modules.
            and "__pycache__" not in call
        ]
        assert written == []


@pytest.mark.parametrize(("given", "expected"), [(None, "1"), ("0", "0")])
def test_telemetry_switch(given: str | None, expected: str, tmp_path: Path) -> None:
    """ONNX Runtime's telemetry is off before its import, unless the user has said otherwise."""
    # An empty stand-in: with its telemetry on, the real one would write and send from here.
    (tmp_path / "onnxruntime.py").touch()
    code = (
        "import os, sys\n"
        "sys.path.insert(0, sys.argv[1])\n"
        "from edgekit.runtime.engines.onnxruntime import import_onnxruntime\n"
        "import_onnxruntime()\n"
        "print(os.environ['ORT_DISABLE_TELEMETRY'])"
    )
    variables = {} if given is None else {"ORT_DISABLE_TELEMETRY": given}
    assert python(code, tmp_path, **variables).split() == [expected]


def test_openvino_telemetry_is_hidden_only_while_it_imports() -> None:
    """The package that sends is not imported, and can be afterwards by someone who wants it."""
    code = (
        "import sys, importlib.util\n"
        "from edgekit.runtime.engines.openvino import import_openvino\n"
        "import_openvino()\n"
        "print('openvino_telemetry' in sys.modules)\n"
    )
    assert python(code).split() == ["False"]


def test_import_changes_nothing() -> None:
    """Importing the facade and the runtime touches neither environment nor threads."""
    code = (
        "import os, threading\n"
        "before = dict(os.environ)\n"
        "import edgekit.runtime\n"
        "print(before == dict(os.environ), threading.active_count())"
    )
    assert python(code).split() == ["True", "1"]


def test_subnormals_survive(linear_bundle: Make) -> None:
    """Loading does not switch the app's thread to flushing subnormal numbers to zero."""
    code = (
        "import sys, numpy, edgekit\n"
        "model = edgekit.load(sys.argv[1])\n"
        "print(numpy.float32(1e-40) * numpy.float32(1) != 0, numpy.finfo('float32').tiny > 0)"
    )
    assert python(code, linear_bundle().path).split() == ["True", "True"]


def test_nothing_is_said(linear_bundle: Make) -> None:
    """A normal life prints nothing, not even on standard error."""
    code = "import sys, edgekit\nedgekit.load(sys.argv[1]).close()"
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code, str(linear_bundle().path)],
        env={"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )
    assert (done.stdout, done.stderr, done.returncode) == ("", "", 0)
