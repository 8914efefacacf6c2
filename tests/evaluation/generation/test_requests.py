"""Models that generate in a bench: whole requests, token by token, beside PyTorch."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgekit.cli.commands._bench_tables import describe
from edgekit.core.bundle import Bundle, open_bundle
from edgekit.core.errors import CompileError, ConfigError
from edgekit.core.measurements import BenchResult
from edgekit.core.results import to_json
from edgekit.core.tolerance import TOLERANCES
from edgekit.evaluation.attached import read_attached
from edgekit.evaluation.contenders import ReferenceSource
from edgekit.evaluation.generation.requests import GeneratingReference
from edgekit.evaluation.latency import bench
from edgekit.evaluation.measuring import Measuring
from edgekit.evaluation.natural import data_requests
from edgekit.evaluation.said import compare_said
from edgekit.pipeline.fitting import on_engine
from edgekit.pipeline.timing import plan_timing
from edgekit.reporting.markdown import render_markdown
from edgekit.runtime import bench as alone
from edgekit.runtime.contenders import BundleContender, OpenBundle
from edgekit.runtime.generation.answering import FIRST, TOKENS
from edgekit.runtime.generation.requests import request_workloads
from edgekit.runtime.scenarios import make_scenario
from edgekit.sources.families import ENGINES
from tests.conftest import make_once
from tests.runtime.conftest import linear_graph, write_bundle
from tests.runtime.generation.conftest import write_generator
from tests.schemas import check_schema_of

SHORT = Measuring(budget=0.4, processes=2, threads=1, warm_seconds=0.05, new_tokens=6)


def requests(result: BenchResult) -> list[tuple[str, int, object, int | None]]:
    """Who was measured at what."""
    return [(row.name, row.batch, row.length, row.new_tokens) for row in result.contenders]


def test_bundles_are_asked_for_whole_answers(tmp_path: Path) -> None:
    """Each row has its first token and those after it; ratios of both stand beside."""
    first = write_generator(tmp_path / "one")
    second = write_generator(tmp_path / "two")
    lengths = (8, 20)
    result = bench([first.path, second.path], measuring=replace(SHORT, lengths=lengths))
    assert [row.error for row in result.contenders] == [None] * 4
    assert requests(result) == [
        (name, 1, length, 6) for length in lengths for name in ("one", "two")
    ]
    for row in result.contenders:
        assert row.p50_ms is not None
        assert row.first_token_ms is not None
        assert row.token_ms is not None
        assert row.tokens_per_second is not None
        assert 0 < row.first_token_ms.p50 < row.p50_ms
        assert 0 < row.token_ms.p50 < row.p50_ms
        assert row.stages is None
        # Each of two lengths opened one of the two rounds.
        assert row.context_rss_bytes is not None
        assert row.peak_rss_bytes is not None
        assert row.context_rss_bytes > 0
    assert {(one.measure, one.length) for one in result.ratios} == {("request", 8), ("request", 20)}
    assert [(one.measure, one.length, one.a, one.b) for one in result.token_ratios] == [
        (measure, length, "one", "two")
        for length in lengths
        for measure in ("first_token", "token")
    ]
    assert result.protocol["workloads"] == [
        {"batch": 1, "length": length, "new_tokens": 6, "variants": 1} for length in lengths
    ]
    plain = to_json(result)
    check_schema_of("bench", plain)
    json.dumps(plain, allow_nan=False)
    text = describe(result)
    assert "8 tokens, 6 new tokens each" in text
    assert "first token ms" in text
    assert "each token after it" in text
    markdown = render_markdown(plain)  # type: ignore[arg-type]
    assert "Ratios of tokens" in markdown
    assert "tokens per second" in markdown


def test_answers_of_one_token_have_no_steps(tmp_path: Path) -> None:
    """There is nothing after the first."""
    bundle = write_generator(tmp_path / "one")
    result = bench([bundle.path], measuring=replace(SHORT, new_tokens=1, batches=(2,)))
    (row,) = result.contenders
    assert (row.error, row.batch, row.new_tokens, row.token_ms) == (None, 2, 1, None)
    assert row.first_token_ms is not None
    assert row.tokens_per_second is None
    check_schema_of("bench", to_json(result))


@pytest.mark.parametrize("name", ["offline", "server", "sparse"])
def test_every_scenario_asks_for_whole_answers(tmp_path: Path, name: str) -> None:
    """On the device, too; what it tells is attached elsewhere."""
    bundle = write_generator(tmp_path / "one")
    more: dict[str, Any] = {
        "offline": {"streams": 2}, "server": {"qps": 50.0}, "sparse": {"interval": 0.01},
    }[name]  # fmt: skip
    result = alone.measure_alone(
        bundle.path, lengths=[8], new_tokens=4, budget=0.1, processes=1, threads=1,
        scenario=make_scenario(name, **more),
    )  # fmt: skip
    (row,) = result.contenders
    assert row.first_token_ms is not None
    assert row.token_ms is not None
    assert "4 new tokens: the first after" in alone.table(result)
    plain = to_json(result)
    check_schema_of("bench", plain)
    file = tmp_path / "result.json"
    file.write_text(json.dumps(plain))
    assert read_attached(file).contenders == result.contenders


def test_what_cannot_be_asked_for_is_refused(tmp_path: Path) -> None:
    """Before anything is started, with what would be right."""
    made = write_generator(tmp_path / "one").path
    other = write_bundle(tmp_path / "linear", linear_graph(), task="custom").path
    source = ReferenceSource("somewhere")
    for paths, reference, asked, also, fact in (
        ([other], None, SHORT, (), "generates nothing"),
        ([made, other], None, SHORT, (), "gives none of that kind"),
        ([made], None, replace(SHORT, lengths=(95,)), (), "tokens; the context"),
        ([made], None, replace(SHORT, new_tokens=96), (), "--max-new-tokens is 96"),
        ([made], source, SHORT, ("compile",), "single inferences"),
        ([made], ReferenceSource("model.onnx"), SHORT, (), "no PyTorch model"),
    ):
        with pytest.raises(ConfigError, match=fact):
            bench(paths, reference, asked, also=also)  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="should be at least 1"):
        alone.measure_alone(made, new_tokens=0)
    assert alone.main([str(other), "--max-new-tokens", "3"]) == 2


def decoder_of(folder: Path) -> None:
    """A small random Llama and its bundle."""
    import edgekit
    from tests.text_models import save_generator

    edgekit.export(str(save_generator("llama", folder / "source")), folder / "bundle")


def translator_of(folder: Path) -> None:
    """A small random T5 and its bundle."""
    import edgekit
    from tests.text_models import save_generator

    edgekit.export(str(save_generator("t5", folder / "source")), folder / "bundle")


def listener_of(folder: Path) -> None:
    """A small random Whisper and its bundle."""
    import edgekit
    from tests.speech_models import save_speech_model

    edgekit.export(str(save_speech_model("multilingual", folder / "source")), folder / "bundle")


MODELS: dict[str, Callable[[Path], None]] = {
    "decoder": decoder_of, "seq2seq": translator_of, "speech": listener_of,
}  # fmt: skip


def exported(shared: Path, mode: str) -> tuple[Path, Bundle]:
    """The source and the bundle of a mode, made once."""
    folder = make_once(shared / f"generating-{mode}", lambda made: MODELS[mode](made))
    return folder / "source", open_bundle(folder / "bundle")


@pytest.mark.slow
@pytest.mark.parametrize("mode", list(MODELS))
def test_both_say_the_same(mode: str, shared: Path, tmp_path: Path) -> None:
    """transformers' generate and the runtime's loop, on both engines, for two rows at a time."""
    from edgekit.sources.opening import open_reference

    source, bundle = exported(shared, mode)
    lengths = None if mode == "speech" else (12,)
    workloads = request_workloads(bundle, batches=(1, 2), lengths=lengths, new_tokens=20)
    reference = GeneratingReference(open_reference(str(source), task=bundle.manifest.task))
    wanted = [reference.answer(one) for one in workloads]
    timed = reference.request(workloads[1])
    assert timed()[FIRST] == pytest.approx(wanted[1][FIRST])
    assert [len(marks) for marks in timed.taken()] == [21]
    for engine in ENGINES:
        own = on_engine(bundle, engine, tmp_path / engine, CompileError)
        opened = BundleContender(own.path, 2).open()
        assert isinstance(opened, OpenBundle)
        given = [opened.answer(one) for one in workloads]
        opened.model.close()
        said = compare_said(wanted, given, TOLERANCES["fp32"])
        assert said is not None
        assert said.same == said.count == 60, engine
        for ours, theirs in zip(wanted, given, strict=True):
            assert ours[FIRST] == pytest.approx(theirs[FIRST], abs=1e-3)
            assert np.array_equal(ours[TOKENS], theirs[TOKENS])
    if mode == "speech":
        assert workloads[0].seconds == pytest.approx(2.0)


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["decoder", "speech"])
def test_the_original_is_asked_for_the_same(mode: str, shared: Path, tmp_path: Path) -> None:
    """`generate` comes first, is `a` of every ratio, and nobody is disqualified."""
    source, bundle = exported(shared, mode)
    own = on_engine(bundle, "openvino", tmp_path / "openvino", CompileError)
    lengths = None if mode == "speech" else (12,)
    result = bench(
        [bundle.path, own.path], ReferenceSource(str(source)), replace(SHORT, lengths=lengths)
    )
    assert [row.error for row in result.contenders] == [None] * 3
    assert [row.engine for row in result.contenders] == ["pytorch", "onnxruntime", "openvino"]
    assert {one.a for one in (*result.ratios, *result.token_ratios)} == {"pytorch"}
    assert len(result.token_ratios) == 4
    assert all(row.first_token_ms is not None for row in result.contenders)
    heard = [row.real_time_factor is not None for row in result.contenders]
    assert heard == [mode == "speech"] * 3
    assert not [note for note in result.notes if "tokens" in note]
    check_schema_of("bench", to_json(result))


@pytest.mark.slow
def test_validate_times_whole_answers(shared: Path) -> None:
    """Also of an encoder and a decoder, of which no single run says what an answer takes."""
    _, bundle = exported(shared, "seq2seq")
    planned = plan_timing(
        bundle, batch=None, length=None, data=None, columns=None, threads=1, budget=1.0,
        processes=2, seed=0,
    )  # fmt: skip
    assert (planned.batches, planned.lengths, planned.new_tokens) == ((1,), None, None)


@pytest.mark.slow
def test_sounds_of_data_are_heard(shared: Path, tmp_path: Path) -> None:
    """Each in one window, and what fills it up is no sound."""
    import soundfile

    _, bundle = exported(shared, "speech")
    rows = []
    for number in range(64):
        wave = np.sin(np.arange(8_000 + number) * 0.05).astype(np.float32)
        soundfile.write(tmp_path / f"{number}.wav", wave, 16_000)
        rows.append(f"{number}.wav,{number}")
    table = tmp_path / "sounds.csv"
    table.write_text("audio,transcription\n" + "\n".join(rows))
    measuring = replace(SHORT, data=str(table), batches=(4,))
    (made,) = data_requests(bundle, measuring)
    assert (made.batch, made.length, len(made.variants)) == (4, None, 16)
    assert made.seconds == pytest.approx(0.5, abs=0.01)
    assert set(made.feeds) == {"input_features", "decoder_input_ids"}
    # As validate takes them: arrays tell no rate, which is the model's.
    waves = np.sin(np.outer(np.arange(64) + 9, np.arange(8_000)) * 0.005).astype(np.float32)
    np.savez(tmp_path / "d.npz", audio=waves)
    measuring = replace(measuring, data=str(tmp_path / "d.npz"))
    (same,) = data_requests(bundle, measuring)
    assert (same.batch, len(same.variants), same.seconds) == (4, 16, pytest.approx(0.5))
    waves[5, 3] = np.nan
    np.savez(tmp_path / "d.npz", audio=waves)
    with pytest.raises(ConfigError, match="Row 6 of DATA cannot be read"):
        data_requests(bundle, measuring)
