"""Several processes, mixed precision, accumulation and trackers."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from torch import nn

from escort_cil.devices import BatchNormAcross, Devices, normalise_across
from escort_cil.run.tracking import WandB, check_trackers
from escort_cil.trainer import train
from escort_codec.errors import ConfigError, UnknownNameError
from escort_codec.processes import end_at_once
from tests.cil.small_runs import quick

pytestmark = pytest.mark.usefixtures("one_thread")
ROOT = Path(__file__).parents[2]


def launch(arguments: list[str], processes: int, *, program: tuple[str, ...] = (__file__,), code: int = 0) -> str:
    """Runs this file's main, or another program, in several processes on the CPU, as torchrun does; what was said."""
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [*command, *program, *arguments], cwd=ROOT, env=environment, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == code, done.stderr[-3000:]
    return done.stderr


def test_what_stops_the_first_process_stops_all_with_its_line(small_data: Path, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    said = launch(
        ["train", str(small_data), "--device", "cpu", "--budget", "20KB", "--out", str(tmp_path)],
        2,
        program=("-m", "escort_cli"),
        code=1,
    )
    # The launcher ends the other process once one has failed, perhaps before it has said the same.
    assert said.count("holds a run already: --resume it") in (1, 2)
    assert "Traceback" not in said.partition("torch/distributed")[0]
    assert "[rank1]" not in said


def test_two_processes_learn_what_one_does(small_data: Path, tmp_path: Path) -> None:
    """The same exemplars, and figures that differ by no more than one image (rounding in sums of two parts).

    Slow, as two processes import torch: nothing else shows that they agree.
    """
    from safetensors.torch import load_file

    # Small steps: what differs at first are last digits, and training multiplies them.
    options: dict[str, Any] = {"cache": str(tmp_path / "cache"), "batch_size": 9, "image_size": 32, "lr": 0.0003}
    runs = {"icarl": {**options, "eval_views": "both"}, "der": {**options, "keep": "50% original + 50% prompt"}}
    runs |= {name: {**options, "epochs": 1} for name in ("bic", "ewc")}  # several stages; a stage of gradients
    for method, each in runs.items():
        train(quick(small_data, method=method, **each), out=tmp_path / "one" / method)
    launch([str(small_data), json.dumps(runs), str(tmp_path / "two")], 2)
    for method in runs:
        one, two = tmp_path / "one" / method, tmp_path / "two" / method
        records, expected = (
            [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()] for run in (two, one)
        )
        assert len(records) == len(expected) == 3
        for record, wanted in zip(records, expected, strict=True):
            assert record["images"] == wanted["images"]  # no doubles, none left out
            for view, figures in record["views"].items():
                near = pytest.approx(wanted["views"][view]["top1"], abs=100 / record["images"] + 0.01)
                assert figures["top1"] == near
        if method != "ewc":
            assert (two / "memory.escx").read_bytes() == (one / "memory.escx").read_bytes()
        weights = load_file(two / "model.safetensors")
        for name, value in load_file(one / "model.safetensors").items():
            assert torch.allclose(value.double(), weights[name].double(), rtol=2e-2, atol=2e-3), name


def test_batch_normalisation_across_one_process_is_the_plain_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.distributed, "all_reduce", lambda values: None)
    torch.manual_seed(0)
    plain = nn.BatchNorm2d(3)
    with torch.no_grad():
        plain.weight.uniform_()
        plain.bias.uniform_()
    network = nn.Sequential(nn.BatchNorm2d(3))
    network[0].load_state_dict(plain.state_dict())
    weight = network[0].weight
    normalise_across(network, gpu=False)
    (across,) = network
    assert type(across) is BatchNormAcross
    assert across.weight is weight  # the optimiser's own
    normalise_across(network, gpu=False)
    assert network[0] is across
    images = torch.randn(5, 3, 4, 4) * 3 + 1
    inputs = [images.clone().requires_grad_() for _ in range(2)]
    outputs = [norm(each) for norm, each in zip((plain, across), inputs, strict=True)]
    assert torch.allclose(outputs[0], outputs[1], atol=1e-5)
    for output in outputs:
        output.square().mul(torch.arange(output.numel()).reshape(output.shape)).mean().backward()
    assert torch.allclose(inputs[0].grad, inputs[1].grad, atol=1e-3)  # type: ignore[arg-type]
    assert torch.allclose(plain.weight.grad, across.weight.grad, rtol=1e-3)  # type: ignore[arg-type]
    for name, value in plain.state_dict().items():
        assert torch.allclose(value.float(), across.state_dict()[name].float(), atol=1e-5), name
    assert torch.allclose(plain.eval()(images), across.eval()(images), atol=1e-5)


def test_accumulation_and_bf16(small_data: Path, tmp_path: Path) -> None:
    options: dict[str, Any] = {"method": "finetune", "epochs": 1, "increment": 5}
    train(quick(small_data, gradient_accumulation=3, **options), out=tmp_path / "parts")
    half = train(quick(small_data, mixed_precision="bf16", **options), out=tmp_path / "half")
    assert half.config.mixed_precision == "bf16"
    # bf16 rounds: the weights are near, but not the same.
    plain = train(quick(small_data, **options), out=tmp_path / "plain")
    from safetensors.torch import load_file

    one, two = (load_file(result.folder / "model.safetensors")["head.weight"] for result in (half, plain))
    assert not torch.equal(one, two)
    assert torch.allclose(one, two, atol=0.05)


def test_what_cannot_be_run() -> None:
    with pytest.raises(ConfigError, match="fp16 needs a GPU"):
        Devices("cpu", "fp16")
    with pytest.raises(UnknownNameError, match="no tracker is called 'visdom'"):
        check_trackers(["visdom"])
    with pytest.raises(ConfigError, match="device = 'tpu'"):
        Devices("tpu")


def test_on_gpus_batch_normalisation_is_torchs_own() -> None:
    network = nn.Sequential(nn.Sequential(nn.BatchNorm2d(3, momentum=0.2)), nn.ReLU())
    state = {name: value.clone() for name, value in network.state_dict().items()}
    network.eval()
    normalise_across(network, gpu=True)
    across = network.get_submodule("0.0")
    assert type(across) is nn.SyncBatchNorm
    assert (across.momentum, across.training) == (0.2, False)
    assert all(torch.equal(value, state[name]) for name, value in network.state_dict().items())


def test_wandb_keeps_its_files_in_the_run_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[Any] = []

    class Run:
        def log(self, figures: dict[str, float], step: int) -> None:
            calls.append((figures, step))

        def finish(self) -> None:
            calls.append("finished")

    module = ModuleType("wandb")
    module.__spec__ = importlib.util.spec_from_loader("wandb", None)

    def init(**options: Any) -> Run:
        calls.append(options)
        return Run()

    module.init = init  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "wandb", module)
    tracker = WandB(tmp_path / "run", {"lr": 0.1})
    tracker.log({"train/loss": 0.5}, 3)
    tracker.close()
    options = {"project": "escort", "dir": str(tmp_path / "run"), "name": "run", "config": {"lr": 0.1}}
    assert calls == [options, ({"train/loss": 0.5}, 3), "finished"]


def test_tensorboard(small_data: Path, tmp_path: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    config = quick(small_data, method="finetune", increment=3, track=("tensorboard",), lr=0.02)
    result = train(config, out=tmp_path / "run")
    (file,) = [path for path in (tmp_path / "run").rglob("*tfevents*") if "top1" in str(path.read_bytes())]
    events = EventAccumulator(str(file))
    events.Reload()
    losses = events.Scalars("train/loss")
    assert [event.step for event in losses] == [1, 2, 3, 4]
    top1 = events.Scalars("real/top1")
    assert [event.step for event in top1] == [2, 4]
    assert [event.value for event in top1] == pytest.approx([record["top1"] for record in result.records], abs=1e-3)


def main(data: str, runs: str, out: str) -> None:
    """Trains in one of several processes."""
    torch.set_num_threads(1)
    for method, options in json.loads(runs).items():
        train(quick(data, method=method, **options), out=Path(out) / method)


if __name__ == "__main__":
    with end_at_once():
        main(*sys.argv[1:])
