"""The parent's side of a child process: answers, nonsense, silence."""

from __future__ import annotations

import sys
import time
from pathlib import Path

import pytest

from edgekit.core.errors import EngineUnavailable
from edgekit.runtime.conversation import (
    Child,
    ChildFailed,
    child_environment,
    python_command,
    told_error,
)


def child(folder: Path, code: str) -> Child:
    """A child that runs some Python."""
    return Child(
        (sys.executable, "-c", code), stderr=folder / "stderr", environment=child_environment()
    )


ECHO = """
import json, sys
for line in sys.stdin:
    told = json.loads(line)
    print(json.dumps({"event": told["do"], "got": told}), flush=True)
"""


def test_a_question_has_its_answer(tmp_path: Path) -> None:
    """The command goes out as one line of JSON, the answer comes back as one."""
    with child(tmp_path, ECHO) as echo:
        reply = echo.ask("warm", timeout=30, workload=3)
        assert reply["got"] == {"do": "warm", "workload": 3}
        assert echo.ask("measure", timeout=30)["event"] == "measure"


def test_an_answer_may_come_in_pieces(tmp_path: Path) -> None:
    """Lines longer than a pipe's buffer arrive whole."""
    code = (
        "import json, sys; sys.stdin.readline();"
        " print(json.dumps({'event': 'open', 'x': 'y' * 300000}))"
    )
    with child(tmp_path, code) as long:
        assert len(str(long.open(0, timeout=30)["x"])) == 300_000


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        ("import time; time.sleep(60)", "no answer within 1 s"),
        ("raise SystemExit(7)", "exit code 7"),
        ("import sys; sys.exit('out of cheese')", "exit code 1: out of cheese"),
        ("print('hello'); import time; time.sleep(60)", "'hello'"),
        ("print('[1]'); import time; time.sleep(60)", "a line of JSON"),
        ('print(\'{"event": "other"}\'); import time; time.sleep(60)', "answered 'other'"),
        ("import os; os.kill(os.getpid(), 11)", "SIGSEGV"),
    ],
)
def test_what_goes_wrong_is_said(tmp_path: Path, code: str, reason: str) -> None:
    """Every way to fail has its sentence."""
    timeout = 1.0 if "no answer" in reason else 30.0
    with child(tmp_path, code) as bad, pytest.raises(ChildFailed, match=reason):
        bad.ask("open", timeout=timeout)


def test_a_killed_child_is_gone(tmp_path: Path) -> None:
    """Leaving the block ends it, and everything it has started."""
    marker = tmp_path / "grandchild"
    code = (
        "import pathlib, subprocess, sys, time\n"
        "other = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)'])\n"
        f"pathlib.Path({str(marker)!r}).write_text(str(other.pid))\n"
        'print(\'{"event": "open"}\', flush=True)\n'
        "time.sleep(600)\n"
    )
    with child(tmp_path, code) as parent:
        parent.ask("open", timeout=30)
    pid = int(marker.read_text())
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline and _alive(pid):
        time.sleep(0.02)
    assert not _alive(pid)


def _alive(pid: int) -> bool:
    """Whether a process still runs; one that waits to be reaped does not."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state != "Z"


def test_the_current_folder_is_not_searched_for_modules(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A stray `random.py` beside the user is not ours to run."""
    (tmp_path / "random.py").write_text("raise SystemExit('the wrong module')")
    monkeypatch.chdir(tmp_path)
    command = python_command("edgekit.runtime.bench", "--help")
    with (
        Child(command, stderr=tmp_path / "stderr", environment=child_environment()) as helper,
        pytest.raises(ChildFailed, match="line of JSON"),
    ):
        helper.ask("open", timeout=60)
    assert "wrong module" not in (tmp_path / "stderr").read_text()


def test_the_childs_own_error_is_kept(tmp_path: Path) -> None:
    """Its class, message and remedy, so that it ends the parent with the same exit code."""
    code = (
        "import json, sys; sys.stdin.readline(); print(json.dumps({'event': 'error',"
        " 'kind': 'EngineUnavailable', 'message': 'Not here.', 'hint': 'Install it.'}))"
    )
    with child(tmp_path, code) as bad, pytest.raises(ChildFailed) as caught:
        bad.ask("open", timeout=30)
    error = caught.value.error
    assert isinstance(error, EngineUnavailable)
    assert (error.message, error.hint, error.exit_code) == ("Not here.", "Install it.", 7)


@pytest.mark.parametrize("kind", [None, "Exception", "errno", "NoSuchError"])
def test_other_names_are_no_errors(kind: str | None) -> None:
    """Only edgekit's own classes are made of a name."""
    assert told_error(kind, "x") is None
