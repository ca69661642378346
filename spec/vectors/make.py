"""Writes the golden files and what they decode to. Run once for each version of the format, never by the tests.

    python spec/vectors/make.py FOLDER

Everything is drawn here from fixed numbers; no photograph is used. A file that is there is not written again.
"""

from __future__ import annotations

import base64
import hashlib
import io
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

import escort_codec
from escort_codec import EdgeSettings, Exemplar, Recipe, Writer
from escort_codec.coding import EdgeMap, codings
from escort_codec.hint import encode_hint
from escort_codec.latent.picture import decode_latent, encode_latent, read_latents


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
    return found


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
            if e.kind != "prompt":
                row["image" if e.kind == "real" else "latents"] = base64.b64encode(e.payload).decode()
            else:
                row["coding"] = codings.get(e.coding).number
                row["map_size"] = list(e.map_shape)
                row["edges"] = ["".join(".#"[int(v)] for v in line) for line in e.edges]
                row["made"] = e.edge_settings.to_map() if e.edge_settings else None
                row["hint"] = base64.b64encode(e.hint).decode() if e.hint else None
                if e.hint_codec != "vp8":
                    row["hint_codec"] = e.hint_codec
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


if __name__ == "__main__":
    main()
