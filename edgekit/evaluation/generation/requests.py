"""The reference's answers to requests: transformers' `generate` in PyTorch, with a dynamic cache.

It is given what the bundles are given: the same tokens or features, to be answered greedily by
exactly as many tokens. Of Whisper one window is generated; what transformers puts around the
windows of a long sound is no part of it, as it is none of the bundles' requests.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from edgekit.core.errors import ConfigError
from edgekit.evaluation.reference import Settings, fastest
from edgekit.runtime.generation.answering import FAR, FIRST, GAPS, TOKENS
from edgekit.runtime.session import Array, contiguous
from edgekit.runtime.tokens import Request

if TYPE_CHECKING:
    import torch

    from edgekit.runtime.workloads import Workload
    from edgekit.sources.loaded import LoadedSource

# Enough to tell whether one thread or all are faster; a whole answer would take too long.
_TRIED_TOKENS = 8


class GeneratingReference:
    """A source that generates, asked by transformers' own loop.

    Raises ConfigError for a source of another kind.
    """

    def __init__(self, source: LoadedSource) -> None:
        if not source.generative:
            raise ConfigError(
                f"{source.id} ({source.task}) generates nothing, and is asked for whole answers.",
                hint="Give the model that the bundle was made of.",
            )
        model: Any = source.module.model
        self._model = model
        self._floats = next(
            tensor.dtype for tensor in source.module.parameters() if tensor.is_floating_point()
        )
        # Callers of the offline scenario share the model, each with an answer of its own.
        self._own = threading.local()
        model.register_forward_hook(self._note)

    def request(self, workload: Workload) -> Request:
        """The workload's request, with the threads that are set when it is called."""
        feeds = self._tensors(workload)
        count = workload.new_tokens or 1
        # The first answer may come with other threads than the next ones, which add up otherwise:
        # of two near tokens it may be the other one.
        return Request(lambda came: self._answer(feeds, count, came, tokens=False))

    def answer(self, workload: Workload) -> Mapping[str, Array]:
        """See `edgekit.runtime.worker.Compared`."""
        count = workload.new_tokens or 1
        return self._answer(self._tensors(workload), count, lambda: None, tokens=True, gaps=True)

    def choose(
        self, workload: Workload, *, threads: int, apply: Callable[[Settings], object]
    ) -> Settings:
        """1 or all threads, whichever answers a few tokens of the request faster."""
        tried = [Settings(count) for count in dict.fromkeys((1, threads))]
        if len(tried) == 1:
            return tried[0]
        feeds = self._tensors(workload)
        count = min(_TRIED_TOKENS, workload.new_tokens or 1)

        def call() -> object:
            return self._answer(feeds, count, lambda: None, tokens=False)

        return fastest(dict.fromkeys(tried, call), apply)

    def _answer(
        self,
        feeds: Mapping[str, torch.Tensor],
        count: int,
        came: Callable[[], object],
        *,
        tokens: bool,
        gaps: bool = False,
    ) -> dict[str, Array]:
        import torch
        import transformers

        # Whisper's own does more: that belongs to sounds of many windows. Its stubs know no kind of
        # feeds beside the options.
        generate: Any = transformers.GenerationMixin.generate
        said = _Said(came)
        apart = _Apart()
        self._own.first = None
        with torch.inference_mode():
            generate(
                self._model,
                **feeds,
                max_new_tokens=count,
                min_new_tokens=count,
                do_sample=False,
                num_beams=1,
                stopping_criteria=transformers.StoppingCriteriaList([said]),
                logits_processor=transformers.LogitsProcessorList([apart] if gaps else []),
            )
        found: dict[str, Array] = {FIRST: self._own.first.numpy()}
        if tokens:
            found[TOKENS] = said.tokens[:, -count:].numpy()
        if gaps:
            found[GAPS] = np.stack(apart.found, axis=1)
        return found

    def _note(self, module: object, given: object, output: Any) -> None:
        """Keep the scores of an answer's first token, as the model gives them."""
        if getattr(self._own, "first", output) is None:
            self._own.first = output.logits[:, -1].float()

    def _tensors(self, workload: Workload) -> dict[str, torch.Tensor]:
        import torch

        made = {name: torch.from_numpy(contiguous(feed)) for name, feed in workload.feeds.items()}
        return {
            name: tensor.to(self._floats) if tensor.is_floating_point() else tensor
            for name, tensor in made.items()
        }


class _Said:
    """A criterion that never stops anything and tells when another token of all rows is there."""

    def __init__(self, came: Callable[[], object]) -> None:
        self._came = came
        self.tokens: Any = None

    def __call__(self, input_ids: torch.Tensor, scores: object, **more: object) -> torch.Tensor:
        import torch

        self._came()
        self.tokens = input_ids
        return torch.zeros(len(input_ids), dtype=torch.bool)


class _Apart:
    """A processor that changes nothing and notes how far the two best scores lie apart."""

    def __init__(self) -> None:
        self.found: list[Array] = []

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        best = scores.float().topk(2, dim=-1).values
        self.found.append((best[:, 0] - best[:, 1]).clamp(max=FAR).numpy())
        return scores
