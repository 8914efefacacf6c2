"""What many generations leave behind: nothing."""

from __future__ import annotations

import gc
import tracemalloc
from contextlib import closing
from pathlib import Path
from typing import Any, cast

import pytest

import edgekit
from edgekit.runtime.model import Model
from edgekit.runtime.timing import resident_bytes

pytestmark = pytest.mark.slow

FIRST, ALL = 50, 300
# A cache of the tiny decoder takes 25 kB, its scores of one step 1 kB: what each generation left
# would be seen many times over.
HELD = 256 << 10
RESIDENT = 16 << 20


def generate(model: Model, count: int) -> None:
    """So many answers: greedy, drawn, by beams, of batches, and streams that nobody finishes."""
    for number in range(count):
        prompt = "to the ferry " * (1 + number % 4)
        kind = number % 5
        if kind == 0:
            model(prompt, max_new_tokens=6)
        elif kind == 1:
            model([prompt, "a"], max_new_tokens=6, temperature=2.0, seed=number)
        elif kind == 2:
            model(prompt, max_new_tokens=4, num_beams=3)
        elif kind == 3:
            "".join(model.stream(prompt, max_new_tokens=6))
        else:
            with closing(cast(Any, model.stream(prompt, max_new_tokens=20))) as pieces:
                next(pieces, None)


@pytest.mark.parametrize("engine", ["onnxruntime", "openvino"])
def test_memory_is_flat_over_generations(generator: Path, engine: str) -> None:
    """After 300 no more is held than after 50, by Python and numpy, nor by the engine."""
    with edgekit.load(generator, engine=engine, threads=1) as model:
        generate(model, 5)
        tracemalloc.start()
        try:
            generate(model, FIRST)
            gc.collect()
            held, resident = tracemalloc.get_traced_memory()[0], resident_bytes()
            generate(model, ALL - FIRST)
            gc.collect()
            more, later = tracemalloc.get_traced_memory()[0], resident_bytes()
        finally:
            tracemalloc.stop()
    assert more - held < HELD
    if resident is not None and later is not None:
        assert later - resident < RESIDENT
