"""One image file -> RGB pixels of 8 bits.

The same rules hold everywhere (``docs/data.md``): the first frame counts; EXIF orientation is applied; of 16 bits per
sample the upper 8 are kept; transparent pixels are composited on a background, which is white by default; grey, palette
and CMYK images are converted by Pillow, without colour management.
"""

from __future__ import annotations

import io
import stat
import struct
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Final

import numpy as np
from numpy.typing import NDArray

from escort_codec.errors import ImageError
from escort_codec.limits import MAX_PAYLOAD, MAX_PIXELS, MAX_SIDE
from escort_codec.names import SUFFIXES
from escort_codec.recipe import WHITE, Colour
from escort_codec.source.remote import StorePath

if TYPE_CHECKING:
    from PIL import Image

FORMATS: Final = tuple(SUFFIXES)
"""Pillow's names of the formats that are read."""

FORMATS_TEXT: Final = "JPEG, PNG, WebP, BMP, GIF, TIFF, AVIF, JPEG 2000 or PPM"

# Formats that Pillow does not read and that occur among photographs.
_UNKNOWN_TO_PILLOW: Final = frozenset(
    (".heic", ".heif", ".jxl", ".svg", ".cr2", ".cr3", ".nef", ".arw", ".dng", ".raf", ".orf", ".rw2", ".exr", ".hdr")
)
# Chunks of a PNG file that its pixels need. The others may be longer than Pillow takes (texts, colour profiles).
_PNG_CHUNKS: Final = frozenset((b"IHDR", b"PLTE", b"IDAT", b"IEND", b"tRNS", b"eXIf"))


def check_file(path: Path) -> None:
    """Raises ImageError for anything but a regular file (a pipe never ends), and above the cap of one exemplar."""
    if isinstance(path, StorePath):
        if path.size > MAX_PAYLOAD:
            raise ImageError(f"{path}: is above the cap of {MAX_PAYLOAD} bytes for one image file")
        return
    try:
        status = path.stat()
    except OSError as exc:
        raise ImageError(f"{path}: cannot be read: {exc.strerror}") from exc
    if not stat.S_ISREG(status.st_mode):
        raise ImageError(f"{path}: is not a plain file")
    if status.st_size > MAX_PAYLOAD:
        raise ImageError(f"{path}: is above the cap of {MAX_PAYLOAD} bytes for one image file")


def read_file(path: Path) -> bytes:
    """A file's bytes; raises ImageError if it cannot be read or is above the cap of one exemplar."""
    check_file(path)
    try:
        return path.read_bytes()
    except OSError as exc:
        raise ImageError(f"{path}: cannot be read: {exc.strerror}") from exc


def load_image(
    source: Path | bytes,
    *,
    max_pixels: int = MAX_PIXELS,
    name: str = "",
    background: Colour = WHITE,
    reserve: Callable[[int], None] = lambda count: None,
) -> Image.Image:
    """The first frame of an image file (a path or its bytes) as a Pillow image of mode RGB, by this module's rules.

    Raises ImageError, whose message begins with the path (or ``name``), for a file that is not an image of a format in
    ``FORMATS``, is damaged, or has more than ``max_pixels`` pixels: the last is checked before pixels are decoded.
    ``reserve`` gets their size in bytes before decoding (``workers.DECODED``).
    """
    data = source if isinstance(source, bytes) else read_file(source)
    name = name or _name(source)
    try:
        return _load(data, max_pixels, name, background, reserve)
    except ImageError as exc:
        shorter = _without_comments(io.BytesIO(data))
        if shorter is None:
            raise
        try:
            return _load(shorter, max_pixels, name, background, reserve)
        except ImageError:
            raise exc from None


def load_rgb(
    source: Path | bytes, *, max_pixels: int = MAX_PIXELS, name: str = "", background: Colour = WHITE
) -> NDArray[np.uint8]:
    """``load_image`` as uint8 RGB (H, W, 3), read-only. Raises ImageError."""
    return np.asarray(load_image(source, max_pixels=max_pixels, name=name, background=background))


def image_size(source: Path | bytes, *, max_pixels: int = MAX_PIXELS, name: str = "") -> tuple[int, int]:
    """(height, width) in pixels of an image file as it is shown, EXIF orientation applied; only its head is read.

    Raises ``load_image``'s ImageError for the faults that show in the head.
    """
    name = name or _name(source)
    try:
        return _size(source, max_pixels, name)
    except ImageError as exc:
        with _stream(source) as file:
            shorter = _without_comments(file)
        if shorter is None:
            raise
        try:
            return _size(shorter, max_pixels, name)
        except ImageError:
            raise exc from None


def _load(data: bytes, max_pixels: int, name: str, background: Colour, reserve: Callable[[int], None]) -> Image.Image:
    with _opened(io.BytesIO(data), max_pixels, name) as image:
        # Conversion needs the pixels in two modes at once.
        reserve(image.width * image.height * (8 if image.mode in ("RGB", "L", "1") else 16))
        try:
            image.load()
            return _to_rgb(_upright(image), background)
        except Exception as exc:  # Pillow raises many kinds for damaged files
            raise _image_error(None, name, exc) from exc


def _size(source: Path | bytes, max_pixels: int, name: str) -> tuple[int, int]:
    with _stream(source) as file, _opened(file, max_pixels, name) as image:
        width, height = image.size
        if image.format == "TIFF":  # Pillow turns the size of a TIFF image itself
            tags: Any = image
            width, height = tags.tag_v2[256], tags.tag_v2[257]
        return (width, height) if _orientation(image) in (5, 6, 7, 8) else (height, width)


@contextmanager
def _opened(file: BinaryIO, max_pixels: int, name: str) -> Iterator[Image.Image]:
    """The image, its head read and its size checked."""
    from PIL import Image

    try:
        image = Image.open(file, formats=FORMATS)
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as exc:
        raise ImageError(f"{name}: its pixels are above the cap of {max_pixels}") from exc
    except Exception as exc:  # Pillow raises many kinds for damaged files
        raise _image_error(file, name, exc) from exc
    with image:
        width, height = image.size
        if width * height > max_pixels or max(width, height) > MAX_SIDE:
            raise ImageError(f"{name}: {width} x {height} pixels are above the cap of {max_pixels}")
        yield image


def _stream(source: Path | bytes) -> BinaryIO:
    if isinstance(source, bytes):
        return io.BytesIO(source)
    check_file(source)
    try:
        return source.open("rb")
    except OSError as exc:
        raise ImageError(f"{source}: cannot be read: {exc.strerror}") from exc


def _orientation(image: Image.Image) -> int:
    """The EXIF orientation, 1 to 8; 1 if the tag is missing or is not a number in that range."""
    try:
        value = image.getexif().get(0x0112, 1)
    except Exception:  # a damaged EXIF block does not affect the pixels
        return 1
    return value if isinstance(value, int) and 1 <= value <= 8 else 1


def _upright(image: Image.Image) -> Image.Image:
    from PIL.Image import Transpose

    turn = {
        2: Transpose.FLIP_LEFT_RIGHT,
        3: Transpose.ROTATE_180,
        4: Transpose.FLIP_TOP_BOTTOM,
        5: Transpose.TRANSPOSE,
        6: Transpose.ROTATE_270,
        7: Transpose.TRANSVERSE,
        8: Transpose.ROTATE_90,
    }.get(_orientation(image))
    if turn is None:
        return image
    turned = image.transpose(turn)
    turned.info = dict(image.info)  # the transparent colour, if there is one
    return turned


def _to_rgb(image: Image.Image, background: Colour) -> Image.Image:
    from PIL import Image

    if image.mode == "F" or (image.mode == "I" and image.format == "TIFF"):
        raise ImageError("its samples have no fixed range (32 bits, signed, or floating point)")
    if image.mode.startswith("I"):
        image = _upper_bits(image)
    if image.mode == "RGB" and "transparency" not in image.info:
        return image
    if image.mode in ("RGBA", "LA", "PA", "La", "RGBa") or "transparency" in image.info:
        shown = image.convert("RGBA")
        canvas = Image.new("RGBA", shown.size, (*background, 255))
        return Image.alpha_composite(canvas, shown).convert("RGB")
    return image.convert("RGB")


def _upper_bits(image: Image.Image) -> Image.Image:
    """A grey image of 16 bits as one of 8 bits; a transparent grey value becomes an alpha channel."""
    from PIL import Image

    samples = np.asarray(image).astype(np.int64)
    grey = Image.fromarray((samples.clip(0, 0xFFFF) >> 8).astype(np.uint8))
    clear = image.info.get("transparency")
    if not isinstance(clear, int):
        return grey
    return Image.merge("LA", [grey, Image.fromarray(np.where(samples == clear, 0, 255).astype(np.uint8))])


def _without_comments(file: BinaryIO) -> bytes | None:
    """A PNG file without the chunks that its pixels do not need, if it has long ones; else None."""
    try:
        data = file.read(8)
        if data != b"\x89PNG\r\n\x1a\n":
            return None
        data += file.read()
    except OSError:  # the original error is raised
        return None
    kept, at, dropped = [data[:8]], 8, 0
    while at + 12 <= len(data):
        length, kind = struct.unpack_from(">I4s", data, at)
        end = at + 12 + length
        if kind in _PNG_CHUNKS:
            kept.append(data[at:end])
        else:
            dropped += length
        at = end
    return b"".join(kept) if dropped > 1000 else None


def _name(source: Path | bytes) -> str:
    return "image" if isinstance(source, bytes) else str(source)


def _image_error(file: BinaryIO | None, name: str, exc: Exception) -> ImageError:
    from PIL import UnidentifiedImageError

    why = f"is damaged: {exc}"
    if isinstance(exc, MemoryError):
        why = "there is not enough memory for its pixels"
    elif isinstance(exc, ImageError):
        why = f"is not read: {exc}"
    elif isinstance(exc, UnidentifiedImageError):
        why = "is not an image"
        if file is not None and _is_other_format(file, name):
            why = f"is in an image format that is not read: convert it to {FORMATS_TEXT}"
        elif file is not None and _starts_as_tiff(file):
            why = "is a TIFF file that is damaged or has samples that are not read: convert it to 8 or 16 bits"
    elif isinstance(exc, OSError) and exc.strerror:
        why = f"cannot be read: {exc.strerror}"
    return ImageError(f"{name}: {' '.join(why.split())}")


def _starts_as_tiff(file: BinaryIO) -> bool:
    file.seek(0)
    return file.read(4) in (b"II*\0", b"MM\0*")


def _is_other_format(file: BinaryIO, name: str) -> bool:
    """Whether a file looks like an image of a format that is not read. Nothing of it is decoded."""
    from PIL import Image

    Image.init()
    file.seek(0)
    head = file.read(16)
    if not head:
        return False
    if head[4:8] == b"ftyp" or head.startswith((b"\xff\x0a", b"\0\0\0\x0cJXL ")):
        return True
    for kind, (_, accept) in Image.OPEN.items():
        if kind not in FORMATS and accept is not None and accept(head.ljust(16, b"\0")) is True:
            return True
    suffix = Path(name).suffix.lower()
    other = Image.registered_extensions().get(suffix)
    return suffix in _UNKNOWN_TO_PILLOW or (other is not None and other not in FORMATS)
