"""Byte counts as people type them."""

from __future__ import annotations

import os
import re
from typing import Final

from escort_codec.errors import UsageError

_UNITS: Final = {"": 1, "B": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "KIB": 2**10, "MIB": 2**20, "GIB": 2**30}


def parse_bytes(text: str) -> int:
    """``200KB`` (1000 bytes each), ``2MB``, ``1.5GiB`` (1024 x 1024 x 1024 each), ``200000``. Raises UsageError."""
    match = re.fullmatch(r"\s*([0-9]+(?:\.[0-9]+)?)\s*([A-Za-z]*)\s*", text)
    if not match or match[2].upper() not in _UNITS:
        raise UsageError(f"{text!r} is no number of bytes: write 200KB, 2MB, 1GiB or 200000")
    return int(float(match[1]) * _UNITS[match[2].upper()])


def half_of_memory() -> int:
    """Half of the machine's memory in bytes; 4 GiB where the system does not tell."""
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2
    except (AttributeError, OSError, ValueError):
        return 4 << 30
