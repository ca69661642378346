"""What a run reports while it goes on; the command line shows it, the run folder's log keeps it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias


@dataclass(frozen=True, slots=True)
class Said:
    """A line for people."""

    text: str

    def __str__(self) -> str:
        return self.text


@dataclass(frozen=True, slots=True)
class PhaseBegan:
    """A phase of ``phases`` begins: its classes, images of new classes, remembered exemplars, epochs."""

    phase: int
    phases: int
    labels: tuple[str, ...]
    images: int
    remembered: int
    epochs: int

    def __str__(self) -> str:
        return (
            f"phase {self.phase + 1} of {self.phases}: {len(self.labels)} classes, "
            f"{self.images} images and {self.remembered} remembered, {self.epochs} epochs"
        )


@dataclass(frozen=True, slots=True)
class EpochEnded:
    """An epoch is over: mean loss, accuracy on the training images in per cent, images/s, seconds left in the phase."""

    phase: int
    phases: int
    epoch: int
    epochs: int
    loss: float
    accuracy: float
    lr: float
    images_per_second: float
    seconds_left: float

    def __str__(self) -> str:
        return (
            f"phase {self.phase + 1} epoch {self.epoch + 1}/{self.epochs}: loss {self.loss:.4f}, "
            f"accuracy {self.accuracy:.1f} %, lr {self.lr:g}, {self.images_per_second:.0f} images/s"
        )

    def figures(self) -> dict[str, float]:
        """What a tracker is given."""
        return {
            "train/loss": self.loss,
            "train/accuracy": self.accuracy,
            "train/lr": self.lr,
            "train/images_per_second": self.images_per_second,
        }


@dataclass(frozen=True, slots=True)
class CopiesMade:
    """So many of the copies that were missing are regenerated."""

    done: int
    total: int

    def __str__(self) -> str:
        return f"{self.done}/{self.total} copies regenerated"


@dataclass(frozen=True, slots=True)
class PhaseEnded:
    """A phase was evaluated: its line of metrics.jsonl."""

    record: Mapping[str, Any]

    def __str__(self) -> str:
        record = self.record
        nme = "" if record["nme_top1"] is None else f", nearest mean {record['nme_top1']:.2f} %"
        memory = f", memory {record['memory_bytes']:,} bytes" if record["memory_bytes"] else ""
        return (
            f"phase {record['phase'] + 1} over: top-1 {record['top1']:.2f} %{nme}, average incremental "
            f"{record['average_incremental_accuracy']:.2f} %{memory}"
        )

    def figures(self) -> dict[str, float]:
        """What a tracker is given: every number of every view, and the memory's."""
        found = {f"memory/{key[len('memory_') :]}": self.record[key] for key in self.record if "memory_" in key}
        for view, figures in self.record["views"].items():
            found |= {f"{view}/{key}": value for key, value in figures.items()}
        return {key: float(value) for key, value in found.items() if isinstance(value, int | float)}


Event: TypeAlias = Said | PhaseBegan | CopiesMade | EpochEnded | PhaseEnded
Report: TypeAlias = Callable[[Event], None]


def silent(event: Event) -> None:
    """Reports nothing."""
