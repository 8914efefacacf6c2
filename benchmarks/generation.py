"""What an answer costs: `smollm2` by our loop on both engines, beside PyTorch and its rivals.

``python -m benchmarks.generation [--rounds N] [--precisions f32,int8,int4] [--many N]``. Every
contender is a process of its own that waits between its turns, and is started anew after a third of
the rounds: where its memory lies is a matter of luck. In a round each of them, in random order,
answers the same 128 tokens with 64 more, greedily. Told are the time to the first token and
the tokens per second after it, as ratios to eager PyTorch in float32 with its dynamic cache, how
many tokens agree, the part of a step that our loop takes outside the engine, and the memory after
many short answers. onnxruntime-genai and OpenVINO GenAI take part where they are installed
(``pip install -c constraints.txt -e '.[rivals]'``, or ``make bench-generation``).
"""

from __future__ import annotations

import argparse
import os
import random
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

import edgekit
from benchmarks import rivals
from benchmarks.measure import Times, compare, factor, median, report, shown
from benchmarks.processes import THREADS, Contender, close, resident, serve, started, told, turns
from benchmarks.rivals import Answer, measured
from benchmarks.zoo import fetch
from edgekit.runtime.rows import PASSAGE

PROCESSES = 3
PROMPT = 128
NEW = 64
EAGER = "PyTorch eager f32"
# Of an answer whose memory is looked at: what grows does so with their number.
_SHORT_PROMPT, _SHORT = 16, 4
_TARGETS = {"ONNX Runtime": "host", "OpenVINO": "openvino-cpu"}
_BITS = {"int8": 8, "int4": 4}
# How onnxruntime-genai's threads wait as well: what `compile` would measure is not left to chance.
_WAITING = ("options.onnxruntime.allow_spinning=true",)


def make_bundles(source: Path, folder: Path, precisions: Sequence[str]) -> dict[str, Path]:
    """A bundle for each engine and precision, and why there is none where there is none.

    What lies in the folder already is taken as it is.
    """
    made: dict[str, Path] = {}
    exported = folder / "exported"
    if not exported.is_dir():
        told("exporting")
        edgekit.export(str(source), exported)
    for name, target in _TARGETS.items():
        for precision in precisions:
            output = folder / f"{target}-{precision}"
            if target == "host" and precision == "bf16":
                # ONNX Runtime computes in the types that the graph holds.
                continue
            if not output.is_dir():
                told(f"{name} {precision}: making the bundle")
                try:
                    _make(exported, output, target, precision)
                except edgekit.EdgekitError as error:
                    told(f"{name} {precision}: {error.message}")
            if output.is_dir():
                made[f"{name} {precision}"] = output
    return made


def _make(exported: Path, output: Path, target: str, precision: str) -> None:
    """A bundle as its target runs it best: quantized where bits are asked for, and compiled."""
    bits = _BITS.get(precision)
    if bits is None:
        asked = _WAITING if target == "host" else (f"options.openvino.precision_hint={precision}",)
        edgekit.compile(exported, output, target=target, overrides=asked, threads=THREADS)
        return
    quantized = output if target != "host" else output.with_name(f"{output.name}-quantized")
    if not quantized.is_dir():
        edgekit.quantize(
            exported, quantized, target=target, method="weight-only", bits=bits, threads=THREADS,
            allow_slower=True, keep=True,
        )  # fmt: skip
    if quantized != output:
        edgekit.compile(quantized, output, target=target, overrides=_WAITING, threads=THREADS)


def child(kind: str, path: Path) -> None:
    """Answer for every line of standard input; a line of JSON each."""
    makers: dict[str, Callable[[Path], Answer]] = {
        "eager": _eager,
        "ours": _ours,
        "ort-genai": rivals.onnxruntime_genai,
        "openvino-genai": rivals.openvino_genai,
    }

    def make() -> Callable[[Any], object]:
        answer = makers[kind](path)

        def respond(question: Any) -> object:
            prompt, count, times = (question[key] for key in ("prompt", "count", "times"))
            if times == 1:
                return answer(prompt, count)
            # Memory: the first tenth fills what engines keep.
            before = 0
            for number in range(times):
                if number == times // 10:
                    before = resident()
                answer(prompt, count)
            return {"before": before, "after": resident()}

        return respond

    serve(make)


def _ours(path: Path) -> Answer:
    from edgekit.runtime import caches
    from edgekit.runtime.generation import decoder as decoders
    from edgekit.runtime.generation.loop import Row, steps
    from edgekit.runtime.generation.options import Options
    from edgekit.runtime.generation.pieces import Stops

    model = edgekit.load(path, threads=THREADS)
    predictor: Any = model.predictor
    # Never the end: every contender makes as many tokens.
    rules = replace(predictor.rules, eos=())
    stops = Stops(predictor.tokenizer, ())
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

    def answer(prompt: Sequence[int], count: int) -> dict[str, Any]:
        row = Row(prompt, len(prompt) + count)
        begin = time.perf_counter()
        marks: list[float] = []
        inside: list[float] = []
        for _ in steps(predictor.decoder, [row], {}, Options(), rules, stops):
            marks.append(time.perf_counter())
            inside.append(spent[0])
        after = marks[-1] - marks[0]
        outside = 1 - (inside[-1] - inside[0]) / after if after else 0.0
        return {**measured(begin, marks, row.new), "outside": outside}

    return answer


def _eager(path: Path) -> Answer:
    import torch
    import transformers

    torch.set_num_threads(THREADS)
    model = transformers.AutoModelForCausalLM.from_pretrained(path, dtype=torch.float32).eval()

    class Marks(transformers.generation.BaseStreamer):  # type: ignore[misc]
        """When each token came."""

        def __init__(self) -> None:
            self.marks: list[float] = []
            self.tokens: list[int] = []

        def put(self, value: Any) -> None:
            self.marks.append(time.perf_counter())
            self.tokens.append(int(value.ravel()[-1]))

        def end(self) -> None:
            pass

    def answer(prompt: Sequence[int], count: int) -> dict[str, Any]:
        marks = Marks()
        begin = time.perf_counter()
        ids = torch.tensor([list(prompt)])
        with torch.inference_mode():
            model.generate(
                ids, attention_mask=torch.ones_like(ids), do_sample=False, streamer=marks,
                max_new_tokens=count, min_new_tokens=count,
            )  # fmt: skip
        # The prompt is the first that a streamer is given.
        return measured(begin, marks.marks[1:], marks.tokens[1:])

    return answer


def question(prompt: Sequence[int], count: int, times: int = 1) -> dict[str, object]:
    """What a contender is asked."""
    return {"prompt": list(prompt), "count": count, "times": times}


def prompt_of(source: Path) -> list[int]:
    """The tokens that everybody goes on with."""
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(source / "tokenizer.json"))
    return list(tokenizer.encode(PASSAGE).ids[:PROMPT])


def agreeing(one: Sequence[int], other: Sequence[int]) -> int:
    """How many tokens are the same, from the first on."""
    for place, (mine, theirs) in enumerate(zip(one, other, strict=False)):
        if mine != theirs:
            return place
    return min(len(one), len(other))


def remembering(made: Mapping[str, Path]) -> list[str]:
    """The contenders whose memory is looked at: of each engine the one of the fewest bits."""
    return list({name.rpartition(" ")[0]: name for name in made}.values())


class Measured:
    """What contenders answered in all rounds, whatever processes they were."""

    def __init__(self) -> None:
        self.first: Times = {}
        self.after: Times = {}
        self.outside: dict[str, list[float]] = {}
        self.said: dict[str, list[int]] = {}
        self.grown: dict[str, int] = {}
        self._order = random.Random(0)

    def ask(self, contenders: Mapping[str, Contender], prompt: Sequence[int]) -> None:
        """One round: an answer of each."""
        for name, answer in turns(contenders, self._order, question(prompt, NEW)).items():
            self.first.setdefault(name, []).append(np.array([answer["first"]]))
            self.after.setdefault(name, []).append(np.array(answer["steps"]))
            self.outside.setdefault(name, []).append(answer.get("outside", 0.0))
            self.said.setdefault(name, answer["tokens"])

    def remember(
        self, contenders: Mapping[str, Contender], prompt: Sequence[int], many: int
    ) -> None:
        """The memory of contenders over many short answers."""
        for name, contender in contenders.items():
            told(f"{name}: memory over {many} answers")
            found = contender.ask(question(prompt[:_SHORT_PROMPT], _SHORT, many))
            self.grown[name] = found["after"] - found["before"]

    def figures(self, many: int, like: Mapping[str, str]) -> dict[str, dict[str, Any]]:
        """Ratios to eager, tokens that agree, what is outside the engine, memory.

        `like` tells whose tokens a contender should say, eager's where it says nothing.
        """
        figures: dict[str, dict[str, Any]] = {}
        for name in self.after:
            speed, wait = (compare(times, EAGER, name) for times in (self.after, self.first))
            whose = like.get(name, EAGER)
            said, outside = self.said, self.outside[name]
            figures[name] = {
                "tokens_per_second": 1e3 / median(self.after, name),
                "first_ms": median(self.first, name),
                "speed": [speed.value, speed.low, speed.high],
                "first": [wait.value, wait.low, wait.high],
                "same": [agreeing(said[name], said[whose]), len(said[whose]), whose],
                "outside": float(np.median(outside)) if any(outside) else None,
                "grown_bytes": self.grown.get(name),
                "answers": many if name in self.grown else None,
            }
            told(
                f"{name}: {1e3 / median(self.after, name):.1f} tokens/s (×{shown(speed)}), first"
                f" token {median(self.first, name):.0f} ms (×{shown(wait)})"
            )
        return figures


def rows(found: Mapping[str, Any]) -> list[tuple[object, ...]]:
    """Rows of README's table: both speeds with their ratios, same tokens, the loop's own part."""
    made: list[tuple[object, ...]] = []
    for name, one in found.items():
        alone = name == EAGER
        same, count, whose = one["same"]
        told = f"{same} of {count}" + ("" if whose == EAGER else ", as ours")
        outside = one["outside"]
        made.append(
            (
                name,
                f"{one['tokens_per_second']:.1f}",
                "" if alone else factor(one["speed"]),
                f"{one['first_ms']:.0f} ms",
                "" if alone else factor(one["first"]),
                "" if alone else told,
                "" if outside is None else f"{100 * outside:.1f} %",
            )
        )
    return made


def note(found: Mapping[str, Any]) -> str:
    """What stands below README's table: what was asked, and what became of the memory."""
    told = (
        f"{PROMPT} prompt tokens and {NEW} new ones, {THREADS} threads, greedily; tokens that are"
        " the same as eager's, or as ours where the file is ours. Made by"
        " `python -m benchmarks.generation`."
    )
    count = next((one["answers"] for one in found.values() if one["answers"]), 0)
    grown = [
        f"{name} {one['grown_bytes'] / 1e6:+.1f} MB"
        for name, one in found.items()
        if one["grown_bytes"] is not None
    ]
    if not grown:
        return told
    return f"{told} Memory between the answers {count // 10:,} and {count:,}: {', '.join(grown)}."


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
    precisions = chosen.precisions.split(",")
    with tempfile.TemporaryDirectory(prefix="edgekit-generation-") as name:
        folder = chosen.bundles or Path(name)
        made = make_bundles(source, folder, precisions)
        others, like = rivals.make_rivals(source, made, folder, precisions)
        wanted = {EAGER: ("eager", str(source))}
        wanted |= {key: ("ours", str(path)) for key, path in made.items()}
        wanted |= {key: (kind, str(path)) for key, (kind, path) in others.items()}
        prompt = prompt_of(source)
        found = Measured()
        optional = set(others)
        for process in range(PROCESSES):
            contenders = started(
                "benchmarks.generation", wanted, question(prompt, 8), optional=optional
            )
            try:
                for number in range(process, chosen.rounds, PROCESSES):
                    told(f"round {number + 1} of {chosen.rounds}")
                    found.ask(contenders, prompt)
                if chosen.many and process == PROCESSES - 1:
                    watched = {name: contenders[name] for name in remembering(made)}
                    found.remember(watched, prompt, chosen.many)
            finally:
                close(contenders)
            # Who started once has to again.
            wanted, optional = {name: wanted[name] for name in contenders}, set()
        answered = found.figures(chosen.many, like)
        # Rounds are in random order.
        figures = {name: answered[name] for name in wanted}
    report("generation", figures, [" | ".join(map(str, row)) for row in rows(figures)])


if __name__ == "__main__":
    main()
