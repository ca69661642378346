"""docs/training.md from top to bottom, in a folder of its own.

Slow (half a minute): it is the tutorial, with a dozen training runs.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.pages import SHELL, blocks, run_block

PAGE = Path(__file__).parents[2] / "docs" / "training.md"


def lines_of(run: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (Path("runs") / run / "metrics.jsonl").read_text().splitlines()]


@pytest.mark.skipif(os.name == "nt", reason="the page is for a POSIX shell")
def test_the_tutorial(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        printed = [run_block(block) for block in blocks(PAGE, SHELL, run=True)]
    finally:
        torch.set_num_threads(threads)
    assert len(printed) == 21
    # What the page says came true.
    for name in ("config.json", "metrics.jsonl", "confusion.npz", "memory.escx", "model.safetensors", "log.txt"):
        assert Path("runs/first", name).exists()
        if name not in ("config.json", "log.txt"):
            assert Path("runs/first", name).read_bytes() == Path("runs/killed", name).read_bytes(), name
    assert lines_of("units")[-1]["memory_units"] == 4 * (1 + 12 / 24)
    for run in ("prompts/seed1993", "prompts/seed7", "originals/seed7", "webp/seed7", "first", "second"):
        assert Path("runs", run, "memory.escx").stat().st_size <= 12000
    assert lines_of("prompts/seed1993") == lines_of("first")
    assert lines_of("originals/seed7")[-1]["memory_prompt"] == 0
    assert lines_of("webp/seed7")[-1]["memory_real"] > lines_of("originals/seed7")[-1]["memory_real"]
    assert list(lines_of("views")[-1]["views"]) == ["both", "real", "regenerated"]
    assert '"temperature": 2.0' in "".join(printed)  # the paper's file, printed
    later = json.loads(Path("later.json").read_text())
    assert later["not_learnt"] == {"fish": 8, "flower": 8}
    second = lines_of("second")
    assert [line["classes"] for line in second] == [2, 4, 6]
    assert second[-1]["images"] == 48
    assert second[-1]["old"] is not None
    assert Path("report.html").read_text("utf-8").count("runs/second") > 0
