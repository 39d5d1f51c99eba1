"""The commands, and what becomes of their errors."""

from __future__ import annotations

import contextlib
import inspect
import os
import re
import sys
import traceback
from collections.abc import Callable, Iterator
from typing import Annotated, Any

import typer
from typer.core import TyperCommand, TyperGroup

from bench import __version__
from bench.cli.compare import compare
from bench.cli.doctor import doctor
from bench.cli.evaluate import evaluate
from bench.cli.export import export
from bench.cli.listing import datasets, models, recipes
from bench.cli.profile import profile
from bench.cli.report import report
from bench.cli.run import run
from bench.cli.show import columns, show
from bench.cli.status import status, watch
from bench.cli.train import train
from bench.errors import EXIT_USAGE, FieldError, UserError
from bench.signals import EXIT_INTERRUPTED, EXIT_PREEMPTED, Preempted, Stopped

# What the fields of a specification are called on the command line, where that is not their name.
PARAMETERS = {
    "precisions": "precision",
    "runtimes": "runtime",
    "batch_sizes": "batch_size",
    "modes": "mode",
    "rel_precision": "interval",
    "target_top1": "target",
}


class Command(TyperCommand):
    """Name the option, not the field of a specification, when its value is wrong."""

    def make_context(self, info_name: Any, args: Any, parent: Any = None, **options: Any) -> Any:
        """Read the arguments of the command."""
        path = f"{parent.command_path} {info_name}" if parent else str(info_name)
        with _usage_in_one_line(path):
            return super().make_context(info_name, args, parent, **options)

    def invoke(self, ctx: Any) -> Any:
        """Run the command."""
        try:
            return super().invoke(ctx)
        except FieldError as error:
            option = self._option(ctx, error.field)
            raise UserError(f"{option}: {error.problem}") if option else error from None

    def _option(self, ctx: Any, field: str) -> str | None:
        """Return the option that gave a field its value; None when it came from elsewhere."""
        root = field.partition(".")[0]
        name = PARAMETERS.get(root, root)
        source = ctx.get_parameter_source(name)
        if source is None or source.name != "COMMANDLINE":
            return None
        return next((p.opts[0] for p in self.params if p.name == name and p.opts), None)


class Commands(TyperGroup):
    """Print what the user can mend as one line on stderr, and leave with its exit code."""

    def make_context(self, *args: Any, **options: Any) -> Any:
        """Read the arguments that stand before the command."""
        with _usage_in_one_line():
            return super().make_context(*args, **options)

    def invoke(self, ctx: Any) -> Any:
        """Run the command that was asked for."""
        try:
            with _usage_in_one_line():
                return super().invoke(ctx)
        except (Preempted, Stopped) as reason:
            _leave(str(reason), EXIT_PREEMPTED)
        except KeyboardInterrupt:
            _leave("interrupted", EXIT_INTERRUPTED)
        except ValueError as error:
            if not (message := _of_the_user(error)):
                raise
            _leave(f"error: {message}", EXIT_USAGE)


@contextlib.contextmanager
def _usage_in_one_line(command: str = "senet-bench") -> Iterator[None]:
    """Say what is wrong with the arguments as every other error is said, not in a frame."""
    try:
        yield
    except Exception as error:
        # By what it can do: where the class lies differs between releases of typer.
        tell = getattr(error, "format_message", None)
        message = tell() if tell and getattr(error, "exit_code", None) == EXIT_USAGE else ""
        if not message or type(error).__name__ == "NoArgsIsHelpError":
            raise
        _leave(f"error: {message.rstrip('.')} (see {command} --help)", EXIT_USAGE)


def _of_the_user(error: ValueError) -> str | None:
    """Return what to say of an error that the user can mend; None for one of the program."""
    # If senet was never imported, none of its errors can have been raised; importing it is slow.
    senet = sys.modules.get("senet")
    if isinstance(error, UserError | senet.ModelError if senet else UserError):
        return str(error)
    frames = traceback.extract_tb(error.__traceback__)
    if "TORCH_LOGS" in os.environ and any("_logging" in frame.filename for frame in frames):
        return f"torch does not know TORCH_LOGS={os.environ['TORCH_LOGS']}; unset it"
    return None


def _leave(message: str, code: int) -> None:
    typer.echo(" ".join(message.split("\n")), err=True)
    raise typer.Exit(code)


def _flowing(command: Callable[..., None]) -> str:
    """Return a command's help, each paragraph on one line, so that it fills any screen's width."""
    return re.sub(r"(?<!\n)\n(?!\n)", " ", inspect.getdoc(command) or "")


app = typer.Typer(
    cls=Commands,
    no_args_is_help=True,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
# In the panels of --help, in the order in which they are needed.
COMMANDS: dict[str, tuple[Callable[..., None], ...]] = {
    "Measure": (run, train, evaluate, profile, export),
    "Look": (report, show, status, watch, compare),
    "Find out": (models, datasets, recipes, columns, doctor),
}
for _panel, _commands in COMMANDS.items():
    for _command in _commands:
        _registered = app.command(cls=Command, help=_flowing(_command), rich_help_panel=_panel)
        _registered(_command)


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"senet-bench {__version__}")
        raise typer.Exit


@app.callback()
def _main(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Accuracy against execution cost for image classifiers: SE-ResNet beside ResNet.

    Start with [bold]senet-bench run quickstart[/bold], which needs no data.
    [bold]senet-bench doctor[/bold] tells what this machine can do.
    """
