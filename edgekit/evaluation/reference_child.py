"""The measuring child of the PyTorch reference: ``python -m edgekit.evaluation.reference_child``.

Speaks the protocol of `edgekit.runtime.worker`, so that PyTorch is measured by the same clock, in
the same turns, on the same arrays as the bundles.
"""

from __future__ import annotations

import argparse
import importlib
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from edgekit.core.lazy import require
from edgekit.evaluation.reference import Reference
from edgekit.runtime.session import Array
from edgekit.runtime.worker import Measurable, private_stdout, serve
from edgekit.runtime.workloads import Workload


@dataclass(frozen=True)
class ReferenceContender:
    """A SOURCE as a contender."""

    spec: str
    threads: int
    task: str | None = None
    revision: str | None = None
    trust_remote_code: bool = False
    inputs: tuple[str, ...] = ()

    def imports(self) -> None:
        """See `edgekit.runtime.worker.Contender`."""
        require("torch", "build")
        if ":" not in self.spec and not self.spec.endswith(".pt2"):
            require("transformers", "build")
            importlib.import_module("edgekit.sources.huggingface")

    def open(self) -> Measurable:
        """See `edgekit.runtime.worker.Contender`."""
        from edgekit.sources.opening import open_source

        source = open_source(
            self.spec,
            task=self.task,
            revision=self.revision,
            trust_remote_code=self.trust_remote_code,
            inputs=self.inputs,
        )
        return OpenReference(Reference(source), self.threads)


@dataclass
class OpenReference:
    """The loaded reference under measurement."""

    reference: Reference
    threads: int
    chosen: dict[str, object] = field(default_factory=dict)

    def facts(self) -> Mapping[str, object]:
        """See `edgekit.runtime.worker.Measurable`."""
        import torch

        source = self.reference.source
        attention = getattr(source.config, "_attn_implementation", None)
        return {
            "engine": "pytorch",
            "device": "cpu",
            "version": str(torch.__version__),
            "mode": "eager, inference_mode",
            "attention": attention,
            "precision": source.precision,
            "sha256": source.sha256,
            # A parameter that two layers share counts once.
            "parameter_bytes": sum(value.nbytes for value in source.module.parameters()),
            **self.chosen,
        }

    def start(self, workload: Workload) -> Callable[[], Mapping[str, Array]]:
        """See `edgekit.runtime.worker.Measurable`."""
        import torch

        torch.set_num_threads(self.threads)
        return self.reference.bind(workload.feeds)

    def prepare(self, workload: Workload) -> Callable[[], Mapping[str, Array]]:
        """See `edgekit.runtime.worker.Measurable`: tries out threads and memory formats."""
        settings, call = self.reference.choose(workload.feeds, threads=self.threads)
        self.chosen = settings.to_json()
        return call


def main(arguments: Sequence[str] | None = None) -> int:
    """Run as a program; the exit code of the process."""
    parser = argparse.ArgumentParser(prog="python -m edgekit.evaluation.reference_child")
    parser.add_argument("spec", metavar="SOURCE")
    parser.add_argument("--worker", type=Path, required=True, metavar="FILE")
    parser.add_argument("--threads", type=int, required=True, metavar="N")
    parser.add_argument("--task")
    parser.add_argument("--revision")
    parser.add_argument("--trust-remote-code", action="store_true")
    parser.add_argument("--input", action="append", default=[])
    given = parser.parse_args(arguments)
    replies = private_stdout()
    contender = ReferenceContender(
        spec=given.spec,
        threads=given.threads,
        task=given.task,
        revision=given.revision,
        trust_remote_code=given.trust_remote_code,
        inputs=tuple(given.input),
    )
    return serve(contender, given.worker, sys.stdin, replies)


if __name__ == "__main__":
    sys.exit(main())
