"""The manifest: what a kill or several processes leave is repaired."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

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


def test_parts_of_several_processes_become_one(tmp_path: Path) -> None:
    for part, names in (("", "ab"), ("rank00", "bc"), ("rank01", "d")):
        writer = ManifestWriter(tmp_path, part)
        for name in names:
            writer.add(_entry(f"{name}.jpg", seed=len(part)))
            (tmp_path / f"{name}.jpg").write_bytes(b"x")
        writer.close()
    repair(tmp_path)
    assert {line["image"]: line["seed"] for line in _lines(tmp_path)} == {
        "a.jpg": 0,
        "b.jpg": 6,
        "c.jpg": 6,
        "d.jpg": 6,
    }
    assert sorted(p.name for p in tmp_path.glob("manifest*")) == ["manifest.jsonl"]
