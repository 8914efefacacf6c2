"""What an answer costs: `smollm2` by our loop on both engines, beside transformers' generate.

``python -m benchmarks.generation [--rounds N] [--precisions f32,int8,int4] [--many N]``. Every
contender is a process of its own that waits between its turns; in a round each of them, in random
order, answers a prompt of 128 tokens with 64 more, greedily. Told are the time to the first token
and the tokens per second after it, as ratios to eager PyTorch in float32 with its dynamic cache,
the part of a step that our loop takes outside the engine, and the memory after many short answers.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

import edgekit
from benchmarks.measure import Times, compare, factor, median, report, shown
from benchmarks.zoo import fetch
from edgekit.runtime.rows import PASSAGE

PROMPT = 128
NEW = 64
EAGER = "PyTorch eager f32"
THREADS = 2
_TARGETS = {"ONNX Runtime": "host", "OpenVINO": "openvino-cpu"}
_BITS = {"int8": 8, "int4": 4}


def make_bundles(source: Path, folder: Path, precisions: Sequence[str]) -> dict[str, Path]:
    """A bundle for each engine and precision, and why there is none where there is none."""
    made: dict[str, Path] = {}
    exported = edgekit.export(str(source), folder / "exported").output
    for name, target in _TARGETS.items():
        for precision in precisions:
            output = folder / f"{target}-{precision}"
            try:
                if precision == "f32" and target == "host":
                    # ONNX Runtime optimises it when it is loaded.
                    output = exported
                elif precision == "f32":
                    # OpenVINO's own choice would be bf16 where the CPU has it.
                    exact = ["options.openvino.precision_hint=f32"]
                    edgekit.compile(exported, output, target=target, overrides=exact)
                elif precision == "bf16" and target == "host":
                    # ONNX Runtime computes in the types that the graph holds.
                    continue
                elif precision == "bf16":
                    edgekit.compile(exported, output, target=target)
                else:
                    edgekit.quantize(
                        exported, output, target=target, method="weight-only",
                        bits=_BITS[precision], allow_slower=True, keep=True,
                    )  # fmt: skip
            except edgekit.EdgekitError as error:
                print(f"{name} {precision}: {error.message}", file=sys.stderr)
                if not output.is_dir():
                    continue
            made[f"{name} {precision}"] = output
    return made


class Contender:
    """A process that answers once each time it is told to."""

    def __init__(self, kind: str, path: Path) -> None:
        environment = {**os.environ, "OMP_NUM_THREADS": str(THREADS), "OMP_WAIT_POLICY": "PASSIVE"}
        self._process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.generation", "--child", kind, str(path)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment,
        )  # fmt: skip

    def ask(self, what: str) -> dict[str, Any]:
        """What it measured of one answer, or of as many short ones as `what` says."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(what + "\n")
        self._process.stdin.flush()
        told: dict[str, Any] = json.loads(self._process.stdout.readline())
        return told

    def close(self) -> None:
        """End the process."""
        self._process.communicate()


def resident() -> int:
    """The bytes of memory that this process holds now."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmRSS"):
            return int(line.split()[1]) * 1024
    return 0


def child(kind: str, path: Path) -> None:
    """Answer for every line of standard input; a line of JSON each."""
    answer = _eager(path) if kind == "eager" else _ours(path)
    answer(8)
    for line in sys.stdin:
        word = line.strip()
        if word == "answer":
            print(json.dumps(answer(NEW)), flush=True)
            continue
        # Memory: the first tenth fills what engines keep.
        count = int(word)
        before = 0
        for number in range(count):
            if number == count // 10:
                before = resident()
            answer(4)
        print(json.dumps({"before": before, "after": resident()}), flush=True)


def _told(begin: float, marks: Sequence[float], inside: float = 0.0) -> dict[str, Any]:
    """Milliseconds to the first token and of the steps after it; ``inside`` are the engine's."""
    steps = np.diff(np.array(marks)) * 1e3
    return {
        "first": (marks[0] - begin) * 1e3,
        "steps": steps.tolist(),
        "outside": 1 - inside * 1e3 / steps.sum() if len(steps) else 0.0,
    }


def _ours(path: Path) -> Callable[[int], dict[str, Any]]:
    from edgekit.runtime import caches
    from edgekit.runtime.generation import decoder as decoders
    from edgekit.runtime.generation.loop import Row, steps
    from edgekit.runtime.generation.options import Options
    from edgekit.runtime.generation.pieces import Stops

    model = edgekit.load(path, threads=THREADS)
    predictor: Any = model.predictor
    prompt = predictor.tokenizer.encode(PASSAGE).ids[:PROMPT]
    spent = [0.0]

    class Timed:
        """A decoding whose steps are added up."""

        def __init__(self, inner: caches.Decoding) -> None:
            self._inner = inner
            self.close = inner.close

        def step(self, feeds: Mapping[str, Any]) -> Any:
            begin = time.perf_counter()
            try:
                return self._inner.step(feeds)
            finally:
                spent[0] += time.perf_counter() - begin

    decoders.start_decoding = lambda *words: Timed(caches.start_decoding(*words))  # type: ignore

    def answer(count: int) -> dict[str, Any]:
        row = Row(prompt, len(prompt) + count)
        # Never the end: every contender makes as many tokens.
        rules = predictor.rules.__class__(**{**vars(predictor.rules), "eos": ()})
        begin = time.perf_counter()
        marks: list[float] = []
        inside: list[float] = []
        growing = steps(
            predictor.decoder, [row], {}, Options(), rules, Stops(predictor.tokenizer, ())
        )
        for _ in growing:
            marks.append(time.perf_counter())
            inside.append(spent[0])
        return _told(begin, marks, inside[-1] - inside[0])

    return answer


def _eager(path: Path) -> Callable[[int], dict[str, Any]]:
    import torch
    import transformers

    torch.set_num_threads(THREADS)
    model = transformers.AutoModelForCausalLM.from_pretrained(path, dtype=torch.float32).eval()
    tokenizer = transformers.AutoTokenizer.from_pretrained(path)
    prompt = torch.tensor([tokenizer(PASSAGE)["input_ids"][:PROMPT]])

    class Marks(transformers.generation.BaseStreamer):  # type: ignore[misc]
        """When each token came."""

        def __init__(self) -> None:
            self.marks: list[float] = []

        def put(self, value: Any) -> None:
            self.marks.append(time.perf_counter())

        def end(self) -> None:
            pass

    def answer(count: int) -> dict[str, Any]:
        marks = Marks()
        begin = time.perf_counter()
        with torch.inference_mode():
            model.generate(
                prompt, attention_mask=torch.ones_like(prompt), do_sample=False, streamer=marks,
                max_new_tokens=count, min_new_tokens=count,
            )  # fmt: skip
        # The prompt is the first that a streamer is given.
        return _told(begin, marks.marks[1:])

    return answer


def measure(
    paths: Mapping[str, tuple[str, Path]], rounds: int, many: int
) -> tuple[dict[str, object], list[str]]:
    """Ratios of every contender to eager, what is outside the engine, and memory."""
    first: Times = {name: [] for name in paths}
    after: Times = {name: [] for name in paths}
    outside: dict[str, list[float]] = {name: [] for name in paths}
    memory: dict[str, dict[str, Any]] = {}
    order = random.Random(0)
    contenders = {name: Contender(*how) for name, how in paths.items()}
    try:
        for _ in range(rounds):
            for name in order.sample(sorted(contenders), len(contenders)):
                told = contenders[name].ask("answer")
                first[name].append(np.array([told["first"]]))
                after[name].append(np.array(told["steps"]))
                outside[name].append(told["outside"])
        for name, contender in contenders.items():
            if many and name != EAGER:
                memory[name] = contender.ask(str(many))
    finally:
        for contender in contenders.values():
            contender.close()
    figures: dict[str, object] = {}
    lines: list[str] = []
    for name in paths:
        speed, wait = compare(after, EAGER, name), compare(first, EAGER, name)
        grown = memory.get(name)
        figures[name] = {
            "tokens_per_second": 1e3 / median(after, name),
            "first_ms": median(first, name),
            "speed": [speed.value, speed.low, speed.high],
            "first": [wait.value, wait.low, wait.high],
            "outside": float(np.median(outside[name])) if name != EAGER else None,
            "grown_bytes": None if grown is None else grown["after"] - grown["before"],
        }
        line = (
            f"{name}: {1e3 / median(after, name):.1f} tokens/s (×{shown(speed)}), first token"
            f" {median(first, name):.0f} ms (×{shown(wait)})"
        )
        if name != EAGER:
            line += f", outside the engine {100 * float(np.median(outside[name])):.1f} %"
        if grown is not None:
            line += f", {(grown['after'] - grown['before']) / 1e6:+.1f} MB over {many} answers"
        lines.append(line)
    return figures, lines


def rows(found: Mapping[str, Any]) -> list[tuple[object, ...]]:
    """(what, tokens per second, against eager, first token, against eager) for README's table."""
    return [
        (
            name,
            f"{one['tokens_per_second']:.1f}",
            factor(one["speed"]),
            f"{one['first_ms']:.0f} ms",
            factor(one["first"]),
        )
        for name, one in found.items()
    ]


def main() -> None:
    """Measure and report."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=12)
    parser.add_argument("--precisions", default="f32,bf16,int8,int4")
    parser.add_argument("--many", type=int, default=1000, help="short answers for the memory")
    parser.add_argument(
        "--bundles", type=Path, help="folder where bundles are kept, or lie already"
    )
    parser.add_argument("--child", nargs=2, help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    os.environ["HF_HUB_OFFLINE"] = "1"
    if chosen.child:
        child(chosen.child[0], Path(chosen.child[1]))
        return
    source = fetch("smollm2")
    with tempfile.TemporaryDirectory(prefix="edgekit-generation-") as name:
        folder = chosen.bundles or Path(name)
        made = make_bundles(source, folder, chosen.precisions.split(","))
        paths = {EAGER: ("eager", source), **{key: ("ours", path) for key, path in made.items()}}
        figures, lines = measure(paths, chosen.rounds, chosen.many)
    report("generation", figures, lines)


if __name__ == "__main__":
    main()
