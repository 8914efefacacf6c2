"""What is claimed of families is exercised by a test."""

from __future__ import annotations

from benchmarks.readme import README, between, families
from benchmarks.zoo.converters.silero_vad import FILES
from edgekit.sources.families import ENGINES, FAMILIES
from tests import (
    models,
    picture_models,
    sound_models,
    speech_models,
    test_generation,
    test_matrix,
    test_pictures,
    test_silero,
    test_speech,
    text_models,
)


def imported_on(engine: str) -> bool:
    """Whether a test of imports names the engine and runs every file of the family on it."""
    return any(
        name.startswith("test_") and engine in name and list(mark.args[1]) == list(FILES)
        for name, test in vars(test_silero).items()
        for mark in getattr(test, "pytestmark", ())
        if mark.name == "parametrize"
    )


def test_every_family_and_task_is_exercised() -> None:
    """By the matrix of texts, of pictures, of sounds or imports: all run on every engine."""
    exercised = {(model, task.split(",")[0]) for model, task in test_matrix.ROWS}
    for key in (*test_pictures.SINGLE, "clip"):
        exercised.add((key.removesuffix("-features"), picture_models.FAMILIES[key].task))
    for key, family in sound_models.FAMILIES.items():
        exercised.add((key.split("-")[0], family.task))
    for key in test_generation.ROWS:
        exercised.add((key, text_models.FAMILIES[key].task))
    if test_speech.KINDS == speech_models.KINDS and test_speech.ENGINES == ENGINES:
        exercised.add((speech_models.FAMILY, sound_models.SPEECH))
    if all(imported_on(engine) for engine in ENGINES):
        exercised.add((test_silero.ENTRY, "custom"))
    claimed = {(family.key, task) for family in FAMILIES for task in family.tasks}
    assert claimed <= exercised
    assert {family.key for family in FAMILIES} >= set(models.ARCHITECTURES)
    assert set(test_matrix.ENGINES.values()) == set(ENGINES)


def test_readme_prints_the_table() -> None:
    """The generated one."""
    text = README.read_text(encoding="utf-8")
    assert between(text, "families", families()) == text, "run: python -m benchmarks.readme"
