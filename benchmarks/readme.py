"""Writes the generated tables of README.md: ``python -m benchmarks.readme``.

The targets come from the profiles; the checks of the measurements from the results kept beside
them; the measured results from what the other benchmarks left in ``demo/``, and stay as they are
where a benchmark has not been run.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from benchmarks import generation, generation_accuracy, sound, transcription, vision
from benchmarks.measure import factor
from benchmarks.measurement import table
from edgekit.core.profiles import list_profiles
from edgekit.sources.families import FAMILIES, TEXT_TASKS

README = Path(__file__).resolve().parents[1] / "README.md"
BENCH = Path("demo") / "bench"
_QUANTIZED = """\
What `quantize` gains and costs on the same machine, beside what the libraries' own functions make
of the same model; cosines are against PyTorch's vectors, on texts that nothing was calibrated
with:"""


def markdown(header: tuple[str, ...], rows: list[tuple[object, ...]]) -> str:
    """A Markdown table."""
    lines = [header, tuple("---" for _ in header), *rows]
    return "\n".join("| " + " | ".join(map(str, line)) + " |" for line in lines)


def targets() -> str:
    """The table of target profiles."""
    return markdown(
        ("target", "engines", "device", "CPU", "precisions, in order of trial", "status"),
        [
            (
                f"`{profile.name}`",
                ", ".join(profile.engines),
                profile.device,
                "this machine" if profile.name == "host" else profile.arch or "any",
                ", ".join(profile.precisions),
                profile.status,
            )
            for profile in list_profiles()
        ],
    )


def families() -> str:
    """The table of model families with their tasks and engines."""
    return markdown(
        ("family", "tasks", "engines", "limits"),
        [
            (
                family.name,
                "all five text tasks" if family.tasks == TEXT_TASKS else ", ".join(family.tasks),
                ", ".join(family.engines),
                family.limits,
            )
            for family in FAMILIES
        ],
    )


def figures(name: str) -> dict[str, Any]:
    """What a benchmark measured last here; empty when it has not been run."""
    path = BENCH / f"{name}.json"
    if not path.is_file():
        return {}
    found: dict[str, Any] = json.loads(path.read_text())["figures"]
    return found


def cost_rows() -> list[tuple[object, ...]]:
    """What edgekit itself costs; nothing unless all three benchmarks have been run."""
    start, run, export = figures("startup"), figures("runtime_overhead"), figures("export")
    if not (start and run and export and "large" in export):
        return []
    medians = start["medians_ms"]
    kept = figures("quantize_memory")
    limit = 1.5 * medians["import click"] + 50
    mb = 1_000_000
    size, large = export["weights_bytes"], export["large"]
    times_weights = large["peak_above_torch_bytes"] / large["weights_bytes"]
    by = "`python -m benchmarks.{}`".format
    return [
        ("heavy packages imported by `edgekit --help` and `import edgekit`",
         len(start["heavy_after_help"]) + len(start["heavy_after_import"]), "0", by("startup")),
        ("`edgekit --help`", f"{medians['edgekit --help']:.0f} ms",
         f"1.5 × `import click` + 50 ms = {limit:.0f} ms", by("startup")),
        ("peak memory of import, load and first prediction, over raw onnxruntime",
         f"{start['rss_over_raw_bytes'] / mb:+.1f} MB", "+25 MB", by("startup")),
        ("`model.run` / `session.run`, 1×16", factor(run["run_over_raw"]), "1.05",
         by("runtime_overhead")),
        ("`model(text)` / tokenizers and `session.run` by hand",
         factor(run["text_over_by_hand"]), "1.10", by("runtime_overhead")),
        ("PyTorch eager with its tokenizer / `model(text)`",
         factor(run["eager_over_edgekit"]), "above 1", by("runtime_overhead")),
        ("`transformers.pipeline` / `model(text)`", factor(run["pipeline_over_edgekit"]),
         "above 1", by("runtime_overhead")),
        ("`edgekit export` / a bare `OnnxExporter` script, wall time",
         factor(export["wall_over_bare"]), "1.40", by("export")),
        ("peak memory of exporting MiniLM, above `import torch`",
         f"{export['peak_above_torch_bytes'] / mb:.0f} MB",
         f"3 × weights + 350 MB = {(3 * size + 350 * mb) / mb:.0f} MB", by("export")),
        (f"peak memory of exporting a random BERT of {large['weights_bytes'] / mb:.0f} MB",
         f"{times_weights:.2f} × its weights", "3 ×", by("export --large")),
        *([] if not kept else [_quantizing_row(kept)]),
    ]  # fmt: skip


def _quantizing_row(found: dict[str, Any]) -> tuple[object, ...]:
    """The memory of quantizing, by the way that takes the most."""
    mb, size = 1_000_000, found["weights_bytes"]
    way, most = max(found["above_imports_bytes"].items(), key=lambda item: item[1])
    return (
        f"peak memory of quantizing a random BERT of {size / mb:.0f} MB, all processes"
        f" (most: {way})",
        f"{most / mb:.0f} MB, {most / size:.2f} × its weights",
        f"3 × weights + {found['constant_bytes'] / mb:.0f} MB ="
        f" {(3 * size + found['constant_bytes']) / mb:.0f} MB",
        "`python -m benchmarks.quantize_memory`",
    )


def generated() -> str:
    """What answers and transcripts cost; empty unless one of the two benchmarks has been run."""
    parts: list[str] = []
    answers = figures("generation")
    if answers:
        header = ("`smollm2`", "tokens/s", "against eager", "first token", "against eager",
                  "same tokens", "outside the engine")  # fmt: skip
        parts.append(markdown(header, generation.rows(answers)))
        parts.append(generation.note(answers))
    heard = figures("transcription")
    if heard:
        header = ("`whisper-tiny-en`, a sentence", "median", "against the pipeline", "same texts")
        parts.append(markdown(header, transcription.rows(heard)))
        parts.append("On 2 threads; made by `python -m benchmarks.transcription`.")
    return "\n\n".join(parts)


def between(text: str, name: str, content: str) -> str:
    """`text` with what stands between the markers of a name replaced."""
    pattern = re.compile(rf"(<!-- {name} -->\n).*?(<!-- /{name} -->)", re.DOTALL)
    if not pattern.search(text):
        raise ValueError(f"README.md has no markers for {name}")
    return pattern.sub(lambda found: f"{found[1]}{content}\n{found[2]}", text)


def main() -> None:
    """Rewrite README.md in place."""
    text = between(README.read_text(encoding="utf-8"), "targets", targets())
    text = between(text, "families", families())
    results = figures("results")
    if results:
        text = between(text, "results", str(results["markdown"]))
    quantized = figures("quantization")
    if quantized:
        text = between(text, "quantization", f"{_QUANTIZED}\n\n{quantized['markdown']}")
    searched = quantized.get("parts", {}).get("search")
    if searched:
        text = between(text, "search", str(searched["table"]))
    pruned = figures("pruning")
    if pruned:
        text = between(text, "pruning", str(pruned["markdown"]))
    seen = vision.rows()
    if seen:
        header = ("model", "run by", "median", "speed over PyTorch eager", "")
        text = between(text, "vision", f"{markdown(header, seen)}\n\n{vision.where()}")
    heard = figures("sound")
    if heard:
        header = ("what", "against", "speed", "")
        told = "A clip of five seconds on 2 threads; made by `python -m benchmarks.sound`."
        text = between(text, "sound", f"{markdown(header, sound.rows(heard))}\n\n{told}")
    spoken = generated()
    if spoken:
        text = between(text, "generation", spoken)
    kept = figures("generation_accuracy")
    if kept:
        header = ("what", "on", "PyTorch", "bundle", "drop (95 % interval)")
        told = "On 2 threads; made by `python -m benchmarks.generation_accuracy`."
        text = between(
            text,
            "generation-accuracy",
            f"{markdown(header, generation_accuracy.rows(kept))}\n\n{told}",
        )
    costs = cost_rows()
    if costs:
        header = ("cost", "measured", "aim", "command")
        text = between(text, "costs", markdown(header, costs))
    checks = table.rows()
    if checks:
        header = ("check", "found", "aim", "command")
        text = between(text, "trust", f"{markdown(header, checks)}\n\n{table.where()}")
    README.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
