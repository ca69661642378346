"""Names of files and folders: valid, distinct and stable."""

from __future__ import annotations

import unicodedata
from pathlib import Path, PurePosixPath
from time import perf_counter

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from escort_codec.errors import OutputError
from escort_codec.names import LONGEST, SUFFIXES, SafeNames, fold, make_folder, safe_part
from escort_codec.words import escaped

JPEG = SUFFIXES["JPEG"]


@pytest.mark.parametrize(
    ("part", "safe"),
    [
        ("cat", "cat"),
        ("image 1.tar", "image 1.tar"),
        (".hidden", "_hidden"),
        (".git", "_git"),
        ("..png", "_.png"),
        ("-rf", "_rf"),
        ("\u200d.git", "_.git"),
        (".g\u200cit", "_g\u200cit"),
        ("--checkpoint-action=exec=sh x", "_-checkpoint-action=exec=sh x"),
        ("a\u202egpj", "a_gpj"),
        ("a\x9b2J\u2028", "a_2J_"),
        ("\uff0egit", "_git"),
        ("v1.0 (new)", "v1.0 (new)"),
        ("a~2", "a~2"),
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
        ("clock$", "clock$_"),
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
    names = SafeNames(["Cat", "cat", "CON", "con"])
    assert names.stem("Cat", "a.jpg", 0) == "Cat/a"
    assert names.stem("cat", "a.jpg", 1) == "cat~2/a"
    assert names.stem("CON", "a.jpg", 3) == "CON_/a"
    assert names.stem("con", "a.jpg", 4) == "con_~2/a"
    assert names.stem("Cat", "a.png", 5) == "Cat/a~2"
    assert names.stem("Cat", "A.jpg", 6) == "Cat/A~3"
    assert names.stem("Cat", "a~2.jpg", 7) == "Cat/a~2~2"
    assert names.stem("Cat", "caf\u00e9.jpg", 8) == "Cat/caf\u00e9"
    assert names.stem("Cat", "cafe\u0301.jpg", 9) == "Cat/cafe\u0301~2"
    assert names.stem("Cat", "", 10) == "Cat/000010"
    assert names.stem("Cat", "sub/a.jpg", 11) == "Cat/sub/a"
    assert names.stem("Cat", "SUB/b.jpg", 12) == "Cat/SUB~2/b"
    assert names.stem("Cat", "sub/c.jpg", 13) == "Cat/sub/c"
    assert names.changed == 2


def test_a_file_has_no_dot_but_that_of_its_own_format() -> None:
    names = SafeNames(["c"])
    assert names.stem("c", "x.pdf.exe", 0) == "c/x_pdf"
    assert names.stem("c", ".git/config", 1) == "c/_git/config"
    assert names.stem("c", "..png", 2) == "c/_"
    assert names.stem("c", ".png", 3) == "c/_png"
    assert names.file("c", "conftest.py", 4, JPEG) == "c/conftest.jpg"
    assert names.file("c", "x.php.jpg", 5, JPEG) == "c/x_php.jpg"
    assert names.file("c", ".ssh/authorized_keys", 6, (".png",)) == "c/_ssh/authorized_keys.png"
    assert names.file("c", "photo.JPEG", 7, JPEG) == "c/photo.JPEG"
    assert names.file("c", "photo.png", 8, JPEG) == "c/photo.jpg"
    assert names.file("c", "a.", 9, JPEG) == "c/a_.jpg"
    assert names.changed == 10
    assert names.example == "'x.pdf.exe' is written as 'x_pdf'"


def test_no_folder_looks_like_a_file_of_ours() -> None:
    labels = ["Manifest.0.jsonl", "manifest.jsonl", "x.JPG", "y.{20d04fe0}", "001.bear", ".git", "a.jpg.d"]
    names = SafeNames(labels)
    assert [names.folder(label) for label in labels] == [
        "Manifest.0_jsonl",
        "manifest_jsonl",
        "x_JPG",
        "y_{20d04fe0}",
        "001.bear",
        "_git",
        "a.jpg.d",
    ]
    assert names.file("001.bear", "b.png", 0, (".png",)) == "001.bear/b.png"
    assert names.file("001.bear", "b.png/c.png", 1, (".png",)) == "001.bear/b_png/c.png"


def test_a_real_file_never_takes_a_prompts_name() -> None:
    """Also if it has that name only once it is made safe."""
    names = SafeNames(["c"])
    assert names.stem("c", "a.jpg", 0) == "c/a"
    assert names.file("c", "a_seed00.jpg", 1, JPEG) == "c/a_seed00~real.jpg"
    assert names.file("c", "a_EDGES.png", 2, (".png",)) == "c/a_EDGES~real.png"
    assert names.file("c", "a.jpg", 3, JPEG) == "c/a.jpg"
    assert names.file("c", "A.JPG", 4, JPEG) == "c/A~2.JPG"
    assert names.file("c", "", 5, (".png",)) == "c/000005.png"
    assert names.file("c", "nul.txt", 6, JPEG) == "c/nul_.jpg"
    assert names.file("c", "a:seed05.jpg", 7, JPEG) == "c/a_seed05~real.jpg"
    assert names.file("c", "a<edges.png", 8, (".png",)) == "c/a_edges~real~2.png"
    assert names.file("c", "a_\uff53eed05.jpg", 9, JPEG) == "c/a_\uff53eed05~real~2.jpg"


def test_a_deep_path_is_cut() -> None:
    names = SafeNames(["c" * 250])
    one, two = (names.stem("c" * 250, "x/" * 500 + end, 0) for end in ("a.jpg", "b.jpg"))
    assert one != two
    assert one.count("/") == 1
    assert len(one.encode()) < 512
    assert SafeNames(["c"]).stem("c", "x/" * 200 + "a.jpg", 0) == "c/" + "x/" * 200 + "a"


def test_naming_is_linear() -> None:
    """Twenty thousand names of one stem, in any spelling: an attempt for each name would take hours."""
    names = SafeNames(["c"])
    stems = [names.stem("c", f"{'aA'[n % 2]}.{n}", n) for n in range(20_000)]
    assert stems[-1] == "c/A~20000"
    assert len(set(map(fold, stems))) == 20_000
    start = perf_counter()
    for n in range(2_000):
        names.stem("c", f"a.x{n}", n)
    assert perf_counter() - start < 1.0


NAME = st.text(
    st.sampled_from("aAeEé\u0301bſsıß\u200d:-.~ 2/_d\uff0e") | st.characters(), min_size=1, max_size=12
).filter(lambda name: all(part not in ("", ".", "..") for part in name.split("/")))


@given(st.lists(st.tuples(st.sampled_from(["c", "C", "c.jpg", "."]), NAME, st.booleans()), max_size=20))
@example([("c", "a/b.png", False), ("c", "a", True), ("c", "a.jpg/b.png", False)])
@example([("c", "xx:seed00.jpg", True), ("c", "xx.png", False), ("c", "xx<edges", True)])
@settings(max_examples=200, deadline=None)
def test_all_files_are_distinct_and_safe(given_names: list[tuple[str, str, bool]]) -> None:
    names = SafeNames(["c", "C", "c.jpg", ".x"])
    written: list[str] = []
    for number, (label, name, real) in enumerate(given_names):
        label = ".x" if label == "." else label
        if real:
            written.append(names.file(label, name, number, JPEG))
        else:
            stem = names.stem(label, name, number)
            written += [stem + "_seed00.jpg", stem + "_seed100.jpg", stem + "_edges.png"]
    assert len({fold(path) for path in written}) == len(written)
    folders = {fold(folder.as_posix()) for path in written for folder in PurePosixPath(path).parents}
    assert not folders & {fold(path) for path in written}
    for path in written:
        parts = path.split("/")
        assert parts[-1].count(".") == 1
        assert parts[-1].lower().endswith((*JPEG, ".png"))
        for part in parts:
            assert fold(part)[0] not in ".-"
            assert part[-1] not in ". "
            assert len(part.encode()) <= 255
            assert escaped(part) == part
            assert not set(part) & set('<>:"|?*\\')


@given(st.text(max_size=8), st.text(max_size=8))
def test_what_a_file_system_takes_for_equal_folds_to_the_same(one: str, two: str) -> None:
    for form in ("NFC", "NFD", "NFKC", "NFKD"):
        for change in (str.lower, str.upper, str.casefold):
            same = change(unicodedata.normalize(form, one))
            if same == change(unicodedata.normalize(form, two)):
                assert fold(one) == fold(two)
            assert fold(same) == fold(one)


def test_a_folder_is_made_but_not_through_a_file(tmp_path: Path) -> None:
    assert make_folder(tmp_path, "a/b").is_dir()
    (tmp_path / "a/c").write_text("")
    with pytest.raises(OutputError, match="is a file, not a folder"):
        make_folder(tmp_path, "a/c/d")
