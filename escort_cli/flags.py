"""Settings as flags: library errors name settings, the command line shows its flags."""

from __future__ import annotations

import inspect
import re
import shlex
import shutil
import sys
import textwrap
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Annotated, Any, Final, get_args, get_origin

import typer
from typer.core import TyperCommand

from escort_codec.errors import EscortError, UsageError
from escort_codec.settings import Setting

RENAMED: Final[Mapping[str, Mapping[str, str]]] = {
    "train": {"continued": "--continue"},
}
"""By command, flags whose name is neither that of the setting nor of the parameter."""

_SETTING: Final = re.compile(r"`([a-z][a-z0-9_.]*)`")


def with_flags(error: EscortError, command: TyperCommand) -> str:
    """The message of ``error`` with the settings of ``command`` as its flags.

    ``UsageError("at least 1", setting="workers", value=0)`` becomes ``--workers 0: at least 1``, and a setting in
    backquotes becomes its flag. A setting without a flag becomes ``--set KEY=VALUE`` if the command has ``--set``.
    """
    flags = _flags(command)
    if not isinstance(error, UsageError) or not error.setting:
        return settings_as_flags(str(error), command)
    setting, value = error.setting, error.value
    if setting in flags:
        typed = flags[setting] if value is None or value is True else f"{flags[setting]} {_typed(value)}"
    elif "set" in flags:
        typed = f"--set {setting}" if value is None else f"--set {setting}={_typed(value)}"
    else:
        return settings_as_flags(str(error), command)
    return f"{typed}: {settings_as_flags(error.message, command)}"


def settings_as_flags(text: str, command: Any) -> str:
    """``text`` with settings of ``command`` in backquotes replaced by its flags: `seeds` becomes --seeds."""
    flags = _flags(command)
    return _SETTING.sub(lambda match: flags.get(match[1], match[0]), text)


def _flags(command: Any) -> dict[str, str]:
    """The flag or argument of each setting. Settings are found by the name of the parameter or flag."""
    flags: dict[str, str] = {}
    params: list[Any] = list(command.params)
    for param in params:
        if param.param_type_name == "option":
            typed = max(param.opts, key=len)
            flags[typed.lstrip("-").replace("-", "_")] = typed
        else:
            typed = (param.metavar or param.name.upper()).strip("[].")
        flags[param.name] = typed
    return {**flags, **RENAMED.get(command.name or "", {})}


def _typed(value: object) -> str:
    """A value as it is typed in a shell."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, tuple | list):
        return ",".join(_typed(each) for each in value)
    return shlex.quote(str(value))


NAME_WIDTH: Final = 30
"""The width of options beyond which their help begins on the next line."""

TYPES: Final[Mapping[str, Any]] = {"list": tuple, "options": Mapping, "bool": bool, "float": float, "int": int}


class GroupedCommand(TyperCommand):
    """A command whose help lists options under their groups (``rich_help_panel``), in the order of declaration.

    Arguments and options without a group come first; --help is the last line.
    """

    # Typer bundles click or depends on it, depending on its version: neither is imported here.
    def format_options(self, ctx: Any, formatter: Any) -> None:
        """Writes the groups, with all help texts in one column."""
        groups: dict[str, list[tuple[str, str]]] = {"Arguments": [], "Options": []}
        last = []
        for parameter in self.get_params(ctx):
            record = parameter.get_help_record(ctx)
            if record is not None and parameter.name == "help":
                last = [record]
            elif record is not None:
                name = "Arguments" if parameter.param_type_name == "argument" else "Options"
                groups.setdefault(getattr(parameter, "rich_help_panel", None) or name, []).append(record)
        groups = {name: records for name, records in groups.items() if records}
        groups.setdefault("Options" if len(groups) < 2 else next(reversed(groups)), []).extend(last)
        width = max(len(name) for records in groups.values() for name, _ in records if len(name) <= NAME_WIDTH)
        for name, records in groups.items():
            with formatter.section(name):
                formatter.write_dl([(option.ljust(width), text) for option, text in records])


def flag_of(name: str) -> str:
    """The flag of a setting: ``--image-size`` of "image_size"."""
    return "--" + name.replace("_", "-")


def setting_parameter(declared: Setting, flag: str | None = None) -> inspect.Parameter:
    """The parameter of a command for a setting. Its value is None if not given, else the typed text, or a bool."""
    flag = flag or flag_of(declared.name)
    is_bool = declared.type is bool
    if is_bool:
        flag = f"{flag}/--no-{flag[2:]}"
    default = show_default(declared)
    metavar = declared.metavar or {"int": "N", "float": "X"}.get(type_name(declared), "TEXT")
    option = typer.Option(
        flag,
        help=declared.help.replace("`", "") + ("" if default in ("-", "0") or is_bool else f" [{default}]"),
        metavar=None if is_bool else metavar,
        hidden=not declared.shown,
        rich_help_panel=declared.group or None,
    )
    kind: Any = bool | None if is_bool else str | None
    return inspect.Parameter(
        declared.name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=Annotated[kind, option]
    )


def with_settings(
    settings: Iterable[Setting], flags: Mapping[str, str]
) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Adds the parameters of settings to a command function, which gets the given ones as its keyword ``typed``.

    ``flags`` are the flags that differ from the setting's name.
    """
    parameters = [setting_parameter(each, flags.get(each.name)) for each in settings]
    names = [parameter.name for parameter in parameters]

    def decorate(function: Callable[..., None]) -> Callable[..., None]:
        own = inspect.signature(function, eval_str=True)

        def command(*args: Any, **values: Any) -> None:
            typed = {name: values.pop(name, None) for name in names}
            function(*args, typed={name: value for name, value in typed.items() if value is not None}, **values)

        kept = [parameter for parameter in own.parameters.values() if parameter.name != "typed"]
        first = [parameter for parameter in kept if parameter.kind is not inspect.Parameter.KEYWORD_ONLY]
        rest = [parameter for parameter in kept if parameter.kind is inspect.Parameter.KEYWORD_ONLY]
        command.__name__ = function.__name__
        command.__doc__ = function.__doc__
        command.__module__ = function.__module__
        signature = own.replace(parameters=[*first, *parameters, *rest])
        command.__signature__ = signature  # type: ignore[attr-defined]
        command.__annotations__ = {name: each.annotation for name, each in signature.parameters.items()}
        return command

    return decorate


def parse_settings(texts: Sequence[str]) -> dict[str, str]:
    """The ``KEY=VALUE`` texts of ``--set`` as a map. Raises UsageError."""
    found: dict[str, str] = {}
    for text in texts:
        key, equals, value = text.partition("=")
        if not equals or not key.strip():
            raise UsageError("write KEY=VALUE, such as method.temperature=2", setting="set", value=text)
        found[key.strip()] = value
    return found


def settings_table(settings: Iterable[Setting], prefix: str = "") -> dict[str, list[tuple[str, str, str, str]]]:
    """By group, (key, type, default, help) of settings, as ``--settings`` and docs/settings.md show them."""
    groups: dict[str, list[tuple[str, str, str, str]]] = {}
    for each in settings:
        row = (f"{prefix}{each.name}", type_name(each), show_default(each), each.help)
        groups.setdefault(each.group, []).append(row)
    return groups


def type_name(declared: Setting) -> str:
    """The type of a setting's values in one word."""
    if declared.form:
        return declared.form
    kinds = (declared.type, *get_args(declared.type))
    return next((name for name, kind in TYPES.items() if kind in kinds or kind in map(get_origin, kinds)), "text")


def show_default(declared: Setting) -> str:
    """The default as it is typed; "-" for none."""
    value = declared.default
    if value is None or value in ("", ()) or isinstance(value, Mapping):
        return "-"
    if isinstance(value, tuple):
        return ",".join(map(str, value))
    return str(value).lower() if isinstance(value, bool) else f"{value:g}" if isinstance(value, float) else str(value)


def print_columns(groups: Mapping[str, Sequence[Sequence[str]]]) -> None:
    """Prints rows by group on stdout; wraps the last column if stdout is a terminal."""
    from escort_cli.terminal import print_line

    rows = [row for group in groups.values() for row in group]
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]) - 1)]
    start = 2 + sum(widths) + 2 * len(widths)
    room = max(20, shutil.get_terminal_size().columns - start) if sys.stdout.isatty() else sys.maxsize
    for name, group in groups.items():
        print_line(f"{name}:")
        for row in group:
            cells = "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=False))
            lines = textwrap.wrap(row[-1], room) or [""]
            print_line(f"  {cells}  {lines[0]}".rstrip())
            for line in lines[1:]:
                print_line(" " * start + line)
        print_line()
