"""Run folders written by the real metrics, confusion and container code, without training a network."""

from __future__ import annotations

import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from escort_cil.memory.contents import MemoryFigures
from escort_cil.metrics import PhaseFigures, Predictions, RunFigures, phase_figures
from escort_cil.run.figures import save_figures
from escort_cil.run.folder import CONFUSION
from escort_codec.container import Writer
from escort_codec.exemplar import Exemplar
from escort_codec.hint import encode_hint

IMAGES = 12  # test images a class


def draw_picture(number: int, height: int = 60, width: int = 80) -> NDArray[np.uint8]:
    """A coloured shape on a coloured ground, uint8 (height, width, 3)."""
    rng = np.random.default_rng(number)
    image = Image.new("RGB", (width, height), tuple(rng.integers(90, 255, 3).tolist()))
    left, top = rng.integers(4, width // 3), rng.integers(4, height // 3)
    box = (int(left), int(top), int(left) + width // 2, int(top) + height // 2)
    pen = ImageDraw.Draw(image)
    (pen.ellipse if number % 2 else pen.rectangle)(box, fill=tuple(rng.integers(0, 160, 3).tolist()))
    return np.array(image)


def outline(rgb: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """Where a picture's colour changes, bool (H, W)."""
    edges = np.zeros(rgb.shape[:2], bool)
    edges[:, 1:] |= (np.diff(rgb.astype(int), axis=1) != 0).any(axis=2)
    edges[1:] |= (np.diff(rgb.astype(int), axis=0) != 0).any(axis=2)
    return edges


def exemplars(labels: Sequence[str], real: int, prompts: int) -> list[Exemplar]:
    found = []
    for c, label in enumerate(labels):
        for i in range(real + prompts):
            rgb = draw_picture(100 * c + i)
            name = f"{i:03d}.png"
            if i < real:
                file = io.BytesIO()
                Image.fromarray(rgb).save(file, "PNG")
                found.append(
                    Exemplar.from_image(file.getvalue(), label=label, name=name, size=(rgb.shape[0], rgb.shape[1]))
                )
            else:
                hint = encode_hint(rgb) if i % 2 else None
                found.append(
                    Exemplar.from_edges(outline(rgb), label=label, name=name, seeds=(0, 1), hint=hint, coding="rle")
                )
    return found


def evaluation(groups: Sequence[int], skill: float, seed: int) -> PhaseFigures:
    """What a network that forgets would say: ``skill`` of the newest classes are right, less of older ones."""
    rng = np.random.default_rng(seed)
    classes = sum(groups)
    origin = np.repeat(np.arange(len(groups)), groups)
    true = np.repeat(np.arange(classes), IMAGES)
    right = rng.random(len(true)) < skill * 0.85 ** (len(groups) - 1 - origin[true])
    scores = rng.random((len(true), classes))
    scores[np.arange(len(true)), true] += 2.0 * right
    ranking = np.argsort(-scores, axis=1)
    return phase_figures(Predictions(true, ranking[:, :5], np.roll(ranking, 1, axis=1)[:, :1]), groups)


def records_of(groups: Sequence[int]) -> list[dict[str, Any]]:
    """Lines of metrics.jsonl of a run whose phases brought ``groups`` of classes."""
    figures, records = RunFigures(), []
    for phase in range(len(groups)):
        figures = figures.after({"real": evaluation(groups[: phase + 1], 0.9, phase)})
        records.append(figures.to_record(MemoryFigures().to_record()))
    return records


def write_run(
    folder: Path,
    labels: Sequence[str],
    groups: Sequence[int],
    config: Mapping[str, Any],
    *,
    skill: float = 0.9,
    seed: int = 0,
    real: int = 1,
    prompts: int = 3,
    views: Sequence[str] = ("real",),
) -> Path:
    """Writes config.json, metrics.jsonl, confusion.npz and memory.escx as ``escort train`` does."""
    folder.mkdir(parents=True)
    figures, records = RunFigures(), []
    for phase in range(len(groups)):
        so_far = list(groups[: phase + 1])
        shown = labels[: sum(so_far)]
        path = folder / "memory.escx"
        if real + prompts:
            with Writer(path, overwrite=True) as writer:
                for exemplar in exemplars(shown, real, prompts):
                    writer.add(exemplar)
        memory = MemoryFigures(
            bytes=path.stat().st_size if path.is_file() else 0,
            real=real * len(shown),
            prompt=prompts * len(shown),
            units=len(shown) * (real + prompts / 24),
            real_by_class=(real,) * len(shown),
            prompt_by_class=(prompts,) * len(shown),
            model=1_000_000 * (phase + 1),
        )
        said = {view: evaluation(so_far, skill - 0.1 * n, 1000 * seed + phase) for n, view in enumerate(views)}
        figures = figures.after(said)
        records.append(figures.to_record(memory.to_record()))
    (folder / "metrics.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records), encoding="utf-8")
    (folder / "config.json").write_text(json.dumps({**config, "class_order": list(labels)}, indent=2), encoding="utf-8")
    save_figures(figures, folder / CONFUSION)
    return folder
