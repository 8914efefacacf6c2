"""``edgekit import``."""

from __future__ import annotations

from pathlib import Path

import click

from edgekit.cli.console import Console, human_bytes, table
from edgekit.cli.options import common, output, pass_console, seed


@click.command("import")
@click.argument("model", type=click.Path(path_type=Path), metavar="FILE.onnx")
@output
@click.option("--task", metavar="TASK", help="The task; the processor's, else custom, by default.")
@click.option(
    "--processor",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE",
    help="How pictures are prepared and the outputs read, as JSON or TOML.",
)
@click.option(
    "--input",
    "inputs",
    multiple=True,
    metavar="NAME=DTYPE:DIM,…",
    help="The axes of an input that the graph leaves open: a name as DIM is one that varies.",
)
@click.option(
    "--samples",
    type=click.Path(path_type=Path),
    metavar="FILE.npz",
    help="One array per input, as a real call gives them; made up by default.",
)
@seed
@common
@pass_console
def command(
    console: Console,
    model: Path,
    output: Path,
    force: bool,
    task: str | None,
    processor: Path | None,
    inputs: tuple[str, ...],
    samples: Path | None,
    seed: int,
) -> None:  # fmt: skip
    """Make a bundle of an existing ONNX model.

    The file goes in as it is, with its external data. It is run on the samples, or on made-up
    inputs of its declared shapes, and at other sizes of what varies. What it answers there, as it
    was written, is the reference of all that is made of it: validate, quantize and compile hold
    what comes to that, for no PyTorch model is there.
    """
    from edgekit.pipeline.importing import import_onnx

    result = import_onnx(
        model,
        output,
        task=task,
        processor=processor,
        inputs=inputs,
        samples=samples,
        force=force,
        seed=seed,
        progress=console.status,
    )
    rows = [
        (
            " ".join(f"{name}[{'×'.join(map(str, shape))}]" for name, shape in row.shape.items()),
            row.output,
            f"{row.max_abs:.2e}",
            f"{row.cosine:.6f}",
        )
        for row in result.parity
    ]
    told = table(("shape", "output", "max |Δ| by optimising", "cosine"), rows)
    takes = ", ".join(map(str, result.inputs))
    gives = ", ".join(map(str, result.outputs))
    console.result(
        result,
        f"{told}\ntakes {takes}\ngives {gives}\n"
        f"{output}: {result.architecture} for {result.task}, opset {result.opset},"
        f" {human_bytes(result.bytes)}, in {result.seconds:.1f} s. Its reference is the imported"
        " model itself.",
    )
