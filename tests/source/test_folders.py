"""Data folders as people have them: layouts, litter, odd files."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from escort_codec.errors import SourceError
from escort_codec.source import find_layout, load_rgb, scan, scan_folder
from tests.helpers import in_child, quick_folder
from tests.source.pictures import save


def keys(folder: Path, split: str = "train") -> list[str]:
    return [image.key for image in scan(folder, split)]


def test_both_layouts_and_the_order(tmp_path: Path) -> None:
    for name in ("train/b/2.png", "train/b/10.png", "train/a/z/1.png", "train/a/y.png", "test/a/t.png", "val/a/v.png"):
        save(tmp_path / name)
    assert keys(tmp_path) == ["a/y.png", "a/z/1.png", "b/10.png", "b/2.png"]
    assert keys(tmp_path, "test") == ["a/t.png"]
    assert keys(tmp_path, "validation") == ["a/v.png"]
    assert keys(tmp_path / "train") == keys(tmp_path)
    layout = find_layout(tmp_path)
    assert (layout.train, layout.val, layout.test) == tuple(tmp_path / name for name in ("train", "val", "test"))
    assert scan(str(tmp_path))[0].path == tmp_path / "train" / "a" / "y.png"


def test_a_class_may_be_called_train(tmp_path: Path) -> None:
    save(tmp_path / "train" / "1.png")
    save(tmp_path / "tram" / "2.png")
    assert keys(tmp_path) == ["train/1.png", "tram/2.png"]


@pytest.mark.parametrize(
    ("split", "says"), [("test", "has no folder 'test'"), ("validation", "has no folder 'validation'")]
)
def test_a_split_that_is_not_there(tmp_path: Path, split: str, says: str) -> None:
    save(tmp_path / "train" / "a" / "1.png")
    with pytest.raises(SourceError, match=says):
        scan(tmp_path, split)


def test_what_is_no_data_folder(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="there is no such folder"):
        scan(tmp_path / "none")
    with pytest.raises(SourceError, match="is not a folder"):
        scan(save(tmp_path / "loose.png"))
    with pytest.raises(SourceError, match="no class folders"):
        scan(tmp_path)
    (tmp_path / "a" / "deep").mkdir(parents=True)
    (tmp_path / "a" / "note.txt").write_text("no image")
    with pytest.raises(SourceError, match="hold no images"):
        scan(tmp_path)


def test_hidden_files_and_litter_are_passed_over(tmp_path: Path) -> None:
    save(tmp_path / "a" / "1.png")
    for name in (".hidden.png", ".DS_Store", "Thumbs.db", "desktop.ini", ".git/x.png", "__MACOSX/x.png"):
        (tmp_path / "a" / name).parent.mkdir(exist_ok=True)
        (tmp_path / "a" / name).write_bytes(b"x")
    (tmp_path / ".ipynb_checkpoints").mkdir()
    (tmp_path / "loose.png").write_bytes(b"x")
    assert keys(tmp_path) == ["a/1.png"]


def test_links_to_files_are_followed_and_rings_of_folders_are_not(tmp_path: Path) -> None:
    save(tmp_path / "DATA" / "a" / "1.png")
    (tmp_path / "DATA" / "a" / "2.png").symlink_to(tmp_path / "DATA" / "a" / "1.png")
    (tmp_path / "DATA" / "a" / "ring").symlink_to(tmp_path / "DATA")
    (tmp_path / "DATA" / "b").symlink_to(tmp_path / "DATA" / "a")  # a class folder may be a link
    assert keys(tmp_path / "DATA") == ["a/1.png", "a/2.png", "b/1.png", "b/2.png"]


def tree(folder: Path, *names: str) -> Path:
    """Small images at these places; a name that ends in '/' is an empty folder."""
    for name in names:
        if name.endswith("/"):
            (folder / name).mkdir(parents=True)
        else:
            place = folder / name
            save(place, format=None if place.suffix in (".png", ".jpg") else "PNG")
    return folder


@pytest.mark.parametrize(
    ("names", "line", "test"),
    [
        (["cat/1.png", "dog/1.png", "dog/2.png"], "class folders (2 classes, 3 images)", None),
        (["train/cat/1.png", "train/dog/1.png"], "train/ (2 classes, 2 images)", None),
        (["train/cat/1.png", "test/cat/1.png"], "train/ (1 class, 1 image), test/", "test"),
        (["Train/cat/1.png", "TEST/cat/1.png"], "Train/ (1 class, 1 image), TEST/", "TEST"),
        (["training/cat/1.png", "testing/cat/1.png"], "training/ (1 class, 1 image), testing/", "testing"),
        (["train/cat/1.png", "val/cat/1.png"], "train/ (1 class, 1 image), val/", "val"),
        (["train/cat/1.png", "Dev/cat/1.png"], "train/ (1 class, 1 image), Dev/", "Dev"),
        (["train/cat/1.png", "valid/cat/1.png", "test/cat/1.png"], "train/ (1 class, 1 image), test/", "test"),
        (
            ["archive/train/cat/1.png", "archive/test/cat/1.png"],
            "archive/train/ (1 class, 1 image), archive/test/",
            "archive/test",
        ),
        (["a/b/Training/cat/1.png"], "a/b/Training/ (1 class, 1 image)", None),
        (
            ["archive/README.txt", "archive/LICENSE", "archive/notes.md", "archive/train/cat/1.png"],
            "archive/train/ (1 class, 1 image)",
            None,
        ),
        (["__MACOSX/x/1.png", "archive/train/cat/1.png"], "archive/train/ (1 class, 1 image)", None),
        (["train/cat/1.png", "annotations/", "train/cat/sub/"], "train/ (1 class, 1 image)", None),
    ],
)
def test_layouts_that_people_have(tmp_path: Path, names: list[str], line: str, test: str | None) -> None:
    found = scan_folder(tree(tmp_path, *names))
    assert found.describe() == f"layout: {line}"
    assert found.layout.held_apart == (None if test is None else tmp_path / test)
    assert {image.label for image in found.images} <= {"cat", "dog"}


@pytest.mark.parametrize(
    ("names", "says"),
    [
        (["train/cat/1.png", "Training/cat/1.png"], "Training/ and train/ can both be the train split"),
        (
            ["train/cat/1.png", "plane/1.png"],
            r"two ways: train/ is a split \(give .*train for its 1 class\), or plane and train are 2 classes",
        ),
        (
            ["test/cat/1.png", "plane/1.png", "car/1.png"],
            "two ways: test/ is a split .* or car, plane and test are 3 classes",
        ),
        (
            ["wrap/train/cat/1.png", "wrap/test/cat/1.png", "wrap/1.png"],
            "two ways: wrap/ holds train/ and test/ .*, or it is one class",
        ),
        (["wrap/cat/1.png", "wrap/dog/1.png"], r"two ways: wrap/ holds 2 classes \(give .*wrap\), or it is one class"),
        (
            ["val/cat/1.png", "test/cat/1.png"],
            r"has no folder 'train' with class folders in it \(there are val/, test/\): rename the one to use",
        ),
    ],
)
def test_layouts_with_two_readings_are_refused(tmp_path: Path, names: list[str], says: str) -> None:
    with pytest.raises(SourceError, match=says):
        scan(tree(tmp_path, *names))


def test_every_folder_is_a_class_if_you_say_so(tmp_path: Path) -> None:
    tree(tmp_path, "train/cat/1.png", "plane/1.png", "test/1.png")
    found = scan_folder(tmp_path, layout="classes")
    assert [image.key for image in found.images] == ["plane/1.png", "test/1.png", "train/cat/1.png"]
    assert found.describe() == "layout: class folders (3 classes, 3 images)"


def test_a_test_folder_without_classes_is_reported(tmp_path: Path) -> None:
    found = scan_folder(tree(tmp_path, "train/cat/1.png", "train/dog/1.png", "test/1.png", "test/2.png"))
    assert found.layout.test is None
    assert found.notes == (f"{tmp_path / 'test'}: has no class folders and is not used",)


def test_a_further_folder_beside_two_splits_is_reported(tmp_path: Path) -> None:
    found = scan_folder(tree(tmp_path, "train/cat/1.png", "test/cat/1.png", "unlabelled/1.png"))
    assert found.notes == (f"{tmp_path}: not used, as no splits: unlabelled/",)


def test_litter_of_systems_and_our_own_output_are_not_classes(tmp_path: Path) -> None:
    tree(tmp_path, "cat/1.png", "cat/@eaDir/1.png/SYNOPHOTO_THUMB_M.jpg", "dog/1.png")
    tree(tmp_path, "@eaDir/x/1.jpg", "#recycle/1.png", "$RECYCLE.BIN/S-1/$R1.png", "lost+found/1.png", "__MACOSX/1.png")
    tree(tmp_path, "runs/first/cache/ab/1.jpg", "elsewhere/seed1993/cache/1.jpg", "out/cat/1_seed00.jpg")
    for run in ("runs/first", "elsewhere/seed1993"):
        for name in ("config.json", "metrics.jsonl"):
            (tmp_path / run / name).write_text("{}")
    (tmp_path / "out" / "manifest.jsonl").write_text('{"image": "cat/1_seed00.jpg", "exemplar": "cat/1.png"}\n')
    for name in ("ehthumbs.db", "ZbThumbnail.info", "Icon\r", "1.png.json", "boxes.xml"):
        (tmp_path / "cat" / name).write_bytes(b"")
    found = scan_folder(tmp_path)
    assert [image.key for image in found.images] == ["cat/1.png", "dog/1.png"]
    assert found.notes == ("not used: 2 other files beside the images",)


def test_a_cache_is_not_a_class(tmp_path: Path) -> None:
    tree(tmp_path, "cat/1.png", "dog/1.png", "copies/ab/1.jpg", "tagged/1.png")
    (tmp_path / "copies" / "CACHEDIR.TAG").write_text("Signature: 8a477f597d28d172789f06886806bc55\n# of any program\n")
    (tmp_path / "tagged" / "CACHEDIR.TAG").write_text("something else")
    found = scan_folder(tmp_path)
    assert [image.key for image in found.images] == ["cat/1.png", "dog/1.png", "tagged/1.png"]


def test_the_counts_are_those_of_the_split_that_is_read(tmp_path: Path) -> None:
    tree(tmp_path, "train/cat/1.png", "val/cat/1.png", "val/cat/2.png", "test/cat/1.png")
    assert scan_folder(tmp_path, "test").describe() == "layout: train/, test/ (1 class, 1 image)"
    assert scan_folder(tmp_path, "val").describe() == "layout: train/, test/, val/ (1 class, 2 images)"


def test_each_folder_is_listed_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tree(tmp_path, "train/cat/1.png", "train/cat/deep/2.png", "train/dog/1.png", "test/cat/1.png", "test/dog/1.png")
    seen: list[Path] = []
    real = os.scandir

    def scandir(path: Any) -> Any:
        seen.append(Path(path))
        return real(path)

    monkeypatch.setattr(os, "scandir", scandir)
    assert len(keys(tmp_path)) == 3
    assert len(seen) == len(set(seen))


def test_the_manifest_of_another_program_does_not_hide_a_class(tmp_path: Path) -> None:
    tree(tmp_path, "cat/1.png", "dog/1.png")
    (tmp_path / "cat" / "manifest.jsonl").write_text('{"file": "1.png"}\n')
    assert keys(tmp_path) == ["cat/1.png", "dog/1.png"]


def test_empty_class_folders_and_loose_images_are_reported(tmp_path: Path) -> None:
    found = scan_folder(tree(tmp_path, "train/cat/1.png", "train/dog/", "train/emu/", "train/2.png"))
    assert found.notes == (
        "2 class folders without images, left out: dog and 1 more",
        f"{tmp_path / 'train'}: not used: 1 file outside the class folders",
    )


def _as_nobody(work: Callable[[], None]) -> int:
    """Runs ``work`` without root's right to read everything."""

    def run() -> None:
        if os.geteuid() == 0:
            os.setuid(65534)
        work()

    return in_child(run)


def test_no_permission_is_an_error_that_names_the_place() -> None:
    with quick_folder() as folder:
        folder.chmod(0o755)
        path = save(folder / "DATA" / "a" / "1.png")
        load_rgb(path)  # so that the child need import nothing

        def work() -> None:
            with pytest.raises(SourceError, match="Permission denied"):
                [load_rgb(image.path) for image in scan(folder / "DATA")]

        for place, mode in ((path, 0), (path.parent, 0), (path.parent, 0o311), (folder / "DATA", 0)):
            place.chmod(mode)

            assert _as_nobody(work) == 0
            place.chmod(0o755)


def test_names_that_are_no_utf8_are_found_and_left_to_the_writer_to_refuse(tmp_path: Path) -> None:
    save(tmp_path / "a" / "1.png")
    try:
        os.rename(os.fsencode(tmp_path / "a" / "1.png"), os.fsencode(tmp_path / "a") + b"/\xff.png")  # noqa: PTH104
    except OSError:
        pytest.skip("the file system takes no such names")
    (image,) = scan(tmp_path)
    assert image.name == "\udcff.png"
    assert load_rgb(image.path).shape == (13, 17, 3)
