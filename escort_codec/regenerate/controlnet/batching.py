"""Batches: jobs gathered by what they share, as many at once as fit, fewer where memory runs out."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator
from typing import Final, Generic, TypeVar

K = TypeVar("K", bound=Hashable)
T = TypeVar("T")

LARGEST: Final = 64  # images: larger batches of 512 x 512 are no faster on the largest GPUs
ON_CPU: Final = 4
SPARE: Final = 0.9  # of the free memory; the rest is for fragments and libraries' workspaces
HELD: Final = 4096  # jobs waiting for their batch to fill


class Groups(Generic[K, T]):
    """Items by key, handed out in full batches as they fill; the rest at the end. Keeps the order within a key."""

    def __init__(self, batch_size: Callable[[K], int]) -> None:
        self._batch_size = batch_size
        self._groups: dict[K, list[T]] = {}
        self._held = 0

    def add(self, key: K, item: T) -> Iterator[tuple[K, list[T]]]:
        """Takes an item and hands out the batch that it fills. Where very many items wait, the largest group goes."""
        group = self._groups.setdefault(key, [])
        group.append(item)
        self._held += 1
        if len(group) >= self._batch_size(key):
            yield self._take(key)
        elif self._held >= HELD:
            yield self._take(max(self._groups, key=lambda k: len(self._groups[k])))

    def rest(self) -> Iterator[tuple[K, list[T]]]:
        """Hands out what is left, group by group."""
        while self._groups:
            yield self._take(next(iter(self._groups)))

    def _take(self, key: K) -> tuple[K, list[T]]:
        items = self._groups.pop(key)
        self._held -= len(items)
        return key, items


class Sizes:
    """How many images of a generation size go into a batch: what was asked for, or the largest that fits; never more
    than what ran out of memory before, for that area and all larger ones."""

    def __init__(self, asked: int | None) -> None:
        self.asked = asked
        self._found: dict[tuple[int, int], int] = {}
        self._limits: dict[int, int] = {}

    def known(self, size: tuple[int, int]) -> bool:
        """Whether nothing need be measured for ``size`` (H, W)."""
        return self.asked is not None or size in self._found

    def found(self, size: tuple[int, int], count: int) -> None:
        """Records what fits."""
        self._found[size] = max(1, min(count, LARGEST))

    def of(self, size: tuple[int, int]) -> int:
        """The batch size for ``size`` (H, W), at least 1."""
        area = size[0] * size[1]
        wanted = self.asked if self.asked is not None else self._found.get(size, LARGEST)
        return max(1, min([wanted, *(limit for a, limit in self._limits.items() if a <= area)]))

    def ran_out(self, size: tuple[int, int], count: int) -> int:
        """Records that ``count`` images did not fit; returns the half that is tried next, 0 where one did not fit."""
        half = count // 2
        self._limits[size[0] * size[1]] = max(1, half)
        return half


def largest_batch(peak: Callable[[int], int], free: int) -> int:
    """The largest batch whose memory fits into ``free`` bytes.

    ``peak(n)`` makes a batch of n and returns the bytes that it took at its highest. Memory grows linearly with the
    batch beyond a constant, so that batches of 1 and 2 tell the rest.
    """
    one = peak(1)
    if one > free * SPARE:
        return 1
    each = max(1, peak(2) - one)
    count = 1 + int(free * SPARE - one) // each
    count = max(1, min(count, LARGEST))
    return count - count % 8 if count > 8 else count


def is_out_of_memory(exc: BaseException) -> bool:
    """Whether an error says that memory, of the device or the machine, ran out."""
    if isinstance(exc, MemoryError) or type(exc).__name__ == "OutOfMemoryError":
        return True
    said = str(exc).lower()
    return isinstance(exc, RuntimeError) and ("out of memory" in said or "can't allocate memory" in said)
