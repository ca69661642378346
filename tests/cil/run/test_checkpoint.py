"""A run that is killed and resumed ends with the same metrics, memory and weights as one that was not."""

from __future__ import annotations

import itertools
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from escort_cil.run.checkpoint import Checkpoints, CheckpointState, load_tensors, save_tensors
from escort_cil.run.folder import RunFolder
from escort_cil.trainer import train
from escort_codec.errors import ConfigError, TrainingError
from tests.cil.run_folders import records_of
from tests.cil.small_runs import is_event, logged, quick

pytestmark = pytest.mark.usefixtures("one_thread")
RESULTS = ("metrics.jsonl", "memory.escx", "model.safetensors", "confusion.npz")


class Killed(BaseException):
    """Nothing of ours catches it, as nothing catches SIGKILL."""


def killer(at: int) -> Callable[[str], None]:
    """Dies at the event numbered ``at``."""
    events = itertools.count(1)

    def report(line: str) -> None:
        if is_event(line) and next(events) > at:
            raise Killed

    return report


def results(folder: Path) -> dict[str, bytes]:
    return {name: (folder / name).read_bytes() for name in RESULTS}


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(tmp_path_factory.mktemp("cache"))


@pytest.fixture(scope="module")
def whole(
    one_thread: None, small_data: Path, tmp_path_factory: pytest.TempPathFactory, cache: str
) -> dict[str, dict[str, bytes]]:
    """What runs that were not killed leave, by method."""
    found = {}
    for method in ("icarl", "memo"):
        out = tmp_path_factory.mktemp("whole") / method
        train(quick(small_data, method=method, cache=cache, eval_views="both"), out=out)
        found[method] = results(out)
    return found


# Events of a run: three phases, each: begun, epoch, epoch, ended.
@pytest.mark.parametrize(
    ("method", "points"),
    [("icarl", (0, 1, 4)), ("icarl", (3,)), ("icarl", (6, 0, 1)), ("memo", (5, 2)), ("memo", (10,))],
)
def test_killed_and_resumed(
    method: str,
    points: tuple[int, ...],
    small_data: Path,
    tmp_path: Path,
    cache: str,
    whole: dict[str, dict[str, bytes]],
) -> None:
    """Dies at each of ``points`` events after it began or was resumed, then runs to the end."""
    config = quick(small_data, method=method, cache=cache, eval_views="both")
    out = tmp_path / "run"
    for i, point in enumerate(points):
        with pytest.raises(Killed), logged(killer(point)):
            train(config, out=out, resume=i > 0)
    train(config, out=out, resume=True)
    assert results(out) == whole[method]
    assert not (out / "checkpoint").exists()
    train(config, out=out, resume=True)  # finished: nothing is done
    assert results(out) == whole[method]


def test_images_of_learnt_classes_are_not_needed_to_resume(
    small_data: Path, tmp_path: Path, cache: str, whole: dict[str, dict[str, bytes]]
) -> None:
    """The training images of finished phases are deleted before the run goes on."""
    data = tmp_path / "data"
    shutil.copytree(small_data, data)
    config = quick(data, cache=cache, eval_views="both")
    out = tmp_path / "run"
    with pytest.raises(Killed), logged(killer(5)):  # in the second phase
        train(config, out=out)
    order = json.loads((out / "config.json").read_text("utf-8"))["class_order"]
    learnt = sum(json.loads((out / "metrics.jsonl").read_text("utf-8").splitlines()[-1])["groups"])
    assert 0 < learnt < len(order)
    for label in order[:learnt]:
        shutil.rmtree(data / "train" / label)
    train(config, out=out, resume=True)
    assert results(out) == whole["icarl"]


def test_killed_between_the_checkpoint_and_what_it_publishes(
    small_data: Path, tmp_path: Path, cache: str, whole: dict[str, dict[str, bytes]], monkeypatch: pytest.MonkeyPatch
) -> None:
    config = quick(small_data, cache=cache, eval_views="both")

    def die(self: Checkpoints, phase: int) -> None:
        raise Killed

    with monkeypatch.context() as patched:
        patched.setattr(Checkpoints, "publish", die)
        with pytest.raises(Killed):
            train(config, out=tmp_path / "run")
    assert not (tmp_path / "run" / "memory.escx").exists()
    train(config, out=tmp_path / "run", resume=True)
    assert results(tmp_path / "run") == whole["icarl"]


@pytest.mark.skipif(os.name == "nt", reason="Windows has no SIGKILL")
def test_sigkill(small_data: Path, tmp_path: Path, cache: str, whole: dict[str, dict[str, bytes]]) -> None:
    # A process of its own, so slow: SIGKILL is the one end that nothing can tidy up after.
    out = tmp_path / "run"
    script = (
        "from pathlib import Path; import sys, torch; torch.set_num_threads(1); "
        "from tests.cil.small_runs import quick; from escort_cil.trainer import train; "
        "train(quick(sys.argv[1], cache=sys.argv[2], eval_views='both'), out=Path(sys.argv[3]))"
    )
    command = [sys.executable, "-c", script, str(small_data), cache, str(out)]
    process = subprocess.Popen(command, cwd=Path(__file__).parents[3])
    deadline = time.monotonic() + 120
    try:
        while not list(out.glob("checkpoint/phase001-epoch00001*")) and process.poll() is None:
            assert time.monotonic() < deadline
            time.sleep(0.001)
        process.send_signal(signal.SIGKILL)
    finally:
        process.kill()
    assert process.wait() in (-signal.SIGKILL, 0)
    train(quick(small_data, cache=cache, eval_views="both"), out=out, resume=True)
    assert results(out) == whole["icarl"]


def test_another_configuration_is_shown(small_data: Path, tmp_path: Path, cache: str) -> None:
    out = tmp_path / "run"
    with pytest.raises(Killed), logged(killer(2)):
        train(quick(small_data, cache=cache), out=out)
    with pytest.raises(ConfigError, match=r"budget was '8KB', is '9KB'; eval_views was 'real', is 'both'"):
        train(quick(small_data, cache=cache, budget="9000", eval_views="both"), out=out, resume=True)
    with pytest.raises(ConfigError, match=r"method_options was .*'temperature': 2.0.*is .*'temperature': 3"):
        train(quick(small_data, cache=cache, method_options={"temperature": 3}), out=out, resume=True)
    # Where it runs may differ.
    train(quick(small_data, cache=cache, workers=2, checkpoint_every=5), out=out, resume=True)


def test_damaged_checkpoints_are_named(small_data: Path, tmp_path: Path, cache: str) -> None:
    out = tmp_path / "run"
    config = quick(small_data, cache=cache)
    with pytest.raises(Killed), logged(killer(2)):
        train(config, out=out)
    shutil.copytree(out, tmp_path / "other")
    (tensors,) = (out / "checkpoint").glob("*.safetensors")
    tensors.write_bytes(tensors.read_bytes()[:1000])
    with pytest.raises(TrainingError, match=r"safetensors: the weights cannot be read"):
        train(config, out=out, resume=True)
    (tmp_path / "other" / "checkpoint" / "state.json").write_text('{"format": 1}')
    with pytest.raises(TrainingError, match=r"state.json: the checkpoint is damaged"):
        train(config, out=tmp_path / "other", resume=True)


def test_old_checkpoints_are_removed_as_new_ones_are_complete(tmp_path: Path) -> None:
    import torch

    checkpoints = Checkpoints(tmp_path)
    assert checkpoints.load() is None
    checkpoints.save(CheckpointState(0, 3), {"network.w": torch.arange(4.0)})
    records = tuple(records_of((2,)))
    checkpoints.save(CheckpointState(1, 0, records=records, random={"model_seed": 1}), {"network.w": torch.ones(2)})
    state = checkpoints.load()
    assert state is not None
    assert (state.phase, state.epoch, state.records, state.random) == (1, 0, records, {"model_seed": 1})
    assert checkpoints.tensors(state)["network.w"].tolist() == [1, 1]
    assert sorted(path.name for path in checkpoints.folder.iterdir()) == [
        "phase001-epoch00000.safetensors",
        "state.json",
    ]
    save_tensors(tmp_path / "w.safetensors", {"a": torch.ones(2, 2).t()})
    assert load_tensors(tmp_path / "w.safetensors")["a"].shape == (2, 2)


def test_a_folder_without_a_run(tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match="is not a run folder"):
        RunFolder(tmp_path).train_config()
    for seed in (7, 1993):
        (tmp_path / f"seed{seed}").mkdir()
        (tmp_path / f"seed{seed}" / "config.json").write_text("{}")
    with pytest.raises(TrainingError, match=r"holds runs and is not one: give .*seed1993 or 1 more"):
        RunFolder(tmp_path).train_config()
