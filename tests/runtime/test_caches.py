"""What engines keep between steps, beside arrays that go in and out."""

from __future__ import annotations

import numpy as np
import onnx
import pytest

from edgekit.core.errors import SessionError
from edgekit.core.manifest import Component
from edgekit.runtime.caches import (
    PlainDecoding,
    cache_pairs,
    empty_cache,
    past_name,
    start_decoding,
)
from edgekit.runtime.engines import find_engine
from edgekit.runtime.engines.onnxruntime import graph_specs
from edgekit.runtime.session import Session
from tests.generation_models import decoder

IDS = np.array([[3, 5, 7, 9, 11, 13], [4, 6, 8, 10, 12, 14]])


@pytest.fixture(scope="module", params=["onnxruntime", "openvino"])
def session(tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> Session:
    """The tiny decoder on an engine."""
    folder = tmp_path_factory.mktemp("caches")
    onnx.save(decoder(), folder / "model.onnx")
    inputs, outputs = graph_specs(folder / "model.onnx")
    engine = find_engine(request.param)
    return engine.open_session(
        folder,
        Component("onnx", ("model.onnx",), inputs, outputs),
        options=dict(engine.EXACT_OPTIONS),
        device="cpu",
        threads=1,
    )


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
