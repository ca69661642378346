"""The storage policy and the plugin for Avalanche: with avalanche-lib where it is, else with what it publishes.

The stand-ins of ``interface`` have the signatures of avalanche-lib 0.6 and as little else as this module uses.
"""

from __future__ import annotations

import importlib
import importlib.util
import sys
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import escort_codec
from escort_cil.demo.drawings import draw_dataset
from escort_codec.errors import UsageError
from escort_codec.recipe import EncodeOptions
from escort_codec.source import load_image, scan

REAL = importlib.util.find_spec("avalanche") is not None


class ExemplarsBuffer(ABC):
    """``avalanche.training.storage_policy.ExemplarsBuffer``."""

    def __init__(self, max_size: int) -> None:
        self.max_size = max_size
        self._buffer: Any = []

    @property
    def buffer(self) -> Any:
        return self._buffer

    @buffer.setter
    def buffer(self, new_buffer: Any) -> None:
        self._buffer = new_buffer

    @abstractmethod
    def resize(self, strategy: Any, new_size: int) -> None: ...


class ReplayPlugin:
    """``avalanche.training.plugins.ReplayPlugin``."""

    def __init__(
        self,
        mem_size: int = 200,
        batch_size: int | None = None,
        batch_size_mem: int | None = None,
        task_balanced_dataloader: bool = False,
        storage_policy: Any = None,
    ) -> None:
        assert storage_policy.max_size == mem_size
        self.storage_policy = storage_policy


class DataAttribute:
    """``avalanche.benchmarks.utils.DataAttribute``."""

    def __init__(self, data: Sequence[int], name: str, use_in_getitem: bool = False) -> None:
        self.data, self.name, self.use_in_getitem = data, name, use_in_getitem


class MadeDataset:
    """What ``avalanche.benchmarks.utils.make_avalanche_dataset`` returns."""

    def __init__(self, dataset: Any, *, data_attributes: Sequence[DataAttribute]) -> None:
        self.dataset = dataset
        self.added = [each.data for each in data_attributes if each.use_in_getitem]
        for each in data_attributes:
            setattr(self, each.name, each.data)

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: int) -> tuple[Any, ...]:
        return (*self.dataset[index], *(each[index] for each in self.added))


@pytest.fixture
def module(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """``escort_cil.memory.avalanche_buffer``, upon Avalanche or the stand-ins."""
    name = "escort_cil.memory.avalanche_buffer"
    if not REAL:
        parts: dict[str, dict[str, Any]] = {
            "avalanche": {},
            "avalanche.benchmarks": {},
            "avalanche.benchmarks.utils": {
                "DataAttribute": DataAttribute,
                "make_avalanche_dataset": MadeDataset,
            },
            "avalanche.training": {},
            "avalanche.training.plugins": {"ReplayPlugin": ReplayPlugin},
            "avalanche.training.storage_policy": {"ExemplarsBuffer": ExemplarsBuffer},
        }
        for part, members in parts.items():
            made = ModuleType(part)
            made.__dict__.update(members)
            monkeypatch.setitem(sys.modules, part, made)
    monkeypatch.delitem(sys.modules, name, raising=False)
    yield importlib.import_module(name)
    sys.modules.pop(name, None)


class Shown:
    """The images of an experience, which ``remove_current_transform_group`` gives without transforms."""

    def __init__(self, images: Sequence[Any], labels: Sequence[str], tasks: bool = False) -> None:
        self.images = images
        self.targets = [labels.index(image.label) for image in images]
        self.tasks = tasks

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> tuple[Any, ...]:
        item = load_image(self.images[index].path), self.targets[index]
        return (*item, 0) if self.tasks else item

    def remove_current_transform_group(self) -> Shown:
        return self


class Experience:
    def __init__(self, dataset: Shown) -> None:
        self.dataset = dataset


class Strategy:
    experience: Experience


def small(picture: Image.Image) -> torch.Tensor:
    return torch.from_numpy(np.array(picture.resize((8, 8)))).permute(2, 0, 1).float() / 255


@pytest.mark.parametrize("tasks", [False, True])
def test_a_memory_in_bytes(tasks: bool, module: Any, tmp_path: Path) -> None:
    labels = list(draw_dataset(tmp_path / "data", classes=4, train=8, test=1, size=48))
    images = scan(tmp_path / "data")
    path, options = tmp_path / "memory.escx", EncodeOptions(seeds=(0,), coding="rle", workers=1)

    def buffer() -> Any:
        return module.EscxBuffer(path, tmp_path / "images", "4KB", labels=labels, transform=small, options=options)

    first = buffer()
    plugin, strategy = module.EscxReplay(first), Strategy()
    assert first.max_size == 4000
    for known in (2, 4):
        new = [image for image in images if labels.index(image.label) in range(known - 2, known)]
        strategy.experience = Experience(Shown(new, labels, tasks))
        plugin.after_training_exp(strategy)
        assert path.stat().st_size <= 4000
        assert sorted(set(first.buffer.targets)) == list(range(known))
    with escort_codec.open(path) as memory:
        assert len(memory) == len(first.buffer)
        counts = [sum(each.label == label for each in memory) for label in labels]
    assert max(counts) - min(counts) <= 1
    shown = first.buffer[0]
    assert shown[0].shape == (3, 8, 8)
    assert len(shown) == 2 + tasks
    # The same images again add nothing; another buffer goes on with the file.
    before = path.read_bytes()
    plugin.after_training_exp(strategy)
    assert path.read_bytes() == before
    again = buffer()
    assert len(again.buffer) == len(first.buffer)
    again.resize(strategy, 2500)
    assert path.stat().st_size <= 2500
    assert 4 <= len(again.buffer) < len(first.buffer)


def test_what_cannot_be_kept(module: Any, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="give bytes, such as 300KB"):
        module.EscxBuffer(tmp_path / "m.escx", tmp_path / "i", "20units/class", labels=["a"], keep="original")
    red = Image.new("RGB", (4, 3), (255, 0, 0))
    for item in (red, np.asarray(red), torch.from_numpy(np.array(red)).permute(2, 0, 1), small(red)):
        assert module.picture_of(item).getpixel((0, 0)) == (255, 0, 0)
    with pytest.raises(UsageError, match="are normalised"):
        module.picture_of(torch.full((3, 4, 4), -1.0))
    with pytest.raises(UsageError, match="cannot be kept"):
        module.picture_of(np.zeros((4, 4, 7), np.uint8))
    buffer = module.EscxBuffer(tmp_path / "m.escx", tmp_path / "i", "4KB", labels=["a"])
    draw_dataset(tmp_path / "data", classes=1, train=1, test=1, size=32)
    image = scan(tmp_path / "data")[0]
    with pytest.raises(UsageError, match="class 1 has no name"):
        buffer.post_adapt(None, Experience(Shown([image], ["x", image.label])))
