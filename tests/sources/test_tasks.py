"""Names of tasks and what they stand for."""

from __future__ import annotations

import pytest

from edgekit.core.errors import ConfigError, SourceError
from edgekit.sources.tasks import (
    LOADABLE,
    canonical_task,
    infer_task,
    loadable_task,
    narrower_task,
    refuse_other_head,
)


@pytest.mark.parametrize("name", LOADABLE)
def test_canonical_names_stay(name: str) -> None:
    """A task of ours is its own canonical name."""
    assert canonical_task(name) == name


@pytest.mark.parametrize(
    ("synonym", "task"),
    [
        ("sequence-classification", "text-classification"),
        ("masked-lm", "fill-mask"),
        ("default", "feature-extraction"),
        ("sentence-similarity", "feature-extraction"),
        ("causal-lm-with-past", "text-generation"),
    ],
)
def test_optimums_synonyms_are_known(synonym: str, task: str) -> None:
    """People bring the names that optimum-cli took."""
    assert canonical_task(synonym) == task


def test_unknown_task_names_the_nearest() -> None:
    """A typing error is answered with what was meant."""
    with pytest.raises(ConfigError, match="'text-clasification' is unknown") as caught:
        canonical_task("text-clasification")
    assert "Did you mean text-classification?" in str(caught.value.hint)


def test_unknown_task_is_answered_with_what_can_be_exported() -> None:
    """A task that the next run would refuse is not suggested."""
    with pytest.raises(ConfigError) as caught:
        canonical_task("image-clasification")
    assert str(caught.value.hint).endswith(f"{', '.join(LOADABLE)}.")
    assert "text-to-image" not in str(caught.value.hint)


@pytest.mark.parametrize(
    ("architecture", "task"),
    [
        ("BertForSequenceClassification", "token-classification"),
        ("BertForTokenClassification", "question-answering"),
        ("BertForMultipleChoice", "text-classification"),
        ("BertLMHeadModel", "fill-mask"),
        ("RobertaForCausalLM", "fill-mask"),
    ],
)
def test_head_of_another_task_is_refused(architecture: str, task: str) -> None:
    """Its weights may fit by name, and would answer nonsense."""
    with pytest.raises(SourceError, match=f"trained as {architecture}.* not one for {task}"):
        refuse_other_head(LOADABLE[task], [architecture], where="m")


@pytest.mark.parametrize(
    ("architecture", "task"),
    [
        ("BertForSequenceClassification", "feature-extraction"),
        ("FlaubertForQuestionAnsweringSimple", "question-answering"),
        ("XLMWithLMHeadModel", "fill-mask"),
        ("BertForPreTraining", "fill-mask"),
        ("BertModel", "text-classification"),
        ("OwnClassifier", "text-classification"),
    ],
)
def test_head_of_the_task_or_none_is_left_to_its_weights(architecture: str, task: str) -> None:
    """A base model of any checkpoint, another name of one head, and code of the checkpoint's."""
    refuse_other_head(LOADABLE[task], [architecture], where="m")
    refuse_other_head(LOADABLE[task], [], where="m")


@pytest.mark.parametrize(
    ("architecture", "task"),
    [
        ("BertForSequenceClassification", "text-classification"),
        ("RobertaForTokenClassification", "token-classification"),
        ("MPNetForQuestionAnswering", "question-answering"),
        ("FlaubertForQuestionAnsweringSimple", "question-answering"),
        ("AlbertForMaskedLM", "fill-mask"),
        ("XLMWithLMHeadModel", "fill-mask"),
        ("ModernBertModel", "feature-extraction"),
        ("GPT2LMHeadModel", "text-generation"),
        ("LlamaForCausalLM", "text-generation"),
        ("T5ForConditionalGeneration", "text2text-generation"),
        ("MarianMTModel", "text2text-generation"),
    ],
)
def test_task_follows_from_the_architecture(architecture: str, task: str) -> None:
    """The ending of the class name says it."""
    assert infer_task([architecture], where="m").name == task


def test_architecture_of_a_task_that_edgekit_lacks_is_refused() -> None:
    """Instead of being exported as something else."""
    with pytest.raises(SourceError, match="SpeechT5ForTextToSpeech is for a task"):
        infer_task(["SpeechT5ForTextToSpeech"], where="m")


def test_unknown_architecture_is_refused() -> None:
    """Code that transformers does not have needs trust or another version."""
    with pytest.raises(SourceError, match="BrandNewForSomething is not part of transformers"):
        infer_task(["BrandNewForSomething"], where="m")


def test_config_without_architecture_asks_for_the_task() -> None:
    """Nothing is guessed."""
    with pytest.raises(ConfigError, match="does not say") as caught:
        infer_task([], where="m")
    assert "--task" in str(caught.value.hint)


def test_task_of_another_kind_is_not_loadable() -> None:
    """A custom task is for modules."""
    with pytest.raises(SourceError, match="task custom"):
        loadable_task("custom")


@pytest.mark.parametrize(
    ("name", "narrower"),
    [
        ("translation_en_to_de", "translation_en_to_de"),
        ("Translation", "translation"),
        ("summarization", "summarization"),
        ("text2text-generation", None),
    ],
)
def test_names_of_what_a_text_becomes(name: str, narrower: str | None) -> None:
    """All of them are one task; what they say beyond it is kept."""
    assert canonical_task(name) == "text2text-generation"
    assert narrower_task(name) == narrower
