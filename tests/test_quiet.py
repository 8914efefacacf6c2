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
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

import edgekit
from tests.conftest import make_once

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[1]
STRACE = shutil.which("strace")

# What sends, and what makes or changes a file.
SENDING = ("connect", "sendto", "sendmsg", "sendmmsg")
MAKING = (
    "open", "openat", "openat2", "creat", "mkdir", "mkdirat", "mknod", "mknodat", "rename",
    "renameat", "renameat2", "link", "linkat", "symlink", "symlinkat", "truncate",
)  # fmt: skip
_CALL = re.compile(r"(?P<name>\w+)\((?P<arguments>.*)\)\s+= (?P<result>-?\w+)")
_WRITING = re.compile(r"O_WRONLY|O_RDWR|O_CREAT|O_TRUNC")
# A path, with the folder it is relative to where the call gives one.
_PATH = re.compile(r'(?:(?:AT_FDCWD|\d+)<(?P<folder>[^>]*)>, )?"(?P<path>(?:[^"\\]|\\.)*)"')

_BRIEFLY = ("--processes", "2", "--budget", "1", "--length", "16")
_STATIC = ("--target", "cpu-arm64", "--engine", "openvino", "--method", "static")
COMMANDS: Mapping[str, tuple[str, ...]] = {
    "verify-onnxruntime": ("verify", "{onnxruntime}"),
    "verify-openvino": ("verify", "{openvino}"),
    "run-onnxruntime": ("run", "{onnxruntime}", "a lazy dog"),
    "run-openvino": ("run", "{openvino}", "a lazy dog"),
    "export": ("export", "{source}", "-o", "{output}"),
    # Its contenders are processes of their own.
    "bench": ("bench", "{onnxruntime}", "{openvino}", "--reference", "{source}", *_BRIEFLY),
    "compile-onnxruntime": ("compile", "{onnxruntime}", "-o", "{output}", "--target", "cpu-x86"),
    "compile-openvino": ("compile", "{onnxruntime}", "-o", "{output}", "--target", "openvino-cpu"),
    # NNCF's import and its calibration; for another architecture, so that nothing is timed.
    "quantize-openvino": ("quantize", "{onnxruntime}", "-o", "{output}", *_STATIC),
}
# What proves that the watch sees: it writes under the home folder and sends to this very machine.
LEAK = """
import os, pathlib, socket, sys
pathlib.Path.home().joinpath("id").write_text("1")
folder = os.open(pathlib.Path.home(), os.O_RDONLY)
os.close(os.open("relative", os.O_CREAT | os.O_WRONLY, dir_fd=folder))
with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
    sender.sendto(b"1", ("127.0.0.1", 9))
"""


@dataclass(frozen=True)
class Folders:
    """Where a watched process may and may not write."""

    home: Path
    temporary: Path
    working: Path
    calls: Path

    @classmethod
    def below(cls, root: Path) -> Folders:
        """Fresh ones."""
        made = cls(*(root / name for name in ("home", "tmp", "work", "calls")))
        for folder in (made.home, made.temporary, made.working, made.calls):
            folder.mkdir()
        return made


@dataclass(frozen=True)
class Call:
    """A system call: what it was asked, and whether it did it."""

    name: str
    arguments: str
    done: bool

    def sends(self) -> bool:
        """Whether it talks to a network, or tried to."""
        return self.name in SENDING and "AF_INET" in self.arguments

    def writes_outside(self, folders: Folders) -> bool:
        """Whether it made, opened for writing or moved something where it should not."""
        if self.name not in MAKING or not self.done:
            return False
        if self.name.startswith("open") and not _WRITING.search(self.arguments):
            return False
        paths = [
            Path(os.path.normpath(Path(match["folder"] or folders.working) / match["path"]))
            for match in _PATH.finditer(self.arguments)
        ]
        # No files: nothing at all, the locks of multiprocessing, and a process's own counters.
        kernel = (Path("/dev/null"), Path("/dev/shm"), Path("/proc/self"))
        allowed = (folders.temporary, folders.working, *kernel)
        return not all(any(path.is_relative_to(place) for place in allowed) for path in paths)


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
    folders = Folders.below(tmp_path)
    places = {
        "source": classifier_source,
        "onnxruntime": classifier,
        "openvino": openvino_classifier,
        "output": folders.working / "bundle",
    }
    calls = watch(["-m", "edgekit", *(w.format(**places) for w in COMMANDS[command])], folders)
    assert list(folders.home.rglob("*")) == []
    made = ["bundle"] if "{output}" in COMMANDS[command] else []
    assert [path.name for path in folders.working.iterdir()] == made
    if STRACE is None:
        pytest.skip("strace is not installed: the home folder stayed empty, calls were not seen")
    assert any(call.name == "openat" for call in calls)
    assert [call for call in calls if call.sends()] == []
    assert [call for call in calls if call.writes_outside(folders)] == []


@pytest.mark.skipif(STRACE is None, reason="strace is not installed: there is no watch to prove")
def test_the_watch_sees(tmp_path: Path) -> None:
    """A process that sends and that writes under the home folder is seen doing both."""
    folders = Folders.below(tmp_path)
    calls = watch(["-c", LEAK], folders)
    assert [call.name for call in calls if call.sends()] == ["sendto"]
    assert len([call for call in calls if call.writes_outside(folders)]) == 2


def watch(words: Sequence[str], folders: Folders) -> list[Call]:
    """The system calls of Python, its threads and its children; none without strace.

    It runs as on a machine that was set up a minute ago: nothing of this process's environment
    but the path, and none of the switches that edgekit itself must set.
    """
    before: list[str] = []
    if STRACE is not None:
        # A file per thread (-ff): several threads never break into each other's lines.
        before = [STRACE, "-ff", "--seccomp-bpf", "-qq", "-y", "-s", "4096", "-e", "signal=none"]
        before += ["-e", f"trace={','.join((*SENDING, *MAKING))}"]
        before += ["-o", str(folders.calls / "call")]
    done = subprocess.run(
        [*before, sys.executable, *words],
        env={
            "PATH": os.environ["PATH"],
            "HOME": str(folders.home),
            "TMPDIR": str(folders.temporary),
            "PYTHONPATH": str(ROOT),
            "PYTHONDONTWRITEBYTECODE": "1",
        },
        cwd=folders.working,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return [
        _parse(line)
        for path in sorted(folders.calls.iterdir())
        for line in path.read_text(errors="replace").splitlines()
    ]


def _parse(line: str) -> Call:
    match = _CALL.match(line)
    if match is None:
        # The process ended inside this call; it may have done what it was asked.
        name, _, arguments = line.partition("(")
        return Call(name, arguments, done=True)
    return Call(match["name"], match["arguments"], done=not match["result"].startswith("-"))
