"""A file of a million small exemplars, one of a gigabyte, and a folder of 20,000 images: does everything stay fast?

    python benchmarks/large.py [--exemplars 1000000] [--bytes 1000000000] [--images 20000] [--out FILE]

Everything is drawn here, in a temporary folder (1.2 gigabytes). Rates are given as ratios to the sequential pass over
the same file, which cancels out how fast the machine is. `--bytes 0` and `--images 0` leave a part out; OUT
keeps what it says of it.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import random
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import msgpack
import numpy as np
import torch
import zstandard
from PIL import Image
from torch.utils.data import DataLoader

import escort_codec
from benchmarks.about import about
from escort_codec import Exemplar, Reader, Writer
from escort_codec.container.measure import measure_file
from escort_codec.container.verify import verify
from escort_codec.encode.folder import encode_folder
from escort_codec.recipe import EncodeOptions

SCREEN = 40  # thumbnails
TAIL, HEAD = 1 << 18, 1 << 16  # bytes that a remote reader asks for before it knows anything


def timed(work: Callable[[], Any]) -> tuple[float, Any]:
    """(seconds, result)."""
    started = time.perf_counter()
    result = work()
    return time.perf_counter() - started, result


def small_exemplars(count: int) -> Iterator[Exemplar]:
    """Prompts of 8 x 8 pixels in classes of a thousand: about seven bytes each in the file."""
    rng = np.random.Generator(np.random.PCG64(0))
    drawn = [Exemplar.from_edges(rng.random((8, 8)) < 0.04, label="-") for _ in range(512)]
    for number in range(count):
        one, label = drawn[number % len(drawn)], f"class-{number // 1000:04}"
        yield Exemplar(
            kind="prompt",
            label=label,
            name=f"{number % 1000:04}.png",
            size=one.size,
            prompt=label,
            seeds=(0, 1, 2),
            payload=one.payload,
            coding=one.coding,
            map_shape=one.map_shape,
            edge_settings=one.edge_settings,
            recipe=one.recipe,
        )


def write(path: Path, exemplars: Iterable[Exemplar]) -> None:
    with Writer(path) as writer:
        for exemplar in exemplars:
            writer.add(exemplar)


def consume(items: Iterable[Any]) -> int:
    return sum(1 for _ in items)


def million(path: Path, count: int) -> dict[str, Any]:
    """Times on the file of small exemplars."""
    seconds, _ = timed(lambda: write(path, small_exemplars(count)))
    rows: dict[str, Any] = {
        "exemplars": count,
        "file_bytes": path.stat().st_size,
        "writing_per_second": count / seconds,
    }
    rows["opening_seconds"], reader = timed(lambda: Reader(path))
    with reader:
        rows["sequential_per_second"] = count / timed(lambda: consume(reader))[0]
    command = [sys.executable, "-c", "from escort_cli.app import main; main()"]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    for name in ("inspect", "verify"):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        used = before.ru_utime + before.ru_stime
        rows[f"{name}_seconds"], _ = timed(
            partial(subprocess.run, [*command, name, path], check=True, capture_output=True, env=environment)
        )
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        rows[f"{name}_processor_seconds"] = after.ru_utime + after.ru_stime - used
    rows["measure_seconds"] = timed(lambda: measure_file(Reader(path)))[0]
    rows["verify_in_process_seconds"] = timed(lambda: verify(path))[0]
    numbers = random.Random(1).sample(range(count), min(count, 200_000))
    with Reader(path) as reader:
        rows["random_per_second"] = len(numbers) / timed(lambda: consume(map(reader.__getitem__, numbers)))[0]
    rows["peak_megabytes"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
    for name, shuffle in (("in_order", False), ("shuffled", True)):
        torch.manual_seed(0)
        with Reader(path) as reader:
            loader = DataLoader(reader, batch_size=256, shuffle=shuffle, num_workers=2, collate_fn=edge_maps)  # type: ignore[arg-type, var-annotated]
            rows[f"loader_{name}_per_second"] = count / timed(partial(consume, loader))[0]
    rows["ratios"] = {
        "random access / sequential": rows["random_per_second"] / rows["sequential_per_second"],
        "loader shuffled / loader in order": rows["loader_shuffled_per_second"] / rows["loader_in_order_per_second"],
        "loader shuffled / sequential": rows["loader_shuffled_per_second"] / rows["sequential_per_second"],
        "inspect / sequential pass, seconds": rows["inspect_seconds"] * rows["sequential_per_second"] / count,
        "verify / sequential pass, seconds": rows["verify_seconds"] * rows["sequential_per_second"] / count,
    }
    return rows


def edge_maps(batch: list[Exemplar]) -> torch.Tensor:
    """The edge maps of a batch, bool (n, H, W)."""
    return torch.from_numpy(np.stack([exemplar.edges for exemplar in batch]))


def usual_exemplars(total: int) -> Iterator[Exemplar]:
    """Prompts with payloads and hints as long as those of photographs of 300 x 240 pixels, ``total`` bytes in all."""
    rng = np.random.Generator(np.random.PCG64(1))
    picture = Image.fromarray(rng.integers(0, 256, (3, 4, 3), dtype=np.uint8)).resize(
        (320, 240), Image.Resampling.BICUBIC
    )
    hint = escort_codec.encode_hint(picture, 32)
    written = number = 0
    while written < total:
        payload = rng.bytes(1250)  # a packed map of noise
        label = f"class-{number // 1000:04}"
        yield Exemplar.from_edges(
            np.unpackbits(np.frombuffer(payload, np.uint8)).reshape(100, 100).astype(np.bool_),
            label=label,
            name=f"image_{number % 1000:04}.jpg",
            size=(240, 320),
            hint=hint,
            seeds=(0, 1, 2, 3, 4),
            coding="packed",
        )
        number += 1
        written += len(payload) + len(hint)


class Remote:
    """A file behind range requests, which are counted."""

    def __init__(self, path: Path) -> None:
        self._file, self.size, self.requests, self.bytes = path.open("rb"), path.stat().st_size, 0, 0

    def get(self, start: int, length: int) -> bytes:
        """The bytes of one request."""
        self.requests += 1
        self._file.seek(start)
        data = self._file.read(length)
        self.bytes += len(data)
        return data


def first_screen(path: Path) -> dict[str, Any]:
    """Requests and bytes until a reader that knows the spec alone has the first thumbnails, with names and classes."""
    remote = Remote(path)
    unpack = zstandard.ZstdDecompressor().decompress
    start = max(remote.size - TAIL, 0)
    tail = remote.get(start, TAIL)
    index_at = int.from_bytes(tail[-20:-12], "little")
    if index_at < start:
        tail, start = remote.get(index_at, start - index_at) + tail, index_at
    index = msgpack.unpackb(unpack(tail[index_at - start + 8 : -32]))
    remote.get(0, HEAD)  # the head and the recipes, whose places the index has
    thumbnails = block = 0
    while thumbnails < SCREEN:
        table, hints = index[5][block], index[6][block]
        front = remote.get(index[3][block] + 8, 16 + table + hints)
        rows = msgpack.unpackb(unpack(front[8 : 8 + table]))
        thumbnails += rows[0]
        block += 1
    return {
        "file_bytes": remote.size,
        "index_bytes": remote.size - index_at,
        "requests": remote.requests,
        "bytes": remote.bytes,
    }


def encoding(folder: Path, images: int) -> dict[str, Any]:
    """Seconds an image of encoding folders of growing size."""
    rng = np.random.Generator(np.random.PCG64(2))
    files = []
    for _ in range(64):
        small = Image.fromarray(rng.integers(0, 256, (6, 8, 3), dtype=np.uint8))
        file = io.BytesIO()
        small.resize((96, 72), Image.Resampling.BICUBIC).save(file, "JPEG")
        files.append(file.getvalue())
    counts = (images // 8, images // 4, images // 2, images)
    for count in counts:
        data = folder / f"data-{count}"
        for number in range(count):
            place = data / f"class-{number // 500:03}"
            place.mkdir(parents=True, exist_ok=True)
            (place / f"{number:06}.jpg").write_bytes(files[number % len(files)])
    options = EncodeOptions(overwrite=True)
    encode_folder(str(folder / f"data-{counts[0]}"), folder / "out.escx", options)  # compiles, fills caches
    rates = dict.fromkeys(counts, 0.0)
    for count in (*counts, *reversed(counts), *counts):  # the best of three: others may use the machine
        work = partial(encode_folder, str(folder / f"data-{count}"), folder / "out.escx", options)
        rates[count] = max(rates[count], count / timed(work)[0])
    first, *_, last = rates.values()
    return {"images_per_second": rates, "ratios": {f"rate at {images} images / at {images // 8}": last / first}}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--exemplars", type=int, default=1_000_000)
    parser.add_argument("--bytes", type=int, default=1_000_000_000)
    parser.add_argument("--images", type=int, default=20_000)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    known = json.loads(options.out.read_text("utf-8")) if options.out and options.out.exists() else {}
    result: dict[str, Any] = known | {"about": about()}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        result["million"] = million(folder / "million.escx", options.exemplars)
        if options.bytes:
            large = folder / "large.escx"
            write(large, usual_exemplars(options.bytes))
            result["first_screen"] = first_screen(large)
            large.unlink()
        if options.images:
            result["encoding"] = encoding(folder, options.images)
    text = json.dumps(result, indent=2, default=str)
    print(text)
    if options.out:
        options.out.write_text(text + "\n", "utf-8")


if __name__ == "__main__":
    main()
