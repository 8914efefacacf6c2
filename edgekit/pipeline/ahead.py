"""What a bundle reads while PyTorch is being imported: its texts."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from edgekit.evaluation.answers import TASKS
from edgekit.evaluation.texts import CandidateTexts
from edgekit.runtime.model import Model
from edgekit.sources.data import Samples
from edgekit.sources.opening import stated_config

# Those whose texts are read alike whatever the metric is; fill-mask may hide a word.
_TASKS = TASKS - {"fill-mask"}


@dataclass(frozen=True)
class Begun:
    """The samples of a verdict, and the bundle's texts of them where it has read them."""

    samples: Samples
    texts: CandidateTexts | None = None


def begin(model: Model, spec: str | None, read: Callable[[str | None], Samples]) -> Begun | None:
    """What can be done of a comparison before its reference is open.

    `read` gives the samples, told the kind of classification: that of a checkpoint in a folder is
    known beforehand. None where only the opened reference tells.

    Raises what `read` and `CandidateTexts` do.
    """
    manifest = model.manifest
    texts = manifest.task in _TASKS and (manifest.processor or {}).get("kind") == "text"
    config = stated_config(spec) if texts and spec is not None else None
    if config is None:
        return None
    problem = config.get("problem_type")
    samples = read(str(problem) if problem else None)
    return Begun(samples, CandidateTexts(model, samples))
