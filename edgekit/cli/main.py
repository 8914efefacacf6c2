"""The command group, and the one place where errors become messages and exit codes."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Sequence
from typing import NoReturn

import click

from edgekit.cli.console import WORDS, Console, Outlet, ReaderGone, outlet
from edgekit.core.errors import ConfigError, EdgekitError, StepError
from edgekit.core.signals import Terminated, stops_raise
from edgekit.core.version import __version__

# name → (module that holds it, the line of `edgekit --help`). A module is imported when its
# command is called, so that help and shell completion stay as quick as click itself.
COMMANDS: dict[str, tuple[str, str]] = {
    "export": ("exporting", "Turn a PyTorch model into a bundle, compared with PyTorch."),
    "import": ("importing", "Turn an existing ONNX model into a bundle."),
    "prune": ("pruning", "Cut a PyTorch model down to one that is measurably faster."),
    "quantize": ("quantizing", "Give a bundle fewer bits, within an accuracy budget."),
    "compile": ("compiling", "Turn a bundle into what a target's engine loads fastest."),
    "validate": ("validating", "Judge a bundle's accuracy and speed against the original model."),
    "bench": ("benching", "Compare latency and memory of bundles and the original, fairly."),
    "report": ("reporting", "Render a result, or a bundle's evidence, as a page to send."),
    "build": (
        "building",
        "From a PyTorch or ONNX model to the best bundle for a target, in one go.",
    ),
    "run": ("running", "Predict from the shell."),
    "inspect": ("inspecting", "Tell what a bundle is, without loading its model."),
    "verify": ("verifying", "Check a bundle's files and its golden answers on this device."),
    "targets": ("targets", "List the target profiles."),
    "cache": ("caching", "List or clear what builds have kept."),
    "doctor": ("doctor", "Tell what this machine can do, and how to mend what it cannot."),
}


# Commands whose answers are a stream that may never end: without a reader nothing is left to do.
STREAMING = frozenset({"run"})


class LazyGroup(click.Group):
    """A group that imports a command's module when the command is asked for."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """As click does; the arguments as they were typed stay in the context."""
        ctx.meta[WORDS] = tuple(args)
        return super().parse_args(ctx, args)

    def list_commands(self, ctx: click.Context) -> list[str]:
        """The names in the order of the table, which is the order of use."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The command of a name, imported now; None for an unknown name."""
        if cmd_name not in COMMANDS:
            return None
        module = importlib.import_module(f"edgekit.cli.commands.{COMMANDS[cmd_name][0]}")
        command: click.Command = module.command
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """As click does, with the nearest name for an unknown one."""
        if args and args[0] not in COMMANDS and not args[0].startswith("-"):
            from edgekit.core.profiles import nearest

            raise ConfigError(
                f"There is no command {args[0]!r}.", hint=nearest(args[0], list(COMMANDS))
            )
        return super().resolve_command(ctx, args)

    def invoke(self, ctx: click.Context) -> object:
        """As click does; a SystemExit from within is user code (a factory, a custom model)."""
        try:
            return super().invoke(ctx)
        except SystemExit as leave:
            raise StepError(
                f"The code of the source ended the process with exit code {leave.code}.",
                hint="Remove sys.exit() from the factory or model code.",
            ) from leave
        except BrokenPipeError as error:
            # Our own streams raise none (see Outlet), and click would end without a word.
            raise RuntimeError("a pipe to another process broke") from error

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """The table, without importing a single command."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, line) for name, (_, line) in COMMANDS.items()])


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="edgekit")
def cli() -> None:
    """Take a PyTorch or Hugging Face model to an edge device, with proof.

    export → quantize → compile → validate → bench → embed with `edgekit.load`. Nothing is called
    a success that was not measured against the original model.
    """


def _open_outlets(*, ends: bool) -> None:
    """Make standard output and error survive their readers."""
    for name in ("stdout", "stderr"):
        opened = outlet(getattr(sys, name))
        if opened is not None:
            setattr(sys, name, opened)
    if isinstance(sys.stdout, Outlet):
        sys.stdout.ends = ends


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Run the command line and leave the process with the exit code of DESIGN's table."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    _open_outlets(ends=not STREAMING.isdisjoint(words[:1]))
    console = Console(json_output="--json" in words)
    code = 0
    try:
        with stops_raise():
            cli.main(args=words, prog_name="edgekit", standalone_mode=False, obj=console)
    except EdgekitError as error:
        code = error.exit_code
        console.fail(error)
    except click.ClickException as error:
        code = 2
        context = getattr(error, "ctx", None)
        hint = f"See: {context.command_path} --help" if context else None
        console.fail(ConfigError(error.format_message(), hint=hint))
    except click.exceptions.Exit as leave:
        code = leave.exit_code
    except (KeyboardInterrupt, click.Abort) as stop:
        code = 130
        # click puts its own exception in the place of ours, which may say what was left.
        told = str(stop.__cause__ or stop)
        console.interrupted(told or "Interrupted; nothing was left behind.", code)
    except Terminated:
        code = 143
        console.interrupted("Terminated; nothing was left behind.", code)
    except ReaderGone:
        # As other filters: the reader had enough (`edgekit run B <texts | head`).
        code = 0
    console.close()
    sys.exit(code)
