"""Sources that generate or answer, texts and plans for the tests of their pruning."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import soundfile

import edgekit
from edgekit.core.bundle import Bundle, open_bundle
from edgekit.pruning.counting import count
from edgekit.pruning.structures import cut
from edgekit.sources.data import Samples, read_samples
from edgekit.sources.generation.answers import whole_answers
from edgekit.sources.generation.whole import whole_texts
from edgekit.sources.loaded import LoadedSource
from edgekit.sources.opening import open_source
from edgekit.sources.pruned.cutting import whole_plan
from edgekit.sources.pruned.folder import save_pruned
from edgekit.sources.pruned.plan import Plan
from edgekit.sources.sounds import compose
from tests.models import CORPUS
from tests.speech_models import save_speech_model
from tests.text_models import save_generator

CAUSAL = ("gpt2", "llama", "mistral", "qwen2", "qwen3", "gemma3")
ANSWERING = ("t5", "bart", "marian", "whisper")
# A width of random weights under which layers weigh something; T5 has its own.
_WIDE = {"bart": {"init_std": 0.15}, "marian": {"init_std": 0.15}}


def generator(folder: Path, family: str = "llama", **sizes: object) -> LoadedSource:
    """A tiny random model that generates, three layers deep, whose layers weigh something."""
    saved = save_generator(
        family, folder / "model", layers=3, **{"initializer_range": 0.15, **sizes}
    )
    return open_source(str(saved))


def stories(folder: Path, rows: int = 60) -> Path:
    """A file of texts, no two alike."""
    lines = ["text"]
    for place in range(rows):
        words = " ".join(CORPUS[:6]).replace(",", "").replace('"', "").split()
        first = 5 * place % 40
        lines.append(" ".join(words[first : first + 8 + place % 9]) + f" {place}")
    path = folder / "stories.csv"
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def read(path: Path) -> Samples:
    """The texts of a file as samples for a model that generates."""
    return read_samples(str(path), "text-generation")


def unlike(source: LoadedSource) -> Plan:
    """A plan without the second layer, that leaves each of the others something else."""
    whole = whole_plan(source)
    first, second, third = whole.layers
    heads, ffn = first.heads, first.ffn
    return replace(
        whole,
        layers=(
            replace(first, kept_ffn=tuple(range(1, ffn - 7))),
            second,
            replace(third, kept_heads=tuple(range(1, heads)), kept_ffn=tuple(range(ffn // 2))),
        ),
        kept_layers=(0, 2),
        structures=("heads", "ffn", "layers"),
    )


def alike(source: LoadedSource, *, heads: int, ffn: int, layers: tuple[int, ...]) -> Plan:
    """A plan that leaves so many of the last heads and neurons in each of some layers."""
    whole = whole_plan(source)
    rows = tuple(
        replace(
            row,
            kept_heads=tuple(range(row.heads - heads, row.heads)),
            kept_ffn=tuple(range(row.ffn - ffn, row.ffn)),
        )
        for row in whole.layers
    )
    return replace(whole, layers=rows, kept_layers=layers, structures=("heads", "ffn", "layers"))


def answering(folder: Path, family: str = "bart", **sizes: object) -> LoadedSource:
    """A tiny random model with an encoder of three layers and a decoder."""
    if family == "whisper":
        return open_source(str(save_speech_model("multilingual", folder / "model", layers=3)))
    saved = save_generator(family, folder / "model", layers=3, **{**_WIDE.get(family, {}), **sizes})
    return open_source(str(saved))


def questions(folder: Path, rows: int = 60, *, answers: bool = True) -> Path:
    """A file of texts, no two alike, and of answers to them where these are wanted."""
    read = stories(folder, rows).read_text(encoding="utf-8").splitlines()[1:]
    lines = ["source,target" if answers else "source"]
    for text in read:
        words = text.split()
        lines.append(
            f"{text},{' '.join(reversed(words[: 3 + len(words) % 5]))}" if answers else text
        )
    path = folder / ("questions.csv" if answers else "unanswered.csv")
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def sounds(folder: Path, rows: int = 60) -> Path:
    """A file that names sounds of half a second, no two alike."""
    folder.mkdir(exist_ok=True)
    lines = ["audio"]
    for seed in range(rows):
        soundfile.write(folder / f"{seed}.wav", compose(8_000, seed), 16_000)
        lines.append(f"{seed}.wav")
    path = folder / "sounds.csv"
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def asked(path: Path) -> Samples:
    """The texts or sounds of a file as samples for a model that answers."""
    heard = path.name == "sounds.csv"
    task = "automatic-speech-recognition" if heard else "text2text-generation"
    return read_samples(str(path), task)


def written(source: LoadedSource, plan: Plan, folder: Path) -> LoadedSource:
    """A source cut by a plan, written, and opened again."""
    folder.mkdir()
    save_pruned(source, cut(source, plan), plan, folder)
    return open_source(str(folder))


def check_stated(source: LoadedSource, opened: LoadedSource, bundle: Bundle) -> None:
    """The bundle of a pruned source says what it was made of, and that there is less of it."""
    stated = bundle.manifest.source
    assert stated is not None
    assert stated.origin.sha256 == source.sha256
    assert stated.sha256 == opened.sha256
    whole = whole_answers if source.parts else whole_texts
    before, after = whole(source), whole(opened)
    assert stated.parameters == count(after).parameters < source.parameters
    assert count(after, before.sample_inputs).flops < count(before).flops


def check_saved(original: Path, source: LoadedSource, opened: LoadedSource, bundle: Bundle) -> None:
    """The bundle of a pruned source is smaller by what was cut than one of the original folder."""
    whole = original.with_name("whole")
    edgekit.export(str(original), whole)
    saved = open_bundle(whole).bytes() - bundle.bytes()
    assert saved >= 4 * (source.parameters - opened.parameters) * 0.95
