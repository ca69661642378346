"""The memory: its budget, its order, what is dropped, and its file."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from escort_cil.memory import Budget, ClassMemory, Contents, exemplars_of, fill, packed, read_contents
from escort_cil.memory.budget import Counts, OldShelf
from escort_cil.memory.contents import figures_of
from escort_cil.policy import Mix
from escort_codec.errors import ConfigError
from escort_codec.exemplar import Exemplar

SHARES = [Mix(1, 0), Mix(0, 1), Mix(0.3, 0.7), Mix(0.8, 0.2)]
COUNTS = [Mix(18, 48, counts=True), Mix(3, 2, counts=True), Mix(0, 4, counts=True), Mix(5, 0, counts=True)]


def real(label: str, number: int, size: int = 200) -> Exemplar:
    data = np.random.default_rng(number).bytes(size)
    return Exemplar.from_image(data, label=label, name=f"{number:03d}.jpg", size=(20, 20))


def prompt(label: str, number: int, size: int = 16) -> Exemplar:
    edges = np.random.default_rng(number).random((size, size)) < 0.5
    return Exemplar.from_edges(edges, label=label, name=f"{number:03d}.jpg", coding="packed")


def drawn(label: str, reals: int, prompts: int, sizes: list[int]) -> ClassMemory:
    """A class whose exemplars have the given sizes in turn."""
    return ClassMemory(
        label,
        tuple(real(label, i, 20 + sizes[i % len(sizes)]) for i in range(reals)),
        tuple(prompt(label, 500 + i, 8 + sizes[i % len(sizes)] % 40) for i in range(prompts)),
    )


class BothShelf:
    """Images that can become either kind, as a new class's: the first ``real`` ones real, the next prompts."""

    def __init__(self, label: str, images: int) -> None:
        self.label = label
        self.images = images

    def most(self, real: int) -> Counts:
        return self.images, max(0, self.images - real)

    def take(self, reals: int, prompts: int) -> ClassMemory:
        return ClassMemory(
            self.label,
            tuple(real(self.label, i) for i in range(reals)),
            tuple(prompt(self.label, i) for i in range(reals, reals + prompts)),
        )


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 6), st.integers(0, 6)), min_size=1, max_size=5),
    st.lists(st.integers(0, 400), min_size=1, max_size=4),
    st.integers(400, 8000),
    st.sampled_from(SHARES + COUNTS),
)
def test_a_filled_memory_is_within_its_budget_and_within_one_exemplar_of_it(
    held: list[tuple[int, int]], sizes: list[int], limit: int, mix: Mix
) -> None:
    shelves = [OldShelf(drawn(f"class{i}", r, p, sizes)) for i, (r, p) in enumerate(held)]
    try:
        contents = fill(shelves, Budget(mix, total=limit))
    except ConfigError:
        first = [shelf.take(*kind) for shelf in shelves for kind in ((1, 0), (0, 1))]
        wanted = [memory for memory in first if (memory.real and mix.real) or (memory.prompts and mix.prompt)]
        if mix.counts or not (mix.real and mix.prompt):  # else a share of the bytes may be too small
            assert not wanted or min(len(packed([memory])) for memory in wanted) > limit
        return
    assert len(packed(contents)) <= limit
    # Each class holds the first of what it offered, in its order.
    for shelf, memory in zip(shelves, contents, strict=True):
        assert memory.real == shelf.held.real[: len(memory.real)]
        assert memory.prompts == shelf.held.prompts[: len(memory.prompts)]
    # One more prompt (real exemplar, where only these are kept) of the class that has fewest does not fit.
    if mix.counts:
        return
    kind = 1 if mix.prompt else 0
    left = [
        (len((memory.real, memory.prompts)[kind]), i)
        for i, (shelf, memory) in enumerate(zip(shelves, contents, strict=True))
        if len((memory.real, memory.prompts)[kind]) < len((shelf.held.real, shelf.held.prompts)[kind])
    ]
    if left:
        _, i = min(left)
        counts = [len(contents[i].real), len(contents[i].prompts)]
        counts[kind] += 1
        more = [*contents[:i], shelves[i].take(counts[0], counts[1]), *contents[i + 1 :]]
        assert len(packed(more)) > limit


def test_classes_share_evenly() -> None:
    shelves = [OldShelf(ClassMemory(f"c{i}", tuple(real(f"c{i}", j) for j in range(10)))) for i in range(4)]
    counts = [len(memory) for memory in fill(shelves, Budget(Mix(1, 0), total=3000))]
    assert max(counts) - min(counts) <= 1
    assert sorted(counts, reverse=True) == counts  # single ones more go to the first classes
    # Two hundred bytes each: as many as the file's own bytes leave room for.
    assert sum(counts) in (11, 12, 13)


def test_a_class_with_few_images_leaves_its_room_to_the_others() -> None:
    shelves = [OldShelf(ClassMemory("few", (real("few", 0),)))]
    shelves += [OldShelf(ClassMemory(f"c{i}", tuple(real(f"c{i}", j) for j in range(20)))) for i in range(2)]
    few, *others = fill(shelves, Budget(Mix(1, 0), total=4000))
    assert len(few) == 1
    assert all(len(memory) >= 8 for memory in others)


def test_a_budget_for_each_class_grows_with_the_classes() -> None:
    def size(classes: int) -> int:
        shelves = [OldShelf(ClassMemory(f"c{i}", tuple(real(f"c{i}", j) for j in range(20)))) for i in range(classes)]
        return len(packed(fill(shelves, Budget(Mix(1, 0), per_class=1500))))

    assert 1250 < size(1) <= 1500
    assert 3 * 1500 - 260 < size(3) <= 3 * 1500


def test_the_papers_units() -> None:
    shelf = BothShelf("c", 100)
    (memory,) = fill([shelf], Budget(Mix(18, 48, counts=True)))
    assert (len(memory.real), len(memory.prompts)) == (18, 48)
    assert [e.name for e in memory.prompts][:2] == ["018.jpg", "019.jpg"]  # the next in the order
    assert figures_of((memory,), 0).units == pytest.approx(20)
    (few,) = fill([BothShelf("c", 20)], Budget(Mix(18, 48, counts=True)))
    assert (len(few.real), len(few.prompts)) == (18, 2)
    # PyCIL's memory_size: all classes share it.
    halves = fill([shelf, BothShelf("d", 100)], Budget(Mix(18, 48, counts=True), size=20))
    assert [(len(m.real), len(m.prompts)) for m in halves] == [(9, 24), (9, 24)]


def test_counts_in_a_budget_keep_their_proportion() -> None:
    (memory,) = fill([BothShelf("c", 100)], Budget(Mix(10, 30, counts=True), total=3000))
    assert len(memory.prompts) == pytest.approx(3 * len(memory.real), abs=3)
    assert len(memory) < 40


def test_shares_of_the_bytes() -> None:
    contents = fill([BothShelf("c", 400), BothShelf("d", 400)], Budget(Mix(0.5, 0.5), total=40_000))
    reals = sum(len(e.payload) for e in exemplars_of(contents) if e.kind == "real")
    assert reals == pytest.approx(20_000, rel=0.1)
    assert len(packed(contents)) > 40_000 - 2 * 300


def test_a_budget_for_nothing_is_an_error() -> None:
    with pytest.raises(ConfigError, match="not one exemplar"):
        fill([BothShelf("c", 5)], Budget(Mix(1, 0), total=300))


def test_the_file_holds_classes_and_exemplars_in_order(tmp_path: Path) -> None:
    contents: Contents = (drawn("b", 3, 2, [10]), drawn("a", 0, 4, [20]), ClassMemory("c"), drawn("d", 2, 0, [30]))
    path = tmp_path / "memory.escx"
    path.write_bytes(packed(contents))
    assert read_contents(path, ["b", "a", "c", "d"]) == contents
    figures = figures_of(contents, path.stat().st_size)
    assert figures.real_by_class == (3, 0, 0, 2)
    assert figures.prompt_by_class == (2, 4, 0, 0)
    assert figures.bytes == path.stat().st_size
