"""The runtime that ships: opens a bundle with one engine and answers. Imports nothing heavy."""

from __future__ import annotations

from pathlib import Path

from edgekit.core.bundle import Check, open_bundle
from edgekit.runtime.model import Model
from edgekit.runtime.opening import open_model

__all__ = ["Model", "load"]


def load(
    path: str | Path,
    *,
    engine: str | None = None,
    device: str | None = None,
    threads: int | None = None,
    check: Check = "full",
) -> Model:
    """The model of a bundle, with engine and options from its manifest.

    Args:
        path: the bundle's folder.
        engine: another engine than the bundle was made for; its recorded options do not apply then.
        device: ``cpu``, ``cuda``, ``gpu`` or ``npu`` instead of the recorded one.
        threads: computing threads of one call; by default the recorded number, at most those that
            affinity and control group leave to this process.
        check: ``full`` hashes every file; ``quick`` compares names and sizes.

    Raises:
        ConfigError: there is no bundle at the path, or an argument is wrong.
        MissingDependency: the engine's or the tokenizer's package is not installed.
        BundleError: the bundle is corrupt, unsafe or of another version.
        EngineUnavailable: this machine lacks the engine, the device, or a required CPU feature.
    """
    return open_model(open_bundle(path, check=check), engine=engine, device=device, threads=threads)
