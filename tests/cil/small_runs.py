"""Small drawn data and quick configurations that several tests of training share."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from escort_cil.demo.drawings import draw_dataset
from escort_cil.run.settings import TrainConfig

CLASSES = 5
TRAIN = 8
TEST = 3


def draw_small(folder: Path) -> Path:
    """Five classes of 8 training and 3 test pictures of 48 pixels."""
    draw_dataset(folder, classes=CLASSES, train=TRAIN, test=TEST, size=48)
    return folder


def quick(data: Path | str, **options: Any) -> TrainConfig:
    """Three phases of 2, 2 and 1 classes, 2 epochs each, in about a second."""
    values: Mapping[str, Any] = {
        "data": str(data),
        "backbone": "resnet10",
        "image_size": 16,
        "epochs": 2,
        "increment": 2,
        "batch_size": 8,
        "lr": 0.01,
        "budget": "8000",
        "coding": "rle",
        "seeds": (0, 1),
        "device": "cpu",
        "workers": 1,
        "checkpoint_every": 1,
    }
    return TrainConfig(**{**values, **options})
