"""The command line of escort: its commands, and errors as one line with an exit code.

Each command is a function that parses, calls and prints, in a module of this package. Heavy imports are inside the
functions, so that ``escort --help`` is quick.
"""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Annotated, Any, Final

import typer
from typer.core import TyperGroup

import escort_codec
from escort_cli.bench import bench
from escort_cli.decode import decode
from escort_cli.demo import demo
from escort_cli.encode import encode
from escort_cli.evaluate import evaluate
from escort_cli.files import extract, inspect, merge, recover, split, verify
from escort_cli.flags import GroupedCommand, with_flags
from escort_cli.importing import import_
from escort_cli.report import report
from escort_cli.sweep import sweep
from escort_cli.terminal import print_line
from escort_cli.train import train
from escort_cli.view import view
from escort_codec.errors import DamagedError, EscortError, OutputError
from escort_codec.processes import end_at_once
from escort_codec.words import escaped
from escort_codec.workers import EXIT_CODE

COMMANDS: Final[tuple[Callable[..., None], ...]] = (
    import_,
    encode,
    decode,
    train,
    sweep,
    evaluate,
    report,
    bench,
    demo,
    view,
    inspect,
    verify,
    recover,
    merge,
    split,
    extract,
)

OPTIONAL: Final = frozenset(
    {"torch", "accelerate", "safetensors", "diffusers", "transformers", "matplotlib", "jinja2", "datasets", "pyarrow"}
)
"""Packages that a plain installation does not have."""

EXTRAS: Final = {"decode": "diffusion", "report": "report", "import": "import", "bench": "all"}
"""The extra that a command needs, if it is not ``train``."""


class Commands(TyperGroup):
    """The commands. Typer's own errors are escaped too: a shell's * may expand to a hostile file name."""

    def make_context(self, *args: Any, **more: Any) -> Any:
        """Parses the arguments before the command's name."""
        with _escaped_errors():
            return super().make_context(*args, **more)

    def invoke(self, ctx: Any) -> Any:
        """Parses the rest and runs the command."""
        with _escaped_errors():
            return super().invoke(ctx)


@contextmanager
def _escaped_errors() -> Iterator[None]:
    try:
        yield
    except Exception as exc:
        if hasattr(exc, "format_message"):  # Typer's; its class has no public name
            exc.message = escaped(exc.message)  # type: ignore[attr-defined]
        raise


app = typer.Typer(
    name="escort",
    cls=Commands,
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
            result = super().invoke(ctx)
            sys.stdout.flush()
            return result
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
            _drop_stdout()
            raise typer.Exit(1) from None
        except OSError as exc:  # an unexpected failure of a disk or a folder
            place = f"{exc.filename}: " if exc.filename is not None else ""
            raise self._exit(f"{place}{exc.strerror or exc}", 1) from exc

    def _exit(self, message: str, code: int) -> typer.Exit:
        print_line(f"escort {self.name}: {message}", error=True)
        return typer.Exit(code)


def _remedy(error: EscortError) -> str:
    """A remedy for a damaged file, unless the message has it."""
    damaged = isinstance(error, DamagedError) and error.path and "escort recover" not in str(error)
    return " (`escort recover` saves what is whole)" if damaged else ""


def _print_version(asked: bool) -> None:
    if asked:
        print_line(f"escort {escort_codec.__version__}")
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
    _open_streams()
    with end_at_once():
        try:
            app()
        except OutputError as exc:  # --help and --version, which no command prints
            print_line(f"escort: {exc}", error=True)
            sys.exit(exc.exit_code)
        finally:
            try:
                sys.stdout.flush()
            except (OSError, OutputError):  # already reported; at exit it would change the exit code
                _drop_stdout()


class _Stdout(io.FileIO):
    """Standard output. A failed write raises OutputError, which names it."""

    def write(self, data: Any) -> Any:
        """Writes bytes. Raises OutputError, or BrokenPipeError if the reader has gone."""
        try:
            return super().write(data)
        except BrokenPipeError:
            raise
        except OSError as exc:
            raise OutputError(f"standard output cannot be written: {exc.strerror or exc}") from exc


class _Stderr(io.FileIO):
    """Standard error. A failed write is ignored, and the command continues."""

    def write(self, data: Any) -> Any:
        """Writes bytes, if possible."""
        try:
            return super().write(data)
        except OSError:
            return len(data)


def _open_streams() -> None:
    """Installs ``_Stdout`` and ``_Stderr``, with escapes for characters that their encoding lacks, and opens closed
    ones.

    A closed stream is opened such that writing fails: else the next opened file would get its number, and the output of
    a library would end up in that file.
    """
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDONLY)  # takes the lowest free number
    kinds: tuple[type[io.FileIO], ...] = (_Stdout, _Stderr)
    for number, name, kind in zip((1, 2), ("stdout", "stderr"), kinds, strict=True):
        stream = getattr(sys, name)
        raw = getattr(stream, "buffer", None)
        if stream is not None and type(getattr(raw, "raw", raw)) is not io.FileIO:  # the console of Windows, or a test
            if isinstance(stream, io.TextIOWrapper):
                stream.reconfigure(errors="backslashreplace")
            continue
        file = kind(number, "w", closefd=False)
        buffered = stream is not None and stream.write_through
        wrapped = io.TextIOWrapper(
            io.BufferedWriter(file),
            getattr(stream, "encoding", None),
            "backslashreplace",
            line_buffering=number == 2 or file.isatty(),
            write_through=buffered,
        )
        setattr(sys, name, wrapped)


def _drop_stdout() -> None:
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
