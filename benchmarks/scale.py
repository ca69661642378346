"""How does the work grow, and what does Ray cost on the same cores?

    python benchmarks/scale.py [--encode 2000,5000,20000,50000] [--decode 2000,5000] [--side 96] [--out FILE.json]

Encodes and decodes drawn pictures of ``side`` pixels with the threads of one process and with a local Ray, on all
cores of this machine. Each run is a process of its own. ``seconds`` leaves out the start of Ray (``start``), and the
workers' own start is in it; ``memory`` is the most that the process and its children hold together (proportional set
size), sampled five times a second. Files must be equal byte for byte, or the script fails. The pictures are 1,000
drawings under as many names as needed; decoding makes one image of each prompt with the regenerator ``harmonic``.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import psutil

from benchmarks.about import about
from escort_cil.demo.drawings import draw_dataset
from escort_codec.ray_engine import LOCAL, RayEngine
from escort_codec.workers import usable_cores

ENGINES = (LOCAL, "ray")
DRAWN = 1000


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--encode", default="2000,5000,20000,50000")
    parser.add_argument("--decode", default="2000,5000")
    parser.add_argument("--side", type=int, default=96)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--child", nargs=4, metavar=("WORK", "ENGINE", "SOURCE", "TARGET"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        child(*options.child)
        return
    with tempfile.TemporaryDirectory(dir=os.environ.get("TMPDIR")) as folder:
        result = measure(Path(folder), _sizes(options.encode), _sizes(options.decode), options.side)
    print(json.dumps(result, indent=1))
    if options.out:
        options.out.write_text(json.dumps(result, indent=1) + "\n")


def _sizes(text: str) -> list[int]:
    return [int(part) for part in text.split(",") if part]


def measure(folder: Path, encode: list[int], decode: list[int], side: int) -> dict[str, Any]:
    draw_dataset(folder / "drawn", classes=10, train=DRAWN // 10, test=1, size=side)
    rows: list[dict[str, Any]] = []
    facts = about()
    for work, sizes in (("encode", encode), ("decode", decode)):
        for size in sizes:
            source = prepare(folder, work, size)
            for engine in ENGINES:
                target = folder / f"{work}-{size}-{engine}"
                row = {"work": work, "images": size, "engine": engine, **run(work, engine, source, target)}
                row["per_second"] = round(size / row["seconds"], 1)
                rows.append(row)
                print(json.dumps(row), file=sys.stderr, flush=True)
            local, ray = rows[-2:]
            assert local["digest"] == ray["digest"], (work, size)
            ray["overhead"] = round(ray["seconds"] / local["seconds"] - 1, 3)
            ray["overhead_with_start"] = round((ray["seconds"] + ray["start"]) / local["seconds"] - 1, 3)
    return {
        "about": facts,
        "side": side,
        "cores": usable_cores(),
        "runs": rows,
    }


def prepare(folder: Path, work: str, size: int) -> Path:
    """A data folder of ``size`` pictures, or for decoding a file of their prompts."""
    data = folder / f"data-{size}"
    if not data.exists():
        drawn = sorted((folder / "drawn" / "train").rglob("*.*"))
        for number in range(size):
            source = drawn[number * len(drawn) // size if size < len(drawn) else number % len(drawn)]
            target = data / source.parent.name / f"{number:07}{source.suffix}"
            target.parent.mkdir(parents=True, exist_ok=True)
            os.link(source, target)
    if work == "encode":
        return data
    file = folder / f"data-{size}.escx"
    if not file.exists():
        run("encode", LOCAL, data, file)
    return file


def run(work: str, engine: str, source: Path, target: Path) -> dict[str, Any]:
    """One run in a process of its own; what it says, and the memory of its tree."""
    command = [sys.executable, __file__, "--child", work, engine, str(source), str(target)]
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1]), "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment)
    most = [0]
    ended = threading.Event()
    watcher = threading.Thread(target=_watch, args=(process.pid, most, ended))
    watcher.start()
    said, _ = process.communicate()
    ended.set()
    watcher.join()
    if process.returncode:
        raise SystemExit(f"{work} with {engine} failed")
    return {**json.loads(said.splitlines()[-1]), "memory": most[0]}


def _watch(pid: int, most: list[int], ended: threading.Event) -> None:
    while not ended.wait(0.2):
        total = 0
        try:
            processes = [psutil.Process(pid), *psutil.Process(pid).children(recursive=True)]
        except psutil.Error:
            continue
        for process in processes:
            try:
                total += process.memory_full_info().pss
            except psutil.Error:
                continue
        most[0] = max(most[0], total)


def child(work: str, engine: str, source: str, target: str) -> None:
    """Runs in a process of its own; prints seconds, Ray's start, and a digest of what was written."""
    started = time.perf_counter()
    connection = RayEngine() if engine != LOCAL else None
    start = time.perf_counter() - started
    started = time.perf_counter()
    make = _encode if work == "encode" else _decode
    digest = make(engine, source, Path(target))
    seconds = time.perf_counter() - started
    if connection is not None:
        connection.__exit__()
    print(json.dumps({"seconds": round(seconds, 2), "start": round(start, 2), "digest": digest()}))


def _encode(engine: str, source: str, target: Path) -> Any:
    from escort_codec.encode.folder import encode_folder
    from escort_codec.recipe import EncodeOptions

    encode_folder(source, target, EncodeOptions(engine=engine))
    # The head names the data folder, which is the same for both engines.
    return lambda: hashlib.sha256(target.read_bytes()).hexdigest()[:16]


def _decode(engine: str, source: str, target: Path) -> Any:
    import escort_codec
    from escort_codec.export.options import ExportOptions
    from escort_codec.export.plan import make_plan
    from escort_codec.export.ray_tree import ClusterWork, write_tree_with_ray
    from escort_codec.export.tree import prepare_tree, write_tree
    from escort_codec.regenerate import make_regenerator

    options = ExportOptions(seeds=(0,), workers=usable_cores(), engine=engine)
    with escort_codec.open(source) as reader, make_regenerator("harmonic", workers=usable_cores()) as regenerator:
        plan = make_plan(reader, target, options, regenerator)
        prepare_tree(target)
        if engine == LOCAL:
            outcome = write_tree(reader, target, plan, regenerator, options)
        else:
            outcome = write_tree_with_ray(reader, target, plan, regenerator, options, ClusterWork("harmonic"))
    assert not outcome.failed

    def digest() -> str:
        total = hashlib.sha256()
        for path in sorted(target.rglob("*.jpg")):
            total.update(path.relative_to(target).as_posix().encode() + path.read_bytes())
        return total.hexdigest()[:16]

    return digest


if __name__ == "__main__":
    main()
