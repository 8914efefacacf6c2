"""A headless Chromium on a pipe: just enough of the DevTools protocol to look at one page.

The protocol runs over the file descriptors 3 and 4 (``--remote-debugging-pipe``), so that there is
no port, no web socket and no driver package between a test and the browser.
"""

from __future__ import annotations

import base64
import json
import os
import select
import shutil
import subprocess
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType

import pytest

#: Names under which distributions install it, the leanest first.
INSTALLED = ("chromium-headless-shell", "chromium", "chromium-browser", "google-chrome")

# Seconds for one answer of the browser, its start included.
_PATIENCE = 60.0

_FLAGS = (
    "--headless",
    "--remote-debugging-pipe",
    # The page is our own file, and the sandbox needs rights that a container's root lacks.
    "--no-sandbox",
    "--no-zygote",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-background-networking",
    "--no-first-run",
    "--hide-scrollbars",
    "--font-render-hinting=none",
)


def find_chromium() -> tuple[Path, Mapping[str, str]]:
    """The browser's program and what its environment needs: an installed one, or the zoo's.

    Skips the test where neither is to be had.
    """
    for name in INSTALLED:
        found = shutil.which(name)
        if found is not None:
            return Path(found), {}
    from benchmarks.zoo import fetch
    from benchmarks.zoo.table import TABLE

    if not TABLE["chromium"].usable:
        pytest.skip("no browser is installed, and the zoo's is for Linux on x86-64")
    folder = fetch("chromium")
    return folder / "chromium", {
        "LD_LIBRARY_PATH": str(folder / "lib"),
        "FONTCONFIG_FILE": str(folder / "fonts.conf"),
    }


@dataclass(frozen=True)
class Visit:
    """What happened while a page was open: messages of the console, and requests it made."""

    console: list[str] = field(default_factory=list)
    requests: list[str] = field(default_factory=list)


class Chromium:
    """One browser with one page; use it as a context manager."""

    def __init__(self) -> None:
        self._next = 0
        self._session: str | None = None
        self._buffer = b""
        self.visit = Visit()

    def __enter__(self) -> Chromium:
        program, extra = find_chromium()
        self._home = tempfile.mkdtemp(prefix="chromium-")
        # The shell moves the pipes to where the browser looks: commands on 3, answers on 4.
        move = 'exec "$0" "$@" 3<&0 4>&1 </dev/null >&2'
        words = ["sh", "-c", move, str(program), *_FLAGS, f"--user-data-dir={self._home}"]
        with Path(self._home, "log").open("wb") as log:
            self._process = subprocess.Popen(
                [*words, "about:blank"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                bufsize=0,
                env={"PATH": os.environ["PATH"], "HOME": self._home, **extra},
            )
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._write = self._process.stdin.fileno()
        self._read = self._process.stdout.fileno()
        pages = self.send("Target.getTargets")["targetInfos"]
        target = next(page["targetId"] for page in pages if page["type"] == "page")
        attached = self.send("Target.attachToTarget", targetId=target, flatten=True)
        self._session = attached["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.send(f"{domain}.enable")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None
    ) -> None:
        self._process.terminate()
        try:
            # Closes the pipes as well.
            self._process.communicate(timeout=10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.communicate()
        shutil.rmtree(self._home, ignore_errors=True)

    def send(self, method: str, **parameters: object) -> dict:
        """Call a method of the protocol and return its result; RuntimeError when it is refused."""
        self._next += 1
        number = self._next
        call: dict[str, object] = {"id": number, "method": method, "params": parameters}
        if self._session is not None:
            call["sessionId"] = self._session
        os.write(self._write, json.dumps(call).encode() + b"\0")
        while True:
            message = self._receive()
            if message.get("id") == number:
                if "error" in message:
                    raise RuntimeError(f"{method}: {message['error']['message']}")
                return message["result"]
            self._note(message)

    def open(self, page: Path, *, width: int, height: int = 900, dark: bool = False) -> Visit:
        """Load a file in a window of a size, in light or dark mode, and wait until it is there."""
        self.visit = Visit()
        phone = width < 600
        self.send("Emulation.setDeviceMetricsOverride", width=width, height=height,
                  deviceScaleFactor=2 if phone else 1, mobile=phone)  # fmt: skip
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.send("Emulation.setEmulatedMedia", media="screen", features=[scheme])
        self.send("Page.navigate", url=page.absolute().as_uri())
        ends = time.monotonic() + _PATIENCE
        while self.evaluate("document.readyState + location.protocol") != "completefile:":
            if time.monotonic() > ends:
                raise RuntimeError(f"{page} did not load")
            time.sleep(0.02)
        return self.visit

    def evaluate(self, expression: str) -> object:
        """The value of a JavaScript expression in the page."""
        found = self.send("Runtime.evaluate", expression=expression, returnByValue=True)
        if "exceptionDetails" in found:
            raise RuntimeError(f"{expression}: {found['exceptionDetails']}")
        return found["result"].get("value")

    def screenshot(self, path: Path) -> None:
        """The whole page, from top to bottom, as a PNG."""
        shot = self.send("Page.captureScreenshot", captureBeyondViewport=True)
        path.write_bytes(base64.b64decode(shot["data"]))

    def pdf(self) -> bytes:
        """The page as it prints."""
        return base64.b64decode(self.send("Page.printToPDF", printBackground=True)["data"])

    def _receive(self) -> dict:
        while b"\0" not in self._buffer:
            if not select.select([self._read], [], [], _PATIENCE)[0]:
                raise RuntimeError("the browser does not answer")
            piece = os.read(self._read, 1 << 20)
            if not piece:
                log = Path(self._home, "log").read_text(errors="replace")
                raise RuntimeError(f"the browser has ended: {log[-2000:]}")
            self._buffer += piece
        line, _, self._buffer = self._buffer.partition(b"\0")
        return json.loads(line)

    def _note(self, event: Mapping) -> None:
        method, values = event.get("method"), event.get("params", {})
        if method == "Runtime.consoleAPICalled":
            self.visit.console.append(str(values["args"]))
        elif method == "Runtime.exceptionThrown":
            self.visit.console.append(str(values["exceptionDetails"]))
        elif method == "Log.entryAdded":
            self.visit.console.append(str(values["entry"]["text"]))
        elif method == "Network.requestWillBeSent":
            self.visit.requests.append(values["request"]["url"])
