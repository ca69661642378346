"""The memory: what it may hold, what it holds, its file; and adapters for other training loops."""

from __future__ import annotations

from escort_cil.memory.adapters import MemoryDataset, pycil_memory, unpack
from escort_cil.memory.budget import Budget, fill
from escort_cil.memory.contents import ClassMemory, Contents, exemplars_of, packed, read_contents

__all__ = [
    "Budget",
    "ClassMemory",
    "Contents",
    "MemoryDataset",
    "exemplars_of",
    "fill",
    "packed",
    "pycil_memory",
    "read_contents",
    "unpack",
]
