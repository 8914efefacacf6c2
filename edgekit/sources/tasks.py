"""The tasks that a Hugging Face checkpoint can be loaded for, and how a name leads to one."""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from edgekit.core.errors import ConfigError, SourceError
from edgekit.core.manifest import TASKS


@dataclass(frozen=True)
class Task:
    """One loadable task: transformers' auto class, the outputs we keep and their symbols.

    ``outputs`` maps the final output name to the names of its leading varying axes; ``endings``
    are the class-name endings that stand for the task in a config's ``architectures``.
    ``pictures`` and ``sounds`` say that such a model always reads these, ``generative`` that it
    answers token by token.
    """

    name: str
    auto_class: str
    outputs: Mapping[str, tuple[str, ...]]
    endings: tuple[str, ...]
    labelled: bool = False
    pictures: bool = False
    sounds: bool = False
    generative: bool = False


LOADABLE: Mapping[str, Task] = {
    task.name: task
    for task in (
        Task(
            "text-classification",
            "AutoModelForSequenceClassification",
            {"logits": ("batch",)},
            ("ForSequenceClassification",),
            labelled=True,
        ),
        Task(
            "token-classification",
            "AutoModelForTokenClassification",
            {"logits": ("batch", "sequence")},
            ("ForTokenClassification",),
            labelled=True,
        ),
        Task(
            "question-answering",
            "AutoModelForQuestionAnswering",
            {"start_logits": ("batch", "sequence"), "end_logits": ("batch", "sequence")},
            ("ForQuestionAnswering", "ForQuestionAnsweringSimple"),
        ),
        Task(
            "fill-mask",
            "AutoModelForMaskedLM",
            {"logits": ("batch", "sequence")},
            ("ForMaskedLM", "WithLMHeadModel"),
        ),
        Task(
            "image-classification",
            "AutoModelForImageClassification",
            {"logits": ("batch",)},
            ("ForImageClassification", "ForImageClassificationWithTeacher"),
            labelled=True,
            pictures=True,
        ),
        Task(
            "object-detection",
            "AutoModelForObjectDetection",
            {"logits": ("batch",), "pred_boxes": ("batch",)},
            ("ForObjectDetection",),
            labelled=True,
            pictures=True,
        ),
        Task(
            "image-segmentation",
            "AutoModelForSemanticSegmentation",
            {"logits": ("batch",)},
            ("ForSemanticSegmentation",),
            labelled=True,
            pictures=True,
        ),
        Task(
            "audio-classification",
            "AutoModelForAudioClassification",
            {"logits": ("batch",)},
            # The families of Wav2Vec2 are called as those of texts are (see `infer_task`).
            ("ForAudioClassification", "ForSequenceClassification"),
            labelled=True,
            sounds=True,
        ),
        Task(
            "automatic-speech-recognition",
            "AutoModelForCTC",
            {"logits": ("batch", "frames")},
            ("ForCTC",),
            sounds=True,
        ),
        Task(
            "text-generation",
            "AutoModelForCausalLM",
            {"logits": ("batch", "sequence")},
            ("ForCausalLM", "LMHeadModel"),
            generative=True,
        ),
        Task(
            "text2text-generation",
            "AutoModelForSeq2SeqLM",
            {"logits": ("batch", "sequence")},
            # Marian's is called after machine translation.
            ("ForConditionalGeneration", "MTModel"),
            generative=True,
        ),
        # Last, because "Model" also ends the names of classes with a head.
        Task(
            "feature-extraction",
            "AutoModel",
            {"last_hidden_state": ("batch", "sequence")},
            ("Model",),
        ),
    )
}

# The other form of automatic-speech-recognition: an encoder and a decoder instead of CTC.
SPEECH = Task(
    "automatic-speech-recognition",
    "AutoModelForSpeechSeq2Seq",
    {"logits": ("batch", "sequence")},
    ("WhisperForConditionalGeneration",),
    sounds=True,
    generative=True,
)

# Names that optimum tells apart, or does not have.
_OURS = {
    "semantic-segmentation": "image-segmentation",
    "image-feature-extraction": "feature-extraction",
}
# As checkpoints call it that translate between several languages.
_TRANSLATION = re.compile(r"translation(_[a-z]+_to_[a-z]+)?")
_HEADS = ("LMHeadModel", "DoubleHeadsModel")
# What a class name of transformers says of the head: everything behind the last "For".
_HEAD = re.compile(r"For[A-Z][A-Za-z]*\Z|(?:WithLMHead|LMHead|DoubleHeads)Model\Z")
# Several heads at once: which of them a task finds there is up to the weights' names.
_MANY_HEADS = "ForPreTraining"


def canonical_task(name: str) -> str:
    """The task that a name or synonym (of optimum's TasksManager) stands for.

    Raises ConfigError, naming the nearest task that can be exported, for an unknown name.
    """
    if name in TASKS:
        return name
    if name in _OURS:
        return _OURS[name]
    if _TRANSLATION.fullmatch(name.lower()):
        return "text2text-generation"
    from optimum.exporters.tasks import TasksManager

    mapped = TasksManager.map_from_synonym(name.lower()).removesuffix("-with-past")
    if mapped in TASKS:
        return str(mapped)
    synonyms = TasksManager._SYNONYM_TASK_MAP
    known = [*LOADABLE, *(word for word, task in synonyms.items() if task in LOADABLE)]
    near = difflib.get_close_matches(name.lower(), known, n=1, cutoff=0.5)
    meant = f"Did you mean {near[0]}? " if near else ""
    raise ConfigError(
        f"The task {name!r} is unknown.",
        hint=f"{meant}Tasks that can be exported: {', '.join(LOADABLE)}.",
    )


def narrower_task(name: str | None) -> str | None:
    """What a name says beyond its task: text2text-generation may summarize or translate."""
    lowered = "" if name is None else name.lower()
    return lowered if lowered == "summarization" or _TRANSLATION.fullmatch(lowered) else None


def loadable_task(name: str, architectures: Sequence[str] = ()) -> Task:
    """The record of a canonical task, in the form that an architecture has.

    Raises SourceError for one that cannot be loaded yet.
    """
    if name == SPEECH.name and architectures and architectures[0].endswith(SPEECH.endings):
        return SPEECH
    if name not in LOADABLE:
        raise SourceError(
            f"Checkpoints cannot be exported for the task {name} by this version.",
            hint=f"Pass --task with one of {', '.join(LOADABLE)}, or give a module factory"
            " (file.py:factory).",
        )
    return LOADABLE[name]


def refuse_other_head(task: Task, architectures: Sequence[str], *, where: str) -> None:
    """Raise SourceError when the checkpoint's head was trained for something else than `task`.

    Heads of different tasks may be stored under one name (``classifier``), so that the weights
    alone do not show it: the model would load, and answer nonsense. Without its head every
    checkpoint is a feature extractor.
    """
    if task.name == "feature-extraction" or not architectures:
        return
    trained = architectures[0]
    spoken = trained.endswith(SPEECH.endings) and task is not SPEECH
    if not spoken and any(name.endswith((*task.endings, _MANY_HEADS)) for name in architectures):
        return
    if not _HEAD.search(trained):
        # A base model, or a class of the checkpoint's own: its weights decide.
        return
    own = next((t.name for t in (SPEECH, *LOADABLE.values()) if trained.endswith(t.endings)), None)
    remedy = f"Leave --task away (it is for {own})" if own else "Give a checkpoint of that task"
    raise SourceError(
        f"The checkpoint {where} was trained as {trained}, whose head is not one for {task.name}.",
        hint=f"{remedy}, or fine-tune the model for {task.name} first.",
    )


def infer_task(architectures: Sequence[str], *, where: str) -> Task:
    """The task of the first architecture in a checkpoint's config.

    Raises ConfigError when the config names none, SourceError for one of an unsupported task.
    """
    if not architectures:
        raise ConfigError(
            f"The config of {where} does not say which architecture it is for.",
            hint=f"Pass --task with one of {', '.join(LOADABLE)}.",
        )
    architecture = architectures[0]
    if architecture in _classifiers_of_sounds():
        return LOADABLE["audio-classification"]
    if architecture.endswith(SPEECH.endings):
        return SPEECH
    if not architecture.endswith(_HEADS):
        for task in LOADABLE.values():
            if architecture.endswith(task.endings):
                return task
    return loadable_task(_ask_optimum(architecture))


def _classifiers_of_sounds() -> frozenset[str]:
    from transformers.models.auto.modeling_auto import (
        MODEL_FOR_AUDIO_CLASSIFICATION_MAPPING_NAMES as names,
    )

    return frozenset(str(name) for name in names.values())


def _ask_optimum(architecture: str) -> str:
    import transformers
    from optimum.exporters.tasks import TasksManager

    found = getattr(transformers, architecture, None)
    if found is None:
        raise SourceError(
            f"The architecture {architecture} is not part of transformers"
            f" {transformers.__version__}.",
            hint="Pass --trust-remote-code when the checkpoint brings code that you have read, or"
            " install a transformers version that has it.",
        )
    # Optimum takes an encoder-decoder for a masked model, because some share a mapping.
    if architecture.endswith("ForConditionalGeneration"):
        return "text2text-generation"
    try:
        return canonical_task(TasksManager.infer_task_from_model(found))
    except ValueError as error:
        raise SourceError(
            f"No task is known for the architecture {architecture}.",
            hint=f"Pass --task with one of {', '.join(LOADABLE)}.",
        ) from error
    except ConfigError as error:
        raise SourceError(
            f"The architecture {architecture} is for a task that edgekit does not have.",
            hint=f"Pass --task with one of {', '.join(LOADABLE)}.",
        ) from error
