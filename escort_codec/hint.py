"""The colour hint: a small lossy WebP thumbnail of the source image, kept as its bare VP8 frame.

The spec's section "Hints" defines which bytes are kept and how to rebuild the WebP file. The size of the frame is read
from its header and checked against the caps before any image library sees the bytes.
"""

from __future__ import annotations

import io
import struct
from typing import TYPE_CHECKING, Final

import numpy as np
from numpy.typing import NDArray

from escort_codec.errors import DamagedError, LimitError, UsageError
from escort_codec.limits import MAX_HINT, MAX_HINT_SIDE
from escort_codec.recipe import EncodeOptions

if TYPE_CHECKING:
    from PIL import Image

_DEFAULT: Final = EncodeOptions()

HINT_QUALITY: Final = 20  # the default of WebP's quality
HEADER: Final = 10  # bytes of a VP8 key frame's header (RFC 6386, section 9.1)
START_CODE: Final = b"\x9d\x01\x2a"
IMPLIED_ZEROS: Final = 8  # zero bytes that may be left out at the end of the frame; a reader adds as many


def encode_hint(rgb: NDArray[np.uint8] | Image.Image, side: int = _DEFAULT.hint, quality: int = HINT_QUALITY) -> bytes:
    """The hint of an image: uint8 RGB (H, W, 3) with H, W >= 1, or a Pillow image of mode RGB.

    ``side`` is the longer side of the thumbnail in pixels (1..1024); a smaller image keeps its size, and the aspect
    ratio stays. ``quality`` is WebP's, 0..100. Raises UsageError for values outside these ranges, LimitError if the
    result is above the cap of 64 KiB.
    """
    from PIL import Image

    if isinstance(rgb, np.ndarray):
        _check_pixels(rgb)
    elif rgb.mode != "RGB" or not (rgb.width and rgb.height):
        raise UsageError(f"a hint needs an image of mode RGB, not {rgb.mode} {rgb.size}")
    if not 1 <= side <= MAX_HINT_SIDE:
        raise UsageError(f"give 1 to {MAX_HINT_SIDE} pixels", setting="side", value=side)
    if not 0 <= quality <= 100:
        raise UsageError("give 0 to 100", setting="quality", value=quality)
    image = Image.fromarray(rgb) if isinstance(rgb, np.ndarray) else rgb
    height, width = thumbnail_shape((image.height, image.width), side)
    # A gap of 2 takes a quarter of the time of plain Lanczos and costs 0.03 dB. The same size gives a copy.
    image = image.resize((width, height), Image.Resampling.LANCZOS, reducing_gap=2.0)
    image.info = {}  # a hint has no colour profile and no transparent colour
    file = io.BytesIO()
    # Method 6 saves 6 % of the bytes and loses 0.1 dB, like a lower quality, in 1.7 times the time.
    image.save(file, "WEBP", quality=quality, method=4)
    frame = _frame(file.getvalue())
    end = len(frame)
    while end > max(HEADER, len(frame) - IMPLIED_ZEROS) and frame[end - 1] == 0:
        end -= 1
    if end > MAX_HINT:
        raise LimitError(f"a hint of {end} bytes is above the cap of {MAX_HINT}: reduce its side or quality")
    return frame[:end]


def decode_hint(data: bytes) -> NDArray[np.uint8]:
    """The thumbnail in a hint: uint8 RGB (h, w, 3).

    Raises LimitError for a hint above the caps, DamagedError for bytes that are not a hint.
    """
    from PIL import Image

    height, width = hint_size(data)
    try:
        with Image.open(io.BytesIO(webp_file(data)), formats=("WEBP",)) as image:
            if image.size != (width, height):  # before its pixels are decoded
                raise ValueError(f"its size is {image.size}")
            pixels = np.array(image.convert("RGB"))
    except MemoryError:
        raise
    except Exception as exc:  # Pillow raises many kinds for damaged files
        raise DamagedError(f"a hint of {len(data)} bytes cannot be decoded as WebP ({type(exc).__name__})") from exc
    return pixels


def hint_size(data: bytes) -> tuple[int, int]:
    """(height, width) of a hint in pixels, read from the header of the frame without decoding.

    Raises LimitError if length or size is above the caps, DamagedError if the header is not that of a hint (spec
    section "Hints").
    """
    if len(data) > MAX_HINT:
        raise LimitError(f"a hint of {len(data)} bytes is above the cap of {MAX_HINT}")
    if len(data) < HEADER:
        raise DamagedError(f"a hint of {len(data)} bytes is shorter than a VP8 frame's header")
    tag = data[0] | data[1] << 8 | data[2] << 16
    if tag & 1 or tag >> 1 & 7 > 3 or not tag >> 4 & 1 or data[3:6] != START_CODE:
        raise DamagedError("a hint is not a visible VP8 key frame")
    if HEADER + (tag >> 5) > len(data) + IMPLIED_ZEROS:
        raise DamagedError("a hint's first partition is longer than the hint")
    width, height = struct.unpack_from("<HH", data, 6)
    if (width | height) >> 14:
        raise DamagedError("a hint asks for scaling")
    if not (width and height):
        raise DamagedError("a hint is 0 pixels wide or high")
    if max(width, height) > MAX_HINT_SIDE:
        raise LimitError(f"a hint of {width} x {height} pixels is above the cap of {MAX_HINT_SIDE} a side")
    return height, width


def webp_file(data: bytes) -> bytes:
    """A hint as a WebP file (spec section "Hints")."""
    frame = data + bytes(IMPLIED_ZEROS + len(data) % 2)
    return b"RIFF" + struct.pack("<I", len(frame) + 12) + b"WEBPVP8 " + struct.pack("<I", len(frame)) + frame


def thumbnail_shape(shape: tuple[int, int], side: int) -> tuple[int, int]:
    """(h, w) of the thumbnail of an image of ``shape`` (H, W): longer side ``side``, never enlarged.

    The shorter side is rounded half up and at least 1.
    """
    longer = max(shape)
    if longer <= side:
        return shape
    height, width = (max(1, (2 * s * side + longer) // (2 * longer)) for s in shape)
    return height, width


def _check_pixels(rgb: NDArray[np.uint8]) -> None:
    if rgb.ndim != 3 or rgb.shape[2] != 3 or rgb.dtype != np.uint8 or not rgb.size:
        raise UsageError(f"a hint needs a uint8 image (H, W, 3), not {rgb.dtype} {tuple(rgb.shape)}")


def _frame(file: bytes) -> bytes:
    """The VP8 frame of a lossy WebP file from Pillow: the payload of its chunk ``VP8 ``."""
    at = 12
    while at + 8 <= len(file):
        (length,) = struct.unpack_from("<I", file, at + 4)
        if file[at : at + 4] == b"VP8 ":
            return file[at + 8 : at + 8 + length]
        at += 8 + length + length % 2
    raise DamagedError("Pillow wrote a WebP file without a VP8 frame")
