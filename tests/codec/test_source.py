"""Data folders as people have them: layouts, captions, odd files; and image files of every kind into RGB."""

from __future__ import annotations

import io
import json
import os
import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from escort_codec import source
from escort_codec.errors import ImageError, SourceError
from escort_codec.source import has_split, image_size, load_rgb, read_file, scan
from tests.helpers import in_child, quick_folder

RGB = np.random.default_rng(3).integers(0, 256, (13, 17, 3), np.uint8)


def save(path: Path, image: Image.Image | None = None, **options: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    kind = options.pop("format", None) or {"jpg": "JPEG"}.get(path.suffix[1:].lower(), path.suffix[1:].upper() or "PNG")
    (image or Image.fromarray(RGB)).save(path, format=kind, **options)
    return path


def keys(folder: Path, split: str = "train") -> list[str]:
    return [image.key for image in scan(folder, split)]


def captions(folder: Path) -> dict[str, str | None]:
    return {image.key: image.caption for image in scan(folder)}


def test_both_layouts_and_the_order(tmp_path: Path) -> None:
    for name in ("train/b/2.png", "train/b/10.png", "train/a/z/1.png", "train/a/y.png", "test/a/t.png", "val/a/v.png"):
        save(tmp_path / name)
    assert keys(tmp_path) == ["a/y.png", "a/z/1.png", "b/10.png", "b/2.png"]
    assert keys(tmp_path, "test") == ["a/t.png"]
    assert keys(tmp_path, "val") == ["a/v.png"]
    assert keys(tmp_path / "train") == keys(tmp_path)
    assert (has_split(tmp_path, "test"), has_split(tmp_path, "valid")) == (True, False)
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
        ("metadata.jsonl", b"\xff\xfe", "cannot be read"),
        ("1.txt", b"\xff\xfe", "the caption cannot be read"),
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


@pytest.mark.parametrize("name", ["a.jpg", "a.JPG", "a.jpeg", "a.JPEG", "a.png", "a.PNG", "a.webp", "a.bmp", "a.gif"])
def test_formats_by_what_is_in_the_file(tmp_path: Path, name: str) -> None:
    kind = {"JPG": "JPEG"}.get(name[2:].upper(), name[2:].upper())
    path = save(tmp_path / name, format=kind)
    with Image.open(path) as image:
        expected = np.asarray(image.convert("RGB"))
    assert (load_rgb(path) == expected).all()
    assert (load_rgb(path.rename(tmp_path / "lies.tiff")) == expected).all()
    assert image_size(tmp_path / "lies.tiff") == (13, 17)


def _modes() -> dict[str, Image.Image]:
    rgb = Image.fromarray(RGB)
    grey = RGB[:, :, 0]
    palette = rgb.quantize(16)
    return {
        "RGB": rgb,
        "L": Image.fromarray(grey),
        "1": Image.fromarray(grey > 99),
        "LA": Image.merge("LA", [Image.fromarray(grey), Image.fromarray(255 - grey)]),
        "RGBA": Image.fromarray(np.dstack([RGB, grey])),
        "P": palette,
        "I;16": Image.fromarray(RGB[:, :, 0].astype(np.uint16) * 3),
    }


@pytest.mark.parametrize("mode", _modes())
def test_modes_are_converted_as_pillow_does_it(tmp_path: Path, mode: str) -> None:
    path = save(tmp_path / "a.png", _modes()[mode])
    with Image.open(path) as image:
        assert image.mode == mode
        expected = np.asarray(image.convert("RGB"))
    assert (load_rgb(path) == expected).all()
    assert (load_rgb(path.read_bytes()) == expected).all()
    assert load_rgb(path).shape == (13, 17, 3)


@pytest.mark.parametrize("kind", ["gif", "png"])
def test_a_palette_with_transparent_colours(tmp_path: Path, kind: str) -> None:
    image = Image.fromarray(RGB).quantize(8)
    transparency: Any = 3 if kind == "gif" else bytes(range(0, 256, 32))
    path = save(tmp_path / f"a.{kind}", image, transparency=transparency)
    with Image.open(path) as opened:
        expected = np.asarray(opened.convert("RGBA"))[:, :, :3]
    assert (load_rgb(path) == expected).all()


def test_cmyk_and_the_first_frame_of_several(tmp_path: Path) -> None:
    path = save(tmp_path / "a.jpg", Image.fromarray(RGB).convert("CMYK"))
    with Image.open(path) as image:
        assert (load_rgb(path) == np.asarray(image.convert("RGB"))).all()
    frames = [Image.fromarray(np.full((9, 8, 3), v, np.uint8)) for v in (10, 200)]
    for kind in ("gif", "webp"):
        path = save(tmp_path / f"b.{kind}", frames[0], save_all=True, append_images=frames[1:])
        assert abs(load_rgb(path).astype(int) - 10).max() <= 4


@pytest.mark.parametrize("kind", ["png", "webp", "jpg"])
@pytest.mark.parametrize(
    ("orientation", "shown"),
    [
        (1, RGB),
        (2, RGB[:, ::-1]),
        (3, RGB[::-1, ::-1]),
        (4, RGB[::-1]),
        (5, RGB.transpose(1, 0, 2)),
        (6, np.rot90(RGB, -1)),
        (7, RGB[::-1, ::-1].transpose(1, 0, 2)),
        (8, np.rot90(RGB, 1)),
        (9, RGB),
    ],
)
def test_exif_orientation(tmp_path: Path, kind: str, orientation: int, shown: NDArray[np.uint8]) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    options: dict[str, Any] = {"lossless": True, "exact": True} if kind == "webp" else {}
    path = save(tmp_path / f"a.{kind}", exif=exif.tobytes(), **options)
    rgb = load_rgb(path)
    assert rgb.shape == shown.shape
    assert image_size(path) == shown.shape[:2]
    if kind != "jpg":
        assert (rgb == shown).all()


def _png_head(width: int, height: int) -> bytes:
    head = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    crc = struct.pack(">I", zlib.crc32(head))
    return b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + head + crc + struct.pack(">I", 99) + b"IDAT"


def _jpeg() -> bytes:
    file = io.BytesIO()
    Image.fromarray(np.zeros((40, 50, 3), np.uint8) + RGB[0, 0]).save(file, "JPEG")
    return file.getvalue()


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"", "is not an image"),
        (b"hello, no image", "is not an image"),
        (b"%PDF-1.4", "is not an image"),
        (_jpeg()[:200], "is damaged|is not an image"),
        (_jpeg()[:-20], "is damaged"),
        (_png_head(20, 20), "is damaged"),
        (_png_head(9000, 9000), "9000 x 9000 pixels are above the cap"),
        (_png_head(12000, 8000), "pixels are above the cap"),  # from here on Pillow warns, then refuses
        (_png_head(60000, 60000), "pixels are above the cap"),
        (_png_head(70000, 1), "70000 x 1 pixels are above the cap"),
        (b"II*\0" + bytes(100), "is not an image"),  # TIFF is not among the formats
    ],
)
def test_what_is_no_image_is_one_line_that_begins_with_the_path(tmp_path: Path, data: bytes, says: str) -> None:
    path = tmp_path / "a.jpg"
    path.write_bytes(data)
    with pytest.raises(ImageError, match=says) as caught:
        load_rgb(path)
    assert str(caught.value).startswith(f"{path}: ")
    assert "\n" not in str(caught.value)
    with pytest.raises(ImageError, match=r"^here: "):
        load_rgb(data, name="here")


def test_the_cap_on_pixels_is_checked_before_pixels_are_decoded(tmp_path: Path) -> None:
    path = save(tmp_path / "a.png")
    assert load_rgb(path, max_pixels=13 * 17).shape == (13, 17, 3)
    for read in (load_rgb, image_size):
        with pytest.raises(ImageError, match=r"a\.png: 17 x 13 pixels are above the cap of 220$"):
            read(path, max_pixels=13 * 17 - 1)
    (tmp_path / "b.png").write_bytes(_png_head(8000, 8000))  # 200 MB of pixels that are not there
    with pytest.raises(ImageError, match="above the cap"):
        load_rgb(tmp_path / "b.png", max_pixels=1000)


def _fifo(path: Path) -> None:
    os.mkfifo(path)


def _device(path: Path) -> None:
    path.symlink_to("/dev/zero")


def _missing(path: Path) -> None:
    path.symlink_to("/nowhere/at/all")


def _unreadable(path: Path) -> None:
    path.symlink_to("/proc/self/mem")


def _sparse(path: Path) -> None:
    with path.open("wb") as file:
        file.truncate(1 << 30)


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (_fifo, "is not a plain file"),
        (_device, "is not a plain file"),
        (_missing, "No such file"),
        (_unreadable, "cannot be read: Input/output error"),
        (_sparse, "above the cap of 67108864 bytes"),
    ],
)
def test_files_that_would_hang_fail_or_fill_the_memory(tmp_path: Path, make: Callable[[Path], None], says: str) -> None:
    path = tmp_path / "a.jpg"
    make(path)
    for read in (read_file, load_rgb, image_size):
        if says.startswith("cannot be read") and not Path("/proc/self/mem").exists():
            pytest.skip("no /proc")
        with pytest.raises(ImageError, match=says):
            read(path)


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


def test_the_formats_are_those_of_the_documentation() -> None:
    assert source.FORMATS == ("JPEG", "PNG", "WEBP", "BMP", "GIF")
