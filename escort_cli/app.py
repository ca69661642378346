"""The command line of escort: its commands, and errors as one line with an exit code.

Each command is a function of a module here that parses, calls and prints. Heavy imports stand inside the functions, so
that ``escort --help`` is quick.
"""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Callable
from typing import Annotated, Any, Final

import typer

import escort_codec
from escort_cli.decode import decode
from escort_cli.demo import demo
from escort_cli.encode import encode
from escort_cli.evaluate import evaluate
from escort_cli.files import extract, inspect, merge, recover, split, verify
from escort_cli.flags import GroupedCommand, with_flags
from escort_cli.report import report
from escort_cli.train import train
from escort_cli.view import view
from escort_codec.errors import DamagedError, EscortError
from escort_codec.workers import EXIT_CODE

COMMANDS: Final[tuple[Callable[..., None], ...]] = (
    encode,
    decode,
    train,
    evaluate,
    report,
    demo,
    view,
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
    """A command whose errors become one line on stderr and an exit code."""

    def invoke(self, ctx: Any) -> Any:
        """Runs the command."""
        try:
            return super().invoke(ctx)
        except EscortError as exc:
            raise self._exit(f"{with_flags(exc, self)}{_remedy(exc)}", exc.exit_code) from None
        except ModuleNotFoundError as exc:
            missing = (exc.name or "").partition(".")[0]
            if missing not in OPTIONAL:
                raise
            extra = EXTRAS.get(self.name or "", "train")
            message = f"needs {missing}, which is not installed: pip install 'escort[{extra}]'"
            raise self._exit(message, 1) from None
        except KeyboardInterrupt:
            raise self._exit("interrupted", EXIT_CODE) from None
        except BrokenPipeError:  # `escort inspect ... | head`
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            raise typer.Exit(1) from None
        except OSError as exc:  # a disk or a folder that fails where nothing else expects it
            place = f"{exc.filename}: " if exc.filename is not None else ""
            raise self._exit(f"{place}{exc.strerror or exc}", 1) from exc

    def _exit(self, message: str, code: int) -> typer.Exit:
        print(f"escort {self.name}: {message}", file=sys.stderr)
        return typer.Exit(code)


def _remedy(error: EscortError) -> str:
    """What to do about a damaged file, if the message does not say it yet."""
    damaged = isinstance(error, DamagedError) and error.path and "escort recover" not in str(error)
    return " (`escort recover` saves what is whole)" if damaged else ""


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
    for stream in (sys.stdout, sys.stderr):  # names may hold what a terminal's or a pipe's encoding lacks
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    app()
