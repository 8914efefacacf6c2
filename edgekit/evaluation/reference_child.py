"""The measuring child of the reference: ``python -m edgekit.evaluation.reference_child``.

Speaks the protocol of `edgekit.runtime.worker`, so that PyTorch is measured by the same clock, in
the same turns, on the same arrays as the bundles.
"""

from __future__ import annotations

import argparse
import importlib
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from edgekit.core.lazy import require
from edgekit.evaluation.generation.requests import GeneratingReference
from edgekit.evaluation.reference import Mode, Reference, Settings, compiled
from edgekit.runtime.session import Array
from edgekit.runtime.worker import Measurable, private_stdout, serve
from edgekit.runtime.workloads import Workload


@dataclass(frozen=True)
class ReferenceContender:
    """A SOURCE as a contender.

    ``mode``: as it is ("eager"), through ``torch.compile``, or with all its weights and its
    arithmetic in bfloat16. ONNX models are measured by `imported_child`.
    """

    spec: str
    threads: int
    mode: Mode = "eager"
    task: str | None = None
    revision: str | None = None
    trust_remote_code: bool = False
    inputs: tuple[str, ...] = ()

    def imports(self) -> None:
        """See `edgekit.runtime.worker.Contender`."""
        require("torch", "build")
        if self.mode == "compile":
            importlib.import_module("torch._inductor.compile_fx")
        if ":" not in self.spec and not self.spec.endswith(".pt2"):
            require("transformers", "build")
            importlib.import_module("edgekit.sources.huggingface")

    def open(self) -> Measurable:
        """See `edgekit.runtime.worker.Contender`."""
        from edgekit.sources.opening import open_reference

        source = open_reference(
            self.spec,
            task=self.task,
            revision=self.revision,
            trust_remote_code=self.trust_remote_code,
            inputs=self.inputs,
            dtype="bfloat16" if self.mode == "bfloat16" else None,
        )
        if self.mode != "compile":
            return OpenReference(Reference(source), self.threads, self.mode)
        fixed, varying = (
            Reference(source, forward=compiled(source, dynamic=dynamic))
            for dynamic in (False, True)
        )
        return OpenReference(fixed, self.threads, self.mode, varying)


_MODES: Mapping[Mode, str] = {
    "eager": "eager", "compile": "torch.compile", "bfloat16": "bfloat16",
}  # fmt: skip


@dataclass
class OpenReference:
    """The loaded reference under measurement.

    ``varying`` runs texts of natural lengths; ``chosen`` is what the last `prepare` found.
    """

    reference: Reference
    threads: int
    mode: Mode = "eager"
    varying: Reference | None = None
    chosen: Settings | None = None
    _asked: GeneratingReference | None = None

    def facts(self) -> Mapping[str, object]:
        """See `edgekit.runtime.worker.Measurable`."""
        import torch

        source = self.reference.source
        attention = getattr(source.config, "_attn_implementation", None)
        return {
            "engine": "pytorch",
            "device": "cpu",
            "version": str(torch.__version__),
            "mode": f"{_MODES[self.mode]}, inference_mode",
            "attention": attention,
            "precision": source.precision,
            # A module without weights computes in the type of its inputs.
            "effective_precision": "bf16" if self.mode == "bfloat16" else source.precision,
            "sha256": source.sha256,
            # A parameter that two layers share counts once.
            "parameter_bytes": sum(value.nbytes for value in source.module.parameters()),
            **({} if self.chosen is None else self.chosen.to_json()),
        }

    def start(self, workload: Workload) -> Callable[[], Mapping[str, Array]]:
        """See `edgekit.runtime.worker.Measurable`."""
        import torch

        chosen = self.chosen or Settings(self.threads)
        torch.set_num_threads(chosen.threads)
        if workload.new_tokens is not None:
            return self._generating().request(workload)
        # The module lies in memory as was chosen: other inputs would be converted in every call.
        return self._of(workload).bind(workload.feeds, channels_last=chosen.channels_last)

    def prepare(self, workload: Workload) -> Callable[[], Mapping[str, Array]]:
        """See `edgekit.runtime.worker.Measurable`: tries out threads and memory formats."""
        if workload.new_tokens is not None:
            asked = self._generating()
            self.chosen = asked.choose(workload, threads=self.threads, apply=_use)
            _use(self.chosen)
            return asked.request(workload)
        self.chosen, call = self._of(workload).choose(workload.feeds, threads=self.threads)
        return call

    def answer(self, workload: Workload) -> Mapping[str, Array]:
        """See `edgekit.runtime.worker.Compared`: with the tokens, and how sure each of them was."""
        return self._generating().answer(workload)

    def _generating(self) -> GeneratingReference:
        if self._asked is None:
            self._asked = GeneratingReference(self.reference.source)
        return self._asked

    def _of(self, workload: Workload) -> Reference:
        return self.varying or self.reference if workload.length == "data" else self.reference


def _use(settings: Settings) -> None:
    import torch

    torch.set_num_threads(settings.threads)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run as a program; the exit code of the process."""
    parser = argparse.ArgumentParser(prog="python -m edgekit.evaluation.reference_child")
    parser.add_argument("spec", metavar="SOURCE")
    parser.add_argument("--worker", type=Path, required=True, metavar="FILE")
    parser.add_argument("--threads", type=int, required=True, metavar="N")
    parser.add_argument("--mode", choices=list(_MODES), default="eager")
    parser.add_argument("--task")
    parser.add_argument("--revision")
    parser.add_argument("--trust-remote-code", action="store_true")
    parser.add_argument("--input", action="append", default=[])
    given = parser.parse_args(arguments)
    replies = private_stdout()
    contender = ReferenceContender(
        spec=given.spec,
        threads=given.threads,
        mode=given.mode,
        task=given.task,
        revision=given.revision,
        trust_remote_code=given.trust_remote_code,
        inputs=tuple(given.input),
    )
    return serve(contender, given.worker, sys.stdin, replies, threads=given.threads)


if __name__ == "__main__":
    sys.exit(main())
