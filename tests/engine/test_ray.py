"""The engine ray on a cluster of two nodes on this machine: the same bytes, whatever dies on the way."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import escort_codec
from escort_codec import EncodeOptions, encode_folder
from escort_codec.errors import EngineError, ImageError, UsageError
from escort_codec.export.manifest import read_manifest
from escort_codec.export.options import ExportOptions
from escort_codec.export.plan import make_plan
from escort_codec.export.ray_tree import ClusterWork, shards_of, write_tree_with_ray
from escort_codec.export.tree import export_file, prepare_tree
from escort_codec.progress import Progress
from escort_codec.ray_engine import RayEngine, parse_engine
from escort_codec.regenerate import make_regenerator

ray = pytest.importorskip("ray", reason="ray is not installed (extra ray)")
psutil = pytest.importorskip("psutil", reason="psutil is not installed (accelerate brings it)")

# Ray warns of its own affairs. One process runs these tests, so that one cluster is started.
pytestmark = pytest.mark.filterwarnings("ignore")
IMAGES = 300


class TwoNodes:
    """A head without cores and two nodes of one core; ``lose_node`` kills one and adds another."""

    def __init__(self) -> None:
        from ray.cluster_utils import Cluster

        self.cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1})
        self.node = self.cluster.add_node(num_cpus=1)
        ray.init(address=self.cluster.address, log_to_driver=False, logging_level="ERROR")

    @property
    def address(self) -> str:
        return str(self.cluster.address)

    def lose_node(self) -> None:
        self.cluster.remove_node(self.node, allow_graceful=False)
        self.node = self.cluster.add_node(num_cpus=1)

    def kill_worker(self, name: str) -> bool:
        """Kills one process of our cluster that does ``name`` now."""
        for process in psutil.Process().children(recursive=True):
            with contextlib.suppress(psutil.Error):
                if process.cmdline()[:1] and process.cmdline()[0].startswith(f"ray::{name}"):
                    process.kill()
                    return True
        return False


@pytest.fixture(scope="module")
def nodes() -> Iterator[TwoNodes]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_AUTH_MODE", "disabled")
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        patch.setenv("OMP_NUM_THREADS", "1")
        patch.setenv("PYTHONPATH", str(Path(__file__).parents[2]))
        both = TwoNodes()
        yield both
        ray.shutdown()
        both.cluster.shutdown()


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data")
    for label in ("cat", "dog"):
        (folder / label).mkdir()
        for number in range(IMAGES // 2):
            y, x = np.mgrid[:24, : 20 + number % 3]
            pixels = np.stack([x * (number % 9 + 1), y * 9, (x + y) * 5], -1) % 256
            Image.fromarray(pixels.astype(np.uint8)).save(folder / label / f"{number:03}.png")
    return folder


@pytest.fixture(scope="module")
def expected(data: Path, tmp_path_factory: pytest.TempPathFactory) -> bytes:
    out = tmp_path_factory.mktemp("one") / "a.escx"
    encode_folder(data, out)
    return out.read_bytes()


@pytest.fixture(autouse=True)
def small_shards(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("escort_codec.encode.images._SHARD", 20)
    monkeypatch.setattr("escort_codec.export.ray_tree.SHARD", 20)


class Disturbing(Progress):
    """Calls the next of ``disturbances`` after each shard that is done, again if it returns False."""

    def __init__(self, *disturbances: Callable[[], bool | None]) -> None:
        self.left, self.notes = list(disturbances), list[str]()

    def advance(self, count: int = 1, note: str = "") -> None:
        if note:
            self.notes.append(note)
            if self.left and self.left[0]() is not False:
                self.left.pop(0)


def test_a_cluster_encodes_the_bytes_of_one_machine_though_a_worker_and_a_node_die(
    nodes: TwoNodes, data: Path, expected: bytes, tmp_path: Path
) -> None:
    ray_options = EncodeOptions(engine="ray")
    progress = Disturbing(lambda: nodes.kill_worker("_call"), nodes.lose_node)
    report = encode_folder(data, tmp_path / "a.escx", ray_options, progress=progress)
    assert (tmp_path / "a.escx").read_bytes() == expected
    assert report.exemplars == IMAGES
    assert progress.left == []
    assert progress.notes[-1] == "shard 15/15"
    (data / "dog" / "zzz.png").write_bytes(b"no image")
    try:
        skipping = encode_folder(data, tmp_path / "skipped.escx", EncodeOptions(engine="ray", on_error="skip"))
        assert len(skipping.skipped) == 1
        assert (tmp_path / "skipped.escx").read_bytes() == expected
        with pytest.raises(ImageError, match=r"zzz\.png: is not an image"):
            encode_folder(data, tmp_path / "raised.escx", ray_options)
        assert not list(tmp_path.glob("raised*"))
    finally:
        (data / "dog" / "zzz.png").unlink()


def test_a_cluster_decodes_the_files_of_one_machine_though_a_worker_and_a_node_die(
    nodes: TwoNodes, data: Path, expected: bytes, tmp_path: Path
) -> None:
    (tmp_path / "a.escx").write_bytes(expected)
    options = ExportOptions(seeds=(0,), edges=True, workers=1)
    with escort_codec.open(tmp_path / "a.escx") as reader, make_regenerator("harmonic", workers=1) as regenerator:
        export_file(reader, tmp_path / "one", options, regenerator)
        plain = _tree(tmp_path / "one")
        assert len(plain) == 2 * IMAGES

        on_ray = ExportOptions(seeds=(0,), edges=True, workers=1, engine="ray")
        plan = make_plan(reader, tmp_path / "two", on_ray, regenerator)
        prepare_tree(tmp_path / "two")
        work = ClusterWork("harmonic", {})
        progress = Disturbing(lambda: nodes.kill_worker("TreeMaker"), nodes.lose_node)
        outcome = write_tree_with_ray(reader, tmp_path / "two", plan, regenerator, on_ray, work, progress=progress)
        assert (outcome.images, outcome.edges, outcome.failed) == (IMAGES, IMAGES, 0)
        assert progress.left == []
        assert _tree(tmp_path / "two") == plain
        assert read_manifest(tmp_path / "two") == read_manifest(tmp_path / "one")
        on_gpus = ExportOptions(seeds=(0,), engine="ray", gpus_per_worker=1)
        on_gpus_plan = make_plan(reader, tmp_path / "gpus", on_gpus, regenerator)
        prepare_tree(tmp_path / "gpus")
        with pytest.raises(UsageError, match="the cluster has 0 GPUs"):
            write_tree_with_ray(reader, tmp_path / "gpus", on_gpus_plan, regenerator, on_gpus, work)
        assert not (tmp_path / "gpus").exists()


def _tree(folder: Path) -> dict[str, bytes]:
    files = (path for path in folder.rglob("*") if path.suffix in (".jpg", ".png"))
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


def test_resume_continues_after_the_driver_was_killed(
    nodes: TwoNodes, data: Path, expected: bytes, tmp_path: Path
) -> None:
    """Killed once its first block of 256 exemplars is on the disk: these are kept."""
    out, partial = tmp_path / "a.escx", tmp_path / "a.escx.partial"
    script = (
        "import sys, time, escort_codec.encode.folder as encode, escort_codec.encode.images as exemplars\n"
        "from escort_codec.progress import Progress\n"
        "from escort_codec import EncodeOptions\n"
        "class Slow(Progress):\n"
        "    done = 0\n"
        "    def advance(self, count=1, note=''):\n"
        "        self.done += count\n"
        "        if self.done > 270: time.sleep(60)\n"
        "exemplars._SHARD = 20\n"
        "options = EncodeOptions(engine=sys.argv[3], resume=True)\n"
        "encode.encode_folder(sys.argv[1], sys.argv[2], options, progress=Slow())\n"
    )
    command = [sys.executable, "-c", script, str(data), str(out), f"ray://{nodes.address}"]
    driver = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        until = time.monotonic() + 120
        while not (partial.exists() and partial.stat().st_size > 5000) and time.monotonic() < until:
            assert driver.poll() is None
            time.sleep(0.1)
    finally:
        driver.send_signal(signal.SIGKILL)
        driver.wait()
    assert not out.exists()
    report = encode_folder(data, out, EncodeOptions(engine="ray", resume=True))
    assert report.resumed == 256
    assert out.read_bytes() == expected


def squared(item: int) -> tuple[int, int]:
    if item == 99:
        os.kill(os.getpid(), signal.SIGKILL)
    if item == 98:
        raise ZeroDivisionError("of this test")
    return item * item, os.getpid()


def test_what_kills_every_worker_or_fails_ends_the_run_with_a_line(
    nodes: TwoNodes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("escort_codec.ray_engine.RETRIES", 1)
    with RayEngine() as engine:
        made = [result for _, (result, _) in engine.map_in_order(squared, list(range(40)))]
        assert made == [item * item for item in range(40)]
        with pytest.raises(EngineError, match="a shard killed its worker 2 times"):
            list(engine.map_in_order(squared, [1, 99]))
        with pytest.raises(EngineError, match="a worker failed: ZeroDivisionError: of this test"):
            list(engine.map_in_order(squared, [1, 98]))
    assert ray.is_initialized()  # the caller's own connection stays


def test_shards_are_of_one_size_of_image_and_complete() -> None:
    class Exemplar:
        def __init__(self, size: tuple[int, int]) -> None:
            self.size = size

    class Task:
        def __init__(self, number: int) -> None:
            self.exemplar = Exemplar((8, 8) if number % 3 else (9, 9 + number % 2))
            self.number = number

    tasks: list[Any] = [Task(number) for number in range(200)]
    shards = list(shards_of(tasks))
    assert sorted(task.number for shard in shards for task in shard) == list(range(200))
    assert all(len(shard) <= 20 for shard in shards)
    full = [shard for shard in shards if len(shard) == 20]
    assert sum(len({task.exemplar.size for task in shard}) == 1 for shard in full) >= len(full) - 2


def test_engines_by_name() -> None:
    assert (parse_engine("local"), parse_engine("ray"), parse_engine("ray://auto")) == (None, "", "auto")
    for wrong in ("rays", "ray:", "ray://", "local://x", ""):
        with pytest.raises(UsageError, match="write local, ray"):
            parse_engine(wrong)


def test_a_cluster_that_is_not_there_is_one_line_and_quick(data: Path, tmp_path: Path) -> None:
    """In a process of its own: this one is connected already."""
    script = "from escort_cli.app import main; main()"
    command = [sys.executable, "-c", script, "encode", str(data), "a.escx", "--engine", "ray://127.0.0.1:1"]
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=100)
    assert done.returncode == 1
    assert "escort encode: Ray at 127.0.0.1:1 cannot be reached" in done.stderr
    assert list(tmp_path.iterdir()) == []
