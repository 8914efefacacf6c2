"""Post-processing of text tasks in numpy, by the ``kind`` of a processor's ``post``."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from edgekit.core.errors import BundleCorrupt, BundleVersion, ConfigError
from edgekit.runtime.tasks._base import Context, Row, TextTask
from edgekit.runtime.tasks.answers import QuestionAnswering
from edgekit.runtime.tasks.classification import Classification
from edgekit.runtime.tasks.embeddings import Embedding, HiddenStates
from edgekit.runtime.tasks.masks import FillMask
from edgekit.runtime.tasks.tokens import TokenClassification

__all__ = ["TEXT_TASKS", "Context", "Row", "TextTask", "make_text_task"]

TEXT_TASKS: Mapping[str, Callable[[Context], TextTask]] = {
    "embedding": Embedding,
    "hidden-states": HiddenStates,
    "classification": Classification,
    "token-classification": TokenClassification,
    "question-answering": QuestionAnswering,
    "fill-mask": FillMask,
}


def make_text_task(context: Context) -> TextTask:
    """The task that ``context.post`` describes. Raises BundleVersion, BundleCorrupt."""
    kind = context.post.get("kind")
    if kind not in TEXT_TASKS:
        raise BundleVersion(
            f"processor.post is of kind {kind!r}; this edgekit knows {', '.join(TEXT_TASKS)}.",
            hint="Upgrade edgekit on this device: pip install --upgrade edgekit-ml",
        )
    try:
        return TEXT_TASKS[str(kind)](context)
    except ConfigError as error:
        # The same words are an option's fault in a call and the bundle's here.
        raise BundleCorrupt(f"processor.post: {error.message}", hint=error.hint) from error
