"""Installs the wheel as users do, with pip and its requirements, in an empty environment of each Python that is there.

    python -m tests.try_wheel [FOLDER]

The versions are those of the classifiers in ``pyproject.toml``; a Python is looked for by name, in pyenv and by uv.
Warnings are errors in all that is run. Prints a line for each version; exit code 1 if one fails. FOLDER: where the
wheel is built and used, instead of a temporary folder.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
import tomllib
from collections.abc import Iterable
from pathlib import Path

from escort_cil.demo.drawings import draw_dataset

ROOT = Path(__file__).parents[1]
STRICT = ("-W", "error")
ALL_MODULES = """
import importlib, pkgutil, escort_cli, escort_codec
for package in (escort_codec, escort_cli):
    for module in pkgutil.walk_packages(package.__path__, package.__name__ + "."):
        if "__main__" not in module.name and ".controlnet." not in module.name:  # that one needs torch
            importlib.import_module(module.name)
import escort_cil
"""
COMMANDS = (
    "--help",
    "encode data/train prompts.escx",
    "encode data/train learned.escx --as latent:64",
    "encode data/train small.escx --as webp:64:20",
    "encode data/train rate.escx --bytes-per-exemplar 400",
    "inspect prompts.escx --classes",
    "inspect learned.escx --json",
    "verify prompts.escx",
    "verify learned.escx",
    "decode prompts.escx --seeds 0-1 --edges --out images",
    "decode learned.escx --seeds plain --out pictures",
    "split prompts.escx --by-class --out parts",
    "merge parts --out merged.escx",
    "extract merged.escx --class fish --out fish.escx",
    "view learned.escx --export page.html",
)


def run(*command: str | Path, folder: Path) -> str:
    """A program's standard output; raises CalledProcessError if it fails."""
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    parts = [str(part) for part in command]
    return subprocess.run(parts, cwd=folder, env=environment, capture_output=True, text=True, check=True).stdout


def versions() -> list[str]:
    """The versions of Python that the package names, such as ``3.12``."""
    classifiers = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]["classifiers"]
    return [found[1] for each in classifiers if (found := re.search(r"Python :: (\d+\.\d+)$", each))]


def candidates(version: str) -> Iterable[str | Path]:
    """Where a Python of this version may be."""
    yield sys.executable
    yield f"python{version}"
    pyenv = Path(os.environ.get("PYENV_ROOT") or Path.home() / ".pyenv")
    yield from sorted(pyenv.glob(f"versions/{version}.*/bin/python"))
    if shutil.which("uv"):
        done = subprocess.run(["uv", "python", "find", version], capture_output=True, text=True, check=False)
        yield done.stdout.strip()


def python_of(version: str) -> str | Path | None:
    """A Python of this version that runs, or None."""
    ask = "import sys; print('%d.%d' % sys.version_info[:2])"
    for path in candidates(version):
        try:
            if path and run(path, "-c", ask, folder=ROOT).strip() == version:
                return path
        except (OSError, subprocess.CalledProcessError):
            continue
    return None


def try_wheel(python: str | Path, wheel: Path, data: Path, folder: Path) -> None:
    """Installs the wheel in an environment in ``folder`` and runs the commands there."""
    folder.mkdir()
    run(python, "-m", "venv", "env", folder=folder)
    own = folder / "env" / ("Scripts" if sys.platform == "win32" else "bin") / "python"
    run(own, "-m", "pip", "install", "--quiet", wheel, folder=folder)
    shutil.copytree(data, folder / "data")
    run(own, *STRICT, "-c", ALL_MODULES, folder=folder)
    run(own.with_name("escort"), "--version", folder=folder)
    for command in COMMANDS:
        run(own, *STRICT, "-m", "escort_cli", *command.split(), folder=folder)


def main(folder: Path) -> int:
    """Builds the wheel and tries it; the number of versions that failed."""
    run(sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", folder, folder=ROOT)
    (wheel,) = folder.glob("*.whl")
    draw_dataset(folder / "data", classes=5, train=2, test=1)
    failed = 0
    for version in versions():
        python = python_of(version)
        begun = time.monotonic()
        if python is None:
            print(f"Python {version}: not found, so not tried")
            continue
        try:
            try_wheel(python, wheel, folder / "data", folder / version)
        except subprocess.CalledProcessError as exc:
            failed += 1
            print(f"Python {version}: {' '.join(exc.cmd)} failed\n{exc.stdout}{exc.stderr}")
        else:
            seconds = time.monotonic() - begun
            print(f"Python {version}: {len(COMMANDS)} commands run in {seconds:.0f} s ({python})", flush=True)
    return failed


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as temporary:
        place = Path(sys.argv[1] if len(sys.argv) > 1 else temporary).resolve()
        place.mkdir(parents=True, exist_ok=True)
        sys.exit(main(place) > 0)
