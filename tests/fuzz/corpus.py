"""The inputs that fuzzing begins with: the golden files and small new ones, taken apart for each target."""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Iterator
from pathlib import Path

import msgpack
import numpy as np
import zstandard

from escort_codec import Recipe, pack
from escort_codec.coding import codings
from escort_codec.latent.picture import encode_latent
from tests.container.reference_reader import chunks
from tests.fuzz import run_targets
from tests.fuzz.targets import SHAPES, TARGETS, coding, head_or_recipe, hint, index, latent, table
from tests.helpers import HINTS, draw_edges, make_exemplars

GOLDEN = Path(__file__).parents[2] / "spec" / "vectors"


def inputs() -> Iterator[bytes]:
    """Each is one input for ``targets.run``."""
    number = {target: bytes([i]) for i, target in enumerate(TARGETS)}
    files = [path.read_bytes() for path in sorted(GOLDEN.glob("*.escx"))]
    files += [pack([]), pack(make_exemplars(1)), pack(make_exemplars(5)), pack(make_exemplars(40))]
    for data in files:
        if len(data) < 8192:
            yield b"\0" + data
            yield b"\1" + data
        for _, kind, payload in chunks(data):
            if kind == "BLCK":
                (length,) = struct.unpack("<I", payload[:4])
                yield number[table] + zstandard.decompress(payload[8 : 8 + length])
            elif kind == "INDX":
                yield number[index] + zstandard.decompress(payload)
            elif kind in ("HEAD", "RECP"):
                yield number[head_or_recipe] + payload
    recipe = Recipe(steps=20, guidance=9.0, model="a/b", extra=(("version", "1"),))
    yield number[head_or_recipe] + msgpack.packb([3, recipe.to_map()])
    for i, member in enumerate(codings):
        for shape in ((1, 1), (9, 17), (40, 50)):
            assert max(shape) < SHAPES
            yield number[coding] + bytes([i, *shape]) + member.encode(draw_edges(*shape))
    yield from (number[hint] + data for data in HINTS)
    for height, width, quality in ((1, 1, 0), (9, 17, 63), (40, 30, 30), (8, 130, 50)):
        y, x = np.mgrid[0:height, 0:width]
        rgb = np.stack([5 * x, 9 * y, 3 * (x + y)], axis=2).astype(np.uint8)
        yield number[latent] + encode_latent(rgb, quality=quality)
    for place, data in run_targets.inputs():
        yield number[run_targets.TARGETS[place]] + data


def write(folder: Path) -> int:
    """Writes the inputs into ``folder``, each under its hash; returns their number."""
    folder.mkdir(parents=True, exist_ok=True)
    found = {hashlib.sha256(data).hexdigest()[:16]: data for data in inputs()}
    for name, data in found.items():
        (folder / name).write_bytes(data)
    return len(found)
