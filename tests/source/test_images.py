"""Image files of every kind into RGB."""

from __future__ import annotations

import io
import os
import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image, PngImagePlugin

from escort_codec.errors import ImageError, UsageError
from escort_codec.recipe import parse_colour
from escort_codec.source import FORMATS, image_size, load_rgb, read_file
from tests.source.pictures import RGB, save


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
        "P": palette,
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


def over(colours: Any, alpha: Any, ground: int = 255) -> NDArray[np.float64]:
    """Colours (H, W, 3) composited on a grey ground; alpha (H, W) is 0 to 255."""
    share = np.asarray(alpha, float)[:, :, None] / 255
    return np.asarray(colours, float) * share + ground * (1 - share)


def close(rgb: NDArray[np.uint8], expected: NDArray[np.float64]) -> bool:
    return rgb.shape == expected.shape and float(abs(rgb - expected).max()) <= 1


@pytest.mark.parametrize("ground", [255, 0, 128])
@pytest.mark.parametrize("kind", ["png", "webp", "tiff"])
def test_transparent_pixels_are_composited_on_the_background(tmp_path: Path, kind: str, ground: int) -> None:
    alpha = RGB[:, :, 0]
    options: dict[str, Any] = {"lossless": True, "exact": True} if kind == "webp" else {}
    path = save(tmp_path / f"a.{kind}", Image.fromarray(np.dstack([RGB, alpha])), **options)
    assert close(load_rgb(path, background=(ground, ground, ground)), over(RGB, alpha, ground))


def test_hidden_colours_are_not_shown(tmp_path: Path) -> None:
    clear = np.zeros((13, 17), np.uint8)
    path = save(tmp_path / "rgba.png", Image.fromarray(np.dstack([RGB, clear])))
    assert (load_rgb(path) == 255).all()
    assert (load_rgb(path, background=(1, 2, 3)) == (1, 2, 3)).all()
    assert (load_rgb(save(tmp_path / "la.png", Image.new("LA", (5, 4), (0, 0)))) == 255).all()


def test_grey_with_alpha(tmp_path: Path) -> None:
    grey, alpha = RGB[:, :, 0], RGB[:, :, 1]
    path = save(tmp_path / "a.png", Image.merge("LA", [Image.fromarray(grey), Image.fromarray(alpha)]))
    assert close(load_rgb(path), over(np.dstack([grey] * 3), alpha))


@pytest.mark.parametrize("kind", ["gif", "png"])
def test_a_palette_with_transparent_colours(tmp_path: Path, kind: str) -> None:
    image = Image.fromarray(RGB).quantize(8)
    indices, colours = np.asarray(image), np.asarray(image.convert("RGB"))
    transparency: Any = 3 if kind == "gif" else bytes(range(0, 256, 32))
    alpha = np.where(indices == 3, 0, 255) if kind == "gif" else 32 * indices
    path = save(tmp_path / f"a.{kind}", image, transparency=transparency)
    assert close(load_rgb(path), over(colours, alpha))


def test_one_transparent_colour(tmp_path: Path) -> None:
    red = np.full((4, 5, 3), (255, 0, 0), np.uint8)
    red[1, 2] = (0, 0, 255)
    path = save(tmp_path / "rgb.png", Image.fromarray(red), transparency=(255, 0, 0))
    expected = np.full((4, 5, 3), 255)
    expected[1, 2] = (0, 0, 255)
    assert (load_rgb(path) == expected).all()
    grey = Image.fromarray(np.array([[7, 8]], np.uint8))
    assert load_rgb(save(tmp_path / "l.png", grey, transparency=7))[0].tolist() == [[255] * 3, [8] * 3]
    deep = Image.fromarray(np.array([[0x1234, 0x1235]], np.uint16))
    assert load_rgb(save(tmp_path / "i.png", deep, transparency=0x1234))[0].tolist() == [[255] * 3, [0x12] * 3]


@pytest.mark.parametrize("kind", ["png", "tiff", "jp2", "ppm"])
def test_grey_of_16_bits_is_scaled(tmp_path: Path, kind: str) -> None:
    ramp = np.tile(np.arange(0, 65536, 257, dtype=np.uint16), (9, 1))
    path = save(tmp_path / f"a.{kind}", Image.fromarray(ramp), format={"jp2": "JPEG2000"}.get(kind))
    assert (load_rgb(path)[4] == np.arange(256)[:, None]).all()


@pytest.mark.parametrize("kind", ["png", "tiff"])
@pytest.mark.parametrize("channels", [3, 4])
def test_colours_of_16_bits_are_scaled(tmp_path: Path, kind: str, channels: int) -> None:
    levels = np.arange(0, 65536, 257, dtype=np.uint16)
    image = np.stack([levels, levels[::-1], levels[::5].repeat(6)[:256]], axis=1)[None]
    alpha = np.full((1, 256, 1), 0x8080, np.uint16)
    written = np.dstack([image[:, :, ::-1], alpha]) if channels == 4 else image[:, :, ::-1]
    cv2.imwrite(str(tmp_path / f"a.{kind}"), np.ascontiguousarray(written))
    expected = (image >> 8).astype(float)
    assert close(
        load_rgb(tmp_path / f"a.{kind}"), over(expected, np.full((1, 256), 0x80)) if channels == 4 else expected
    )


@pytest.mark.parametrize("array", [np.zeros((4, 5), np.int32), np.zeros((4, 5), np.float32)])
def test_samples_without_a_fixed_range_are_refused(tmp_path: Path, array: NDArray[Any]) -> None:
    path = save(tmp_path / "a.tiff", Image.fromarray(array))
    with pytest.raises(ImageError, match=r"a\.tiff: is not read: its samples have no fixed range"):
        load_rgb(path)


def test_a_tiff_file_of_samples_that_pillow_does_not_know_is_called_that(tmp_path: Path) -> None:
    entries = {256: 4, 257: 5, 258: 32, 259: 1, 262: 2, 273: 200, 277: 3, 278: 5, 279: 240, 339: 3}  # RGB, 32-bit float
    tags = b"".join(struct.pack("<HHII", tag, 3, 1, value) for tag, value in entries.items())
    head = b"II*\0" + struct.pack("<IH", 8, len(entries)) + tags + bytes(4)
    (tmp_path / "a.tif").write_bytes(head.ljust(200, b"\0") + bytes(240))
    for read in (load_rgb, image_size):
        with pytest.raises(
            ImageError, match=r"a\.tif: is a TIFF file that is damaged or has samples that are not read"
        ):
            read(tmp_path / "a.tif")


@pytest.mark.parametrize("kind", ["tiff", "avif", "jp2", "ppm", "pgm", "mpo"])
def test_further_formats(tmp_path: Path, kind: str) -> None:
    image = Image.new("RGB", (17, 13), (90, 90, 90))
    path = save(tmp_path / f"a.{kind}", image, format={"jp2": "JPEG2000", "pgm": "PPM"}.get(kind))
    assert abs(load_rgb(path).astype(int) - 90).max() <= 3
    assert image_size(path) == (13, 17)


@pytest.mark.parametrize("kind", ["ico", "tga", "dds", "pcx", "eps"])
def test_an_image_format_that_is_not_read_is_called_that(tmp_path: Path, kind: str) -> None:
    path = save(tmp_path / f"a.{kind}", format=kind.upper())
    with pytest.raises(ImageError, match=r"is in an image format that is not read: convert it to JPEG, PNG"):
        load_rgb(path)


@pytest.mark.parametrize(
    ("name", "data"),
    [("a.heic", b"\0\0\0\x18ftypheic" + bytes(50)), ("a.jxl", b"\xff\x0a" + bytes(9)), ("a.nef", b"II*\0")],
)
def test_formats_that_pillow_does_not_know(tmp_path: Path, name: str, data: bytes) -> None:
    (tmp_path / name).write_bytes(data)
    with pytest.raises(ImageError, match=r"is in an image format that is not read|is damaged"):
        load_rgb(tmp_path / name)


def test_long_texts_and_profiles_do_not_hide_the_pixels(tmp_path: Path) -> None:
    texts = PngImagePlugin.PngInfo()
    texts.add_text("notes", "x" * 3_000_000, zip=True)
    path = save(tmp_path / "text.png", pnginfo=texts)
    assert (load_rgb(path) == RGB).all()
    assert image_size(path) == (13, 17)
    path = save(tmp_path / "profile.png", icc_profile=bytes(2 << 20))
    assert (load_rgb(path) == RGB).all()
    assert image_size(path) == (13, 17)


def test_an_orientation_of_another_type_is_ignored(tmp_path: Path) -> None:
    tag = struct.pack("<HHI4s", 0x0112, 2, 2, b"6")  # as a text
    exif = b"Exif\0\0II*\0" + struct.pack("<IH", 8, 1) + tag + bytes(4)
    path = save(tmp_path / "a.png", exif=exif)
    assert (load_rgb(path) == RGB).all()
    assert image_size(path) == (13, 17)


def test_backgrounds() -> None:
    assert [parse_colour(text) for text in ("white", "Black", "#0a80FF")] == [
        (255, 255, 255),
        (0, 0, 0),
        (10, 128, 255),
    ]
    for text in ("grey", "#fff", "#12345g", "10,20,30"):
        with pytest.raises(UsageError, match="write white, black or #rrggbb") as caught:
            parse_colour(text)
        assert (caught.value.setting, caught.value.value) == ("background", text)


def test_cmyk_and_the_first_frame_of_several(tmp_path: Path) -> None:
    path = save(tmp_path / "a.jpg", Image.fromarray(RGB).convert("CMYK"))
    with Image.open(path) as image:
        assert (load_rgb(path) == np.asarray(image.convert("RGB"))).all()
    frames = [Image.fromarray(np.full((9, 8, 3), v, np.uint8)) for v in (10, 200)]
    for kind in ("gif", "webp"):
        path = save(tmp_path / f"b.{kind}", frames[0], save_all=True, append_images=frames[1:])
        assert abs(load_rgb(path).astype(int) - 10).max() <= 4


@pytest.mark.parametrize("kind", ["png", "webp", "tiff", "jpg"])
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
        (b"II*\0" + bytes(100), "is a TIFF file that is damaged or has samples"),
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
            pytest.skip("this system has no /proc/self/mem, which cannot be read")
        with pytest.raises(ImageError, match=says):
            read(path)


def test_the_formats_are_those_of_the_documentation() -> None:
    assert FORMATS == ("JPEG", "PNG", "WEBP", "BMP", "GIF", "TIFF", "AVIF", "JPEG2000", "PPM")
