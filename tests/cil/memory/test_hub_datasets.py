"""A memory as a data set of Hugging Face's ``datasets``, and such a data set as a folder."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from escort_cil.demo.drawings import draw_dataset
from escort_cil.memory.hub_datasets import memory_dataset, save_folder
from escort_codec.container import Writer
from escort_codec.encode.images import encode_image
from escort_codec.errors import OutputError, SourceError, UsageError
from escort_codec.exemplar import Exemplar
from escort_codec.recipe import EncodeOptions
from escort_codec.source import image_size, scan

datasets = pytest.importorskip("datasets")


def test_a_memory_is_a_data_set(tmp_path: Path) -> None:
    labels = draw_dataset(tmp_path / "data", classes=2, train=2, test=1, size=48)
    with Writer(tmp_path / "memory.escx") as writer:
        for image in scan(tmp_path / "data"):
            data = image.path.read_bytes()
            if image.name == "000.jpg":
                size = image_size(data, name=image.key)
                writer.add(Exemplar.from_image(data, label=image.label, name=image.name, size=size))
            else:
                writer.add(encode_image(image, EncodeOptions(seeds=(0, 1))).exemplar)
    rows = memory_dataset(tmp_path / "memory.escx", tmp_path / "images", class_order=sorted(labels, reverse=True))
    assert rows["kind"][:] == ["real", "prompt", "prompt"] * 2
    assert rows["label"][:] == [1, 1, 1, 0, 0, 0]
    assert rows.features["label"].names == sorted(labels, reverse=True)
    first = scan(tmp_path / "data")[0]
    with Image.open(first.path) as picture:
        assert rows[0]["image"].size == picture.size
    assert rows["name"][:3] == ["000.jpg", "001.jpg", "001.jpg"]
    assert rows[1]["prompt"]
    assert np.asarray(rows[1]["image"]).shape[2] == 3


def test_a_data_set_is_a_folder(tmp_path: Path) -> None:
    pictures = [Image.new("RGB", (9, 7), (40 * n, 0, 0)) for n in range(4)]
    features = datasets.Features({"img": datasets.Image(), "cls": datasets.ClassLabel(names=["a/b", "dog"])})
    split = datasets.Dataset.from_dict({"img": pictures, "cls": [0, 1, 1, 0]}, features=features)
    whole = datasets.DatasetDict({"train": split, "validation": split.select([0])})
    with pytest.raises(SourceError, match="the columns 'image' and 'label' must be an Image and a ClassLabel"):
        save_folder(whole, tmp_path / "out")
    assert save_folder(whole, tmp_path / "out", image="img", label="cls") == {"train": 4, "test": 1}
    found = scan(tmp_path / "out")
    assert [(image.label, image.name) for image in found] == [
        ("a_b", "0.png"),
        ("a_b", "3.png"),
        ("dog", "1.png"),
        ("dog", "2.png"),
    ]
    assert Image.open(found[1].path).getpixel((0, 0)) == (120, 0, 0)
    with pytest.raises(OutputError, match="is not empty"):
        save_folder(whole, tmp_path / "out", image="img", label="cls")
    with pytest.raises(UsageError, match="the split 'extra' is not known"):
        save_folder(datasets.DatasetDict({"extra": split}), tmp_path / "other", image="img", label="cls")
