"""``edgekit export``."""

from __future__ import annotations

from pathlib import Path

import click

from edgekit.cli.console import Console, human_bytes, table
from edgekit.cli.options import (
    common,
    output,
    pass_console,
    seed,
    source_loading,
    source_reading,
    static_dimensions,
)


@click.command("export")
@click.argument("source")
@output
@source_reading
@click.option("--opset", type=click.IntRange(18, 23), default=23, show_default=True)
@click.option("--static", multiple=True, metavar="DIM=N", help="Fix a dimension that varies.")
@click.option("--atol", type=float, help="Absolute tolerance of the comparison with PyTorch.")
@click.option("--rtol", type=float, help="Relative tolerance of the comparison with PyTorch.")
@click.option(
    "--dtype",
    type=click.Choice(["float32", "float16"]),
    default="float32",
    show_default=True,
    help="The dtype to load the source in.",
)
@source_loading
@seed
@common
@pass_console
def command(
    console: Console,
    source: str,
    output: Path,
    force: bool,
    task: str | None,
    inputs: tuple[str, ...],
    processor: Path | None,
    opset: int,
    static: tuple[str, ...],
    atol: float | None,
    rtol: float | None,
    dtype: str,
    revision: str | None,
    trust_remote_code: bool,
    seed: int,
) -> None:  # fmt: skip
    """Turn a PyTorch model into a bundle that was compared with PyTorch.

    SOURCE is a Hugging Face id, a local folder, package.module:factory, file.py:factory or a
    program.pt2.
    """
    from edgekit.pipeline.exporting import export

    result = export(
        source,
        output,
        task=task,
        inputs=inputs,
        processor=processor,
        opset=opset,
        static=static_dimensions(static),
        atol=atol,
        rtol=rtol,
        dtype=dtype,
        revision=revision,
        trust_remote_code=trust_remote_code,
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
            None if row.argmax_agreement is None else f"{row.argmax_agreement:.1%}",
        )
        for row in result.parity
    ]
    console.result(
        result,
        f"{table(('shape', 'output', 'max |Δ|', 'cosine', 'argmax'), rows)}\n"
        f"{output}: {result.architecture} for {result.task}, opset {result.opset},"
        f" {human_bytes(result.bytes)}, in {result.seconds:.1f} s.",
    )
