"""Settings: frozen dataclasses whose fields declare name, type, default, help and bounds once.

    @dataclass(frozen=True, slots=True)
    class Options:
        steps: int = setting(20, "Denoising steps.", least=1)

The command line, JSON files, ``--set`` and the tables of the documentation are made from these declarations. Only
``convert`` parses and checks values.
"""

from __future__ import annotations

import difflib
import json
import math
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import MISSING, dataclass, field, fields, is_dataclass, replace
from functools import cache
from types import NoneType, UnionType
from typing import Any, Final, Literal, TypeVar, get_args, get_origin, get_type_hints

from escort_codec.errors import UsageError
from escort_codec.seeds import parse_seeds

T = TypeVar("T")

_UNITS: Final = {"": 1, "B": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "KIB": 2**10, "MIB": 2**20, "GIB": 2**30}


def setting(
    default: Any,
    help: str,  # noqa: A002 - the usual name
    *,
    group: str = "",
    shown: bool = False,
    metavar: str = "",
    form: str = "",
    choices: tuple[str, ...] = (),
    least: float | None = None,
    most: float | None = None,
) -> Any:
    """A field of a settings class.

    ``group`` and ``shown`` control where the command's help lists it; ``form`` "bytes" reads "200KB", "seeds" reads
    "0-4". A number must be ``least`` or more and ``most`` or less, a text one of ``choices``.
    """
    metadata = {
        "help": help,
        "group": group,
        "shown": shown,
        "metavar": metavar,
        "form": form,
        "choices": choices,
        "least": least,
        "most": most,
    }
    if isinstance(default, dict):
        return field(default_factory=dict, metadata=metadata)
    return field(default=default, metadata=metadata)


@dataclass(frozen=True, slots=True)
class Setting:
    """One declared setting; see ``setting``. ``type`` is the resolved annotation."""

    name: str
    type: Any
    default: Any
    help: str = ""
    group: str = ""
    shown: bool = False
    metavar: str = ""
    form: str = ""
    choices: tuple[str, ...] = ()
    least: float | None = None
    most: float | None = None

    @property
    def kind(self) -> str:
        """The values that it takes, in words: "a whole number", "harmonic or controlnet", "bytes, such as 200KB"."""
        if self.choices:
            return f"{', '.join(self.choices[:-1])} or {self.choices[-1]}" if len(self.choices) > 1 else self.choices[0]
        if self.form == "bytes":
            return "bytes, such as 200KB or 1GiB"
        if self.form == "seeds":
            return "seeds, such as 0-4 or 0,2,7"
        words = _words(self.type)
        if self.least is not None and self.most is not None:
            return f"{words} from {self.least:.15g} to {self.most:.15g}"
        if self.least is not None:
            return f"{words} of at least {self.least:g}"
        return words


def settings_of(cls: type) -> Mapping[str, Setting]:
    """The settings of a settings class by name, in the order of declaration."""
    cached: Callable[[type], Mapping[str, Setting]] = _settings_of
    return cached(cls)


@cache
def _settings_of(cls: Any) -> Mapping[str, Setting]:
    hints = get_type_hints(cls)
    base: Any = cls.__base__
    inherited = settings_of(cls.__base__) if is_dataclass(base) else {}
    found = {}
    for each in fields(cls):
        default = each.default_factory() if each.default_factory is not MISSING else each.default
        if not each.metadata and each.name in inherited:  # a subclass that only changes a default
            found[each.name] = replace(inherited[each.name], default=default)
        else:
            found[each.name] = Setting(each.name, hints[each.name], default, **each.metadata)
    return found


def setting_of(cls: type, name: str, *, default: Any = ..., help: str = "", group: str = "") -> Any:  # noqa: A002
    """A field with the default, help and bounds that the settings class ``cls`` declares for ``name``."""
    own = settings_of(cls)[name]
    return setting(
        own.default if default is ... else default,
        help or own.help,
        group=group,
        form=own.form,
        choices=own.choices,
        least=own.least,
        most=own.most,
    )


def build(
    cls: type[T],
    values: Mapping[str, Any],
    what: str = "setting",
    error: type[UsageError] = UsageError,
    prefix: str = "",
) -> T:
    """An instance of a settings class with ``values``, which may be texts as typed on a command line.

    ``what`` is the noun for an unknown key in the message, which suggests the nearest key; ``prefix`` ("method.")
    precedes the names of settings in messages. Raises ``error``.
    """
    known = settings_of(cls)
    clean = {}
    for key, value in values.items():
        if key not in known:
            raise error(unknown(f"there is no {what} {key!r}", key, known))
        clean[key] = convert(replace(known[key], name=prefix + key), value, error)
    return cls(**clean)


def check(instance: Any, error: type[UsageError] = UsageError) -> None:
    """Raises ``error`` if a value of a settings object is not of its type or out of its bounds."""
    kind: type = type(instance)
    for name, declared in settings_of(kind).items():
        value = getattr(instance, name)
        if value is not declared.default:
            convert(declared, value, error, texts=False)


def convert(declared: Setting, value: Any, error: type[UsageError] = UsageError, *, texts: bool = True) -> Any:
    """``value`` as the setting's type: checked and, with ``texts``, read from a text. Raises ``error``, naming it."""
    try:
        found = _read(declared, value) if texts else _checked(declared.type, value, strict=True)
    except (TypeError, ValueError, OverflowError, RecursionError, UsageError) as exc:
        raise error(f"give {declared.kind}", setting=declared.name, value=_plain(value)) from exc
    if isinstance(found, (int, float)) and not isinstance(found, bool):
        low, high = declared.least, declared.most
        if (
            not math.isfinite(found)
            or (isinstance(found, int) and abs(found) >= 1 << 63)
            or (low is not None and found < low)
            or (high is not None and found > high)
        ):
            raise error(f"give {declared.kind}", setting=declared.name, value=_plain(value))
    if any(_is_undecodable(text) for text in (found if isinstance(found, tuple) else (found,))):
        raise error("is not valid UTF-8: give it another name", setting=declared.name, value=_plain(value))
    if declared.choices and found is not None and found not in declared.choices:
        near = difflib.get_close_matches(str(found), declared.choices, n=1)
        hint = f"did you mean {near[0]}?" if near else f"write {declared.kind}"
        raise error(hint, setting=declared.name, value=_plain(value))
    return found


def parse_bytes(text: str) -> int:
    """``200KB`` (1000 bytes each), ``2MB``, ``1.5GiB`` (1024 x 1024 x 1024 each), ``200000``. Raises UsageError."""
    match = re.fullmatch(r"\s*([0-9]{1,30}(?:\.[0-9]+)?)\s*([A-Za-z]*)\s*", text)
    if not match or match[2].upper() not in _UNITS:
        raise UsageError(f"{text!r} is not a number of bytes: write 200KB, 2MB, 1GiB or 200000")
    return int(float(match[1]) * _UNITS[match[2].upper()])


def unknown(what: str, key: str, known: Iterable[str]) -> str:
    """``what``, and the nearest of the known names, or all of them."""
    known = list(known)
    near = difflib.get_close_matches(key, known, n=1, cutoff=0.5)
    return f"{what}; " + (f"did you mean {near[0]!r}?" if near else f"there are: {', '.join(sorted(known))}")


def _read(declared: Setting, value: Any) -> Any:
    kind = declared.type
    if not isinstance(value, str) or _takes_text(kind):
        return _checked(kind, value)
    if value.lower() == "null":
        return _checked(kind, None)
    if declared.form == "bytes":
        return parse_bytes(value)
    if value.lstrip()[:1] in ("[", "{"):
        return _checked(kind, json.loads(value))
    if declared.form == "seeds":
        return parse_seeds(value)
    item = next((get_args(each)[0] for each in (kind, *get_args(kind)) if get_origin(each) is tuple), None)
    if item is not None:
        parts = [part.strip() for part in value.split(",") if part.strip()]
        return tuple(int(part) for part in parts) if item is int else tuple(parts)
    return _checked(kind, json.loads(value.lower()))


def _checked(kind: Any, value: Any, *, strict: bool = False) -> Any:
    """``value`` if it is of the kind; raises TypeError.

    A list becomes a tuple, and a whole float an int unless ``strict``.
    """
    origin, parts = get_origin(kind), get_args(kind)
    if origin is UnionType:
        for part in parts:
            try:
                return _checked(part, value, strict=strict)
            except TypeError:
                continue
        raise TypeError
    if origin is Literal:
        if value not in parts:
            raise TypeError
        return value
    if origin is tuple:
        if not isinstance(value, (list, tuple)) or (parts[-1] is not ... and len(parts) != len(value)):
            raise TypeError
        return tuple(_checked(parts[0], each, strict=strict) for each in value)
    if kind is int and not strict and isinstance(value, float) and value.is_integer():
        return int(value)
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if kind in (int, float) and isinstance(value, bool):
        raise TypeError
    if not isinstance(value, origin or kind):
        raise TypeError
    return value


def _is_undecodable(text: Any) -> bool:
    """Whether it is a text without a form in UTF-8: a file name in another encoding, half of a surrogate pair."""
    try:
        if isinstance(text, str):
            text.encode()
    except UnicodeEncodeError:
        return True
    return False


def _takes_text(kind: Any) -> bool:
    parts = get_args(kind) if get_origin(kind) is UnionType else (kind,)
    return any(each is str or get_origin(each) is Literal for each in parts)


def _words(kind: Any) -> str:
    origin, parts = get_origin(kind), get_args(kind)
    if origin is UnionType:
        return " or ".join(_words(part) for part in parts if part is not NoneType)
    if origin is tuple:
        return "a list of whole numbers, such as 80,120" if parts[0] is int else "a list of texts, such as a,b"
    names: dict[Any, str] = {int: "a whole number", float: "a number", bool: "true or false", str: "a text"}
    return "a JSON object" if origin is Mapping or kind is dict else names.get(origin or kind, "a JSON object")


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value
