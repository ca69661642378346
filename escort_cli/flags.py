"""Settings as they are typed: library errors name settings, the command line shows its flags."""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping
from typing import Any, Final

from typer.core import TyperCommand

from escort_codec.errors import EscortError, UsageError

PARAMETERS: Final[Mapping[str, Mapping[str, str]]] = {
    "train": {"prompts_file": "memory", "continued": "continue_"},
}
"""By command, the parameters that are not called like their setting."""

_SETTING: Final = re.compile(r"`([a-z][a-z0-9_.]*)`")


def with_flags(error: EscortError, command: TyperCommand) -> str:
    """The message of ``error`` with the settings of ``command`` as its flags.

    ``UsageError("at least 1", setting="workers", value=0)`` becomes ``--workers 0: at least 1``, and a setting in
    backquotes becomes its flag. A setting without a flag becomes ``--set KEY=VALUE`` if the command has ``--set``.
    """
    names = _flags(command)

    def flag(match: re.Match[str]) -> str:
        return names.get(match[1], match[0])

    if not isinstance(error, UsageError) or not error.setting:
        return _SETTING.sub(flag, str(error))
    setting, value = error.setting, error.value
    if setting in names:
        typed = [names[setting], *([] if value is None or value is True else [_typed(value)])]
    elif "set_" in names:
        typed = ["--set", setting if value is None else f"{setting}={_typed(value)}"]
    else:
        return _SETTING.sub(flag, str(error))
    return f"{' '.join(typed)}: {_SETTING.sub(flag, error.message)}"


def _flags(command: TyperCommand) -> dict[str, str]:
    """By setting, what its parameter is called on the command line: its longest flag, or an argument's name."""
    params: list[Any] = list(command.params)
    names = {
        param.name: max(param.opts, key=len)
        if param.param_type_name == "option"
        else (param.metavar or param.name.upper()).strip("[].")
        for param in params
    }
    renamed = PARAMETERS.get(command.name or "", {})
    return names | {setting: names[param] for setting, param in renamed.items()}


def _typed(value: object) -> str:
    """A value as it is typed in a shell."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, tuple | list):
        return ",".join(_typed(each) for each in value)
    return shlex.quote(str(value))
