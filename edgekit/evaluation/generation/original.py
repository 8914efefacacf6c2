"""The original of a bundle that generates: transformers' model in PyTorch, and what it has said."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TypeVar

from edgekit.core.errors import ConfigError, InputMismatch
from edgekit.evaluation.reference import better_threads
from edgekit.sources.quiet import quiet

if TYPE_CHECKING:
    from edgekit.sources.loaded import LoadedSource

Asked = TypeVar("Asked")
Said = TypeVar("Said")


class Original:
    """A checkpoint that generates, as whatever judges its bundles asks it.

    Its threads are chosen once, by the first question. What it has said is kept: a search judges
    many bundles on the same samples, all of them asked alike.

    Raises ConfigError for a source of another kind.
    """

    def __init__(self, source: LoadedSource) -> None:
        if source.engine is not None or not source.generative:
            raise ConfigError(
                f"The reference {source.id} is no checkpoint that generates, so DATA cannot judge"
                " by it.",
                hint="Pass the checkpoint that the bundle was made from.",
            )
        self.source = source
        self._model: Any = source.module.model
        self._settled = False
        self._said: dict[Hashable, Any] = {}

    @contextmanager
    def asked(self, what: str, trial: Callable[[Any], object]) -> Iterator[Any]:
        """transformers' model, to be asked `what`; the first time `trial` chooses its threads.

        Raises InputMismatch where PyTorch refuses what it is asked, a reference of other weights.
        """
        import torch

        try:
            with torch.inference_mode(), quiet():
                if not self._settled:
                    torch.set_num_threads(better_threads(lambda: trial(self._model)))
                    self._settled = True
                yield self._model
        except (RuntimeError, TypeError, ValueError, IndexError) as error:
            raise InputMismatch(
                f"The reference {self.source.id} does not read {what}: {error}.",
                hint="Check that bundle and reference are the same model.",
            ) from error

    def each(
        self,
        keys: Sequence[Hashable],
        items: Sequence[Asked],
        answer: Callable[[Sequence[Asked]], Sequence[Said]],
    ) -> list[Said]:
        """What it says to each of some items, of which `answer` gets those that are new."""
        new = [at for at, key in enumerate(keys) if key not in self._said]
        if new:
            found = answer([items[at] for at in new])
            self._said.update(zip((keys[at] for at in new), found, strict=True))
        return [self._said[key] for key in keys]

    def parts(
        self, key: Hashable, said: Iterable[Said], keep: Callable[[Said], Said]
    ) -> Iterator[Said]:
        """What it says to something, part by part, as `keep` makes it where that is known already.

        Otherwise `said` tells it, of which nothing is asked before it is wanted.
        """
        known = self._said.get(key)
        if known is not None:
            yield from known
            return
        kept = []
        for part in said:
            yield part
            kept.append(keep(part))
        self._said[key] = kept
