"""The contents of a memory by class, read from its file and packed into it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias

from escort_cil.memory.keep import STORED
from escort_cil.memory.kinds import ExemplarKind, kinds
from escort_cil.metrics import DECIMALS
from escort_codec.container import Reader, pack
from escort_codec.exemplar import Exemplar
from escort_codec.export.real import check_real
from escort_codec.words import counted, listed


@dataclass(frozen=True, slots=True)
class ClassMemory:
    """One class's exemplars by the kind that they are stored as, each in the order of selection, the best first."""

    label: str
    by_kind: Mapping[str, tuple[Exemplar, ...]] = field(default_factory=dict)

    def of(self, stored: str) -> tuple[Exemplar, ...]:
        """The exemplars that are stored as one kind: "real", "latent" or "prompt"."""
        return self.by_kind.get(stored, ())

    @property
    def exemplars(self) -> tuple[Exemplar, ...]:
        """All exemplars in file order: real ones first."""
        return tuple(exemplar for stored in STORED for exemplar in self.of(stored))

    def __len__(self) -> int:
        return len(self.exemplars)


Contents: TypeAlias = tuple[ClassMemory, ...]
"""A memory: its classes in class order."""


def exemplars_of(contents: Sequence[ClassMemory]) -> list[Exemplar]:
    """All exemplars in the file's order."""
    return [exemplar for memory in contents for exemplar in memory.exemplars]


def read_contents(path: Path, labels: Sequence[str]) -> Contents:
    """The memory in a file, with an entry for each of ``labels`` (class order); other classes follow in file order.

    Raises EscortError for a real exemplar that is not an image, or not of its declared size.
    """
    found: dict[str, list[Exemplar]] = {label: [] for label in labels}
    with Reader(path) as reader:
        for exemplar in reader:
            if exemplar.kind == "real":
                check_real(exemplar)
            found.setdefault(exemplar.label, []).append(exemplar)
    return tuple(
        ClassMemory(label, {stored: tuple(e for e in group if e.kind == stored) for stored in STORED})
        for label, group in found.items()
    )


def packed(contents: Sequence[ClassMemory]) -> bytes:
    """The memory as the bytes of its ``.escx`` file."""
    return pack(exemplars_of(contents))


def shortages(contents: Sequence[ClassMemory]) -> list[str]:
    """A line about the classes without an exemplar, if there are any."""
    empty = [memory.label for memory in contents if not len(memory)]
    classes = counted(len(empty), "class")
    return [f"no exemplar is left of {classes}, the budget is too small: {listed(empty)}"] if empty else []


@dataclass(frozen=True, slots=True)
class MemoryFigures:
    """What is stored after a phase: the file's bytes, exemplars by kind, the paper's units, and the model's bytes.

    ``model`` is the size of all tensors of model.safetensors, which MEMO's authors count besides the exemplars.
    ``real_by_class`` and ``prompt_by_class`` count exemplars by class number, one entry for each class so far. Image
    files and learned pictures, which training shows as they are, count as real.
    """

    bytes: int = 0
    real: int = 0
    prompt: int = 0
    units: float = 0.0
    real_by_class: tuple[int, ...] = ()
    prompt_by_class: tuple[int, ...] = ()
    model: int = 0

    def to_record(self) -> dict[str, Any]:
        """The keys ``memory_...`` and ``model_bytes`` of a line of metrics.jsonl."""
        return {
            "memory_bytes": self.bytes,
            "memory_real": self.real,
            "memory_prompt": self.prompt,
            "memory_units": round(self.units, DECIMALS),
            "memory_real_by_class": list(self.real_by_class),
            "memory_prompt_by_class": list(self.prompt_by_class),
            "model_bytes": self.model,
        }


def figures_of(contents: Sequence[ClassMemory], size: int, kept: Iterable[ExemplarKind] = ()) -> MemoryFigures:
    """Counts by kind and class; ``size`` is the file's, in bytes. ``kept`` are the kinds that define the units."""
    prompt = tuple(len(memory.of("prompt")) for memory in contents)
    real = tuple(len(memory) - prompts for memory, prompts in zip(contents, prompt, strict=True))
    units = {kind.stored: kind.units for kind in reversed(tuple(kinds))} | {kind.stored: kind.units for kind in kept}
    total = sum(units[stored] * len(memory.of(stored)) for stored in STORED for memory in contents)
    return MemoryFigures(size, sum(real), sum(prompt), total, real, prompt)
