"""Makes the pictures of the README and of these pages: ``python docs/make_pictures.py`` writes them to docs/pictures/.

``overview.webp`` is a contact sheet: what is kept of an image and what is shown of it, with its bytes. Its rows are
pictures that ``escort demo`` draws, and photographs that anybody may show, from scikit-image (``skimage.data``):

- astronaut: Eileen Collins, by NASA; in the public domain
- chelsea: a cat, by Stefan van der Walt; CC0
- coffee: a cup, by Rachel Michetti, courtesy of Pikolo Espresso Bar; CC0

``latent-400.webp`` and so on are that cup as each kind keeps it at some rates, for a table.

The same versions of the packages on the same machine give the same bytes.
"""

from __future__ import annotations

import argparse
import io
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Final

import numpy as np
import skimage.data
from numpy.typing import NDArray
from PIL import Image

from escort_cil.demo.comparison import prompt_bytes
from escort_cil.demo.drawings import draw_picture
from escort_cil.demo.sheet import SheetCell, SheetRow, SheetStyle, contact_sheet
from escort_codec.encode.images import encode_image
from escort_codec.exemplar import Exemplar
from escort_codec.recipe import EncodeOptions
from escort_codec.regenerate import Regenerator, make_regenerator
from escort_codec.source import SourceImage

NAME: Final = "overview.webp"
MOST_BYTES: Final = 140_000
"""The size of all pictures together that the pages can bear."""
CREDIT: Final = (
    "Photographs from scikit-image: astronaut (NASA, public domain), chelsea (Stefan van der Walt, CC0), "
    "coffee (Rachel Michetti, CC0)."
)
"""The line for a caption."""
PHOTOGRAPHS: Final = ("astronaut", "chelsea", "coffee")
DRAWN: Final = (("butterfly", 6), ("sailboat", 3))
"""Classes and numbers of drawn pictures."""
DRAWN_SIDE: Final = 256
JPEG_QUALITY: Final = 90
RATES: Final = (400, 150)
TITLES: Final = (
    ("original", f"JPEG, quality {JPEG_QUALITY}"),
    ("edge map", "as in the paper"),
    ("sketch", f"at most {RATES[0]} bytes"),
    ("its image", "by harmonic"),
    *(("learned picture", f"at most {rate} bytes") for rate in RATES),
)
KINDS: Final = ("latent", "webp", "prompt")
TABLE_RATES: Final = (200, 400, 800)
TABLE_PHOTOGRAPH: Final = "coffee"
TABLE_SIDE: Final = 112
GREY: Final = (120, 120, 120)
"""Letters that can be read on GitHub's white page and on its dark one (contrast 4.4 and 4.3)."""
STYLE: Final = SheetStyle(cell=210, text=24, paper=(*GREY, 0), ink=(*GREY, 255), faint=(*GREY, 255))
QUALITY: Final = 55


def main() -> None:
    """Writes the pictures and prints their sizes."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "pictures", help="a folder")
    folder = parser.parse_args().out
    for path in (write_overview(folder), *write_small(folder)):
        print(f"{path}: {path.stat().st_size:,} bytes")
    print(CREDIT)


def write_overview(folder: Path) -> Path:
    """Writes the contact sheet into ``folder`` and returns its path."""
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as work, make_regenerator("harmonic") as regenerator:
        rows = [SheetRow(image.label, _cells(image, regenerator)) for image in _originals(Path(work))]
    path = folder / NAME
    contact_sheet(rows, TITLES, STYLE).save(path, "WEBP", quality=QUALITY, method=6, alpha_quality=80)
    return path


def write_small(folder: Path) -> list[Path]:
    """Writes one photograph at ``TABLE_RATES`` of each of ``KINDS`` into ``folder``; a prompt is shown by harmonic."""
    paths = []
    with tempfile.TemporaryDirectory() as work, make_regenerator("harmonic") as regenerator:
        image = next(each for each in _originals(Path(work)) if each.label == TABLE_PHOTOGRAPH)
        for kind in KINDS:
            for rate in TABLE_RATES:
                exemplar = _kept(image, replace(EncodeOptions(), kind=kind, bytes_per_exemplar=rate))
                if exemplar.kind == "real":
                    picture = Image.open(io.BytesIO(exemplar.payload)).convert("RGB")
                elif exemplar.kind == "latent":
                    picture = Image.fromarray(exemplar.picture())
                else:
                    picture = Image.fromarray(regenerator.image(exemplar, exemplar.seeds[0]))
                scale = TABLE_SIDE / max(picture.size)
                size = (round(picture.width * scale), round(picture.height * scale))
                paths.append(folder / f"{kind}-{rate}.webp")
                picture.resize(size, Image.Resampling.BICUBIC).save(paths[-1], "WEBP", quality=60, method=6)
    return paths


def _originals(folder: Path) -> Iterator[SourceImage]:
    """The images as JPEG files in ``folder``, the drawn ones first."""
    pictures: dict[str, NDArray[np.uint8]] = {
        name: draw_picture(name, "train", number, size=DRAWN_SIDE) for name, number in DRAWN
    }
    pictures |= {name: getattr(skimage.data, name)() for name in PHOTOGRAPHS}
    for name, picture in pictures.items():
        path = folder / f"{name}.jpg"
        Image.fromarray(picture).save(path, quality=JPEG_QUALITY)
        yield SourceImage(path, name, path.name)


def _cells(image: SourceImage, regenerator: Regenerator) -> list[SheetCell]:
    """An image in the columns of ``TITLES``."""
    options = EncodeOptions()
    prompt, sketch = (_kept(image, replace(options, bytes_per_exemplar=most)) for most in (None, RATES[0]))
    learned = [_kept(image, replace(options, kind=f"latent:{rate}B")) for rate in RATES]
    with Image.open(image.path) as original:
        pixels = np.asarray(original.convert("RGB"))
    return [
        SheetCell(pixels, f"{image.path.stat().st_size:,} bytes"),
        SheetCell(prompt.edges, prompt_bytes(prompt)),
        SheetCell(sketch.edges, prompt_bytes(sketch)),
        SheetCell(regenerator.image(sketch, sketch.seeds[0])),
        *(SheetCell(each.picture(), f"{len(each.payload):,} bytes") for each in learned),
    ]


def _kept(image: SourceImage, options: EncodeOptions) -> Exemplar:
    return encode_image(image, options).exemplar


if __name__ == "__main__":
    main()
