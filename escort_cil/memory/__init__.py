"""The memory: what it may hold, what it holds, and its file."""

from __future__ import annotations

from escort_cil.memory.budget import Budget, fill
from escort_cil.memory.contents import ClassMemory, Contents, exemplars_of, packed, read_contents

__all__ = ["Budget", "ClassMemory", "Contents", "exemplars_of", "fill", "packed", "read_contents"]
