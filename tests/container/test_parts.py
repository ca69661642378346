"""Merging, splitting and extracting: payloads as they are, recipes kept apart, nothing overwritten."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from escort_codec import EdgeSettings, Exemplar, Reader, Recipe, Writer, pack
from escort_codec.coding import codings
from escort_codec.coding.base import Coding
from escort_codec.container.parts import extract, merge, recover, split
from escort_codec.errors import DamagedError, LimitError, OutputError, UsageError
from tests.helpers import assert_whole, draw_edges, make_exemplars, read_all

STORED = make_exemplars(60)  # three classes, one recipe


def put(path: Path, exemplars: list[Exemplar], source: str = "DATA") -> Path:
    path.write_bytes(pack(exemplars, source=source))
    return path


def one(name: str, label: str = "a", recipe: Recipe | None = None) -> Exemplar:
    return Exemplar.from_edges(draw_edges(9, 9), label=label, name=name, recipe=recipe, coding="rle")


@pytest.fixture
def whole(tmp_path: Path) -> Path:
    return put(tmp_path / "whole.escx", STORED)


def test_no_payload_is_decoded(tmp_path: Path, whole: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither maps nor hints: bytes that are not a map are copied as they are."""
    bad = Exemplar("prompt", "z", "z.png", (9, 9), "z", (), b"no map", "context", (9, 9), edge_settings=EdgeSettings())
    other = put(tmp_path / "other.escx", [bad])

    def fail(*args: object) -> None:
        raise AssertionError("a payload was decoded")

    for coding in codings:
        assert isinstance(coding, Coding)
        monkeypatch.setattr(type(coding), "decode", fail)
    monkeypatch.setattr("escort_codec.hint.decode_hint", fail)
    merged = tmp_path / "merged.escx"
    assert merge([whole, other], merged) == 61
    assert read_all(merged) == [*STORED, bad]
    assert extract(merged, tmp_path / "z.escx", labels=["z"]) == 1
    assert [bad] == read_all(tmp_path / "z.escx")
    parts = split(merged, tmp_path / "parts", parts=2)
    assert [e for part in parts for e in read_all(part)] == [*STORED, bad]


@pytest.mark.skipif(os.name == "nt", reason="needs a limit of open files")
def test_more_files_are_merged_than_may_be_open_at_once(tmp_path: Path, whole: Path) -> None:
    import resource

    files = split(whole, tmp_path / "parts", parts=60)
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    with whole.open("rb") as file:
        resource.setrlimit(resource.RLIMIT_NOFILE, (file.fileno() + 20, limits[1]))
    try:
        assert merge(files, tmp_path / "merged.escx") == 60
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)
    assert (tmp_path / "merged.escx").read_bytes() == whole.read_bytes()


@pytest.mark.parametrize("parts", [1, 2, 7, 60])
def test_split_parts_merge_to_the_same_bytes_in_any_order(tmp_path: Path, whole: Path, parts: int) -> None:
    files = split(whole, tmp_path / "parts", parts=parts)
    assert [path.name for path in files] == [f"whole-{k}-of-{parts}.escx" for k in range(1, parts + 1)]
    sizes = [assert_whole(path) for path in files]
    assert sum(sizes) == 60
    assert max(sizes) - min(sizes) <= 1
    for order in (files, files[::-1]):
        assert merge(order, tmp_path / "merged.escx", overwrite=True) == 60
        assert (tmp_path / "merged.escx").read_bytes() == whole.read_bytes()


def test_class_names_that_begin_alike_are_merged_in_the_order_of_encoding(tmp_path: Path) -> None:
    """By key a space and a dash sort before the slash, so that the order of classes is not that of their names."""
    labels = ["a", "a b", "a-b", "a.b", "a0"]
    stored = sorted((one(f"{i}.png", label) for label in labels for i in range(3)), key=lambda e: e.key)
    assert [e.label for e in stored[::3]] != labels
    whole = put(tmp_path / "f.escx", stored)
    files = split(whole, tmp_path / "parts", parts=4)
    merge(files[::-1], tmp_path / "merged.escx")
    assert (tmp_path / "merged.escx").read_bytes() == whole.read_bytes()


def test_files_that_interleave_are_taken_as_given_and_an_empty_one_adds_nothing(tmp_path: Path) -> None:
    odd, even = put(tmp_path / "odd.escx", STORED[1::2]), put(tmp_path / "even.escx", STORED[::2], "OTHER")
    empty = put(tmp_path / "empty.escx", [])
    merged = tmp_path / "merged.escx"
    assert merge([odd, empty, even], merged) == 60
    assert read_all(merged) == STORED[1::2] + STORED[::2]
    with Reader(merged) as reader:
        assert reader.source == ""  # they came from different folders
        assert len(reader.recipes) == 1


def test_different_recipes_are_refused_by_name_or_kept(tmp_path: Path) -> None:
    high, low = put(tmp_path / "high.escx", [one("1")]), put(tmp_path / "low.escx", [one("2", recipe=Recipe("lowres"))])
    steps = put(tmp_path / "steps.escx", [one("0"), one("3", recipe=Recipe(steps=9))])
    merged = tmp_path / "merged.escx"
    with pytest.raises(UsageError, match=r"high.escx and .*low.escx \(preset: hires and lowres\): set `keep_recipes`"):
        merge([high, low], merged)
    with pytest.raises(UsageError, match=r"high.escx and .*steps.escx \(steps: None and 9\)"):
        merge([high, steps], merged)
    with pytest.raises(UsageError, match=r"recipes in \S*steps.escx \(steps: None and 9\)"):
        merge([steps], merged)
    assert not merged.exists()
    assert merge([high, low, steps], merged, keep_recipes=True) == 4
    found = {e.name: e.recipe for e in read_all(merged)}
    assert found == {"0": Recipe(), "1": Recipe(), "2": Recipe("lowres"), "3": Recipe(steps=9)}
    with Reader(merged) as reader:
        assert len(reader.recipes) == 3  # each once


def test_a_name_in_two_files_is_an_error_that_names_file_and_exemplar(tmp_path: Path, whole: Path) -> None:
    again = put(tmp_path / "again.escx", STORED[10:11])
    with pytest.raises(LimitError, match=rf"again.escx: {STORED[10].key}: there is already an exemplar of that name"):
        merge([whole, again], tmp_path / "merged.escx")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["again.escx", "whole.escx"]


def test_invalid_arguments(tmp_path: Path, whole: Path) -> None:
    before = whole.read_bytes()
    other, link = put(tmp_path / "other.escx", [one("1")]), tmp_path / "link.escx"
    link.symlink_to(whole)
    with pytest.raises(UsageError, match="at least one file"):
        merge([], tmp_path / "new.escx")
    for out in (whole, link):
        with pytest.raises(UsageError, match="one of the files to merge"):
            merge([whole, other], out, overwrite=True)
        with pytest.raises(UsageError, match="is also the input"):
            extract(whole, out, labels=["class-1"], overwrite=True)
    with pytest.raises(OutputError, match="exists already"):
        merge([whole], other)
    with pytest.raises(OutputError, match="exists already"):
        extract(whole, other, labels=["class-1"])
    with pytest.raises(UsageError, match=r"holds no class 'cat'.*inspect --classes"):
        extract(whole, tmp_path / "new.escx", labels=["cat", "class-1"])
    with pytest.raises(UsageError, match="holds no exemplar 'class-1/none'"):
        extract(whole, tmp_path / "new.escx", names=["class-1/none"])
    with pytest.raises(UsageError, match="a class or an exemplar"):
        extract(whole, tmp_path / "new.escx")
    for parts in (0, -1, 61):
        with pytest.raises(UsageError, match=r"parts = .*has 60 exemplars"):
            split(whole, tmp_path / "parts", parts=parts)
    for wrong in ({}, {"parts": 2, "by_class": True}):
        with pytest.raises(UsageError, match="either"):
            split(whole, tmp_path / "parts", **wrong)  # type: ignore[arg-type]
    assert whole.read_bytes() == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["link.escx", "other.escx", "whole.escx"]


def test_split_overwrites_nothing_unless_asked_and_checks_before_it_writes(tmp_path: Path, whole: Path) -> None:
    (tmp_path / "parts").mkdir()
    (tmp_path / "parts" / "whole-3-of-3.escx").write_bytes(b"mine")
    with pytest.raises(OutputError, match=r"whole-3-of-3.escx exists already"):
        split(whole, tmp_path / "parts", parts=3)
    assert [path.read_bytes() for path in (tmp_path / "parts").iterdir()] == [b"mine"]
    assert len(split(whole, tmp_path / "parts", parts=3, overwrite=True)) == 3
    with pytest.raises(UsageError, match="is also the input"):
        split(
            put(tmp_path / "x-1-of-1.escx", STORED).rename(tmp_path / "x.escx"),
            _link(tmp_path),
            parts=1,
            overwrite=True,
        )


def _link(folder: Path) -> Path:
    """A folder in which the part's name leads back to the file that is split."""
    place = folder / "place"
    place.mkdir()
    (place / "x-1-of-1.escx").symlink_to(folder / "x.escx")
    return place


def test_one_file_per_class_for_any_class_names(tmp_path: Path) -> None:
    """The names come from a file of a stranger: the paths are safe, and distinct if case does not count."""
    labels = ["cat", "Cat", "a?b:c", "x" * 250, "caf\u00e9", "cafe\u0301", ".."[:1] + "hidden"]
    with Writer(tmp_path / "f.escx") as writer:
        for i in range(3):
            for label in labels:
                writer.add(one(f"{i}.png", label))
    files = split(tmp_path / "f.escx", tmp_path / "parts", by_class=True)
    assert sorted(files) == sorted((tmp_path / "parts").iterdir())
    assert len({path.name.casefold() for path in files}) == len(labels)
    assert [path.name for path in files[:3]] == ["f-cat.escx", "f-Cat~2.escx", "f-a_b_c.escx"]
    for path, label in zip(files, labels, strict=True):
        assert [e.key for e in read_all(path)] == [f"{label}/{i}.png" for i in range(3)]
    assert merge(files, tmp_path / "merged.escx") == 21


def test_extracting_keeps_order_recipe_and_source(tmp_path: Path, whole: Path) -> None:
    out = tmp_path / "out.escx"
    names = [STORED[50].key, STORED[3].key, STORED[21].key]
    assert extract(whole, out, labels=["class-1"], names=names) == 22
    assert read_all(out) == [STORED[3], *STORED[20:40], STORED[50]]
    with Reader(out) as reader:
        assert (reader.source, reader.recipes) == ("DATA", (Recipe(),))
    assert_whole(out)


def test_splitting_a_damaged_file_leaves_no_new_file(tmp_path: Path) -> None:
    damaged = put(tmp_path / "damaged.escx", make_exemplars(700))
    with Reader(damaged) as reader:
        at = reader.state.index.offsets[-1]
    data = bytearray(damaged.read_bytes())
    data[at + 20] ^= 1
    damaged.write_bytes(data)
    old = put(tmp_path / "parts-of-before.escx", [one("1")])
    with pytest.raises(DamagedError):
        split(damaged, tmp_path, parts=3)
    assert sorted(tmp_path.iterdir()) == [damaged, old]


@pytest.mark.parametrize("name", ["x" * 300 + ".escx", "x" * 247 + ".escx"])
def test_a_name_that_is_too_long_is_one_error(tmp_path: Path, whole: Path, name: str) -> None:
    """Of the second alone, the .partial beside it is too long."""
    out = tmp_path / name
    with pytest.raises(OutputError, match="cannot be written: File name too long"):
        merge([whole], out)
    with pytest.raises(OutputError, match="cannot be written: File name too long"):
        extract(whole, out, labels=[STORED[0].label])
    with pytest.raises(OutputError, match="cannot be written: File name too long"):
        recover(whole, out)
    assert [path.name for path in tmp_path.iterdir()] == ["whole.escx"]


def test_a_damaged_part_is_named_and_nothing_is_written(tmp_path: Path, whole: Path) -> None:
    other = put(tmp_path / "other.escx", [one("1", "z")])
    data = bytearray(other.read_bytes())
    with Reader(other) as reader:
        at = reader.state.index.offsets[0]
    data[at + 20] ^= 1
    other.write_bytes(data)
    with pytest.raises(DamagedError, match=rf"other.escx: the checksum is wrong.*BLCK chunk at byte {at}"):
        merge([whole, other], tmp_path / "merged.escx")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["other.escx", "whole.escx"]
