"""What `edgekit.load` adds to the engine, and what it saves against transformers' pipeline.

``python -m benchmarks.runtime_overhead``. Our call against raw ``session.run`` on the same arrays,
and text in → label out against tokenizers + ``session.run`` written by hand, interleaved in one
process; transformers' pipeline in processes of its own, since two thread pools disturb each other.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

import edgekit
from benchmarks.measure import Times, compare, interleaved_calls, median, report, shown
from benchmarks.models import sentiment_bundle
from benchmarks.zoo import fetch

if TYPE_CHECKING:
    from transformers import TextClassificationPipeline

# 14 word pieces and two special tokens: the 1 × 16 workload.
TEXT = "The film is a warm and funny story that nobody should miss at all"
PROCESSES = 5


def by_hand(bundle: Path) -> Times:
    """Our calls and the same written by hand, in this process."""
    os.environ["ORT_DISABLE_TELEMETRY"] = "1"
    import onnxruntime as ort
    from tokenizers import Tokenizer

    model = edgekit.load(bundle, threads=1)
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    # As the runtime opens it: what is compared is our code, not the engine's settings.
    options.add_session_config_entry("session.set_denormal_as_zero", "1")
    session = ort.InferenceSession(
        str(bundle / "model.onnx"), options, providers=["CPUExecutionProvider"]
    )
    tokenizer = Tokenizer.from_file(str(bundle / "tokenizer.json"))
    names = [spec.name for spec in session.get_inputs()]
    labels = model.labels
    if labels is None:
        raise RuntimeError("the sentiment bundle has no labels")

    def encode() -> dict[str, np.ndarray]:
        encoded = tokenizer.encode(TEXT)
        arrays = {
            "input_ids": np.array([encoded.ids], np.int64),
            "attention_mask": np.array([encoded.attention_mask], np.int64),
            "token_type_ids": np.array([encoded.type_ids], np.int64),
        }
        return {name: arrays[name] for name in names}

    def label() -> dict[str, object]:
        logits = session.run(None, encode())[0][0]
        exponents = np.exp(logits - logits.max())
        best = int(logits.argmax())
        return {"label": labels[best], "score": float(exponents[best] / exponents.sum())}

    feeds = encode()
    print(f"tokens: {feeds['input_ids'].shape[1]}", file=sys.stderr)
    return interleaved_calls(
        {
            "session.run": lambda: session.run(None, feeds),
            "session.run again": lambda: session.run(None, feeds),
            "model.run": lambda: model.run(feeds),
            "by hand": label,
            "model(text)": lambda: model(TEXT),
        },
        rounds=60,
    )


def contender(name: str) -> None:
    """One process of one contender: prints the milliseconds of its calls as JSON."""
    if name == "edgekit":
        model = edgekit.load(sentiment_bundle(), threads=2)
        times = interleaved_calls({name: lambda: model(TEXT)}, rounds=8)
    else:
        import torch
        from transformers import pipeline

        torch.set_num_threads(2)
        classify = pipeline("text-classification", model=str(fetch("minilm-sentiment")))
        if name == "transformers.pipeline":
            times = interleaved_calls({name: lambda: classify(TEXT)}, rounds=8)
        else:
            times = interleaved_calls({name: lambda: eager(classify)}, rounds=8)
    print(json.dumps([float(value) for part in times[name] for value in part]))


def eager(classify: TextClassificationPipeline) -> str:
    """Tokenizer, model and arg max by hand: what PyTorch itself needs."""
    import torch

    tokens = classify.tokenizer(TEXT, return_tensors="pt")
    with torch.inference_mode():
        logits = classify.model(**tokens).logits
    return str(classify.model.config.id2label[int(logits.argmax())])


def in_processes() -> Times:
    """edgekit, transformers' pipeline and the eager model in alternating fresh processes."""
    times: Times = {"edgekit": [], "transformers.pipeline": [], "PyTorch eager": []}
    for _ in range(PROCESSES):
        for name in times:
            done = subprocess.run(
                [sys.executable, "-m", "benchmarks.runtime_overhead", name],
                stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, check=True,
            )  # fmt: skip
            times[name].append(np.array(json.loads(done.stdout.splitlines()[-1])))
    return times


def main() -> None:
    """Measure and report."""
    if len(sys.argv) > 1:
        contender(sys.argv[1])
        return
    inside = by_hand(sentiment_bundle())
    run = compare(inside, "model.run", "session.run")
    text = compare(inside, "model(text)", "by hand")
    added = (median(inside, "model.run") - median(inside, "session.run")) * 1000
    between = in_processes()
    pipeline = compare(between, "transformers.pipeline", "edgekit")
    by_eager = compare(between, "PyTorch eager", "edgekit")
    again = compare(inside, "session.run again", "session.run")
    figures = {
        "run_over_raw": [run.value, run.low, run.high],
        "run_added_us": added,
        "text_over_by_hand": [text.value, text.low, text.high],
        "pipeline_over_edgekit": [pipeline.value, pipeline.low, pipeline.high],
        "eager_over_edgekit": [by_eager.value, by_eager.low, by_eager.high],
        "run_aa": [again.value, again.low, again.high],
    }
    lines = [
        f"model.run / session.run at 1×16: {shown(run)}, {added:+.1f} µs"
        " (limit 5 % or 30 µs, whichever is larger)",
        f"model(text) / tokenizers + session.run by hand: {shown(text)} (limit 1.1)",
        f"transformers.pipeline / model(text), 2 threads: {shown(pipeline)}",
        f"PyTorch eager with its tokenizer / model(text), 2 threads: {shown(by_eager)}",
        f"A/A, session.run against itself: {shown(again)}",
    ]
    report("runtime_overhead", figures, lines)


if __name__ == "__main__":
    main()
