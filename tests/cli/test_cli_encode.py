"""``escort encode`` and the commands on files as users see them: output, exit codes, signals."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from PIL import Image
from typer.testing import CliRunner, Result

from escort_cil.demo.drawings import draw_dataset
from escort_cli.app import app
from escort_codec import EncodeOptions, Reader, encode_folder, pack
from escort_codec.recipe import EdgeSettings
from escort_codec.source import scan
from tests.helpers import assert_whole, make_exemplars, read_all

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="session")
def drawn_small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("drawn_small")
    draw_dataset(folder, classes=2, train=4, test=1, size=48)
    return folder


@pytest.fixture
def data(drawn_small: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(drawn_small, tmp_path / "DATA"))


def run(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(a) for a in arguments])


def fails(code: int, *arguments: object) -> str:
    """The one line that a failing command prints."""
    result = run(*arguments)
    assert result.exit_code == code, result.output
    lines = [line for line in result.stderr.splitlines() if not line.startswith(("encode: ", "layout: "))]
    assert len(lines) == 1, result.stderr
    assert lines[0].startswith(f"escort {arguments[0]}: ")
    return lines[0]


def test_encode_prints_sizes_that_are_the_files(data: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.escx"
    result = run("encode", data, out, "--json")
    assert result.exit_code == 0, result.output
    sizes = json.loads(result.stdout)
    assert sizes["file_bytes"] == out.stat().st_size
    assert sizes["exemplars"] == 8 == assert_whole(out)
    assert sizes["source_bytes"] == sum(image.path.stat().st_size for image in scan(data))
    assert sizes["one_in_source"] == sizes["source_bytes"] / sizes["file_bytes"]
    assert sizes["codings"] == {"context": 8}
    assert sizes["skipped"] == []
    again = run("encode", data, out, "--force")
    assert again.exit_code == 0
    assert f"{out.stat().st_size:,} B" in again.stdout
    with Reader(out) as reader:
        assert reader.source == str(data)


def test_encode_takes_every_option(data: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.escx"
    options = "--split test --preset lowres --canny-low 50 --canny-high 90 --seeds 0,5-6 --hint 16 --hint-quality 50"
    options += " --blur 1.5 --min-contour 12 --coding rle --workers 2 --on-error skip --max-pixels 100000 --shard 1/2"
    result = run("encode", data, out, *options.split())
    assert result.exit_code == 0, result.output
    (exemplar,) = read_all(out)
    assert (exemplar.seeds, exemplar.recipe.preset, exemplar.coding) == ((0, 5, 6), "lowres", "rle")
    assert exemplar.edge_settings is not None
    assert exemplar.edge_settings == EdgeSettings(low=50, high=90, blur=1.5, min_contour=12)
    assert run("encode", data, tmp_path / "plain.escx", "--hint", "0").exit_code == 0
    assert all(e.hint is None for e in read_all(tmp_path / "plain.escx"))


def test_a_bad_image_is_one_line_or_is_skipped_by_name(data: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.escx"
    path = scan(data)[3].path
    path.write_bytes(b"no image")
    assert fails(1, "encode", data, out) == f"escort encode: {path}: is not an image"
    assert not out.exists()
    result = run("encode", data, out, "--on-error", "skip")
    assert result.exit_code == 0
    assert f"skipped: {path}: is not an image" in result.stderr
    assert "1 file skipped" in result.stdout
    assert len(read_all(out)) == 7
    Image.new("RGB", (300, 300)).save(path)
    line = fails(1, "encode", data, tmp_path / "other.escx", "--max-pixels", 20_000)
    assert "300 x 300 pixels are above the cap of 20000" in line


@pytest.mark.parametrize(
    ("code", "options", "says"),
    [
        (2, ["--preset", "mid"], "--preset mid: write hires or lowres"),
        (2, ["--coding", "contxt"], "did you mean 'context'"),
        (2, ["--on-error", "ignore"], "--on-error ignore"),
        (2, ["--shard", "3"], "--shard 3"),
        (2, ["--shard", "5/4"], "--shard 5/4"),
        (2, ["--blur", "-1"], "--blur -1: give a number from 0"),
        (2, ["--workers", "0"], "--workers 0"),
        (2, ["--seeds", "5-1"], "5-1"),
        (2, ["--seeds", "many"], "many"),
        (2, ["--hint", "-4"], "--hint -4"),
        (2, ["--max-pixels", "999999999"], "--max-pixels 999999999"),
        (1, ["--split", "val"], "has no folder 'val'"),
    ],
)
def test_options_that_are_not_valid(data: Path, tmp_path: Path, code: int, options: list[str], says: str) -> None:
    assert says in fails(code, "encode", data, tmp_path / "out.escx", *options)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["DATA"]


def test_places_that_are_not_valid(data: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.escx"
    out.write_bytes(b"mine")
    assert "exists already" in fails(1, "encode", data, out)
    assert out.read_bytes() == b"mine"
    assert "no such folder" in fails(1, "encode", data, tmp_path / "none" / "out.escx")
    assert "no such folder" in fails(1, "encode", tmp_path / "none", tmp_path / "new.escx")
    for command in ("verify", "inspect"):
        assert "cannot be opened: No such file" in fails(1, command, tmp_path / "none.escx")
        assert "holds no .escx files" in fails(1, command, data)
        assert "not an .escx file" in fails(1, command, out)
    assert "cannot be opened" in fails(1, "recover", tmp_path / "none.escx", tmp_path / "good.escx")


def test_a_path_may_be_a_path(data: Path, tmp_path: Path) -> None:
    report = encode_folder(data, tmp_path / "out.escx", EncodeOptions(hint=0))
    assert report.exemplars == 8
    with Reader(tmp_path / "out.escx") as reader:
        assert reader.source == str(data)


def test_inspect_shows_every_label_and_value_on_a_narrow_terminal(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And the version of the file, not the program's; control characters of a stranger's file reach no terminal."""
    source = "/home/" + "photographs/" * 20 + "end\x1b[2J"
    out = tmp_path / "a.escx"
    out.write_bytes(pack(make_exemplars(2), source=source))
    data = bytearray(out.read_bytes())
    assert data[10:12] == bytes(2)
    data[10] = 3  # the minor version
    out.write_bytes(data)
    monkeypatch.setenv("COLUMNS", "40")
    monkeypatch.setattr("rich.console.Console.is_terminal", True)
    shown = [line.rstrip() for line in run("inspect", out).stdout.splitlines()]
    assert shown[0].startswith("version      1.3, written by")
    assert f"data folder  {source[:-4]}\\x1b[2J" in shown
    assert "seeds        0-2,7" in shown
    assert any(line.startswith("   everything else") and line.endswith(" %") for line in shown)
    assert not any("\x1b[2J" in line for line in shown)
    assert json.loads(run("inspect", out, "--json").stdout)["version"] == "1.3"


def test_a_name_that_the_terminal_cannot_show_is_escaped(data: Path, tmp_path: Path) -> None:
    run("encode", data, tmp_path / "a.escx", "--hint", 0)
    out = os.fsencode(tmp_path) + b"/caf\xe9.escx"
    command: list[str | Path] = [
        sys.executable,
        "-m",
        "escort_cli",
        "merge",
        tmp_path / "a.escx",
        "--out",
        os.fsdecode(out),
    ]
    done = subprocess.run(command, capture_output=True, env=os.environ | {"PYTHONIOENCODING": "ascii"}, check=False)
    assert (done.returncode, done.stderr) == (0, b"")
    assert b"caf\\udce9.escx: 8 exemplars of 1 file" in done.stdout


def test_a_system_that_refuses_is_one_line(data: Path, tmp_path: Path) -> None:
    run("encode", data, tmp_path / "a.escx", "--hint", 0)
    assert fails(1, "verify", tmp_path / ("x" * 300)).endswith("File name too long")
    assert fails(1, "merge", tmp_path / "a.escx", "--out", tmp_path / ("x" * 300)).endswith("File name too long")
    assert fails(1, "decode", tmp_path / "a.escx", "--out", tmp_path / ("x" * 300)).endswith("File name too long")


def test_verify_and_recover_name_the_damage(data: Path, tmp_path: Path) -> None:
    out, good = tmp_path / "out.escx", tmp_path / "good.escx"
    assert run("encode", data, out).exit_code == 0
    result = run("verify", out)
    assert (result.exit_code, result.stderr) == (0, "")
    assert "8 exemplars in 1 block," in result.stdout
    whole = out.read_bytes()
    with Reader(out) as reader:
        at = reader.state.index.offsets[0]
    out.write_bytes(whole[:500] + b"!" + whole[501:])
    line = fails(1, "verify", out)
    assert f"{out}: " in line
    assert f"BLCK chunk at byte {at}" in line
    assert line.count(str(out)) == 1
    assert "no whole block is left" in fails(1, "recover", out, good)
    assert not good.exists()
    out.write_bytes(whole[:-10])
    assert "the end of the file is missing" in fails(1, "verify", out)
    result = run("recover", out, good)
    assert result.exit_code == 0
    assert "8 exemplars saved" in result.stdout
    assert "lost: " in result.stdout
    assert out.read_bytes() == whole[:-10]
    assert len(read_all(good)) == assert_whole(good) == 8
    assert "exists already" in fails(1, "recover", out, good)
    assert "is also the input" in fails(2, "recover", good, good, "--force")
    assert run("recover", good, good.with_name("again.escx")).stdout.count("nothing was lost") == 1


def hear_ctrl_c() -> None:
    """A job in the background may have been started deaf to it."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def start(*arguments: object) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "escort_cli", *map(str, arguments)],
        cwd=ROOT,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        preexec_fn=None if os.name == "nt" else hear_ctrl_c,
    )


def wait_for(path: Path, size: int, child: subprocess.Popen[str]) -> None:
    end = time.monotonic() + 60
    while not (path.exists() and path.stat().st_size >= size):
        assert child.poll() is None, child.communicate()[1]
        assert time.monotonic() < end
        time.sleep(0.01)


@pytest.fixture
def long(data: Path) -> Path:
    """A folder that takes seconds: the same pictures under many names."""
    for image in scan(data):
        for n in range(120):
            image.path.with_name(f"{n:04d}-{image.path.name}").symlink_to(image.path)
    return data


def test_ctrl_c_and_kill_and_resume(long: Path, tmp_path: Path) -> None:
    """Real signals to the real command, at the time they come; in the end the bytes are those of a quiet run."""
    out, partial, quiet = tmp_path / "out.escx", tmp_path / "out.escx.partial", tmp_path / "quiet.escx"
    child = start("encode", long, out, "--coding", "rle")
    wait_for(partial, 10_000, child)
    child.send_signal(signal.SIGINT)
    said = child.communicate()[1]
    assert child.returncode == 130, said
    assert "Traceback" not in said
    assert "interrupted" in said
    assert sorted(p.name for p in tmp_path.iterdir()) == ["DATA"]

    draw = random.Random(9)
    for _ in range(3):
        child = start("encode", long, out, "--coding", "rle", "--resume")
        wait_for(partial, 1, child)
        time.sleep(draw.uniform(0.05, 0.6))
        child.kill()
        child.communicate()
        if out.exists():  # it was quicker than we
            break
    if not out.exists():
        result = run("encode", long, out, "--coding", "rle", "--resume")
        assert result.exit_code == 0, result.output
    assert run("encode", long, quiet, "--coding", "rle").exit_code == 0
    assert out.read_bytes() == quiet.read_bytes()
    assert not partial.exists()


def test_shards_of_a_job_array_merge_into_what_one_run_gives(data: Path, tmp_path: Path) -> None:
    whole, merged = tmp_path / "whole.escx", tmp_path / "merged.escx"
    assert run("encode", data, whole).exit_code == 0
    parts = [tmp_path / f"part-{k}.escx" for k in (1, 2, 3)]
    for k, part in enumerate(parts, 1):
        assert run("encode", data, part, "--shard", f"{k}/3").exit_code == 0
    result = run("merge", *parts, "--out", merged)
    assert result.exit_code == 0, result.output
    assert merged.read_bytes() == whole.read_bytes()


def test_a_damaged_file_is_one_line_that_says_what_to_do(data: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.escx"
    assert run("encode", data, out, "--coding", "rle").exit_code == 0
    with Reader(out) as reader:
        at = reader.state.index.offsets[0]
    whole = out.read_bytes()
    for place, commands in ((at + 30, ("verify", "extract")), (len(whole) - 40, ("verify", "inspect", "split"))):
        out.write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
        for command in commands:
            more = {"extract": ["--class", scan(data)[0].label, "--out", tmp_path / "sub.escx"]}.get(command, [])
            more += ["--parts", 2, "--out", tmp_path] if command == "split" else []
            line = fails(1, command, out, *more)
            assert f"{out}: the checksum is wrong" in line
            assert line.endswith("(`escort recover` saves what is whole)")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["DATA", "out.escx"]


def test_merge_split_and_extract(data: Path, tmp_path: Path) -> None:
    whole, low, sub = tmp_path / "whole.escx", tmp_path / "low.escx", tmp_path / "sub.escx"
    assert run("encode", data, whole, "--coding", "rle", "--shard", "1/2").exit_code == 0
    assert run("encode", data, low, "--coding", "rle", "--shard", "2/2", "--preset", "lowres").exit_code == 0
    merged = tmp_path / "merged.escx"
    line = fails(2, "merge", whole, low, "--out", merged)
    assert "preset: hires and lowres" in line
    assert "--keep-recipes" in line
    assert "8 exemplars of 2 files" in run("merge", whole, low, "--out", merged, "--keep-recipes").stdout
    assert "exists already" in fails(1, "merge", whole, "--out", merged)
    stored = read_all(merged)
    assert stored == read_all(whole) + read_all(low)
    label = stored[0].label
    assert "4 exemplars" in run("extract", merged, "--class", label, "--out", sub).stdout
    assert read_all(sub) == [e for e in stored if e.label == label]
    arguments = ["--name", stored[5].key, "--name", stored[1].key, "--out", sub, "--force"]
    assert "2 exemplars" in run("extract", merged, *arguments).stdout
    assert read_all(sub) == [stored[1], stored[5]]
    assert "holds no class 'zebra'" in fails(2, "extract", merged, "--class", "zebra", "--out", sub, "--force")
    assert run("split", merged, "--by-class", "--out", tmp_path / "parts").exit_code == 0
    found = sorted(p.name for p in (tmp_path / "parts").iterdir())
    assert found == [f"merged-{name}.escx" for name in sorted({e.label for e in stored})]
    assert run("split", merged, "--parts", "3", "--out", tmp_path / "parts").exit_code == 0
    assert sorted(p.name for p in (tmp_path / "parts").glob("*-of-3.escx"))[0] == "merged-1-of-3.escx"
    assert "either" in fails(2, "split", merged)


def test_more_shards_than_images(data: Path, tmp_path: Path) -> None:
    assert "has only 8 images" in fails(2, "encode", data, tmp_path / "out.escx", "--shard", "3/9")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["DATA"]
