"""Nothing is sent and nothing is left behind: the commands under strace, with an empty home.

Three of our dependencies send usage data or write under the home folder when they are imported,
some of it from processes of their own; only the kernel's view shows that none of it happens.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest

import edgekit
from tests.conftest import make_once

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[1]

# What sends, and what makes or changes a file.
_SENDING = ("connect", "sendto", "sendmsg", "sendmmsg")
_MAKING = (
    "open", "openat", "openat2", "creat", "mkdir", "mkdirat", "mknod", "mknodat", "rename",
    "renameat", "renameat2", "link", "linkat", "symlink", "symlinkat", "truncate",
)  # fmt: skip
_CALL = re.compile(r"^(?P<name>\w+)\((?P<arguments>.*)\)\s+= (?P<result>-?\w+)(?P<rest>.*)$")
_WRITING = re.compile(r"O_WRONLY|O_RDWR|O_CREAT|O_TRUNC")
_PATH = re.compile(r'"((?:[^"\\]|\\.)*)"')

COMMANDS: Mapping[str, tuple[str, ...]] = {
    "verify-onnxruntime": ("verify", "{onnxruntime}"),
    "verify-openvino": ("verify", "{openvino}"),
    "run-onnxruntime": ("run", "{onnxruntime}", "a lazy dog"),
    "run-openvino": ("run", "{openvino}", "a lazy dog"),
    "export": ("export", "{source}", "-o", "{output}"),
    "compile": ("compile", "{onnxruntime}", "-o", "{output}", "--target", "openvino-cpu"),
}


@dataclass(frozen=True)
class Call:
    """One system call that did what was asked of it."""

    name: str
    arguments: str
    line: str


@pytest.fixture(scope="session")
def openvino_classifier(shared: Path, classifier: Path) -> Path:
    """`classifier` compiled for OpenVINO."""
    return make_once(
        shared / "classifier-openvino",
        lambda folder: edgekit.compile(classifier, folder, target="openvino-cpu"),
    )


@pytest.mark.parametrize("command", COMMANDS)
def test_nothing_leaves(
    command: str,
    classifier_source: Path,
    classifier: Path,
    openvino_classifier: Path,
    tmp_path: Path,
) -> None:
    """A command calls nobody, and writes to its output and the temporary folder alone."""
    folders = {name: tmp_path / name for name in ("home", "tmp", "out", "calls")}
    for folder in folders.values():
        folder.mkdir()
    places = {
        "source": classifier_source,
        "onnxruntime": classifier,
        "openvino": openvino_classifier,
        "output": folders["out"] / "bundle",
    }
    words = [word.format(**places) for word in COMMANDS[command]]
    strace = shutil.which("strace")
    watching: list[str] = []
    if strace is not None:
        # A file per thread (-ff): calls of several threads never interrupt each other's lines.
        names = ",".join((*_SENDING, *_MAKING))
        watching = [strace, "-ff", "-qq", "-y", "-s", "4096", "-e", f"trace={names}"]
        watching += ["-e", "signal=none", "--seccomp-bpf", "-o", str(folders["calls"] / "call")]
    done = subprocess.run(
        [*watching, sys.executable, "-m", "edgekit", *words],
        # As on a machine that was set up a minute ago, none of our own switches among it.
        env={
            "PATH": os.environ["PATH"],
            "HOME": str(folders["home"]),
            "TMPDIR": str(folders["tmp"]),
            "PYTHONPATH": str(ROOT),
            "PYTHONDONTWRITEBYTECODE": "1",
        },
        cwd=folders["out"],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert list(folders["home"].rglob("*")) == []
    assert [path.name for path in folders["out"].iterdir()] in ([], ["bundle"])
    if strace is None:
        pytest.skip("strace is not installed: the home folder stayed empty, calls were not seen")
    calls = _read(folders["calls"])
    assert any(call.name == "openat" for call in calls)
    assert [call.line for call in calls if _sends(call)] == []
    allowed = (folders["out"], folders["tmp"], Path("/dev"))
    assert [call.line for call in calls if _writes_outside(call, folders["out"], allowed)] == []


def _read(folder: Path) -> list[Call]:
    """The calls of all threads; attempts to send count even when they failed."""
    calls = []
    for path in folder.iterdir():
        for line in path.read_text(errors="replace").splitlines():
            match = _CALL.match(line)
            assert match or line.endswith(("<unfinished ...>", "= ?")), line
            if match is None:
                # The process ended inside this call: what it was doing still counts.
                name, _, arguments = line.partition("(")
                calls.append(Call(name, arguments, line))
            elif match["name"] in _SENDING or not match["result"].startswith("-"):
                calls.append(Call(match["name"], match["arguments"], line))
    return calls


def _sends(call: Call) -> bool:
    return call.name in _SENDING and "AF_INET" in call.line


def _writes_outside(call: Call, working: Path, allowed: tuple[Path, ...]) -> bool:
    if call.name not in _MAKING:
        return False
    if call.name.startswith("open") and not _WRITING.search(call.arguments):
        return False
    paths = [Path(os.path.normpath(working / found)) for found in _PATH.findall(call.arguments)]
    return not all(any(path.is_relative_to(folder) for folder in allowed) for path in paths)
