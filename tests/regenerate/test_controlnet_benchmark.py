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
    """In this process, where the script starts one for each run: three more imports of diffusers would take long."""

    def here(way: str, options: argparse.Namespace, images: int, models: str) -> Any:
        given = argparse.Namespace(**vars(options) | {"images": images, "models": models})
        found = script.run_reference(given) if way == "reference" else script.run_ours(given)
        return json.loads(json.dumps(found))

    monkeypatch.setattr(script, "run_way", here)
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
