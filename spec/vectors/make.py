"""Writes the golden files and what they decode to. Run once for each version of the format, never by the tests.

    PYTHONPATH=. python spec/vectors/make.py FOLDER

Everything is drawn here from fixed numbers; no photograph is used. A file that is there is not written again. The files
that must be refused, FOLDER/refuse, come from the list in `tests/container/cases.py`.
"""

from __future__ import annotations

import base64
import hashlib
import io
import json
import struct
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgpack
import numpy as np
import zstandard
from PIL import Image

import escort_codec
from escort_codec import EdgeSettings, Exemplar, Recipe, Writer
from escort_codec.coding import EdgeMap, codings
from escort_codec.container.block import number_of_coding, number_of_hint_codec
from escort_codec.hint import encode_hint
from escort_codec.latent.picture import decode_latent, encode_latent, read_latents
from tests.container import cases
from tests.container.reference_reader import chunks


def rings(height: int, width: int) -> EdgeMap:
    """Closed curves one pixel wide, as Canny draws them."""
    y, x = np.mgrid[0:height, 0:width].astype(np.float64)
    distance = np.hypot(y - height * 0.45, (x - width * 0.55) * 0.8) + 2 * np.sin(x / 5)
    levels = (distance // 9).astype(np.int64)
    edges = np.zeros((height, width), np.bool_)
    edges[:, 1:] |= levels[:, 1:] != levels[:, :-1]
    edges[1:, :] |= levels[1:, :] > levels[:-1, :]
    return edges


def noise(height: int, width: int, share: float, seed: int) -> EdgeMap:
    """Pixels that are edges with a probability of ``share``."""
    return np.random.Generator(np.random.PCG64(seed)).random((height, width)) < share


def maps() -> dict[str, EdgeMap]:
    """Edge maps that try a coding: usual, tiny, empty, all of one kind, odd sizes, noise."""
    shapes = [(0, 0), (0, 5), (7, 0), (1, 1), (1, 2), (2, 1), (3, 3), (5, 13), (8, 8), (17, 9), (1, 100), (100, 1)]
    found = {f"white-{h}x{w}": np.zeros((h, w), np.bool_) for h, w in shapes}
    found |= {f"black-{h}x{w}": np.ones((h, w), np.bool_) for h, w in shapes if h * w}
    found |= {f"rings-{h}x{w}": rings(h, w) for h, w in ((32, 32), (64, 64), (61, 83), (120, 97))}
    found |= {f"noise-{n}": noise(23, 31, share, n) for n, share in enumerate((0.02, 0.1, 0.5, 0.98))}
    found["corner"] = np.pad(np.ones((1, 1), np.bool_), ((40, 0), (50, 0)))
    return found


def picture(height: int, width: int, seed: int) -> Image.Image:
    """A smooth picture in colours."""
    rng = np.random.Generator(np.random.PCG64(seed))
    small = rng.integers(0, 256, (4, 5, 3), dtype=np.uint8)
    return Image.fromarray(small).resize((width, height), Image.Resampling.BICUBIC)


def file_of(image: Image.Image, kind: str) -> bytes:
    """An image's file."""
    file = io.BytesIO()
    image.save(file, kind)
    return file.getvalue()


def exact(edges: EdgeMap, coding: str, **fields: Any) -> Exemplar:
    """A prompt that keeps to ``coding`` even where another is smaller: the vectors cover every map in every coding."""
    return Exemplar(
        kind="prompt",
        size=(edges.shape[0], edges.shape[1]),
        prompt=fields.pop("prompt", fields["label"]),
        seeds=fields.pop("seeds", ()),
        payload=codings.get(coding).encode(edges),
        coding=coding,
        map_shape=(edges.shape[0], edges.shape[1]),
        edge_settings=fields.pop("edge_settings", EdgeSettings()),
        **fields,
    )


def real(label: str, name: str, kind: str, seed: int) -> Exemplar:
    """A real exemplar with a drawn image."""
    image = picture(20 + seed, 30, seed)
    return Exemplar.from_image(
        file_of(image, kind), label=label, name=name, size=(image.height, image.width), seeds=(seed,)
    )


def prompts() -> list[Exemplar]:
    """Hints, captions, seeds, settings, map sizes and names of many kinds."""
    first = Exemplar.from_edges(
        rings(40, 56), label="café", name="été/größe.jpg", prompt="a caption, with ünïcode 🐈", seeds=(0, 1, 2, 10)
    )
    second = Exemplar.from_edges(
        rings(64, 128),
        label="n02123045 tabby, tabby cat",
        name="b.png",
        size=(480, 960),
        prompt="",
        seeds=(4_294_967_295,),
        hint=encode_hint(np.asarray(picture(48, 96, 2)), 32),
        edge_settings=EdgeSettings(low=50, high=150, blur=1.5, min_contour=16),
    )
    third = Exemplar.from_edges(
        noise(9, 9, 0.5, 3), label="café", name="c.jpg", hint=encode_hint(np.asarray(picture(9, 9, 3)), 8), seeds=()
    )
    nameless = [Exemplar.from_edges(rings(10 + n, 12), label="no name", seeds=(0, 1)) for n in range(3)]
    return [first, second, third, *nameless]


def photograph(height: int, width: int, seed: int) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """Colours with an edge and some grain."""
    rng = np.random.Generator(np.random.PCG64(seed))
    pixels = np.array(picture(width=width, height=height, seed=seed)).astype(np.int64)
    pixels[height // 3 :, width // 2 :] = 255 - pixels[height // 3 :, width // 2 :]
    return np.clip(pixels + rng.integers(-9, 10, pixels.shape), 0, 255).astype(np.uint8)


def learned() -> list[Exemplar]:
    """Learned pictures of many sizes and qualities, and prompts with a latent hint."""
    found = []
    for number, (height, width, quality) in enumerate(
        ((64, 64, 32), (64, 48, 0), (61, 83, 63), (1, 1, 20), (1, 300, 40), (130, 7, 50), (8, 8, 63))
    ):
        data = encode_latent(photograph(height, width, number), quality=quality)
        found.append(
            Exemplar.from_latents(data, label="cat", name=f"{number}.png", size=(height, width), seeds=(number,))
        )
    hint = encode_latent(photograph(40, 56, 9), 32, quality=32)
    return [*found, Exemplar.from_edges(rings(40, 56), label="dog", name="h.png", hint=hint, hint_codec="latent")]


def latents_json() -> str:
    """The integers of each learned picture, and some pixels of it, which may differ by rounding."""
    rows = []
    for e in learned():
        data = e.hint if e.hint is not None else e.payload
        found, shown = read_latents(data), decode_latent(data).reshape(-1, 3)
        every = max(1, len(shown) // 16)
        rows.append(
            {
                "name": e.name,
                "bytes": data.hex(),
                "quality": found.head.quality,
                "size": list(found.head.size),
                "latents": hashlib.sha256(found.values.astype("<i2").tobytes()).hexdigest(),
                "first_position": found.values[0, 0].tolist(),
                "every": every,
                "some_pixels": shown[::every].tolist(),
            }
        )
    return json.dumps(rows) + "\n"


def files() -> dict[str, list[list[Exemplar]]]:
    """Exemplars by file; each inner list is one commit."""
    dot = np.zeros((3, 5), np.bool_)
    dot[1, 1:4] = True
    tiny = [
        exact(dot, "packed", label="cat", name="a.png", seeds=(0, 1, 2)),
        Exemplar.from_image(file_of(Image.new("L", (2, 1), 7), "GIF"), label="dog", name="b.gif", size=(1, 2)),
    ]
    found: dict[str, list[list[Exemplar]]] = {"tiny": [tiny]}
    for coding in codings:
        found[f"coding-{coding.name}"] = [[exact(m, coding.name, label=coding.name, name=n) for n, m in maps().items()]]
    found["real"] = [[real("cat", f"{n}.{k.lower()}", k, n) for n, k in enumerate(("JPEG", "PNG", "WEBP", "BMP"))]]
    found["prompts"] = [prompts()]
    other = Recipe(preset="lowres", steps=25, guidance=7.5, model="some/model", extra=(("torch", "2.0"),))
    mixed = [*prompts()[:3], real("dog", "d.png", "PNG", 4)]
    found["appended"] = [
        mixed,
        [
            Exemplar.from_edges(rings(33, 35), label="later", name="e.jpg", recipe=other),
            real("café", "f.jpg", "JPEG", 5),
        ],
    ]
    found["latent/pictures"] = [learned()]
    found["empty"] = [[]]
    found["wide"] = [wide()]
    found["unknown"] = [unknown()]
    return found


def wide() -> list[Exemplar]:
    """Columns of two and four bytes, and keys whose order by code point is not that of UTF-16."""
    large = Image.new("RGB", (300, 80), (7, 90, 200))
    return [
        Exemplar.from_image(file_of(large, "BMP"), label="wide", name="\U0001f408.bmp", size=(80, 300)),
        Exemplar.from_edges(rings(20, 20), label="\uff5e", name="b.png", size=(400, 65_000)),
        Exemplar.from_edges(rings(20, 20), label="\U0001f415", name="a.png", seeds=(0, 70_000, 4_294_967_295)),
    ]


def unknown() -> list[Exemplar]:
    """A coding, a hint codec and models that no version has, between exemplars that every reader reads."""
    usual = Exemplar.from_edges(rings(16, 16), label="usual", name="a.png", hint=encode_hint(picture(16, 16, 8), 8))
    odd = replace(usual, label="odd", prompt="odd")
    return [
        usual,
        replace(odd, name="coding.png", coding="65000", payload=b"no version has it"),
        replace(odd, name="codec.png", hint=b"nor this", hint_codec="200"),
        replace(odd, name="model.png", hint=b"\0 nor this", hint_codec="latent"),
        Exemplar.from_latents(b"\0 nor this", label="odd", name="latents.png", size=(20, 30), seeds=(1, 2)),
        real("usual", "b.png", "PNG", 6),
    ]


def later(data: bytes) -> bytes:
    """A file as a later minor version may write it: what a reader skips is added everywhere."""
    compress = zstandard.ZstdCompressor(level=19).compress
    unpack = zstandard.ZstdDecompressor().decompress
    nested: Any = {"a": [1.5, None, {7: b"bytes"}]}
    for _ in range(32 - 3):
        nested = [nested]
    added = [nested, msgpack.ExtType(5, b"later"), "text", (1 << 64) - 1]
    out = cases.SIGNATURE + struct.pack("<HH", 1, 1)
    places: dict[int, int] = {}
    lengths: dict[int, tuple[int, int, int]] = {}
    for at, kind, payload in chunks(data):
        if kind == "HEAD":
            payload = msgpack.packb(msgpack.unpackb(payload) | {"later": [1, {"x": None}]})
        elif kind == "RECP":
            number, values = msgpack.unpackb(payload)
            payload = msgpack.packb([number, values | {"later": {"x": 1.5}}])
        elif kind == "BLCK":
            table, hints = struct.unpack("<II", payload[:8])
            rows = [*msgpack.unpackb(unpack(payload[8 : 8 + table])), *added]
            packed, end = compress(msgpack.packb(rows)), 12 + table + hints
            payload = cases.block(packed, payload[12 + table : end], payload[end + 4 :])
            lengths[at] = len(payload), len(packed), hints
        elif kind == "INDX":
            index = msgpack.unpackb(unpack(payload))
            index[1:3] = [places[p] for p in index[1]], [recipe_length(out, places[p]) for p in index[1]]
            index[4:7] = ([lengths[p][i] for p in index[3]] for i in range(3))
            index[3] = [places[p] for p in index[3]]
            payload, index_at = compress(msgpack.packb([*index, *added])), len(out)
        if kind == "TAIL":
            return out + cases.tail(index_at, len(out) + 28)
        places[at] = len(out)
        out += cases.chunk(kind.encode(), payload)
        if kind != "INDX":
            out += cases.chunk(b"abcD", b"a later version says more here")
    raise ValueError("no trailer")


def recipe_length(data: bytes, at: int) -> int:
    """The length of the payload of the chunk at ``at``."""
    return int.from_bytes(data[at + 4 : at + 8], "little")


def to_json(path: Path) -> str:
    """What a file decodes to."""
    with escort_codec.open(path) as reader:
        exemplars = []
        for e in reader:
            row: dict[str, Any] = {
                "kind": e.kind,
                "class": e.label,
                "name": e.name,
                "size": list(e.size),
                "prompt": e.prompt,
                "seeds": list(e.seeds),
                "recipe": e.recipe.to_map(),
            }
            payload = base64.b64encode(e.payload).decode()
            if e.kind != "prompt":
                row["image" if e.kind == "real" else "latents"] = payload
            else:
                row["coding"] = number_of_coding(e.coding)
                row["map_size"] = list(e.map_shape)
                known = e.coding in codings
                row["edges"] = ["".join(".#"[int(v)] for v in line) for line in e.edges] if known else None
                row |= {} if known else {"bits": payload}
                row["made"] = e.edge_settings.to_map() if e.edge_settings else None
                row["hint"] = base64.b64encode(e.hint).decode() if e.hint else None
                row |= {"hint_codec": number_of_hint_codec(e.hint_codec)} if e.hint else {}
            exemplars.append(row)
        return json.dumps({"source": reader.source, "exemplars": exemplars}, ensure_ascii=False, indent=1) + "\n"


def main() -> None:
    """Writes what is missing."""
    folder = Path(sys.argv[1])
    latents = folder / "latent" / "latents.json"
    latents.parent.mkdir(parents=True, exist_ok=True)
    if not latents.exists():
        latents.write_text(latents_json(), "utf-8")
    for name, commits in files().items():
        path = folder / f"{name}.escx"
        if path.exists():
            print(f"{path}: is there, left as it is")
            continue
        for number, exemplars in enumerate(commits):
            with Writer(path, source="./data", append=number > 0) as writer:
                for exemplar in exemplars:
                    writer.add(exemplar)
        path.with_suffix(".json").write_text(to_json(path), "utf-8")
        print(f"{path}: {path.stat().st_size} bytes")
    path = folder / "later.escx"
    if not path.exists():
        path.write_bytes(later((folder / "prompts.escx").read_bytes()))
        path.with_suffix(".json").write_text(to_json(path), "utf-8")
    write_refused(folder / "refuse")


def write_refused(folder: Path) -> None:
    """The small files that must be refused, and the rule of each."""
    folder.mkdir(exist_ok=True)
    rules = {}
    for case in cases.CASES:
        if case.rule and len(case.data) < 4096:
            path = folder / f"{case.rule}-{case.name}.escx"
            rules[path.name] = {"rule": case.rule, "level": case.level, "what": case.what}
            if not path.exists():
                path.write_bytes(case.data)
    (folder / "rules.json").write_text(json.dumps(rules, indent=1) + "\n", "utf-8")


if __name__ == "__main__":
    main()
