"""`validate`, `compile` and `bench` on sounds: the bundle and the origin, each with its own."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import soundfile

import edgekit
from edgekit.core.bundle import open_bundle
from edgekit.core.measurements import ValidateResult
from edgekit.runtime.workloads import make_workloads
from edgekit.sources.sounds import compose
from tests.sound_models import LABELS
from tests.test_sounds import RATE, exported


def recordings(folder: Path, count: int = 60, *, start: int = 0) -> list[Path]:
    """Sounds of several rates and formats in folders that are called as classes."""
    found = []
    for number in range(start, start + count):
        path = folder / LABELS[number % 5] / f"{number}.{('wav', 'flac')[number % 2]}"
        path.parent.mkdir(parents=True, exist_ok=True)
        rate = (RATE, 44_100, 8_000)[number % 3]
        soundfile.write(path, compose(rate // 2 + 37 * number, number, rate), rate)
        found.append(path)
    return found


@pytest.mark.slow
@pytest.mark.parametrize("family", ["wav2vec2-masked", "ast"])
def test_classes_are_compared(family: str, shared: Path, tmp_path: Path) -> None:
    """An export answers as its origin, on folders of classes."""
    source, bundle = exported(shared, family)
    recordings(tmp_path / "calls")
    found = edgekit.validate(
        bundle, reference=str(source), data=str(tmp_path / "calls"), latency=False,
        max_drop="20pt",
    )  # fmt: skip
    assert found.accuracy is not None
    assert (found.accuracy.metric, found.accuracy.drop) == ("accuracy", 0.0)
    assert found.accuracy.samples >= 30
    assert found.numerics["logits"].max_abs < 1e-3


@pytest.mark.slow
def test_transcriptions_are_compared(shared: Path, tmp_path: Path) -> None:
    """By word errors, long recordings in pieces; without labels by agreement."""
    source, bundle = exported(shared, "wav2vec2-ctc-masked")
    paths = recordings(tmp_path / "calls")
    soundfile.write(paths[0], compose(33 * RATE, 5), RATE)
    rows = []
    with edgekit.load(bundle) as model:
        for number, path in enumerate(paths):
            said: Any = model(path)
            # Some transcripts are not what the model hears.
            text = f"{said['text']} never" if number % 4 == 0 else said["text"]
            rows.append({"audio": str(path.relative_to(tmp_path)), "transcription": text or "none"})
    data = tmp_path / "calls.jsonl"
    data.write_text("\n".join(map(json.dumps, rows)))
    found = judged(bundle, source, data)
    assert found.accuracy is not None
    assert found.accuracy.metric == "wer"
    assert 0 < found.accuracy.reference < 1
    assert found.accuracy.drop == 0
    assert found.numerics["logits"].max_abs < 1e-3
    data.write_text("\n".join(json.dumps({"audio": row["audio"]}) for row in rows))
    agreed = judged(bundle, source, data)
    assert agreed.accuracy is not None
    assert (agreed.accuracy.metric, agreed.accuracy.candidate) == ("word-agreement", 1.0)


def judged(bundle: Path, source: Path, data: Path) -> ValidateResult:
    """A validation that may end without a verdict: too few words for a bound, nothing else."""
    try:
        return edgekit.validate(
            bundle, reference=str(source), data=str(data), latency=False, max_drop="20pt"
        )
    except edgekit.BudgetNotMet as error:
        found = error.result
    assert isinstance(found, ValidateResult)
    assert found.verdict == "inconclusive"
    return found


@pytest.mark.slow
def test_fixed_sizes(shared: Path, tmp_path: Path) -> None:
    """One row of two seconds: what is shorter is filled up, what is longer read in pieces."""
    source, free = exported(shared, "wav2vec2-ctc-masked")
    fixed = edgekit.export(
        str(source), tmp_path / "fixed", static={"batch": 1, "samples": 2 * RATE}
    ).output
    waves = [compose(length, length) for length in (RATE, 2 * RATE, 5 * RATE + 3)]
    items: list[Any] = [(wave, RATE) for wave in waves]
    with edgekit.load(free) as one, edgekit.load(fixed) as other:
        expected: Any = one(items, chunk_length_s=2, stride_length_s=0.33)
        found: Any = other(items)
    assert [one["text"] for one in found] == [one["text"] for one in expected]


@pytest.mark.slow
def test_what_fixed_sizes_cost_is_found_out(shared: Path, tmp_path: Path) -> None:
    """A model without a mask hears what fills it up: equal feeds are answered alike, speech not."""
    source, _ = exported(shared, "wav2vec2-ctc")
    fixed = edgekit.export(
        str(source), tmp_path / "fixed", static={"batch": 1, "samples": 2 * RATE}
    ).output
    paths = recordings(tmp_path / "calls")
    data = tmp_path / "calls.csv"
    data.write_text("\n".join(["audio", *(str(path.relative_to(tmp_path)) for path in paths)]))
    with pytest.raises(edgekit.BudgetNotMet) as caught:
        edgekit.validate(
            fixed, reference=str(source), data=str(data), latency=False, max_drop="5pt"
        )
    found = caught.value.result
    assert isinstance(found, ValidateResult)
    assert found.verdict == "fail"
    assert found.accuracy is not None
    assert found.accuracy.metric == "word-agreement"
    assert found.accuracy.candidate < 0.9
    assert found.numerics["logits"].max_abs < 1e-3
    assert any("hears what fills it up" in note for note in found.notes)


@pytest.mark.slow
def test_compiled_and_benched(shared: Path, tmp_path: Path) -> None:
    """For both engines; a bench tells how long the sounds are, and the real-time factor."""
    _, bundle = exported(shared, "wav2vec2-ctc")
    compiled = edgekit.compile(bundle, tmp_path / "ov", target="openvino-cpu").output
    wave = compose(RATE, 3)
    with edgekit.load(bundle) as one, edgekit.load(compiled) as other:
        assert one((wave, RATE)) == other((wave, RATE))
    workload = make_workloads(open_bundle(bundle), batch=2)[0]
    assert workload.seconds == 5
    row = edgekit.bench([bundle], processes=2, budget=2).contenders[0]
    assert row.audio_seconds == 5
    assert row.p50_ms is not None
    assert row.real_time_factor == pytest.approx(row.p50_ms / 5_000)


@pytest.mark.slow
def test_workloads_of_data(shared: Path, tmp_path: Path) -> None:
    """Sounds as they are; of a batch without a mask as long as the shortest."""
    from edgekit.evaluation.media import prepared_batches
    from edgekit.sources.data import read_samples

    recordings(tmp_path / "calls", 8)
    for family, alike in (("wav2vec2-masked", False), ("wav2vec2", True)):
        manifest = open_bundle(exported(shared, family)[1]).manifest
        samples = read_samples(
            str(tmp_path / "calls"), manifest.task, labels=manifest.labels, pictures=True
        )
        batches = list(prepared_batches(manifest, samples, 4))
        assert len(batches) == 2
        assert all(len(feeds["input_values"]) == 4 for feeds, _ in batches)
        masks = [feeds.get("attention_mask") for feeds, _ in batches]
        assert all(mask is None for mask in masks) == alike
