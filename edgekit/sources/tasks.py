"""The tasks that a Hugging Face checkpoint can be loaded for, and how a name leads to one."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from edgekit.core.errors import ConfigError, SourceError
from edgekit.core.manifest import TASKS


@dataclass(frozen=True)
class Task:
    """One loadable task: transformers' auto class, the outputs we keep and their symbols.

    ``outputs`` maps the final output name to the names of its leading varying axes; ``endings``
    are the class-name endings that stand for the task in a config's ``architectures``.
    """

    name: str
    auto_class: str
    outputs: Mapping[str, tuple[str, ...]]
    endings: tuple[str, ...]
    labelled: bool = False


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
        # Last, because "Model" also ends the names of classes with a head.
        Task(
            "feature-extraction",
            "AutoModel",
            {"last_hidden_state": ("batch", "sequence")},
            ("Model",),
        ),
    )
}

_HEADS = ("LMHeadModel", "DoubleHeadsModel")


def canonical_task(name: str) -> str:
    """The task that a name or synonym (of optimum's TasksManager) stands for.

    Raises ConfigError, naming the nearest task, for an unknown name.
    """
    if name in TASKS:
        return name
    from optimum.exporters.tasks import TasksManager

    mapped = TasksManager.map_from_synonym(name.lower()).removesuffix("-with-past")
    if mapped in TASKS:
        return str(mapped)
    known = [*TASKS, *TasksManager._SYNONYM_TASK_MAP]
    near = difflib.get_close_matches(name.lower(), known, n=1, cutoff=0.5)
    meant = f"Did you mean {near[0]}? " if near else ""
    raise ConfigError(
        f"The task {name!r} is unknown.", hint=f"{meant}Known tasks: {', '.join(TASKS)}."
    )


def loadable_task(name: str) -> Task:
    """The record of a canonical task. Raises SourceError for one that cannot be loaded yet."""
    if name not in LOADABLE:
        raise SourceError(
            f"Checkpoints cannot be exported for the task {name} by this version.",
            hint=f"Pass --task with one of {', '.join(LOADABLE)}, or give a module factory"
            " (file.py:factory).",
        )
    return LOADABLE[name]


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
    if not architecture.endswith(_HEADS):
        for task in LOADABLE.values():
            if architecture.endswith(task.endings):
                return task
    return loadable_task(_ask_optimum(architecture))


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
