"""Data folder -> images with class, name and caption, in a fixed order; image file -> RGB pixels."""

from __future__ import annotations

import io
import json
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, Final

import numpy as np
from numpy.typing import NDArray

from escort_codec.errors import ImageError, SourceError
from escort_codec.limits import MAX_PAYLOAD, MAX_PIXELS, MAX_SIDE

if TYPE_CHECKING:
    from PIL import Image

FORMATS: Final = ("JPEG", "PNG", "WEBP", "BMP", "GIF")
_METADATA: Final = "metadata.jsonl"
_NOT_IMAGES: Final = frozenset({".txt", ".jsonl"})
_LITTER: Final = frozenset({"thumbs.db", "desktop.ini", "__macosx"})


@dataclass(frozen=True, slots=True)
class SourceImage:
    """An image file of a data folder. ``name`` is its path relative to the class folder, with '/'."""

    path: Path
    label: str
    name: str
    caption: str | None = None

    @property
    def key(self) -> str:
        """``label/name``."""
        return f"{self.label}/{self.name}"


def class_root(folder: Path, split: str = "train") -> Path:
    """The folder of the class folders: ``folder/<split>`` if it has class folders, else ``folder``.

    Raises SourceError if the folder is missing, or a split other than "train" has no class folders.
    """
    if not folder.exists():
        raise SourceError(f"{folder}: there is no such folder")
    if not folder.is_dir():
        raise SourceError(f"{folder}: is not a folder")
    if has_split(folder, split):
        return folder / split
    if split != "train":
        raise SourceError(f"{folder}: has no folder {split!r} with class folders in it")
    return folder


def has_split(folder: Path, split: str) -> bool:
    """Whether ``folder/<split>`` holds class folders."""
    inside = folder / split
    return inside.is_dir() and any(_folders(inside))


def scan(folder: str | os.PathLike[str], split: str = "train") -> list[SourceImage]:
    """All image files under ``<folder>/<split>/<class>/`` or ``<folder>/<class>/``, sorted by key.

    Captions come from ``<stem>.txt`` beside the image, else from a ``metadata.jsonl`` (``file_name``, ``text``) in the
    folder, the split or the class. Skips hidden files. Raises SourceError if there is no folder, no class folder or no
    image, or no permission to read them.
    """
    try:
        return _scan(Path(folder), split)
    except OSError as exc:
        raise SourceError(f"{exc.filename or folder}: cannot be read: {exc.strerror}") from exc


def _scan(folder: Path, split: str) -> list[SourceImage]:
    root = class_root(folder, split)
    labels = _folders(root)
    if not labels:
        raise SourceError(f"{root}: has no class folders (expected {root}/<class>/<image>)")
    captions: dict[Path, str] = {}
    for place in dict.fromkeys((folder, root, *labels)):
        captions.update(_read_metadata(place / _METADATA))
    images = []
    for label in labels:
        files = list(_files(label))
        texts = {path.with_suffix("") for path in files if path.suffix.lower() == ".txt"}
        for path in files:
            if path.suffix.lower() in _NOT_IMAGES:
                continue
            caption = _read_caption(path) if path.with_suffix("") in texts else captions.get(_same(path))
            images.append(SourceImage(path, label.name, path.relative_to(label).as_posix(), caption))
    if not images:
        raise SourceError(f"{root}: its class folders hold no images")
    return sorted(images, key=lambda image: image.key)


def _same(path: Path) -> Path:
    return Path(os.path.normpath(path))


def _folders(root: Path) -> list[Path]:
    """The visible folders directly in ``root``, sorted by name."""
    try:
        with os.scandir(root) as entries:
            names = sorted(e.name for e in entries if e.is_dir() and not _hidden(e.name))
    except OSError as exc:
        raise SourceError(f"{root}: cannot be listed: {exc.strerror}") from exc
    return [root / name for name in names]


def _hidden(name: str) -> bool:
    return name.startswith(".") or name.lower() in _LITTER


def _files(folder: Path) -> Iterator[Path]:
    """The visible files in ``folder`` and its subfolders. Does not follow links to folders: they may form a loop."""
    try:
        with os.scandir(folder) as found:
            entries = sorted(found, key=lambda e: e.name)
    except OSError as exc:
        raise SourceError(f"{folder}: cannot be listed: {exc.strerror}") from exc
    for entry in entries:
        if _hidden(entry.name):
            continue
        if entry.is_dir(follow_symlinks=False):
            yield from _files(folder / entry.name)
        elif not entry.is_dir():
            yield folder / entry.name


def _read_caption(path: Path) -> str | None:
    """The text beside an image, stripped, or None if it is empty."""
    for suffix in (".txt", ".TXT", ".Txt"):
        file = path.with_suffix(suffix)
        if file.is_file():
            try:
                return file.read_text("utf-8-sig").strip() or None
            except (OSError, UnicodeDecodeError) as exc:
                raise SourceError(f"{file}: the caption cannot be read: {exc}") from exc
    return None


def _read_metadata(file: Path) -> dict[Path, str]:
    """Captions by path from the metadata file of a Hugging Face imagefolder; empty without the file."""
    if not file.is_file():
        return {}
    captions: dict[Path, str] = {}
    try:
        lines = file.read_text("utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as exc:
        raise SourceError(f"{file}: cannot be read: {exc}") from exc
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            entry = json.loads(line)
        except ValueError as exc:
            raise SourceError(f"{file}, line {number}: is not JSON: {exc}") from exc
        if not isinstance(entry, dict) or not isinstance(entry.get("file_name"), str):
            raise SourceError(f"{file}, line {number}: has no text 'file_name'")
        text = entry.get("text")
        if isinstance(text, str) and text.strip():
            captions[_same(file.parent / entry["file_name"])] = text.strip()
    return captions


def check_file(path: Path) -> None:
    """Raises ImageError if it is not a plain file (a pipe would never end) or above the cap of one exemplar."""
    try:
        status = path.stat()
    except OSError as exc:
        raise ImageError(f"{path}: cannot be read: {exc.strerror}") from exc
    if not stat.S_ISREG(status.st_mode):
        raise ImageError(f"{path}: is not a plain file")
    if status.st_size > MAX_PAYLOAD:
        raise ImageError(f"{path}: is above the cap of {MAX_PAYLOAD} bytes for one image file")


def read_file(path: Path) -> bytes:
    """The bytes of a file. Raises ImageError if it is unreadable or above the cap of one exemplar."""
    check_file(path)
    try:
        return path.read_bytes()
    except OSError as exc:
        raise ImageError(f"{path}: cannot be read: {exc.strerror}") from exc


def load_image(source: Path | bytes, *, max_pixels: int = MAX_PIXELS, name: str = "") -> Image.Image:
    """The first frame of an image file (a path or its bytes) as a Pillow image of mode RGB.

    EXIF orientation is applied; Pillow converts palette, grey, alpha and 16-bit images. Raises ImageError if it is not
    JPEG, PNG, WebP, BMP or GIF, is damaged, or has more than ``max_pixels`` pixels (checked before decoding). The
    message begins with the path, or with ``name``.
    """
    with _opened(source, max_pixels, name) as image:
        try:
            return _upright_rgb(image)
        except Exception as exc:
            raise _image_error(source, name, exc) from exc


def load_rgb(source: Path | bytes, *, max_pixels: int = MAX_PIXELS, name: str = "") -> NDArray[np.uint8]:
    """``load_image`` as uint8 RGB (H, W, 3)."""
    return np.asarray(load_image(source, max_pixels=max_pixels, name=name))


def check_image(source: Path | bytes, *, max_pixels: int = MAX_PIXELS, name: str = "") -> None:
    """Raises the ImageError of ``load_image`` for any fault in the head of an image file; reads only the head."""
    with _opened(source, max_pixels, name, head_only=True):
        pass


def image_size(source: Path | bytes, *, max_pixels: int = MAX_PIXELS, name: str = "") -> tuple[int, int]:
    """(height, width) of an image file as displayed (EXIF orientation applied); reads only the head."""
    with _opened(source, max_pixels, name, head_only=True) as image:
        try:
            turned = image.getexif().get(0x0112, 1) in (5, 6, 7, 8)
        except Exception as exc:
            raise _image_error(source, name, exc) from exc
        width, height = image.size
        return (width, height) if turned else (height, width)


@contextmanager
def _opened(source: Path | bytes, max_pixels: int, name: str, *, head_only: bool = False) -> Iterator[Image.Image]:
    """The image with its head read and its size checked. ``head_only``: does not read the whole file."""
    from PIL import Image

    with _stream(source, head_only=head_only) as file:
        try:
            image = Image.open(file, formats=FORMATS)
        except (Image.DecompressionBombError, Image.DecompressionBombWarning) as exc:
            raise ImageError(f"{name or _where(source)}: its pixels are above the cap of {max_pixels}") from exc
        except Exception as exc:  # Pillow raises many kinds for damaged files
            raise _image_error(source, name, exc) from exc
        with image:
            width, height = image.size
            if width * height > max_pixels or max(width, height) > MAX_SIDE:
                what = f"{width} x {height} pixels are above the cap of {max_pixels}"
                raise ImageError(f"{name or _where(source)}: {what}")
            yield image


def _stream(source: Path | bytes, *, head_only: bool) -> BinaryIO:
    if not isinstance(source, Path):
        return io.BytesIO(source)
    if not head_only:
        return io.BytesIO(read_file(source))
    check_file(source)
    try:
        return source.open("rb")
    except OSError as exc:
        raise ImageError(f"{source}: cannot be read: {exc.strerror}") from exc


def _upright_rgb(image: Image.Image) -> Image.Image:
    from PIL import ImageOps

    image.load()
    ImageOps.exif_transpose(image, in_place=True)
    if image.mode == "RGB":
        return image
    if image.mode == "P" and isinstance(image.info.get("transparency"), bytes):
        image = image.convert("RGBA")  # else Pillow warns on the way to RGB
    return image.convert("RGB")


def _where(source: Path | bytes) -> str:
    return str(source) if isinstance(source, Path) else "image"


def _image_error(source: Path | bytes, name: str, exc: Exception) -> ImageError:
    from PIL import UnidentifiedImageError

    if isinstance(exc, ImageError):
        return exc
    why = f"is damaged: {exc}"
    if isinstance(exc, UnidentifiedImageError):
        why = "is not an image"
    elif isinstance(exc, OSError) and exc.strerror:
        why = f"cannot be read: {exc.strerror}"
    return ImageError(f"{name or _where(source)}: {why}")
