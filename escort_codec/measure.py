"""Sizes: what an ``.escx`` file spends its bytes on, in one place."""

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
class Sizes:
    """Bytes of a file by use. ``text_bytes``: what names, classes and prompts cost after compression.

    ``overhead_bytes`` is everything beside coded edge maps, hints and real images' files: text included.
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
        """All bytes beside the payloads."""
        return self.file_bytes - self.edge_bytes - self.hint_bytes - self.image_bytes

    @property
    def other_bytes(self) -> int:
        """The overhead without the text."""
        return self.overhead_bytes - self.text_bytes

    @property
    def bits_a_pixel(self) -> float:
        """Coded bits an edge map's pixel; 0 where there are no maps."""
        return 8 * self.edge_bytes / self.map_pixels if self.map_pixels else 0.0

    def to_map(self) -> dict[str, Any]:
        """For JSON, the derived figures included."""
        derived = ("overhead_bytes", "other_bytes", "bits_a_pixel")
        return asdict(self) | {name: getattr(self, name) for name in derived}


def measure(reader: Reader) -> Sizes:
    """Adds up a whole file, block by block."""
    sizes = Sizes(file_bytes=reader.size, exemplars=len(reader), classes=len(reader.labels))
    names = {coding.number: coding.name for coding in codings}
    for block in reader.blocks():
        prompt = block.kind == PROMPT
        sizes.prompts += int(prompt.sum())
        sizes.edge_bytes += int(block.bits[prompt].sum())
        sizes.image_bytes += int(block.bits[~prompt].sum())
        sizes.hint_bytes += int(block.hint.sum())
        sizes.map_pixels += int(block.map_shape[prompt].prod(axis=1).sum())
        sizes.rgb_bytes += 3 * int(block.size.prod(axis=1).sum())
        sizes.text_bytes += _text_bytes(block)
        for number, count in zip(*np.unique(block.coding[prompt], return_counts=True), strict=True):
            name = names[int(number)]
            sizes.codings[name] = sizes.codings.get(name, 0) + int(count)
    sizes.real = sizes.exemplars - sizes.prompts
    return sizes


def _text_bytes(block: Block) -> int:
    """What a block's table would save without its texts."""
    return max(0, int(block.table_bytes) - len(pack_table(block.table_without_texts(), MAX_TABLE)))
