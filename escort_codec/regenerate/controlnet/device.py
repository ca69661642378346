"""Where images are made, and in which precision unless another is asked for."""

from __future__ import annotations

import torch

from escort_codec.errors import UsageError


def resolve_device(name: str | None, local_rank: int = 0) -> torch.device:
    """``cpu``, ``cuda``, ``cuda:1``, ``mps`` ...; None or ``auto`` is the best there is, ``cuda`` without a number
    the process's own. Raises UsageError for a device that is not here."""
    if name in (None, "auto"):
        name = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    try:
        device = torch.device(name)
    except RuntimeError as exc:
        raise UsageError(f"there is no device {name!r}: `device` is auto, cpu, cuda, cuda:1 or mps") from exc
    if device.type == "cuda":
        count = torch.cuda.device_count()
        if device.index is None and count:
            device = torch.device("cuda", local_rank % count)
        if not torch.cuda.is_available() or device.index is None or device.index >= count:
            raise UsageError(f"there is no device {name!r} here: PyTorch sees {count} CUDA devices")
    elif device.type == "mps" and not torch.backends.mps.is_available():
        raise UsageError("there is no device 'mps' here")
    return device


def default_dtype(device: torch.device) -> str:
    """What the dtype "auto" is: bf16 on a GPU that has it, fp16 on an older one, fp32 elsewhere."""
    if device.type == "cuda":
        return "bf16" if torch.cuda.get_device_capability(device) >= (8, 0) else "fp16"
    return "fp32"
