"""What engines keep between steps, beside arrays that go in and out."""

from __future__ import annotations

import gc
import weakref
from pathlib import Path
from threading import Thread

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from onnx import TensorProto, helper

from edgekit.core.errors import InputMismatch, SessionError
from edgekit.core.manifest import Component, TensorSpec
from edgekit.graph.decoders.grouping import group_attention
from edgekit.runtime.caches import (
    CAPACITY,
    PlainDecoding,
    buffered,
    cache_pairs,
    check_places,
    empty_cache,
    past_name,
    start_decoding,
)
from edgekit.runtime.engines import _onnxruntime_caches, find_engine
from edgekit.runtime.engines.onnxruntime import OnnxRuntimeSession, graph_specs
from edgekit.runtime.session import Session
from tests.generation_models import decoder, exported_decoder

IDS = np.array([[3, 5, 7, 9, 11, 13], [4, 6, 8, 10, 12, 14]])


def opened(folder: Path, graph: onnx.ModelProto, name: str) -> Session:
    """A graph on an engine."""
    onnx.save(graph, folder / "model.onnx")
    inputs, outputs = graph_specs(folder / "model.onnx")
    engine = find_engine(name)
    return engine.open_session(
        folder,
        Component("onnx", ("model.onnx",), inputs, outputs),
        options=dict(engine.EXACT_OPTIONS),
        device="cpu",
        threads=1,
    )


def with_buffers(*, answer: str | None = None) -> onnx.ModelProto:
    """The tiny decoder with its cache in buffers; ``answer`` renames an axis of what it answers."""
    model = ir.serde.deserialize_model(decoder())
    assert group_attention(model, CAPACITY) == 2
    graph = ir.serde.serialize_model(model)
    if answer is not None:
        graph.graph.output[0].type.tensor_type.shape.dim[1].dim_param = answer
    return graph


@pytest.fixture(scope="module", params=["onnxruntime", "onnxruntime, buffers", "openvino"])
def session(tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> Session:
    """The tiny decoder on an engine."""
    name, _, buffers = request.param.partition(", ")
    graph = with_buffers() if buffers else decoder()
    return opened(tmp_path_factory.mktemp("caches"), graph, name)


@pytest.fixture
def buffers(tmp_path: Path) -> OnnxRuntimeSession:
    """The tiny decoder with its cache in buffers."""
    session = opened(tmp_path, with_buffers(), "onnxruntime")
    assert isinstance(session, OnnxRuntimeSession)
    return session


def feeds(start: int, end: int, rows: tuple[int, ...] = (0, 1)) -> dict[str, np.ndarray]:
    """Some tokens of the rows, behind those before them."""
    ids = IDS[list(rows), start:end]
    return {
        "input_ids": ids,
        "attention_mask": np.ones((len(ids), end), np.int64),
        "position_ids": np.tile(np.arange(start, end), (len(ids), 1)),
    }


def test_steps_are_the_whole(session: Session) -> None:
    """Tokens in any portions have the logits that they have at once, rows changed or not."""
    whole = PlainDecoding(session, 2, {}).step(feeds(0, 6))
    for decoding in (PlainDecoding(session, 2, {}), start_decoding(session, 2, {})):
        portions = [np.array(decoding.step(feeds(*part))) for part in ((0, 3), (3, 4))]
        decoding.reorder(np.array([1, 0]))
        decoding.reorder(np.array([0, 0]))
        last = np.array(decoding.step(feeds(4, 6, (1, 1))))
        decoding.close()
        decoding.close()
        np.testing.assert_allclose(np.concatenate(portions, 1), whole[:, :4], atol=1e-4)
        np.testing.assert_allclose(last, whole[[1, 1], 4:], atol=1e-4)


def test_a_run_takes_and_gives_the_cache(session: Session) -> None:
    """`run` has the graph's own inputs and outputs on every engine, state or not."""
    pairs = cache_pairs(session.inputs, session.outputs)
    empty = {spec.name: empty_cache(spec, 2) for spec, _ in pairs}
    first = session.run({**feeds(0, 4), **empty})
    assert set(first) == {spec.name for spec in session.outputs}
    assert first["present.0.key"].shape == (2, 1, 4, 8)
    second = session.run({**feeds(4, 6), **{spec.name: first[out] for spec, out in pairs}})
    whole = session.run({**feeds(0, 6), **empty})
    np.testing.assert_allclose(second["logits"], whole["logits"][:, 4:], atol=1e-4)
    np.testing.assert_allclose(second["present.1.value"], whole["present.1.value"], atol=1e-5)


SEEN = np.array([[0, 0, 0, 1, 1, 1], [1, 1, 1, 1, 1, 1]])


def padded(start: int, end: int) -> dict[str, np.ndarray]:
    """Some tokens of rows of which the first is filled up on the left."""
    places = np.maximum(SEEN.cumsum(axis=1) - 1, 0)
    return feeds(start, end) | {
        "attention_mask": SEEN[:, :end], "position_ids": places[:, start:end],
    }  # fmt: skip


@pytest.mark.parametrize(
    "portions",
    [((0, 6),), ((0, 4), (4, 5), (5, 6)), ((0, 2), (2, 5), (5, 6)), ((0, 1), (1, 2), (2, 6))],
    ids=["at once", "single tokens", "a portion of padding alone", "padding token by token"],
)
def test_padding_changes_nothing(session: Session, portions: tuple[tuple[int, int], ...]) -> None:
    """A row has the logits that it has alone, in whatever portions its batch is read."""
    alone = PlainDecoding(session, 1, {}).step(
        {
            "input_ids": IDS[:1, 3:],
            "attention_mask": np.ones((1, 3), np.int64),
            "position_ids": np.arange(3)[None],
        }
    )
    other = PlainDecoding(session, 1, {}).step(feeds(0, 6, (1,)))
    decoding = start_decoding(session, 2, {})
    got = np.concatenate([np.array(decoding.step(padded(*part))) for part in portions], 1)
    assert got.shape == (2, 6, 64)
    assert np.isfinite(got).all()
    np.testing.assert_allclose(got[:1, 3:], alone, atol=1e-4)
    np.testing.assert_allclose(got[1:], other, atol=1e-4)


def test_a_window_goes_with_its_row(tmp_path: Path) -> None:
    """What a row does not see any more is counted from its own tokens."""
    plain = exported_decoder(shared=2, rotated=True, size=16, window=2)
    model = ir.serde.deserialize_model(plain)
    assert group_attention(model, CAPACITY, 64) == 2
    found = []
    for name, graph in (("plain", plain), ("buffers", ir.serde.serialize_model(model))):
        (tmp_path / name).mkdir()
        decoding = start_decoding(opened(tmp_path / name, graph, "onnxruntime"), 2, {})
        steps = [np.array(decoding.step(padded(*part))) for part in ((0, 4), (4, 5), (5, 6))]
        found.append(np.concatenate(steps, 1))
    np.testing.assert_allclose(found[1][:, 3:], found[0][:, 3:], rtol=1e-4, atol=1e-4)


def test_a_run_gives_a_padded_cache_back(session: Session) -> None:
    """`run` has padding where it was: what was kept there, and what is new."""
    pairs = cache_pairs(session.inputs, session.outputs)
    made = session.run({**padded(0, 4), **{spec.name: empty_cache(spec, 2) for spec, _ in pairs}})
    kept = {spec.name: made[present] for spec, present in pairs}
    second = session.run({**padded(4, 6), **kept})
    whole = PlainDecoding(session, 2, {})
    np.testing.assert_allclose(second["logits"], whole.step(padded(0, 6))[:, 4:], atol=1e-4)
    for spec, present in pairs:
        assert second[present].shape == (2, 1, 6, 8)
        np.testing.assert_array_equal(second[present][:, :, :4], kept[spec.name])


def asking(graph: onnx.ModelProto) -> onnx.ModelProto:
    """The graph, which gives the logits of those tokens that it is asked for."""
    for node in graph.graph.node:
        if node.output[0] == "logits":
            node.output[0] = "logits.all"
    graph.graph.node.append(
        helper.make_node("Gather", ["logits.all", "logits_to_keep"], ["logits"], axis=1)
    )
    kept = helper.make_tensor_value_info("logits_to_keep", TensorProto.INT64, ["kept"])
    graph.graph.input.append(kept)
    graph.graph.output[0].type.tensor_type.shape.dim[1].dim_param = "kept"
    return graph


@pytest.mark.parametrize(
    "asked", [[-1], [-1, -2], [4, 0], [0, 4], [0], [1, -6], [2, 2, 5]], ids=str
)
def test_the_tokens_that_are_asked_for(tmp_path: Path, asked: list[int]) -> None:
    """In any order, from the beginning or the end; nothing is said of padding."""
    plain = opened(tmp_path, asking(decoder()), "onnxruntime")
    buffers = opened(tmp_path, asking(with_buffers()), "onnxruntime")
    pairs = cache_pairs(buffers.inputs, buffers.outputs)
    kept = {"logits_to_keep": np.array(asked)}
    whole = padded(0, 6) | kept
    empty = {spec.name: empty_cache(spec, 2) for spec, _ in pairs}
    wanted = plain.run({**whole, **empty})["logits"]
    wanted[0, np.isin(np.array(asked) % 6, (0, 1, 2))] = 0
    for got in (
        buffers.run({**whole, **empty})["logits"],
        start_decoding(buffers, 2, {}).step(whole),
    ):
        np.testing.assert_allclose(got, wanted, atol=1e-4)


@pytest.mark.parametrize("asked", [6, -7])
def test_tokens_that_are_not_there(tmp_path: Path, asked: int) -> None:
    """Rows that run alone are not answered with zeros, and nobody else is."""
    for graph in (decoder(), with_buffers()):
        session = opened(tmp_path, asking(graph), "onnxruntime")
        with pytest.raises(SessionError):
            start_decoding(session, 2, {}).step(
                padded(0, 6) | {"logits_to_keep": np.array([asked])}
            )


def test_the_last_token_of_rows_behind_others(tmp_path: Path) -> None:
    """Rows without padding run one by one there, too."""
    graphs = {"plain": decoder(), "buffers": with_buffers()}
    found = []
    for name, graph in graphs.items():
        (tmp_path / name).mkdir()
        session = opened(tmp_path / name, asking(graph), "onnxruntime")
        decoding = start_decoding(session, 2, {})
        decoding.step(feeds(0, 2) | {"logits_to_keep": np.array([1])})
        found.append(np.array(decoding.step(feeds(2, 6) | {"logits_to_keep": np.array([-1])})))
    assert found[0].shape == (2, 1, 64)
    np.testing.assert_allclose(found[1], found[0], atol=1e-4)


@pytest.mark.parametrize(
    ("mask", "words"),
    [([[1, 0, 1, 1], [1, 1, 1, 1]], "between others"), ([[0] * 4, [0] * 4], "All of the tokens")],
    ids=["gaps", "nothing"],
)
def test_steps_that_buffers_do_not_take(
    buffers: OnnxRuntimeSession, mask: list[list[int]], words: str
) -> None:
    """They are edgekit's to refuse, and are not told as ONNX Runtime's."""
    with pytest.raises(SessionError, match=words) as caught:
        buffers.decoding(2, {}).step(feeds(0, 4) | {"attention_mask": np.array(mask)})
    assert "ONNX Runtime" not in caught.value.message
    assert caught.value.hint


def test_positions_are_counted(buffers: OnnxRuntimeSession) -> None:
    """A graph with buffers goes by its own count, and who has another one is told."""
    specs = buffers.inputs, buffers.outputs
    check_places(*specs, padded(0, 6))
    check_places(*specs, padded(4, 6))
    check_places(*specs, {"position_ids": np.array([[7]])})
    other = padded(4, 6) | {"position_ids": np.array([[1, 2], [4, 9]])}
    with pytest.raises(InputMismatch, match="row 1 say 9 where attention_mask counts 5"):
        check_places(*specs, other)
    check_places(buffers.inputs, (), other)


@pytest.mark.parametrize(
    ("mask", "words"),
    [([[1, 0, 1, 1], [1, 1, 1, 1]], "between others"), ([[0] * 4, [1] * 4], "Row 1 of 2")],
    ids=["gaps", "nothing"],
)
def test_masks_that_buffers_do_not_take(
    buffers: OnnxRuntimeSession, mask: list[list[int]], words: str
) -> None:
    """A row begins with padding and goes on with tokens, of which it has some."""
    pairs = cache_pairs(buffers.inputs, buffers.outputs)
    given = feeds(0, 4) | {spec.name: empty_cache(spec, 2) for spec, _ in pairs}
    with pytest.raises(SessionError, match=words):
        buffers.run(given | {"attention_mask": np.array(mask)})


def test_a_full_row_leaves_the_others_alone(buffers: OnnxRuntimeSession) -> None:
    """A row that has no place left takes another word without looking at it; the other goes on."""
    decoding, alone = buffers.decoding(2, {}), buffers.decoding(1, {})
    decoding.step(feeds(0, 3))
    alone.step(feeds(0, 3, (1,)))
    for end in (4, 5, 6):
        seen = np.ones((2, end), np.int64)
        seen[0, 3:] = 0
        got = decoding.step(feeds(end - 1, end) | {"attention_mask": seen})
        wanted = alone.step(feeds(end - 1, end, (1,)))
        np.testing.assert_allclose(got[1:], wanted, atol=1e-4)


def test_pairs_are_those_that_change(session: Session) -> None:
    """An encoder's cache has no output in the decoder, and stays what it was."""
    specs = [*session.inputs]
    names = [spec.name for spec, _ in cache_pairs(specs, session.outputs[:3])]
    assert names == ["past_key_values.0.key", "past_key_values.0.value"]
    pairs = cache_pairs(specs, session.outputs)
    assert [past_name(output) for _, output in pairs] == [spec.name for spec, _ in pairs]


def test_wrong_feeds_are_the_engines_words(session: Session) -> None:
    """What an engine refuses comes back as a SessionError, and the session goes on."""
    decoding = start_decoding(session, 2, {})
    with pytest.raises(SessionError):
        decoding.step({**feeds(0, 2), "position_ids": np.zeros((1, 2, 3, 4))})
    decoding.close()
    assert start_decoding(session, 2, {}).step(feeds(0, 2)).shape == (2, 2, 64)


@pytest.mark.parametrize("missing", ["past_key_values.0.key", "input_ids"])
def test_missing_feeds_are_the_engines_words(buffers: OnnxRuntimeSession, missing: str) -> None:
    """A run without a cache, or without tokens, is refused as any other."""
    pairs = cache_pairs(buffers.inputs, buffers.outputs)
    given = feeds(0, 4) | {spec.name: np.zeros((2, 1, 3, 8), np.float32) for spec, _ in pairs}
    del given[missing]
    with pytest.raises(SessionError, match=missing):
        buffers.run(given)


def test_room_grows(buffers: OnnxRuntimeSession, monkeypatch: pytest.MonkeyPatch) -> None:
    """Buffers that are full are replaced by larger ones, and the answers stay."""
    monkeypatch.setattr(_onnxruntime_caches, "_ROOM", 1)
    monkeypatch.setattr(_onnxruntime_caches, "_GROWTH", 1.0)
    whole = PlainDecoding(buffers, 2, {}).step(feeds(0, 6))
    decoding = buffers.decoding(2, {})
    rooms = set()
    for start in range(6):
        got = decoding.step(feeds(start, start + 1))
        np.testing.assert_allclose(got, whole[:, start : start + 1], atol=1e-4)
        rooms.add(next(iter(decoding._buffers.values())).shape[2])
        decoding.reorder(np.array([0, 1]))
    assert rooms == {2, 4, 6}


def test_a_buffer_stays_where_it_is(buffers: OnnxRuntimeSession) -> None:
    """As long as there is room, no step makes another one."""
    decoding = buffers.decoding(2, {})
    decoding.step(feeds(0, 2))
    places = [buffer.ctypes.data for buffer in decoding._buffers.values()]
    for start in range(2, 6):
        decoding.step(feeds(start, start + 1))
    assert [buffer.ctypes.data for buffer in decoding._buffers.values()] == places


def test_what_no_input_names_the_engine_measures(tmp_path: Path) -> None:
    """An answer may have axes that no input has: its memory is ONNX Runtime's then."""
    session = opened(tmp_path, with_buffers(answer="places"), "onnxruntime")
    whole = PlainDecoding(session, 2, {}).step(feeds(0, 6))
    decoding = start_decoding(session, 2, {})
    got = [np.array(decoding.step(feeds(*part))) for part in ((0, 3), (3, 4), (4, 6))]
    np.testing.assert_allclose(np.concatenate(got, 1), whole, atol=1e-4)


def test_axes_of_rows_may_have_other_names(tmp_path: Path) -> None:
    """Several tokens behind others run row by row, whatever a graph calls its rows."""
    graph = with_buffers()
    for value in graph.graph.input:
        own = {"input_ids": "b", "position_ids": "b", "attention_mask": "masked"}
        value.type.tensor_type.shape.dim[0].dim_param = own.get(value.name, "cached")
    session = opened(tmp_path, graph, "onnxruntime")
    whole = PlainDecoding(session, 2, {}).step(feeds(0, 6))
    for decoding in (PlainDecoding(session, 2, {}), start_decoding(session, 2, {})):
        got = [np.array(decoding.step(feeds(*part))) for part in ((0, 2), (2, 6))]
        np.testing.assert_allclose(np.concatenate(got, 1), whole, atol=1e-4)


def test_buffers_have_one_name_in_past_and_present() -> None:
    """An axis of that name in one of them alone says nothing."""
    past, longer = ("batch", 1, CAPACITY, 8), ("batch", 1, "total", 8)
    inputs = (TensorSpec("past_key_values.0.key", "float32", past),)
    for shape, found in ((past, inputs[0].name), (longer, None)):
        assert buffered(inputs, (TensorSpec("present.0.key", "float32", shape),)) == found
    assert buffered(inputs, ()) is None


def test_given_arrays_may_lie_in_any_order(buffers: OnnxRuntimeSession) -> None:
    """Feeds that are cut out of larger arrays are as good as others."""
    decoding, other = (start_decoding(buffers, 2, {}) for _ in range(2))
    for part in ((0, 3), (3, 5)):
        cut = {name: np.repeat(array, 2, axis=1)[:, ::2] for name, array in feeds(*part).items()}
        np.testing.assert_array_equal(decoding.step(cut), other.step(feeds(*part)))


def test_closing_lets_go(buffers: OnnxRuntimeSession) -> None:
    """A closed session leaves neither ONNX Runtime's own nor the buffers in memory."""
    decoding = buffers.decoding(2, {})
    decoding.step(feeds(0, 2))
    own = weakref.ref(buffers.opened())
    buffer = weakref.ref(next(iter(decoding._buffers.values())))
    buffers.close()
    buffers.close()
    gc.collect()
    assert own() is None
    assert buffer() is None
    with pytest.raises(SessionError, match="session is closed"):
        decoding.step(feeds(2, 3))


def test_a_closed_decoding_is_not_begun_again(buffers: OnnxRuntimeSession) -> None:
    """Its tokens are gone: a step behind them would look at nothing."""
    decoding = buffers.decoding(2, {})
    decoding.step(feeds(0, 2))
    decoding.close()
    with pytest.raises(SessionError, match="decoding is closed"):
        decoding.step(feeds(2, 3))


def test_closing_waits_for_a_step(
    buffers: OnnxRuntimeSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Buffers that are being written into are not taken away."""
    decoding = buffers.decoding(2, {})
    closing = Thread(target=buffers.close)
    held = []
    run = decoding._run

    def running(*given: object) -> np.ndarray:
        closing.start()
        closing.join(0.05)
        held.append(len(decoding._buffers))
        return run(*given)

    monkeypatch.setattr(decoding, "_run", running)
    assert decoding.step(feeds(0, 2)).shape == (2, 2, 64)
    closing.join()
    assert held == [4]
    assert not decoding._buffers
