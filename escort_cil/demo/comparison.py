"""The steps of ``escort demo``, on drawn pictures or on the user's photographs.

Encode, decode, draw a contact sheet, and train three times with a memory of the same bytes: original images, small WebP
copies, prompts. The run measures every number, and the sentences follow from the numbers.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np
from numpy.typing import NDArray

from escort_cil.data.protocol import DataSet, read_data
from escort_cil.run.settings import TrainConfig
from escort_cil.trainer import RunResult, train
from escort_codec.container import Reader
from escort_codec.container.measure import FileSizes, measure_file
from escort_codec.encode.folder import EncodeReport, encode_folder
from escort_codec.errors import UsageError
from escort_codec.progress import Progress
from escort_codec.recipe import EncodeOptions
from escort_codec.regenerate import make_regenerator
from escort_codec.source import SourceImage, load_rgb

if TYPE_CHECKING:
    from PIL import Image

PHASES = 3
SEEDS = (0, 1, 2)
SHEET_ROWS = 8
ORIGINALS_PER_CLASS = 1.0
"""The budget: per class the mean bytes of this many original images."""


@dataclass(frozen=True, slots=True)
class DemoOptions:
    """The demo's options: ``image_size`` in pixels, ``epochs`` per phase; ``device`` and ``layout`` as for training."""

    regenerator: str = "harmonic"
    image_size: int = 40
    epochs: int = 24
    device: str = "auto"
    layout: str = "auto"
    seed: int = 1993
    model_seed: int = 1


@dataclass(frozen=True, slots=True)
class Memory:
    """One kind of memory of the comparison: its name and its settings."""

    name: str
    settings: Mapping[str, object]


MEMORIES = (
    Memory("originals only", {"keep": "original", "augmentation_prob": 0.0}),
    Memory("WebP copies of 32 px only", {"keep": "webp:32:20", "augmentation_prob": 0.5}),
    Memory("prompts", {"keep": "prompt", "augmentation_prob": 0.5}),
)


def encode_demo(data: str, out: Path, options: DemoOptions) -> tuple[EncodeReport, FileSizes]:
    """Encodes ``data`` into ``out`` by the paper's preset for large images, with colour hints."""
    settings = EncodeOptions(seeds=SEEDS, layout=options.layout, overwrite=True, on_error="skip")
    report = encode_folder(data, out, settings)
    with Reader(out) as reader:
        return report, measure_file(reader)


def demo_budget(data: DataSet) -> int:
    """The bytes of the memory file: room for one original image of each class."""
    sizes = [image.path.stat().st_size for images in data.train.values() for image in images]
    return round(ORIGINALS_PER_CLASS * len(data.train) * sum(sizes) / len(sizes))


def train_demo(
    data: str, prompts: Path, out: Path, options: DemoOptions, progress: Progress | None = None
) -> Iterator[tuple[Memory, RunResult]]:
    """Trains once with each kind of memory at the same budget; each run gets a folder in ``out``."""
    images = read_data(data, layout=options.layout)
    classes = len(images.labels)
    if classes < PHASES:
        raise UsageError(f"{data} has {classes} classes: the demo needs at least {PHASES}, one per phase")
    budget = demo_budget(images)
    for number, memory in enumerate(MEMORIES):
        config = TrainConfig(
            data=data,
            layout=options.layout,
            prompts_file=str(prompts),
            init_cls=classes - (PHASES - 1) * (classes // PHASES),
            increment=classes // PHASES,
            seed=options.seed,
            model_seed=options.model_seed,
            backbone="resnet10",
            image_size=options.image_size,
            epochs=options.epochs,
            budget=str(budget),
            regenerator=options.regenerator,
            device=options.device,
            **memory.settings,  # type: ignore[arg-type]
        )
        folder = out / f"{number + 1}-{memory.name.replace(' ', '-')}"
        yield memory, train(config, out=folder, progress=progress, force=True)


def draw_sheet(data: str, prompts: Path, out: Path, options: DemoOptions) -> None:
    """Writes a contact sheet: a row per class with one image's original, edge map and regenerated images."""
    originals: dict[str, SourceImage] = {}
    for images in read_data(data, layout=options.layout).train.values():
        originals.update({image.key: image for image in images})
    rows = []
    with Reader(prompts) as reader, make_regenerator(options.regenerator) as regenerator:
        for label in _spread(list(reader.labels), SHEET_ROWS):
            exemplar = next((reader[i] for i in reader.of_label(label) if reader[i].key in originals), None)
            if exemplar is None:
                continue
            made = [regenerator.image(exemplar, seed) for seed in SEEDS]
            original = load_rgb(originals[exemplar.key].path)
            rows.append(SheetRow(label, [original, exemplar.edges, *made]))
    titles = ["original", "edge map", *(f"{options.regenerator}, seed {seed}" for seed in SEEDS)]
    contact_sheet(rows, titles).save(out)


def _spread(labels: Sequence[str], count: int) -> list[str]:
    """At most ``count`` of the labels, evenly spaced."""
    places = np.linspace(0, len(labels) - 1, min(count, len(labels)))
    return [labels[round(place)] for place in places]


def size_sentence(report: EncodeReport, sizes: FileSizes) -> str:
    """A summary of the size table."""
    mean = report.source_bytes / max(1, sizes.exemplars)
    return (
        f"A prompt takes {sizes.file_bytes / sizes.exemplars:,.0f} bytes, an image file {mean:,.0f}: "
        f"{report.source_bytes / sizes.file_bytes:.1f} prompts fit in the space of one image."
    )


def accuracy_sentences(results: Sequence[tuple[Memory, RunResult]]) -> list[str]:
    """A summary of the accuracy table: one sentence per kind of memory."""
    rows = [(memory.name, result.records[-1]) for memory, result in results]
    best = max(rows, key=lambda row: row[1]["average_incremental_accuracy"])[0]
    sentences = []
    for name, last in rows:
        count = last["memory_real"] + last["memory_prompt"]
        each = last["memory_bytes"] / max(1, count)
        verdict = "the best of the three" if name == best else "not the best here"
        sentences.append(
            f"{name[0].upper()}{name[1:]}: {count} exemplars of {each:,.0f} bytes; average incremental accuracy "
            f"{last['average_incremental_accuracy']:.1f} %, old classes at the end {last['old']:.1f} %: {verdict}."
        )
    return sentences


_GAP: Final = 8
_PAPER: Final = (250, 250, 248)
_INK: Final = (40, 40, 40)


@dataclass(frozen=True, slots=True)
class SheetRow:
    """One row: its label and its pictures, each uint8 (H, W, 3), or bool or uint8 (H, W)."""

    label: str
    pictures: Sequence[NDArray[np.uint8] | NDArray[np.bool_]]


def contact_sheet(rows: Sequence[SheetRow], titles: Sequence[str], *, cell: int = 192) -> Image.Image:
    """The sheet as an RGB image: every picture scaled to fit ``cell`` x ``cell`` pixels, with its aspect ratio.

    ``titles`` are the column heads; a row may have fewer pictures.
    """
    from PIL import Image, ImageDraw, ImageFont

    font = ImageFont.load_default(14)
    left = _GAP + max((int(font.getlength(_ascii(row.label))) for row in rows), default=0) + _GAP
    top = 2 * _GAP + 14
    width = left + len(titles) * (cell + _GAP)
    height = top + len(rows) * (cell + _GAP)
    sheet = Image.new("RGB", (width, height), _PAPER)
    draw = ImageDraw.Draw(sheet)
    for column, title in enumerate(titles):
        x = left + column * (cell + _GAP) + cell // 2
        draw.text((x, top // 2), _ascii(title), _INK, font, anchor="mm")
    for number, row in enumerate(rows):
        y = top + number * (cell + _GAP)
        draw.text((left - _GAP, y + cell // 2), _ascii(row.label), _INK, font, anchor="rm")
        for column, picture in enumerate(row.pictures):
            image = _as_image(picture)
            # Small pictures keep their pixels visible.
            scale = min(cell / image.width, cell / image.height)
            how = Image.Resampling.NEAREST if scale >= 2 else Image.Resampling.LANCZOS
            fitted = image.resize((max(1, round(image.width * scale)), max(1, round(image.height * scale))), how)
            x = left + column * (cell + _GAP)
            sheet.paste(fitted, (x + (cell - fitted.width) // 2, y + (cell - fitted.height) // 2))
    return sheet


def _as_image(picture: NDArray[np.uint8] | NDArray[np.bool_]) -> Image.Image:
    from PIL import Image

    if picture.dtype == np.bool_:  # edges dark on light, as a drawing
        picture = np.where(picture, 0, 255).astype(np.uint8)
    return Image.fromarray(picture).convert("RGB")


def _ascii(text: str) -> str:
    """``text`` with the letters of Pillow's own font, which is Latin only."""
    return text if text.isascii() else text.encode("ascii", "replace").decode()
