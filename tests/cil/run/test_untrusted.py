"""Run folders of strangers: links, pipes and folders in the place of files, and files that say what no run says."""

from __future__ import annotations

import json
import logging
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from escort_cil.demo.drawings import draw_dataset
from escort_cil.evaluation import evaluate_run
from escort_cil.report import write_report
from escort_cil.run.checkpoint import Checkpoints
from escort_cil.run.command import configure
from escort_cil.run.figures import load_figures, read_records, record_fault
from escort_cil.run.folder import RunFolder
from escort_cil.trainer import train
from escort_codec.container import pack
from escort_codec.errors import BusyError, EscortError, OutputError, TrainingError
from tests.cil.run_folders import records_of
from tests.cil.small_runs import is_event, logged, quick
from tests.helpers import make_exemplars

pytestmark = [
    pytest.mark.usefixtures("one_thread"),
    pytest.mark.skipif(not hasattr(os, "O_NOFOLLOW"), reason="Windows lets few users make links"),
]


class Stopped(BaseException):
    """The end of a run that is not to be finished."""


@pytest.fixture(scope="module")
def half(one_thread: None, small_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that was stopped in its second phase."""
    out = tmp_path_factory.mktemp("half") / "run"
    events: list[str] = []

    def stop(line: str) -> None:
        events.append(line)
        if sum(map(is_event, events)) > 6:
            raise Stopped

    with pytest.raises(Stopped), logged(stop):
        train(quick(small_data), out=out)
    return out


@pytest.fixture(scope="module")
def whole(half: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same run, finished."""
    out = tmp_path_factory.mktemp("whole") / "run"
    shutil.copytree(half, out)
    resume(out)
    return out


def resume(run: Path) -> None:
    train(configure({}, resume=run).config, out=run, resume=True)


def tree(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


LINKED = ("config.json", "log.txt", "metrics.jsonl", "confusion.npz", "memory.escx", "model.safetensors")


@pytest.mark.parametrize("name", [*LINKED, "split.json", "checkpoint", "checkpoint/state.json", "cache", "tensorboard"])
def test_links_in_a_run_are_not_followed(half: Path, small_data: Path, tmp_path: Path, name: str) -> None:
    run, home = tmp_path / "run", tmp_path / "home"
    shutil.copytree(half, run)
    home.mkdir()
    place = run / name
    if place.exists():
        shutil.move(place, home / place.name)  # what stands behind the link is what belongs there
    else:
        (home / place.name).mkdir()
    place.symlink_to(home / place.name)
    (home / "phase000-epoch00001.safetensors").write_bytes(b"mine")
    before = tree(home)
    with pytest.raises(EscortError, match=r"link") as caught:
        resume(run)
    assert "\n" not in str(caught.value)
    for use in (lambda: evaluate_run(run, small_data), lambda: write_report([run], tmp_path / "report.html")):
        try:
            use()
        except EscortError as exc:
            assert "link" in str(exc)  # noqa: PT017 - not all files are needed for each
    assert tree(home) == before
    # To replace the run removes the link, and nothing behind it.
    if name not in ("cache", "tensorboard"):
        train(quick(small_data, increment=5, epochs=1), out=run, force=True)
        assert tree(home) == before
        assert not place.is_symlink()


def test_a_second_name_of_another_file_is_not_appended_to(half: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    shutil.copytree(half, run)
    (tmp_path / "mine").write_text("mine\n")
    (run / "log.txt").unlink()
    os.link(tmp_path / "mine", run / "log.txt")
    resume(run)
    assert (tmp_path / "mine").read_text() == "mine\n"
    assert (run / "log.txt").read_text().startswith("mine\n")


@pytest.mark.parametrize("name", [*LINKED, "checkpoint/state.json"])
@pytest.mark.parametrize("make", [Path.mkdir, os.mkfifo], ids=["folder", "pipe"])
def test_folders_and_pipes_are_refused_at_once(
    half: Path, small_data: Path, tmp_path: Path, name: str, make: Callable[[Path], None]
) -> None:
    run = tmp_path / "run"
    shutil.copytree(half, run)
    (run / name).unlink()
    make(run / name)
    for use in (
        lambda: resume(run),
        lambda: evaluate_run(run, small_data),
        lambda: write_report([run], tmp_path / "report.html", pictures=0),
    ):
        try:
            use()
        except EscortError as exc:
            assert "\n" not in str(exc)  # noqa: PT017 - not all files are needed for each


def test_files_of_others_in_checkpoint_stay(half: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    shutil.copytree(half, run)
    mine = {"precious.safetensors": b"a", "after000-notes.txt": b"b", "afterx-memory.escx": b"c", "notes.txt": b"d"}
    for name, data in mine.items():
        (run / "checkpoint" / name).write_bytes(data)
    resume(run)
    assert tree(run / "checkpoint") == mine
    assert RunFolder(run).finished((2, 2, 1)) is not None  # it is finished all the same
    resume(run)


def test_texts_in_the_log_stay_on_their_line(small_data: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    folder = RunFolder(out)
    folder.begin(force=False)
    with folder.logging():
        logging.getLogger("escort_cil").info("made by %s", "x\n2026-01-01 00:00:00 phase 9 over\x1b[2J")
    lines = (out / "log.txt").read_text("utf-8").splitlines()
    assert len(lines) == 1
    assert "made by x\\n2026" in lines[0]
    assert "\x1b" not in lines[0]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_full_disk_under_the_log_is_said_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("escort_cil.run.folder._open_log", lambda path: os.open("/dev/full", os.O_WRONLY))
    log = logging.getLogger("escort_cil")
    with RunFolder(tmp_path).logging():
        for _ in range(3):
            log.info("a line")
    said = [record.getMessage() for record in caplog.records if "cannot be written" in record.getMessage()]
    assert len(said) == 1
    assert said[0].endswith("log.txt: cannot be written: No space left on device: the run continues without it")


def test_a_stopped_run_without_its_checkpoint_says_what_can_be_done(
    half: Path, small_data: Path, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    shutil.copytree(half, run)
    shutil.rmtree(run / "checkpoint")
    before = tree(run)
    with pytest.raises(
        TrainingError, match=r"1 of 3 phases are finished, but checkpoint/ is missing.*evaluate.*`force`"
    ):
        resume(run)
    assert tree(run) == before
    assert evaluate_run(run, small_data).main.groups == (2,)


def test_a_run_that_was_stopped_before_its_first_checkpoint_begins_anew(small_data: Path, tmp_path: Path) -> None:
    config = quick(small_data, increment=5, epochs=1)

    def stop(line: str) -> None:
        if is_event(line):
            raise Stopped

    with pytest.raises(Stopped), logged(stop):
        train(config, out=tmp_path / "run")
    train(config, out=tmp_path / "run", resume=True)
    assert RunFolder(tmp_path / "run").finished((5,)) is not None


# What the files say


def change(record: dict[str, Any], path: str, value: Any) -> dict[str, Any]:
    changed: dict[str, Any] = json.loads(json.dumps(record))
    *parents, last = path.split("/")
    place = changed
    for parent in parents:
        place = place[parent]
    if value is ...:
        del place[last]
    else:
        place[last] = value
    return changed


RECORDS = records_of((2, 3))


def test_what_training_writes_is_taken() -> None:
    assert [record_fault(record, RECORDS[:n]) for n, record in enumerate(RECORDS)] == ["", ""]
    assert record_fault(change(RECORDS[0], "later", {"a": 1}), ()) == ""  # another version may say more


WRONG: dict[str, list[Any]] = {
    "phase": [0, 2, "1", None, ..., -1, True, 1.0],
    "classes": [4, 10**9, True, "5", ..., 5.0],
    "groups": [[2], [2, 3, 1], [3, 2], [2, 10**9], [2, 0], [2, -3], [2, 3.0], "23", ..., []],
    "view": ["both", None, [], ...],
    "views": [{}, [], None, {"real": None}, {"other": {}}, ...],
    "top1": ["50", 101, -1, True, [], ...],
    "views/real/top1": ["50", 101, -1, True, [], ...],
    "forgetting": [-101, 101, "1"],
    "images": [-1, 1.5, None, 10**18],
    "accuracy_by_phase": [None, [], [1.0], [1.0, "2"], [1.0, 200.0], {}],
    "memory_bytes": [-1, None, "2", 10**18],
    "model_bytes": [-1, None, "2", 10**18],
    "memory_real_by_class": [[1], [1, 2, 3, 4, -5], None, "12345"],
}


@pytest.mark.parametrize(("path", "value"), [(path, value) for path, values in WRONG.items() for value in values])
def test_lines_that_no_run_writes_are_refused(path: str, value: Any) -> None:
    fault = record_fault(change(RECORDS[1], path, value), RECORDS[:1])
    assert fault
    assert "\n" not in fault


@pytest.mark.parametrize("line", ["[]", "{}", '"x"', '{"phase": NaN}', '{"a": 1e999}', "[" * 5000, "{", "\ud800"])
def test_a_line_is_named_by_its_number(tmp_path: Path, line: str) -> None:
    path = tmp_path / "metrics.jsonl"
    path.write_bytes(f"{json.dumps(RECORDS[0])}\n{line}\n".encode(errors="surrogatepass"))
    with pytest.raises(TrainingError, match=r"metrics\.jsonl, line 2: is not ") as caught:
        read_records(path)
    assert "\n" not in str(caught.value)
    path.write_bytes(path.read_bytes()[:-1])
    if line not in ("[]", "{}", '"x"'):  # torn by a kill, which a report passes over
        notices: list[str] = []
        assert read_records(path, notices=notices) == RECORDS[:1]
        assert notices == ["the last line of metrics.jsonl is incomplete and was skipped"]


STATE = {"format": 1, "phase": 1, "epoch": 2, "tensors": "phase001-epoch00002.safetensors", "records": RECORDS[:1]}
STATE["random"] = {"model_seed": 1, "phase": 1, "epoch": 2}


WRONG_STATE: dict[str, list[Any]] = {
    "phase": [-1, 2, "1", True, 1.0, None, 10**18],
    "epoch": [-1, 3, "2", None],
    "tensors": ["", "../x.safetensors", "/etc/passwd", "x\0", None, []],
    "records": [[], RECORDS, None, {}, [None], [{}]],
    "random": [None, [], {"a": "b"}, {"a": -1}],
    "more": [1],
}


@pytest.mark.parametrize(("key", "value"), [(key, value) for key, values in WRONG_STATE.items() for value in values])
def test_a_state_that_no_run_writes_is_refused(tmp_path: Path, key: str, value: Any) -> None:
    (tmp_path / "checkpoint").mkdir()
    path = tmp_path / "checkpoint" / "state.json"
    path.write_text(json.dumps(STATE))
    assert Checkpoints(tmp_path).load() is not None
    path.write_text(json.dumps({**STATE, key: value}))
    with pytest.raises(TrainingError, match=r"state\.json: the checkpoint is damaged"):
        Checkpoints(tmp_path).load()


@pytest.mark.parametrize(
    "arrays",
    [
        {"groups": np.array([2, 10**6])},
        {"groups": np.array([], np.int64), "0/real/linear/confusion": np.zeros((2, 2), np.int64)},
        {"groups": np.array([2]), "-1/real/linear/confusion": np.zeros((2, 2), np.int64)},
        {"groups": np.array([2]), "1/real/linear/confusion": np.zeros((2, 2), np.int64)},
        {"groups": np.array([2]), "0/real/nearest/confusion": np.zeros((2, 2), np.int64)},
        {"groups": np.array([2]), "0/other/linear/confusion": np.zeros((2, 2), np.int64)},
        {"groups": np.array([2]), "0/real/linear/confusion": np.full((2, 2), -1)},
        {"groups": np.array([2]), "0/real/linear/confusion": np.full((2, 2), 1 << 62)},
        {"groups": np.array([2]), "0/real/linear/confusion": np.zeros((2, 2))},
        {"groups": np.array([[2]]), "0/real/linear/confusion": np.zeros((2, 2), np.int64)},
        {"groups": np.array(["2"]), "0/real/linear/confusion": np.zeros((2, 2), np.int64)},
        {
            "groups": np.array([2]),
            "0/real/linear/confusion": np.zeros((2, 2), np.int64),
            "0/real/linear/within": np.ones(2, np.int64),
        },
    ],
)
def test_counts_that_no_run_writes_are_refused(tmp_path: Path, arrays: dict[str, Any]) -> None:
    with (tmp_path / "confusion.npz").open("wb") as file:
        np.savez_compressed(file, allow_pickle=False, **arrays)
    with pytest.raises(TrainingError, match=r"confusion\.npz: cannot be read: it is damaged"):
        load_figures(tmp_path / "confusion.npz")


def test_weights_that_no_run_writes_are_refused(half: Path, small_data: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    shutil.copytree(half, run)
    path = run / "model.safetensors"
    tensors = load_file(path)
    name = next(name for name, tensor in tensors.items() if tensor.dim() == 4)
    about = {"escort": json.dumps({"groups": [2]})}
    for changed, message in (
        ({name: torch.full_like(tensors[name], float("nan"))}, "is not finite"),
        ({name: tensors[name].to(torch.complex64)}, r"is torch\.complex64"),
        ({name: tensors[name][:1].clone()}, "another network"),
    ):
        save_file({**tensors, **changed}, path, about)
        with pytest.raises(TrainingError, match=message):
            evaluate_run(run, small_data)
    for groups in ([], [0], [True], [-1], ["2"], None, [10**9], [1, 1, 1, 1, 1]):
        save_file(tensors, path, {"escort": json.dumps({"groups": groups})})
        with pytest.raises(TrainingError):
            evaluate_run(run, small_data)
    (weights,) = (run / "checkpoint").glob("*.safetensors")
    held = load_file(weights)
    key = next(name for name in held if name.startswith("optimizer."))
    for wrong in (
        "optimizer.99999.momentum_buffer",
        "optimizer.x.momentum_buffer",
        "optimizer.0.other",
        "optimizer.1.2",
    ):
        save_file({**held, wrong: held[key].clone()}, weights)
        with pytest.raises(TrainingError, match="belongs to no weight"):
            resume(run)


def test_a_memory_of_other_classes_is_refused(half: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    shutil.copytree(half, run)
    (run / "memory.escx").write_bytes(pack([each for each in make_exemplars(8) if each.kind == "prompt"]))
    with pytest.raises(TrainingError, match=r"memory\.escx: holds '.*', which this run has not learnt"):
        resume(run)
    (run / "memory.escx").unlink()
    with pytest.raises(TrainingError, match=r"memory\.escx: cannot be read: No such file"):
        resume(run)


@pytest.mark.parametrize(
    ("key", "value"),
    [("image_size", "x"), ("image_size", -1), ("class_order", 5), ("epochs", 1.5), ("method", []), ("nothing", 1)],
)
def test_a_configuration_that_no_run_has_names_its_file(whole: Path, tmp_path: Path, key: str, value: Any) -> None:
    values = json.loads((whole / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps({**values, key: value}))
    with pytest.raises(TrainingError, match=rf"config\.json: .*{key}"):
        RunFolder(tmp_path).train_config()


def test_a_continued_run_follows_no_links(whole: Path, tmp_path: Path) -> None:
    draw_dataset(tmp_path / "data", classes=6, train=2, test=1, size=48)
    run = tmp_path / "run"
    shutil.copytree(whole, run)
    for name in LINKED:
        shutil.move(run / name, tmp_path / name)
        (run / name).symlink_to(tmp_path / name)
        with pytest.raises((TrainingError, OutputError), match="link"):
            train(configure({"data": str(tmp_path / "data")}, continued=run).config, out=tmp_path / "next")
        assert not (tmp_path / "next").exists()
        (run / name).unlink()
        shutil.move(tmp_path / name, run / name)


def test_a_run_is_written_by_one_process_at_a_time(half: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    shutil.copytree(half, run)
    with RunFolder(run).logging(), pytest.raises(BusyError, match="another process is training this run"):
        resume(run)
    resume(run)
