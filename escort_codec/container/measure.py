"""The bytes of an ``.escx`` file by use."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any, Final

import msgpack
import numpy as np

from escort_codec.container.block import read_front
from escort_codec.container.reader import Reader
from escort_codec.container.rows import COLUMNS, LATENT, PROMPT, REAL, Rows, name_of_coding
from escort_codec.container.table import pack_table, product
from escort_codec.limits import MAX_TABLE
from escort_codec.recipe import EdgeSettings

_TEXT_COLUMNS: Final = (1, 3, 5)
_SAMPLE: Final = 16  # blocks whose tables are compressed again without texts, about ten milliseconds each


@dataclass(slots=True)
class FileSizes:
    """Bytes of a file by use. ``rgb_bytes``: the source images at 24 bits per pixel; ``map_sides``: the shorter side of
    the smallest and of the largest edge map, in pixels.

    ``text_bytes`` is what names, classes and prompts cost after compression: measured for up to 16 blocks, spread over
    the file, and from them estimated for larger files.
    """

    file_bytes: int = 0
    exemplars: int = 0
    prompts: int = 0
    real: int = 0
    latents: int = 0
    classes: int = 0
    edge_bytes: int = 0
    hint_bytes: int = 0
    image_bytes: int = 0
    latent_bytes: int = 0
    text_bytes: int = 0
    map_pixels: int = 0
    map_sides: tuple[int, int] = (0, 0)
    rgb_bytes: int = 0
    codings: dict[str, int] = field(default_factory=dict)
    settings: set[EdgeSettings] = field(default_factory=set)

    @property
    def overhead_bytes(self) -> int:
        """All bytes besides coded edge maps, hints, image files and latents; includes the text."""
        return self.file_bytes - self.edge_bytes - self.hint_bytes - self.image_bytes - self.latent_bytes

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
        """As a JSON object, including the derived values, without the settings."""
        derived = "overhead_bytes other_bytes bits_per_pixel bytes_per_exemplar overhead_bytes_per_exemplar"
        values = {name: value for name, value in asdict(self).items() if name != "settings"}
        return values | {name: getattr(self, name) for name in derived.split()}


def measure_file(reader: Reader) -> FileSizes:
    """Adds up the bytes of a file from the tables of its blocks: no payload is read."""
    sizes = FileSizes(file_bytes=reader.size, exemplars=len(reader), classes=len(reader.labels))
    blocks = len(reader.state.index.offsets)
    measured = {number * blocks // _SAMPLE for number in range(_SAMPLE)}
    table_bytes = sample_bytes = sample_text = 0
    for number, rows in enumerate(reader.tables()):
        (prompts, edges), (real, images), (latents, latent) = (_of_kind(rows, kind) for kind in (PROMPT, REAL, LATENT))
        sizes.prompts, sizes.edge_bytes = sizes.prompts + prompts, sizes.edge_bytes + edges
        sizes.real, sizes.image_bytes = sizes.real + real, sizes.image_bytes + images
        sizes.latents, sizes.latent_bytes = sizes.latents + latents, sizes.latent_bytes + latent
        sizes.hint_bytes += rows.hint_bytes
        sizes.map_pixels += _map_pixels(rows)
        if prompts:
            low, high = _map_sides(rows)
            sizes.map_sides = min(low, sizes.map_sides[0] or low), max(high, sizes.map_sides[1])
        sizes.rgb_bytes += 3 * _total(product(rows.height, rows.width), rows.count)
        for name, count in _coding_counts(rows, prompts).items():
            sizes.codings[name] = sizes.codings.get(name, 0) + count
        sizes.settings.update(rows.settings)
        table_bytes += rows.table_bytes
        if number in measured:
            sample_bytes += rows.table_bytes
            sample_text += max(0, rows.table_bytes - len(pack_table(table_without_texts(reader, number), MAX_TABLE)))
    sizes.text_bytes = round(sample_text * table_bytes / sample_bytes) if sample_bytes else 0
    return sizes


def table_without_texts(reader: Reader, number: int) -> list[Any]:
    """The values in the table of block ``number`` without its classes, names and prompts."""
    raw, _, _ = read_front(*reader.front(number))
    unpacker = msgpack.Unpacker(None, raw=False, max_buffer_size=len(raw))
    unpacker.feed(raw)
    unpacker.read_array_header()
    return [unpacker.skip() or [] if i in _TEXT_COLUMNS else unpacker.unpack() for i in range(COLUMNS)]


def _of_kind(rows: Rows, kind: int) -> tuple[int, int]:
    """(how many rows are of a kind, the bytes of their payloads)."""
    same = np.equal(rows.kind, kind)
    return _total(same, rows.count), _total(np.where(same, rows.payload_length, 0), rows.count)


def _map_pixels(rows: Rows) -> int:
    """Pixels of the edge maps of all prompts."""
    whole = np.equal(rows.map_height, 0) & np.equal(rows.map_width, 0)
    image, own = product(rows.height, rows.width), product(rows.map_height, rows.map_width)
    return _total(np.where(np.equal(rows.kind, PROMPT), np.where(whole, image, own), 0), rows.count)


def _map_sides(rows: Rows) -> tuple[int, int]:
    """The least and the greatest shorter side of the prompts' edge maps."""
    own, image = np.minimum(rows.map_height, rows.map_width), np.minimum(rows.height, rows.width)
    sides = np.broadcast_to(np.where(np.equal(own, 0), image, own), rows.count)
    sides = sides[np.broadcast_to(np.equal(rows.kind, PROMPT), rows.count)]
    return int(sides.min()), int(sides.max())


def _coding_counts(rows: Rows, prompts: int) -> dict[str, int]:
    """How many prompts are under each coding."""
    if isinstance(rows.coding, int):
        return {name_of_coding(rows.coding): prompts} if prompts else {}
    numbers = rows.coding[np.broadcast_to(np.equal(rows.kind, PROMPT), rows.count)]
    found = zip(*np.unique(numbers, return_counts=True), strict=True)
    return {name_of_coding(int(number)): int(count) for number, count in found}


def _total(values: Any, rows: int) -> int:
    """The sum over the rows of an array, or of a number that all rows have."""
    return int(np.sum(values, dtype=np.int64)) if np.ndim(values) else int(values) * rows
