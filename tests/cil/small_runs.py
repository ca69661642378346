"""Small drawn data and quick configurations that several tests of training share."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from torch import nn

from escort_cil.demo.drawings import draw_dataset
from escort_cil.networks import Backbone, BackboneKind, backbones
from escort_cil.run.settings import TrainConfig

CLASSES = 5
TRAIN = 8
TEST = 3


def _tiny(stem: str) -> Backbone:
    """Two stages of 8 and 16 channels: a step and a checkpoint cost next to nothing."""

    def stage(before: int, after: int) -> nn.Module:
        return nn.Sequential(nn.Conv2d(before, after, 3, 2, 1, bias=False), nn.BatchNorm2d(after), nn.ReLU())

    pooling = (nn.AdaptiveAvgPool2d(1), nn.Flatten())
    return Backbone(nn.Sequential(stage(3, 8)), nn.Sequential(stage(8, 16), *pooling), 16, stages=2)


backbones.add("tiny", BackboneKind(_tiny))


def draw_small(folder: Path) -> Path:
    """Five classes of 8 training and 3 test pictures of 48 pixels."""
    draw_dataset(folder, classes=CLASSES, train=TRAIN, test=TEST, size=48)
    return folder


def quick(data: Path | str, **options: Any) -> TrainConfig:
    """Three phases of 2, 2 and 1 classes, 2 epochs each, in about a second, with a network that only these tests
    know; a budget in bytes keeps prompts."""
    values: Mapping[str, Any] = {
        "data": str(data),
        "backbone": "tiny",
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
    if "units" not in str(options.get("budget", "")):
        values = {**values, "keep": "prompt"}
    return TrainConfig(**{**values, **options})


class _Handler(logging.Handler):
    """Calls a function with each line. What it raises is raised where the line was logged."""

    def __init__(self, call: Callable[[str], None]) -> None:
        super().__init__(logging.DEBUG)
        self._call = call

    def emit(self, record: logging.LogRecord) -> None:
        self._call(record.getMessage())


@contextmanager
def logged(call: Callable[[str], None]) -> Iterator[None]:
    """Calls a function with each line that training logs: phases that begin and end, epochs, and the rest."""
    logger, handler = logging.getLogger("escort_cil"), _Handler(call)
    level = logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.DEBUG)
    try:
        yield
    finally:
        logger.removeHandler(handler)
        logger.setLevel(level)


def is_event(line: str) -> bool:
    """Whether a line says that a phase begins, or that an epoch or a phase is finished."""
    return re.match(r"phase \d+ (of|epoch|finished)", line) is not None
