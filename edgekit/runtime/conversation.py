"""The parent's side of a bench: a child process that is told one thing at a time.

The parent sleeps in `select` on the child's pipe until the answer is there: it takes no CPU from
what is measured. A child that dies, hangs or answers nonsense is a `ChildFailed` with the reason.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import site
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType

from edgekit.core import errors
from edgekit.core.errors import EdgekitError

_TAIL_BYTES = 4096


class ChildFailed(Exception):
    """A measuring child ended, hung or answered nonsense; the text says which.

    ``error`` is the error of edgekit that the child itself told of, None where there was none.
    """

    def __init__(self, text: str, *, error: EdgekitError | None = None) -> None:
        super().__init__(text)
        self.error = error


def told_error(
    kind: str | None, message: str, *, hint: str | None = None, result: object = None
) -> EdgekitError | None:
    """The error of edgekit with the name `kind`, None when there is no such class."""
    found = getattr(errors, kind or "", None)
    if not isinstance(found, type) or not issubclass(found, EdgekitError):
        return None
    return found(message, hint=hint, result=result)


def python_command(module: str, *arguments: str) -> tuple[str, ...]:
    """The command that runs a module of this package in a fresh interpreter.

    ``-P`` keeps the current folder off the path: a stray ``random.py`` there is not ours to run.
    """
    return (sys.executable, "-P", "-m", module, *arguments)


def child_environment(**extra: str) -> dict[str, str]:
    """This process's environment for a child, able to import this very edgekit."""
    environment = {**os.environ, **extra}
    root = str(Path(__file__).resolve().parents[2])
    installed = {*site.getsitepackages(), site.getusersitepackages()}
    if root not in installed:
        before = environment.get("PYTHONPATH")
        environment["PYTHONPATH"] = root + (os.pathsep + before if before else "")
    return environment


class Child:
    """One measuring process, as a context manager: on the way out it is gone, whatever happened.

    It gets a session of its own, so that Ctrl-C reaches the parent alone, which then kills the
    child and all that the child has started.
    """

    def __init__(
        self, command: Sequence[str], *, stderr: Path, environment: Mapping[str, str]
    ) -> None:
        self._stderr = stderr
        self._pending = b""
        self._spawned = time.monotonic()
        with stderr.open("wb") as log:
            self._process = subprocess.Popen(
                list(command),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                env=dict(environment),
                start_new_session=True,
            )

    def __enter__(self) -> Child:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None
    ) -> None:
        self.kill()

    def ask(self, do: str, *, timeout: float, **values: object) -> dict[str, object]:
        """The answer to one command. Raises ChildFailed, also when it takes over `timeout` s."""
        assert self._process.stdin is not None
        line = json.dumps({"do": do, **values}) + "\n"
        try:
            self._process.stdin.write(line.encode())
            self._process.stdin.flush()
        except OSError as error:
            # It may have told why before it ended.
            answer = self._read_line(timeout)
            if answer is None:
                raise ChildFailed(self._epitaph()) from error
        else:
            answer = self._read_line(timeout)
        if answer is None:
            raise ChildFailed(self._epitaph())
        try:
            reply = json.loads(answer)
        except ValueError:
            reply = None
        if not isinstance(reply, dict) or "event" not in reply:
            shown = answer[:60].decode("utf-8", "replace")
            raise ChildFailed(f"it answered {shown!r} where a line of JSON was expected")
        if reply["event"] == "error":
            kind, message = str(reply.get("kind")), str(reply.get("message"))
            hint = str(reply["hint"]) if reply.get("hint") else None
            told = f"{kind}: {message}" + (f" {hint}" if hint else "")
            raise ChildFailed(told, error=told_error(kind, message, hint=hint))
        if reply["event"] not in (do, "stopped"):
            raise ChildFailed(f"it answered {reply['event']!r} to {do!r}")
        if reply.get("wrong"):
            raise ChildFailed(f"its output {reply['wrong']} holds NaN or infinities")
        return reply

    def open(
        self, workload: int, *, timeout: float, outputs: Path | None = None
    ) -> dict[str, object]:
        """Let the child import, load and run a workload once: the answer to ``open``.

        With `outputs` it runs the other workloads, too, and writes what all of them gave there.
        """
        wanted = {} if outputs is None else {"outputs": str(outputs)}
        return self.ask("open", workload=workload, spawned=self._spawned, timeout=timeout, **wanted)

    def finish(self, *, timeout: float) -> dict[str, object]:
        """Ask for the last answer and let the process end by itself."""
        reply = self.ask("stop", timeout=timeout)
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(timeout=timeout)
        return reply

    def kill(self) -> None:
        """End the process and everything it has started, and wait for it."""
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, signal.SIGKILL)
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                # Closing flushes what the dead child no longer reads.
                with contextlib.suppress(OSError):
                    pipe.close()
        self._process.wait()

    def _read_line(self, timeout: float) -> bytes | None:
        """The next line, None at the end of output. Raises ChildFailed after `timeout`."""
        assert self._process.stdout is not None
        pipe = self._process.stdout.fileno()
        deadline = time.monotonic() + timeout
        while b"\n" not in self._pending:
            left = deadline - time.monotonic()
            ready = select.select([pipe], [], [], max(0.0, left))[0]
            if not ready:
                raise ChildFailed(f"it gave no answer within {timeout:.0f} s")
            data = os.read(pipe, 1 << 16)
            if not data:
                return None
            self._pending += data
        line, _, self._pending = self._pending.partition(b"\n")
        return line

    def _epitaph(self) -> str:
        """Why the process ended, with the last line it wrote to stderr."""
        try:
            code = self._process.wait(timeout=5)
        except subprocess.TimeoutExpired:
            return "it closed its output and did not end"
        if code < 0:
            name = signal.Signals(-code).name
            memory = ", as the system does when memory runs out" if name == "SIGKILL" else ""
            return f"it was killed by {name}{memory}"
        with self._stderr.open("rb") as stream:
            stream.seek(max(0, self._stderr.stat().st_size - _TAIL_BYTES))
            lines = stream.read().decode("utf-8", "replace").split("\n")
        last = next((line.strip() for line in reversed(lines) if line.strip()), "no message")
        return f"it ended with exit code {code}: {last}"
