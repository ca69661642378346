"""Captions as people have them: beside the image, in metadata files, in any encoding."""

from __future__ import annotations

import json
import unicodedata
from pathlib import Path
from typing import Any

import pytest

from escort_codec.errors import SourceError
from escort_codec.source import scan, scan_folder
from tests.source.pictures import save


def captions(folder: Path) -> dict[str, str | None]:
    return {image.key: image.caption for image in scan(folder)}


def one(folder: Path, name: str = "1.png", place: str = "train", **files: bytes) -> tuple[str | None, tuple[str, ...]]:
    """The caption of one image of the class 'cat', and the notes. ``files`` are metadata files in ``place``."""
    save(folder / "train" / "cat" / name)
    for kind, data in files.items():
        (folder / place / f"metadata.{kind}").write_bytes(data)
    found = scan_folder(folder)
    return found.images[0].caption, found.notes


def test_captions_beside_the_image(tmp_path: Path) -> None:
    for name in ("1.png", "2.PNG", "3.jpg", "4.png", "5.png", "6.png", "sub/7.png"):
        save(tmp_path / "a" / name)
    for name, text in (
        ("1.txt", "  a red kite \n"),
        ("2.TXT", "two"),
        ("3.txt", "\ufeffwith a BOM, für alle"),
        ("4.txt", " \n"),
        ("sub/7.txt", "seven\nlines"),
    ):
        (tmp_path / "a" / name).write_text(text, "utf-8")
    assert captions(tmp_path) == {
        "a/1.png": "a red kite",
        "a/2.PNG": "two",
        "a/3.jpg": "with a BOM, für alle",
        "a/4.png": None,
        "a/5.png": None,
        "a/6.png": None,
        "a/sub/7.png": "seven\nlines",
    }


def test_text_files_of_no_image_are_reported_and_unicode_forms_do_not_matter(tmp_path: Path) -> None:
    folder = tmp_path / "train" / "cat"
    save(folder / f"{unicodedata.normalize('NFD', 'olé')}.png")
    (folder / "olé.txt").write_text("a bull", "utf-8")
    (folder / "nobody.txt").write_text("x", "utf-8")
    found = scan_folder(tmp_path)
    assert found.images[0].caption == "a bull"
    assert found.notes == (
        "captions: 1 of 1 images have one",
        f"captions: no image for 1 text file: {folder / 'nobody.txt'}",
    )


def test_a_mark_of_lost_characters_is_text_and_a_letter_is_no_number(tmp_path: Path) -> None:
    for name, text in (("1", "a \ufffd cat"), ("2", "E"), ("3", "1e5 2E-3")):
        save(tmp_path / "a" / f"{name}.png")
        (tmp_path / "a" / f"{name}.txt").write_text(text, "utf-8")
    assert captions(tmp_path) == {"a/1.png": "a \ufffd cat", "a/2.png": "E", "a/3.png": None}


def test_captions_from_metadata_at_every_level(tmp_path: Path) -> None:
    for name in ("train/a/1.png", "train/a/2.png", "train/b/3.png", "train/b/4.png"):
        save(tmp_path / name)

    def write(place: str, *entries: dict[str, Any]) -> None:
        text = "\n".join(json.dumps(entry) for entry in entries)
        (tmp_path / place / "metadata.jsonl").write_text(text + "\n\n", "utf-8")

    write("", {"file_name": "train/a/1.png", "text": "from the folder"}, {"file_name": "train/b/3.png", "text": "x"})
    write("train", {"file_name": "a/2.png", "text": "from the split"}, {"file_name": "none.png", "text": "y"})
    write("train/b", {"file_name": "./3.png", "text": "from the class"}, {"file_name": "4.png", "label": 1})
    (tmp_path / "train" / "a" / "2.txt").write_text("from beside it")
    assert captions(tmp_path) == {
        "a/1.png": "from the folder",
        "a/2.png": "from beside it",
        "b/3.png": "from the class",
        "b/4.png": None,
    }


@pytest.mark.parametrize(
    ("name", "data", "says"),
    [
        ("metadata.jsonl", b'{"file_name": "1.png"}\n{broken', "line 2: is not JSON"),
        ("metadata.jsonl", b'{"text": "x"}', "line 1: has no text 'file_name'"),
        ("metadata.jsonl", b"[1]", "line 1"),
        ("metadata.jsonl", b"\0\0", "cannot be read"),
        ("metadata.csv", b"text\nx\n", "line 2: has no text 'file_name'"),
        ("1.txt", b"c\0a\0t\0", "the caption cannot be read"),
        ("1.txt", b"\xff\xfe\0", "the caption cannot be read"),
    ],
)
def test_captions_that_cannot_be_read_are_an_error_not_a_silent_none(
    tmp_path: Path, name: str, data: bytes, says: str
) -> None:
    save(tmp_path / "a" / "1.png")
    (tmp_path / "a" / name).write_bytes(data)
    with pytest.raises(SourceError, match=says) as caught:
        scan(tmp_path)
    assert str(tmp_path / "a" / name) in str(caught.value)


USED = "captions: 1 of 1 images have one"


@pytest.mark.parametrize(
    ("entry", "caption"),
    [
        ({"file_name": "cat/1.png", "text": "a cat\u2028on a mat"}, "a cat\u2028on a mat"),
        ({"file_name": "cat\\1.png", "text": "a cat on a mat"}, "a cat on a mat"),
        ({"file_name": "./cat/../cat/1.png", "text": "a cat"}, "a cat"),
        ({"file_name": "cat/1.png", "caption": "a cat on a mat"}, "a cat on a mat"),
        ({"file_name": "cat/1.png", "prompt": "a cat on a mat"}, "a cat on a mat"),
        ({"image": "cat/1.png", "Text": "a cat"}, "a cat"),
        ({"file_name": "cat/1.png", "text": ["", "a cat", "a tabby"]}, "a cat"),
        ({"file_name": "cat/1.png", "text": "", "caption": "a cat"}, "a cat"),
    ],
)
def test_entries_of_metadata_files(tmp_path: Path, entry: dict[str, Any], caption: str) -> None:
    line = json.dumps(entry, ensure_ascii=False).encode() + b"\r\n"
    assert one(tmp_path, jsonl=line) == (caption, (USED,))


def test_the_forms_of_unicode_are_the_same_name(tmp_path: Path) -> None:
    composed, taken_apart = (unicodedata.normalize(form, "caf\u00e9.png") for form in ("NFC", "NFD"))
    for n, (on_disk, in_file) in enumerate([(taken_apart, composed), (composed, taken_apart)]):
        line = json.dumps({"file_name": f"cat/{in_file}", "text": "a cat in a cafe"}).encode()
        assert one(tmp_path / str(n), on_disk, jsonl=line) == ("a cat in a cafe", (USED,))


def test_a_table(tmp_path: Path) -> None:
    table = 'file_name,text\ncat/1.png,"a cat, on a mat"\n'
    assert one(tmp_path / "split", csv=table.encode("utf-8-sig")) == ("a cat, on a mat", (USED,))
    assert one(tmp_path / "class", place="train/cat", csv=table.replace("cat/", "").encode()) == (
        "a cat, on a mat",
        (USED,),
    )
    assert one(tmp_path / "data", place=".", csv=table.encode("utf-16")) == ("a cat, on a mat", (USED,))


def test_what_is_not_used_is_reported(tmp_path: Path) -> None:
    lines = [
        {"file_name": "cats/1.png", "text": "a cat"},
        {"file_name": "2.png", "text": "x"},
        {"file_name": "cat/1.png"},
    ]
    caption, notes = one(tmp_path, jsonl="\n".join(map(json.dumps, lines)).encode())
    assert caption is None
    assert notes == (
        f"captions: no image for 2 entries: cats/1.png in {tmp_path / 'train' / 'metadata.jsonl'} and 1 more",
        "captions: no text (text, caption, prompt) in 1 entry of the metadata files",
    )


@pytest.mark.parametrize("text", ["0 0.51 0.43 0.20 0.31\n1 0.1 0.2 0.3 0.4\n", "3", "-1.5e-3, 2", "0:12 1:3"])
def test_numbers_are_labels_and_never_a_caption(tmp_path: Path, text: str) -> None:
    save(tmp_path / "train" / "cat" / "1.png")
    (tmp_path / "train" / "cat" / "1.txt").write_text(text)
    caption, notes = one(tmp_path)
    assert caption is None
    assert notes == (f"captions: numbers are not used as captions: {tmp_path / 'train' / 'cat' / '1.txt'}",)
    line = json.dumps({"file_name": "cat/1.png", "text": "a cat"}).encode()
    assert one(tmp_path, jsonl=line)[0] == "a cat"
    assert one(tmp_path, jsonl=json.dumps({"file_name": "cat/1.png", "text": text}).encode())[0] is None


@pytest.mark.parametrize(
    "data",
    [
        "un café au lait".encode(),
        "un café au lait".encode("utf-8-sig"),
        "un café au lait".encode("utf-16"),
        b"\xfe\xff" + "un café au lait".encode("utf-16-be"),
        "un café au lait".encode("latin-1"),
    ],
)
def test_encodings_of_text_files(tmp_path: Path, data: bytes) -> None:
    save(tmp_path / "train" / "cat" / "1.png")
    (tmp_path / "train" / "cat" / "1.txt").write_bytes(data)
    assert one(tmp_path) == ("un café au lait", (USED,))
