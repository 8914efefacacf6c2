"""Both models on DATA, for each kind of model that generates."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from edgekit.evaluation.generation.likelihoods import run_likelihoods
from edgekit.evaluation.generation.listeners import run_speech
from edgekit.evaluation.generation.writers import run_texts
from edgekit.evaluation.pairs import Pairs
from edgekit.runtime.model import Model
from edgekit.sources.data import Samples

if TYPE_CHECKING:
    from edgekit.sources.loaded import LoadedSource


def run_generated(
    model: Model,
    source: LoadedSource,
    samples: Samples,
    *,
    notes: list[str],
    progress: Callable[[str], None] = lambda text: None,
) -> Pairs:
    """How likely the texts are to both decoders, or what both write of texts or of sounds.

    Raises:
        ConfigError: a row of DATA that cannot be read; a reference that is no checkpoint.
        InputMismatch: a model that refuses the tokens.
    """
    if samples.task == "text-generation":
        return run_likelihoods(model, source, samples, notes=notes, progress=progress)
    if samples.task == "automatic-speech-recognition":
        return run_speech(model, source, samples, notes=notes, progress=progress)
    return run_texts(model, source, samples, progress=progress)
