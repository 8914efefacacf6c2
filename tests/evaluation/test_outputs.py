"""Outputs checked while contenders are timed: tolerances, weights, changes."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from edgekit.core.manifest import Component, TensorSpec
from edgekit.core.tolerance import Tolerance
from edgekit.evaluation.outputs import Known, OutputCheck
from edgekit.runtime.drift import Drift
from edgekit.runtime.records import Record
from edgekit.runtime.workloads import save_outputs

BASE = np.linspace(-1, 1, 64, dtype=np.float32)


def made(folder: Path, name: str, values: np.ndarray, output: str = "y") -> Path:
    """A child's file of outputs at two workloads."""
    path = folder / f"{name}.safetensors"
    save_outputs([{output: values}, {output: values}], path)
    return path


def reasons(
    folder: Path,
    values: np.ndarray,
    *,
    precision: str = "fp32",
    known: Known | None = None,
    output: str = "y",
    **facts: object,
) -> tuple[dict[str, str], list[str]]:
    """What is said of a contender "b" beside "a", which answers BASE in fp32."""
    check = OutputCheck("custom", {"a": Known(weights="w"), "b": known or Known()})
    records = {
        "a": Record("a", facts={"effective_precision": "fp32"}),
        "b": Record("b", facts={"effective_precision": precision, **facts}),
    }
    files = {"a": made(folder, "a", BASE), "b": made(folder, "b", values, output)}
    return check.compare(records, files), check.notes


def test_the_same_answers_pass(tmp_path: Path) -> None:
    """Small differences are those of another order of summing."""
    assert reasons(tmp_path, BASE + 1e-6) == ({}, [])


@pytest.mark.parametrize("precision", ["int8", "bf16"])
def test_the_lower_precision_decides(tmp_path: Path, precision: str) -> None:
    """What fp32 must not do, a quantized contender may."""
    noisy = BASE + np.where(np.arange(64) % 2, 0.005, -0.005).astype(np.float32)
    assert "b" in reasons(tmp_path, noisy)[0]
    assert reasons(tmp_path, noisy, precision=precision) == ({}, [])


def test_a_bundles_own_tolerance_stands_over_that_of_its_precision(tmp_path: Path) -> None:
    """It was set where the bundle was made."""
    wide = Known(tolerances={"fp32": Tolerance("max_abs", absolute=0.1)})
    assert reasons(tmp_path, BASE + np.float32(0.05), known=wide) == ({}, [])


def test_the_reason_has_its_values(tmp_path: Path) -> None:
    """Which output, how far, and what was allowed."""
    (reason,) = reasons(tmp_path, BASE + np.float32(0.5))[0].values()
    assert "output y is off from that of a by up to 0.5" in reason
    assert "fp32 allows max |Δ|" in reason


def test_another_shape_disqualifies(tmp_path: Path) -> None:
    """It is another answer, whatever the numbers."""
    (reason,) = reasons(tmp_path, BASE[:32])[0].values()
    assert "output y has another shape than that of a" in reason


def test_other_weights_are_not_compared(tmp_path: Path) -> None:
    """Two models on the same inputs may be compared for their speed; a note says so."""
    found, notes = reasons(tmp_path, -BASE, known=Known(weights="other"))
    assert found == {}
    assert "other weights" in notes[0]
    # What the child says of itself counts.
    assert "b" in reasons(tmp_path, -BASE, known=Known(weights="other"), sha256="w")[0]


def test_outputs_of_other_names_are_not_compared(tmp_path: Path) -> None:
    """A bare graph calls them as it likes."""
    found, notes = reasons(tmp_path, -BASE, output="z")
    assert found == {}
    assert "no output of one name" in notes[0]


def test_the_next_is_the_base_where_the_first_failed(tmp_path: Path) -> None:
    """Without the reference the others are still compared with each other."""
    check = OutputCheck("custom", {"pytorch": Known(), "a": Known(), "b": Known()})
    records = {name: Record(name) for name in ("pytorch", "a", "b")}
    files = {"a": made(tmp_path, "a", BASE), "b": made(tmp_path, "b", -BASE)}
    assert list(check.compare(records, files)) == ["b"]
    assert check.compare(records, {"a": files["a"]}) == {}


def test_answers_that_change_disqualify() -> None:
    """Against the process's own first ones, at the tolerance of its precision."""
    check = OutputCheck("custom", {"a": Known()})
    record = Record("a", facts={"effective_precision": "fp32"})
    record.drifts = {0: [Drift("y", 0.0, 1.0, 1.0)]}
    assert check.moved(record, 0) is None
    record.drifts[0].append(Drift("y", 0.5, 1.0, 0.9))
    reason = str(check.moved(record, 0))
    assert "changed while it was timed" in reason
    assert "output y" in reason
    assert check.moved(record, 1) is None


def test_what_was_judged_on_data_is_not_held_to_a_tolerance(tmp_path: Path) -> None:
    """Made-up inputs say little of it; that it differs on them is told."""
    judged = Known(on_data=True)
    found, notes = reasons(tmp_path, -BASE, precision="int8", known=judged)
    assert found == {}
    assert "its accuracy was judged on data" in notes[0]
    assert "b" in reasons(tmp_path, BASE * np.nan, precision="int8", known=judged)[0]
    assert "b" in reasons(tmp_path, BASE[:32], precision="int8", known=judged)[0]


@pytest.mark.parametrize("precision", ["fp32", "int4"])
def test_the_cache_of_a_rounded_decoder_is_no_answer(tmp_path: Path, precision: str) -> None:
    """It is not compared; in fp32 it is, and the logits always are."""
    past = TensorSpec("past_key_values.0.key", "float32", ("batch", 1, "past", 2))
    outputs = (TensorSpec("logits", "float32", ("batch", 64)), replace(past, name="present.0.key"))
    known = Known(components={"model": Component("onnx", ("m.onnx",), (past,), outputs)})
    check = OutputCheck("text-generation", {"a": Known(), "b": known})
    records = {
        "a": Record("a", facts={"effective_precision": "fp32"}),
        "b": Record("b", facts={"effective_precision": precision}),
    }

    def of(name: str, logits: np.ndarray, cache: np.ndarray) -> Path:
        path = tmp_path / f"{name}.safetensors"
        save_outputs([{"logits": logits, "present.0.key": cache}], path)
        return path

    base = of("a", BASE, BASE)
    found = check.compare(records, {"a": base, "b": of("b", BASE, -BASE)})
    assert ("b" in found) is (precision == "fp32")
    assert "b" in check.compare(records, {"a": base, "b": of("c", -BASE, BASE)})


def spoken(folder: Path, name: str, tokens: list[int], first: np.ndarray, gap: float) -> Path:
    """A child's file of one answer."""
    path = folder / f"{name}.safetensors"
    answer = {
        "tokens": np.array([tokens]),
        "gaps": np.full((1, len(tokens)), gap, np.float32),
        "first_logits": first[None],
    }
    save_outputs([answer], path)
    return path


@pytest.mark.parametrize(
    ("precision", "tokens", "gap", "reason", "note"),
    [
        ("fp32", [1, 2, 3], 1.0, None, None),
        ("fp32", [1, 9, 3], 1.0, "token 2 of its answer is 9 where a says 2", None),
        ("fp32", [1, 9, 3], 1e-5, None, "1 of 3 tokens"),
        ("int8", [1, 9, 3], 1.0, None, "held to the scores of the first token"),
    ],
)
def test_the_tokens_of_an_answer_are_compared(
    tmp_path: Path, precision: str, tokens: list[int], gap: float, reason: str | None,
    note: str | None,
) -> None:  # fmt: skip
    """In float32 they are the same, but where two of them are as good as equal."""
    check = OutputCheck("text-generation", {"a": Known(), "b": Known()})
    records = {
        "a": Record("a", facts={"effective_precision": "fp32"}),
        "b": Record("b", facts={"effective_precision": precision}),
    }
    files = {
        "a": spoken(tmp_path, "a", [1, 2, 3], BASE, 1.0),
        "b": spoken(tmp_path, "b", tokens, BASE, gap),
    }
    found = check.compare(records, files)
    assert (reason or "") in found.get("b", "")
    assert ("b" in found) is (reason is not None)
    assert (note or "") in " ".join(check.notes)
    assert bool(check.notes) is (note is not None)


def test_the_scores_of_the_first_token_are_within_tolerance(tmp_path: Path) -> None:
    """Also where the same tokens came of them."""
    check = OutputCheck("text-generation", {"a": Known(), "b": Known()})
    records = {name: Record(name, facts={"effective_precision": "int4"}) for name in "ab"}
    files = {
        "a": spoken(tmp_path, "a", [1], BASE, 1.0),
        "b": spoken(tmp_path, "b", [1], BASE[::-1].copy(), 1.0),
    }
    assert "output first_logits is off" in check.compare(records, files)["b"]
