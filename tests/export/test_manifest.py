"""The manifest: what a kill or several processes leave is repaired."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from escort_codec.export.manifest import ManifestEntry, ManifestWriter, read_manifest, repair


def _lines(out: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (out / "manifest.jsonl").read_text("utf-8").splitlines()]


def _entry(image: str, **more: Any) -> ManifestEntry:
    return ManifestEntry(image, "cat/a", "cat", 0, **more)


def test_a_torn_line_a_second_line_and_a_lost_image_are_put_right(tmp_path: Path) -> None:
    for name in ("a.jpg", "b.jpg", "c.jpg"):
        (tmp_path / name).write_bytes(b"x")
    text = b"".join(_entry(n, seed=1).line() for n in ("a.jpg", "b.jpg", "gone.jpg", "../a.jpg", "/a.jpg"))
    text += b"[1]\nnull\n" + _entry("a.jpg", seed=2).line() + _entry("c.jpg").line()[:-9]
    (tmp_path / "manifest.jsonl").write_bytes(text)
    assert set(read_manifest(tmp_path)) == {"a.jpg", "b.jpg", "gone.jpg"}
    repair(tmp_path)
    assert [(line["image"], line["seed"]) for line in _lines(tmp_path)] == [("a.jpg", 2), ("b.jpg", 1)]
    assert (tmp_path / "manifest.jsonl").read_bytes().endswith(b"\n")
    before = (tmp_path / "manifest.jsonl").stat()
    repair(tmp_path)  # nothing is wrong now: it is left alone
    assert (tmp_path / "manifest.jsonl").stat() == before


def test_any_truncation_loses_one_line_at_most(tmp_path: Path) -> None:
    lines = [_entry(f"{n}.jpg").line() for n in range(2)]
    for n in range(2):
        (tmp_path / f"{n}.jpg").write_bytes(b"x")
    whole = b"".join(lines)
    for end in range(len(whole)):
        (tmp_path / "manifest.jsonl").write_bytes(whole[:end])
        repair(tmp_path)
        wanted = whole[:end].count(b"\n")
        # A last line that lacks its newline alone is whole.
        assert len(_lines(tmp_path)) in (wanted, wanted + (end + 1 in np.cumsum([len(x) for x in lines])))


@pytest.mark.parametrize(
    "line",
    [
        {"recipe": [1]},
        {"recipe": "x"},
        {"label": "\ud800"},
        {"number": "7"},
        {"seed": 1.5},
        {"image": 3},
        {"image": "a\0.jpg"},
        {"image": "../a.jpg"},
    ],
)
def test_a_line_of_another_kind_is_ignored(tmp_path: Path, line: dict[str, Any]) -> None:
    """A manifest may come from elsewhere."""
    entry = {"image": "a.jpg", "exemplar": "cat/a", "label": "cat", "number": 0}
    (tmp_path / "manifest.jsonl").write_text(json.dumps(entry | line) + "\n")
    assert read_manifest(tmp_path) == {}
    (tmp_path / "manifest.jsonl").write_text(json.dumps(entry) + "\n" + "[" * 100_000 + "\n")
    assert set(read_manifest(tmp_path)) == {"a.jpg"}


def test_a_name_that_no_file_can_have_is_no_image(tmp_path: Path) -> None:
    (tmp_path / "manifest.jsonl").write_bytes(_entry(f"{'x' * 300}.jpg").line())
    repair(tmp_path)
    assert _lines(tmp_path) == []


def test_a_folder_is_no_part(tmp_path: Path) -> None:
    (tmp_path / "manifest.a.jsonl").mkdir()
    (tmp_path / "manifest.0.jsonl").mkdir()
    (tmp_path / "manifest.b.jsonl").write_bytes(_entry("b.jpg").line())
    repair(tmp_path)
    assert read_manifest(tmp_path) == {}
    assert len(list(tmp_path.iterdir())) == 3


def test_parts_of_several_processes_become_one(tmp_path: Path) -> None:
    for part, names in ((None, "ab"), (0, "bc"), (1, "d")):
        writer = ManifestWriter(tmp_path, part)
        for name in names:
            writer.add(_entry(f"{name}.jpg", seed=-1 if part is None else part))
            (tmp_path / f"{name}.jpg").write_bytes(b"x")
        writer.close()
    repair(tmp_path)
    assert {line["image"]: line["seed"] for line in _lines(tmp_path)} == {
        "a.jpg": -1,
        "b.jpg": 0,
        "c.jpg": 0,
        "d.jpg": 1,
    }
    assert sorted(p.name for p in tmp_path.glob("manifest*")) == ["manifest.jsonl"]
