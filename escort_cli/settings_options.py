"""Command-line options made from settings classes, and help that lists options in groups."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Mapping
from typing import Annotated, Any

import typer
from typer.core import TyperCommand

from escort_codec.settings import Setting


class GroupedCommand(TyperCommand):
    """A command whose help lists options under their groups (``rich_help_panel``), in the order of declaration."""

    # Typer has a click of its own or the package, depending on its version: neither is imported here.
    def format_options(self, ctx: Any, formatter: Any) -> None:
        """Arguments first, then each group."""
        groups: dict[str, list[tuple[str, str]]] = {}
        for parameter in self.get_params(ctx):
            record = parameter.get_help_record(ctx)
            if record is not None:
                name = "Arguments" if parameter.param_type_name == "argument" else "Options"
                groups.setdefault(getattr(parameter, "rich_help_panel", None) or name, []).append(record)
        for name, records in groups.items():
            with formatter.section(name):
                formatter.write_dl(records)


def flag_of(name: str) -> str:
    """The flag of a setting: ``--image-size`` of "image_size"."""
    return "--" + name.replace("_", "-")


def setting_parameter(declared: Setting, flag: str | None = None) -> inspect.Parameter:
    """A parameter of a command for a setting. It is None if not given, else the text that was typed, or a bool."""
    flag = flag or flag_of(declared.name)
    is_bool = declared.type is bool
    if is_bool:
        flag = f"{flag}/--no-{flag[2:]}"
    default = "" if declared.default in (None, "", (), 0, False, True) else f" [{_shown(declared.default)}]"
    metavar = declared.metavar or {int: "N", float: "X"}.get(_plain(declared.type), "TEXT")
    option = typer.Option(
        flag,
        help=declared.help.replace("`", "") + default,
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
    """Gives a command function the parameters of settings; it gets those that were typed as its keyword ``typed``.

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


def settings_table(settings: Iterable[Setting], prefix: str = "") -> list[tuple[str, str, str]]:
    """(key, default, what it is) of settings, as ``--settings`` and the documentation show them."""
    return [
        (f"{prefix}{each.name}", _shown(each.default), each.help)
        for each in settings
        if not each.name.endswith("_options")
    ]


def _plain(kind: Any) -> Any:
    return next((each for each in (int, float) if kind in (each, each | None)), str)


def _shown(value: Any) -> str:
    if value in (None, "", ()):
        return "-"
    if isinstance(value, tuple):
        return ",".join(map(str, value))
    return str(value).lower() if isinstance(value, bool) else str(value)
