"""chromium: a headless browser with the libraries and fonts it needs, from an npm package."""

from __future__ import annotations

import io
import shutil
import subprocess
import tarfile

from benchmarks.zoo.errors import ZooError
from benchmarks.zoo.members import read_tar
from benchmarks.zoo.rows import Bench

# Brotli is no part of Python's standard library; Node, which npm runs on, brings it.
_UNPACK = (
    "const z=require('zlib'),c=z.createBrotliDecompress();"
    "process.stdin.pipe(c).pipe(process.stdout)"
)

_FONTS = """<?xml version="1.0"?>
<!DOCTYPE fontconfig SYSTEM "fonts.dtd">
<fontconfig>
  <dir prefix="relative">fonts</dir>
  <dir>/usr/share/fonts</dir>
  <cachedir prefix="xdg">fontconfig</cachedir>
</fontconfig>
"""


def build(bench: Bench) -> None:
    """Write `chromium`, its shared libraries below `lib`, its fonts and a `fonts.conf`."""
    package = bench.archives["@sparticuz/chromium"]
    program = bench.target / "chromium"
    program.write_bytes(_unpack(read_tar(package, "package/bin/chromium.br")))
    program.chmod(0o755)
    for archive in ("al2023", "fonts"):
        packed = read_tar(package, f"package/bin/{archive}.tar.br")
        with tarfile.open(fileobj=io.BytesIO(_unpack(packed))) as bag:
            # Files and folders below the target only: links and anything outside are refused.
            bag.extractall(bench.target, filter="data")
    (bench.target / "fonts.conf").write_text(_FONTS)


def _unpack(packed: bytes) -> bytes:
    node = shutil.which("node")
    if node is None:
        raise ZooError("chromium is unpacked with Node.js, which is not on PATH. Install Node.js.")
    done = subprocess.run([node, "-e", _UNPACK], input=packed, capture_output=True, check=False)
    if done.returncode != 0:
        raise ZooError(f"chromium could not be unpacked: {done.stderr.decode(errors='replace')}")
    return done.stdout
