"""verify: is the bundle whole, and does it answer here as it did where it was written?"""

from __future__ import annotations

from pathlib import Path

from edgekit.core.results import VerifyResult
from edgekit.pipeline.progress import Progress, silent
from edgekit.runtime import load


def verify(
    bundle: Path | str,
    *,
    engine: str | None = None,
    threads: int | None = None,
    progress: Progress = silent,
) -> VerifyResult:
    """Check every file's hash, then run the golden inputs on this device.

    A bundle without golden inputs passes by its hashes alone; ``golden`` is empty then.

    Raises:
        ConfigError, BundleCorrupt, BundleVersion, BundleUnsafe: the files (see `open_bundle`).
        EngineUnavailable: the engine or a CPU feature that the bundle requires is not here.
    """
    progress(f"Checking the files of {bundle}")
    with load(bundle, engine=engine, threads=threads, check="full") as model:
        progress(f"Running the golden inputs on {model.engine}")
        rows = model.selftest()
        return VerifyResult(
            integrity=True,
            golden=rows,
            engine=model.engine,
            passed=all(row.passed for row in rows),
        )
