"""Contenders in processes of their own, which wait between their turns."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

THREADS = 2
# Pools spin for a while after the work of the one before.
_REST_SECONDS = 0.05


class ContenderError(RuntimeError):
    """A contender that did not start, or ended in the middle."""


class Contender:
    """A process ``python -m MODULE --child WORD…`` that answers what it is asked."""

    def __init__(self, module: str, *words: str) -> None:
        environment = {
            **os.environ,
            "OMP_NUM_THREADS": str(THREADS),
            "OMP_WAIT_POLICY": "PASSIVE",
            "HF_HUB_OFFLINE": "1",
            # Of both: onnxruntime's and onnxruntime-genai's.
            "ORT_DISABLE_TELEMETRY": "1",
        }
        self._process = subprocess.Popen(
            [sys.executable, "-m", module, "--child", *words],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment,
        )  # fmt: skip

    def ask(self, question: object) -> Any:
        """Its answer. Raises ContenderError; why it ended stands on stderr."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        try:
            self._process.stdin.write(json.dumps(question) + "\n")
            self._process.stdin.flush()
            line = self._process.stdout.readline()
        except BrokenPipeError:
            line = ""
        if not line:
            raise ContenderError(f"it ended with exit code {self._process.wait()}")
        return json.loads(line)

    def close(self) -> None:
        """End the process."""
        self._process.communicate()


def serve(make: Callable[[], Callable[[Any], object]]) -> None:
    """The child's side: what `make` gives answers every line of standard input, JSON both ways."""
    # Libraries print to stdout; only answers go to the parent.
    parent = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    answer = make()
    for line in sys.stdin:
        print(json.dumps(answer(json.loads(line))), file=parent, flush=True)


def started(
    module: str, wanted: Mapping[str, tuple[str, ...]], first: object, *, optional: Iterable[str]
) -> dict[str, Contender]:
    """A contender for each name, which has answered its first question.

    One of the `optional` that fails is named on stderr and left out; any other raises
    ContenderError.
    """
    spare = frozenset(optional)
    found: dict[str, Contender] = {}
    try:
        for name, words in wanted.items():
            told(f"{name}: starting")
            contender = found[name] = Contender(module, *words)
            try:
                contender.ask(first)
            except ContenderError as error:
                if name not in spare:
                    raise ContenderError(f"{name}: {error}") from error
                told(f"{name} is left out: {error}")
                found.pop(name).close()
    except BaseException:
        close(found)
        raise
    return found


def close(contenders: Mapping[str, Contender]) -> None:
    """End all of them."""
    for contender in contenders.values():
        contender.close()


def turns(
    contenders: Mapping[str, Contender], order: random.Random, question: object
) -> dict[str, Any]:
    """One answer of each, in random order."""
    found: dict[str, Any] = {}
    for name in order.sample(sorted(contenders), len(contenders)):
        time.sleep(_REST_SECONDS)
        found[name] = contenders[name].ask(question)
    return found


def resident() -> int:
    """The bytes of memory that this process holds now."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmRSS"):
            return int(line.split()[1]) * 1024
    return 0


def told(text: str) -> None:
    """Say what is being done, or left out."""
    print(f"  {text}", file=sys.stderr, flush=True)
