"""Hugging Face ``datasets``: a ``.escx`` memory as a data set, and a data set as a folder that escort reads.

dataset = memory_dataset("memory.escx", "images")
save_folder(load_dataset("uoft-cs/cifar100"), "cifar100", image="img", label="fine_label")
"""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from os import PathLike
from pathlib import Path
from typing import Any, Final

from PIL import Image

from escort_cil.memory.adapters import memory_labels, unpack
from escort_codec.atomic import write_file
from escort_codec.container import Reader
from escort_codec.errors import OutputError, SourceError, UsageError
from escort_codec.names import SUFFIXES, SafeNames, make_folders
from escort_codec.regenerate import DEFAULT

SPLITS: Final = {"train": "train", "test": "test", "validation": "test", "valid": "test", "val": "test"}
"""The splits of a data set and their folders."""


def memory_dataset(
    memory: str | PathLike[str],
    images: str | PathLike[str],
    *,
    class_order: Sequence[str] | None = None,
    seeds: Sequence[int] | None = None,
    regenerator: str = DEFAULT,
    options: Mapping[str, Any] | None = None,
) -> Any:
    """A memory file as a ``datasets.Dataset``, one row per image: a prompt has one per seed.

    Columns: ``image`` (``datasets.Image``, a file in the folder ``images``), ``label`` (``ClassLabel``; numbers as
    ``class_order`` has them, else sorted), ``name``, ``kind`` ("real", "latent", "prompt"), ``prompt`` (its text). The
    other parameters, and errors, are those of ``unpack``.
    """
    import datasets

    paths = unpack(memory, images, seeds=seeds, regenerator=regenerator, options=options)
    labels, targets = memory_labels(memory, class_order)
    columns: dict[str, list[Any]] = {"image": [], "label": [], "name": [], "kind": [], "prompt": []}
    with Reader(memory) as reader:
        for exemplar, group, target in zip(reader, paths, targets, strict=True):
            for path in group:
                row = (str(path), int(target), exemplar.name, exemplar.kind, exemplar.prompt)
                for column, value in zip(columns.values(), row, strict=True):
                    column.append(value)
    text = datasets.Value("string")
    features = {"image": datasets.Image(), "label": datasets.ClassLabel(names=list(labels))}
    features |= {"name": text, "kind": text, "prompt": text}
    return datasets.Dataset.from_dict(columns, features=datasets.Features(features))


def save_folder(
    dataset: Any, folder: str | PathLike[str], *, image: str = "image", label: str = "label", overwrite: bool = False
) -> dict[str, int]:
    """Writes a ``datasets.Dataset`` or ``DatasetDict`` as ``train/<class>/<number>.<ext>`` and ``test/...``.

    Files of the data set stay as they are; pictures without one become PNG. Validation images become the test set if
    there is no test split. Returns how many images each folder got. Raises OutputError if ``folder`` has something in
    it, unless ``overwrite``; SourceError for a column that is not there or not of its type.
    """
    import datasets

    root = Path(folder)
    if root.exists() and any(root.iterdir()) and not overwrite:
        raise OutputError(f"{root}: is not empty: give another folder, or `overwrite`")
    splits = dict(dataset) if isinstance(dataset, Mapping) else {"train": dataset}
    chosen: dict[str, Any] = {}
    for name, split in splits.items():
        if (part := SPLITS.get(name)) is None:
            raise UsageError(f"the split {name!r} is not known: choose splits called {', '.join(SPLITS)}")
        if name == part or (part not in splits and part not in chosen):
            chosen[part] = split
    counts = {}
    for part, split in chosen.items():
        kinds = split.features
        if not isinstance(kinds.get(image), datasets.Image) or not isinstance(kinds.get(label), datasets.ClassLabel):
            raise SourceError(
                f"the columns {image!r} and {label!r} must be an Image and a ClassLabel: there are {', '.join(kinds)}"
            )
        rows = split.cast_column(image, datasets.Image(decode=False))
        names = SafeNames(kinds[label].names)
        width = len(str(max(1, len(rows) - 1)))
        for number, row in enumerate(rows):
            data, suffix = _file(row[image], split, number, image)
            place = root / part / names.folder(kinds[label].int2str(row[label]))
            make_folders(place)
            write_file(place / f"{number:0{width}d}{suffix}", data)
        counts[part] = len(rows)
    return counts


def _file(value: Mapping[str, Any], split: Any, number: int, image: str) -> tuple[bytes, str]:
    """The bytes and the suffix of a row's image file; a picture of another format becomes PNG."""
    data = value.get("bytes") or Path(value["path"]).read_bytes()
    with Image.open(io.BytesIO(data)) as picture:
        if suffixes := SUFFIXES.get(picture.format or ""):
            return data, suffixes[0]
    file = io.BytesIO()
    split[number][image].save(file, "PNG")
    return file.getvalue(), ".png"
