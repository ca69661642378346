"""A memory file in other people's training loops."""

from __future__ import annotations

import io
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import DataLoader

import escort_codec
from escort_cil.memory import MemoryDataset, pycil_memory, unpack
from escort_codec.container import Reader, Writer
from escort_codec.encode.images import encode_image
from escort_codec.errors import UsageError
from escort_codec.exemplar import Exemplar
from escort_codec.recipe import EncodeOptions
from escort_codec.source import load_rgb, scan


@pytest.fixture(scope="module")
def memory(small_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of each class a real exemplar and two prompts with the seeds 0 and 2."""
    path = tmp_path_factory.mktemp("memory") / "memory.escx"
    options = EncodeOptions(seeds=(0, 2), hint=12, coding="rle", workers=1)
    images = scan(small_data)
    with Writer(path) as writer:
        for label in dict.fromkeys(image.label for image in images):
            first, *others = [image for image in images if image.label == label][:3]
            data = first.path.read_bytes()
            size = load_rgb(data).shape[:2]
            writer.add(Exemplar.from_image(data, label=label, name=first.name, size=(size[0], size[1])))
            for image in others:
                writer.add(encode_image(image, options).exemplar)
    return path


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("unpacked")


def test_unpacked(memory: Path, folder: Path, small_data: Path) -> None:
    paths = unpack(memory, folder)
    assert [len(group) for group in paths] == [1, 2, 2] * 5
    real = paths[0][0]
    assert real.read_bytes() == (small_data / "train" / real.parent.name / real.name).read_bytes()
    before = {path: path.stat().st_mtime_ns for group in paths for path in group}
    assert unpack(memory, folder) == paths
    assert {path: path.stat().st_mtime_ns for path in before} == before  # nothing is made twice
    assert [len(group) for group in unpack(memory, folder, seeds=(2,))] == [1] * 15


def test_one_folder_for_the_memories_of_all_phases(memory: Path, folder: Path, tmp_path: Path) -> None:
    """The exemplars of a later memory stand at other places in the file."""
    unpack(memory, folder)
    with Reader(memory) as reader, Writer(tmp_path / "later.escx") as writer:
        kept = [exemplar for i, exemplar in enumerate(reader) if i % 4 == 1][::-1]
        for exemplar in kept:
            writer.add(exemplar)
    paths = unpack(tmp_path / "later.escx", folder)
    assert [{path.name[:3] for path in group} for group in paths] == [{e.name[:3]} for e in kept]
    assert [{path.parent.name for path in group} for group in paths] == [{e.label} for e in kept]
    data, targets = pycil_memory(tmp_path / "later.escx", folder)
    labels = sorted({exemplar.label for exemplar in kept})
    assert [Path(path).parent.name for path in data] == [labels[target] for target in targets]


def test_prompts_without_seeds(memory: Path, tmp_path: Path) -> None:
    with Reader(memory) as reader, Writer(tmp_path / "some.escx") as writer:
        writer.add(replace(reader[1], seeds=()))
        writer.add(reader[2])
    with pytest.raises(UsageError, match="records no seeds: give `seeds`"):
        unpack(tmp_path / "some.escx", tmp_path / "images")
    assert [len(group) for group in unpack(tmp_path / "some.escx", tmp_path / "images", seeds=(0, 5))] == [2, 2]


def test_dataset(memory: Path, folder: Path) -> None:
    order = sorted(unpack_labels(memory), reverse=True)
    data = MemoryDataset(
        memory, folder, class_order=order, transform=lambda rgb: np.array(Image.fromarray(rgb).resize((8, 8)))
    )
    assert len(data) == 15
    assert data.targets.tolist() == [order.index(label) for label in unpack_labels(memory) for _ in range(3)]
    loader = DataLoader(data, batch_size=4, shuffle=False)
    images, targets = next(iter(loader))
    assert images.shape == (4, 8, 8, 3)
    assert images.dtype == torch.uint8
    assert targets.tolist() == data.targets[:4].tolist()
    # A prompt is shown as either of its images.
    torch.manual_seed(0)
    assert len({data[1][0].tobytes() for _ in range(20)}) == 2
    assert len({data[0][0].tobytes() for _ in range(5)}) == 1
    plain = MemoryDataset(memory, folder)
    assert plain.labels == tuple(sorted(unpack_labels(memory)))
    assert plain[0][0].dtype == np.uint8


def test_pycils_pair(memory: Path, folder: Path) -> None:
    data, targets = pycil_memory(memory, folder)
    assert len(data) == len(targets) == 5 * (1 + 2 + 2)
    assert targets.dtype == np.int64
    labels = sorted(unpack_labels(memory))
    assert all(Path(path).parent.name == labels[target] for path, target in zip(data, targets, strict=True))
    with pytest.raises(UsageError, match="which the class order lacks"):
        pycil_memory(memory, folder, class_order=labels[:-1])


def test_labels_are_numbered_sorted_and_not_as_the_file_has_them(tmp_path: Path) -> None:
    """The file is sorted by ``label/name``, where a blank and a hyphen come before the slash."""
    memory = tmp_path / "memory.escx"
    labels = ["cat", "cat big", "cat-big"]
    exemplars = [make_real(label) for label in labels]
    memory.write_bytes(escort_codec.pack(sorted(exemplars, key=lambda e: e.key)))
    assert unpack_labels(memory) == ["cat big", "cat-big", "cat"]
    assert MemoryDataset(memory, tmp_path / "one").labels == tuple(labels)
    assert MemoryDataset(memory, tmp_path / "one").targets.tolist() == [1, 2, 0]
    data, targets = pycil_memory(memory, tmp_path / "two")
    assert [Path(path).parent.name for path in data] == ["cat big", "cat-big", "cat"]
    assert targets.tolist() == [1, 2, 0]


def make_real(label: str) -> Exemplar:
    """A real exemplar: a black PNG file."""
    file = io.BytesIO()
    Image.new("RGB", (4, 4)).save(file, "PNG")
    return Exemplar.from_image(file.getvalue(), label=label, name="1.png", size=(4, 4))


def unpack_labels(memory: Path) -> list[str]:
    with Reader(memory) as reader:
        return list(reader.labels)
