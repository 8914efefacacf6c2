"""``make demo``: the main job on a real model, from the PyTorch folder to an app without torch.

Exports the sentiment classifier of the zoo, compiles it for ONNX Runtime and OpenVINO, judges both
against PyTorch on held-out movie snippets, times all three and classifies a sentence in a process
that cannot import torch. What is already in ``demo/`` is checked and used again.
"""

from __future__ import annotations

import json
import shlex
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path

import edgekit
from benchmarks.zoo import fetch
from edgekit.cli.console import human_bytes, table
from edgekit.core.bundle import Bundle, open_bundle
from edgekit.core.hashing import sha256_file
from edgekit.core.measurements import BenchResult, Ratio
from edgekit.core.results import to_json
from edgekit.evaluation.contenders import REFERENCE
from edgekit.reporting import write_reports

OUTPUT = Path("demo")
RESULTS, PAGE = OUTPUT / "results.json", OUTPUT / "report.html"
BUDGET = 30
SNIPPETS = 1500
ENGINES = {"onnxruntime": "cpu-x86", "openvino": "openvino-cpu"}
SENTENCES = (
    "A warm, funny and beautifully acted film.",
    "Two hours of my life that nobody will give back to me.",
)

# Runs in a fresh interpreter in which torch, transformers and onnx cannot be imported.
APP = """
import json, sys
class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("torch", "transformers", "onnx", "optimum"):
            raise ImportError(f"{name} is not for an app")
sys.meta_path.insert(0, Refuse())
import edgekit
with edgekit.load(sys.argv[1]) as model:
    print(json.dumps(model(sys.argv[2:])))
"""


def say(text: str) -> None:
    """A line of progress."""
    print(f"  {text}", file=sys.stderr, flush=True)


def bundle(path: Path, make: Callable[[bool], object], fits: Callable[[Bundle], bool]) -> Bundle:
    """The bundle at `path`, made when it is not there or was made from something else."""
    if path.exists():
        found = open_bundle(path)
        if fits(found):
            return found
    make(path.exists())
    return open_bundle(path)


def made_from(model: Path) -> Callable[[Bundle], bool]:
    """Whether an exported bundle comes from the weights that lie in `model` now."""
    weights = sha256_file(model / "model.safetensors")
    stamp = OUTPUT / "weights.sha256"
    same = stamp.is_file() and stamp.read_text() == weights
    stamp.write_text(weights)
    return lambda found: same


def compile_for(exported: Path, path: Path, target: str, force: bool) -> object:
    """Compile the exported bundle for one target."""
    return edgekit.compile(exported, path, target=target, force=force, progress=say)


def judge(path: Path, model: Path, data: Path) -> Mapping[str, object]:
    """The evidence of a bundle's accuracy: what its manifest holds, or judged and recorded now."""
    evidence = open_bundle(path, check="quick").manifest.evidence.get("accuracy")
    if isinstance(evidence, Mapping):
        return evidence
    edgekit.validate(
        path, reference=str(model), data=str(data), limit=SNIPPETS, latency=False,
        record=True, progress=say,
    )  # fmt: skip
    return judge(path, model, data)


def classify(path: Path) -> list[dict[str, object]]:
    """What an app gets, in a process that cannot import torch."""
    done = subprocess.run(
        [sys.executable, "-c", APP, str(path), *SENTENCES],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    answers: list[dict[str, object]] = json.loads(done.stdout)
    return answers


def main() -> None:
    """The whole demonstration."""
    started = time.monotonic()
    model = fetch("minilm-sentiment")
    data = fetch("movies") / "movies.csv"
    OUTPUT.mkdir(exist_ok=True)
    exported = OUTPUT / "exported"
    print(f"1. export {model.name} to ONNX, compared with PyTorch", file=sys.stderr)
    before = bundle(
        exported,
        lambda force: edgekit.export(str(model), exported, force=force, progress=say),
        made_from(model),
    )
    print("2. compile for both engines", file=sys.stderr)
    compiled = {}
    for engine, target in ENGINES.items():
        compiled[engine] = bundle(
            OUTPUT / engine,
            partial(compile_for, exported, OUTPUT / engine, target),
            lambda found: found.manifest.steps[-1].input_id == before.id,
        ).path
    print("3. validate on held-out snippets against PyTorch", file=sys.stderr)
    verdicts = {engine: judge(path, model, data) for engine, path in compiled.items()}
    print("4. bench, interleaved, in fresh processes", file=sys.stderr)
    bench = edgekit.bench(
        list(compiled.values()), reference=str(model), budget=BUDGET, processes=5, progress=say
    )
    print("5. embed: classify in a process without torch", file=sys.stderr)
    answers = classify(compiled["onnxruntime"])
    leave(bench, list(compiled.values()), model)
    print(summary(exported, compiled, verdicts, bench.ratios))
    for sentence, answer in zip(SENTENCES, answers, strict=True):
        print(f"{sentence!r} → {answer['label']} ({answer['score']:.3f})")
    noise = bench.noise
    print(
        f"machine: {bench.device.get('cpu')}, {noise.verdict}"
        f"{': ' + '; '.join(noise.causes) if noise.causes else ''}"
        f"{'; no speed above is decided' if noise.verdict == 'noisy' else ''}"
    )
    print(f"took {time.monotonic() - started:.0f} s")
    print(next_steps(compiled["onnxruntime"]))


def leave(bench: BenchResult, bundles: list[Path], model: Path) -> None:
    """The comparison as JSON, which `edgekit report` reads, and as a page.

    What was judged lies in the bundles: `edgekit report BUNDLE`.
    """
    command = ["edgekit", "bench", *map(str, bundles), "--reference", str(model),
               "--budget", str(BUDGET)]  # fmt: skip
    result = replace(bench, command=shlex.join(command))
    RESULTS.write_text(json.dumps(to_json(result), indent=2))
    write_reports(result, PAGE, None, force=True)


def next_steps(path: Path) -> str:
    """What to do with what now lies there."""
    return f"""
next:
  look     open {PAGE} in a browser (again: edgekit report {RESULTS} -o page.html);
           the verdict on a bundle: edgekit report {path} -o verdict.html
  embed    edgekit.load("{path}")("A warm film.") in an app: numpy, onnxruntime and tokenizers
  your own edgekit build MODEL -o mine --target host --data ROWS.csv   (MODEL: a folder or an id)"""


def summary(
    exported: Path,
    compiled: dict[str, Path],
    verdicts: dict[str, Mapping[str, object]],
    ratios: tuple[Ratio, ...],
) -> str:
    """One table: accuracy, drop, speed against PyTorch eager and size, a row per model."""
    workloads = sorted({(ratio.batch, ratio.length or 0) for ratio in ratios})
    first = next(iter(verdicts.values()))
    header = [
        "model", str(first["metric"]), "drop, 95 %", "verdict",
        *(f"{batch}×{length}" for batch, length in workloads), "size",
    ]  # fmt: skip
    size = human_bytes(open_bundle(exported, check="quick").bytes())
    rows: list[list[object]] = [
        ["PyTorch eager", f"{first['reference']:.4f}", None, None, *["1" for _ in workloads], size]
    ]
    for engine, path in compiled.items():
        accuracy = verdicts[engine]
        speeds = [_speed(ratios, path.name, workload) for workload in workloads]
        drop = f"{accuracy['drop_lower_95']:+.4f} … {accuracy['drop_upper_95']:+.4f}"
        rows.append(
            [engine, f"{accuracy['candidate']:.4f}", drop, accuracy["verdict"], *speeds,
             human_bytes(open_bundle(path, check="quick").bytes())]
        )  # fmt: skip
    samples = f"{first['samples']} held-out snippets; speed = PyTorch's median time / the bundle's"
    return f"\n{table(header, rows)}\n{samples}, with its 95 % interval"


def _speed(ratios: tuple[Ratio, ...], name: str, workload: tuple[int, int | None]) -> str | None:
    for ratio in ratios:
        if ratio.b == name and (ratio.batch, ratio.length) == workload and ratio.a == REFERENCE:
            return f"{ratio.value:.2f}× ({ratio.low:.2f}–{ratio.high:.2f})"
    return None


if __name__ == "__main__":
    main()
