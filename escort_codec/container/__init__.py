"""The container: many exemplars in one ``.escx`` file (``spec/FORMAT.md``)."""

from __future__ import annotations

from escort_codec.container.assembler import pack
from escort_codec.container.reader import Reader
from escort_codec.container.shards import open_memory
from escort_codec.container.writer import Writer

__all__ = ["Reader", "Writer", "open_memory", "pack"]
