"""The command line. Commands are imported when they are used, so that help and lists stay fast."""

import importlib
import io
import os
import sys
from collections.abc import Sequence
from traceback import walk_tb
from typing import Any

import click

from sslx import __version__
from sslx.core import signals
from sslx.core.console import FORSAKEN, explain, is_launched, is_main, printable
from sslx.core.errors import ConfigError, LostError, SslxError, nearest
from sslx.core.launchers import join
from sslx.plugins.registry import UNREADABLE, registry

_COMMANDS = {
    "run": ("sslx.cli.run", "Train methods and evaluate their representations."),
    "resume": ("sslx.cli.run", "Continue an interrupted run, with the same result as without the interruption."),
    "eval": ("sslx.cli.run", "Evaluate a finished run with other evaluators."),
    "compare": ("sslx.cli.run", "Print one table of several runs."),
    "plot": ("sslx.cli.plot", "Draw plots of runs: curves, scores over options, images."),
    "export": ("sslx.cli.export", "Write a trained network for timm, ONNX or torch."),
    "embed": ("sslx.cli.export", "Write the representations of images to a file."),
    "reproduce": ("sslx.cli.reproduce", "Make a table or a figure of a paper, beside the paper's numbers."),
    "report": ("sslx.cli.report", "Write a page that shows a run or a grid."),
    "verify": ("sslx.cli.run", "Check that the files of a run are as they were written."),
    "replay": ("sslx.cli.run", "Repeat the step at which a run crashed."),
    "data": ("sslx.cli.data", "Convert datasets, and make pictures of their views."),
    "plugins": ("sslx.cli.plugins", "List, explain, write and check plugins and their components."),
}
#: Parts of methods, which `--set` chooses and which may be taken for flags.
_PARTS = ("encoder", "decoder", "prior", "objective", "energy", "constraint")


class _Lazy(click.Group):
    """Built-in commands, then those of plugins."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return [*_COMMANDS, *sorted(registry().providers("command"))]

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        others = registry().providers("command")  # plugins are found before a command imports torch
        if name in _COMMANDS:
            return getattr(importlib.import_module(_COMMANDS[name][0]), f"{name}_command")
        if name not in others:
            raise ConfigError(f"there is no command {name!r}{nearest(name, self.list_commands(ctx))}")
        found: Any = registry().resolve("command", name).cls
        if not isinstance(found, click.Command):
            raise ConfigError(f"command {name!r}: expected a click.Command, got {found!r}")
        return found

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        rows = [(name, text) for name, (_, text) in _COMMANDS.items()]
        rows += [(name, found[0].record.summary) for name, found in sorted(registry().providers("command").items())]
        with formatter.section("Commands"):
            formatter.write_dl(rows)


def _traceback(ctx: click.Context, parameter: click.Parameter, value: bool) -> None:
    if value:
        os.environ["SSLX_TRACEBACK"] = "1"


def _no_plugins(ctx: click.Context, parameter: click.Parameter, value: bool) -> None:
    if value:  # in the environment, so that child processes do the same
        os.environ["SSLX_PLUGINS"] = ""


@click.group(cls=_Lazy, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="sslx")
@click.option(
    "--no-plugins",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=_no_plugins,
    help="Use only sslx's own plugins.",
)
@click.option(
    "--traceback",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=_traceback,
    help="Show the traceback of an error.",
)
def cli() -> None:
    """Self-supervised and generative representation learning of images. Every method is a plugin.

    \b
    sslx run --plugin simvae               train on real digits, score the representation
    sslx run --plugin vae --set prior=shared-mean --set prior.variance=0.1
    sslx plugins show simvae               list its options
    """


def main(arguments: Sequence[str] | None = None) -> None:
    """Run a command and exit with 0 if it is done, 1 if it failed, 2 for wrong input, 75 if a run can be resumed."""
    signals.install()
    join()
    # Before torch is imported. Its idle threads would spin otherwise, and small steps take ten times as long.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # names of files may be any bytes
    try:
        code = cli.main(arguments, prog_name="sslx", standalone_mode=False)
    except click.exceptions.Exit as done:
        code = done.exit_code
    except click.Abort as error:  # click's own KeyboardInterrupt, which a plugin may raise as well
        cause = error.__cause__
        code = 130 if cause is None or signals.received() else _report(cause)
    except BrokenPipeError:  # such as `sslx compare | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = 1
    except Exception as error:
        code = _report(error)
    code = code if isinstance(code, int) else 0
    if "torch" in sys.modules and is_launched():
        from sslx.core.training.runtime import Runtime

        Runtime.leave(code)
    sys.exit(code)


def _report(error: BaseException) -> int:
    """Say what went wrong, one line for each mistake. Returns the exit code."""
    if os.environ.get("SSLX_TRACEBACK"):
        import traceback

        traceback.print_exception(error)
    if "torch" in sys.modules and is_launched():
        from sslx.core.training.runtime import lost

        if lost(error):  # outside the training, which says more
            error = LostError("another process of this launch is gone")
    if isinstance(error, LostError) and "SSLX_RENDEZVOUS" in os.environ:
        return FORSAKEN  # the process that launched this one says more
    if isinstance(error, click.ClickException):
        lines, code = [error.format_message()], error.exit_code
        if isinstance(error, click.NoSuchOption) and (part := error.option_name.lstrip("-")) in _PARTS:
            lines = [f"No such option {error.option_name!r}; `--set {part}=NAME` chooses the {part}"]
    elif isinstance(error, SslxError):
        lines = error.problems if isinstance(error, ConfigError) else str(error).splitlines()
        code = error.exit_code
    else:
        run = getattr(error, "sslx_run", None)
        advice = f"; `sslx resume {run}` continues" if run is not None else ""
        lines, code = [f"{explain(error)}{advice}; `sslx --traceback ...` shows where it happened"], 1
        unreadable = [plugin.reason for plugin in registry().plugins if UNREADABLE in plugin.reason]
        if unreadable and any("importlib" in frame.f_code.co_filename for frame, _ in walk_tb(error.__traceback__)):
            lines = [f"{unreadable[0]}; packages such as torch read it when they are imported: remove it or repair it"]
    alone = not isinstance(error, SslxError | click.ClickException)  # others of this launch may not have this error
    lost_main = isinstance(error, LostError) and os.environ.get("RANK") == "1"  # process 0 may be the one that is gone
    if is_main() or alone or lost_main or "SSLX_RENDEZVOUS" in os.environ:
        who = "" if is_main() or "SSLX_RENDEZVOUS" in os.environ else f"process {os.environ['RANK']}: "
        for line in lines:
            print(f"sslx: {who}{printable(line)}", file=sys.stderr)
    return code
