"""Runs shards of work on a Ray cluster, or on this machine's cores through Ray, which schedules them.

If a worker or machine dies, its shards run again elsewhere. At most a few shards per worker are in flight, so memory
does not grow with the work. The ray package is imported when an engine starts.
"""

from __future__ import annotations

import logging
import os
import socket
import warnings
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, Final, TypeVar

import escort_codec
from escort_codec.errors import EngineError, EscortError, UsageError
from escort_codec.progress import Progress
from escort_codec.words import first_line
from escort_codec.workers import usable_cores

LOCAL: Final = "local"
"""The engine without a cluster: threads of this process."""

RETRIES: Final = 5
"""How often a shard is retried after its worker died. Then the run fails: the shard may kill its workers."""

WINDOW: Final = 2
"""Shards per core that are running, or finished and waiting for their turn."""

PATIENCE: Final = 10.0
"""Seconds to wait for the head of a cluster."""

log: Final = logging.getLogger(__name__)

Item = TypeVar("Item")
Made = TypeVar("Made")


def parse_engine(text: str) -> str | None:
    """The address of Ray in ``ray`` or ``ray://HOST:PORT`` ("" without one); None for ``local``. Raises UsageError."""
    if text == LOCAL:
        return None
    name, mark, address = text.partition("://")
    if name != "ray" or (mark and not address):
        raise UsageError("write local, ray, ray://auto or ray://HOST:PORT", setting="engine", value=text)
    return address


class RayEngine:
    """A connection to Ray, for a ``with`` block. Without an address Ray starts here, on the cores of this process.

    If the program is already connected to Ray, that connection is used and stays open. Raises
    EngineError if Ray is not installed or cannot be reached.
    """

    def __init__(self, address: str = "") -> None:
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # of Ray's own imports
                import ray
        except ImportError as exc:
            raise EngineError("the engine ray needs the package ray: pip install 'escort[ray]'") from exc
        self.ray: Any = ray
        self._ours = not ray.is_initialized()
        if not self._ours:
            return
        quiet: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR}
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                if address:
                    _check_address(address)
                    ray.init(address=address, **quiet)
                else:
                    ray.init(address="local", num_cpus=usable_cores(), include_dashboard=False, **quiet)
        except EscortError:
            raise
        except Exception as exc:  # Ray's errors have no common base class
            where = f"at {address}" if address else "on this machine"
            raise EngineError(f"Ray {where} cannot be used: {' '.join(str(exc).split())[:300]}") from exc

    def __enter__(self) -> RayEngine:
        return self

    def __exit__(self, *exc: object) -> None:
        if self._ours:
            self.ray.shutdown()

    def count(self, resource: str) -> float:
        """How much of a resource (``CPU``, ``GPU``) the cluster has now."""
        resources: dict[str, float] = self.ray.cluster_resources()
        return float(resources.get(resource, 0.0))

    def map_in_order(
        self, work: Callable[[Item], Made], items: Sequence[Item], progress: Progress = Progress()
    ) -> Iterator[tuple[Item, Made]]:
        """Each item with ``work(item)``, in order; ``work`` is a module's function and runs on any core of the cluster.

        Raises what ``work`` raises if that is an EscortError, and EngineError if an item keeps killing
        its workers.
        """
        ray = self.ray
        task = ray.remote(num_cpus=1, max_retries=RETRIES)(_call)
        version = escort_codec.__version__
        waiting: deque[tuple[Item, Any]] = deque()
        rest = iter(items)
        done = 0
        try:
            while True:
                room = max(4, WINDOW * int(self.count("CPU")))
                for item in rest:
                    waiting.append((item, task.remote(version, work, item)))
                    if len(waiting) >= room:
                        break
                if not waiting:
                    return
                item, reference = waiting.popleft()
                made = self.result(reference)
                del reference  # frees the cluster's copy
                done += 1
                progress.advance(0, f"shard {done}/{len(items)}")
                yield item, made
        finally:
            for _, reference in waiting:
                ray.cancel(reference, force=False)

    def result(self, reference: Any) -> Any:
        """The result behind a reference. Raises the EscortError of the work, EngineError for other failures of it."""
        try:
            return self.ray.get(reference)
        except self.ray.exceptions.RayTaskError as exc:
            if isinstance(exc.cause, EscortError):
                raise exc.cause from None
            raise EngineError(f"a worker failed: {_last_line(exc)}") from exc
        except self.ray.exceptions.RayError as exc:
            raise EngineError(f"a shard killed its worker {RETRIES + 1} times: {first_line(exc)[:200]}") from exc

    def spread(
        self, make_worker: Callable[[], Any], shards: Iterable[Item], *, gpus: float, progress: Progress = Progress()
    ) -> Iterator[tuple[Item, Any]]:
        """Each shard with ``worker.make(shard)``, in any order, on one worker (an actor) for each core, or ``gpus``.

        ``make_worker`` returns a new actor, which has a method ``ready``. Raises as ``map_in_order`` does.
        """
        pool = _Pool(self, make_worker, gpus)
        rest = iter(shards)
        again: deque[Item] = deque()
        tries: dict[int, int] = {}
        done, ended = 0, False
        try:
            while True:
                if again or not ended:
                    pool.fill()
                while pool.idle and (again or not ended):
                    shard = again.popleft() if again else next(rest, None)
                    if shard is None:
                        ended = True
                    else:
                        pool.give(shard)
                if ended and not again and not pool.busy:
                    return
                for item, made, fault in pool.take():
                    if fault is None:
                        tries.pop(id(item), None)
                        done += 1
                        progress.advance(0, f"shard {done}")
                        yield item, made
                        continue
                    tries[id(item)] = tries.get(id(item), 0) + 1
                    if tries[id(item)] > RETRIES:
                        raise EngineError(f"a shard killed its worker {tries[id(item)]} times: {fault}")
                    again.append(item)
        finally:
            pool.close()


class _Pool:
    """Actors that are starting, idle or busy. Dead ones are replaced."""

    def __init__(self, engine: RayEngine, make_worker: Callable[[], Any], gpus: float) -> None:
        self._engine, self._make_worker, self._gpus = engine, make_worker, gpus
        self.idle: list[Any] = []
        self.starting: dict[Any, Any] = {}
        self.busy: dict[Any, tuple[Any, Any]] = {}
        if gpus > 0 and engine.count("GPU") < gpus:
            raise UsageError(
                f"the cluster has {engine.count('GPU'):g} GPUs", setting="gpus_per_worker", value=f"{gpus:g}"
            )

    def fill(self) -> None:
        """Starts workers until there are as many as the cluster has room for; the cluster may have grown."""
        engine = self._engine
        room = int(engine.count("GPU") / self._gpus) if self._gpus > 0 else int(engine.count("CPU"))
        for _ in range(max(1, room) - len(self.idle) - len(self.starting) - len(self.busy)):
            actor = self._make_worker()
            self.starting[actor.ready.remote()] = actor

    def give(self, shard: Any) -> None:
        """Gives a shard to an idle worker."""
        actor = self.idle.pop()
        self.busy[actor.make.remote(shard)] = (actor, shard)

    def take(self) -> list[tuple[Any, Any, str | None]]:
        """(shard, its result, or why its worker died) of what is finished, after a second at most."""
        ray = self._engine.ray
        done, _ = ray.wait([*self.starting, *self.busy], num_returns=1, timeout=1.0)
        found: list[tuple[Any, Any, str | None]] = []
        for reference in done:
            actor, shard = self.starting.pop(reference, None), None
            if actor is None:
                actor, shard = self.busy.pop(reference)
            try:
                made = ray.get(reference)
            except ray.exceptions.RayTaskError:
                self._engine.result(reference)
            except ray.exceptions.RayError as exc:
                if _init_error(exc) is not None:
                    raise _init_error(exc) from None  # type: ignore[misc]
                log.warning("a worker died: %s", first_line(exc)[:200])
                if shard is not None:
                    found.append((shard, None, first_line(exc)[:200]))
                continue
            self.idle.append(actor)
            if shard is not None:
                found.append((shard, made, None))
        return found

    def close(self) -> None:
        """Ends the workers."""
        for actor in (*self.idle, *self.starting.values(), *(actor for actor, _ in self.busy.values())):
            self._engine.ray.kill(actor)


def _check_address(address: str) -> None:
    """Raises EngineError if nothing listens at HOST:PORT: Ray itself would try for minutes."""
    host, _, port = address.rpartition(":")
    if address == "auto":
        return
    if not host or not port.isdigit():
        raise UsageError("write ray://auto or ray://HOST:PORT", setting="engine", value=f"ray://{address}")
    try:
        socket.create_connection((host.strip("[]"), int(port)), PATIENCE).close()
    except (OSError, OverflowError) as exc:
        raise EngineError(f"Ray at {address} cannot be reached: {exc}") from exc


def _call(version: str, work: Callable[[Item], Made], item: Item) -> Made:
    """Runs in a worker."""
    check_version(version)
    return work(item)


def check_version(version: str) -> None:
    """Raises EngineError in a worker that has another version than the driver: the bytes could differ."""
    if version != escort_codec.__version__:
        raise EngineError(f"a worker has escort {escort_codec.__version__}, not {version}: install the same everywhere")


def _init_error(exc: Exception) -> EscortError | None:
    """The EscortError that a worker raised when it started, or None."""
    cause = getattr(exc, "cause", None) or exc.__cause__
    return cause if isinstance(cause, EscortError) else None


def _last_line(exc: Exception) -> str:
    return next((line.strip() for line in reversed(str(exc).splitlines()) if line.strip()), type(exc).__name__)[:300]
