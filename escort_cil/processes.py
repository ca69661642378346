"""Where training runs: one CPU or GPU or several, through accelerate; precision, and what the processes share."""

from __future__ import annotations

import importlib.util
import json
import os
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from escort_cil.networks.across import normalise_across
from escort_codec.errors import ConfigError

TRACKERS = ("tensorboard", "wandb")

T = TypeVar("T")


class Devices:
    """One process's device and its place among the others.

    ``device``: "auto" (a GPU where there is one), "cpu", "cuda" or "cuda:N". ``precision``: "no", "bf16" or "fp16".
    Several processes are started by ``accelerate launch`` or ``torchrun``; each then sees the same batches and
    takes its own part of them. Raises ConfigError for a device that is not there.
    """

    def __init__(
        self, device: str = "auto", precision: str = "no", *, track: tuple[str, ...] = (), folder: Path | None = None
    ) -> None:
        from accelerate import Accelerator
        from accelerate.state import AcceleratorState, GradientState, PartialState

        self._tracks = _checked(track)
        self._folder = folder
        self._auto = device == "auto"
        cuda = torch.cuda.is_available()
        if device not in ("auto", "cpu") and not (device.startswith("cuda") and cuda):
            raise ConfigError(f"--device {device}: " + ("no GPU is there" if not cuda else "write auto, cpu or cuda:N"))
        if precision == "fp16" and (device == "cpu" or not cuda):
            raise ConfigError("--mixed-precision fp16 needs a GPU: take bf16 or no")
        if not torch.distributed.is_initialized():
            # accelerate keeps the first run's choices for the whole process.
            AcceleratorState._reset_state(reset_partial_state=True)
            GradientState._reset_state()
        PartialState(cpu=device == "cpu" or not cuda)
        try:
            self.accelerator = Accelerator(
                mixed_precision=precision,
                cpu=device == "cpu" or not cuda,
                log_with=list(track) or None,
                project_dir=folder,
            )
        except ValueError as exc:
            raise ConfigError(f"--mixed-precision {precision}, --track {','.join(track) or 'none'}: {exc}") from exc
        self.rank = self.accelerator.process_index
        self.world = self.accelerator.num_processes
        self.is_main = self.accelerator.is_main_process
        self.here = int(os.environ.get("LOCAL_WORLD_SIZE", self.world))  # processes on this machine
        one_gpu = self.world == 1 and device.startswith("cuda:")
        try:
            self.device = torch.device(device) if one_gpu else self.accelerator.device
            torch.empty(1, device=self.device)
        except RuntimeError as exc:
            raise ConfigError(f"--device {device}: there is no such GPU") from exc

    def __str__(self) -> str:
        each = torch.cuda.get_device_name(self.device) if self.device.type == "cuda" else str(self.device)
        return each if self.world == 1 else f"{self.world} x {each}"

    @property
    def chosen(self) -> str | None:
        """The device, where the user chose one; None for "auto"."""
        return None if self._auto else str(self.device)

    def place(self, network: nn.Module) -> nn.Module:
        """The network on the device, its convolutions' weights in the order that is fastest there.

        With several processes its batch normalisation is over all of them.
        """
        if self.world > 1:
            normalise_across(network)
        placed: nn.Module = network.to(self.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        return placed

    def shared(self, network: nn.Module) -> nn.Module:
        """The network with its gradients averaged over all processes; itself where there is one process."""
        if self.world == 1:
            return network
        devices = [self.device] if self.device.type == "cuda" else None
        return DistributedDataParallel(network, device_ids=devices)

    def optimizer(self, optimizer: torch.optim.Optimizer) -> Any:
        """The optimizer with accelerate's gradient scaling (fp16)."""
        return self.accelerator.prepare_optimizer(optimizer)

    def backward(self, loss: Tensor) -> None:
        """Gradients of a loss, scaled in fp16."""
        self.accelerator.backward(loss)

    def autocast(self) -> AbstractContextManager[None]:
        """Mixed precision inside."""
        context: AbstractContextManager[None] = self.accelerator.autocast()
        return context

    def unsynced(self, network: nn.Module, last: bool) -> AbstractContextManager[None]:
        """Gradients are averaged over processes only after the ``last`` part of a batch."""
        if last or not isinstance(network, DistributedDataParallel):
            return nullcontext()
        context: AbstractContextManager[None] = network.no_sync()
        return context

    def part(self, count: int) -> slice:
        """This process's part of ``count`` things."""
        return slice(count * self.rank // self.world, count * (self.rank + 1) // self.world)

    def joined(self, mine: Tensor) -> Tensor:
        """All processes' rows, rank by rank, on every process: the inverse of ``part``."""
        if self.world == 1:
            return mine
        parts: list[Any] = [None] * self.world
        torch.distributed.all_gather_object(parts, mine.cpu())
        return torch.cat(parts)

    def total(self, values: Tensor) -> list[float]:
        """Numbers summed over all processes."""
        if self.world > 1:
            torch.distributed.all_reduce(values)
        return [float(value) for value in values.tolist()]

    def from_main(self, value: T) -> T:
        """The main process's value, on every process."""
        if self.world == 1:
            return value
        box = [value]
        torch.distributed.broadcast_object_list(box, src=0, device=self._wire)
        return box[0]

    @contextmanager
    def main_first(self) -> Iterator[None]:
        """The main process goes through alone, the others after it."""
        with self.accelerator.main_process_first():
            yield

    def wait(self) -> None:
        """Until all processes are here."""
        self.accelerator.wait_for_everyone()

    def begin_tracking(self, config: Mapping[str, Any]) -> None:
        """Tells the trackers what is run."""
        if self._tracks:
            plain = {k: v if isinstance(v, bool | int | float | str) else json.dumps(v) for k, v in config.items()}
            named = {} if self._folder is None else {"dir": str(self._folder), "name": self._folder.name}
            self.accelerator.init_trackers("escort", config=plain, init_kwargs={"wandb": named})

    def track(self, values: Mapping[str, float], step: int) -> None:
        """Gives the trackers figures of a step."""
        if self._tracks:
            self.accelerator.log(dict(values), step=step)

    def end_tracking(self) -> None:
        """Lets the trackers write what they hold."""
        if self._tracks:
            self.accelerator.end_training()

    @property
    def _wire(self) -> torch.device:
        return self.device if self.device.type == "cuda" else torch.device("cpu")


def _checked(track: tuple[str, ...]) -> bool:
    """Whether figures are tracked; raises ConfigError for a tracker that is not there."""
    for name in track:
        if name not in TRACKERS:
            raise ConfigError(f"--track {name}: write {' or '.join(TRACKERS)}")
        if importlib.util.find_spec(name) is None:
            raise ConfigError(f"--track {name}: {name} is not installed: pip install {name}")
    return bool(track)
