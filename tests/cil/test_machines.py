"""Training on several machines: two launchers that meet by an address, three processes, a memory in parts."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

import escort_codec
from escort_cil.trainer import train
from escort_codec.errors import SourceError
from escort_codec.recipe import EncodeOptions
from tests.cil.small_runs import quick
from tests.store.servers import serving

pytestmark = pytest.mark.usefixtures("one_thread")
ROOT = Path(__file__).parents[2]


def free_port() -> int:
    with socket.socket() as opened:
        opened.bind(("127.0.0.1", 0))
        return int(opened.getsockname()[1])


def test_a_memory_on_a_web_server_trains_as_the_file_does(small_data: Path, tmp_path: Path) -> None:
    pytest.importorskip("aiohttp", reason="aiohttp is not installed (extra remote)")
    encode = EncodeOptions(coding="rle", seeds=(0, 1), hint=16)
    escort_codec.encode_folder(small_data, tmp_path / "a.escx", encode)
    with serving(tmp_path) as server:
        for name, file in (("disk", str(tmp_path / "a.escx")), ("web", f"{server.address}/a.escx")):
            train(quick(small_data, prompts_file=file, seeds=(), epochs=1), out=tmp_path / name)
    assert (tmp_path / "web" / "memory.escx").read_bytes() == (tmp_path / "disk" / "memory.escx").read_bytes()
    assert (tmp_path / "web" / "metrics.jsonl").exists()
    with pytest.raises(SourceError, match="copy the folder to this machine first"):
        train(quick("s3://bucket/photos"), out=tmp_path / "none")


def test_two_launchers_with_three_processes_learn_what_one_process_does(small_data: Path, tmp_path: Path) -> None:
    """As on two machines with one and two GPUs, which share the run folder and the memory's parts. The exemplars are
    the same; the weights differ in last digits, as sums of three parts are rounded."""
    from safetensors.torch import load_file

    encode = EncodeOptions(coding="rle", seeds=(0, 1), hint=16)
    escort_codec.encode_folder(small_data, tmp_path / "whole.escx", encode)
    escort_codec.split(tmp_path / "whole.escx", tmp_path / "parts", parts=3)
    options = {"backbone": "resnet10", "image_size": 16, "batch_size": 9, "lr": 0.001, "epochs": 1}
    one = quick(small_data, **options, prompts_file=str(tmp_path / "whole.escx"), seeds=(), coding="context")
    train(one, out=tmp_path / "one")
    flags = [f"--{name.replace('_', '-')}={value}" for name, value in options.items()]
    flags += ["--increment=2", "--budget=8000", "--device=cpu", "--workers=1"]
    common = ["--nnodes=2", "--master-addr=127.0.0.1", f"--master-port={free_port()}"]
    command = ["-m", "escort_cli", "train", str(small_data), f"--memory={tmp_path / 'parts' / 'whole-*.escx'}", *flags]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT), "USE_LIBUV": "0"}
    launchers = [
        subprocess.Popen(
            [
                *(sys.executable, "-m", "torch.distributed.run", *common),
                *(f"--node-rank={machine}", f"--nproc-per-node={processes}", *command),
                f"--out={tmp_path / 'several'}",
            ],
            cwd=ROOT,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for machine, processes in enumerate((1, 2))
    ]
    said = [launcher.communicate(timeout=200)[0] for launcher in launchers]
    assert [launcher.returncode for launcher in launchers] == [0, 0], said
    assert (tmp_path / "several" / "memory.escx").read_bytes() == (tmp_path / "one" / "memory.escx").read_bytes()
    theirs = load_file(tmp_path / "several" / "model.safetensors")
    for name, value in load_file(tmp_path / "one" / "model.safetensors").items():
        assert value.float().sub(theirs[name].float()).abs().max() < 1e-3, name
