"""Both models on DATA, for each kind of model that generates."""

from __future__ import annotations

from collections.abc import Callable

from edgekit.evaluation.generation.likelihoods import run_likelihoods
from edgekit.evaluation.generation.listeners import run_speech
from edgekit.evaluation.generation.original import Original
from edgekit.evaluation.generation.writers import run_texts
from edgekit.evaluation.pairs import Pairs
from edgekit.runtime.model import Model
from edgekit.sources.data import Samples


def run_generated(
    model: Model,
    original: Original,
    samples: Samples,
    *,
    notes: list[str],
    progress: Callable[[str], None] = lambda text: None,
) -> Pairs:
    """How likely the texts are to both decoders, or what both write of texts or of sounds.

    Raises:
        ConfigError: a row of DATA that cannot be read.
        InputMismatch: a model that refuses the tokens.
    """
    if samples.task == "text-generation":
        return run_likelihoods(model, original, samples, notes=notes, progress=progress)
    if samples.task == "automatic-speech-recognition":
        return run_speech(model, original, samples, notes=notes, progress=progress)
    return run_texts(model, original, samples, progress=progress)
