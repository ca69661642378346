"""Checks exemplars, groups them into blocks, and produces the bytes of a file: for ``Writer`` and ``pack``."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence

import msgpack

import escort_codec
from escort_codec.coding import codings
from escort_codec.container.block import encode_block, read_rows
from escort_codec.container.index import Index
from escort_codec.container.layout import (
    BLOCK,
    HEAD,
    INDEX,
    PREAMBLE,
    RECIPE,
    TAIL_SIZE,
    ChunkHead,
    make_chunk,
    make_tail,
)
from escort_codec.errors import EscortError, LimitError
from escort_codec.exemplar import KINDS, Exemplar
from escort_codec.hint import hint_size
from escort_codec.latent.picture import latent_fault
from escort_codec.limits import (
    MAX_EXEMPLARS,
    MAX_HINT,
    MAX_INDEX,
    MAX_INDEX_SEEDS,
    MAX_LABELS,
    MAX_PAYLOAD,
    MAX_PROMPT,
    MAX_RECIPE,
    MAX_RECIPE_BYTES,
    MAX_RECIPES,
    MAX_SOURCE,
    label_fault,
    name_fault,
    recipe_fault,
    seeds_fault,
    size_fault,
    text_fault,
)
from escort_codec.recipe import HINT_CODECS, EdgeSettings, Recipe

BLOCK_EXEMPLARS = 256
BLOCK_BYTES = 1 << 19
_INDEX_RESERVE = 1 << 20  # bytes that pending exemplars may add to the index


class Assembler:
    """Passes the bytes of a file to ``write``, in file order.

    Closes a block at 256 exemplars or 512 KiB, so that the same exemplars always give the same bytes.
    """

    def __init__(self, write: Callable[[bytes], None]) -> None:
        self._write_out = write
        self._pending: list[tuple[Exemplar, int]] = []
        self._pending_bytes = 0
        self._index_bytes = 0
        self._keys: set[int] = set()
        self._seeds: set[int] = set()
        self._recipes: dict[Recipe, int] = {}
        self._recipe_bytes = 0
        self.index: Index = Index()
        self.offset: int = 0

    def begin(self, source: str, background: str = "", writer: str | None = None) -> None:
        """Writes the preamble and the head of a new file."""
        if fault := text_fault("source", source, MAX_SOURCE) or text_fault("background", background, MAX_SOURCE):
            raise LimitError(fault)
        self._write(PREAMBLE)
        head = {"source": source, "writer": writer or f"escort {escort_codec.__version__}"}
        if background:
            head["background"] = background
        self._write(make_chunk(HEAD, msgpack.packb(head)))

    def resume(self, index: Index, recipes: Iterable[Recipe], keys: Iterable[int], end: int) -> None:
        """Continues at byte ``end`` of a file with this index and these recipes; ``keys`` are hashes of keys."""
        self.index = index
        self._recipes = {recipe: number for number, recipe in enumerate(recipes)}
        self._recipe_bytes = sum(len(pack_recipe(number, recipe)) for recipe, number in self._recipes.items())
        self._keys = set(keys)
        self._seeds = set(index.seeds)
        self._index_bytes = sum(map(_label_cost, index.labels)) + 12 * len(index.recipes) + 10 * len(self._seeds)
        self._index_bytes += sum(_block_cost(index, number) for number in range(len(index.offsets)))
        self.offset = end

    def __len__(self) -> int:
        return len(self.index) + len(self._pending)

    @property
    def pending(self) -> bool:
        """Whether there are exemplars that are in no block yet."""
        return bool(self._pending)

    def add(self, exemplar: Exemplar) -> None:
        """Adds an exemplar. Raises LimitError, and adds nothing, if it is above a cap or its name is taken."""
        if fault := exemplar_fault(exemplar):
            raise LimitError(fault)
        if len(self) >= MAX_EXEMPLARS or self._index_bytes > MAX_INDEX - _INDEX_RESERVE:
            raise LimitError(f"a file cannot hold more than these {len(self)} exemplars: begin another one")
        if len(self.index.labels) + len(self._pending) >= MAX_LABELS and exemplar.label not in self.index.labels:
            raise LimitError(f"{exemplar.key}: a file cannot hold more than {MAX_LABELS} classes: begin another one")
        key = hash(exemplar.key)  # 64 bits: among a million names, two collide by chance once in 30 million files
        if exemplar.name and key in self._keys:
            raise LimitError(f"{exemplar.key}: there is already an exemplar of that name")
        seeds = set(exemplar.seeds) - self._seeds
        if len(self._seeds) + len(seeds) > MAX_INDEX_SEEDS:
            raise LimitError(f"{exemplar.key}: a file cannot hold more than {MAX_INDEX_SEEDS} different seeds")
        number = self._recipe(exemplar)
        self._keys.add(key)
        self._seeds |= seeds
        self._index_bytes += 10 * len(seeds)
        self._pending.append((exemplar, number))
        self._pending_bytes += len(exemplar.payload) + len(exemplar.hint or b"")
        if len(self._pending) >= BLOCK_EXEMPLARS or self._pending_bytes >= BLOCK_BYTES:
            self.flush()

    def flush(self) -> None:
        """Writes the pending exemplars as a block."""
        if not self._pending:
            return
        exemplars = [e for e, _ in self._pending]
        payload = encode_block(exemplars, [n for _, n in self._pending])
        head = ChunkHead(BLOCK, self.offset, len(payload))
        rows = read_rows(payload, head, None)  # as a reader does, so that no block is written that a reader refuses
        new = {e.label for e in exemplars} - self.index.labels.keys()
        self._write(make_chunk(BLOCK, payload))
        self.index.add_block(rows, head.offset, head.length)
        self._index_bytes += sum(map(_label_cost, new)) + _block_cost(self.index, -1)
        self._pending, self._pending_bytes = [], 0

    def finished_size(self) -> int:
        """Bytes of the file if it were finished now; writes pending exemplars."""
        self.flush()
        return self.offset + len(make_chunk(INDEX, self.index.pack())) + TAIL_SIZE

    def finish(self) -> None:
        """Writes pending exemplars, the index and the trailer. More may be added and finished afterwards."""
        self.flush()
        offset = self.offset
        chunk = make_chunk(INDEX, self.index.pack())
        self._write(chunk + make_tail(offset, offset + len(chunk) + TAIL_SIZE))

    def _recipe(self, exemplar: Exemplar) -> int:
        recipe = exemplar.recipe
        if recipe in self._recipes:
            return self._recipes[recipe]
        number = len(self._recipes)
        body = pack_recipe(number, recipe)
        if len(body) > MAX_RECIPE:
            raise LimitError(f"{exemplar.key}: its recipe has {len(body)} bytes: the cap is {MAX_RECIPE}")
        if number >= MAX_RECIPES or self._recipe_bytes + len(body) > MAX_RECIPE_BYTES:
            raise LimitError(f"{exemplar.key}: a file cannot hold more than these {number} recipes: begin another one")
        self.flush()
        self.index.recipes.append(self.offset)
        self.index.recipe_lengths.append(len(body))
        self._recipes[recipe] = number
        self._recipe_bytes += len(body)
        self._index_bytes += 12
        self._write(make_chunk(RECIPE, body))
        return number

    def _write(self, data: bytes) -> None:
        self._write_out(data)
        self.offset += len(data)


def pack_recipe(number: int, recipe: Recipe) -> bytes:
    """The payload of a RECP chunk. Raises LimitError if reading it would not give the same recipe."""
    try:
        values = recipe.to_map()
        if fault := recipe_fault(values):
            raise LimitError(fault)
        body: bytes = msgpack.packb([number, values])
        if Recipe.from_map(msgpack.unpackb(body)[1]) == recipe:
            return body
    except (LimitError, TypeError, ValueError, OverflowError) as exc:
        raise LimitError(f"a recipe cannot be stored: {exc}") from exc
    raise LimitError(f"a recipe cannot be stored: its fields {values} would be read back differently")


def _label_cost(label: str) -> int:
    """The most bytes that a class takes in the index."""
    return len(label.encode()) + 5


def _block_cost(index: Index, number: int) -> int:
    """The most bytes that a block takes in the index besides its class names."""
    keys = len(index.low[number].encode()) + len(index.high[number].encode())
    return 55 + keys + 5 * len(index.members[number])


def pack(exemplars: Iterable[Exemplar], *, source: str = "") -> bytes:
    """A whole ``.escx`` file of these exemplars in memory, as long as it is on disk.

    Raises LimitError as ``Writer.add`` does.
    """
    parts: list[bytes] = []
    assembler = Assembler(parts.append)
    assembler.begin(source)
    for exemplar in exemplars:
        assembler.add(exemplar)
    assembler.finish()
    return b"".join(parts)


def exemplar_fault(exemplar: Exemplar) -> str | None:
    """Why an exemplar cannot be written, or None."""
    if fault := _type_fault(exemplar):
        return f"{exemplar.label!r:.80}/{exemplar.name!r:.80}: {fault}"
    faults = [
        label_fault(exemplar.label),
        name_fault(exemplar.name),
        text_fault("prompt", exemplar.prompt, MAX_PROMPT),
        size_fault("an image", *exemplar.size),
        size_fault("an edge map", *exemplar.map_shape),
        seeds_fault(exemplar.seeds),
    ]
    hint, made = exemplar.hint, exemplar.edge_settings
    if len(exemplar.payload) + len(hint or b"") > MAX_PAYLOAD:
        faults.append(f"{len(exemplar.payload)} bytes are above the cap of {MAX_PAYLOAD} for one exemplar")
    if exemplar.kind == "prompt":
        if 0 in exemplar.map_shape and exemplar.map_shape != exemplar.size:
            faults.append("an empty edge map must be of its image's size")
        if not _known(exemplar.coding, codings.names(), 0xFFFF):
            faults.append(f"there is no coding {exemplar.coding!r}")
        faults.append("a prompt needs edge settings" if made is None else _settings_fault(made))
        faults.append(None if hint is None else _hint_fault(hint, exemplar.hint_codec))
    else:
        if made is not None or hint is not None or exemplar.coding or exemplar.map_shape != (0, 0):
            faults.append(f"a {exemplar.kind} exemplar has no edge map, no hint and no coding")
        if not exemplar.payload:
            faults.append(f"a {exemplar.kind} exemplar's payload is empty")
        elif exemplar.kind == "latent":
            faults.append(latent_fault(exemplar.payload))
    fault = next((f for f in faults if f), None)
    key = exemplar.key if exemplar.key.isprintable() else repr(exemplar.key)
    return f"{key:.300}: {fault}" if fault else None


def _type_fault(exemplar: Exemplar) -> str | None:
    """Why a field has the wrong type, or None. Else only writing the block would fail."""
    for what, value, kind in (
        ("the class name", exemplar.label, str),
        ("the name", exemplar.name, str),
        ("the prompt", exemplar.prompt, str),
        ("the payload", exemplar.payload, bytes),
        ("the coding", exemplar.coding, str),
        ("the hint", exemplar.hint or b"", bytes),
        ("the hint's codec", exemplar.hint_codec, str),
        ("the recipe", exemplar.recipe, Recipe),
    ):
        if not isinstance(value, kind):
            return f"{what} is a {type(value).__name__}, not {kind.__name__}"
    if not all(isinstance(v, tuple) and len(v) == 2 for v in (exemplar.size, exemplar.map_shape)) or not all(
        type(v) is int for v in (*exemplar.size, *exemplar.map_shape)
    ):
        return f"sizes are (height, width) in integers, not {exemplar.size!r} and {exemplar.map_shape!r}"
    if exemplar.kind not in KINDS:
        return f"its kind is {exemplar.kind!r}, not {' or '.join(KINDS)}"
    return None


def _settings_fault(made: EdgeSettings) -> str | None:
    """Why edge settings cannot be stored, or None."""
    if not all(type(v) is int for v in (made.low, made.high, made.min_contour)) or not math.isfinite(made.blur):
        return f"settings must be integers, and the blur a finite number, not {made}"
    if not all(0 <= v <= 0xFFFF for v in (made.low, made.high, round(made.blur * 100), made.min_contour)):
        return "a threshold, blur or contour length is outside 0 to 65535"
    return None


def _hint_fault(hint: bytes, codec: str) -> str | None:
    if not _known(codec, HINT_CODECS, 0xFF):
        return f"there is no hint codec {codec!r}"
    try:
        if codec == HINT_CODECS[0]:
            hint_size(hint)
    except EscortError as exc:
        return str(exc)
    if codec == HINT_CODECS[1] and (fault := latent_fault(hint)):
        return fault
    if not 0 < len(hint) <= MAX_HINT:
        return f"a hint of {len(hint)} bytes is empty or above the cap of {MAX_HINT}"
    return None


def _known(name: str, names: Sequence[str], top: int) -> bool:
    """Whether ``name`` can be written: one of ``names``, or the number of a member of a later version, to copy it."""
    return name in names or (name.isdecimal() and str(int(name)) == name and len(names) <= int(name) <= top)
