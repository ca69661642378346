"""The setting ``keep``: the kinds of exemplar in the memory and their mixture."""

from __future__ import annotations

import itertools
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from escort_cil.memory.kinds import ExemplarKind, kinds
from escort_codec.errors import ConfigError, UnknownNameError
from escort_codec.exemplar import Kind as StoredKind

STORED: Final[tuple[StoredKind, ...]] = tuple(dict.fromkeys(kind.stored for kind in kinds))
"""The stored kinds in the order in which a class's exemplars are chosen and written: real, latent, prompt."""

_FORM: Final = "write original, webp:64:20, prompt, prompt:400B, 30% original + 70% prompt, or 18 original + 48 prompt"


@dataclass(frozen=True, slots=True)
class Part:
    """One kind, and how much of it: a share (of 1) or exemplars per class."""

    kind: ExemplarKind
    amount: float


@dataclass(frozen=True, slots=True)
class Keep:
    """Kinds with their shares of the budget (which add up to 1) or, with ``counts``, their exemplars per class.

    No two parts are stored as the same kind. Parts are in the order of ``STORED``.
    """

    parts: tuple[Part, ...]
    counts: bool = False

    @classmethod
    def parse(cls, text: str) -> Keep:
        """``original``, ``webp:64:20`` or ``prompt`` alone; ``30% original + 70% prompt``; ``18 original + 48 prompt``.

        Raises ConfigError.
        """
        found: list[tuple[Part, str]] = []
        for part in text.split("+"):
            match = re.fullmatch(r"\s*(?:([0-9]+(?:\.[0-9]+)?)\s*(%?)\s*)?([a-z][a-z0-9]*)(?::(\S*))?\s*", part)
            if not match:
                raise ConfigError(_FORM, setting="keep", value=text)
            try:
                kind = kinds.get(match[3]).parse(match[4] or "")
            except UnknownNameError as exc:
                raise ConfigError(str(exc), setting="keep", value=text) from exc
            amount = 1.0 if match[1] is None else float(match[1]) / (100 if match[2] else 1)
            found.append((Part(kind, amount), "share" if match[1] is None or match[2] else "count"))
        forms = {form for _, form in found}
        if len(forms) > 1:
            raise ConfigError(f"shares and counts do not mix: {_FORM}", setting="keep", value=text)
        parts = [part for part, _ in found if part.amount or len(found) == 1]
        counts = forms == {"count"}
        if counts and any(part.amount != int(part.amount) for part in parts):
            raise ConfigError("counts are whole numbers; shares have a % sign", setting="keep", value=text)
        if not counts and abs(sum(part.amount for part in parts) - 1) > 1e-9:
            raise ConfigError("shares must add up to 100%", setting="keep", value=text)
        for first, second in itertools.combinations([part.kind for part in parts], 2):
            if first.stored == second.stored:
                what = f"{first.name} and {second.name} are both stored as {first.stored} images"
                raise ConfigError(f"{what}: keep one of them", setting="keep", value=text)
        return cls(tuple(sorted(parts, key=lambda part: STORED.index(part.kind.stored))), counts)

    def __str__(self) -> str:
        if self.counts:
            return " + ".join(f"{part.amount:g} {part.kind}" for part in self.parts)
        if len(self.parts) == 1:
            return str(self.parts[0].kind)
        return " + ".join(f"{100 * part.amount:g}% {part.kind}" for part in self.parts)

    @property
    def kinds(self) -> tuple[ExemplarKind, ...]:
        """The kinds that are kept."""
        return tuple(part.kind for part in self.parts if part.amount)

    @property
    def units(self) -> float:
        """The paper's units of the counts of one class."""
        return sum(part.kind.units * part.amount for part in self.parts)

    def has_copies(self) -> bool:
        """Whether an exemplar differs from its image, so that it can serve as data augmentation."""
        return any(kind.is_copy for kind in self.kinds)


def scaled_counts(keep: Keep, units: float) -> tuple[int, ...]:
    """Exemplars per class of each part for shares of ``units`` units per class."""
    return tuple(int(part.amount * units / part.kind.units + 1e-9) for part in keep.parts)


def interleaved(counts: Sequence[int]) -> list[tuple[int, ...]]:
    """The counts after each step towards ``counts``, all parts growing in proportion."""
    total = sum(counts)
    ends = [sum(counts[: i + 1]) for i in range(len(counts))]
    steps = []
    for n in range(total + 1):
        reached = [n * end // total if total else 0 for end in ends]
        steps.append(tuple(b - a for a, b in zip([0, *reached], reached, strict=False)))
    return steps
