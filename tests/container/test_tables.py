"""Columns, dictionaries, names and runs: the quick checks of whole columns against the plain ones of each value."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from escort_codec import Exemplar, Reader, pack
from escort_codec.container.index import Index
from escort_codec.container.table import (
    Column,
    check_first_use,
    check_runs,
    names_fault,
    pack_column,
    pack_runs,
    row_ends,
    row_place,
    spread,
    unpack_column,
    unpack_runs,
)
from escort_codec.limits import name_fault
from tests.helpers import make_exemplars, quick_folder

names = st.lists(
    st.text(st.sampled_from("aé./\\:\n\x7f\x00C😀"), max_size=6) | st.sampled_from(["a.png", "x" * 300, "n" * 1025]),
    min_size=1,
    max_size=6,
)


@settings(max_examples=400, deadline=None)
@given(names)
@example(["", "a"])
@example(["a/", "b"])
@example(["a", "/b"])
@example(["a\nb"])
@example(["é" * 512, "b"])
@example(["é" * 513, "b"])
def test_names_are_checked_together_as_one_by_one(given_names: list[str]) -> None:
    wanted = not any(given_names) or any(name_fault(name) for name in given_names)
    assert bool(names_fault(given_names)) == wanted


numbers = st.lists(
    st.integers(0, 3) | st.sampled_from([255, 256, 65_535, 65_536, (1 << 32) - 1]), min_size=1, max_size=9
)


@given(numbers)
def test_a_column_holds_its_numbers(values: list[int]) -> None:
    packed = pack_column(values)
    column = unpack_column("number", packed, len(values), (1 << 32) - 1)
    assert spread(column, len(values)).tolist() == values
    ends, total = row_ends(column, len(values))
    places = [row_place(ends, column, row) for row in range(len(values))]
    assert places == [(sum(values[:i]), sum(values[: i + 1])) for i in range(len(values))]
    assert total == sum(values)


@settings(max_examples=300, deadline=None)
@given(st.lists(st.integers(0, 4), min_size=1, max_size=8), st.integers(0, 5), st.booleans())
def test_values_are_used_in_order_all_of_them(used: list[int], count: int, none: bool) -> None:
    first = list(dict.fromkeys(number for number in used if number or not none))
    wanted = first == list(range(int(none), count + none))
    column: Column = used[0] if len(set(used)) == 1 else np.array(used, np.uint8)
    if wanted:
        check_first_use("values", column, count, none=none)
    else:
        with pytest.raises(ValueError, match="order"):
            check_first_use("values", column, count, none=none)


@settings(max_examples=300, deadline=None)
@given(st.sets(st.integers(0, 30)), st.sets(st.integers(0, 30), max_size=6))
def test_the_seeds_of_a_block_are_looked_up_among_those_of_the_index(held: set[int], asked: set[int]) -> None:
    runs = check_runs(pack_runs(sorted(asked)), 4096)
    assert unpack_runs(runs) == tuple(sorted(asked))
    assert Index(seeds=held)._has(runs) == (asked <= held)


def test_a_batch_is_read_block_by_block_and_comes_in_the_order_asked_for() -> None:
    stored: list[Exemplar] = make_exemplars(600)
    with quick_folder() as folder:
        (folder / "f.escx").write_bytes(pack(stored))
        with Reader(folder / "f.escx") as reader:
            wanted = [599, 0, 300, 0, 7]
            assert reader.__getitems__(wanted) == [stored[i] for i in wanted]


def test_a_table_is_read_again_if_another_file_took_the_place_of_its_own() -> None:
    """The new file has blocks of the same lengths, so that only the table itself tells that its rows lie elsewhere."""

    def two(first: bytes, second: bytes) -> bytes:
        files = {"a": first, "b": second}
        return pack([Exemplar.from_image(data, label="x", name=n, size=(1, 1)) for n, data in files.items()])

    old, new = two(b"one", b"three"), two(b"seven", b"two")
    assert len(old) == len(new)
    with quick_folder() as folder:
        (folder / "f.escx").write_bytes(old)
        with Reader(folder / "f.escx") as reader:
            assert reader.find("x/b") == 1  # reads the table alone
            (folder / "f.escx").write_bytes(new)
            assert [exemplar.image for exemplar in reader] == [b"seven", b"two"]
