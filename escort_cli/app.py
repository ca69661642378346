"""The command line of escort: its commands, and errors as one line with an exit code.

Each command is a function of a module here that parses, calls and prints. Heavy imports stand inside the functions, so
that ``escort --help`` is quick.
"""

from __future__ import annotations

import os
import re
import signal
import sys
from collections.abc import Callable
from typing import Annotated, Any, Final

import typer

import escort_codec
from escort_cli.decode import decode
from escort_cli.demo import demo
from escort_cli.encode import encode
from escort_cli.evaluate import evaluate
from escort_cli.extract import extract
from escort_cli.inspect import inspect
from escort_cli.merge import merge
from escort_cli.recover import recover
from escort_cli.report import report
from escort_cli.settings_options import GroupedCommand
from escort_cli.split import split
from escort_cli.train import train
from escort_cli.verify import verify
from escort_codec.errors import DamagedError, EscortError, UsageError

COMMANDS: Final[tuple[Callable[..., None], ...]] = (
    encode,
    decode,
    train,
    evaluate,
    report,
    demo,
    inspect,
    verify,
    recover,
    merge,
    split,
    extract,
)

OPTIONAL: Final = frozenset({"torch", "accelerate", "safetensors", "diffusers", "transformers", "matplotlib", "jinja2"})
"""Packages that a plain installation does not have."""

EXTRAS: Final = {"decode": "diffusion", "report": "report"}
"""The extra that brings what a command needs, if it is not ``train``."""

app = typer.Typer(
    name="escort",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,  # drawing help with rich would take three times as long
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
)


class Command(GroupedCommand):
    """A command whose errors are one line on stderr and an exit code."""

    def invoke(self, ctx: Any) -> Any:
        """Runs the command."""
        name = self.name
        try:
            return super().invoke(ctx)
        except EscortError as exc:
            print(f"escort {name}: {error_line(exc, self)}", file=sys.stderr)
            raise typer.Exit(exc.exit_code) from None
        except ModuleNotFoundError as exc:
            missing = (exc.name or "").partition(".")[0]
            if missing not in OPTIONAL:
                raise
            extra = EXTRAS.get(name or "", "train")
            print(
                f"escort {name}: needs {missing}, which is not installed: pip install 'escort[{extra}]'",
                file=sys.stderr,
            )
            raise typer.Exit(1) from None
        except KeyboardInterrupt:
            print(f"escort {name}: interrupted", file=sys.stderr)
            raise typer.Exit(128 + signal.SIGINT) from None
        except BrokenPipeError:  # `escort inspect ... | head`
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            raise typer.Exit(1) from None


def error_line(error: EscortError, command: Any) -> str:
    """The error's message with settings as the command's flags."""
    flags = {}
    for parameter in command.params:
        name = parameter.name or ""
        is_option = parameter.param_type_name == "option"
        flags[name.rstrip("_")] = parameter.opts[0] if is_option else parameter.metavar or name.upper()
    sets = "set" in flags

    def flag(name: str) -> str | None:
        return flags.get(name) or (f"--set {name}" if sets else None)

    text = error.message if isinstance(error, UsageError) and error.setting else str(error)
    text = re.sub(r"`(\w+)`", lambda match: flags.get(match[1], match[0]), text)
    if isinstance(error, UsageError) and error.setting:
        value = error.value
        shown = "" if value is None or isinstance(value, bool) else f" {value}"
        text = f"{flag(error.setting) or error.setting}{shown}: {text}"
    if isinstance(error, DamagedError) and error.path and "escort recover" not in text:
        text += " (`escort recover` saves what is whole)"
    return text


def _print_version(asked: bool) -> None:
    if asked:
        print(f"escort {escort_codec.__version__}")
        raise typer.Exit


@app.callback()
def escort(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and stop.")
    ] = False,
) -> None:
    """Class-incremental learning with a memory that is a file of a fixed size."""


for _command in COMMANDS:
    app.command(cls=Command)(_command)


def main() -> None:
    """The console script ``escort``."""
    app()
