"""The command line of escort: parse, call, print. An EscortError becomes one line and an exit code.

Each command is a module of ``escort_cli``; heavy imports stand inside the commands, so that ``--help`` is quick.
"""

from __future__ import annotations

import functools
import os
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
from escort_cli.split import split
from escort_cli.train import train
from escort_cli.verify import verify
from escort_codec.errors import DamagedError, EscortError

COMMANDS: tuple[Callable[..., None], ...] = (
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

OPTIONAL: Final = frozenset(
    {"torch", "accelerate", "safetensors", "kornia", "diffusers", "transformers", "matplotlib", "jinja2"}
)
"""Packages that a plain installation does not have."""

EXTRAS: Final = {"decode": "diffusion", "report": "report"}
"""The extra that brings what a command needs, where it is not ``train``."""

app = typer.Typer(
    name="escort",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,  # drawing help with rich would take three times as long
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
)


def _guarded(command: Callable[..., None]) -> Callable[..., None]:
    """The command with its errors as one line on stderr and their exit code."""

    @functools.wraps(command)
    def run(*args: Any, **options: Any) -> None:
        try:
            command(*args, **options)
        except EscortError as exc:
            print(f"escort {command.__name__}: {exc}{_remedy(exc)}", file=sys.stderr)
            raise typer.Exit(exc.exit_code) from None
        except ModuleNotFoundError as exc:
            missing = (exc.name or "").partition(".")[0]
            if missing not in OPTIONAL:
                raise
            extra = EXTRAS.get(command.__name__, "train")
            print(
                f"escort {command.__name__}: needs {missing}, which is not installed: pip install 'escort[{extra}]'",
                file=sys.stderr,
            )
            raise typer.Exit(1) from None
        except KeyboardInterrupt:
            print(f"escort {command.__name__}: interrupted", file=sys.stderr)
            raise typer.Exit(128 + signal.SIGINT) from None
        except BrokenPipeError:  # `escort inspect ... | head`
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            raise typer.Exit(1) from None

    return run


def _remedy(error: EscortError) -> str:
    """What to do about a damaged file, where the message does not say it yet."""
    damaged = isinstance(error, DamagedError) and error.path and "escort recover" not in str(error)
    return " (`escort recover` saves what is whole)" if damaged else ""


def _version(wanted: bool) -> None:
    if wanted:
        print(f"escort {escort_codec.__version__}")
        raise typer.Exit


@app.callback()
def escort(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and stop.")
    ] = False,
) -> None:
    """Class-incremental learning with a memory that is a file of a fixed size."""


for _command in COMMANDS:
    app.command()(_guarded(_command))


def main() -> None:
    """The console script ``escort``."""
    app()


if __name__ == "__main__":
    main()
