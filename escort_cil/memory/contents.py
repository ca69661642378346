"""What a memory holds, class by class; read from and written to its file."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from escort_cil.metrics import MemoryFigures
from escort_codec.container import Reader, locked_file, pack
from escort_codec.exemplar import Exemplar

UNITS_A_PROMPT = 1 / 24  # the paper's count: a real exemplar is 1


@dataclass(frozen=True, slots=True)
class ClassMemory:
    """One class's exemplars, each kind in its order of selection, the best first."""

    label: str
    real: tuple[Exemplar, ...] = ()
    prompts: tuple[Exemplar, ...] = ()

    @property
    def exemplars(self) -> tuple[Exemplar, ...]:
        """All: real ones first, as they stand in the file."""
        return self.real + self.prompts

    def __len__(self) -> int:
        return len(self.real) + len(self.prompts)


Contents = tuple[ClassMemory, ...]
"""A memory: classes in class order."""


def exemplars_of(contents: Sequence[ClassMemory]) -> list[Exemplar]:
    """All exemplars in the file's order."""
    return [exemplar for memory in contents for exemplar in memory.exemplars]


def read_contents(path: Path, labels: Sequence[str]) -> Contents:
    """The memory in a file, with an entry for each of ``labels`` (class order); other classes follow as they come."""
    found: dict[str, list[Exemplar]] = {label: [] for label in labels}
    with Reader(path) as reader:
        for exemplar in reader:
            found.setdefault(exemplar.label, []).append(exemplar)
    return tuple(
        ClassMemory(
            label,
            tuple(exemplar for exemplar in group if exemplar.kind == "real"),
            tuple(exemplar for exemplar in group if exemplar.kind == "prompt"),
        )
        for label, group in found.items()
    )


def packed(contents: Sequence[ClassMemory]) -> bytes:
    """The memory as the bytes of its ``.escx`` file."""
    return pack(exemplars_of(contents))


def write_whole(path: Path, data: bytes) -> None:
    """Writes a file beside ``path``, syncs it and puts it in place in one step. Raises OutputError, BusyError."""
    locked_file.write_whole(path, data)


def figures_of(contents: Sequence[ClassMemory], size: int) -> MemoryFigures:
    """Counts by kind and class; ``size`` is the file's, in bytes."""
    real = tuple(len(memory.real) for memory in contents)
    prompt = tuple(len(memory.prompts) for memory in contents)
    return MemoryFigures(size, sum(real), sum(prompt), sum(real) + UNITS_A_PROMPT * sum(prompt), real, prompt)
