"""``escort bench``: its figures, its page, its advice, replay, and the classifiers."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from escort_cil.bench.advice import advice
from escort_cil.bench.classifier import load_classifier
from escort_cil.bench.figures import BenchResult, Point, run_bench
from escort_cil.bench.options import BenchOptions
from escort_cil.bench.page import check_page, render, write_page
from escort_cil.bench.ways import ways
from escort_cil.data.protocol import read_data
from escort_cil.memory.keep import Keep
from escort_cil.replay import ReplayResult, ReplaySettings, ReplayTest
from escort_cil.trainer import train
from escort_codec.errors import ModelError, OutputError, UsageError
from escort_codec.regenerate import make_regenerator
from tests.cil.small_runs import quick

pytestmark = pytest.mark.usefixtures("one_thread")
OPTIONS = BenchOptions(images=3, rates=(150, 400), device="cpu")


@pytest.fixture(scope="module")
def result(small_data: Path) -> BenchResult:
    return run_bench(str(small_data), OPTIONS)


def test_every_way_is_measured_within_its_bytes(result: BenchResult) -> None:
    measured = {(point.way, point.rate) for point in result.points}
    assert measured >= {(way, rate) for way in ("prompt", "latent", "webp") for rate in (150, 400)}
    available = {way.name for way in ways if way.available()}
    assert {way for way, _ in measured} <= available
    assert ("JPEG", 150) not in measured  # its tables alone are larger
    for point in result.points:
        assert 0 < point.bytes <= point.rate
        assert (point.f is None) == (point.way != "prompt")
        assert point.recognised is None
        assert point.encode_ms > 0
        assert point.decode_ms > 0
    assert len(result.sheet) == len(result.points)
    json.dumps(result.to_map(), allow_nan=False)


def test_the_page_needs_nothing_else(result: BenchResult, tmp_path: Path) -> None:
    page = render(replace(result, data="<script>alert(1)</script>"))
    assert "<script>alert" not in page
    assert "http://" not in page.replace("http://www.w3.org", "")
    assert "https://" not in page
    assert page.count('<svg class="plot"') >= 7
    assert "does not fit" in page
    write_page(result, tmp_path / "bench.html")
    assert (tmp_path / "bench.html").read_text(encoding="utf-8").lstrip().startswith("<!DOCTYPE html>")
    with pytest.raises(OutputError):
        check_page(tmp_path)
    with pytest.raises(OutputError):
        check_page(tmp_path / "none" / "bench.html")


def point(way: str, rate: int, ssim: float, recognised: float | None = None) -> Point:
    return Point(way, rate, rate - 5.0, 20.0, ssim, 0.5, 1.0, 1.0, recognised=recognised)


def test_the_advice_follows_from_the_figures() -> None:
    points = [point("webp", 100, 0.4, 10), point("latent", 100, 0.5, 5), point("webp", 400, 0.8, 50)]
    points += [point("latent", 400, 0.7, 60), point("JPEG", 400, 0.9, 90)]
    result = BenchResult("data", 3, 2, 100, 50_000, OPTIONS, points=points)
    assert "--keep latent:400B" in advice(result)
    assert "60 % are recognised" in advice(result)
    result.points = [replace(each, recognised=None) for each in points]
    assert "--keep webp:400B" in advice(result)
    result.budget = 20_000  # 200 bytes for each of 100 images
    assert "--keep latent:100B" in advice(result)
    result.replay = [
        ("prompt", None, ReplayResult("prompt", 30.0, 8, 20_000)),
        ("webp", 100, ReplayResult("webp:100B", 41.5, 100, 12_000)),
        ("webp", 400, ReplayResult("webp:400B", 39.0, 48, 20_000)),
        ("latent", 400, ReplayResult("latent:400B", None, 0, 0)),
    ]
    assert "--keep webp:100B" in advice(result)
    assert "41.5 %" in advice(result)
    assert "full maps reach 30.0 %" in advice(result)


def test_replay_trains_on_the_memory_alone_and_repeats(small_data: Path) -> None:
    found = read_data(str(small_data))
    settings = ReplaySettings(image_size=16, steps=30, batch_size=8, lr=0.02)
    with (
        make_regenerator("harmonic", workers=1) as maker,
        ReplayTest(found.train, found.test, maker, settings, workers=1) as test,
    ):
        first, again = (test.run(Keep.parse("webp:300B"), 9000) for _ in range(2))
        prompts = test.run(Keep.parse("prompt:300B"), 9000)
        nothing = test.run(Keep.parse("original"), 300)
    assert first == again
    assert first.accuracy is not None
    assert 0 <= first.accuracy <= 100
    assert prompts.accuracy is not None
    assert 0 < prompts.exemplars <= 9000 // 240
    assert max(first.bytes, prompts.bytes) <= 9000
    assert nothing == ReplayResult("original", None, 0, 0)


def test_a_finished_run_recognises(small_data: Path, tmp_path: Path) -> None:
    train(quick(small_data, keep="webp:16:20", epochs=1), out=tmp_path / "run")
    options = replace(OPTIONS, ways=("webp",), classifier=str(tmp_path / "run"), rates=(400,), images=10)
    found = run_bench(str(small_data), options)
    (only,) = found.points
    assert only.recognised is not None
    assert only.kid is not None
    assert 0 <= only.recognised <= 100


def test_a_model_of_transformers_recognises(tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers")
    config = transformers.ViTConfig(
        hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16, image_size=32, patch_size=8,
        num_labels=5,
    )  # fmt: skip
    transformers.ViTForImageClassification(config).save_pretrained(tmp_path / "vit")
    transformers.ViTImageProcessor(size={"height": 32, "width": 32}).save_pretrained(tmp_path / "vit")
    classifier = load_classifier(str(tmp_path / "vit"), "cpu")
    rng = np.random.Generator(np.random.PCG64(1))
    pictures = [rng.integers(0, 256, (20 + n, 30, 3), dtype=np.uint8) for n in range(3)]
    classes, features = classifier.classify(pictures)
    assert classes.shape == (3,)
    assert features.shape == (3, 16)
    (tmp_path / "empty").mkdir()
    with pytest.raises(ModelError, match="neither a run nor an image classifier"):
        load_classifier(str(tmp_path / "empty"), "cpu")


@pytest.mark.parametrize(
    "options", [{"rates": ()}, {"images": 0}, {"ways": ("GIF",)}, {"budget": "10KB/day"}, {"regenerator": "x"}]
)
def test_wrong_settings(small_data: Path, options: dict[str, object]) -> None:
    with pytest.raises(UsageError):
        run_bench(str(small_data), replace(OPTIONS, **options))  # type: ignore[arg-type]


def test_the_command_writes_the_page_and_prints_the_figures(small_data: Path, tmp_path: Path) -> None:
    out = tmp_path / "b.html"
    command = [sys.executable, "-m", "cli", "bench", str(small_data), "--out", str(out), "--json", "--device", "cpu"]
    command += ["--images", "2", "--rates", "200", "--ways", "webp,prompt"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    values = json.loads(done.stdout)
    assert [row["way"] for row in values["points"]] == ["webp", "prompt"]
    assert values["advice"].startswith("Take --keep ")
    assert "One photograph at every rate" in out.read_text(encoding="utf-8")
    done = subprocess.run([*command, "--images", "0"], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
