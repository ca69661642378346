"""What an ``.escx`` file spends its bytes on."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from escort_codec.coding import codings
from escort_codec.container.block import PROMPT, Block
from escort_codec.container.reader import Reader
from escort_codec.container.table import pack_table
from escort_codec.limits import MAX_TABLE


@dataclass(slots=True)
class FileSizes:
    """Bytes of a file by use. ``text_bytes`` is what names, classes and prompts cost after compression.

    ``rgb_bytes``: the source images at 24 bits per pixel.
    """

    file_bytes: int = 0
    exemplars: int = 0
    prompts: int = 0
    real: int = 0
    classes: int = 0
    edge_bytes: int = 0
    hint_bytes: int = 0
    image_bytes: int = 0
    text_bytes: int = 0
    map_pixels: int = 0
    rgb_bytes: int = 0
    codings: dict[str, int] = field(default_factory=dict)

    @property
    def overhead_bytes(self) -> int:
        """All bytes besides coded edge maps, hints and image files; includes the text."""
        return self.file_bytes - self.edge_bytes - self.hint_bytes - self.image_bytes

    @property
    def other_bytes(self) -> int:
        """The overhead without the text."""
        return self.overhead_bytes - self.text_bytes

    @property
    def bits_per_pixel(self) -> float:
        """Coded bits per pixel of the edge maps; 0 without edge maps."""
        return 8 * self.edge_bytes / self.map_pixels if self.map_pixels else 0.0

    @property
    def bytes_per_exemplar(self) -> float:
        """Bytes of the file per exemplar; 0 without exemplars."""
        return self.file_bytes / self.exemplars if self.exemplars else 0.0

    @property
    def overhead_bytes_per_exemplar(self) -> float:
        """Overhead per exemplar in bytes; 0 without exemplars."""
        return self.overhead_bytes / self.exemplars if self.exemplars else 0.0

    def to_map(self) -> dict[str, Any]:
        """As a JSON object, including the derived values."""
        derived = "overhead_bytes other_bytes bits_per_pixel bytes_per_exemplar overhead_bytes_per_exemplar"
        return asdict(self) | {name: getattr(self, name) for name in derived.split()}


def measure(reader: Reader) -> FileSizes:
    """Adds up the bytes of a file, block by block."""
    sizes = FileSizes(file_bytes=reader.size, exemplars=len(reader), classes=len(reader.labels))
    names = {coding.number: coding.name for coding in codings}
    for block in reader.blocks():
        prompt = block.kind == PROMPT
        sizes.prompts += int(prompt.sum())
        sizes.edge_bytes += int(block.payload_lengths[prompt].sum())
        sizes.image_bytes += int(block.payload_lengths[~prompt].sum())
        sizes.hint_bytes += int(block.hint_lengths.sum())
        sizes.map_pixels += int(block.map_shape[prompt].prod(axis=1).sum())
        sizes.rgb_bytes += 3 * int(block.size.prod(axis=1).sum())
        sizes.text_bytes += _text_bytes(block)
        for number, count in zip(*np.unique(block.coding[prompt], return_counts=True), strict=True):
            name = names[int(number)]
            sizes.codings[name] = sizes.codings.get(name, 0) + int(count)
    sizes.real = sizes.exemplars - sizes.prompts
    return sizes


def _text_bytes(block: Block) -> int:
    """What the table of the block would save without its texts."""
    return max(0, int(block.table_bytes) - len(pack_table(block.table_without_texts(), MAX_TABLE)))
