"""How large a memory may be (the setting ``budget``), and which exemplars it holds."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Final, Literal, Protocol

from escort_cil.memory.contents import ClassMemory, Contents, packed
from escort_cil.memory.encoder import ExemplarEncoder
from escort_cil.memory.keep import Keep, Part, interleaved, scaled_counts
from escort_codec.errors import ConfigError, UsageError
from escort_codec.exemplar import Exemplar
from escort_codec.settings import parse_bytes
from escort_codec.source import SourceImage

Counts = tuple[int, ...]
"""Exemplars of a class, one number for each part of ``keep``."""

TRIES: Final = 32  # failures to add one more exemplar, after which only smaller ones are tried


AUTO: Final = "auto"
"""The setting ``keep`` for a choice before the first phase (``escort_cil.auto``)."""
LEARNED: Final = "latent:64"
"""What a budget in bytes keeps by default, without a file of prompts."""
STAND_IN: Final = "latent:150B"
"""Replaces ``AUTO`` until the choice: the smallest candidate."""


@dataclass(frozen=True, slots=True)
class Budget:
    """What a memory may hold: ``amount`` bytes or the paper's units, in total or ``per_class`` so far.

    Without an amount only the counts of ``keep`` limit it.
    """

    keep: Keep
    amount: float | None = None
    unit: Literal["bytes", "units"] = "units"
    per_class: bool = True

    @classmethod
    def parse(cls, text: str, keep: str = "", of_bytes: str = "prompt") -> Budget:
        """``2MB``, ``20KB/class``, ``2000units``, ``20units/class``; "" is no amount.

        ``keep`` is the setting of that name. If it is "", bytes keep ``of_bytes``, units originals alone, and no
        amount keeps the paper's mixture: 18 originals and 48 prompts per class, which are 20 units. Raises ConfigError.
        """
        if keep == AUTO:
            return cls._for_auto(text)
        kept = Keep.parse(keep) if keep else None
        if not text:
            if kept is not None and not kept.counts:
                return cls(kept, 20)
            return cls(kept or Keep.parse("18 original + 48 prompt"))
        match = re.fullmatch(r"\s*(.*?)\s*(/\s*class)?\s*", text)
        amount, per_class = (match[1], match[2] is not None) if match else (text, False)
        units = re.fullmatch(r"([0-9]+(?:\.[0-9]+)?)\s*units?", amount)
        if units:
            budget = cls(kept or Keep.parse("original"), float(units[1]), "units", per_class)
            if budget.keep.counts and per_class and budget.keep.units > float(units[1]) + 1e-9:
                needed = f"{budget.keep} needs {budget.keep.units:g} units per class"
                raise ConfigError(f"{needed}: give more, or keep less", setting="budget", value=text)
            return budget
        try:
            return cls(kept or Keep.parse(of_bytes), parse_bytes(amount), "bytes", per_class)
        except UsageError as exc:
            form = "write 200KB, 20KB/class, 20units/class or 2000units"
            raise ConfigError(form, setting="budget", value=text) from exc

    @classmethod
    def _for_auto(cls, text: str) -> Budget:
        """The budget of ``keep`` auto before the choice. Raises ConfigError for a budget that is not in bytes."""
        budget = cls.parse(text, STAND_IN)
        if budget.unit != "bytes" or budget.amount is None:
            raise ConfigError("chooses for a budget in bytes: give `budget`, such as 200KB", setting="keep", value=AUTO)
        return budget

    def __str__(self) -> str:
        if self.amount is None:
            return ""
        each = "/class" if self.per_class else ""
        if self.unit == "units":
            return f"{self.amount:g}units{each}"
        for name, size in (("GB", 10**9), ("MB", 10**6), ("KB", 10**3)):
            if self.amount and self.amount % size == 0:
                return f"{self.amount // size:g}{name}{each}"
        return f"{self.amount:.0f}B{each}"

    def limit(self, classes: int) -> int | None:
        """Bytes that the file may have with N ``classes``; None if bytes are not limited."""
        if self.amount is None or self.unit != "bytes":
            return None
        return int(self.amount) * (classes if self.per_class else 1)

    def counts(self, classes: int) -> Counts:
        """Exemplars per class if bytes are not limited."""
        keep = self.keep
        whole = tuple(int(part.amount) for part in keep.parts)
        if self.amount is None:
            return whole
        units = self.amount if self.per_class else self.amount / classes
        if not keep.counts:
            return scaled_counts(keep, units)
        if self.per_class:
            return whole
        share = min(1.0, units / keep.units) if keep.units else 0.0
        return tuple(int(share * count + 1e-9) for count in whole)

    @property
    def least_units(self) -> float:
        """The fewest units per class that hold an exemplar of each class."""
        if self.keep.counts:
            return self.keep.units / max(part.amount for part in self.keep.parts)
        return min(part.kind.units / part.amount for part in self.keep.parts if part.amount)


class Shelf(Protocol):
    """The exemplars that a class offers to the memory, for each part of ``keep``, the best first."""

    @property
    def label(self) -> str:
        """The class."""

    def most(self, counts: Counts, part: int) -> int:
        """How many of a part are available when ``counts`` of the parts before it are taken."""

    def take(self, counts: Counts) -> ClassMemory:
        """The first ``counts`` of each part."""


@dataclass(frozen=True, slots=True)
class OldShelf:
    """A class of an earlier phase: only what the memory holds of it."""

    held: ClassMemory
    parts: tuple[Part, ...]

    @property
    def label(self) -> str:
        """The class."""
        return self.held.label

    def most(self, counts: Counts, part: int) -> int:
        """As many as the memory holds."""
        return len(self.held.of(self.parts[part].kind.stored))

    def take(self, counts: Counts) -> ClassMemory:
        """Keeps the first of each kind."""
        held = {part.kind.stored: self.held.of(part.kind.stored) for part in self.parts}
        return replace(self.held, by_kind={k: g[:n] for (k, g), n in zip(held.items(), counts, strict=True)})


class NewShelf:
    """A class of this phase: its images in the order of selection, the first ones for the first part, and so on.

    The encoder makes an exemplar when it is first needed.
    """

    def __init__(
        self, label: str, images: Sequence[SourceImage], parts: Sequence[Part], encoder: ExemplarEncoder
    ) -> None:
        self.label = label
        self._images = images
        self._parts = parts
        self._encoder = encoder
        self._made: list[dict[int, Exemplar]] = [{} for _ in parts]

    def most(self, counts: Counts, part: int) -> int:
        """The images that no part before takes: an image is remembered once."""
        return max(0, len(self._images) - sum(counts[:part]))

    def take(self, counts: Counts) -> ClassMemory:
        """Encodes the missing exemplars."""
        groups: dict[str, tuple[Exemplar, ...]] = {}
        start = 0
        for part, made, count in zip(self._parts, self._made, counts, strict=True):
            indices = range(start, start + count)
            missing = [i for i in indices if i not in made]
            exemplars = self._encoder.exemplars(part.kind, [self._images[i] for i in missing])
            made.update(zip(missing, exemplars, strict=True))
            groups[part.kind.stored] = tuple(made[i] for i in indices)
            start += count
        return ClassMemory(self.label, groups)


def make_shelves(
    held: Contents, ordered: Mapping[str, Sequence[SourceImage]], budget: Budget, encoder: ExemplarEncoder
) -> list[Shelf]:
    """The shelves of old classes and of new ones, whose images are ``ordered``, the best first."""
    parts = budget.keep.parts
    old: list[Shelf] = [OldShelf(memory, parts) for memory in held]
    return old + [NewShelf(label, images, parts, encoder) for label, images in ordered.items()]


def fill(shelves: Sequence[Shelf], budget: Budget) -> Contents:
    """Chooses what the memory holds from the shelves, which are in class order.

    With a budget in bytes all classes get the same number of exemplars, as many as fit (a class may have fewer); then
    single classes get one more, in class order, while it fits. With shares, the first part is filled within its share,
    then the next one within the shares of both, and so on. Raises ConfigError if no exemplar fits.
    """
    limit, parts = budget.limit(len(shelves)), budget.keep.parts
    none = (0,) * len(parts)
    if limit is None:
        counts = budget.counts(len(shelves))
        return tuple(shelf.take(_within(shelf, counts)) for shelf in shelves)
    chosen = [none] * len(shelves)
    if budget.keep.counts:
        steps = interleaved([int(part.amount) for part in parts])
        chosen = _grow(shelves, limit, chosen, len(steps) - 1, lambda base, n: steps[n])
    else:
        for i in range(len(parts)):
            share = limit if i == len(parts) - 1 else int(limit * sum(part.amount for part in parts[: i + 1]))
            most = max(shelf.most(base, i) for shelf, base in zip(shelves, chosen, strict=True))
            chosen = _grow(shelves, share, chosen, most, partial(_with_count, i))
    contents = tuple(shelf.take(counts) for shelf, counts in zip(shelves, chosen, strict=True))
    if not any(map(len, contents)) and any(shelf.most(none, i) for shelf in shelves for i in range(len(parts))):
        raise ConfigError(f"{limit} bytes cannot hold one exemplar: give more", setting="budget", value=str(budget))
    return contents


def _grow(
    shelves: Sequence[Shelf], limit: int, base: list[Counts], most: int, step: Callable[[Counts, int], Counts]
) -> list[Counts]:
    """The largest n at which all classes' ``step(base, n)`` fit, then n + 1 for those whose next one still fits."""

    def counts(n: int) -> list[Counts]:
        return [_within(shelf, step(each, n)) for shelf, each in zip(shelves, base, strict=True)]

    # Doubling first: it encodes at most about twice as many exemplars as fit.
    low, high = 0, 1
    while high < most and _fits(shelves, counts(high), limit):
        low, high = high, 2 * high
    high = min(high, most) + 1
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if _fits(shelves, counts(middle), limit) else (low, middle)
    chosen = counts(low)
    return chosen if low >= most else _add_single(shelves, limit, chosen, counts(low + 1))


def _add_single(shelves: Sequence[Shelf], limit: int, chosen: list[Counts], more: list[Counts]) -> list[Counts]:
    """``chosen``, with ``more`` for each class in turn for which it still fits.

    The result is that of trying one class after another, in far fewer steps: it adds groups of classes at once, and
    skips an exemplar whose payload alone does not fit.
    """
    chosen = chosen.copy()
    gain = [_payload([s.take(b)]) - _payload([s.take(a)]) for s, a, b in zip(shelves, chosen, more, strict=True)]
    left = [i for i in range(len(shelves)) if more[i] != chosen[i]]
    room, group = limit - _size(shelves, chosen), len(left)
    failed: list[int] = []
    while left := [i for i in left if gain[i] <= room and (len(failed) < TRIES or gain[i] < min(failed))]:
        trial = chosen.copy()
        for i in left[:group]:
            trial[i] = more[i]
        if sum(gain[i] for i in left[:group]) <= room and (size := _size(shelves, trial)) <= limit:
            chosen, room, left, group = trial, limit - size, left[group:], 2 * group
        elif len(left[:group]) > 1:
            group = min(group, len(left)) // 2
        else:
            failed.append(gain[left[0]])
            left = left[1:]
    return chosen


def _with_count(part: int, base: Counts, count: int) -> Counts:
    return (*base[:part], count, *base[part + 1 :])


def _within(shelf: Shelf, wanted: Counts) -> Counts:
    counts: Counts = ()
    for part, count in enumerate(wanted):
        counts += (min(count, shelf.most(counts, part)),)
    return counts


def _fits(shelves: Sequence[Shelf], counts: Sequence[Counts], limit: int) -> bool:
    contents = [shelf.take(each) for shelf, each in zip(shelves, counts, strict=True)]
    return _payload(contents) <= limit and len(packed(contents)) <= limit


def _size(shelves: Sequence[Shelf], counts: Sequence[Counts]) -> int:
    return len(packed([shelf.take(each) for shelf, each in zip(shelves, counts, strict=True)]))


def _payload(contents: Sequence[ClassMemory]) -> int:
    """Bytes of the exemplars without the file's tables: a lower bound of the file's size."""
    return sum(len(e.payload) + len(e.hint or b"") for memory in contents for e in memory.exemplars)
