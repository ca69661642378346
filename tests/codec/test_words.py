"""Counts and lists in messages."""

from __future__ import annotations

from escort_codec.words import counted, listed


def test_counts() -> None:
    assert [counted(n, "image") for n in (0, 1, 2, 1234)] == ["0 images", "1 image", "2 images", "1,234 images"]
    assert [counted(n, "class") for n in (1, 3)] == ["1 class", "3 classes"]
    assert [counted(n, "entry", "entries") for n in (1, 3)] == ["1 entry", "3 entries"]


def test_lists() -> None:
    assert [listed(list("abcde")[:n]) for n in range(6)] == [
        "",
        "a",
        "a and b",
        "a, b and c",
        "a, b, c and 1 more",
        "a, b, c and 2 more",
    ]
    assert listed(["a", "b"], 1) == "a and 1 more"
