"""Several processes that share work, as ``torchrun`` and ``accelerate launch`` start them.

They are identified by RANK and WORLD_SIZE in the environment. They exchange small values through torch's gloo, on the
CPU.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import timedelta
from typing import Any, Final, TypeVar

from escort_codec.errors import EscortError, RegenerationError, UsageError

T = TypeVar("T")

PATIENCE: Final = timedelta(days=14)
"""How long a finished process waits for the others. The loss of a process is noticed at once."""


class Processes:
    """This process is number ``rank`` (0 ..) of ``world``. One process exchanges nothing."""

    def __init__(self, rank: int = 0, world: int = 1) -> None:
        self.rank = rank
        self.world = world

    @property
    def first(self) -> bool:
        """Whether this process plans, merges, writes and prints."""
        return self.rank == 0

    @property
    def several(self) -> bool:
        """Whether there are other processes."""
        return self.world > 1

    def from_first(self, make: Callable[[], T]) -> T:
        """Calls ``make`` in the first process and returns its result in every one; its EscortError is raised in every
        one."""
        if not self.several:
            return make()
        box: list[Any] = [None, None]
        fault: BaseException | None = None
        if self.first:
            try:
                box[0] = make()
            except EscortError as exc:
                box[1] = exc
            except BaseException as exc:  # unexpected: the others must not wait for it
                box[1], fault = RegenerationError(f"the first process failed: {type(exc).__name__}"), exc
        self._exchange(lambda dist: dist.broadcast_object_list(box, src=0))
        if fault is not None:
            raise fault
        if box[1] is not None:
            raise box[1]
        made: T = box[0]
        return made

    def gather(self, value: T) -> list[T]:
        """In the first process the values of all, by rank; an empty list in the others.

        Waits for all. Raises RegenerationError if one has died.
        """
        if not self.several:
            return [value]
        values: list[Any] | None = [None] * self.world if self.first else None
        self._exchange(lambda dist: dist.gather_object(value, values, dst=0))
        return values or []

    def wait(self) -> None:
        """Waits until all processes have called it."""
        if self.several:
            self.gather(None)
            self.from_first(lambda: None)

    @contextmanager
    def first_alone(self) -> Iterator[None]:
        """A block that the first process runs alone, and the others after it."""
        if not self.first:
            self.wait()
        yield
        if self.first:
            self.wait()

    def _exchange(self, call: Callable[[Any], None]) -> None:
        import torch.distributed as dist

        try:
            call(dist)
        except (RuntimeError, ValueError) as exc:
            raise RegenerationError(
                f"process {self.rank + 1} of {self.world}: another process ended early; finished work is kept, and the "
                "same command continues it"
            ) from exc


def is_first() -> bool:
    """Whether this is the only process, or the first of those that were launched together."""
    return _number("WORLD_SIZE", 1) < 2 or _number("RANK", 0) == 0


def launched_alone() -> bool:
    """Whether this process was not launched together with others."""
    return _number("WORLD_SIZE", 1) < 2


def local_rank() -> int:
    """The number of this process among those on its machine, which is also the number of its GPU."""
    return _number("LOCAL_RANK", 0)


def local_world(world: int) -> int:
    """The number of processes on this machine, of ``world`` in all."""
    return max(1, _number("LOCAL_WORLD_SIZE", world))


@contextmanager
def launched() -> Iterator[Processes]:
    """The processes of this launch, connected while the block runs; see ``join``."""
    processes = join()
    try:
        yield processes
    finally:
        leave()


def join(backend: str = "gloo") -> Processes:
    """Connects the processes of this launch, if they are not connected yet: one unless RANK and WORLD_SIZE say more.

    Raises UsageError if these are not valid or torch is not installed, RegenerationError if the others cannot be
    reached.
    """
    rank, world = _number("RANK", 0), _number("WORLD_SIZE", 1)
    if world < 2:
        return Processes()
    if rank >= world:
        raise UsageError(f"RANK {rank} of WORLD_SIZE {world}: ranks begin at 0")
    try:
        import torch.distributed as dist
    except ImportError as exc:
        raise UsageError("several processes need torch: install escort[diffusion]") from exc
    if not dist.is_initialized():
        try:
            dist.init_process_group(backend, rank=rank, world_size=world, timeout=PATIENCE)
        except (RuntimeError, ValueError) as exc:
            raise RegenerationError(
                f"process {rank + 1} of {world} cannot reach the others: {exc}".splitlines()[0]
            ) from exc
    return Processes(rank, world)


def leave() -> None:
    """Closes the connection to the other processes, if there is one."""
    if _number("WORLD_SIZE", 1) > 1:
        import torch.distributed as dist

        if dist.is_initialized():
            dist.destroy_process_group()


@contextmanager
def end_at_once() -> Iterator[None]:
    """After the block, ends a process that was launched together with others without Python's own clean-up.

    A thread of gloo that is still running at Python's exit would abort the process, although its work is saved. An
    error that is not SystemExit is raised.
    """
    code: object = 0
    try:
        yield
    except SystemExit as exc:
        if launched_alone():
            raise
        code = exc.code
    if launched_alone():
        return
    if not code:
        leave()
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError, AttributeError):  # closed, or nobody reads it
            stream.flush()
    os._exit(code if isinstance(code, int) else 0 if code is None else 1)


def _number(name: str, default: int) -> int:
    text = os.environ.get(name, "")
    if text and not (text.isascii() and text.isdigit()):
        raise UsageError(f"{name}={text} in the environment is not a number")
    return int(text) if text else default
