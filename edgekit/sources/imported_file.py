"""The ONNX file behind a reference, checked before any engine is given it. Needs no PyTorch."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from edgekit.core.bundle import open_bundle
from edgekit.core.errors import ConfigError
from edgekit.core.onnx_file import check_onnx, model_bytes, model_files, model_hash
from edgekit.graph.onnx_foreign import read_foreign
from edgekit.runtime.golden import stored_precision


@dataclass(frozen=True)
class ImportedFile:
    """A graph that may be opened, and what it is called and known by."""

    path: Path
    name: str
    sha256: str
    bytes: int
    precision: str


def find_imported(spec: str) -> ImportedFile:
    """The model in an ONNX file, or in the bundle that was imported from one.

    Raises:
        ConfigError: no such file, or a bundle that is no imported model.
        SourceError: no whole ONNX model, custom operators, external data outside of its folder.
        MissingDependency: the onnx package is not installed.
    """
    path = Path(spec).expanduser()
    name, precision = path.name, None
    if path.is_dir():
        bundle = open_bundle(path)
        manifest = bundle.manifest
        if manifest.stage != "imported" or manifest.source is None:
            raise ConfigError(
                f"{path} is a bundle of the stage {manifest.stage}; only an imported one holds its"
                " original.",
                hint="Name the original model: the ONNX file, or the bundle that edgekit import"
                " made of it."
                if manifest.source is not None and manifest.source.kind == "onnx"
                else "Name the PyTorch source that it was made from.",
            )
        name, precision = manifest.source.origin.id, stored_precision(manifest)
        path = bundle.file(manifest.components["model"].files[0])
    check_onnx(path)
    # An engine reads whatever files a graph names, and runs whatever it holds.
    model = read_foreign(path, model_files(path))
    return ImportedFile(
        path, name, model_hash(path), model_bytes(path), precision or model.precision
    )
