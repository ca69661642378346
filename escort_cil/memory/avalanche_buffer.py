"""A ``.escx`` memory for Avalanche (avalanche-lib 0.6): a storage policy in bytes, and the plugin that replays from it.

    buffer = EscxBuffer("memory.escx", "images", "300KB", labels=names, transform=train_transform)
    strategy = Naive(model=model, ..., plugins=[EscxReplay(buffer)])

Importing this module imports Avalanche.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping, Sequence
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
import torch
from avalanche.benchmarks.utils import DataAttribute, make_avalanche_dataset
from avalanche.training.plugins import ReplayPlugin
from avalanche.training.storage_policy import ExemplarsBuffer
from PIL import Image

from escort_cil.memory.adapters import MemoryDataset
from escort_cil.memory.budget import Budget, fill, make_shelves
from escort_cil.memory.contents import Contents, packed, read_contents
from escort_cil.memory.encoder import ExemplarEncoder
from escort_cil.memory.kinds import ExemplarKind
from escort_cil.memory.prompts import Prompts
from escort_codec.atomic import write_file
from escort_codec.errors import UsageError
from escort_codec.exemplar import Exemplar
from escort_codec.recipe import EncodeOptions
from escort_codec.regenerate import DEFAULT
from escort_codec.source import SourceImage


class EscxBuffer(ExemplarsBuffer):  # type: ignore[misc]  # Avalanche has no types for mypy here
    """Exemplars of all experiences so far in one file, whose size on disk is at most ``budget``.

    ``budget`` and ``keep`` are those of ``escort train`` ("300KB", "30% original + 70% prompt"); ``max_size`` is the
    budget in bytes. ``labels[c]`` names class c in the file. After an experience the file holds as many images of each
    class as fit: old ones in their order, new ones in a random order that ``seed`` draws. Images are read without the
    experience's transforms; they may be Pillow images, uint8 arrays (H, W, 3), or tensors (3, H, W) that are uint8 or
    in 0..1. ``buffer`` gives them back: of prompts the images that ``regenerator`` writes to the folder ``images``,
    all as Pillow images or as ``transform`` returns them, with task label 0 if the experience has task labels. An
    existing file is continued.
    """

    def __init__(
        self,
        memory: str | PathLike[str],
        images: str | PathLike[str],
        budget: str,
        *,
        labels: Sequence[str],
        keep: str = "prompt",
        transform: Callable[[Image.Image], Any] | None = None,
        options: EncodeOptions = EncodeOptions(),
        regenerator: str = DEFAULT,
        regenerator_options: Mapping[str, Any] | None = None,
        seed: int = 0,
    ) -> None:
        self.memory = Path(memory)
        self.budget = Budget.parse(budget, keep)
        limit = self.budget.limit(len(labels))
        if limit is None:
            raise UsageError("give bytes, such as 300KB", setting="budget", value=budget)
        super().__init__(limit)
        self.labels = tuple(labels)
        self._images = Path(images)
        self._transform = transform
        self._options = options
        self._regenerator = (regenerator, regenerator_options)
        self._seed = seed
        self._task_labels = False
        if self.memory.exists():
            self._show(self._held())

    def post_adapt(self, agent_state: Any, exp: Any) -> None:
        """Adds exemplars of an experience's images to the file, and drops what no longer fits."""
        self._task_labels = len(exp.dataset) > 0 and len(exp.dataset[0]) > 2
        data = exp.dataset.remove_current_transform_group()
        targets = np.asarray([int(target) for target in data.targets])
        held = self._held()
        known = {memory.label for memory in held}
        with tempfile.TemporaryDirectory(prefix="escort-") as folder:
            encoder = _Encoder(Prompts(self._options), self._options.workers, data)
            new: dict[str, list[SourceImage]] = {}
            for target in sorted(set(targets.tolist())):
                label = self._label(target)
                if label not in known:  # images of a known class are in the file already
                    order = np.random.default_rng([self._seed, target]).permutation(np.flatnonzero(targets == target))
                    new[label] = encoder.images(order, label, Path(folder))
            self._write(fill(make_shelves(held, new, self.budget, encoder), self.budget))

    def resize(self, strategy: Any, new_size: int) -> None:
        """Drops what does not fit into ``new_size`` bytes."""
        self.budget = Budget.parse(str(new_size), str(self.budget.keep))
        self.max_size = new_size
        if held := self._held():
            self._write(fill(make_shelves(held, {}, self.budget, ExemplarEncoder(Prompts(self._options))), self.budget))

    def _label(self, target: int) -> str:
        if not 0 <= target < len(self.labels):
            raise UsageError(f"class {target} has no name: `labels` has {len(self.labels)}")
        return self.labels[target]

    def _held(self) -> Contents:
        return read_contents(self.memory, ()) if self.memory.exists() else ()

    def _write(self, contents: Contents) -> None:
        write_file(self.memory, packed(contents))
        self._show(contents)

    def _show(self, contents: Contents) -> None:
        """Fills ``buffer`` from the file."""
        name, options = self._regenerator
        dataset = _AvalancheDataset(
            self.memory,
            self._images,
            class_order=self.labels,
            transform=self._picture,
            regenerator=name,
            options=options,
        )
        about = [DataAttribute(dataset.targets, "targets")]
        if self._task_labels:
            about.append(DataAttribute([0] * len(dataset), "targets_task_labels", use_in_getitem=True))
        self.buffer = make_avalanche_dataset(dataset, data_attributes=about)

    def _picture(self, rgb: np.ndarray[Any, np.dtype[np.uint8]]) -> Any:
        picture = Image.fromarray(rgb)
        return picture if self._transform is None else self._transform(picture)


class EscxReplay(ReplayPlugin):  # type: ignore[misc]
    """Avalanche's replay of an ``EscxBuffer``: batches of new images and remembered ones."""

    def __init__(self, buffer: EscxBuffer, batch_size: int | None = None, batch_size_mem: int | None = None) -> None:
        super().__init__(
            mem_size=buffer.max_size, batch_size=batch_size, batch_size_mem=batch_size_mem, storage_policy=buffer
        )

    def after_training_exp(self, strategy: Any, **kwargs: Any) -> None:
        """Updates the memory."""
        self.storage_policy.post_adapt(strategy, strategy.experience)


class _AvalancheDataset(MemoryDataset):
    """A ``MemoryDataset`` whose targets are a list, which Avalanche needs."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.targets: Any = [int(target) for target in self.targets]


class _Encoder(ExemplarEncoder):
    """Makes exemplars of a data set's items. An item becomes a PNG file when it is first needed."""

    def __init__(self, prompts: Prompts, workers: int | None, data: Any) -> None:
        super().__init__(prompts, workers)
        self._data = data
        self._index: dict[Path, int] = {}

    def images(self, order: Sequence[int] | np.ndarray[Any, Any], label: str, folder: Path) -> list[SourceImage]:
        """The items ``order`` of a class, as image files in ``folder`` that ``exemplars`` will write."""
        found = []
        for index in order:
            path = folder / f"{len(self._index):08d}.png"
            self._index[path] = int(index)
            found.append(SourceImage(path, label, f"{int(index):08d}.png"))
        return found

    def exemplars(self, kind: ExemplarKind, images: Sequence[SourceImage]) -> list[Exemplar]:
        """See ``ExemplarEncoder``."""
        for image in images:
            if not image.path.exists():
                picture_of(self._data[self._index[image.path]][0]).save(image.path)
        return super().exemplars(kind, images)


def picture_of(item: Any) -> Image.Image:
    """A Pillow image of mode RGB of an image, array or tensor. See ``EscxBuffer``. Raises UsageError."""
    if isinstance(item, Image.Image):
        return item.convert("RGB")
    if isinstance(item, torch.Tensor):
        if item.is_floating_point():
            if item.numel() and not 0 <= float(item.min()) <= float(item.max()) <= 1:
                raise UsageError("the experience's images are normalised: give the normalisation as a transform")
            item = (item * 255).round().to(torch.uint8)
        item = item.movedim(0, -1).cpu().numpy()
    array = np.asarray(item)
    if array.dtype == np.uint8 and array.ndim == 3 and array.shape[2] in (1, 3):
        return Image.fromarray(np.repeat(array, 3, axis=2) if array.shape[2] == 1 else array)
    if array.dtype == np.uint8 and array.ndim == 2:
        return Image.fromarray(array).convert("RGB")
    raise UsageError(f"an image of {array.dtype} and shape {array.shape} cannot be kept: give RGB of 8 bits")
