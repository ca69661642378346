from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from escort_codec.errors import UsageError
from escort_codec.limits import MAX_SEED, MAX_SEEDS
from escort_codec.seeds import format_seeds, parse_seeds


@pytest.mark.parametrize(
    ("text", "seeds"),
    [
        ("0-4", (0, 1, 2, 3, 4)),
        ("0,2,7", (0, 2, 7)),
        ("0-2,10", (0, 1, 2, 10)),
        (" 7 , 3 - 4,3", (3, 4, 7)),
        ("5-5", (5,)),
        ("4294967295", (MAX_SEED,)),
        ("0-4095", tuple(range(MAX_SEEDS))),
    ],
)
def test_valid_expressions(text: str, seeds: tuple[int, ...]) -> None:
    assert parse_seeds(text) == seeds


@pytest.mark.parametrize(
    "text",
    [
        "",
        ",",
        "a",
        "1,",
        "-1",
        "1-",
        "1--2",
        "4-0",
        "1.5",
        "0x1",
        "4294967296",
        "0-4096",
        "0-4095,5000",
        "1 2",
        "٣",
        "0\n;1",
    ],
)
def test_invalid_expressions_are_refused_in_one_line(text: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse_seeds(text)
    assert "\n" not in str(caught.value)


def test_the_formatted_expression() -> None:
    assert format_seeds((0, 1, 2, 10)) == "0-2,10"
    assert format_seeds((4, 3, 9)) == "3,4,9"
    assert format_seeds(()) == ""


@given(st.sets(st.integers(0, MAX_SEED), min_size=1, max_size=40))
def test_formatted_seeds_parse_to_the_same_seeds(seeds: set[int]) -> None:
    assert parse_seeds(format_seeds(seeds)) == tuple(sorted(seeds))
