"""The wheel in an environment of its own, with the core dependencies alone: no torch, no extra, no checkout.

The dependencies are links to the packages of the environment that runs the tests, so that nothing is downloaded.
"""

from __future__ import annotations

import importlib.metadata
import os
import subprocess
import sys
import tarfile
import venv
import zipfile
from collections.abc import Iterable
from email.parser import HeaderParser
from pathlib import Path

import numpy as np
import pytest
from packaging.requirements import Requirement
from PIL import Image

import escort_codec

ROOT = Path(__file__).parents[1]


def run(*command: str | Path, folder: Path, alone: bool = True) -> subprocess.CompletedProcess[str]:
    """Runs a program; ``alone``: without this process's module path."""
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH" or not alone}
    arguments = [str(part) for part in command]
    return subprocess.run(arguments, cwd=folder, env=environment, capture_output=True, text=True, check=False)


def distributions(requirements: Iterable[str]) -> dict[str, importlib.metadata.Distribution]:
    """The installed distributions that requirements without an extra ask for, and those that these ask for in turn."""
    found: dict[str, importlib.metadata.Distribution] = {}
    open_requirements = list(requirements)
    while open_requirements:
        requirement = Requirement(open_requirements.pop())
        wanted = requirement.marker is None or requirement.marker.evaluate({"extra": ""})
        if wanted and requirement.name not in found:
            found[requirement.name] = importlib.metadata.distribution(requirement.name)
            open_requirements += found[requirement.name].requires or []
    return found


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    done = run(sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", folder, folder=ROOT, alone=False)
    assert done.returncode == 0, done.stderr
    (path,) = folder.glob("*.whl")
    return path


@pytest.fixture(scope="module")
def scripts(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the programs of an environment with the wheel and its core dependencies."""
    root = tmp_path_factory.mktemp("plain")
    venv.create(root / "env")
    bin_folder = root / "env" / ("Scripts" if sys.platform == "win32" else "bin")
    command = ("-m", "pip", "--python", bin_folder / "python", "install", "--no-deps", "--no-index", "--quiet", wheel)
    done = run(sys.executable, *command, folder=root)
    assert done.returncode == 0, done.stderr
    (root / "core").mkdir()
    with zipfile.ZipFile(wheel) as archive:
        (name,) = [name for name in archive.namelist() if name.endswith(".dist-info/METADATA")]
        metadata = HeaderParser().parsestr(archive.read(name).decode())
    for distribution in distributions(metadata.get_all("Requires-Dist", [])).values():
        for top in {path.parts[0] for path in distribution.files or ()} - {"..", "__pycache__"}:
            (root / "core" / top).symlink_to(Path(str(distribution.locate_file(top))))
    (packages,) = (root / "env").glob("**/site-packages")
    (packages / "core.pth").write_text(f"{root / 'core'}\n")
    return bin_folder


@pytest.fixture(scope="module")
def folder(scripts: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with two classes of two noisy images in ``data``, and ``out.escx``, encoded from it."""
    root = tmp_path_factory.mktemp("work")
    for number, label in enumerate(("cat", "cat", "dog", "dog")):
        pixels = np.random.default_rng(number).integers(0, 255, (6, 8, 3), np.uint8).repeat(8, 0).repeat(8, 1)
        (root / "data" / label).mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(root / "data" / label / f"{number}.png")
    done = run(scripts / "escort", "encode", "data", "out.escx", folder=root)
    assert done.returncode == 0, done.stderr
    return root


def test_the_wheel_holds_the_packages_and_nothing_else(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
    info = f"escort-{escort_codec.__version__}.dist-info"
    assert {name.split("/")[0] for name in names} == {"escort_codec", "escort_cil", "escort_cli", info}
    for path in ROOT.glob("escort_*/**/*"):
        if path.is_file() and "__pycache__" not in path.parts:
            assert path.relative_to(ROOT).as_posix() in names
    for path in ROOT.glob("viewer/**/*"):
        if path.is_file():
            assert f"escort_cli/{path.relative_to(ROOT).as_posix()}" in names
    assert "escort_cli/viewer/prior-1.bin.gz" in names
    assert not any(name.endswith((".escx", ".md")) for name in names)


def test_no_module_called_cli_is_installed(scripts: Path, folder: Path) -> None:
    for name in ("cli", "torch", "matplotlib"):
        done = run(scripts / "python", "-c", f"import {name}", folder=folder)
        assert f"No module named '{name}'" in done.stderr


def test_the_codec_needs_no_extra(scripts: Path, folder: Path) -> None:
    outputs = []
    for arguments in (
        ("--help",),
        ("--version",),
        ("inspect", "out.escx"),
        ("decode", "out.escx", "--seeds", "0-1", "--edges", "--out", "images"),
        ("verify", "out.escx"),
        ("view", "out.escx", "--export", "page.html"),
    ):
        done = run(scripts / "escort", *arguments, folder=folder)
        assert done.returncode == 0, done.stderr
        outputs.append(done.stdout)
    assert "Usage: escort" in outputs[0]
    assert outputs[1] == f"escort {escort_codec.__version__}\n"
    assert (folder / "page.html").read_text("utf-8").startswith("<!DOCTYPE html>")
    assert len(list((folder / "images").rglob("*_seed0?.jpg"))) == 8


@pytest.mark.parametrize(
    ("arguments", "extra"),
    [
        (("train", "data"), "train"),
        (("evaluate", "run", "--data", "data"), "train"),
        (("demo",), "train"),
        (("report", "run"), "report"),
        (("decode", "out.escx", "--regenerator", "controlnet", "--out", "others"), "diffusion"),
    ],
)
def test_a_command_names_the_extra_that_it_needs(
    arguments: tuple[str, ...], extra: str, scripts: Path, folder: Path
) -> None:
    done = run(scripts / "escort", *arguments, folder=folder)
    assert done.returncode == 1
    last = done.stderr.strip().splitlines()[-1]
    assert last.startswith(f"escort {arguments[0]}: ")
    assert last.endswith(f"pip install 'escort[{extra}]'")
    assert "Traceback" not in done.stderr


def test_another_checkout_at_another_time_gives_the_same_bytes(wheel: Path, tmp_path: Path) -> None:
    """The sdist, unpacked elsewhere with other times, builds the wheel and the sdist that the checkout builds."""
    build = (sys.executable, "-m", "hatchling", "build")
    done = run(*build, "-t", "sdist", "-d", tmp_path / "first", folder=ROOT, alone=False)
    assert done.returncode == 0, done.stderr
    (sdist,) = (tmp_path / "first").iterdir()
    with tarfile.open(sdist) as archive:
        archive.extractall(tmp_path, filter="data")
    copy = tmp_path / f"escort-{escort_codec.__version__}"
    for path in copy.rglob("*"):
        os.utime(path, (1e9, 1e9))
    done = run(*build, "-d", tmp_path / "second", folder=copy)
    assert done.returncode == 0, done.stderr
    assert sorted(path.name for path in (tmp_path / "second").iterdir()) == sorted((wheel.name, sdist.name))
    assert (tmp_path / "second" / wheel.name).read_bytes() == wheel.read_bytes()
    assert (tmp_path / "second" / sdist.name).read_bytes() == sdist.read_bytes()
