"""ONNX files as references: an imported model is held to itself, as it was written.

PyTorch is only the shape in which every reference arrives: the graph runs on ONNX Runtime.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor, nn

from edgekit.core.bundle import Bundle
from edgekit.core.errors import BundleError, SessionError, SourceError
from edgekit.core.manifest import DTYPES, Component, TensorSpec
from edgekit.runtime.engines import onnxruntime
from edgekit.runtime.golden import GoldenValues
from edgekit.sources.imported_file import find_imported
from edgekit.sources.loaded import EngineModel, LoadedSource

if TYPE_CHECKING:
    from collections.abc import Iterator

    from edgekit.runtime.session import Session

_NUMBERS = frozenset(DTYPES) - {"bfloat16", "string"}
_AS_WRITTEN: Mapping[str, object] = {"graph_optimization": "none"}


class OnnxModule(nn.Module):
    """A graph as a module: named tensors in, a dict of tensors out.

    Its optimisations are off: a reference answers what was written. It is timed without PyTorch
    (see `edgekit.evaluation.imported_child`).
    """

    def __init__(self, path: Path) -> None:
        super().__init__()
        self._path = path
        self._threads: int | None = None
        self._session: Session | None = None

    def use_threads(self, count: int) -> None:
        """Run with so many threads from now on."""
        if count != self._threads:
            self._threads = count
            self._close()

    def _close(self) -> None:
        if self._session is not None:
            self._session.close()
        self._session = None

    def session(self) -> Session:
        """The opened graph. Raises SourceError, EngineUnavailable."""
        if self._session is None:
            with _as_source(self._path):
                self._session = onnxruntime.open_session(
                    self._path.parent,
                    Component("onnx", (self._path.name,), (), ()),
                    options=_AS_WRITTEN,
                    device="cpu",
                    threads=self._threads,
                )
        return self._session

    def forward(self, **inputs: Tensor) -> dict[str, Tensor]:
        """The outputs by name. Raises ValueError with what the engine says of the inputs."""
        feeds = {name: value.numpy() for name, value in inputs.items()}
        try:
            answers = self.session().run(feeds)
        except SessionError as error:
            raise ValueError(error.message) from error
        # ONNX Runtime owns an output only as long as its array lives, which a tensor keeps.
        return {name: torch.from_numpy(np.asarray(array)) for name, array in answers.items()}


class StoredAnswers(nn.Module):
    """What the imported model answered to the golden inputs, where the model itself is not here."""

    def __init__(self, golden: GoldenValues) -> None:
        super().__init__()
        self._golden = golden

    def forward(self, **inputs: Tensor) -> dict[str, Tensor]:
        """The stored answers. Raises ValueError for other inputs."""
        for name, array in self._golden.inputs.items():
            if name not in inputs or not np.array_equal(inputs[name].numpy(), array):
                raise ValueError("only the golden inputs have stored answers")
        return {name: torch.from_numpy(array) for name, array in self._golden.reference.items()}


def open_imported(spec: str) -> LoadedSource:
    """The model in an ONNX file, or in the bundle that was imported from one.

    Raises:
        ConfigError: no such file, or a bundle that is no imported model.
        SourceError: no whole ONNX model, one that an engine must not be given, or that it does not
            open.
        EngineUnavailable: ONNX Runtime is too old for it.
    """
    found = find_imported(spec)
    module = OnnxModule(found.path)
    session = module.session()
    return LoadedSource(
        kind="onnx",
        id=found.name,
        revision=None,
        sha256=found.sha256,
        architecture=found.path.stem if found.name == found.path.name else found.name,
        parameters=0,
        dtype="float32",
        license=None,
        task="custom",
        module=module.eval(),
        sample_inputs=_samples(session.inputs),
        dynamic_axes={},
        output_axes={},
        engine=EngineModel(
            precision=found.precision,
            bytes=found.bytes,
            use_threads=module.use_threads,
        ),
    )


def stored_source(bundle: Bundle, golden: GoldenValues) -> LoadedSource:
    """What a bundle holds of the imported model that it was made from: its golden answers."""
    manifest = bundle.manifest
    known = manifest.source
    assert known is not None
    steps = [step for step in manifest.steps if step.step == "import"]
    size = steps[0].facts.get("bytes") if steps else None
    return LoadedSource(
        kind="onnx",
        id=known.origin.id,
        revision=None,
        sha256=known.origin.sha256,
        architecture=known.architecture,
        parameters=known.parameters,
        dtype=known.dtype,
        license=known.license,
        task="custom",
        module=StoredAnswers(golden).eval(),
        sample_inputs={},
        dynamic_axes={},
        output_axes={},
        engine=EngineModel(
            precision="fp32",
            bytes=size if isinstance(size, int) and not isinstance(size, bool) else 0,
            use_threads=lambda count: None,
        ),
    )


def _samples(specs: tuple[TensorSpec, ...]) -> dict[str, Tensor]:
    """An empty tensor of each input's type: what a reference's inputs are converted to.

    Raises SourceError for a type that no array of numbers has.
    """
    for spec in specs:
        if spec.dtype not in _NUMBERS:
            raise SourceError(
                f"The input {spec.name!r} has the type {spec.dtype}, which arrays of numbers cannot"
                " hold.",
                hint=f"A reference takes {', '.join(sorted(_NUMBERS))}.",
            )
    return {
        spec.name: torch.from_numpy(np.zeros((0,), dtype=np.dtype(spec.dtype))) for spec in specs
    }


@contextmanager
def _as_source(path: Path) -> Iterator[None]:
    try:
        yield
    except BundleError as error:
        raise SourceError(
            error.message, hint="Name the ONNX file that the bundle was imported from."
        ) from error
