"""Names of files and folders: valid, distinct and stable."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from escort_codec.errors import OutputError
from escort_codec.names import LONGEST, SafeNames, fold, make_folder, safe_part


@pytest.mark.parametrize(
    ("part", "safe"),
    [
        ("cat", "cat"),
        ("image 1.tar", "image 1.tar"),
        (".hidden", ".hidden"),
        ("-rf", "-rf"),
        ("CON", "CON_"),
        ("nul.txt", "nul_.txt"),
        ("Com1.tar.gz", "Com1_.tar.gz"),
        ("LPT²", "LPT²_"),
        ("CONSOLE", "CONSOLE"),
        ("COM10", "COM10"),
        ("NUL .x", "NUL_ .x"),
        ("a.", "a_"),
        ("a. .", "a___"),
        ("a ", "a_"),
        ("...", "___"),
        ('a:b<c>d"e|f?g*h', "a_b_c_d_e_f_g_h"),
        ("a\\b/c", "a_b_c"),
        ("a\0b\nc\x7fd", "a_b_c_d"),
        ("\ud800x", "_x"),
    ],
)
def test_parts_of_a_path(part: str, safe: str) -> None:
    assert safe_part(part) == safe
    assert safe_part(safe) == safe


@pytest.mark.parametrize("part", ["", ".", ".."])
def test_parts_that_are_no_names(part: str) -> None:
    with pytest.raises(OutputError):
        safe_part(part)


def test_long_parts_stay_distinct_and_fit() -> None:
    one, two = safe_part("é" * 150 + "1"), safe_part("é" * 150 + "2")
    assert one != two
    assert len(one.encode()) <= LONGEST
    assert safe_part(one) == one


def test_names_that_only_differ_where_file_systems_do_not_look() -> None:
    names = SafeNames(["Cat", "cat", "manifest.jsonl", "CON", "con"])
    assert names.stem("Cat", "a.jpg", 0) == "Cat/a"
    assert names.stem("cat", "a.jpg", 1) == "cat~2/a"
    assert names.stem("manifest.jsonl", "a.jpg", 2) == "manifest.jsonl~2/a"
    assert names.stem("CON", "a.jpg", 3) == "CON_/a"
    assert names.stem("con", "a.jpg", 4) == "con_~2/a"
    assert names.stem("Cat", "a.png", 5) == "Cat/a~2"
    assert names.stem("Cat", "A.jpg", 6) == "Cat/A~3"
    assert names.stem("Cat", "a~2.jpg", 7) == "Cat/a~2~2"
    assert names.stem("Cat", "caf\u00e9.jpg", 8) == "Cat/caf\u00e9"
    assert names.stem("Cat", "cafe\u0301.jpg", 9) == "Cat/cafe\u0301~2"
    assert names.stem("Cat", "", 10) == "Cat/000010"
    assert names.stem("Cat", "sub/a.jpg", 11) == "Cat/sub/a"
    assert names.changed == 2


def test_no_class_takes_the_place_of_a_manifest() -> None:
    names = SafeNames(["Manifest.0.jsonl", "manifest.a.jsonl"])
    assert names.folder("Manifest.0.jsonl") == "Manifest.0.jsonl~2"
    assert names.folder("manifest.a.jsonl") == "manifest.a.jsonl"


def test_a_real_file_never_takes_a_prompts_name() -> None:
    names = SafeNames(["c"])
    assert names.stem("c", "a.jpg", 0) == "c/a"
    assert names.file("c", "a_seed00.jpg", 1, "") == "c/a_seed00~real.jpg"
    assert names.file("c", "a_EDGES.png", 2, "") == "c/a_EDGES~real.png"
    assert names.file("c", "a.jpg", 3, "") == "c/a.jpg"
    assert names.file("c", "A.JPG", 4, "") == "c/A~2.JPG"
    assert names.file("c", "", 5, ".png") == "c/000005.png"
    assert names.file("c", "nul.txt", 6, "") == "c/nul_.txt"


NAME = st.text(st.sampled_from("aAeEé\u0301bſsı.~ 2/_") | st.characters(), min_size=1, max_size=12).filter(
    lambda name: all(part not in ("", ".", "..") for part in name.split("/"))
)


@given(st.lists(st.tuples(NAME, st.booleans()), max_size=20))
@settings(max_examples=150, deadline=None)
def test_all_files_are_distinct_and_inside(given_names: list[tuple[str, bool]]) -> None:
    names = SafeNames(["c"])
    written: list[str] = []
    for number, (name, real) in enumerate(given_names):
        if real:
            written.append(names.file("c", name, number, ".jpg"))
        else:
            stem = names.stem("c", name, number)
            written += [stem + "_seed00.jpg", stem + "_seed100.jpg", stem + "_edges.png"]
    assert len({fold(path) for path in written}) == len(written)
    for path in written:
        parts = path.split("/")
        assert parts[0] == "c"
        for part in parts:
            assert part not in ("", ".", "..")
            assert len(part.encode()) <= 255
            assert part[-1] not in ". "
            assert not set(part) & set('<>:"|?*\\\0')


def test_a_folder_is_made_but_not_through_a_file(tmp_path: Path) -> None:
    assert make_folder(tmp_path, "a/b").is_dir()
    (tmp_path / "a/c").write_text("")
    with pytest.raises(OutputError, match="is a file where a folder belongs"):
        make_folder(tmp_path, "a/c/d")
