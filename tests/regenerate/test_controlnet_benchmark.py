"""The benchmark runs as it is: both ways, on the tiny models."""

from __future__ import annotations

import argparse
import importlib.util
import json
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "regenerate.py"


@pytest.fixture
def script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("benchmark_regenerate", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def test_both_ways_in_turn(
    script: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The script starts a process for each run. Ours has one here too; the reference is run in this process, as another
    import of diffusers takes long."""

    def run(way: str, options: argparse.Namespace, images: int, models: str) -> Any:
        if way == "ours":
            return run_way(way, options, images, models)
        given = argparse.Namespace(**vars(options) | {"images": images, "models": models})
        return json.loads(json.dumps(script.run_reference(given)))

    run_way = script.run_way
    monkeypatch.setattr(script, "run_way", run)
    out = tmp_path / "figures.json"
    command = f"{SCRIPT} --device cpu --scale tiny --steps 1 --rounds 1 --images 3 --batch-size 2 --out {out}"
    monkeypatch.setattr(sys, "argv", command.split())
    script.main()
    found = json.loads(out.read_text())
    assert found["ways"]["reference"]["ratio"] == 1
    assert found["ways"]["ours"]["batch"] == 2
    assert found["ways"]["ours"]["runs"][0]["images"] == 3
    assert all(way["images_per_s"] > 0 and way["peak_memory_GB"] > 0 for way in found["ways"].values())
    assert "64 x 64, DDIM, 1 steps, guidance 9" in found["setting"]
    assert "| ours | 2 | fp32 |" in capsys.readouterr().out
