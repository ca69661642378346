"""Several processes on one piece of work, as ``torchrun`` and ``accelerate launch`` start them.

They are told apart by the environment's RANK and WORLD_SIZE. What they tell each other goes over torch's gloo, on the
CPU: a plan at the beginning, figures at the end. The work itself needs no word between them.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any, Final, TypeVar

from escort_codec.errors import EscortError, RegenerationError, UsageError

T = TypeVar("T")

PATIENCE: Final = timedelta(days=14)
"""How long a process that is done waits for the others. One that died is noticed at once, by its connection."""


class Processes:
    """This process is number ``rank`` (0 ..) of ``world``. Alone, everything below is the identity."""

    def __init__(self, rank: int = 0, world: int = 1) -> None:
        self.rank = rank
        self.world = world

    @property
    def first(self) -> bool:
        """Whether this is the process that plans, merges and prints the summary."""
        return self.rank == 0

    @property
    def several(self) -> bool:
        """Whether there are others."""
        return self.world > 1

    def from_first(self, make: Callable[[], T]) -> T:
        """What ``make`` gives in the first process, in every process; an EscortError of it is raised in every one."""
        if not self.several:
            return make()
        box: list[Any] = [None, None]
        fault: BaseException | None = None
        if self.first:
            try:
                box[0] = make()
            except EscortError as exc:
                box[1] = exc
            except BaseException as exc:  # a fault of ours: the others must not wait for it
                box[1], fault = RegenerationError(f"the first process failed: {type(exc).__name__}"), exc
        self._exchange(lambda dist: dist.broadcast_object_list(box, src=0))
        if fault is not None:
            raise fault
        if box[1] is not None:
            raise box[1]
        made: T = box[0]
        return made

    def gather(self, value: T) -> list[T]:
        """Every process's value in the first, in the order of their ranks; in the others nothing.

        Waits for them. Raises RegenerationError where one has died.
        """
        if not self.several:
            return [value]
        values: list[Any] | None = [None] * self.world if self.first else None
        self._exchange(lambda dist: dist.gather_object(value, values, dst=0))
        return values or []

    def _exchange(self, call: Callable[[Any], None]) -> None:
        import torch.distributed as dist

        try:
            call(dist)
        except (RuntimeError, ValueError) as exc:
            raise RegenerationError(
                f"process {self.rank + 1} of {self.world}: another one ended before its time; what is made stays, "
                "and the same command goes on"
            ) from exc


@contextmanager
def launched() -> Iterator[Processes]:
    """The processes of this launch: one unless RANK and WORLD_SIZE say otherwise.

    Raises UsageError where they make no sense or torch is not here, RegenerationError where the others cannot be
    reached.
    """
    rank, world = _number("RANK", 0), _number("WORLD_SIZE", 1)
    if world < 2:
        yield Processes()
        return
    if rank >= world:
        raise UsageError(f"RANK {rank} of WORLD_SIZE {world}: ranks begin at 0")
    try:
        import torch.distributed as dist
    except ImportError as exc:
        raise UsageError("several processes need torch: install escort[diffusion]") from exc
    try:
        dist.init_process_group("gloo", rank=rank, world_size=world, timeout=PATIENCE)
    except (RuntimeError, ValueError) as exc:
        raise RegenerationError(
            f"process {rank + 1} of {world} does not reach the others: {exc}".splitlines()[0]
        ) from exc
    try:
        yield Processes(rank, world)
    finally:
        dist.destroy_process_group()


def _number(name: str, default: int) -> int:
    text = os.environ.get(name, "")
    if text and not (text.isascii() and text.isdigit()):
        raise UsageError(f"{name}={text} in the environment is no number")
    return int(text) if text else default
