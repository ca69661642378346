from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys
import time
from contextlib import chdir
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner, Result

import escort_codec
from escort_cil.demo.drawings import draw_picture
from escort_codec.exemplar import Exemplar
from escort_codec.hint import encode_hint

_FILE = io.BytesIO()
Image.new("RGB", (4, 3), "red").save(_FILE, "JPEG")
JPEG = _FILE.getvalue()
COMMAND = [sys.executable, "-m", "cli", "decode"]


def _run(*arguments: object) -> Result:
    from escort_cli.app import app

    return CliRunner().invoke(app, ["decode", *map(str, arguments)])


@pytest.fixture(scope="module")
def escx(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six drawn pictures of two classes as prompts, and a real one."""
    from escort_codec.edges import edge_map

    path = tmp_path_factory.mktemp("decode") / "memory.escx"
    with escort_codec.Writer(path) as writer:
        for label in ("clock", "fish"):
            for number in range(3):
                rgb = draw_picture(label, "train", number, size=64)
                name = f"{number:03d}.jpg"
                hint = encode_hint(rgb)
                writer.add(Exemplar.from_edges(edge_map(rgb), label=label, name=name, seeds=(0, 1), hint=hint))
        writer.add(Exemplar.from_image(JPEG, label="fish", name="real.jpg", size=(3, 4)))
    return path


def _names(out: Path) -> list[str]:
    return sorted(p.relative_to(out).as_posix() for p in out.rglob("*") if p.is_file())


def test_notes_name_flags(escx: Path, tmp_path: Path) -> None:
    bare = tmp_path / "bare.escx"
    with escort_codec.open(escx) as reader, escort_codec.Writer(bare) as writer:
        writer.add(reader[0])
        writer.add(Exemplar.from_edges(reader[0].edges, label="fish", name="no seeds"))
    result = _run(bare, "--out", tmp_path / "out")
    assert "1 exemplar without recorded seeds, so without images: give --seeds, such as 0-4\n" in result.stderr


def test_the_recorded_seeds_into_a_folder_named_after_the_file(
    escx: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    result = _run(escx)
    assert result.exit_code == 0
    out = tmp_path / "memory"
    images = [f"{c}/{n:03d}_seed0{s}.jpg" for c in ("clock", "fish") for n in range(3) for s in range(2)]
    assert _names(out) == sorted([*images, "fish/real.jpg", "manifest.jsonl"])
    assert result.stdout == "memory: 12 images made, 1 real image copied\n"
    assert "regenerator: harmonic, a stand-in" in result.stderr
    with Image.open(out / "fish/002_seed01.jpg") as image:
        assert image.size == draw_picture("fish", "train", 2, size=64).shape[1::-1]
    again = _run(escx)
    assert again.stdout == "memory: 0 images made, 13 files existed\n"
    assert "regenerator" not in again.stderr


def test_seeds_part_format_and_edges(escx: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    options = (
        "--seeds",
        "0,2",
        "--class",
        "clock",
        "--name",
        "000.jpg",
        "--name",
        "*/001*",
        "--format",
        "png",
        "--edges",
        "--json",
    )
    result = _run(escx, "--out", out, *options)
    assert result.exit_code == 0
    assert _names(out) == sorted(
        ["manifest.jsonl", *(f"clock/{n}_{x}.png" for n in ("000", "001") for x in ("seed00", "seed02", "edges"))]
    )
    summary = json.loads(result.stdout)
    assert summary == {
        "out": str(out),
        "exemplars": 2,
        "regenerator": "harmonic",
        "images": 4,
        "edge_maps": 2,
        "real": 0,
        "learned_pictures": 0,
        "skipped": 0,
        "failed": 0,
        "ended_early": False,
    }


def test_edge_maps_alone(escx: Path, tmp_path: Path) -> None:
    result = _run(escx, "--out", tmp_path / "out", "--seeds", "none", "--edges", "--limit", "2")
    assert result.exit_code == 0
    assert _names(tmp_path / "out") == ["clock/000_edges.png", "clock/001_edges.png", "manifest.jsonl"]
    with Image.open(tmp_path / "out/clock/001_edges.png") as image, escort_codec.open(escx) as reader:
        assert np.array_equal(np.asarray(image), reader["clock/001.jpg"].edges)


def test_quiet_says_nothing(escx: Path, tmp_path: Path) -> None:
    result = _run(escx, "--out", tmp_path / "out", "--limit", 1, "--quiet")
    assert (result.exit_code, result.stdout, result.stderr) == (0, "", "")


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--seeds", "4-0"), "is backwards"),
        (("--seeds", "none"), "--edges"),
        (("--format", "bmp"), "jpg, png or webp"),
        (("--format", "png", "--quality", "50"), "lossless"),
        (("--quality", "101"), "1 to 100"),
        (("--class", "clok"), "did you mean 'clock'"),
        (("--name", "nothing"), "nothing"),
        (("--limit", "0"), "--limit"),
        (("--workers", "0"), "--workers"),
        (("--regenerator", "harmonik"), "did you mean 'harmonic'"),
        (("--steps", "20"), "--steps 20: the harmonic regenerator has no such setting"),
        (("--device", "cuda"), "--device cuda: the harmonic regenerator has no such setting"),
        (("--batch-size", "many"), "--batch-size"),
        (("--set", "steps"), "--set steps: write KEY=VALUE"),
        (("--set", "scheduler=ddim"), "ddim: the harmonic regenerator has no such setting"),
        (("--regenerator", "controlnet", "--set", "schedule=ddim"), "did you mean 'scheduler'"),
        (("--regenerator", "controlnet", "--set", "resolution=9"), "give a whole number from 64 to 4096"),
    ],
)
def test_invalid_options_are_one_line_and_exit_code_2(
    options: tuple[str, ...], said: str, escx: Path, tmp_path: Path
) -> None:
    result = _run(escx, "--out", tmp_path / "out", *options)
    assert result.exit_code == 2
    assert said in result.stderr
    assert result.stderr.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    (tmp_path / "text.escx").write_text("no such thing")
    for name in ("text.escx", "missing.escx"):
        result = _run(tmp_path / name, "--out", tmp_path / "out")
        assert result.exit_code == 1
        assert name in result.stderr
        assert result.stderr.count("\n") == 1
        assert not (tmp_path / "out").exists()


def test_a_failed_image_is_exit_code_1_and_the_rest_is_there(tmp_path: Path) -> None:
    path = tmp_path / "bad.escx"
    edges = np.zeros((9, 9), bool)
    torn = b"\x10\0\0\x9d\x01\x2a\x09\0\x09\0"  # a frame's header without a frame
    with escort_codec.Writer(path) as writer:
        writer.add(Exemplar.from_edges(edges, label="a", name="bad.png", seeds=(0,), hint=torn))
        writer.add(Exemplar.from_edges(edges, label="a", name="good.png", seeds=(0,)))
    result = _run(path, "--out", tmp_path / "out")
    assert result.exit_code == 1
    assert result.stdout == f"{tmp_path / 'out'}: 1 image made, 1 failed\n"
    assert "a/bad_seed00.jpg: a/bad.png: a hint of 10 bytes" in result.stderr
    assert _names(tmp_path / "out") == ["a/good_seed00.jpg", "manifest.jsonl"]


@pytest.fixture(scope="module")
def long_job(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """More images than can be made before a signal comes: 60 x 40 of 96 x 96 pixels."""
    path = tmp_path_factory.mktemp("long") / "long.escx"
    rng = np.random.default_rng(0)
    with escort_codec.Writer(path) as writer:
        for number in range(60):
            edges = rng.random((96, 96)) < 0.05
            writer.add(Exemplar.from_edges(edges, label="a", name=f"{number}.png", seeds=tuple(range(40))))
    return path


def _start(path: Path, out: Path, **options: Any) -> subprocess.Popen[str]:
    """``escort decode`` in a process of its own, once it has written a few images."""
    there = len(list(out.glob("a/*.jpg")))
    process = subprocess.Popen(
        [*COMMAND, str(path), "--out", str(out), "--workers", "2"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        **options,
    )
    end = time.monotonic() + 60
    while len(list(out.glob("a/*.jpg"))) < there + 5:
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < end
        time.sleep(0.01)
    return process


def _check_whole(out: Path) -> int:
    """Every image can be opened and has its line; returns how many there are."""
    images = sorted(out.glob("a/*.jpg"))
    for file in images:
        with Image.open(file) as image:
            image.load()
            assert image.size == (96, 96)
    lines = [json.loads(line) for line in (out / "manifest.jsonl").read_bytes().splitlines()]
    assert {f"a/{file.name}" for file in images} <= {line["image"] for line in lines}
    return len(images)


# Processes, because only those can be ended by a signal; some seconds each, most of them Python's start.
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_after_the_images_in_flight(number: signal.Signals, long_job: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    process = _start(long_job, out)
    process.send_signal(number)
    said, errors = process.communicate(timeout=60)
    assert process.returncode == 130, errors
    assert "Traceback" not in errors
    assert "ended early" in said
    made = _check_whole(out)
    assert 5 <= made < 2400
    assert f"{made:,} images made" in said
    assert list(out.rglob("*.partial")) == []
    lines = (out / "manifest.jsonl").read_bytes()
    assert lines.endswith(b"\n")
    assert lines.count(b"\n") == made


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="this system has no SIGKILL")
def test_killed_at_any_point_and_resumed(long_job: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    rng = np.random.default_rng(5)
    made = 0
    for _ in range(3):
        process = _start(long_job, out)
        time.sleep(float(rng.uniform(0, 0.3)))
        process.kill()
        process.communicate()
        before, made = made, _check_whole(out)
        assert before + 5 <= made < 2400
    result = _run(long_job, "--out", out, "--seeds", "0-1", "--json")
    assert result.exit_code == 0
    summary = json.loads(result.stdout)
    assert summary["images"] + summary["skipped"] == 120
    assert list(out.rglob("*.partial")) == []
    total = _check_whole(out)
    assert total == made + summary["images"]
    assert (out / "manifest.jsonl").read_bytes().count(b"\n") == total


@pytest.mark.skipif(os.name != "posix", reason="limits on a file's size are POSIX's")
def test_files_that_the_system_refuses(long_job: Path, tmp_path: Path) -> None:
    """With files limited to 6 kB all images fit, but not their manifest: a line is torn by the system itself."""
    import resource

    out = tmp_path / "out"
    command = [*COMMAND, str(long_job), "--out", str(out), "--seeds", "0", "--quality", "40"]
    limit = (6_000, 6_000)
    small = subprocess.run(
        command, capture_output=True, text=True, preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, limit)
    )
    assert small.returncode == 1, small.stderr
    assert "File too large" in small.stderr
    assert "Traceback" not in small.stderr
    some = _check_whole_but_the_last_line(out)
    assert 0 < some < 60
    assert list(out.rglob("*.partial")) == []
    assert subprocess.run(command, capture_output=True).returncode == 0
    assert _check_whole(out) == 60
    assert (out / "manifest.jsonl").read_bytes().count(b"\n") == 60


def _check_whole_but_the_last_line(out: Path) -> int:
    from escort_codec.export.manifest import read_manifest

    images = {f"a/{file.name}" for file in out.glob("a/*.jpg")}
    assert images <= set(read_manifest(out))
    return len(images)


def _in(folder: Path, command: str, *arguments: object) -> Result:
    from escort_cli.app import app

    with chdir(folder):
        return CliRunner().invoke(app, [command, *map(str, arguments)])


def test_the_only_file_of_the_folder_is_taken_and_named(escx: Path, tmp_path: Path) -> None:
    for command, more in (("decode", ["--seeds", "0"]), ("inspect", []), ("verify", [])):
        result = _in(tmp_path, command, *more)
        assert (result.exit_code, result.stderr) == (
            2,
            f"escort {command}: FILE: there is no .escx file in this folder: name one\n",
        )
    (tmp_path / "m.escx").write_bytes(escx.read_bytes())
    (tmp_path / ".hidden.escx").write_bytes(b"")
    (tmp_path / "folder.escx").mkdir()
    for command, more in (
        ("decode", ["--seeds", "0-1"]),
        ("inspect", []),
        ("verify", []),
        ("extract", ["--class", "fish", "--out", "sub/fish.escx"]),
    ):
        (tmp_path / "sub").mkdir(exist_ok=True)
        result = _in(tmp_path, command, *more)
        assert result.exit_code == 0, result.stderr
        assert result.stderr.startswith("FILE is m.escx, the only .escx file here\n")
    assert (tmp_path / "m/clock/000_seed01.jpg").is_file()
    (tmp_path / "Other.ESCX").write_bytes(escx.read_bytes())
    result = _in(tmp_path, "decode", "--seeds", "0")
    assert result.exit_code == 2
    assert "FILE: there are 2 .escx files here: name one of Other.ESCX and m.escx" in result.stderr


def test_the_folder_that_is_not_named_is_safe_and_nobodys(escx: Path, tmp_path: Path) -> None:
    """`escort encode photos photos.escx` and `escort decode photos.escx` must not write into the photographs."""
    (tmp_path / ".git.escx").write_bytes(escx.read_bytes())
    assert _in(tmp_path, "decode", ".git.escx", "--limit", 1).exit_code == 0
    assert (tmp_path / "_git/clock/000_seed00.jpg").is_file()
    (tmp_path / "photos.escx").write_bytes(escx.read_bytes())
    (tmp_path / "photos/clock").mkdir(parents=True)
    (tmp_path / "photos/clock/000.jpg").write_bytes(b"")
    result = _in(tmp_path, "decode", "photos.escx", "--limit", 1)
    assert (result.exit_code, result.stderr) == (
        2,
        "escort decode: --out: the folder photos holds other files: name a folder\n",
    )
    assert _in(tmp_path, "decode", "photos.escx", "--limit", 1, "--out", "photos").exit_code == 0
    assert _in(tmp_path, "decode", "photos.escx", "--limit", 2).exit_code == 0


def test_the_total_is_said_before_the_first_image(escx: Path, tmp_path: Path) -> None:
    result = _run(escx, "--out", tmp_path / "out", "--edges")
    lines = result.stderr.splitlines()
    assert lines[1].startswith("to write: 12 images, 6 edge maps and 1 real image, 0.1 megapixels, about 1 MB")


def test_above_the_limit_a_word_is_needed(tmp_path: Path) -> None:
    path = tmp_path / "large.escx"
    edges = np.zeros((8, 8), bool)
    with escort_codec.Writer(path) as writer:
        for _ in range(50):
            writer.add(Exemplar.from_edges(edges, label="c", seeds=tuple(range(4096))))
    result = _run(path, "--out", tmp_path / "out")
    assert result.exit_code == 2
    assert result.stderr.endswith(
        "asks for 204,800 images, 13 megapixels, about 4 MB: above 200,000 files or 50 gigapixels set --yes, or choose "
        "fewer (--seeds, --limit)\n"
    )
    assert not (tmp_path / "out").exists()
    assert _run(path, "--out", tmp_path / "out", "--yes", "--limit", 1, "--seeds", 0).exit_code == 0


def test_images_of_another_photograph_are_not_taken_for_the_new_ones(tmp_path: Path) -> None:
    """`decode` after `encode --force`: the photograph was replaced, and nothing has another name."""
    for folder, colour in (("a", (220, 0, 0)), ("b", (0, 0, 220))):
        (tmp_path / "d" / folder).mkdir(parents=True)
        Image.new("RGB", (64, 64), colour).save(tmp_path / "d" / folder / "1.png")
    decode = ("decode", "o.escx", "--seeds", "0", "--format", "png", "--edges")
    assert _in(tmp_path, "encode", "d", "o.escx").exit_code == 0
    assert _in(tmp_path, *decode).exit_code == 0
    Image.new("RGB", (64, 64), (0, 200, 0)).save(tmp_path / "d/a/1.png")
    assert _in(tmp_path, "encode", "d", "o.escx", "--force").exit_code == 0
    result = _in(tmp_path, *decode)
    assert "2 existing files made of other exemplars with the same names: made anew\n" in result.stderr
    assert result.stdout == "o: 1 image made, 1 edge map, 2 files existed\n"
    with Image.open(tmp_path / "o/a/1_seed00.png") as image:
        red, green, blue = image.getpixel((32, 32))  # type: ignore[misc]
    assert green > 150 > 60 > max(red, blue)
