"""Folders of torchvision and PyCIL: class folders with or without splits, CIFAR's pickles, MNIST's idx files."""

from __future__ import annotations

import gzip
import io
import pickle
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import numpy as np
from PIL import Image

from escort_codec.errors import SourceError
from escort_codec.imports.item import ImportItem, ImportOptions
from escort_codec.source.image import read_file
from escort_codec.source.layout import SPLITS, find_layout
from escort_codec.source.scan import scan_folder

WRAPPERS: Final = ("101_ObjectCategories", "256_ObjectCategories")
"""Folders around the class folders in torchvision's data sets."""

_CIFAR: Final = {
    "cifar-10-batches-py": (("train", "data_batch_"), ("test", "test_batch")),
    "cifar-100-python": (("train", "train"), ("test", "test")),
}
_IDX: Final = (("train", "train"), ("test", "t10k"))
_FASHION: Final = (
    "T-shirt-top",
    "Trouser",
    "Pullover",
    "Dress",
    "Coat",
    "Sandal",
    "Shirt",
    "Sneaker",
    "Bag",
    "Ankle boot",
)
_SAFE: Final = frozenset(
    (
        *(("numpy.core.multiarray", "_reconstruct"), ("numpy._core.multiarray", "_reconstruct")),
        *(("numpy", "ndarray"), ("numpy", "dtype"), ("_codecs", "encode")),
    )
)


class FolderSource:
    """A folder with class folders, as ``escort encode`` reads it; all its splits."""

    def __init__(self, folder: Path, options: ImportOptions) -> None:
        inner = next((folder / name for name in WRAPPERS if (folder / name).is_dir()), folder)
        layout = find_layout(inner)
        splits = [name for name in SPLITS if layout.split and getattr(layout, name) is not None] or ["train"]
        self._scans = {split: scan_folder(inner, split) for split in splits}
        self.total: int | None = sum(len(found.images) for found in self._scans.values())

    def __iter__(self) -> Iterator[ImportItem]:
        for split, found in self._scans.items():
            for image in found.images:
                data = read_file(image.path)
                yield ImportItem(split, image.label, image.name, data, image.caption, str(image.path))


class CifarSource:
    """CIFAR-10 or CIFAR-100 in Python's pickles, as torchvision downloads them. Only arrays are unpickled."""

    total: int | None = None

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    @staticmethod
    def find(folder: Path) -> Path | None:
        """The folder of the pickles in ``folder``, or itself."""
        return next(
            (each for each in (folder, *(folder / name for name in _CIFAR)) if each.name in _CIFAR and each.is_dir()),
            None,
        )

    def __iter__(self) -> Iterator[ImportItem]:
        ten = self._folder.name == "cifar-10-batches-py"
        about = _unpickled(self._folder / ("batches.meta" if ten else "meta"))
        names = [name.decode() for name in about[b"label_names" if ten else b"fine_label_names"]]
        for split, prefix in _CIFAR[self._folder.name]:
            for file in sorted(
                path for path in self._folder.iterdir() if path.name.startswith(prefix) and path.suffix != ".meta"
            ):
                batch = _unpickled(file)
                try:
                    pixels = np.asarray(batch[b"data"], np.uint8).reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1)
                    labels = batch[b"labels" if ten else b"fine_labels"]
                    files = [name.decode() for name in batch[b"filenames"]]
                except (KeyError, ValueError) as exc:
                    raise SourceError(f"{file}: is not a batch of CIFAR: {exc}") from exc
                for number, (rgb, label, name) in enumerate(zip(pixels, labels, files, strict=True)):
                    yield ImportItem(split, names[label], name, _png(rgb), None, f"{file}, {number}")


class IdxSource:
    """MNIST and its relatives: idx files, gzipped or not."""

    total: int | None = None

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._names = _FASHION if "fashion" in str(folder.absolute()).lower() else None

    @staticmethod
    def find(folder: Path) -> Path | None:
        """The folder of the idx files in ``folder``, or itself."""
        places = (folder, folder / "raw", folder / "MNIST" / "raw", folder / "FashionMNIST" / "raw")
        return next((each for each in places if any(each.glob("train-images-idx3-ubyte*"))), None)

    def __iter__(self) -> Iterator[ImportItem]:
        for split, prefix in _IDX:
            found = sorted(self._folder.glob(f"{prefix}-images-idx3-ubyte*"))
            if not found:
                continue
            pixels = _idx(found[0], 16)
            labels = _idx(self._folder / found[0].name.replace("images-idx3", "labels-idx1"), 8)
            side = int(np.sqrt(len(pixels) // max(1, len(labels))))
            if side * side * len(labels) != len(pixels):
                raise SourceError(f"{found[0]}: the numbers of images and labels do not match")
            for number, (image, label) in enumerate(zip(pixels.reshape(-1, side, side), labels, strict=True)):
                name = self._names[label] if self._names else str(label)
                yield ImportItem(split, name, f"{number:06d}", _png(image), None, f"{found[0]}, {number}")


def _idx(file: Path, head: int) -> Any:
    try:
        data = file.read_bytes()
        data = gzip.decompress(data) if file.suffix == ".gz" else data
    except (OSError, EOFError) as exc:
        raise SourceError(f"{file}: cannot be read: {exc}") from exc
    return np.frombuffer(data, np.uint8, offset=min(head, len(data)))


def _png(pixels: Any) -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


class _Unpickler(pickle.Unpickler):
    """Unpickles only arrays, texts, numbers, lists and maps: a pickle could run any program."""

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in _SAFE:
            raise pickle.UnpicklingError(f"it asks for {module}.{name}, which no batch of CIFAR needs")
        return super().find_class(module.replace("numpy.core", "numpy._core"), name)


def _unpickled(file: Path) -> dict[bytes, Any]:
    try:
        with file.open("rb") as opened:
            value = _Unpickler(opened, encoding="bytes").load()
    except (OSError, pickle.UnpicklingError, EOFError, ValueError, AttributeError, ImportError, IndexError) as exc:
        raise SourceError(f"{file}: cannot be read: {exc}") from exc
    if not isinstance(value, dict):
        raise SourceError(f"{file}: is not a batch of CIFAR")
    return value
