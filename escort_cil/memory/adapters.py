"""A memory file for other training loops: a torch ``Dataset``, and PyCIL's pair of data and targets.

Both unpack the file into a folder as ``escort decode`` does: real exemplars unchanged, and one image for each seed of a
prompt, which the regenerator makes once.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import Dataset

from escort_codec.container import open_memory
from escort_codec.container.table import spread
from escort_codec.errors import OutputError, RegenerationError, UsageError
from escort_codec.exemplar import Exemplar
from escort_codec.export.manifest import read_manifest
from escort_codec.export.options import ExportOptions
from escort_codec.export.tree import export_file
from escort_codec.regenerate import DEFAULT, make_regenerator
from escort_codec.source import load_rgb


def unpack(
    memory: str | PathLike[str],
    folder: str | PathLike[str],
    *,
    seeds: Sequence[int] | None = None,
    regenerator: str = DEFAULT,
    options: Mapping[str, Any] | None = None,
) -> list[list[Path]]:
    """The images of a memory file's exemplars as files in ``folder``, one list per exemplar, in the file's order.

    A real exemplar has its own file, a prompt one image per seed (None: the seeds that it records). ``regenerator``
    makes the missing ones, so one folder can serve the memories of all phases. Raises RegenerationError if an image
    cannot be made, and what ``export_file`` raises.
    """
    folder = Path(folder)
    export = ExportOptions(seeds=None if seeds is None else tuple(seeds))
    with open_memory(memory) as reader, make_regenerator(regenerator, options) as maker:
        plan, outcome = export_file(reader, folder, export, maker)
        if plan.failures or outcome.failed:
            raise RegenerationError(f"{memory}: {(plan.failures + outcome.failures)[0]}")
        # By name, as the folder may also hold images of other memory files, such as the previous phase's.
        made = {(entry.exemplar, entry.seed): folder / entry.image for entry in read_manifest(folder).values()}
        return [_images(exemplar, export.seeds, made, folder) for exemplar in reader]


def _images(
    exemplar: Exemplar, seeds: tuple[int, ...] | None, made: Mapping[tuple[str, int | None], Path], folder: Path
) -> list[Path]:
    """The files of one exemplar."""
    chosen = exemplar.seeds if seeds is None else seeds
    if exemplar.kind == "prompt" and not chosen:
        raise UsageError(f"{exemplar.key} records no seeds: give `seeds`, such as (0, 1, 2)")
    keys = [(exemplar.key, seed) for seed in ([None] if exemplar.kind == "real" else chosen)]
    if any(key not in made for key in keys):
        raise OutputError(f"{folder}: another exemplar's image has the name of {exemplar.key}: choose another folder")
    return [made[key] for key in keys]


class MemoryDataset(Dataset[tuple[Any, int]]):
    """A memory file as pairs of image and class number, one per exemplar, in the file's order.

    A prompt gives a random one of its images each time (from torch's generator: seed it, or let the ``DataLoader`` seed
    its workers). ``class_order`` gives the class numbers; without it the sorted labels are numbered, as torchvision's
    ``ImageFolder`` does. An image is RGB uint8 (H, W, 3), or what ``transform`` makes of it. The other parameters are
    those of ``unpack``.
    """

    def __init__(
        self,
        memory: str | PathLike[str],
        folder: str | PathLike[str],
        *,
        class_order: Sequence[str] | None = None,
        transform: Callable[[NDArray[np.uint8]], Any] | None = None,
        seeds: Sequence[int] | None = None,
        regenerator: str = DEFAULT,
        options: Mapping[str, Any] | None = None,
    ) -> None:
        self.paths = unpack(memory, folder, seeds=seeds, regenerator=regenerator, options=options)
        self.labels, self.targets = memory_labels(memory, class_order)
        self.transform = transform

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> tuple[Any, int]:
        paths = self.paths[index]
        choice = int(torch.randint(len(paths), ())) if len(paths) > 1 else 0
        image = load_rgb(paths[choice]).copy()  # torch needs a writable array
        return (image if self.transform is None else self.transform(image)), int(self.targets[index])


def pycil_memory(
    memory: str | PathLike[str],
    folder: str | PathLike[str],
    *,
    class_order: Sequence[str] | None = None,
    seeds: Sequence[int] | None = None,
    regenerator: str = DEFAULT,
    options: Mapping[str, Any] | None = None,
) -> tuple[NDArray[np.str_], NDArray[np.int64]]:
    """A memory file in PyCIL's form: (data, targets), paths of image files and class numbers, of equal length.

    Assign it to a learner's ``_data_memory`` and ``_targets_memory`` (data sets with ``use_path``). A prompt occurs
    once per seed. The parameters are those of ``MemoryDataset``.
    """
    paths = unpack(memory, folder, seeds=seeds, regenerator=regenerator, options=options)
    _, targets = memory_labels(memory, class_order)
    data = [str(path) for group in paths for path in group]
    counts = [len(group) for group in paths]
    return np.array(data, dtype=np.str_), np.repeat(targets, counts)


def memory_labels(
    memory: str | PathLike[str], class_order: Sequence[str] | None
) -> tuple[tuple[str, ...], NDArray[np.int64]]:
    """The labels by class number, and each exemplar's class number. Raises UsageError if the order lacks a class."""
    with open_memory(memory) as reader:
        labels = tuple(sorted(reader.labels)) if class_order is None else tuple(class_order)
        missing = [label for label in reader.labels if label not in labels]
        if missing:
            raise UsageError(f"{memory} has the class {missing[0]!r}, which the class order lacks")
        class_to_idx = {label: number for number, label in enumerate(labels)}
        numbers = [  # from the tables: no exemplar is decoded
            np.array([class_to_idx[label] for label in rows.labels], np.int64)[spread(rows.label, len(rows))]
            for rows in reader.tables()
        ]
        return labels, np.concatenate([np.zeros(0, np.int64), *numbers])
