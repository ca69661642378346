"""Settings as they are typed: library errors name settings, the command line shows its flags."""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping
from typing import Any, Final

from typer.core import TyperCommand

from escort_codec.errors import EscortError, UsageError

RENAMED: Final[Mapping[str, Mapping[str, str]]] = {
    "train": {"continued": "--continue"},
}
"""By command, the flags of settings that have another name than the setting and the command's parameter."""

_SETTING: Final = re.compile(r"`([a-z][a-z0-9_.]*)`")


def with_flags(error: EscortError, command: TyperCommand) -> str:
    """The message of ``error`` with the settings of ``command`` as its flags.

    ``UsageError("at least 1", setting="workers", value=0)`` becomes ``--workers 0: at least 1``, and a setting in
    backquotes becomes its flag. A setting without a flag becomes ``--set KEY=VALUE`` if the command has ``--set``.
    """
    flags = _flags(command)

    def flag(match: re.Match[str]) -> str:
        return flags.get(match[1], match[0])

    if not isinstance(error, UsageError) or not error.setting:
        return _SETTING.sub(flag, str(error))
    setting, value = error.setting, error.value
    if setting in flags:
        typed = flags[setting] if value is None or value is True else f"{flags[setting]} {_typed(value)}"
    elif "set" in flags:
        typed = f"--set {setting}" if value is None else f"--set {setting}={_typed(value)}"
    else:
        return _SETTING.sub(flag, str(error))
    return f"{typed}: {_SETTING.sub(flag, error.message)}"


def _flags(command: TyperCommand) -> dict[str, str]:
    """By setting, what is typed for it: a flag, or an argument's name. Settings are parameters or flags by name."""
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
