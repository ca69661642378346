"""Texts for messages: counts and lists, errors of other libraries, and untrusted texts made safe to print."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from typing import Any, Final

_HIDDEN: Final = re.compile(
    "["
    "\x00-\x1f\x7f-\x9f"  # control characters: a terminal obeys them
    "\u00ad\u061c\u180e\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb"  # direction, width, lines
    "\U0001bca0-\U0001bca3\U0001d173-\U0001d17a"  # marks of shorthand and music
    "\ud800-\udfff"  # half a character: not valid UTF-8
    "\U000e0001-\U000e007f"  # tags: invisible
    "]"
)
"""Characters that control a terminal or are invisible. U+200C and U+200D, which join letters, are allowed."""

_NAMED: Final = {"\n": "\\n", "\r": "\\r", "\t": "\\t"}


def counted(count: int, noun: str, plural: str = "") -> str:
    """``1 image``, ``1,200 images``, ``2 classes``; ``plural`` where an "s" is not enough."""
    if count != 1:
        noun = plural or f"{noun}{'es' if noun.endswith('s') else 's'}"
    return f"{count:,} {noun}"


def listed(names: Sequence[str], most: int = 3) -> str:
    """``a and b``; ``a, b, c and 3 more``, with ``most`` names at the most."""
    if len(names) > most:
        return f"{', '.join(names[:most])} and {len(names) - most} more"
    return " and ".join(filter(None, (", ".join(names[:-1]), names[-1]))) if names else ""


def first_line(exc: BaseException) -> str:
    """The first line of another library's error message, or the error's class if it has none."""
    return next((line.strip() for line in str(exc).splitlines() if line.strip()), type(exc).__name__)


def format_pixels(count: int) -> str:
    """``0.4 megapixels``, ``50 gigapixels``."""
    if count >= 10**10:
        return f"{count / 1e9:,.0f} gigapixels"
    return f"{count / 1e6:,.0f} megapixels" if count >= 10**7 else f"{count / 1e6:.1f} megapixels"


def escaped(text: str) -> str:
    """``text`` on one line, with control, bidirectional and invisible characters as Python writes them: ``\\x1b``.

    For everything that is printed or logged: names, prompts and messages may come from untrusted files.
    """
    return _HIDDEN.sub(lambda match: _NAMED.get(match[0]) or _escape(match[0]), text)


def _escape(char: str) -> str:
    code = ord(char)
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def to_json(value: Any, indent: int | None = None) -> str:
    """``value`` as JSON that is safe to print: characters that ``escaped`` replaces are escaped, other letters stay."""

    def escape(match: re.Match[str]) -> str:
        char = match[0]
        return char if char == "\n" else "\\u007f" if char == "\x7f" else json.dumps(char)[1:-1]

    return _HIDDEN.sub(escape, json.dumps(value, indent=indent, ensure_ascii=False))
