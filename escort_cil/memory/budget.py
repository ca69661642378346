"""The budget of a memory, and filling a memory to within one exemplar of it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from escort_cil.memory.contents import UNITS_A_PROMPT, ClassMemory, Contents, packed
from escort_cil.memory.encoder import Maker
from escort_cil.policy import Mix
from escort_codec.errors import ConfigError
from escort_codec.exemplar import Exemplar
from escort_codec.source import SourceImage

Counts = tuple[int, int]
"""Real exemplars and prompts of a class."""


class Shelf(Protocol):
    """What a class offers to the memory: its exemplars of both kinds, the best first."""

    @property
    def label(self) -> str:
        """The class."""

    def most(self, real: int) -> Counts:
        """How many there are at most: real ones, and prompts once ``real`` real ones are taken."""

    def take(self, real: int, prompts: int) -> ClassMemory:
        """The first of each kind."""


@dataclass(frozen=True, slots=True)
class OldShelf:
    """A class of an earlier phase: what the memory holds of it, and nothing else."""

    held: ClassMemory

    @property
    def label(self) -> str:
        """The class."""
        return self.held.label

    def most(self, real: int) -> Counts:
        """What is held."""
        return len(self.held.real), len(self.held.prompts)

    def take(self, real: int, prompts: int) -> ClassMemory:
        """Drops from the end of each kind's order."""
        return ClassMemory(self.label, self.held.real[:real], self.held.prompts[:prompts])


class NewShelf:
    """A class of this phase: its images in the order of selection. The first become real exemplars, the next prompts.

    Exemplars are made when they are first asked for.
    """

    def __init__(self, label: str, images: Sequence[SourceImage], maker: Maker) -> None:
        self.label = label
        self._images = images
        self._maker = maker
        self._real: list[Exemplar] = []
        self._prompts: dict[int, Exemplar] = {}

    def most(self, real: int) -> Counts:
        """An image is one or the other."""
        return len(self._images), max(0, len(self._images) - real)

    def take(self, real: int, prompts: int) -> ClassMemory:
        """Makes what is not made yet."""
        if len(self._real) < real:
            self._real += self._maker.reals(self._images[len(self._real) : real])
        wanted = range(real, real + prompts)
        missing = [i for i in wanted if i not in self._prompts]
        made = self._maker.prompts([self._images[i] for i in missing])
        self._prompts.update(zip(missing, made, strict=True))
        return ClassMemory(self.label, tuple(self._real[:real]), tuple(self._prompts[i] for i in wanted))


@dataclass(frozen=True, slots=True)
class Budget:
    """What a memory may hold: bytes (in all, or for each class so far), or the paper's units.

    In bytes, ``mix`` says how they are shared, or how many of each kind a class has at most. In units ``mix`` are
    counts, and ``size`` (PyCIL's ``memory_size``) is what all classes have together.
    """

    mix: Mix
    total: int | None = None
    per_class: int | None = None
    size: float | None = None

    @property
    def in_bytes(self) -> bool:
        """Whether bytes are limited."""
        return self.total is not None or self.per_class is not None

    def limit(self, classes: int) -> int | None:
        """Bytes that the file may have with so many classes; None where they are not limited."""
        if self.total is not None:
            return self.total
        return None if self.per_class is None else self.per_class * classes


def fill(shelves: Sequence[Shelf], budget: Budget) -> Contents:
    """Chooses from the shelves what the memory holds; shelves are in class order.

    In bytes: every class has as many exemplars as the others (fewer where it has no more), as many as fit; then one
    more for single classes, in class order, while they fit. With shares the real exemplars are chosen first, within
    their share, then prompts in what is left. Raises ConfigError where not one exemplar fits.
    """
    limit = budget.limit(len(shelves))
    if limit is None:
        return _in_units(shelves, budget)
    if budget.mix.counts:
        steps = _interleaved(int(budget.mix.real), int(budget.mix.prompt))
        counts = _grow(shelves, limit, [(0, 0)] * len(shelves), len(steps) - 1, lambda base, n: steps[n])
    else:
        counts = [(0, 0)] * len(shelves)
        share = limit if not budget.mix.prompt else int(limit * budget.mix.real)
        if budget.mix.real:
            most = max(shelf.most(0)[0] for shelf in shelves)
            counts = _grow(shelves, share, counts, most, lambda base, n: (n, 0))
        if budget.mix.prompt:
            most = max(shelf.most(base[0])[1] for shelf, base in zip(shelves, counts, strict=True))
            counts = _grow(shelves, limit, counts, most, lambda base, n: (base[0], n))
    contents = tuple(shelf.take(*pair) for shelf, pair in zip(shelves, counts, strict=True))
    if not any(map(len, contents)) and any(shelf.most(0) != (0, 0) for shelf in shelves):
        raise ConfigError(f"the budget of {limit} bytes holds not one exemplar: give more")
    return contents


def _grow(
    shelves: Sequence[Shelf], limit: int, base: list[Counts], most: int, step: Callable[[Counts, int], Counts]
) -> list[Counts]:
    """The largest n at which all classes' ``step(base, n)`` fit, then n + 1 for those whose next one still fits."""

    def counts(n: int) -> list[Counts]:
        return [_within(shelf, step(pair, n)) for shelf, pair in zip(shelves, base, strict=True)]

    # Doubling first, so that no more exemplars are made than about twice those that fit.
    low, high = 0, 1
    while high < most and _fits(shelves, counts(high), limit):
        low, high = high, 2 * high
    high = min(high, most) + 1
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if _fits(shelves, counts(middle), limit) else (low, middle)
    chosen = counts(low)
    if low < most:
        for i, (shelf, pair) in enumerate(zip(shelves, base, strict=True)):
            more = chosen.copy()
            more[i] = _within(shelf, step(pair, low + 1))
            if more != chosen and _fits(shelves, more, limit):
                chosen = more
    return chosen


def _within(shelf: Shelf, wanted: Counts) -> Counts:
    real = min(wanted[0], shelf.most(0)[0])
    return real, min(wanted[1], shelf.most(real)[1])


def _fits(shelves: Sequence[Shelf], counts: Sequence[Counts], limit: int) -> bool:
    contents = [shelf.take(*pair) for shelf, pair in zip(shelves, counts, strict=True)]
    payload = sum(len(e.payload) + len(e.hint or b"") for memory in contents for e in memory.exemplars)
    return payload <= limit and len(packed(contents)) <= limit


def _interleaved(real: int, prompts: int) -> list[Counts]:
    """Counts after each step towards (real, prompts), both kinds growing in proportion."""
    total = real + prompts
    return [(n * real // total, n - n * real // total) for n in range(total + 1)]


def _in_units(shelves: Sequence[Shelf], budget: Budget) -> Contents:
    real, prompts = int(budget.mix.real), int(budget.mix.prompt)
    if budget.size is not None:
        share = budget.size / len(shelves) / (real + UNITS_A_PROMPT * prompts)
        real, prompts = (int(min(1.0, share) * count + 1e-9) for count in (real, prompts))
    return tuple(shelf.take(*_within(shelf, (real, prompts))) for shelf in shelves)
