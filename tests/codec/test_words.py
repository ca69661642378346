"""Counts, lists and other people's texts in messages."""

from __future__ import annotations

import json
import sys
import unicodedata

import pytest

from escort_codec.words import counted, escaped, listed, to_json

SHOWN = {
    *"\u200c\u200d",  # join letters in Persian, Hindi and emoji
    *"\u0600\u0601\u0602\u0603\u0604\u0605\u06dd\u070f\u0890\u0891\u08e2\U000110bd\U000110cd",  # visible signs
    *map(chr, range(0x13430, 0x13440)),  # place Egyptian hieroglyphs
}
"""Format characters that change neither a terminal nor the order of letters."""


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


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("caf\u00e9 \u732b \U0001f600 a\\b", "caf\u00e9 \u732b \U0001f600 a\\b"),
        ("\x1b[31mred\x07", "\\x1b[31mred\\x07"),
        ("two\nlines\r\n\tand a tab", "two\\nlines\\r\\n\\tand a tab"),
        ("\x9b2J\x7f", "\\x9b2J\\x7f"),
        ("a\u202egpj.exe", "a\\u202egpj.exe"),
        ("\u2066x\u2069\u2028y\u200b", "\\u2066x\\u2069\\u2028y\\u200b"),
        ("\ud800 \U000e0041", "\\ud800 \\U000e0041"),
        ("\u0645\u06cc\u200c\u062e\u0648\u0627\u0647\u0645", "\u0645\u06cc\u200c\u062e\u0648\u0627\u0647\u0645"),
    ],
)
def test_texts_of_others_are_shown_escaped(text: str, shown: str) -> None:
    assert escaped(text) == shown


def test_every_character_that_a_terminal_obeys_or_hides_is_escaped() -> None:
    every = map(chr, range(sys.maxunicode + 1))
    hidden = {char for char in every if unicodedata.category(char) in ("Cc", "Cf", "Cs", "Zl", "Zp")} - SHOWN
    wrong = [hex(ord(char)) for char in hidden if char in escaped(char)]
    assert wrong == []
    assert [char for char in sorted(SHOWN) if escaped(char) != char] == []


def test_json_is_escaped_and_reads_back() -> None:
    value = {"\u202ename": ["\x1b[0m\n", "\x7f\x85", "\U000e0041", "\u732b", 1.5, None]}
    text = to_json(value, indent=1)
    assert text == (
        '{\n "\\u202ename": [\n  "\\u001b[0m\\n",\n  "\\u007f\\u0085",\n  "\\udb40\\udc41",\n  "\u732b",\n  1.5,\n'
        "  null\n ]\n}"
    )
    assert json.loads(text) == value
