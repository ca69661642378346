"""Fuzz targets of what is read beside .escx files: run folders, configurations, and manifests.

An input of a JSON file is its text. One that begins with a NUL byte is changes to a valid text, so that what stands
behind the first check is reached too: three bytes each, of which two choose a place, the third a value to put there.
"""

from __future__ import annotations

import io
import json
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from escort_cil.report import tables
from escort_cil.report.runs import group_runs, read_run
from escort_cil.run.checkpoint import Checkpoints
from escort_cil.run.command import configure
from escort_cil.run.figures import load_figures, read_records, save_figures
from escort_cil.run.folder import RunFolder
from escort_cil.run.recorder import phase_line, phase_values
from escort_cil.run.settings import TrainConfig
from escort_cli.train import accuracy_table, memory_table
from escort_codec.errors import EscortError, TrainingError
from escort_codec.export.manifest import ManifestEntry, read_manifest
from tests.cil.run_folders import records_of

GROUPS = (2, 1, 2)
LABELS = ["ant", "bee", "cat", "dog", "eel"]
VALUES: tuple[Any, ...] = (
    *(None, True, False, 0, -1, 1, 2, 3, 5, 99.5, -0.5, 101, 1e15, 1e300, 2**31, 2**32, 2**53, 2**63 - 1, -(2**63)),
    *("", "x", "real", "a\nb", "\x1b[2J", "\u202e", "../x", "/", "x" * 300, "0", "1e9", "nan", "[1]", "{", "null"),
    *([], [[]], [0], [1, 1], ["a"], [None], {}, {"a": 1}, {"real": {}}, {"phase": 0}),
)
RECORDS = records_of(GROUPS)
STATE = {
    "format": 1,
    "phase": 3,
    "epoch": 2,
    "tensors": "phase003-epoch00002.safetensors",
    "records": RECORDS,
    "random": {"model_seed": 1, "phase": 3, "epoch": 2},
}
CONFIG = {"version": "1", "command": ["escort", "train"], **TrainConfig(class_order=tuple(LABELS)).to_map()}
PYCIL = {"model_name": "icarl", "convnet_type": "resnet18", "init_cls": 2, "increment": 2, "seed": [1993, 7]}
PYCIL |= {"memory_size": 2000, "memory_per_class": 20, "fixed_memory": False, "device": ["0"], "num_workers": 0}
PYCIL |= {"real_per_class": 3, "syn_per_class": 4, "milestones": [80, 120], "T": 2, "lrate": 0.1, "shuffle": True}
SPLIT = {label: {"train": ["1.jpg", "2.jpg"], "test": ["3.jpg"]} for label in LABELS}
ENTRY = ManifestEntry("cat/1_seed00.jpg", "cat/1.jpg", "cat", 1, seed=0, recipe={"steps": 3}, digest="0" * 16)

_folder = tempfile.TemporaryDirectory(prefix="escort-fuzz-run-")
RUN = Path(_folder.name)
(RUN / "checkpoint").mkdir()


def places(value: Any) -> Iterator[tuple[Any, Any]]:
    """(container, key) of everything inside a JSON value."""
    for key in list(value) if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else ():
        yield value, key
        yield from places(value[key])


def text_of(data: bytes, valid: Any) -> bytes:
    """The JSON text that an input stands for; see the module."""
    if not data.startswith(b"\0"):
        return data
    value = json.loads(json.dumps(valid))
    for at in range(1, len(data) - 2, 3):
        found = list(places(value))
        if not found:
            break
        container, key = found[int.from_bytes(data[at : at + 2], "little") % len(found)]
        choice = data[at + 2]
        if choice == 255:
            del container[key]
        elif choice == 254 and isinstance(container, dict):
            container[f"{key}x"] = container.pop(key)
        else:
            container[key] = json.loads(json.dumps(VALUES[choice % len(VALUES)]))
    return json.dumps(value).encode()


def check_message(error: EscortError) -> None:
    """The message is one line for any bytes."""
    assert "\n" not in str(error)


def taken(read: Callable[[], Any]) -> Any:
    """What ``read`` returns, or None if it refuses the file with one line."""
    try:
        return read()
    except EscortError as exc:
        check_message(exc)
        return None


def metrics(data: bytes) -> None:
    """metrics.jsonl: what is accepted can be printed, followed, and shown on a page."""
    if data.startswith(b"\0"):
        lines = json.loads(text_of(data, RECORDS) or "[]")
        data = b"".join(json.dumps(line).encode() + b"\n" for line in (lines if isinstance(lines, list) else [lines]))
    (RUN / "metrics.jsonl").write_bytes(data)
    records = taken(lambda: read_records(RUN / "metrics.jsonl"))
    (RUN / "config.json").write_text(json.dumps(CONFIG))
    run = taken(lambda: read_run(RUN))
    assert records is None or not records or run is not None
    for record in records or ():
        assert "\n" not in phase_line(record)
        assert all(isinstance(value, float) for value in phase_values(record).values())
    if records:
        accuracy_table(records)
        memory_table(records)
    if run is not None:
        groups = group_runs([run])
        tables.results_table(groups)
        tables.views_table(groups)
        tables.phases_table(groups)
        tables.run_tables(run, run.labels, None)


def state(data: bytes) -> None:
    """checkpoint/state.json: what is accepted is whole, and leads nowhere else."""
    (RUN / "checkpoint" / "state.json").write_bytes(text_of(data, STATE))
    found = taken(Checkpoints(RUN).load)
    if found is not None:
        assert len(found.records) == found.phase
        assert "/" not in found.tensors


def config(data: bytes) -> None:
    """config.json: what is accepted is a configuration that is written as it was read; a report shows any object."""
    (RUN / "config.json").write_bytes(text_of(data, CONFIG))
    found = taken(RunFolder(RUN).train_config)
    if found is not None:
        assert TrainConfig.from_map(json.loads(json.dumps(found.to_map()))) == found
        taken(found.hyperparameters)
        taken(found.encode_options)
    (RUN / "metrics.jsonl").write_text("".join(json.dumps(record) + "\n" for record in RECORDS))
    run = taken(lambda: read_run(RUN))
    if run is not None:
        group_runs([run, run])
        tables.configuration_table(run)


def config_file(data: bytes) -> None:
    """``--config``: PyCIL's keys, ours, or both."""
    (RUN / "given.json").write_bytes(text_of(data, PYCIL if len(data) % 2 else {**CONFIG, **PYCIL}))
    taken(lambda: configure({}, file=RUN / "given.json"))


def split(data: bytes) -> None:
    """split.json: lists of names."""
    (RUN / "split.json").write_bytes(text_of(data, SPLIT))
    found = taken(RunFolder(RUN).read_split)
    for each in (found or {}).values():
        assert all(isinstance(name, str) for name in (*each.train, *each.test))


def counts(data: bytes) -> None:
    """confusion.npz: what is accepted has figures, and is the same when it is written and read again."""
    (RUN / "confusion.npz").write_bytes(data)
    try:
        found = load_figures(RUN / "confusion.npz")
    except TrainingError as exc:
        check_message(exc)
        return
    if found.phases:
        record = found.to_record()
        save_figures(found, RUN / "again.npz")
        assert load_figures(RUN / "again.npz").to_record() == record


def manifest(data: bytes) -> None:
    """manifest.jsonl: invalid lines are passed over, and what is accepted stays inside the folder."""
    if data.startswith(b"\0"):
        data = text_of(data, json.loads(ENTRY.line())) + b"\n" + ENTRY.line()
    (RUN / "manifest.jsonl").write_bytes(data)
    for image, entry in (taken(lambda: read_manifest(RUN)) or {}).items():
        assert image == entry.image
        assert not Path(image).is_absolute()
        assert ".." not in Path(image).parts
        entry.line()


TARGETS: tuple[Callable[[bytes], None], ...] = (metrics, state, config, config_file, split, counts, manifest)


def inputs() -> Iterator[tuple[int, bytes]]:
    """What to begin with: the number of a target here, and an input."""
    for number, valid in enumerate((RECORDS, STATE, CONFIG, PYCIL, SPLIT)):
        text = "".join(json.dumps(line) + "\n" for line in valid) if valid is RECORDS else json.dumps(valid)
        yield number, text.encode()
        yield number, b"\0"
        yield from ((number, b"\0" + bytes([place, 0, value])) for place, value in ((0, 0), (3, 7), (9, 40), (20, 255)))
    number = TARGETS.index(counts)
    for arrays in (
        {},
        {"groups": np.array([2]), "0/real/linear/confusion": np.eye(2, dtype=np.int64)},
        {"groups": np.array([2]), "0/real/linear/confusion": np.zeros((2, 3), np.int64)},
    ):
        for save in (np.savez, np.savez_compressed):
            file = io.BytesIO()
            save(file, allow_pickle=False, **arrays)
            yield number, file.getvalue()
    number = TARGETS.index(manifest)
    yield number, ENTRY.line() * 2 + ENTRY.line()[:-7]
    yield from ((number, b"\0" + bytes([place, 0, 19])) for place in range(8))
