"""Tells a full disk from other failures of libraries that write files and do not say why."""

from __future__ import annotations

import errno
import os
import shutil
import tempfile
from pathlib import Path

# Beyond, weights go beside the graph: one protobuf message holds less than 2 GiB.
INLINE_BYTES = 1_500_000_000
# What a failed write may leave free: the tail of a buffer.
_ALMOST_NOTHING = 1 << 20


def raise_if_full(folder: Path) -> None:
    """Raise the OSError that a library kept to itself when `folder` takes no more.

    ONNX Runtime says "Protobuf serialization failed" and OpenVINO "iostream error"; call this after
    such a failure, inside `core.errors.disk_errors`.
    """
    if shutil.disk_usage(folder).free < _ALMOST_NOTHING:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(folder))
    # Only a write finds out about quotas and limits on the size of a file.
    with tempfile.TemporaryFile(dir=folder) as probe:
        probe.write(bytes(_ALMOST_NOTHING))
