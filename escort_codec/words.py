"""Counts and lists as they stand in messages."""

from __future__ import annotations

from collections.abc import Sequence


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
