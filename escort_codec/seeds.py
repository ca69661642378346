"""Parses and formats seeds: ``0-4``, ``0,2,7``, ``0-2,10``."""

from __future__ import annotations

import re
from collections.abc import Iterable

from escort_codec.errors import UsageError
from escort_codec.limits import MAX_SEED, MAX_SEEDS


def parse_seeds(text: str) -> tuple[int, ...]:
    """The seeds of an expression, rising, without repetition: ``"0-2,10"`` is (0, 1, 2, 10).

    Raises UsageError if it is not a list of numbers and rising ranges, a seed is above 4294967295, or there are more
    than 4096 seeds.
    """
    seeds: set[int] = set()
    for part in text.split(","):
        match = re.fullmatch(r"\s*([0-9]{1,10})\s*(?:-\s*([0-9]{1,10})\s*)?", part)
        if not match:
            raise UsageError(f"{part.strip()!r} in {text!r} is not a seed: write 0-4, 0,2,7 or 0-2,10")
        first = int(match[1])
        last = first if match[2] is None else int(match[2])
        if last < first:
            raise UsageError(f"the range {part.strip()!r} is backwards: write {last}-{first}")
        if last > MAX_SEED:
            raise UsageError(f"the seed {last} is above {MAX_SEED}")
        if last - first >= MAX_SEEDS or len(seeds.union(range(first, last + 1))) > MAX_SEEDS:
            raise UsageError(f"{text!r} names more than {MAX_SEEDS} seeds")
        seeds.update(range(first, last + 1))
    return tuple(sorted(seeds))


def format_seeds(seeds: Iterable[int]) -> str:
    """The inverse of ``parse_seeds``: (0, 1, 2, 10) is ``"0-2,10"``, no seeds are ``""``."""
    runs: list[list[int]] = []
    for seed in sorted(set(seeds)):
        if runs and seed == runs[-1][-1] + 1:
            runs[-1].append(seed)
        else:
            runs.append([seed])
    return ",".join(_run(run) for run in runs)


def _run(run: list[int]) -> str:
    """A run of at least three as a range, else as a list."""
    if len(run) < 3:
        return ",".join(map(str, run))
    return f"{run[0]}-{run[-1]}"
