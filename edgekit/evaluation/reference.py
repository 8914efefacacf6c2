"""The reference: the original model in PyTorch, with its best ordinary settings.

It is eager and in float32; `torch.compile` and bfloat16 may stand beside it in a bench.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, TypeAlias

import numpy as np

from edgekit.core.bundle import Bundle
from edgekit.core.cpu import available_threads
from edgekit.core.errors import ConfigError, InputMismatch, MeasurementError
from edgekit.core.manifest import Manifest
from edgekit.runtime.session import Array, contiguous

if TYPE_CHECKING:
    import torch

    from edgekit.sources.loaded import LoadedSource

# "imported": no PyTorch at all, but an ONNX model as ONNX Runtime opens it (see `imported_child`).
Mode: TypeAlias = Literal["eager", "imported", "compile", "bfloat16"]

# Past so many compiled shapes of one module PyTorch goes on without compiling.
_MOST_SHAPES = 256
# Each setting is tried so often, and for no longer than so many seconds in all.
_TRIALS = 7
_TRIAL_SECONDS = 4.0


@dataclass(frozen=True)
class Settings:
    """What is ordinarily chosen for a PyTorch model on a CPU."""

    threads: int
    channels_last: bool = False

    def to_json(self) -> dict[str, object]:
        """The record as results hold it."""
        layout = "channels_last" if self.channels_last else "contiguous"
        return {"threads": self.threads, "memory_format": layout}


class Reference:
    """The source's module as something that takes and gives numpy arrays by name.

    Runs under ``inference_mode``; scaled dot-product attention is transformers' own default.
    Without `threads`, the first feeds decide between one thread and all.
    """

    def __init__(
        self,
        source: LoadedSource,
        *,
        threads: int | None = None,
        forward: Callable[..., Mapping[str, torch.Tensor]] | None = None,
    ) -> None:
        self.source = source
        self._threads = threads
        self._forward = forward or source.module

    def run(self, feeds: Mapping[str, Array]) -> dict[str, Array]:
        """The outputs by name. Raises InputMismatch when the module refuses the feeds."""
        call = self.bind(feeds)
        try:
            if self._threads is None:
                # An engine decides by itself what is worth sharing.
                alone = self.source.engine is not None
                self._threads = available_threads() if alone else better_threads(call)
            self._use_threads(self._threads)
            return dict(call())
        except (RuntimeError, TypeError, ValueError, IndexError) as error:
            shapes = ", ".join(f"{name} {list(array.shape)}" for name, array in feeds.items())
            raise InputMismatch(
                f"The reference {self.source.id} does not run on {shapes}: {error}.",
                hint="Check that bundle and reference are the same model.",
            ) from error

    def bind(
        self, feeds: Mapping[str, Array], *, channels_last: bool = False
    ) -> Callable[[], Mapping[str, Array]]:
        """One inference on the feeds as a call without arguments; tensors are made beforehand."""
        import torch

        forward = self._forward
        tensors = self._tensors(feeds, channels_last)

        def call() -> Mapping[str, Array]:
            with torch.inference_mode():
                outputs = forward(**tensors)
            return {name: _array(value) for name, value in outputs.items()}

        return call

    def choose(
        self, feeds: Mapping[str, Array], *, threads: int
    ) -> tuple[Settings, Callable[[], Mapping[str, Array]]]:
        """The fastest ordinary settings for the feeds, applied, and the call that runs with them.

        Tried in turns: 1 and `threads` threads, and for images both memory formats.
        """
        tried = [Settings(count) for count in dict.fromkeys((1, threads))]
        if self._takes_images(feeds):
            tried += [Settings(setting.threads, True) for setting in tried]
        calls = {
            setting: self.bind(feeds, channels_last=setting.channels_last) for setting in tried
        }
        best = fastest(calls, self._apply) if len(tried) > 1 else tried[0]
        self._apply(best)
        return best, calls[best]

    def _use_threads(self, count: int) -> None:
        import torch

        torch.set_num_threads(count)
        if self.source.engine is not None:
            self.source.engine.use_threads(count)

    def _apply(self, setting: Settings) -> None:
        import torch

        self._use_threads(setting.threads)
        layout = torch.channels_last if setting.channels_last else torch.contiguous_format
        if setting.channels_last or self._has_convolutions():
            self.source.module.to(memory_format=layout)  # type: ignore[call-overload]

    def _takes_images(self, feeds: Mapping[str, Array]) -> bool:
        images = any(
            array.ndim == 4 and np.issubdtype(array.dtype, np.floating) for array in feeds.values()
        )
        return images and self._has_convolutions()

    def _has_convolutions(self) -> bool:
        import torch

        return any(isinstance(part, torch.nn.Conv2d) for part in self.source.module.modules())

    def _tensors(self, feeds: Mapping[str, Array], channels_last: bool) -> dict[str, torch.Tensor]:
        import torch

        samples = self.source.sample_inputs
        tensors: dict[str, torch.Tensor] = {}
        for name, array in feeds.items():
            tensor = torch.from_numpy(contiguous(array))
            if name in samples:
                tensor = tensor.to(samples[name].dtype)
            if channels_last and tensor.dim() == 4:
                tensor = tensor.contiguous(memory_format=torch.channels_last)
            tensors[name] = tensor
        return tensors


def compiled(source: LoadedSource, *, dynamic: bool) -> Callable[..., Mapping[str, torch.Tensor]]:
    """The source's module through ``torch.compile``, with its default backend.

    Every shape is compiled for itself when it comes first; with `dynamic` one compiled graph
    serves all. Raises MeasurementError, at the first call, when that fails.
    """
    import torch
    from torch._dynamo import config

    config.recompile_limit = max(config.recompile_limit, _MOST_SHAPES)
    original = source.module

    # What is compiled is kept per function: with one for both, a fixed shape would be served by
    # the dynamic graph whenever that happened to be there first.
    def fixed(**tensors: torch.Tensor) -> Mapping[str, torch.Tensor]:
        outputs: Mapping[str, torch.Tensor] = original(**tensors)
        return outputs

    def varying(**tensors: torch.Tensor) -> Mapping[str, torch.Tensor]:
        outputs: Mapping[str, torch.Tensor] = original(**tensors)
        return outputs

    module = torch.compile(varying if dynamic else fixed, dynamic=dynamic)

    def forward(**tensors: torch.Tensor) -> Mapping[str, torch.Tensor]:
        try:
            outputs: Mapping[str, torch.Tensor] = module(**tensors)
        except torch._dynamo.exc.TorchDynamoException as error:
            reason = next((line for line in str(error).splitlines() if line.strip()), "no reason")
            raise MeasurementError(
                f"torch.compile cannot compile {source.id}: {reason.strip().rstrip('.')}.",
                hint="It needs a C++ compiler (g++); leave it out otherwise.",
            ) from error
        return outputs

    return forward


def fastest(
    calls: Mapping[Settings, Callable[[], object]], apply: Callable[[Settings], object]
) -> Settings:
    """The setting with the smallest median time, each run in turn so that noise hits all alike."""
    times: dict[Settings, list[float]] = {setting: [] for setting in calls}
    begun = time.perf_counter()
    for trial in range(_TRIALS + 1):
        for setting, call in calls.items():
            apply(setting)
            # A change of threads or layout makes the next call slow: it is not the one timed.
            call()
            started = time.perf_counter()
            call()
            if trial:
                times[setting].append(time.perf_counter() - started)
        if trial and time.perf_counter() - begun > _TRIAL_SECONDS:
            break
    return min(times, key=lambda setting: float(np.median(times[setting])))


def better_threads(call: Callable[[], object]) -> int:
    """1 or all threads, whichever runs the call faster.

    Two OpenMP threads on a machine with one busy core have taken forty times as long as one.
    """
    import torch

    times: dict[int, float] = {}
    for count in dict.fromkeys((1, available_threads())):
        torch.set_num_threads(count)
        if not times:
            # The very first call allocates, whatever the threads.
            call()
        started = time.perf_counter()
        call()
        times[count] = time.perf_counter() - started
    return min(times, key=lambda count: times[count])


def _array(value: torch.Tensor) -> Array:
    import torch

    if value.dtype == torch.bfloat16:
        value = value.float()
    array: Array = value.numpy()
    return array


def check_origin(bundle: Bundle, source: LoadedSource, *, hint: str) -> None:
    """Raise ConfigError unless a source has the weights that the bundle comes from."""
    known = bundle.manifest.source
    if known is None or known.origin.sha256 == source.sha256:
        return
    told = f"has other weights (state dict {source.sha256[:12]}…) than"
    if source.kind == "onnx":
        told = f"is another file (SHA-256 {source.sha256[:12]}…) than"
    raise ConfigError(
        f"{source.id} {told} the origin of {bundle.path}, {known.origin.id}"
        f" ({known.origin.sha256[:12]}…).",
        hint=hint,
    )


def source_task(manifest: Manifest) -> str:
    """The task to open the origin for: a module of one's own is custom, whatever reads for it."""
    known = manifest.source
    return manifest.task if known is None or known.kind == "huggingface" else "custom"


def declared_inputs(manifest: Manifest) -> tuple[str, ...]:
    """The ``--input`` declarations that open the bundle's factory source with the same inputs.

    Empty for checkpoints and programs, whose inputs are known without.
    """
    if manifest.source is None or manifest.source.kind != "factory":
        return ()
    return tuple(
        f"{spec.name}={spec.dtype}:{','.join(map(str, spec.shape))}"
        for spec in manifest.components["model"].inputs
    )
