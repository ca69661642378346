"""The memory: its budget, its order, what is dropped, and its file."""

from __future__ import annotations

import io
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from PIL import Image

from escort_cil.memory import Budget, ClassMemory, Contents, exemplars_of, fill, packed, read_contents
from escort_cil.memory import budget as budget_module
from escort_cil.memory.budget import Counts, OldShelf
from escort_cil.memory.contents import figures_of
from escort_cil.memory.keep import Keep, Part, interleaved
from escort_codec.container import pack
from escort_codec.errors import ConfigError, EscortError
from escort_codec.exemplar import Exemplar

SHARES = ["original", "prompt", "30% original + 70% prompt", "80% original + 20% prompt"]
COUNTS = ["18 original + 48 prompt", "3 original + 2 prompt", "4 prompt", "5 original"]
BOTH = Keep.parse("18 original + 48 prompt").parts


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
        {
            "real": tuple(real(label, i, 20 + sizes[i % len(sizes)]) for i in range(reals)),
            "latent": (),
            "prompt": tuple(prompt(label, 500 + i, 8 + sizes[i % len(sizes)] % 40) for i in range(prompts)),
        },
    )


def reals_of(label: str, count: int) -> ClassMemory:
    return ClassMemory(label, {"real": tuple(real(label, i) for i in range(count))})


class ImageShelf:
    """Images that can become any kind, as a new class's: the first ones of the first part, the next of the next."""

    def __init__(self, label: str, images: int, parts: tuple[Part, ...] = BOTH) -> None:
        self.label = label
        self.images = images
        self.parts = parts

    def most(self, counts: Counts, part: int) -> int:
        return max(0, self.images - sum(counts[:part]))

    def take(self, counts: Counts) -> ClassMemory:
        groups: dict[str, tuple[Exemplar, ...]] = {}
        start = 0
        for part, count in zip(self.parts, counts, strict=True):
            make = {"real": real, "prompt": prompt}[part.kind.stored]
            groups[part.kind.stored] = tuple(make(self.label, i) for i in range(start, start + count))
            start += count
        return ClassMemory(self.label, groups)


@settings(max_examples=40, deadline=None)
@example([(1, 1)], [27], 400, "18 original + 48 prompt")  # the prompt that the mixture begins with is too large
@given(
    st.lists(st.tuples(st.integers(0, 6), st.integers(0, 6)), min_size=1, max_size=5),
    st.lists(st.integers(0, 400), min_size=1, max_size=4),
    st.integers(400, 8000),
    st.sampled_from(SHARES + COUNTS),
)
def test_a_filled_memory_is_within_its_budget_and_within_one_exemplar_of_it(
    held: list[tuple[int, int]], sizes: list[int], limit: int, keep: str
) -> None:
    budget = Budget.parse(str(limit), keep)
    parts, kinds = budget.keep.parts, [part.kind.stored for part in budget.keep.parts]
    shelves = [OldShelf(drawn(f"class{i}", r, p, sizes), parts) for i, (r, p) in enumerate(held)]
    try:
        contents = fill(shelves, budget)
    except ConfigError:
        if budget.keep.counts:  # the first exemplar of a class is of the kind that the mixture begins with
            order = interleaved([int(part.amount) for part in parts])
        elif len(parts) == 1:
            order = [(1,)]
        else:  # a share of the bytes may be too small
            return
        offers = [[memory for counts in order if len(memory := shelf.take(counts))] for shelf in shelves]
        assert all(len(packed([first])) > limit for first, *_ in filter(None, offers))
        return
    assert len(packed(contents)) <= limit
    # Each class holds the first of what it offered, in its order.
    for shelf, memory in zip(shelves, contents, strict=True):
        for stored in ("real", "prompt"):
            assert memory.of(stored) == shelf.held.of(stored)[: len(memory.of(stored))]
            assert stored in kinds or not memory.of(stored)
    # One more exemplar of the last part, of the class that has fewest, does not fit.
    if budget.keep.counts:
        return
    last = kinds[-1]
    left = [
        (len(memory.of(last)), i)
        for i, (shelf, memory) in enumerate(zip(shelves, contents, strict=True))
        if len(memory.of(last)) < len(shelf.held.of(last))
    ]
    if left:
        _, i = min(left)
        counts = tuple(len(contents[i].of(stored)) + (stored == last) for stored in kinds)
        more = [*contents[:i], shelves[i].take(counts), *contents[i + 1 :]]
        assert len(packed(more)) > limit


def test_classes_share_evenly() -> None:
    budget = Budget.parse("3000", "original")
    shelves = [OldShelf(reals_of(f"c{i}", 10), budget.keep.parts) for i in range(4)]
    counts = [len(memory) for memory in fill(shelves, budget)]
    assert max(counts) - min(counts) <= 1
    assert sorted(counts, reverse=True) == counts  # single ones more go to the first classes
    # Two hundred bytes each: as many as the file's own bytes leave room for.
    assert sum(counts) in (11, 12, 13)


def test_a_class_with_few_images_leaves_its_room_to_the_others() -> None:
    budget = Budget.parse("4000", "original")
    shelves = [OldShelf(reals_of("few", 1), budget.keep.parts)]
    shelves += [OldShelf(reals_of(f"c{i}", 20), budget.keep.parts) for i in range(2)]
    few, *others = fill(shelves, budget)
    assert len(few) == 1
    assert all(len(memory) >= 8 for memory in others)


def test_a_budget_for_each_class_grows_with_the_classes() -> None:
    def size(classes: int) -> int:
        budget = Budget.parse("1500/class", "original")
        shelves = [OldShelf(reals_of(f"c{i}", 20), budget.keep.parts) for i in range(classes)]
        return len(packed(fill(shelves, budget)))

    assert 1250 < size(1) <= 1500
    assert 3 * 1500 - 260 < size(3) <= 3 * 1500


def test_the_papers_units() -> None:
    shelf = ImageShelf("c", 100)
    (memory,) = fill([shelf], Budget.parse(""))
    assert (len(memory.of("real")), len(memory.of("prompt"))) == (18, 48)
    assert [e.name for e in memory.of("prompt")][:2] == ["018.jpg", "019.jpg"]  # the next in the order
    assert figures_of((memory,), 0).units == pytest.approx(20)
    (few,) = fill([ImageShelf("c", 20)], Budget.parse("20units/class", "18 original + 48 prompt"))
    assert (len(few.of("real")), len(few.of("prompt"))) == (18, 2)
    # PyCIL's memory_size: all classes share it.
    halves = fill([shelf, ImageShelf("d", 100)], Budget.parse("20units", "18 original + 48 prompt"))
    assert [(len(m.of("real")), len(m.of("prompt"))) for m in halves] == [(9, 24), (9, 24)]


def test_counts_in_a_budget_keep_their_proportion() -> None:
    (memory,) = fill([ImageShelf("c", 100)], Budget.parse("3000", "10 original + 30 prompt"))
    assert len(memory.of("prompt")) == pytest.approx(3 * len(memory.of("real")), abs=3)
    assert len(memory) < 40


def test_shares_of_the_bytes() -> None:
    contents = fill([ImageShelf("c", 400), ImageShelf("d", 400)], Budget.parse("40KB", "50% original + 50% prompt"))
    reals = sum(len(e.payload) for e in exemplars_of(contents) if e.kind == "real")
    assert reals == pytest.approx(20_000, rel=0.1)
    assert len(packed(contents)) > 40_000 - 2 * 300


def test_a_budget_for_nothing_is_an_error() -> None:
    budget = Budget.parse("300", "original")
    with pytest.raises(ConfigError, match="cannot hold one exemplar"):
        fill([ImageShelf("c", 5, budget.keep.parts)], budget)


def test_the_file_holds_classes_and_exemplars_in_order(tmp_path: Path) -> None:
    drawings = (drawn("b", 3, 2, [10]), drawn("a", 0, 4, [20]), drawn("c", 0, 0, [1]), drawn("d", 2, 0, [30]))
    file = io.BytesIO()
    Image.new("L", (20, 20)).save(file, "PNG")

    def image(each: Exemplar) -> Exemplar:
        return replace(each, payload=file.getvalue() + each.payload) if each.kind == "real" else each

    contents: Contents = tuple(
        ClassMemory(each.label, {kind: tuple(map(image, group)) for kind, group in each.by_kind.items()})
        for each in drawings
    )
    path = tmp_path / "memory.escx"
    path.write_bytes(packed(contents))
    assert read_contents(path, ["b", "a", "c", "d"]) == contents
    figures = figures_of(contents, path.stat().st_size)
    assert figures.real_by_class == (3, 0, 0, 2)
    assert figures.prompt_by_class == (2, 4, 0, 0)
    assert figures.bytes == path.stat().st_size


@pytest.mark.parametrize("change", [{"payload": b"MZ no image"}, {"size": (20, 21)}])
def test_a_memory_whose_pictures_are_not_what_they_declare_is_refused(change: dict[str, Any], tmp_path: Path) -> None:
    """It may come with a stranger's run folder."""
    file = io.BytesIO()
    Image.new("L", (20, 20)).save(file, "PNG")
    whole = Exemplar.from_image(file.getvalue(), label="a", name="b.png", size=(20, 20))
    path = tmp_path / "memory.escx"
    path.write_bytes(pack([whole]))
    assert len(read_contents(path, ["a"])[0]) == 1
    path.write_bytes(pack([replace(whole, **change)]))
    with pytest.raises(
        EscortError, match=r"a/b\.png: (is not an image|declares 21 x 20 pixels, but its file has 20 x 20)"
    ):
        read_contents(path, ["a"])


@pytest.mark.parametrize("classes", [20, 80, 320])
def test_filling_packs_the_file_a_few_times_for_any_number_of_classes(
    classes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = []

    def counting(contents: Contents) -> bytes:
        calls.append(len(contents))
        return packed(contents)

    monkeypatch.setattr(budget_module, "packed", counting)
    rng = np.random.default_rng(classes)
    sizes = [int(size) for size in rng.integers(20, 300, 5 * classes)]
    shelves = [
        OldShelf(
            reals_and(f"class{i:03d}", [real(f"class{i:03d}", n, sizes[5 * i + n]) for n in range(5)]),
            Keep.parse("original").parts,
        )
        for i in range(classes)
    ]
    contents = fill(shelves, Budget.parse(f"{500 * classes}", "original"))
    assert len({len(memory) for memory in contents}) > 1  # some classes got one more than the others
    assert len(packed(contents)) <= 500 * classes
    assert len(calls) < 60  # one for each class would be 320, and twice as many classes would take four times as long


def reals_and(label: str, exemplars: list[Exemplar]) -> ClassMemory:
    return ClassMemory(label, {"real": tuple(exemplars)})
